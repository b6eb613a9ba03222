/** What the machine counts, in shared memory: exits by kind and interrupts by vector, of each vCPU. Never saved. */
import type { Arena } from "../base/arena.ts";

/** Kinds of exit, by their slot. The names are those of `--stats`. */
export const Exit = {
  pioRead: 0,
  pioWrite: 1,
  mmioRead: 2,
  mmioWrite: 3,
  apicRead: 4,
  apicWrite: 5,
  msrRead: 6,
  msrWrite: 7,
  slice: 8,
  kick: 9,
  halt: 10,
  shutdown: 11,
  error: 12,
} as const;

const VECTORS_AT = 16;
const SLOTS = VECTORS_AT + 256;

export class Counters {
  readonly #all: Float64Array[];

  constructor(arena: Arena, cpus: number) {
    this.#all = Array.from({ length: cpus }, () => new Float64Array(arena.buffer, arena.raw(SLOTS * 8), SLOTS));
  }

  /** The slots of one vCPU, written by its own thread only: exits by `Exit`, then interrupts by vector. */
  of(vcpu: number): Float64Array {
    return this.#all[vcpu]!;
  }

  exits(): Record<string, number> {
    const sum: Record<string, number> = {};
    for (const [name, slot] of Object.entries(Exit)) sum[name] = this.#all.reduce((n, c) => n + c[slot]!, 0);
    return sum;
  }

  /** Interrupts taken, by vector as two hexadecimal digits; only vectors that were. */
  interrupts(): Record<string, number> {
    const sum: Record<string, number> = {};
    for (let vector = 0; vector < 256; vector++) {
      const n = this.#all.reduce((n, c) => n + c[VECTORS_AT + vector]!, 0);
      if (n > 0) sum[vector.toString(16).padStart(2, "0")] = n;
    }
    return sum;
  }

  static vectorSlot(vector: number): number {
    return VECTORS_AT + vector;
  }
}
