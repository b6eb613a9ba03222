/**
 * The memory that both processors see: the same bytes at the same addresses, in this process natively and behind page tables
 * in the software CPU.
 *
 * | offset | what | in the guest |
 * |---|---|---|
 * | CODE | one slot of instructions a case | user, executable |
 * | DATA | one window of memory a case | user |
 * | EDGE | pages with different rights side by side | as natively |
 * | STUB, VARS | what enters and leaves the cases | absent |
 * | IN, OUT | registers before and after, one record a case | absent |
 *
 * Everything else in between is inaccessible. The arena lies below 2 GiB, so that 32-bit displacements and addresses reach it.
 */
export const CASES = 256;
export const SLOT = 512;
export const WINDOW = 1024;
export const PAGE = 4096;

export const CODE = 0;
export const CODE_BYTES = CASES * SLOT;
export const DATA = CODE + CODE_BYTES + 2 * PAGE;
export const DATA_BYTES = CASES * WINDOW;

/** Single pages; between two that do not follow each other lies an inaccessible one. */
const EDGES = DATA + DATA_BYTES + PAGE;
export const EDGE = {
  RW: EDGES,
  RO: EDGES + 2 * PAGE,
  /** Writable, right behind the read-only page. */
  RW_AFTER_RO: EDGES + 3 * PAGE,
  CODE: EDGES + 5 * PAGE,
  CODE_BEFORE_NX: EDGES + 7 * PAGE,
  NX: EDGES + 8 * PAGE,
} as const;
export const EDGES_END = EDGES + 10 * PAGE;

export const STUB = EDGES_END;
export const VARS = STUB + PAGE;
export const RECORD = 960;
export const IN = VARS + 2 * PAGE;
export const OUT = IN + CASES * RECORD;
export const ARENA_BYTES = Math.ceil((OUT + CASES * RECORD) / PAGE) * PAGE;

/** A page of the arena. */
export interface PageRights {
  readonly at: number;
  readonly bytes: number;
  readonly write: boolean;
  readonly execute: boolean;
}

/** What cases may reach. */
export const GUEST_PAGES: readonly PageRights[] = [
  { at: CODE, bytes: CODE_BYTES, write: true, execute: true },
  { at: DATA, bytes: DATA_BYTES, write: true, execute: false },
  { at: EDGE.RW, bytes: PAGE, write: true, execute: false },
  { at: EDGE.RO, bytes: PAGE, write: false, execute: false },
  { at: EDGE.RW_AFTER_RO, bytes: PAGE, write: true, execute: false },
  { at: EDGE.CODE, bytes: PAGE, write: false, execute: true },
  { at: EDGE.CODE_BEFORE_NX, bytes: PAGE, write: false, execute: true },
  { at: EDGE.NX, bytes: PAGE, write: true, execute: false },
];

/**
 * A record, before and after: general registers by number, flags, the GS base, then an FXSAVE64 image and the upper halves of
 * the YMM registers. Before: where to go in.
 * After: whether the case left by its second exit, and the fault if there was one.
 */
export const R = {
  GPR: 0,
  FLAGS: 128,
  RIP: 136,
  GS: 144,
  EXIT: 152,
  SIGNAL: 156,
  TRAP: 160,
  ERROR: 168,
  CR2: 176,
  FX: 192,
  YMM: 704,
} as const;

/** In an FXSAVE64 image. */
export const FX = { FCW: 0, FSW: 2, FTW: 4, MXCSR: 24, ST: 32, XMM: 160, END: 416 } as const;
