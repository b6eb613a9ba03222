/**
 * A byte ring between two threads: one writes, one reads, neither takes a lock.
 *
 * Layout in shared memory: [0] head (bytes ever written, mod 2^32), [4] tail (bytes ever read), [8] closed, then the bytes.
 * The writer wakes a waiting reader through `head`, the reader a waiting writer through `tail`.
 */
const HEADER = 64;

/** Where device models put bytes. */
export interface ByteSink {
  /** Bytes that can be taken now. */
  readonly space: number;
  /** Takes a byte; false if there is no room. */
  put(byte: number): boolean;
}

/** Where device models get bytes from. */
export interface ByteSource {
  /** Bytes waiting. */
  readonly available: number;
  /** The next byte, or -1. */
  get(): number;
}

export class ByteRing implements ByteSink, ByteSource {
  readonly #ctl: Int32Array;
  readonly #data: Uint8Array;
  readonly #mask: number;

  /** Bytes of shared memory for a ring of `capacity`, a power of two. */
  static sizeBytes(capacity: number): number {
    return HEADER + capacity;
  }

  constructor(buffer: ArrayBufferLike, at: number, capacity: number) {
    this.#ctl = new Int32Array(buffer, at, 3);
    this.#data = new Uint8Array(buffer, at + HEADER, capacity);
    this.#mask = capacity - 1;
  }

  static private(capacity = 4096): ByteRing {
    return new ByteRing(new SharedArrayBuffer(ByteRing.sizeBytes(capacity)), 0, capacity);
  }

  get available(): number {
    return (Atomics.load(this.#ctl, 0) - Atomics.load(this.#ctl, 1)) >>> 0;
  }

  get space(): number {
    return this.#mask + 1 - this.available;
  }

  get closed(): boolean {
    return Atomics.load(this.#ctl, 2) !== 0;
  }

  /** No more bytes will come; wakes the reader. */
  close(): void {
    Atomics.store(this.#ctl, 2, 1);
    Atomics.notify(this.#ctl, 0);
    Atomics.notify(this.#ctl, 1);
  }

  put(byte: number): boolean {
    if (this.space === 0) return false;
    const head = Atomics.load(this.#ctl, 0);
    this.#data[head & this.#mask] = byte;
    Atomics.store(this.#ctl, 0, (head + 1) | 0);
    Atomics.notify(this.#ctl, 0);
    return true;
  }

  get(): number {
    if (this.available === 0) return -1;
    const tail = Atomics.load(this.#ctl, 1);
    const byte = this.#data[tail & this.#mask]!;
    Atomics.store(this.#ctl, 1, (tail + 1) | 0);
    Atomics.notify(this.#ctl, 1);
    return byte;
  }

  /** Writes as much of `bytes` as fits; returns how much. */
  write(bytes: Uint8Array): number {
    const n = Math.min(bytes.length, this.space);
    const head = Atomics.load(this.#ctl, 0);
    for (let i = 0; i < n; i++) this.#data[(head + i) & this.#mask] = bytes[i]!;
    if (n > 0) {
      Atomics.store(this.#ctl, 0, (head + n) | 0);
      Atomics.notify(this.#ctl, 0);
    }
    return n;
  }

  /** Reads at most `max` bytes into a new array. */
  read(max = this.#mask + 1): Uint8Array {
    const n = Math.min(max, this.available);
    const tail = Atomics.load(this.#ctl, 1);
    const bytes = new Uint8Array(n);
    for (let i = 0; i < n; i++) bytes[i] = this.#data[(tail + i) & this.#mask]!;
    if (n > 0) {
      Atomics.store(this.#ctl, 1, (tail + n) | 0);
      Atomics.notify(this.#ctl, 1);
    }
    return bytes;
  }

  /** Blocks until there is something to read, the ring is closed, or `timeoutMs` has passed. */
  waitReadable(timeoutMs = Infinity): void {
    const head = Atomics.load(this.#ctl, 0);
    if (this.available > 0 || this.closed) return;
    Atomics.wait(this.#ctl, 0, head, timeoutMs);
  }

  /** Resolves when there is something to read, the ring is closed, or `timeoutMs` has passed: for threads with an event loop. */
  async whenReadable(timeoutMs = Infinity): Promise<void> {
    const head = Atomics.load(this.#ctl, 0);
    if (this.available > 0 || this.closed) return;
    await Atomics.waitAsync(this.#ctl, 0, head, timeoutMs).value;
  }

  /** Resolves when there is room to write, the ring is closed, or `timeoutMs` has passed. */
  async whenWritable(timeoutMs = Infinity): Promise<void> {
    const tail = Atomics.load(this.#ctl, 1);
    if (this.space > 0 || this.closed) return;
    await Atomics.waitAsync(this.#ctl, 1, tail, timeoutMs).value;
  }
}
