/** What the guest has of what was sent, beyond what it acknowledges: selective acknowledgments. Spec: [rfc2018], [rfc6675 §3]. */
import { after } from "./tcp_parts.ts";

const MAX_RANGES = 32;

/** The ranges that the guest says it has, in order, apart from each other. */
export class Scoreboard {
  readonly #ranges: { from: number; to: number }[] = [];
  /** Where retransmission goes on. */
  #next = 0;

  get empty(): boolean {
    return this.#ranges.length === 0;
  }

  /** Holes from `una` on are sent again, each once. */
  start(una: number): void {
    this.#next = una;
  }

  /** Takes pairs of edges; what is not between `una` and `max` is no part of what was sent. */
  add(edges: readonly number[], una: number, max: number): void {
    for (let i = 0; i + 1 < edges.length; i += 2) {
      const from = edges[i]!, to = edges[i + 1]!;
      if (after(una, from) || after(to, max) || !after(to, from)) continue;
      this.#insert(from, to);
    }
  }

  #insert(from: number, to: number): void {
    const ranges = this.#ranges;
    let first = 0;
    while (first < ranges.length && after(from, ranges[first]!.to)) first++;
    let end = first;
    while (end < ranges.length && !after(ranges[end]!.from, to)) {
      const r = ranges[end++]!;
      if (after(from, r.from)) from = r.from;
      if (after(r.to, to)) to = r.to;
    }
    if (end === first && ranges.length >= MAX_RANGES) return;
    ranges.splice(first, end - first, { from, to });
  }

  /** Everything before `una` has been acknowledged. */
  advance(una: number): void {
    while (this.#ranges.length > 0 && !after(this.#ranges[0]!.to, una)) this.#ranges.shift();
    if (after(una, this.#next)) this.#next = una;
  }

  /** The next hole below what the guest has, `most` bytes of it at most, and never the same again; null if there is none. */
  hole(most: number): { seq: number; bytes: number } | null {
    for (const { from, to } of this.#ranges) {
      if (after(from, this.#next)) {
        const seq = this.#next, bytes = Math.min(most, (from - seq) >>> 0);
        this.#next = (seq + bytes) >>> 0;
        return { seq, bytes };
      }
      if (after(to, this.#next)) this.#next = to;
    }
    return null;
  }

  clear(): void {
    this.#ranges.length = 0;
  }
}
