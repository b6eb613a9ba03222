/**
 * Model-specific registers that are not fields of the vCPU's state: [sdm4 table 2-2].
 *
 * Emulated: MTRRs (kept and read back: memory has one type here), MISC_ENABLE, SPEC_CTRL and PRED_CMD (accepted),
 * ARCH_CAPABILITIES, an empty machine-check file, a locked FEATURE_CONTROL. The local APIC's go to the board.
 * Absent: performance monitoring, MPERF and APERF, XSS. Whatever is not here faults.
 */
import type { Board } from "../../../engine/engine.ts";
import { MAXPHYADDR } from "./walk.ts";

/** Numbers, under the names of the manual without IA32_. */
export const MSR = {
  TSC: 0x10,
  PLATFORM_ID: 0x17,
  APIC_BASE: 0x1b,
  FEATURE_CONTROL: 0x3a,
  TSC_ADJUST: 0x3b,
  SPEC_CTRL: 0x48,
  PRED_CMD: 0x49,
  BIOS_SIGN_ID: 0x8b,
  MTRRCAP: 0xfe,
  ARCH_CAPABILITIES: 0x10a,
  SYSENTER_CS: 0x174,
  SYSENTER_ESP: 0x175,
  SYSENTER_EIP: 0x176,
  MCG_CAP: 0x179,
  MCG_STATUS: 0x17a,
  MISC_ENABLE: 0x1a0,
  DEBUGCTL: 0x1d9,
  MTRR_PHYSBASE0: 0x200,
  MTRR_FIX64K_00000: 0x250,
  MTRR_FIX16K_80000: 0x258,
  MTRR_FIX16K_A0000: 0x259,
  MTRR_FIX4K_C0000: 0x268,
  MTRR_FIX4K_F8000: 0x26f,
  PAT: 0x277,
  MTRR_DEF_TYPE: 0x2ff,
  TSC_DEADLINE: 0x6e0,
  X2APIC: 0x800,
  EFER: 0xc000_0080,
  STAR: 0xc000_0081,
  LSTAR: 0xc000_0082,
  CSTAR: 0xc000_0083,
  FMASK: 0xc000_0084,
  FS_BASE: 0xc000_0100,
  GS_BASE: 0xc000_0101,
  KERNEL_GS_BASE: 0xc000_0102,
  TSC_AUX: 0xc000_0103,
} as const;

/** There is no speculation, so there is nothing for it to leak: low and high half of IA32_ARCH_CAPABILITIES. */
const ARCH_CAPABILITIES_LO = 1 << 0 | // RDCL_NO
  1 << 1 | // IBRS_ALL
  1 << 3 | // SKIP_L1DFL_VMENTRY
  1 << 4 | // SSB_NO
  1 << 5 | // MDS_NO
  1 << 6 | // IF_PSCHANGE_MC_NO
  1 << 8 | // TAA_NO
  1 << 13 | // SBDR_SSDP_NO
  1 << 14 | // FBSDP_NO
  1 << 15 | // PSDP_NO
  1 << 20 | // BHI_NO
  1 << 24 | // PBRSB_NO
  1 << 26 | // GDS_NO
  1 << 27; // RFDS_NO
const ARCH_CAPABILITIES_HI = 1 << 30; // ITS_NO

const FEATURE_CONTROL_LOCKED = 1;
/** Switches of predictors that do not exist: kept and read back. Without them a guest clears predictors by long code paths. */
const SPEC_CTRL_IBRS = 1 << 0, SPEC_CTRL_STIBP = 1 << 1, SPEC_CTRL_BHI_DIS_S = 1 << 10, PRED_CMD_IBPB = 1;
/** Fast strings and the thermal monitor may be switched; branch trace storage and PEBS are unavailable. */
const MISC_ENABLE_WRITABLE = 1 << 0 | 1 << 3, MISC_ENABLE_FIXED = 1 << 11 | 1 << 12, MISC_ENABLE_RESET = 1;
/** MONITOR and MWAIT exist. */
const MISC_ENABLE_MONITOR = 1 << 18;
/** Flags that the manual defines at all; setting another one faults. */
const MISC_ENABLE_DEFINED = MISC_ENABLE_WRITABLE | MISC_ENABLE_FIXED | 1 << 7 | 1 << 16 | MISC_ENABLE_MONITOR |
  1 << 22 | 1 << 23;
const MICROCODE_REVISION = 1;

export const VARIABLE_MTRRS = 8;
const MTRRCAP = VARIABLE_MTRRS | 1 << 8 | 1 << 10; // fixed ranges, write combining
const MTRR_E = 1 << 11, MTRR_FE = 1 << 10, MTRR_V = 1 << 11;
const WRITE_BACK = 6;
const PHYSICAL_HI = 2 ** (MAXPHYADDR - 32) - 1;

/** Slots in the store, two words each. */
const FIXED_MTRRS = [
  MSR.MTRR_FIX64K_00000,
  MSR.MTRR_FIX16K_80000,
  MSR.MTRR_FIX16K_A0000,
  ...Array.from({ length: 8 }, (_, i) => MSR.MTRR_FIX4K_C0000 + i),
];
const STORED: readonly number[] = [
  ...Array.from({ length: 2 * VARIABLE_MTRRS }, (_, i) => MSR.MTRR_PHYSBASE0 + i),
  ...FIXED_MTRRS,
  MSR.MTRR_DEF_TYPE,
  MSR.MISC_ENABLE,
  MSR.SPEC_CTRL,
  MSR.MCG_STATUS,
];
const SLOT = new Map(STORED.map((msr, i) => [msr, i]));

