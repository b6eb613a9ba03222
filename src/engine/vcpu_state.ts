/**
 * The architectural state of a vCPU as data, in no engine's own terms: what `Vcpu.save` fills in and `Vcpu.restore` doubts.
 *
 * 64-bit registers are pairs of words, low half first: `u64` and `setU64` go through them. State that the board keeps is in
 * its own records: the local APIC's registers, IA32_APIC_BASE and IA32_TSC_DEADLINE among them.
 * Absent: performance monitoring, machine-check banks, AMX and whatever lies beyond the first 4 KiB of the XSAVE area.
 */
import { RestoreError } from "../base/errors.ts";
import { type FieldsOf, record, type View } from "../base/record.ts";

/** `count` 64-bit registers. */
const qwords = <N extends number>(count: N) => ({ array: "u32", length: 2 * count }) as const;

/** Segment registers by number, as instructions have them; LDTR and TR follow. */
export const SEGMENT_NAMES = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"] as const;

/** The first 4 KiB of the standard format of XSAVE: the legacy region, the header, and components up to PKRU: [sdm1 §13.4]. */
export const XSAVE = {
  BYTES: 4096,
  MXCSR: 24,
  LEGACY_BYTES: 512,
  XSTATE_BV: 512,
  XCOMP_BV: 520,
  HEADER_REST: 528,
  HEADER_END: 576,
  /** Bits 128..255 of the vector registers: component 2. */
  YMM: 576,
  YMM_END: 832,
} as const;

/** What a vCPU does between two runs. */
export const Activity = { RUNNING: 0, HALTED: 1, WAIT_FOR_SIPI: 2 } as const;
/** What holds interrupts off until the next instruction has run: [sdm3 §6.8.3], [sdm2 STI]. */
export const Shadow = { NONE: 0, STI: 1, MOV_SS: 2 } as const;
/** An event that was being delivered, in the numbers of VM entries: [sdm3 table 25-17]. */
export const EventType = {
  INTERRUPT: 0,
  NMI: 2,
  EXCEPTION: 3,
  SOFTWARE_INTERRUPT: 4,
  PRIVILEGED_SOFTWARE_EXCEPTION: 5,
  SOFTWARE_EXCEPTION: 6,
} as const;

const flag = { type: "u8", max: 1 } as const;

export const VcpuRecord = record("vcpu-x86", 2, {
  /** In ModRM's order: GPR_NAMES. */
  gpr: qwords(16),
  rip: qwords(1),
  rflags: { type: "u32", reset: 2 },
  /** SEGMENT_NAMES. Rights as in SegmentState, and bit 16: unusable. Limits in bytes. */
  segSelector: { array: "u16", length: 8 },
  segRights: { array: "u32", length: 8 },
  segLimit: { array: "u32", length: 8 },
  segBase: qwords(8),
  /** The current privilege level. */
  cpl: { type: "u8", max: 3 },
  gdtrBase: qwords(1),
  idtrBase: qwords(1),
  gdtrLimit: "u16",
  idtrLimit: "u16",
  cr0: qwords(1),
  cr2: qwords(1),
  cr3: qwords(1),
  cr4: qwords(1),
  /** The board's TPR is the register itself; here for engines that keep a copy. */
  cr8: { type: "u8", max: 15 },
  efer: qwords(1),
  xcr0: qwords(1),
  /** By number: 4 and 5 are 0. */
  dr: qwords(8),
  /** What PAE paging has loaded, if it is on: an engine may read them from memory instead. */
  pdpte: qwords(4),
  /** Of the XSAVE area: pointers of the x87 unit 64 bits wide, so their selectors stand beside it. */
  xsave: { array: "u8", length: XSAVE.BYTES },
  fcs: "u16",
  fds: "u16",

  // MSRs, under the names of the manual without IA32_: [sdm4 table 2-2].
  star: qwords(1),
  lstar: qwords(1),
  cstar: qwords(1),
  fmask: qwords(1),
  kernelGsBase: qwords(1),
  sysenterCs: qwords(1),
  sysenterEsp: qwords(1),
  sysenterEip: qwords(1),
  pat: qwords(1),
  tscAux: qwords(1),
  /** The counter at the guest time that the snapshot names. */
  tsc: qwords(1),
  tscAdjust: qwords(1),
  miscEnable: qwords(1),
  specCtrl: qwords(1),
  mcgStatus: qwords(1),
  xss: qwords(1),
  mtrrDefType: qwords(1),
  /** MSR 4b564d01h, where the guest has KVM's clock put: 0 if it uses none. Engines without that clock refuse another. */
  kvmSystemTime: qwords(1),
  /** PHYSBASE0, PHYSMASK0, PHYSBASE1, … */
  mtrrPhys: qwords(16),
  /** FIX64K_00000, FIX16K_80000, FIX16K_A0000, FIX4K_C0000 to FIX4K_F8000. */
  mtrrFix: qwords(11),

  /** Activity. */
  activity: { type: "u8", max: 2 },
  /** Shadow. */
  shadow: { type: "u8", max: 2 },
  /** From an NMI to the next IRET. */
  nmiBlocked: flag,
  /** Events that wait in the vCPU's event word; interrupts are asked for again by the local APIC. */
  nmiPending: flag,
  initPending: flag,
  sipiPending: flag,
  sipiVector: "u8",
  /** An event whose delivery was under way: to be delivered before the next instruction. */
  eventValid: flag,
  /** EventType. */
  eventType: { type: "u8", max: 6 },
  eventVector: "u8",
  eventHasError: flag,
  eventError: "u32",
  /** Bytes of the instruction that is at RIP, where software raised the event. */
  eventLength: { type: "u8", max: 15 },

  /** Retired since power-on, where the engine counts: equal runs go on being equal. */
  instructions: { type: "f64", max: Number.MAX_SAFE_INTEGER },
});

