/** What fuzzing means here: which batches, in which order, from one seed. The runner and the test share it. */
import { CASES } from "./arena.ts";
import type { Harness, Mismatch } from "./harness.ts";
import type { Case, Generator } from "./generate.ts";
import { Noise } from "./noise.ts";
import { Random } from "./random.ts";
import { Sequences } from "./sequence.ts";
import type { Subject } from "./which.ts";

type Kind = "single" | "compiled" | "legacy" | "prefixes" | "sequence" | "loop";
/** A round of batches. */
const ROUND: readonly Kind[] = [
  "single",
  "single",
  "legacy",
  "sequence",
  "single",
  "prefixes",
  "legacy",
  "single",
  "sequence",
  "loop",
  "compiled",
];
/** Cases in a batch where each is compiled. */
const COMPILED = 32;

/** Takes one after the other, round and round. */
class Turns {
  #next = 0;
  constructor(readonly list: readonly Subject[]) {}
  take(): Subject {
    return this.list[this.#next++ % this.list.length]!;
  }
}

export class Fuzz {
  readonly #seeds: Random;
  readonly #single: Turns;
  readonly #legacy: Turns;
  readonly #compiled: Turns;
  readonly #sequences: Sequences | undefined;
  readonly #noise: Noise | undefined;
  #batches = 0;

  /** `rows`: only those whose name and opcode match; then sequences and prefixes are left out. */
  constructor(readonly harness: Harness, seed: number, rows?: RegExp) {
    this.#seeds = new Random(seed);
    const some = (list: readonly Subject[]) => rows ? list.filter((s) => rows.test(`${s.row.name} ${s.row.op}`)) : list;
    this.#single = new Turns(some(harness.tested));
    this.#compiled = new Turns(some(harness.tested));
    this.#legacy = new Turns(some(harness.testedLegacy));
    if (!rows) {
      this.#sequences = new Sequences(harness.tested);
      this.#noise = new Noise(harness.tested);
    }
  }

  /** Rows taking part, in 64-bit and in 32-bit code. */
  get rows(): [number, number] {
    return [this.#single.list.length, this.#legacy.list.length];
  }

  /** One batch more; what the processors disagree about, shrunk. */
  batch(): Mismatch[] {
    const seed = this.#seeds.next(), kind = ROUND[this.#batches++ % ROUND.length]!;
    return this.#run(kind, seed).map((m) => this.harness.shrink(m));
  }

  #run(kind: Kind, seed: number): Mismatch[] {
    const { harness } = this, sequences = this.#sequences, noise = this.#noise;
    if (sequences && kind === "sequence") return harness.batch(seed, (g, i) => sequences.make(g, i));
    if (sequences && kind === "loop") return harness.batch(seed, (g, i) => sequences.make(g, i, true), COMPILED);
    if (noise && kind === "prefixes") return harness.batch(seed, (g, i) => noise.make(g, i));
    if (kind === "compiled" && this.#compiled.list.length > 0) {
      const make = (g: Generator, i: number): Case => {
        g.compiled = true;
        return g.single(i, this.#compiled.take());
      };
      return harness.batch(seed, make, COMPILED);
    }
    const legacy = this.#legacy.list.length > 0 && (kind === "legacy" || this.#single.list.length === 0);
    const turns = legacy ? this.#legacy : this.#single;
    if (turns.list.length === 0) return [];
    return harness.batch(seed, (g, i) => g.single(i, turns.take()), CASES, legacy);
  }
}