function isMemoryType(type: number): boolean {
  return type === 0 || type === 1 || (type >= 4 && type <= 6);
}
function areMemoryTypes(word: number): boolean {
  for (let shift = 0; shift < 32; shift += 8) if (!isMemoryType((word >>> shift) & 0xff)) return false;
  return true;
}

type MsrBoard = Pick<Board, "readMsr" | "writeMsr" | "msrLo" | "msrHi">;

export class MsrFile {
  /** The answer of `read`. */
  lo = 0;
  hi = 0;
  /** The processor has MONITOR and MWAIT, and says so here as well. */
  monitor = false;

  /** Words of `store`, for whoever keeps it in shared memory. */
  static readonly WORDS = 2 * STORED.length;

  constructor(
    private readonly board: MsrBoard,
    private readonly vcpu: number,
    private readonly store: Uint32Array = new Uint32Array(MsrFile.WORDS),
  ) {}

  /**
   * Power-up values; INIT keeps all of these registers. The MTRRs are as firmware leaves them, all memory write-back: guests
   * that start without firmware take the processor's own reset value, everything uncached, for a broken machine.
   */
  reset(): void {
    this.store.fill(0);
    this.#set(MSR.MTRR_DEF_TYPE, MTRR_E | WRITE_BACK, 0);
    this.#set(MSR.MISC_ENABLE, MISC_ENABLE_RESET | this.#miscFixed(), 0);
  }

  #miscFixed(): number {
    return MISC_ENABLE_FIXED | (this.monitor ? MISC_ENABLE_MONITOR : 0);
  }

  /** False: there is no such register. */
  read(msr: number): boolean {
    msr >>>= 0;
    if (isApicMsr(msr)) {
      if (!this.board.readMsr(this.vcpu, msr)) return false;
      return this.#answer(this.board.msrLo, this.board.msrHi);
    }
    const slot = SLOT.get(msr);
    if (slot !== undefined) return this.#answer(this.store[2 * slot]!, this.store[2 * slot + 1]!);
    switch (msr) {
      case MSR.PLATFORM_ID:
      case MSR.MCG_CAP:
      case MSR.DEBUGCTL:
        return this.#answer(0, 0);
      case MSR.FEATURE_CONTROL:
        return this.#answer(FEATURE_CONTROL_LOCKED, 0);
      case MSR.BIOS_SIGN_ID:
        return this.#answer(0, MICROCODE_REVISION);
      case MSR.MTRRCAP:
        return this.#answer(MTRRCAP, 0);
      case MSR.ARCH_CAPABILITIES:
        return this.#answer(ARCH_CAPABILITIES_LO, ARCH_CAPABILITIES_HI);
      default:
        return false;
    }
  }

  /** False: there is no such register, or it does not take this value. */
  write(msr: number, lo: number, hi: number): boolean {
    msr >>>= 0, lo >>>= 0, hi >>>= 0;
    if (isApicMsr(msr)) return this.board.writeMsr(this.vcpu, msr, lo, hi);
    if (msr >= MSR.MTRR_PHYSBASE0 && msr < MSR.MTRR_PHYSBASE0 + 2 * VARIABLE_MTRRS) {
      const isMask = (msr & 1) !== 0;
      if (hi > PHYSICAL_HI) return false;
      if (isMask ? lo & 0xfff & ~MTRR_V : lo & 0xf00 || !isMemoryType(lo & 0xff)) return false;
      return this.#set(msr, lo, hi);
    }
    if (FIXED_MTRRS.includes(msr)) {
      return areMemoryTypes(lo) && areMemoryTypes(hi) && this.#set(msr, lo, hi);
    }
    switch (msr) {
      case MSR.MTRR_DEF_TYPE:
        if (hi !== 0 || lo & ~(0xff | MTRR_E | MTRR_FE) || !isMemoryType(lo & 0xff)) return false;
        return this.#set(msr, lo, 0);
      case MSR.MISC_ENABLE:
        // Bit 34 (execute disable off) is defined as well, and not to be had.
        if (hi & ~4 || lo & ~MISC_ENABLE_DEFINED) return false;
        return this.#set(msr, (lo & MISC_ENABLE_WRITABLE) | this.#miscFixed(), 0);
      case MSR.SPEC_CTRL:
        if (hi !== 0 || lo & ~(SPEC_CTRL_IBRS | SPEC_CTRL_STIBP | SPEC_CTRL_BHI_DIS_S)) return false;
        return this.#set(msr, lo, 0);
      case MSR.PRED_CMD:
        return hi === 0 && (lo & ~PRED_CMD_IBPB) === 0;
      case MSR.MCG_STATUS:
      case MSR.DEBUGCTL:
        return lo === 0 && hi === 0;
      case MSR.BIOS_SIGN_ID:
        // Software writes 0 before it asks CPUID for the revision.
        return true;
      default:
        return false;
    }
  }

  #answer(lo: number, hi: number): true {
    this.lo = lo;
    this.hi = hi;
    return true;
  }

  #set(msr: number, lo: number, hi: number): true {
    const slot = SLOT.get(msr)!;
    this.store[2 * slot] = lo;
    this.store[2 * slot + 1] = hi;
    return true;
  }
}

function isApicMsr(msr: number): boolean {
  return msr === MSR.APIC_BASE || msr === MSR.TSC_DEADLINE || (msr >= MSR.X2APIC && msr <= MSR.X2APIC + 0xff);
}
