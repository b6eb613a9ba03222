/** MSRs that a vCPU has by itself, and what the host's processor tells of its own. */
import type { S } from "../../src/cpu/x86/state.ts";

/** MSRs that may be made native, with the software CPU's field: SYSENTER_*, SYSCALL's, the segment bases, TSC, TSC_AUX. */
export const NATIVE: ReadonlyMap<number, readonly [field: keyof typeof S, index: number] | null> = new Map([
  [0x10, null],
  [0x174, ["sysenterCs", 0]],
  [0x175, ["sysenterEsp", 0]],
  [0x176, ["sysenterEip", 0]],
  [0xc000_0081, ["star", 0]],
  [0xc000_0082, ["lstar", 0]],
  [0xc000_0083, ["cstar", 0]],
  [0xc000_0084, ["fmask", 0]],
  [0xc000_0100, ["segBase", 4]],
  [0xc000_0101, ["segBase", 5]],
  [0xc000_0102, ["kernelGsBase", 0]],
  [0xc000_0103, ["tscAux", 0]],
]);

export const MSR_TSC = 0x10, MSR_EFER = 0xc000_0080, MSR_PAT = 0x277;

/** MSRs that may be managed: speculation control, performance counters, last branches. */
export function canManage(msr: number): boolean {
  const within = (first: number, count: number) => msr >= first && msr < first + count;
  return [0x48, 0x49, 0x10a, 0x10b, 0x1c8, 0x1c9, 0x329].includes(msr) || within(0xc1, 8) || within(0x4c1, 8) ||
    within(0x186, 8) || within(0x309, 4) || within(0x38d, 6) || within(0x680, 32) || within(0x6c0, 32) ||
    within(0x1dd, 2) || within(0xdc0, 32);
}
/** Of those, the ones that may be read but not written, and written but not read. */
const READ_ONLY = [0x10a, 0x38e, 0x392], WRITE_ONLY = [0x49, 0x10b, 0x390, 0x391];
/** PERFEVNTSELn, FIXED_CTR_CTRL, PERF_GLOBAL_CTRL: never writable by the guest itself. */
const CHECKED = (msr: number) => (msr >= 0x186 && msr < 0x18e) || msr === 0x38d || msr === 0x38f;

export const READ = 1, WRITE = 2;
export function mayAccess(msr: number, flags: number): boolean {
  if (flags & READ && WRITE_ONLY.includes(msr)) return false;
  return !(flags & WRITE) || !(READ_ONLY.includes(msr) || CHECKED(msr));
}

/** hv_vmx_get_msr_info, 0..8: bits that may be written, or what the MSR reads; undefined beyond. */
export function msrInfo(n: bigint): bigint | undefined {
  switch (n) {
    case 0n:
    case 1n:
      return 0n;
    case 2n:
      return 0xffff_ffffn & ~0x20_0000n;
    case 3n:
      return 0xbbbn;
    case 4n:
    case 5n:
      return 0x7_0000_000fn;
    case 6n:
      return 0n;
    case 7n:
      return 0x7n;
    case 8n:
      return 0n;
    default:
      return undefined;
  }
}
