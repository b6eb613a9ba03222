/**
 * Which status flags somebody may see after each instruction of a region. Whatever may leave for the interpreter sees all: an
 * access to memory, a vector instruction, one that is not done natively.
 */
import { ALL_FLAGS, type Decoder, FLAG_BITS } from "../decode.ts";
import { constantCount, End, type Instruction, type Region } from "../jit/region.ts";

const BIT_TESTS = /^BT[SRC]?$/;
const STACK = /^(PUSH|POP|LEAVE|ENTER)$/, SYSTEM = /^(STI|SWAPGS)$/;

export interface Liveness {
  /** Of a branch: whatever goes to a block that can be come to from anywhere may have to leave for lack of time before it. */
  readonly after: ReadonlyMap<Instruction, number>;
  /** By block: what its instructions may let be seen. */
  readonly atStart: Int32Array;
}

export function findLiveness(
  region: Region,
  decoder: Decoder,
  leaves: (i: Instruction) => boolean,
  carried: readonly boolean[],
): Liveness {
  const atStart = new Int32Array(region.blocks.length), after = new Map<Instruction, number>();
  const of = (n: number) => n < 0 || !carried[n] ? ALL_FLAGS : atStart[n]!;
  const pass = (n: number, note: boolean): number => {
    const b = region.blocks[n]!;
    let live = b.end === End.Jcc
      ? of(b.targetBlock) | of(b.nextBlock)
      : b.end === End.Jmp
      ? of(b.targetBlock)
      : b.end === End.Fall
      ? of(b.nextBlock)
      : ALL_FLAGS;
    for (let k = b.instructions.length - 1; k >= 0; k--) {
      const i = b.instructions[k]!, x = decoder.info[i.row]!, row = decoder.rows[i.row]!;
      if (note) after.set(i, live);
      if (k === b.instructions.length - 1 && b.end === End.Jcc) {
        live |= x.reads;
        continue;
      }
      const count = constantCount(row, i);
      const sure = row.maybe ? count !== undefined && count !== 0 : x.kills !== 0;
      // The flags that BT leaves undefined stay as they were.
      if (sure) live &= ~(BIT_TESTS.test(row.name) ? FLAG_BITS.C! : x.writes);
      live |= x.reads;
      const observes = (i.hasMemory && row.name !== "LEA" && row.name !== "NOP") || STACK.test(row.name) ||
        SYSTEM.test(row.name) ||
        row.faults || row.unit ||
        leaves(i) || (b.end !== End.Fall && k === b.instructions.length - 1);
      if (observes) live = ALL_FLAGS;
    }
    return live;
  };
  for (let changed = true; changed;) {
    changed = false;
    for (let n = region.blocks.length - 1; n >= 0; n--) {
      const live = pass(n, false);
      if (live !== atStart[n]) {
        atStart[n] = live;
        changed = true;
      }
    }
  }
  for (let n = 0; n < region.blocks.length; n++) pass(n, true);
  return { after, atStart };
}
