/**
 * Operations that the interpreter's loop knows by itself: addresses, jumps within a page, fused compare-and-branch.
 *
 * Numbers start at 0; handlers of rows follow (handlers.ts).
 */

/** A compare or test fused with the conditional jump in the next record. Form: first and second operand, as r, i or m. */
export interface Fused {
  readonly name: "CMP" | "TEST";
  readonly size: 8 | 32 | 64;
  readonly form: "rr" | "ri" | "mi" | "mr" | "rm";
  readonly cc: number;
}

const FIXED = [
  /** Decoded code that is stale: look rip up again. */
  "RESYNC",
  /** Go on at page offset `disp`: imm is the operation's address if known. */
  "GOTO",
  /** End of a single step: rip is at page offset `disp`. */
  "STEP_END",
  /** The instruction goes on in the next page, which must be RAM page `imm`. */
  "XPAGE",
  /** ea = b + x + disp. */
  "EA",
  /** The same plus the base of segment s. */
  "EA_SEGMENT",
  /** Cut to 32 bits, then the base of segment s (ZERO's if none: s = 255). */
  "EA_32",
  /** ea = b + imm + disp: RIP-relative with a displacement that needs both. */
  "EA_FAR",
  /** ea = imm:disp as 64 bits, plus the base of segment s if s is not 255. */
  "EA_ABSOLUTE",
  /** Outside 64-bit mode; imm: bytes, write at bit 8, 16-bit address at bit 9, no segment at bit 10. */
  "EA_LEGACY",
  /** Raises #UD; raises #GP(0). */
  "UNDEFINED",
  "TOO_LONG",
  "NOP",
  /** A barrier behind a locked instruction on the stack, which is how kernels write one: devices run in other threads. */
  "FENCE",
  /** Jump, call: imm is the operation's address if known, disp the target's offset from the page. */
  "JMP",
  "CALL",
  "RET",
  "JMP_R",
  "JMP_M",
  "CALL_R",
  "CALL_M",
] as const;

export type FixedName = typeof FIXED[number];
export const SPECIAL: Readonly<Record<FixedName, number>> = Object.fromEntries(FIXED.map((n, i) => [n, i])) as Record<
  FixedName,
  number
>;

/** Jcc: SPECIAL_JCC + condition. */
export const SPECIAL_JCC = FIXED.length;
const FUSED_BASE = SPECIAL_JCC + 16;

const B = 2, AE = 3, Z = 4, NZ = 5, BE = 6, A = 7, S = 8, NS = 9, L = 12, GE = 13, LE = 14, G = 15;

function fusedList(): Fused[] {
  const list: Fused[] = [];
  const add = (name: Fused["name"], sizes: Fused["size"][], forms: Fused["form"][], ccs: number[]) => {
    for (const size of sizes) for (const form of forms) for (const cc of ccs) list.push({ name, size, form, cc });
  };
  add("CMP", [32, 64], ["rr", "ri"], [Z, NZ, B, AE, BE, A, L, GE, LE, G]);
  add("CMP", [8], ["ri"], [Z, NZ, BE, A]);
  add("CMP", [8], ["rr"], [Z, NZ]);
  add("CMP", [32, 64], ["mi", "rm", "mr"], [Z, NZ]);
  add("CMP", [64], ["rm", "mr"], [B, AE, BE, A]);
  add("CMP", [8], ["mi", "mr"], [Z, NZ]);
  add("TEST", [32, 64], ["rr"], [Z, NZ, S, NS, LE, G]);
  add("TEST", [8], ["rr", "ri"], [Z, NZ]);
  add("TEST", [32], ["ri"], [Z, NZ]);
  add("TEST", [8], ["mi"], [Z, NZ]);
  return list;
}

export const FUSED: readonly Fused[] = fusedList();
const fusedIndex = new Map(FUSED.map((f, i) => [`${f.name}${f.size}${f.form}${f.cc}`, FUSED_BASE + i]));

/** The number of a fused operation, or -1. */
export function findFused(name: string, size: number, form: string, cc: number): number {
  return fusedIndex.get(`${name}${size}${form}${cc}`) ?? -1;
}

export const FUSED_START = FUSED_BASE;
/** How many numbers are taken. */
export const SPECIALS = FUSED_BASE + FUSED.length;

export function specialName(h: number): string {
  if (h < SPECIAL_JCC) return FIXED[h]!;
  if (h < FUSED_BASE) return `J${h - SPECIAL_JCC}`;
  const f = FUSED[h - FUSED_BASE]!;
  return `${f.name}.${f.size}${f.form}.J${f.cc}`;
}
