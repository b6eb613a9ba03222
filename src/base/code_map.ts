/**
 * Which pages of guest RAM hold bytes that a software vCPU has decoded, and which of those somebody else has since written.
 *
 * Shared memory: one byte a page of RAM (1: decoded), and a ring of page numbers written from outside a vCPU. `wrote` is for
 * devices, loaders and back ends, on any thread; a vCPU drains the ring before it relies on decoded code again.
 */
const RING = 4096;
const PAGE_SHIFT = 12;

export class CodeMap {
  /** One byte a page; the software CPU reads and sets these. */
  readonly pages: Uint8Array;
  /** [0] pages ever queued, mod 2^32. */
  readonly #count: Int32Array;
  readonly #ring: Int32Array;

  /** Bytes of shared memory for RAM of `ramBytes`. */
  static sizeBytes(ramBytes: number): number {
    return 64 + RING * 4 + Math.ceil(ramBytes / (1 << PAGE_SHIFT));
  }

  constructor(buffer: ArrayBufferLike, readonly at: number, ramBytes: number) {
    this.#count = new Int32Array(buffer, at, 1);
    this.#ring = new Int32Array(buffer, at + 64, RING);
    this.pages = new Uint8Array(buffer, this.pagesAt, Math.ceil(ramBytes / (1 << PAGE_SHIFT)));
  }

  /** Where the page bytes start in the buffer. */
  get pagesAt(): number {
    return this.at + 64 + RING * 4;
  }

  /** Bytes of RAM were written by somebody who is not a vCPU. */
  wrote(gpa: number, sizeBytes: number): void {
    if (sizeBytes <= 0) return;
    const last = Math.floor((gpa + sizeBytes - 1) / (1 << PAGE_SHIFT));
    for (let page = Math.floor(gpa / (1 << PAGE_SHIFT)); page <= last; page++) {
      if (this.pages[page] === 0) continue;
      const n = Atomics.add(this.#count, 0, 1);
      Atomics.store(this.#ring, n & (RING - 1), page);
    }
  }

  /** Pages ever queued, mod 2^32: a vCPU compares it with what it has seen. */
  get count(): number {
    return Atomics.load(this.#count, 0);
  }

  /** Calls `stale` for every page queued since `seen`, or with -1 (everything) if the ring has lapped; returns the new `seen`. */
  drain(seen: number, stale: (page: number) => void): number {
    const count = this.count;
    const pending = (count - seen) >>> 0;
    if (pending > RING - 64) stale(-1);
    else for (let i = 0; i < pending; i++) stale(Atomics.load(this.#ring, (seen + i) & (RING - 1)));
    return count;
  }
}
