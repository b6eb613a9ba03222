/**
 * Where in MICRO (state.ts) each access looks for its translation: as in jit/places.ts by the value that its base register holds,
 * but told from within a block alone, while it is emitted. Any place is right: the page is compared.
 */
import { isMemoryLetter } from "../arg.ts";
import type { Decoder } from "../decode.ts";
import type { Variants } from "../handlers.ts";
import { IMPLICIT } from "../jit/inline_rows.ts";
import { fieldRegister, hasBase, type Instruction, isRegister } from "../jit/region.ts";
import { MICRO_WAYS, reg, RSP, VBASE } from "../state.ts";

/** The stack's; what FS and GS point to; from SHARED on all others. */
export const STACK = 0;
const SEGMENTS = 1, SHARED = 16;
/** With a register as their destination these move a pointer on, mostly. */
const MOVES_ON = /^(ADD|SUB|INC|DEC)$/;

const hash = (n: number) => Math.imul(n ^ (n >>> 15), 0x2c1b_3c6d) ^ (n >>> 7);

/** Which registers a row gives other values: record fields, and registers by number. */
interface Loads {
  readonly slots: readonly { readonly slot: number; readonly inMemory: boolean }[];
  readonly implicit: readonly number[];
  readonly isLea: boolean;
}

export class Places {
  readonly #loads: readonly Loads[];
  /** By register: a number for the value it holds. */
  readonly #values = new Int32Array(16);
  /** What has a place in the region, in the order of appearance: so that no two share one before all are taken. */
  readonly #numbers = new Map<number, number>();
  #salt = 0;

  constructor(decoder: Decoder, variants: Variants) {
    this.#loads = decoder.rows.map((row, n): Loads => ({
      slots: MOVES_ON.test(row.name) ? [] : variants.args[n]!
        .filter((a) => a.access !== "r" && a.slot >= 0 && "ERGZBA".includes(a.letter))
        .map((a) => ({ slot: a.slot, inMemory: isMemoryLetter(a.letter) })),
      implicit: (IMPLICIT[row.name] ?? []).filter((r) => r !== RSP),
      isLea: row.name === "LEA",
    }));
  }

  /** A region begins. `salt`: a number that other regions hardly have. */
  beginRegion(salt: number): void {
    this.#numbers.clear();
    this.#salt = hash(salt) >>> 8;
  }

  #shared(key: number): number {
    let n = this.#numbers.get(key);
    if (n === undefined) this.#numbers.set(key, n = this.#numbers.size);
    return SHARED + (this.#salt + n) % (MICRO_WAYS - SHARED);
  }

  /** A block begins that can be come to from anywhere. `salt`: a number that other blocks hardly have. */
  begin(salt: number): void {
    for (let n = 0; n < 16; n++) this.#values[n] = hash(salt + n);
  }

  /** The place of the instruction's memory operand. */
  of(i: Instruction): number {
    const base = isRegister(i.base) ? fieldRegister(i.base) : -1;
    if (base === RSP) return STACK;
    if (hasBase(i.segment) && base < 0) return SEGMENTS + ((i.segment + (i.disp >>> 12)) % (SHARED - SEGMENTS));
    if (i.absolute) return this.#shared(i.imm >>> 12);
    if (i.base === reg(VBASE)) return this.#shared(0x5bd1 + ((i.disp + i.at + i.length) >> 12));
    return this.#shared((base < 0 ? 0x1234 : this.#values[base]!) + ((i.disp + 2048) >> 12));
  }

  /** The instruction has been: what it loads is another value from now on. */
  after(i: Instruction): void {
    const { slots, implicit, isLea } = this.#loads[i.row]!;
    for (const { slot, inMemory } of slots) {
      if (inMemory && i.hasMemory) continue;
      const n = fieldRegister(slot === 0 ? i.d : slot === 1 ? i.s : i.x);
      if (!(isLea && isRegister(i.base) && fieldRegister(i.base) === n)) {
        this.#values[n] = hash(this.#values[n]! + i.at);
      }
    }
    for (const n of implicit) this.#values[n] = hash(this.#values[n]! + i.at);
  }
}