export type VcpuState = View<typeof VcpuRecord>;
type VcpuFields = FieldsOf<typeof VcpuRecord>;
/** Fields that hold 64-bit registers. */
export type QwordField = {
  [K in keyof VcpuFields]: VcpuFields[K] extends { array: "u32" } ? K : never;
}[keyof VcpuFields];

/** MSRs that are kept as they are, with their places: for engines that read and write them one by one. */
export const VCPU_MSRS: readonly { readonly msr: number; readonly field: QwordField; readonly index: number }[] = [
  ...([
    [0xc000_0081, "star"],
    [0xc000_0082, "lstar"],
    [0xc000_0083, "cstar"],
    [0xc000_0084, "fmask"],
    [0xc000_0102, "kernelGsBase"],
    [0xc000_0103, "tscAux"],
    [0x174, "sysenterCs"],
    [0x175, "sysenterEsp"],
    [0x176, "sysenterEip"],
    [0x277, "pat"],
    [0x1a0, "miscEnable"],
    [0x48, "specCtrl"],
    [0x17a, "mcgStatus"],
    [0xda0, "xss"],
    [0x2ff, "mtrrDefType"],
  ] as const).map(([msr, field]) => ({ msr, field, index: 0 })),
  ...Array.from({ length: 16 }, (_, index) => ({ msr: 0x200 + index, field: "mtrrPhys", index }) as const),
  ...[0x250, 0x258, 0x259, ...Array.from({ length: 8 }, (_, i) => 0x268 + i)]
    .map((msr, index) => ({ msr, field: "mtrrFix", index }) as const),
];

/** A 64-bit register of a record. */
export function u64(words: Uint32Array, index = 0): bigint {
  return BigInt(words[2 * index]!) | BigInt(words[2 * index + 1]!) << 32n;
}
export function setU64(words: Uint32Array, value: bigint | number, index = 0): void {
  const v = BigInt.asUintN(64, BigInt(value));
  words[2 * index] = Number(v & 0xffff_ffffn);
  words[2 * index + 1] = Number(v >> 32n);
}

/** Bits of a register that must be 0 in any x86-64 processor that trike shows. */
const RFLAGS_RESERVED = 0xffc0_8028;
const CR0_RESERVED = ~0xe005_003fn;
const EFER_DEFINED = 0xfd01n;
/** LA57 is not among them: linear addresses have 48 bits. */
const CR4_RESERVED = ~0x01ff_6fffn;
const RIGHTS_DEFINED = 0x1_f0ff;
const PHYSICAL_LIMIT = 1n << 52n;
const CR0 = { PE: 1n << 0n, NW: 1n << 29n, CD: 1n << 30n, PG: 1n << 31n } as const;
const CR4_PAE = 1n << 5n, CR4_PCIDE = 1n << 17n;
const EFER = { LME: 1n << 8n, LMA: 1n << 10n } as const;
const X87 = 1n, SSE = 2n, AVX = 4n;

/**
 * Doubts a state that comes from outside, as far as the architecture goes. Throws RestoreError that names the register; an
 * engine then refuses what it does not have itself. A state that passes is one that software could have brought about, or that
 * a processor would fault on.
 */
