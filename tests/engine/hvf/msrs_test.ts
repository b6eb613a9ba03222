/** MSRs under Hypervisor.framework: who answers, and what is refused: [sdm4 table 2-2]. The framework is a table here. */
import { assertEquals, assertThrows } from "@std/assert";
import { HostError } from "../../../src/base/errors.ts";
import { VcpuHandle } from "../../../src/engine/hvf/handle.ts";
import type { Hypervisor } from "../../../src/engine/hvf/library.ts";
import { agreeOnMsrs, HvfMsrs, isCanonical, type MsrPolicy } from "../../../src/engine/hvf/msrs.ts";
import type { GuestTsc } from "../../../src/engine/hvf/time.ts";
import { LogBoard } from "../law_rig.ts";

const GP = undefined;
const SUCCESS = 0, BAD_ARGUMENT = 0xfae9_4003;

/** Registers by number, those that may be native given. */
function rig(policy: Partial<MsrPolicy> = {}, khz = 2_000_000) {
  const msrs = new Map<number, bigint>(), fields = new Map<number, bigint>();
  const put = (from: Map<number, bigint>) => (_id: number, at: number, out: Uint8Array) => {
    new DataView(out.buffer).setBigUint64(0, from.get(at) ?? 0n, true);
    return SUCCESS;
  };
  const take = (to: Map<number, bigint>) => (_id: number, at: number, value: bigint) => {
    to.set(at, value);
    return SUCCESS;
  };
  const hv = {
    hv_vcpu_read_msr: put(msrs),
    hv_vcpu_write_msr: take(msrs),
    hv_vmx_vcpu_read_vmcs: put(fields),
    hv_vmx_vcpu_write_vmcs: take(fields),
  } as unknown as Hypervisor;
  const board = new LogBoard(), tsc = { ticks: 10_000n, khz } as GuestTsc;
  let efer = 0;
  const file = new HvfMsrs({
    handle: new VcpuHandle(hv, 0),
    parts: { board, clock: { nowNs: () => 1000 }, index: 0 },
    policy: { tscAux: true, speculation: false, archCapabilities: null, ...policy },
    tsc,
    efer: { read: () => efer, write: (lo, hi) => hi === 0 && (efer = lo, true) },
  });
  const read = (msr: number) => file.read(msr) ? (BigInt(file.hi) << 32n) | BigInt(file.lo) : GP;
  const write = (msr: number, value: bigint) =>
    file.write(msr, Number(value & 0xffff_ffffn), Number(value >> 32n) >>> 0);
  return { msrs, fields, board, tsc, read, write };
}

Deno.test("canonical: bits 63 to 47 are equal", () => {
  const words = [0, 0x7fff, 0x8000, 0xffff, 0xffff_7fff, 0xffff_8000, 0xffff_ffff, 0x7fff_ffff];
  assertEquals(words.map((hi) => isCanonical(hi | 0)), [true, true, false, false, false, true, true, false]);
});

Deno.test("system calls' MSRs are the processor's, segment bases the VMCS's; a base that is not canonical faults", () => {
  const { msrs, fields, read, write } = rig();
  assertEquals(write(0xc000_0082, 0xffff_ffff_8100_0000n), true);
  assertEquals([msrs.get(0xc000_0082), read(0xc000_0082)], [0xffff_ffff_8100_0000n, 0xffff_ffff_8100_0000n]);
  assertEquals(write(0xc000_0101, 0xffff_8000_0000_0000n), true);
  assertEquals(fields.get(0x6810), 0xffff_8000_0000_0000n, "GS base, natural-width field 6810h");
  for (const msr of [0xc000_0082, 0xc000_0083, 0xc000_0100, 0xc000_0101, 0xc000_0102, 0x175, 0x176]) {
    assertEquals(write(msr, 0x8000_0000_0000n), false, msr.toString(16));
  }
  assertEquals(write(0xc000_0084, 1n << 32n), false, "FMASK has 32 bits");
});

Deno.test("the PAT takes the memory types there are", () => {
  const { read, write } = rig();
  assertEquals(read(0x277), 0x0007_0406_0007_0406n);
  assertEquals(write(0x277, 0x0007_0406_0105_0406n), true);
  assertEquals(read(0x277), 0x0007_0406_0105_0406n);
  for (const type of [2n, 3n, 8n, 0xffn]) assertEquals(write(0x277, type << 40n), false, `type ${type}`);
});

Deno.test("what CPUID does not announce faults: speculation's MSRs, IA32_ARCH_CAPABILITIES, TSC_AUX, TSC_ADJUST", () => {
  const bare = rig({ tscAux: false });
  for (const msr of [0x48, 0x49, 0x10a, 0xc000_0103, 0x3b, 0x1234]) {
    assertEquals([bare.read(msr), bare.write(msr, 0n)], [GP, false], msr.toString(16));
  }
  const rich = rig({ speculation: true, archCapabilities: 0x2fn });
  assertEquals(rich.write(0x48, 1n), true);
  assertEquals([rich.msrs.get(0x48), rich.read(0x10a), rich.write(0x10a, 0n)], [1n, 0x2fn, false]);
});

Deno.test("a deadline of the time-stamp counter is guest time to the board, and back", () => {
  const { board, read, write } = rig();
  // 4000 ticks ahead at 2 GHz are 2000 ns behind the 1000 ns that have passed.
  assertEquals(write(0x6e0, 14_000n), true);
  assertEquals(board.log, ["wrmsr 6e0 0:bb8"]);
  board.msrs.set(0x6e0, 3000);
  assertEquals(read(0x6e0), 14_000n);
  board.msrs.set(0x6e0, 0);
  assertEquals(read(0x6e0), 0n);
  write(0x6e0, 0n);
  write(0x6e0, 5n);
  assertEquals(board.log.slice(1), ["wrmsr 6e0 0:0", "wrmsr 6e0 0:1"], "0 disarms, what has passed is due at once");
});

Deno.test("the local APIC's are the board's, MTRRs are kept", () => {
  const { board, read, write } = rig();
  board.msrs.set(0x1b, 0xfee0_0900);
  assertEquals(read(0x1b), 0xfee0_0900n);
  write(0x80b, 0n);
  assertEquals(board.log, ["wrmsr 80b 0:0"]);
  assertEquals([read(0x2ff), write(0x2ff, 0x806n), write(0x2ff, 0x802n)], [0x806n, true, false]);
});

Deno.test("a framework that refuses a system call's MSR has no guests; one that refuses others has guests without", () => {
  const asked: number[] = [];
  const handle = (refused: readonly number[]) =>
    new VcpuHandle(
      {
        hv_vcpu_enable_native_msr: (_id: number, msr: number) => {
          asked.push(msr);
          return refused.includes(msr) ? BAD_ARGUMENT : SUCCESS;
        },
        hv_vmx_get_msr_info: () => BAD_ARGUMENT,
      } as unknown as Hypervisor,
      0,
    );
  const all = (1 << 26) | (1 << 27) | (1 << 29) | (1 << 31);
  assertEquals(agreeOnMsrs(handle([]), all, true), { tscAux: true, speculation: true, archCapabilities: null });
  assertEquals(agreeOnMsrs(handle([0x49]), all, false), { tscAux: false, speculation: false, archCapabilities: null });
  asked.length = 0;
  agreeOnMsrs(handle([]), 0, false);
  assertEquals(
    asked.some((msr) => msr === 0x48 || msr === 0xc000_0103),
    false,
    "what the host has not is not asked for",
  );
  assertThrows(() => agreeOnMsrs(handle([0xc000_0082]), 0, true), HostError, "0xc0000082");
});
