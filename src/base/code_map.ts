/**
 * Which pages of guest RAM hold bytes that software vCPUs have decoded, and what each of them must forget.
 *
 * Shared memory: a header, a word a vCPU, a ring of notices, and one byte a page of RAM: how many vCPUs hold decoded code of
 * it. `wrote` is for devices, loaders and back ends, on any thread; a vCPU drains the ring before it relies on decoded code
 * again. vCPUs among themselves are stricter, because programs are: what one of them stores is never executed stale by
 * another that reads the store. Two rules make it so, both under one lock, which is held until every other vCPU has obeyed or
 * rests (it looks at the ring before it runs guest code again):
 *
 * - `claim`: before a vCPU decodes a page it does not hold, all others take away their right to write there unnoticed.
 * - `evict`: before a vCPU writes to a page that others hold, they forget what they decoded of it.
 *
 * Whoever waits for the lock does what others ask of it meanwhile, so nobody waits for a vCPU that waits.
 */
const RING = 4096;
const PAGE_SHIFT = 12;
const MAX_VCPUS = 64;

/** Header words. */
const COUNT = 0, LOCK = 1, SPLIT_LOCK = 2, POST_LOCK = 3, WAITERS = 4;
/** Words of a vCPU: what `report` says; the page it waits for + 1. */
const WAITS = 1;
const HEADER_BYTES = 64, LINE_BYTES = 64;
const VCPUS_AT = HEADER_BYTES, RING_AT = VCPUS_AT + MAX_VCPUS * LINE_BYTES, PAGES_AT = RING_AT + RING * 4;
/** A notice: the page, whether it was claimed (else it was written), and the vCPU that says so + 1 (0: not a vCPU). */
const PAGE_MASK = (1 << 20) - 1, CLAIMED = 1 << 20, FROM_SHIFT = 21;
/** How long a waiter sleeps before it looks at what others ask of it. */
const PATIENCE_MS = 0.1;

export interface NoticeHandler {
  /** A device wrote to the page: what was decoded of it is stale, and is to be released. */
  stale(page: number): void;
  /** Another vCPU writes to the page: what was decoded of it is stale, and counts as released. */
  evicted(page: number): void;
  /** Another vCPU is about to decode the page: writes to it must be noticed from now on. */
  claimed(page: number): void;
  /** Notices were lost: every page may have been written and claimed, and counts as released; `evict` sets it right. */
  everything(): void;
}

export class CodeMap {
  /** One byte a page: how many vCPUs hold decoded code of it. */
  readonly pages: Uint8Array;
  readonly #header: Int32Array;
  /** A word a vCPU, on a cache line of its own: notices seen × 2 + 1 while it runs guest code. */
  readonly #vcpus: Int32Array;
  readonly #ring: Int32Array;

  /** Called in the thread that writes, for each vCPU that waits for a write to the page. */
  onAwaited: (vcpu: number) => void = () => {};

  /** Bytes of shared memory for RAM of `ramBytes`. */
  static sizeBytes(ramBytes: number): number {
    return PAGES_AT + Math.ceil(ramBytes / (1 << PAGE_SHIFT));
  }

  constructor(buffer: ArrayBufferLike, readonly at: number, ramBytes: number) {
    this.#header = new Int32Array(buffer, at, HEADER_BYTES / 4);
    this.#vcpus = new Int32Array(buffer, at + VCPUS_AT, MAX_VCPUS * LINE_BYTES / 4);
    this.#ring = new Int32Array(buffer, at + RING_AT, RING);
    this.pages = new Uint8Array(buffer, this.pagesAt, Math.ceil(ramBytes / (1 << PAGE_SHIFT)));
  }

  /** Where the page bytes start in the buffer. */
  get pagesAt(): number {
    return this.at + PAGES_AT;
  }

  /** Where the word is that serialises locked accesses across two words (cpu/x86/locked.ts). */
  get splitLockAt(): number {
    return this.at + SPLIT_LOCK * 4;
  }

  /** Bytes of RAM were written by somebody who is not a vCPU. */
  wrote(gpa: number, sizeBytes: number): void {
    if (sizeBytes <= 0) return;
    const last = Math.floor((gpa + sizeBytes - 1) / (1 << PAGE_SHIFT));
    for (let page = Math.floor(gpa / (1 << PAGE_SHIFT)); page <= last; page++) {
      if (Atomics.load(this.pages, page) !== 0) this.#post(page);
    }
  }

