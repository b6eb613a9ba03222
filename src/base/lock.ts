/**
 * The machine lock: whoever touches a device record holds it. One word of shared memory: 0 free, 1 held, 2 held with waiters.
 * Not recursive; never held across host I/O or a wait.
 */
export class MachineLock {
  constructor(private readonly words: Int32Array, private readonly index = 0) {}

  static private(): MachineLock {
    return new MachineLock(new Int32Array(new SharedArrayBuffer(4)));
  }

  acquire(): void {
    const w = this.words, i = this.index;
    if (Atomics.compareExchange(w, i, 0, 1) === 0) return;
    while (Atomics.exchange(w, i, 2) !== 0) Atomics.wait(w, i, 2);
  }

  release(): void {
    if (Atomics.exchange(this.words, this.index, 0) === 2) Atomics.notify(this.words, this.index, 1);
  }

  /** Runs `body` under the lock. Not for hot paths: it takes a closure. */
  with<T>(body: () => T): T {
    this.acquire();
    try {
      return body();
    } finally {
      this.release();
    }
  }
}
