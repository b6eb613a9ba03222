/**
 * The local APIC's registers, their bits, and the record that holds them.
 *
 * Spec: [sdm3 §11.4.1] the register page, [sdm3 §11.12.1.2] the same registers as MSRs, [sdm3 §11.5.1] the local vector table.
 */
import type { RegisterTable } from "../src/base/bus.ts";
import { record } from "../src/base/record.ts";

/** Offsets in the 4-KByte page; as an MSR a register is 800h + offset / 16. ISR, TMR and IRR are the first of eight each. */
export const LOCAL_APIC = {
  ID: { at: 0x020, width: 4, access: "ro" },
  VERSION: { at: 0x030, width: 4, access: "ro" },
  TPR: { at: 0x080, width: 4, access: "rw" },
  APR: { at: 0x090, width: 4, access: "ro" },
  PPR: { at: 0x0a0, width: 4, access: "ro" },
  EOI: { at: 0x0b0, width: 4, access: "wo" },
  RRD: { at: 0x0c0, width: 4, access: "ro" },
  LDR: { at: 0x0d0, width: 4, access: "rw" },
  DFR: { at: 0x0e0, width: 4, access: "rw" },
  SVR: { at: 0x0f0, width: 4, access: "rw" },
  ISR: { at: 0x100, width: 4, access: "ro" },
  TMR: { at: 0x180, width: 4, access: "ro" },
  IRR: { at: 0x200, width: 4, access: "ro" },
  ESR: { at: 0x280, width: 4, access: "rw" },
  ICR_LO: { at: 0x300, width: 4, access: "rw" },
  ICR_HI: { at: 0x310, width: 4, access: "rw" },
  LVT_TIMER: { at: 0x320, width: 4, access: "rw" },
  LVT_THERMAL: { at: 0x330, width: 4, access: "rw" },
  LVT_PERF: { at: 0x340, width: 4, access: "rw" },
  LVT_LINT0: { at: 0x350, width: 4, access: "rw" },
  LVT_LINT1: { at: 0x360, width: 4, access: "rw" },
  LVT_ERROR: { at: 0x370, width: 4, access: "rw" },
  INITIAL_COUNT: { at: 0x380, width: 4, access: "rw" },
  CURRENT_COUNT: { at: 0x390, width: 4, access: "ro" },
  DCR: { at: 0x3e0, width: 4, access: "rw" },
} as const satisfies RegisterTable;

/** Only in x2APIC mode, only as MSR 83Fh. [sdm3 §11.12.11] */
export const SELF_IPI = 0x3f0;

/** Where the page is at power-on, for every processor. [sdm3 §11.4.1] */
export const LOCAL_APIC_BASE = 0xfee00000;
export const LOCAL_APIC_BYTES = 4096;

export const IA32_APIC_BASE = 0x1b;
export const IA32_TSC_DEADLINE = 0x6e0;
export const X2APIC_MSR = 0x800;
export const X2APIC_MSR_LAST = 0x8ff;

export const APIC_BASE = { BSP: 1 << 8, EXTD: 1 << 10, EN: 1 << 11 } as const;

/** What IA32_APIC_BASE.EN and .EXTD say together. [sdm3 §11.12.1] */
export const ApicMode = { DISABLED: 0, XAPIC: 1, X2APIC: 2 } as const;

/** Max LVT Entry 5 (six entries), version 14h, and EOI-broadcast suppression. [sdm3 §11.4.8] */
export const VERSION = 0x0105_0014;

export const SVR = { VECTOR: 0xff, ENABLED: 1 << 8, FOCUS_DISABLED: 1 << 9, EOI_SUPPRESSION: 1 << 12 } as const;
export const ESR = { SEND_ILLEGAL_VECTOR: 1 << 5, RECEIVED_ILLEGAL_VECTOR: 1 << 6, ILLEGAL_REGISTER: 1 << 7 } as const;
export const ICR = {
  LOGICAL: 1 << 11,
  ASSERT: 1 << 14,
  LEVEL: 1 << 15,
  SHORTHAND_SHIFT: 18,
  /** All that can be written; the delivery status (bit 12) is always idle, since a message arrives at once. */
  WRITABLE: 0x000c_cfff,
} as const;
export const Shorthand = { NONE: 0, SELF: 1, ALL: 2, OTHERS: 3 } as const;

export const LVT = {
  VECTOR: 0xff,
  DELIVERY_STATUS: 1 << 12,
  REMOTE_IRR: 1 << 14,
  LEVEL: 1 << 15,
  MASKED: 1 << 16,
  TIMER_MODE_SHIFT: 17,
} as const;

/** What can be written of each entry. Polarity (bit 13) is kept and means nothing: our wires carry "asserted". */
export const LVT_WRITABLE = {
  lvtTimer: 0x0007_00ff,
  lvtThermal: 0x0001_07ff,
  lvtPerf: 0x0001_07ff,
  lvtLint0: 0x0001_a7ff,
  lvtLint1: 0x0001_a7ff,
  lvtError: 0x0001_00ff,
} as const;
export type LvtName = keyof typeof LVT_WRITABLE;

export const TimerMode = { ONE_SHOT: 0, PERIODIC: 1, TSC_DEADLINE: 2 } as const;

