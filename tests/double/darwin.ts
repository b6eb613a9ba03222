/** What macOS itself tells, of the Mac that the double is: time, and the processor that the software CPU is. */
import { cpuidTable } from "../../src/cpu/x86/system/cpuid.ts";
import { viewOf } from "./host.ts";
import { at, put32 } from "./out.ts";
import type { Functions } from "./thread.ts";
import { machNs } from "./time.ts";

const ENOENT_RESULT = -1;

/** Integers as 4 or 8 bytes, strings with their end. */
function sysctls(): Map<string, Uint8Array> {
  const leaf = cpuidTable({ vcpu: 0, vcpus: 1, cr4: () => 0, apicEnabled: () => true });
  const [, b0, c0, d0] = leaf(0, 0), [signature, , c1, d1] = leaf(1, 0), [, b7, c7, d7] = leaf(7, 0);
  const [, , cX, dX] = leaf(0x8000_0001, 0), [address] = leaf(0x8000_0008, 0);
  const [xcr0] = leaf(13, 0), [xsave] = leaf(13, 1);
  const u32 = (value: number) => new Uint8Array(Uint32Array.of(value).buffer);
  const u64 = (value: bigint) => new Uint8Array(BigUint64Array.of(value).buffer);
  const two = (low: number, high: number) => new Uint8Array(Uint32Array.of(low, high).buffer);
  const text = (...words: number[]) => Uint8Array.from([...new Uint8Array(Uint32Array.of(...words).buffer), 0]);
  const brand = [0x8000_0002, 0x8000_0003, 0x8000_0004].flatMap((n) => [...leaf(n, 0)]);
  return new Map([
    ["kern.hv_support", u32(1)],
    ["machdep.cpu.vendor", text(b0!, d0!, c0!)],
    ["machdep.cpu.brand_string", text(...brand)],
    ["machdep.cpu.signature", u32(signature!)],
    ["machdep.cpu.feature_bits", two(d1!, c1!)],
    ["machdep.cpu.leaf7_feature_bits", two(b7!, c7!)],
    ["machdep.cpu.leaf7_feature_bits_edx", u32(d7!)],
    ["machdep.cpu.extfeature_bits", two(dX!, cX!)],
    ["machdep.cpu.xsave.extended_state", Uint8Array.from([...u32(xcr0!), ...new Uint8Array(12)])],
    ["machdep.cpu.xsave.extended_state1", Uint8Array.from([...u32(xsave!), ...new Uint8Array(12)])],
    ["machdep.cpu.address_bits.physical", u32(address! & 0xff)],
    ["machdep.tsc.frequency", u64(1_000_000_000n)],
    ["hw.busfrequency", u64(100_000_000n)],
    ["hw.l1dcachesize", u64(32768n)],
    ["hw.l1icachesize", u64(32768n)],
    ["hw.l2cachesize", u64(262144n)],
    ["hw.l3cachesize", u64(8388608n)],
  ]);
}

export function darwinFunctions(): Functions {
  const values = sysctls();
  return {
    mach_absolute_time: () => machNs(),
    mach_timebase_info: (out: bigint) => {
      put32(out, 1);
      put32(out + 4n, 1);
      return 0;
    },
    /** Only reads; a buffer that is too small is an error, as is a name that is not there. */
    sysctlbyname: (name: bigint, old: bigint, length: bigint, set: bigint) => {
      const value = name === 0n ? undefined : values.get(cString(name));
      if (!value || length === 0n || set !== 0n) return ENOENT_RESULT;
      const room = Number(at(length, 8).getBigUint64(0, true));
      at(length, 8).setBigUint64(0, BigInt(value.length), true);
      if (old === 0n) return 0;
      if (room < value.length) return ENOENT_RESULT;
      new Uint8Array(viewOf(old, value.length)).set(value);
      return 0;
    },
  };
}

function cString(address: bigint): string {
  return Deno.UnsafePointerView.getCString(Deno.UnsafePointer.create(address)!);
}