  #post(what: number): void {
    const h = this.#header;
    while (Atomics.compareExchange(h, POST_LOCK, 0, 1) !== 0) Atomics.wait(h, POST_LOCK, 1, PATIENCE_MS);
    const n = h[COUNT]!;
    Atomics.store(this.#ring, n & (RING - 1), what);
    Atomics.store(h, COUNT, (n + 1) | 0);
    Atomics.store(h, POST_LOCK, 0);
    // After the count: who waits has said so before it looked at that for the last time.
    if (Atomics.load(h, WAITERS) === 0 || what & CLAIMED) return;
    for (let vcpu = 0; vcpu < MAX_VCPUS; vcpu++) {
      if (Atomics.load(this.#vcpus, vcpu * (LINE_BYTES / 4) + WAITS) === (what & PAGE_MASK) + 1) this.onAwaited(vcpu);
    }
  }

  /** Notices ever posted, mod 2^32: a vCPU compares it with what it has seen. */
  get count(): number {
    return Atomics.load(this.#header, COUNT);
  }

  /** Hands vCPU `vcpu` the notices since `seen` that are not its own; returns the new `seen`. */
  drain(seen: number, vcpu: number, handler: NoticeHandler): number {
    for (const count = this.count; seen !== count; seen = (seen + 1) | 0) {
      const what = Atomics.load(this.#ring, seen & (RING - 1));
      const now = this.count;
      if (((now - seen) >>> 0) >= RING) {
        // The ring has lapped.
        handler.everything();
        return now;
      }
      if (what >>> FROM_SHIFT === vcpu + 1) continue;
      if (what & CLAIMED) handler.claimed(what & PAGE_MASK);
      else if (what >>> FROM_SHIFT !== 0) handler.evicted(what & PAGE_MASK);
      else handler.stale(what & PAGE_MASK);
    }
    return seen;
  }

  /** vCPU `vcpu` has done what the notices up to `seen` ask; whether it runs guest code from now on. */
  report(vcpu: number, seen: number, running: boolean): void {
    const at = vcpu * (LINE_BYTES / 4), word = (seen << 1) | (running ? 1 : 0);
    if (Atomics.exchange(this.#vcpus, at, word) !== word && Atomics.load(this.#header, LOCK) !== 0) {
      Atomics.notify(this.#vcpus, at);
    }
  }

  /** vCPU `vcpu` sleeps until somebody else writes to a page that it holds, or no longer (-1). */
  wait(vcpu: number, page: number): void {
    const old = Atomics.exchange(this.#vcpus, vcpu * (LINE_BYTES / 4) + WAITS, page + 1);
    Atomics.add(this.#header, WAITERS, (page >= 0 ? 1 : 0) - (old > 0 ? 1 : 0));
  }

  /** vCPU `vcpu` of `vcpus` will decode the page, and hold it until `release`. `meanwhile` does what notices ask of it. */
  claim(page: number, vcpu: number, vcpus: number, meanwhile: () => void): void {
    if (vcpus === 1) {
      Atomics.add(this.pages, page, 1);
      return;
    }
    this.#acquire(meanwhile);
    Atomics.add(this.pages, page, 1);
    this.#post(page | CLAIMED | ((vcpu + 1) << FROM_SHIFT));
    this.#await(vcpu, vcpus);
    this.#unlock();
  }

  /** One holder less. */
  release(page: number): void {
    Atomics.sub(this.pages, page, 1);
  }

  /**
   * vCPU `vcpu` of `vcpus` will write to these pages, which others hold, before it looks at notices again. Afterwards nobody
   * else counts as a holder, not even one that rests and has yet to hear of it. `holds` tells whether the writer itself does.
   */
  evict(
    first: number,
    second: number,
    vcpu: number,
    vcpus: number,
    meanwhile: () => void,
    holds: (page: number) => boolean,
  ): void {
    this.#acquire(meanwhile);
    const from = (vcpu + 1) << FROM_SHIFT;
    this.#post(first | from);
    if (second !== first) this.#post(second | from);
    this.#await(vcpu, vcpus);
    for (const page of [first, second]) Atomics.store(this.pages, page, holds(page) ? 1 : 0);
    this.#unlock();
  }

  #acquire(meanwhile: () => void): void {
    while (Atomics.compareExchange(this.#header, LOCK, 0, 1) !== 0) {
      meanwhile();
      Atomics.wait(this.#header, LOCK, 1, PATIENCE_MS);
    }
  }
  #unlock(): void {
    Atomics.store(this.#header, LOCK, 0);
    Atomics.notify(this.#header, LOCK, 1);
  }

  /** Waits until every other vCPU has seen what was posted so far, or rests. */
  #await(vcpu: number, vcpus: number): void {
    const count = this.count;
    for (let i = 0; i < vcpus; i++) {
      if (i === vcpu) continue;
      const at = i * (LINE_BYTES / 4);
      for (;;) {
        const word = Atomics.load(this.#vcpus, at);
        // Both counts modulo 2^31.
        if ((word & 1) === 0 || ((word >> 1) - count) << 1 >= 0) break;
        Atomics.wait(this.#vcpus, at, word, PATIENCE_MS);
      }
    }
  }
}