export function checkVcpuState(s: VcpuState): void {
  VcpuRecord.validate(s);
  const no = (what: string, found: bigint | number, expected: string): never => {
    throw new RestoreError(`Cannot restore vCPU.${what}: found ${found.toString(16)}h, expected ${expected}`);
  };
  const zero = (what: string, value: bigint, mask: bigint) => {
    if ((value & BigInt.asUintN(64, mask)) !== 0n) no(what, value, "no reserved bit set");
  };
  if ((s.rflags & RFLAGS_RESERVED) !== 0 || (s.rflags & 2) === 0) {
    no("rflags", s.rflags, "bit 1 set and no reserved bit");
  }
  const cr0 = u64(s.cr0), cr3 = u64(s.cr3), cr4 = u64(s.cr4), efer = u64(s.efer), xcr0 = u64(s.xcr0);
  zero("cr0", cr0, CR0_RESERVED);
  zero("cr4", cr4, CR4_RESERVED);
  zero("efer", efer, ~EFER_DEFINED);
  if ((cr0 & (CR0.PG | CR0.PE)) === CR0.PG) no("cr0", cr0, "PE with PG");
  if ((cr0 & (CR0.NW | CR0.CD)) === CR0.NW) no("cr0", cr0, "CD with NW");
  if (cr3 >= PHYSICAL_LIMIT) no("cr3", cr3, "a physical address");
  const long = (efer & EFER.LMA) !== 0n;
  if (long !== ((efer & EFER.LME) !== 0n && (cr0 & CR0.PG) !== 0n)) no("efer", efer, "LMA as LME and CR0.PG make it");
  if (long && (cr4 & CR4_PAE) === 0n) no("cr4", cr4, "PAE in IA-32e mode");
  if (!long && (cr4 & CR4_PCIDE) !== 0n) no("cr4", cr4, "PCIDE in IA-32e mode only");
  if ((xcr0 & X87) === 0n || ((xcr0 & AVX) !== 0n && (xcr0 & SSE) === 0n)) no("xcr0", xcr0, "x87, and SSE with AVX");
  for (const n of [6, 7]) if (u64(s.dr, n) >> 32n) no(`dr${n}`, u64(s.dr, n), "32 bits");
  for (const [n, name] of SEGMENT_NAMES.entries()) {
    if (s.segRights[n]! & ~RIGHTS_DEFINED) no(`${name}.rights`, s.segRights[n]!, "no reserved bit set");
    if (!isCanonical(u64(s.segBase, n))) no(`${name}.base`, u64(s.segBase, n), "a canonical address");
  }
  // RIP may have run past the last canonical address: the next fetch faults.
  const canonical = ["gdtrBase", "idtrBase", "lstar", "cstar", "kernelGsBase", "sysenterEsp", "sysenterEip"];
  for (const name of canonical as QwordField[]) {
    if (!isCanonical(u64(s[name]))) no(name, u64(s[name]), "a canonical address");
  }
  checkXsave(s, xcr0, no);
  if (s.eventValid) {
    if (s.eventType === 1) no("eventType", s.eventType, "a type of event");
    if (s.eventType === EventType.NMI && s.eventVector !== 2) no("eventVector", s.eventVector, "2 for an NMI");
    if (s.eventType === EventType.EXCEPTION && s.eventVector > 31) no("eventVector", s.eventVector, "at most 31");
  }
}

function checkXsave(s: VcpuState, xcr0: bigint, no: (what: string, found: bigint | number, e: string) => never): void {
  const dv = new DataView(s.xsave.buffer, s.xsave.byteOffset, XSAVE.BYTES);
  const present = dv.getBigUint64(XSAVE.XSTATE_BV, true);
  // Without XCR0 the SSE registers are still those of FXSAVE, and no register forgets when its switch is off.
  if (present & ~(xcr0 | X87 | SSE | AVX)) no("xsave.XSTATE_BV", present, "components of XCR0");
  const layout = dv.getBigUint64(XSAVE.XCOMP_BV, true);
  if (layout !== 0n) no("xsave.XCOMP_BV", layout, "0, the standard format");
  for (let at = XSAVE.HEADER_REST; at < XSAVE.HEADER_END; at += 8) {
    const rest = dv.getBigUint64(at, true);
    if (rest !== 0n) no("xsave header", rest, "0 in its reserved bytes");
  }
  const mxcsr = dv.getUint32(XSAVE.MXCSR, true);
  if (mxcsr & ~0xffff) no("xsave.MXCSR", mxcsr, "no reserved bit set");
}

/** Whether the upper 17 bits are equal: 48-bit linear addresses. */
function isCanonical(address: bigint): boolean {
  return BigInt.asUintN(64, BigInt.asIntN(48, address)) === address;
}
