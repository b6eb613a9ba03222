/** Segments that came before their turn. They lie within the receive window, so they are no more than it. */

const MAX_SEGMENTS = 64;

export class ReorderQueue {
  /** By sequence number; they may overlap. */
  readonly #segments: { readonly seq: number; readonly data: Uint8Array }[] = [];

  get empty(): boolean {
    return this.#segments.length === 0;
  }

  /** Keeps a copy. What does not fit the guest sends again. */
  add(seq: number, data: Uint8Array): void {
    if (this.#segments.length >= MAX_SEGMENTS || data.length === 0) return;
    let i = this.#segments.findIndex((s) => ((s.seq - seq) | 0) >= 0);
    if (i < 0) i = this.#segments.length;
    const same = this.#segments[i];
    if (same && same.seq === seq) {
      if (same.data.length < data.length) this.#segments[i] = { seq, data: data.slice() };
      return;
    }
    this.#segments.splice(i, 0, { seq, data: data.slice() });
  }

  /** Takes out what continues at `seq`; null if nothing does. */
  next(seq: number): Uint8Array | null {
    for (let first = this.#segments[0]; first; first = this.#segments[0]) {
      const ahead = (seq - first.seq) | 0;
      if (ahead < 0) return null;
      this.#segments.shift();
      if (ahead < first.data.length) return first.data.subarray(ahead);
    }
    return null;
  }

  clear(): void {
    this.#segments.length = 0;
  }
}
