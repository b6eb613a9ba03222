/**
 * The VMCS as Hypervisor.framework lets a program see it: which fields there are, what may be written, and what the capability
 * functions say of the controls: [sdm3 §25, appendix A, appendix B].
 */

export const F = {
  TSC_OFFSET: 0x2010,
  GPA: 0x2400,
  DEBUGCTL: 0x2802,
  PAT: 0x2804,
  EFER: 0x2806,
  PDPTE0: 0x280a,
  PIN: 0x4000,
  CPU: 0x4002,
  EXC_BITMAP: 0x4004,
  PF_MASK: 0x4006,
  PF_MATCH: 0x4008,
  CR3_COUNT: 0x400a,
  EXIT: 0x400c,
  ENTRY: 0x4012,
  ENTRY_IRQ_INFO: 0x4016,
  ENTRY_EXC_ERROR: 0x4018,
  ENTRY_INSTR_LEN: 0x401a,
  TPR_THRESHOLD: 0x401c,
  CPU2: 0x401e,
  PLE_GAP: 0x4020,
  PLE_WINDOW: 0x4022,
  INSTR_ERROR: 0x4400,
  EXIT_REASON: 0x4402,
  EXIT_IRQ_INFO: 0x4404,
  EXIT_IRQ_ERROR: 0x4406,
  IDT_VECTOR_INFO: 0x4408,
  IDT_VECTOR_ERROR: 0x440a,
  EXIT_INSTR_LEN: 0x440c,
  INSTR_INFO: 0x440e,
  GDTR_LIMIT: 0x4810,
  IDTR_LIMIT: 0x4812,
  INTERRUPTIBILITY: 0x4824,
  ACTIVITY: 0x4826,
  SMBASE: 0x4828,
  SYSENTER_CS: 0x482a,
  VMX_TIMER: 0x482e,
  CR0_MASK: 0x6000,
  CR4_MASK: 0x6002,
  CR0_SHADOW: 0x6004,
  CR4_SHADOW: 0x6006,
  CR3_TARGET0: 0x6008,
  QUALIFICATION: 0x6400,
  IO_RCX: 0x6402,
  IO_RSI: 0x6404,
  IO_RDI: 0x6406,
  IO_RIP: 0x6408,
  GUEST_LINEAR: 0x640a,
  CR0: 0x6800,
  CR3: 0x6802,
  CR4: 0x6804,
  GDTR_BASE: 0x6816,
  IDTR_BASE: 0x6818,
  DR7: 0x681a,
  RSP: 0x681c,
  RIP: 0x681e,
  RFLAGS: 0x6820,
  PENDING_DEBUG: 0x6822,
  SYSENTER_ESP: 0x6824,
  SYSENTER_EIP: 0x6826,
} as const;

/** The first of eight: ES, CS, SS, DS, FS, GS, LDTR, TR, two apart. */
export const SEGMENT = { SELECTOR: 0x800, LIMIT: 0x4800, AR: 0x4814, BASE: 0x6806 } as const;
const SEGMENTS = 8;
export const ES = 0, CS = 1, SS = 2, DS = 3, FS = 4, GS = 5, LDTR = 6, TR = 7;

export const PIN = { INTR: 1, NMI: 8, VIRTUAL_NMI: 0x20, TIMER: 0x40 } as const;
export const CPU = {
  IRQ_WINDOW: 1 << 2,
  TSC_OFFSET: 1 << 3,
  HLT: 1 << 7,
  INVLPG: 1 << 9,
  MWAIT: 1 << 10,
  RDPMC: 1 << 11,
  RDTSC: 1 << 12,
  CR3_LOAD: 1 << 15,
  CR3_STORE: 1 << 16,
  CR8_LOAD: 1 << 19,
  CR8_STORE: 1 << 20,
  TPR_SHADOW: 1 << 21,
  NMI_WINDOW: 1 << 22,
  MOV_DR: 1 << 23,
  UNCOND_IO: 1 << 24,
  MTF: 1 << 27,
  MSR_BITMAPS: 1 << 28,
  MONITOR: 1 << 29,
  SECONDARY: 1 << 31,
} as const;
export const CPU2 = {
  APIC_ACCESS: 1 << 0,
  EPT: 1 << 1,
  RDTSCP: 1 << 3,
  VPID: 1 << 5,
  WBINVD: 1 << 6,
  UNRESTRICTED: 1 << 7,
  RDRAND: 1 << 11,
  INVPCID: 1 << 12,
  RDSEED: 1 << 16,
} as const;
export const EXIT = { SAVE_DEBUG: 1 << 2, HOST_64: 1 << 9, SAVE_PAT: 1 << 18, SAVE_EFER: 1 << 20 } as const;
export const ENTRY = { LOAD_DEBUG: 1 << 2, GUEST_64: 1 << 9, LOAD_PAT: 1 << 14, LOAD_EFER: 1 << 15 } as const;

