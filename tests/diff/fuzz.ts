/** What fuzzing means here: which batches, in which order, from one seed. The runner and the test share it. */
import { CASES } from "./arena.ts";
import type { Case, Generator } from "./generate.ts";
import type { Harness, Mismatch } from "./harness.ts";
import { Noise } from "./noise.ts";
import { Random } from "./random.ts";
import { Sequences } from "./sequence.ts";
import type { Subject } from "./which.ts";

/** Batches of single instructions in a row between those of the other kinds. */
const SINGLES = 6;
/** Loops in a batch: each is compiled. */
const COMPILED = 32;

export class Fuzz {
  readonly #seeds: Random;
  readonly #subjects: readonly Subject[];
  readonly #sequences: Sequences | undefined;
  readonly #noise: Noise | undefined;
  #batches = 0;
  #next = 0;

  /** `rows`: only those whose name and opcode match; then sequences and prefixes are left out. */
  constructor(readonly harness: Harness, seed: number, rows?: RegExp) {
    this.#seeds = new Random(seed);
    this.#subjects = rows ? harness.tested.filter((s) => rows.test(`${s.row.name} ${s.row.op}`)) : harness.tested;
    if (!rows) {
      this.#sequences = new Sequences(harness.tested);
      this.#noise = new Noise(harness.tested);
    }
  }

  get rows(): number {
    return this.#subjects.length;
  }

  /** One batch more; what the processors disagree about, shrunk. */
  batch(): Mismatch[] {
    const seed = this.#seeds.next(), kind = this.#batches++ % (SINGLES + 4);
    const single = (g: Generator, i: number): Case =>
      g.single(i, this.#subjects[this.#next++ % this.#subjects.length]!);
    const sequences = this.#sequences, noise = this.#noise;
    let make = single;
    if (sequences && (kind === SINGLES + 1 || kind === SINGLES + 2)) make = (g, i) => sequences.make(g, i);
    else if (sequences && kind === SINGLES + 3) make = (g, i) => sequences.make(g, i, true);
    else if (noise && kind === SINGLES) make = (g, i) => noise.make(g, i);
    return this.harness.batch(seed, make, kind === SINGLES + 3 ? COMPILED : CASES).map((m) => this.harness.shrink(m));
  }
}
