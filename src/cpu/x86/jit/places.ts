/**
 * Where in MICRO (state.ts) each access of a region looks for its translation.
 *
 * What tends to lie in one page shares a place: accesses through the same register as long as that holds the same value, give or
 * take a constant. So values are numbered: each instruction that loads a register begins a new one. The stack is where it is
 * for every region, and so is what FS and GS point to; for the rest a region has places of its own, as many as there are.
 *
 * Any place is right: the page is compared. A good choice makes that comparison succeed.
 */
import { isMemoryLetter } from "../arg.ts";
import { MICRO_WAYS, reg, RSP, VBASE } from "../state.ts";
import { IMPLICIT } from "./inline_rows.ts";
import type { RegionHost } from "./region_host.ts";
import { type Block, End, fieldRegister, hasBase, type Instruction, isRegister, type Region } from "./region.ts";

export interface Places {
  /** Of the memory operand; of what lies at RSP. */
  readonly operand: number;
  readonly stack: number;
}

const STACK = 0, SEGMENTS = 1, SHARED = 16;
/** What a called function may have changed, by the System V convention: RAX, RCX, RDX, RSI, RDI, R8..R11. */
const CALL_CHANGES = 0x0fc7;
/** With a register as their destination these move a pointer on, mostly. */
const MOVES_ON = new Set(["ADD", "SUB", "INC", "DEC"]);

/** `order`: the numbers of the blocks, each after those that lead to it forwards. `salt`: a number that other regions hardly have. */
export function findPlaces(
  region: Region,
  host: Pick<RegionHost, "decoder" | "variants">,
  order: readonly number[],
  salt: number,
): Map<Instruction, Places> {
  const found = new Map<Instruction, Places>(), numbers = new Map<string, number>();
  /** By block: the values in the registers at its end. */
  const ends: (Int32Array | undefined)[] = [];
  let values = 16;
  const own = (key: string): number => {
    let n = numbers.get(key);
    if (n === undefined) numbers.set(key, n = numbers.size);
    return SHARED + (salt + n) % (MICRO_WAYS - SHARED);
  };
  const through = (value: number, disp: number): number => {
    // The stack's pointer at the entry.
    if (value === RSP) return STACK;
    return own(`${value} ${(disp + 2048) >> 12}`);
  };
  const operand = (i: Instruction, now: Int32Array): number => {
    const base = isRegister(i.base) ? now[fieldRegister(i.base)]! : -1;
    if (hasBase(i.segment) && base < 0) return SEGMENTS + ((i.segment + (i.disp >>> 12)) % (SHARED - SEGMENTS));
    if (i.absolute) return own(`absolute ${i.imm >>> 12}`);
    if (i.base === reg(VBASE)) return own(`rip ${(i.disp + i.at + i.length) >> 12}`);
    if (base < 0) return own(`index ${i.disp >> 12}`);
    return through(base, i.disp);
  };
  /** Numbers anew what the instruction loads. */
  const load = (i: Instruction, now: Int32Array): void => {
    const row = host.decoder.rows[i.row]!;
    for (const a of host.variants.args[i.row]!) {
      if (a.access === "r" || a.slot < 0 || !"ERGZBA".includes(a.letter)) continue;
      if (isMemoryLetter(a.letter) && i.hasMemory) continue;
      const n = fieldRegister(a.slot === 0 ? i.d : a.slot === 1 ? i.s : i.x);
      const moves = MOVES_ON.has(row.name) || (row.name === "LEA" && isRegister(i.base) && fieldRegister(i.base) === n);
      if (!moves) now[n] = values++;
    }
    for (const n of IMPLICIT[row.name] ?? []) if (n !== RSP) now[n] = values++;
  };
  const before: Block[][] = region.blocks.map(() => []);
  for (const b of region.blocks) {
    for (const to of [b.targetBlock, b.nextBlock, ...b.jumps.map((jump) => jump.block)]) {
      if (to >= 0) before[to]!.push(b);
    }
  }
  for (const number of order) {
    const b = region.blocks[number]!, now = new Int32Array(16);
    const from = before[number]!.map((p) => ends[p.number]).filter((end) => end !== undefined);
    for (let n = 0; n < 16; n++) {
      const value = from.length > 0 ? from[0]![n]! : n;
      now[n] = from.every((end) => end[n] === value) ? value : values++;
    }
    for (const i of b.instructions) {
      found.set(i, { operand: i.hasMemory ? operand(i, now) : 0, stack: through(now[RSP]!, 0) });
      load(i, now);
    }
    if (b.end === End.Call || b.end === End.IndirectCall) {
      for (let n = 0; n < 16; n++) if (CALL_CHANGES & (1 << n)) now[n] = values++;
    }
    ends[number] = now;
  }
  return found;
}