/** As in the ICR, the LVT, an I/O APIC's redirection entry and a message's data. [sdm3 §11.6.1] */
export const DeliveryMode = { FIXED: 0, LOWEST: 1, SMI: 2, NMI: 4, INIT: 5, STARTUP: 6, EXTINT: 7 } as const;

const MASKED_AT_RESET = { type: "u32", reset: LVT.MASKED } as const;

export const LocalApicRecord = record("local-apic", 1, {
  mode: { type: "u8", max: ApicMode.X2APIC, reset: ApicMode.XAPIC },
  baseLo: { type: "u32", reset: LOCAL_APIC_BASE }, // bits 31:12 of the page's address
  baseHi: "u32",
  tpr: "u8",
  ldr: "u32",
  dfr: { type: "u32", reset: 0xffffffff },
  svr: { type: "u32", reset: 0xff },
  esr: "u8", // as software reads it
  errors: "u8", // detected since the last write to ESR
  icrLo: "u32",
  icrHi: "u32",
  lvtTimer: MASKED_AT_RESET,
  lvtThermal: MASKED_AT_RESET,
  lvtPerf: MASKED_AT_RESET,
  lvtLint0: MASKED_AT_RESET,
  lvtLint1: MASKED_AT_RESET,
  lvtError: MASKED_AT_RESET,
  isr: { array: "u32", length: 8 },
  tmr: { array: "u32", length: 8 },
  irr: { array: "u32", length: 8 },
  lint0: { type: "u8", max: 1 }, // the wire
  lint1: { type: "u8", max: 1 },
  extInt: { type: "u8", max: 1 }, // an ExtINT message waits for its INTA cycle
  initialCount: "u32",
  dcr: { type: "u8", max: 0xb },
  counting: { type: "u8", max: 1 }, // one-shot and periodic: the counter has not stopped
  zeroNs: { type: "f64", max: Number.MAX_SAFE_INTEGER }, // when the counter reaches zero next
  deadlineLo: "u32", // IA32_TSC_DEADLINE; zero is disarmed
  deadlineHi: "u32",
  tscOffsetLo: "u32", // the guest's TSC minus guest nanoseconds, mod 2^64
  tscOffsetHi: "u32",
});

export const LVT_NAMES = Object.keys(LVT_WRITABLE) as LvtName[];

export function lvtAt(at: number): LvtName | undefined {
  return at >= LOCAL_APIC.LVT_TIMER.at && at <= LOCAL_APIC.LVT_ERROR.at && (at & 0xf) === 0
    ? LVT_NAMES[(at - LOCAL_APIC.LVT_TIMER.at) >> 4]
    : undefined;
}

export function isReadOnly(at: number): boolean {
  if (at >= LOCAL_APIC.ISR.at && at < LOCAL_APIC.ESR.at) return true;
  return at === LOCAL_APIC.ID.at || at === LOCAL_APIC.VERSION.at || at === LOCAL_APIC.APR.at ||
    at === LOCAL_APIC.PPR.at || at === LOCAL_APIC.RRD.at ||
    at === LOCAL_APIC.CURRENT_COUNT.at;
}

/** [sdm3 §11.12.1.2]: no APR, RRD, DFR or upper ICR; EOI and SELF IPI only to be written. */
export function readableMsr(at: number): boolean {
  if (at >= LOCAL_APIC.ISR.at && at < LOCAL_APIC.ESR.at) return true;
  switch (at) {
    case LOCAL_APIC.ID.at:
    case LOCAL_APIC.VERSION.at:
    case LOCAL_APIC.TPR.at:
    case LOCAL_APIC.PPR.at:
    case LOCAL_APIC.LDR.at:
    case LOCAL_APIC.SVR.at:
    case LOCAL_APIC.ESR.at:
    case LOCAL_APIC.ICR_LO.at:
    case LOCAL_APIC.INITIAL_COUNT.at:
    case LOCAL_APIC.CURRENT_COUNT.at:
    case LOCAL_APIC.DCR.at:
      return true;
  }
  return lvtAt(at) !== undefined;
}

/** The bits that may be 1 in a WRMSR, or -1 for a register that cannot be written. */
export function writableMsr(at: number): number {
  switch (at) {
    case LOCAL_APIC.EOI.at:
    case LOCAL_APIC.ESR.at:
      return 0;
    case LOCAL_APIC.TPR.at:
    case SELF_IPI:
      return 0xff;
    case LOCAL_APIC.SVR.at:
      return SVR.VECTOR | SVR.ENABLED | SVR.FOCUS_DISABLED | SVR.EOI_SUPPRESSION;
    case LOCAL_APIC.ICR_LO.at:
      return ICR.WRITABLE;
    case LOCAL_APIC.INITIAL_COUNT.at:
      return 0xffffffff;
    case LOCAL_APIC.DCR.at:
      return 0xb;
  }
  const lvt = lvtAt(at);
  // The status bits are read-only: writing back what was read is no fault.
  return lvt
    ? LVT_WRITABLE[lvt] | LVT.DELIVERY_STATUS | (lvt === "lvtLint0" || lvt === "lvtLint1" ? LVT.REMOTE_IRR : 0)
    : -1;
}
