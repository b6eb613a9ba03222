/** Reassembly [rfc815]: few packets at a time, each for a while, so that fragments never fill the memory. */

const MAX_PACKETS = 16;
const TIMEOUT_MS = 30_000; // [rfc1122 §3.3.2] allows 60 to 120 s for paths longer than a cable
const MAX_PAYLOAD = 65535 - 20;

interface Partial {
  readonly bytes: Uint8Array;
  /** 1 for every 8 bytes that have come. */
  readonly have: Uint8Array;
  count: number;
  /** -1 until the last fragment has come. */
  sizeBytes: number;
  readonly untilMs: number;
}

export class Reassembler {
  readonly #packets = new Map<string, Partial>();

  /** With `strict`, fragments that overlap are the end of their packet [rfc5722 §3]. */
  constructor(private readonly now: () => number, private readonly strict: boolean = false) {}

  /** Takes a fragment of the packet that `name` tells from others; the whole payload once it is there. */
  add(name: string, offset: number, last: boolean, payload: Uint8Array): Uint8Array | null {
    const end = offset + payload.length;
    if (end > MAX_PAYLOAD || payload.length === 0 || (!last && payload.length % 8 !== 0)) return null;
    const nowMs = this.now();
    let p = this.#packets.get(name);
    if (p && p.untilMs <= nowMs) {
      this.#packets.delete(name);
      p = undefined;
    }
    if (!p) {
      if (this.#packets.size >= MAX_PACKETS) this.#packets.delete(this.#packets.keys().next().value!);
      p = {
        bytes: new Uint8Array(MAX_PAYLOAD + 7),
        have: new Uint8Array(Math.ceil(MAX_PAYLOAD / 8)),
        count: 0,
        sizeBytes: -1,
        untilMs: nowMs + TIMEOUT_MS,
      };
      this.#packets.set(name, p);
    }
    // Two ends, or bytes behind the end: somebody lies, and no part of it can be trusted.
    if (last ? p.sizeBytes >= 0 && p.sizeBytes !== end : p.sizeBytes >= 0 && end > p.sizeBytes) {
      this.#packets.delete(name);
      return null;
    }
    if (last) p.sizeBytes = end;
    p.bytes.set(payload, offset);
    for (let block = offset / 8; block * 8 < end; block++) {
      if (this.strict && p.have[block]) {
        this.#packets.delete(name);
        return null;
      }
      p.count += 1 - p.have[block]!;
      p.have[block] = 1;
    }
    if (p.sizeBytes < 0 || p.count < Math.ceil(p.sizeBytes / 8)) return null;
    this.#packets.delete(name);
    return p.count === Math.ceil(p.sizeBytes / 8) ? p.bytes.slice(0, p.sizeBytes) : null;
  }

  clear(): void {
    this.#packets.clear();
  }
}