const all = (bits: Readonly<Record<string, number>>) => Object.values(bits).reduce((sum, bit) => sum | bit, 0) >>> 0;

/** What must be 1, and what may be. The reserved bits that must be 1 are those of the TRUE registers: [sdm3 §A.2]. */
export const CONTROLS: Readonly<Record<number, { readonly must: number; readonly may: number }>> = {
  [F.PIN]: control(0x16 | PIN.INTR | PIN.NMI, all(PIN)),
  [F.CPU]: control(0x0400_6172 | CPU.SECONDARY, all(CPU)),
  [F.CPU2]: control(CPU2.EPT | CPU2.UNRESTRICTED, all(CPU2)),
  [F.EXIT]: control(0x3_6dfb | EXIT.HOST_64, all(EXIT) | 0x28_1000),
  [F.ENTRY]: control(0x11fb, all(ENTRY)),
};
function control(must: number, may: number) {
  return { must: must >>> 0, may: (must | may) >>> 0 };
}

/** Bits that CR0 and CR4 must and may have in VMX operation; an unrestricted guest needs neither PE nor PG. */
export const CR0_FIXED0 = 0x8000_0021n, CR0_FIXED1 = 0xffff_ffffn;
export const CR4_FIXED0 = 0x2000n, CR4_FIXED1 = 0x37_2fffn;

/** hv_vmx_capability_t: as the IA32_VMX_* MSRs have it. */
export function capability(n: number): bigint | undefined {
  const pair = (field: number) => BigInt(CONTROLS[field]!.must) | (BigInt(CONTROLS[field]!.may) << 32n);
  switch (n) {
    case 0:
    case 6:
      return pair(F.PIN);
    case 1:
    case 7:
      return pair(F.CPU);
    case 2:
      // Nothing is reserved as 1 here, and what the framework insists on is told the same way.
      return pair(F.CPU2);
    case 3:
    case 8:
      return pair(F.ENTRY);
    case 4:
    case 9:
      return pair(F.EXIT);
    case 5:
      // Revision 4, 4 KiB regions, write-back, INS/OUTS information, TRUE registers.
      return 0x00da_0400_0000_0004n;
    case 10:
      // Timer rate 2^5, EFER.LMA stored, activity states HLT, shutdown and wait-for-SIPI, four CR3 targets.
      return 0x0000_0000_0004_01e5n;
    case 11:
      return CR0_FIXED0;
    case 12:
      return CR0_FIXED1;
    case 13:
      return CR4_FIXED0;
    case 14:
      return CR4_FIXED1;
    case 15:
      return 0x2en;
    case 16:
      // Execute-only, 4 levels, UC and WB, 2 MiB and 1 GiB pages, INVEPT and INVVPID of all types.
      return 0x0000_0f01_0631_4141n;
    case 32:
      return 1_000_000_000n >> 5n;
    default:
      return undefined;
  }
}

export interface Field {
  readonly bits: 16 | 32 | 64;
  readonly access: "rw" | "ro" | "none";
}

