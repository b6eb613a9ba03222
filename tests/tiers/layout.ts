/**
 * Where things are for the programs of this folder. They see 2 MiB of linear addresses from a base of their own choice: code,
 * the same code a second time, data pages with different rights, two stacks. The supervisor sees guest-physical memory at SYSTEM.
 */
export const PAGE = 4096;
export const RAM_BYTES = 2 << 20;
export const SYSTEM = 0x7000_0000_0000;

/** Guest-physical places of the supervisor. */
export const AT = {
  PML4: 0x1000,
  PDPT: 0x2000,
  PD: 0x3000,
  PT: 0x4000,
  SYSTEM_PDPT: 0x5000,
  SYSTEM_PD: 0x6000,
  /** By page of the programs' 2 MiB: what the page fault's handler puts into PT, or 0. */
  REPAIR: 0x7000,
  GDT: 0x10000,
  IDT: 0x11000,
  TSS: 0x12000,
  HANDLERS: 0x13000,
  VARS: 0x16000,
  LOG: 0x17000,
  /** Stacks grow down from here, a page each: faults, NMI, debug exceptions, interrupts, others. */
  STACKS: 0x19000,
  CODE: 0x40000,
  DATA: 0x80000,
  STACK: 0xc0000,
} as const;
export const STACK_COUNT = 5;

/** Pages from the program's base. */
export const CODE_PAGES = 6, DATA_PAGES = 8, STACK_PAGES = 4;
/** Offsets from the program's base. */
export const CODE = 0, ALIAS = 0x4_0000, DATA = 0x8_0000, STACK = 0x10_0000, STACK_2 = 0x11_0000;
export const STACK_TOP = STACK + STACK_PAGES * PAGE - 64, STACK_2_TOP = STACK_2 + STACK_PAGES * PAGE - 64;

/** Pages of data: rights as the program finds them, and what a fault there brings about. */
export const DATA_RIGHTS = [
  { kind: "plain" },
  { kind: "plain" },
  { kind: "read-only" },
  { kind: "absent" },
  /** Absent until it is touched. */
  { kind: "lazy" },
  /** Read-only until it is written to. */
  { kind: "copy" },
  { kind: "plain" },
  { kind: "plain" },
] as const;

/** Offsets in VARS. */
export const VAR = {
  FAULTS: 0,
  LOGGED: 8,
  RECOVERIES: 16,
  INTERRUPTS: 24,
  NMIS: 32,
  STEPS: 40,
  CALLS: 48,
  TABLE: 0x100,
} as const;
export const LOG_ENTRIES = 64, LOG_ENTRY = 32;
/** After so many faults the program has ended. */
export const MAX_FAULTS = 40;

export const SELECTOR = { KERNEL_CS: 0x10, KERNEL_SS: 0x18, USER_SS: 0x2b, USER_CS: 0x33, TR: 0x40 } as const;
export const VECTOR = { INTERRUPT: 0x30, CALL: 0x80, END: 0x81 } as const;
