/** Segments that came before their turn, within bounds: they may overlap, so the receive window alone is none. */

const MAX_SEGMENTS = 64;

export class ReorderQueue {
  /** By sequence number. */
  readonly #segments: { readonly seq: number; readonly data: Uint8Array }[] = [];
  #bytes = 0;
  #latest = 0;

  constructor(private readonly maxBytes: number) {}

  get empty(): boolean {
    return this.#segments.length === 0;
  }

  /** Keeps a copy. What does not fit the guest sends again. */
  add(seq: number, data: Uint8Array): void {
    if (data.length === 0) return;
    let i = this.#segments.findIndex((s) => ((s.seq - seq) | 0) >= 0);
    if (i < 0) i = this.#segments.length;
    const found = this.#segments[i];
    const same = found && found.seq === seq ? found : null;
    const more = data.length - (same?.data.length ?? 0);
    if (more <= 0 || this.#bytes + more > this.maxBytes || (!same && this.#segments.length >= MAX_SEGMENTS)) return;
    this.#segments.splice(i, same ? 1 : 0, { seq, data: data.slice() });
    this.#bytes += more;
    this.#latest = seq;
  }

  /** Takes out what continues at `seq`; null if nothing does. */
  next(seq: number): Uint8Array | null {
    for (let first = this.#segments[0]; first; first = this.#segments[0]) {
      const ahead = (seq - first.seq) | 0;
      if (ahead < 0) return null;
      this.#segments.shift();
      this.#bytes -= first.data.length;
      if (ahead < first.data.length) return first.data.subarray(ahead);
    }
    return null;
  }

  /** The edges of what is here, in pairs: the stretch with the newest segment first [rfc2018 §4], `most` stretches at most. */
  edges(most: number): number[] {
    const stretches: { from: number; to: number }[] = [];
    let newest = 0;
    for (const { seq, data } of this.#segments) {
      const end = (seq + data.length) >>> 0, last = stretches.at(-1);
      if (last && ((seq - last.to) | 0) <= 0) {
        if (((end - last.to) | 0) > 0) last.to = end;
      } else stretches.push({ from: seq, to: end });
      if (seq === this.#latest) newest = stretches.length - 1;
    }
    const [first] = stretches.splice(newest, 1);
    return first ? [first, ...stretches].slice(0, most).flatMap(({ from, to }) => [from, to]) : [];
  }

  clear(): void {
    this.#segments.length = 0;
    this.#bytes = 0;
  }
}
