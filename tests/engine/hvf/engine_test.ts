/** What the engine hvf owes beside the laws of all engines, on the double of the framework. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { HostError } from "../../../src/base/errors.ts";
import type { VcpuParts } from "../../../src/engine/engine.ts";
import { hvfEngine, type HvfVcpu } from "../../../src/engine/hvf/hvf.ts";
import { probeHvf } from "../../../src/engine/hvf/probe.ts";
import { Stepper } from "../../../src/engine/hvf/stepper.ts";
import { MIXED } from "../kvm/programs.ts";
import { ENDLESS, MMIO } from "../law_programs.ts";
import { CODE, code, DATA, Rig } from "../law_rig.ts";
import { doubledEngine, refusal } from "./double.ts";

function test(name: string, body: () => void | Promise<void>): void {
  Deno.test(`hvf: ${name}`, () => refusal === null ? body() : console.log(`skipped: ${refusal}`));
}

test("the host is asked before a machine is made, and has nothing to give back after it", () => {
  assertEquals(probeHvf(), null);
  assertEquals(probeHvf(), null);
  using rig = new Rig(doubledEngine);
  assert(/^hv_vm_create failed: HV_BUSY, /.test(probeHvf()!), "one virtual machine a process");
  assertThrows(() => new Rig(doubledEngine), HostError, "hv_vm_create failed: HV_BUSY");
  rig.long(ENDLESS);
  assertEquals(rig.run(1), "slice", "the one there was still runs");
});

test("instructions cannot be counted", () => {
  const parts = { icount: { setNs() {} } } as unknown as Parameters<typeof hvfEngine.openVcpu>[0];
  assertThrows(() => hvfEngine.openVcpu(parts), HostError, "cannot count instructions");
});

test("a page that only the software CPU wrote to is in the log of written pages", () => {
  using rig = new Rig(doubledEngine);
  const log = doubledEngine.dirtyLog!(rig), pages = new Uint8Array(512);
  const bit = (page: number) => (pages[page >> 3]! >> (page & 7)) & 1;
  rig.board.inputs.push(0x5a);
  rig.long(code(
    "bf00000400", // mov edi, 0x40000
    "baf0010000", // mov edx, 0x1f0
    "6c", // insb
    "f4", // hlt
  ));
  log.start();
  rig.toHalt();
  log.take(pages);
  log.stop();
  assertEquals([rig.ram.read(0x40000, 1), bit(0x40), bit(0x41), bit(DATA >> 12)], [0x5a, 1, 0, 0]);
});

test("instructions whose memory is the board's cost one exit each", () => {
  using rig = new Rig(doubledEngine);
  rig.long(MMIO);
  rig.toHalt();
  const { mmio, steps, direct, doubtful } = (rig.vcpu as HvfVcpu).stats();
  assert(
    mmio! >= 12 && mmio! <= 12 + doubtful! && steps! + direct! === mmio,
    JSON.stringify({ mmio, steps, direct, doubtful }),
  );
});

test("a single step over an instruction that exits traps behind it, with DR6.BS", () => {
  using rig = new Rig(doubledEngine);
  const trap = code(
    "0f21f0", // mov rax, dr6
    "4889042508000200", // mov [0x20008], rax
    "488b0424", // mov rax, [rsp]
    "4889042500000200", // mov [0x20000], rax
    "f4", // hlt
  );
  rig.long(
    code(
      "9c", // pushfq
      "810c2400010000", // or dword [rsp], 0x100
      "9d", // popfq
      "0fa2", // cpuid
      "90", // nop
      "f4", // hlt
    ),
    { 1: trap },
  );
  rig.toHalt();
  const [rip, status] = rig.data(2);
  assertEquals([Number(rip), Number(status! & 0x4000n)], [CODE + 11, 0x4000]);
});

test("a jump to another task, which the software CPU makes, switches the registers and the busy flags", () => {
  let parts: VcpuParts | null = null;
  using rig = new Rig({ ...doubledEngine, openVcpu: (given) => doubledEngine.openVcpu(parts = given) });
  const { ram } = rig, gdt = 0x8000, old = 0xa000, fresh = 0xa100, there = 0x12000;
  // Null; the first task, busy; code and data of 32 bits; the second task, available.
  ram.copyIn(
    gdt,
    code("0000000000000000", "670000a0008b0000", "ffff0000009bcf00", "ffff00000093cf00", "670000a100890000"),
  );
  // The task's EIP, EFLAGS, EAX, ESP; its segments: [sdm3 figure 8-2].
  for (const [at, value] of [[0x20, there], [0x24, 2], [0x28, 0x42], [0x38, 0x30000], [0x4c, 0x10]] as const) {
    ram.write(fresh + at, 4, value);
  }
  for (const at of [0x48, 0x50, 0x54, 0x58, 0x5c]) ram.write(fresh + at, 4, 0x18);
  ram.copyIn(CODE, code("ea000000002000")); // jmp 0x20:0
  ram.copyIn(there, code("e610", "f4")); // out 0x10, al; hlt
  const data = { selector: 0x18, base: 0, limit: 0xffff_ffff, rights: 0xc093 };
  rig.vcpu.setState({
    rip: CODE,
    rflags: 2,
    cr0: 0x11,
    cr3: 0,
    cr4: 0,
    efer: 0,
    gpr: { rsp: 0x30000 },
    segments: {
      cs: { ...data, selector: 0x10, rights: 0xc09b },
      ...{ ds: data, es: data, ss: data, fs: data, gs: data },
      tr: { selector: 8, base: old, limit: 0x67, rights: 0x8b },
    },
    gdtr: { base: gdt, limit: 39 },
    idtr: { base: 0, limit: 0 },
  });
  // What the engine does when the processor exits for it, which the double does not.
  const { handle, registers, vm } = (rig.vcpu as HvfVcpu).guest;
  assertEquals(new Stepper(handle, registers, vm.pages, parts!).step(true), "done");
  rig.toHalt();
  assertEquals(rig.board.log, ["out 10.1 42"]);
  assertEquals(ram.read(old + 0x20, 4), CODE + 7, "where the first task goes on");
  assertEquals([ram.read(gdt + 13, 1), ram.read(gdt + 37, 1)], [0x89, 0x8b]);
});

/** Everything MIXED leaves in memory when the first `steps` instructions are the software CPU's. */
function mixed(steps: number): string[] {
  let parts: VcpuParts | null = null;
  using rig = new Rig({ ...doubledEngine, openVcpu: (given) => doubledEngine.openVcpu(parts = given) });
  rig.long(MIXED);
  rig.ram.write(DATA + 0x300, 4, 0xffff_fff6); // FILD
  rig.ram.copyIn(DATA + 0x310, code("2700", "0080000000000000")); // LGDT
  rig.ram.write(DATA + 0x320, 4, 0x1fa0); // LDMXCSR
  rig.ram.write(DATA + 0x328, 2, 0x0c7f); // FLDCW
  rig.ram.write64(0x5008, 0x1234); // behind the base of GS
  const { handle, registers, vm } = (rig.vcpu as HvfVcpu).guest;
  const stepper = new Stepper(handle, registers, vm.pages, parts!);
  for (let i = 0; i < steps; i++) assertEquals(stepper.step(true), "done");
  rig.toHalt();
  const area = DATA + 0x1000, hex = (gpa: number, size: number) => rig.ram.bytes(gpa, size)!.slice().toHex();
  // Without the pointers of the last x87 instruction, that processors keep or not.
  return [hex(DATA, 0x70), hex(area, 5), hex(area + 24, 4), hex(area + 32, 8 * 16 + 16 * 16)];
}

test("registers of every kind move between the framework and the software CPU, whoever executes which", () => {
  const expected = mixed(0);
  for (const steps of [1, 12, 25, 38, 51, 60]) assertEquals(mixed(steps), expected, `after ${steps} steps`);
});
