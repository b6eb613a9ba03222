/**
 * The words by which a machine and the Worker of a service (shared folders, vsock, the balloon) steer each other.
 *
 * No snapshot holds them. Every word may be touched without the machine lock.
 */
import type { Arena } from "../base/arena.ts";

const DOORBELL = 0, PENDING = 1, QUIT = 2, HOLD = 3, HELD = 4, ASKED = 5, WORDS = 16;

/** Bits of PENDING that say the guest has let go of a device, from here on up; below are those with requests. */
export const RESET_SHIFT = 8;
const EVERYTHING = (1 << RESET_SHIFT) - 1;

export class ServiceBell {
  readonly #words: Int32Array;

  constructor(arena: Arena) {
    this.#words = new Int32Array(arena.buffer, arena.raw(WORDS * 4), WORDS);
  }

  /** There is something to look at. */
  ring(bits: number): void {
    Atomics.or(this.#words, PENDING, bits);
    Atomics.add(this.#words, DOORBELL, 1);
    Atomics.notify(this.#words, DOORBELL);
  }

  /** Of the machine: the Worker is to leave the guest's memory alone; resolves once it does. */
  async hold(): Promise<void> {
    Atomics.store(this.#words, HOLD, 1);
    this.ring(0);
    while (Atomics.load(this.#words, HELD) === 0) await Atomics.waitAsync(this.#words, HELD, 0, 100).value;
  }

  /** It may go on; `reset` tells it that the guest starts anew. */
  release(reset: boolean): void {
    Atomics.store(this.#words, HELD, 0);
    Atomics.store(this.#words, HOLD, 0);
    this.ring(reset ? EVERYTHING | (EVERYTHING << RESET_SHIFT) : EVERYTHING);
  }

  /** Of the machine, while the Worker holds still: it is to say what a snapshot has to keep of it. */
  ask(): void {
    Atomics.store(this.#words, ASKED, 1);
    this.ring(0);
  }

  quit(): void {
    Atomics.store(this.#words, QUIT, 1);
    this.ring(0);
  }

  // Of the Worker.

  /** Read before the words it counts, so that a later ring ends the wait at once. */
  get count(): number {
    return Atomics.load(this.#words, DOORBELL);
  }
  get quitting(): boolean {
    return Atomics.load(this.#words, QUIT) !== 0;
  }
  get holding(): boolean {
    return Atomics.load(this.#words, HOLD) !== 0;
  }

  /** Whether it was asked since the last time. */
  takeAsked(): boolean {
    return Atomics.exchange(this.#words, ASKED, 0) !== 0;
  }

  /** Takes what has rung; while the machine is to stand still it is nothing, and the machine is told so. */
  take(): number {
    if (!this.holding) return Atomics.exchange(this.#words, PENDING, 0);
    Atomics.store(this.#words, HELD, 1);
    Atomics.notify(this.#words, HELD);
    return 0;
  }

  /** Blocks until it rings again, or `ms` have passed. */
  wait(count: number, ms = Infinity): void {
    Atomics.wait(this.#words, DOORBELL, count, ms);
  }

  /** The same for threads with an event loop, which has its turn in any case. */
  async waitAsync(count: number): Promise<void> {
    const wait = Atomics.waitAsync(this.#words, DOORBELL, count);
    await (wait.async ? wait.value : new Promise<void>((resolve) => setImmediate(resolve)));
  }
}