/** Control fields that hold addresses or belong to features that are not offered: the framework keeps them to itself. */
const WRITABLE_CONTROLS = new Set<number>([
  F.TSC_OFFSET,
  F.PIN,
  F.CPU,
  F.EXC_BITMAP,
  F.PF_MASK,
  F.PF_MATCH,
  F.CR3_COUNT,
  F.EXIT,
  F.ENTRY,
  F.ENTRY_IRQ_INFO,
  F.ENTRY_EXC_ERROR,
  F.ENTRY_INSTR_LEN,
  F.TPR_THRESHOLD,
  F.CPU2,
  F.PLE_GAP,
  F.PLE_WINDOW,
  F.CR0_MASK,
  F.CR4_MASK,
  F.CR0_SHADOW,
  F.CR4_SHADOW,
  F.CR3_TARGET0,
  F.CR3_TARGET0 + 2,
  F.CR3_TARGET0 + 4,
  F.CR3_TARGET0 + 6,
]);
const READ_ONLY = new Set<number>([
  F.GPA,
  F.INSTR_ERROR,
  F.EXIT_REASON,
  F.EXIT_IRQ_INFO,
  F.EXIT_IRQ_ERROR,
  F.IDT_VECTOR_INFO,
  F.IDT_VECTOR_ERROR,
  F.EXIT_INSTR_LEN,
  F.INSTR_INFO,
  F.QUALIFICATION,
  F.IO_RCX,
  F.IO_RSI,
  F.IO_RDI,
  F.IO_RIP,
  F.GUEST_LINEAR,
]);
const GUEST = new Set<number>([
  F.DEBUGCTL,
  F.PAT,
  F.EFER,
  ...[0, 2, 4, 6].map((n) => F.PDPTE0 + n),
  F.GDTR_LIMIT,
  F.IDTR_LIMIT,
  F.INTERRUPTIBILITY,
  F.ACTIVITY,
  F.SMBASE,
  F.SYSENTER_CS,
  F.VMX_TIMER,
  F.CR0,
  F.CR3,
  F.CR4,
  F.GDTR_BASE,
  F.IDTR_BASE,
  F.DR7,
  F.RSP,
  F.RIP,
  F.RFLAGS,
  F.PENDING_DEBUG,
  F.SYSENTER_ESP,
  F.SYSENTER_EIP,
  ...Object.values(SEGMENT).flatMap((first) => Array.from({ length: SEGMENTS }, (_, n) => first + 2 * n)),
]);
/** Fields of the framework itself: pointers, MSR lists, VPID. They exist, and are nobody else's. */
const KEPT = new Set<number>([
  ...[0x0, 0x2, 0x4, 0x810, 0x812],
  ...[0x2000, 0x2002, 0x2004, 0x2006, 0x2008, 0x200a, 0x200c, 0x200e, 0x2012, 0x2014, 0x2016, 0x2018, 0x201a],
  ...[0x201c, 0x201e, 0x2020, 0x2022, 0x2024, 0x2026, 0x2028, 0x202a, 0x202c, 0x202e, 0x2030, 0x2032, 0x2036],
  ...[0x2800, 0x2808, 0x2812, 0x2814, 0x2818, 0x400e, 0x4010, 0x4014, 0x6828, 0x682a, 0x682c],
]);

/** The field `id`, or undefined if there is none. The width is in its bits 13 and 14. */
export function fieldOf(id: number): Field | undefined {
  const bits = ([16, 64, 32, 64] as const)[(id >>> 13) & 3]!;
  if (WRITABLE_CONTROLS.has(id) || GUEST.has(id)) return { bits, access: "rw" };
  if (READ_ONLY.has(id)) return { bits, access: "ro" };
  if (KEPT.has(id)) return { bits, access: "none" };
  return undefined;
}

/** What hv_vmx_vcpu_get_cap_write_vmcs tells: bits that must be 1, bits that may. */
export function writeMasks(id: number): [bigint, bigint] {
  const limits = CONTROLS[id];
  if (limits) return [BigInt(limits.must), BigInt(limits.may)];
  if (id === F.DEBUGCTL) return [0n, 0n];
  return [0n, (1n << BigInt(fieldOf(id)!.bits)) - 1n];
}
