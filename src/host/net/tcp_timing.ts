/** How long to wait for an acknowledgment before a segment is sent again. Spec: [rfc6298]. */

const INITIAL_MS = 1000;
const LEAST_MS = 200;
const MOST_MS = 60_000;

export class RetransmissionTimer {
  #smoothed = -1;
  #variance = 0;
  #rto = INITIAL_MS;
  /** How often in a row it ran out. */
  expired = 0;
  // One segment is timed at a time, and never one that was sent twice.
  #timedSeq = -1;
  #timedAtMs = 0;

  get ms(): number {
    return Math.min(MOST_MS, this.#rto * 2 ** Math.min(16, this.expired));
  }

  /** A segment that ends before `seq` was sent for the first time. */
  sent(seq: number, nowMs: number): void {
    if (this.#timedSeq >= 0) return;
    this.#timedSeq = seq;
    this.#timedAtMs = nowMs;
  }

  /** Something is sent again: what its acknowledgment says about time is worth nothing. */
  resent(): void {
    this.#timedSeq = -1;
  }

  acknowledged(ack: number, nowMs: number): void {
    this.expired = 0;
    if (this.#timedSeq < 0 || ((ack - this.#timedSeq) | 0) < 0) return;
    const rtt = nowMs - this.#timedAtMs;
    this.#timedSeq = -1;
    if (this.#smoothed < 0) {
      this.#smoothed = rtt;
      this.#variance = rtt / 2;
    } else {
      this.#variance += (Math.abs(this.#smoothed - rtt) - this.#variance) / 4;
      this.#smoothed += (rtt - this.#smoothed) / 8;
    }
    this.#rto = Math.max(LEAST_MS, Math.min(MOST_MS, this.#smoothed + 4 * this.#variance));
  }
}
