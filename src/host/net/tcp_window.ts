/** How much the guest is willing to take, by the newest of its segments that says so [rfc9293 §3.10.7.4]. */
import { after } from "./tcp_parts.ts";
import type { Segment } from "./tcp_segment.ts";

export class SendWindow {
  bytes = 0;
  #scale = 0;
  #seq = 0;
  #ack = 0;

  /** A SYN's own window is never scaled [rfc7323 §2.2]. */
  start(syn: Segment): void {
    this.#scale = Math.max(0, syn.windowScale);
    this.#set(syn, syn.window);
  }

  /** What a segment says the window is. */
  of(s: Segment): number {
    return s.window << this.#scale >>> 0;
  }

  isNewer(s: Segment): boolean {
    return after(s.seq, this.#seq) || (s.seq === this.#seq && !after(this.#ack, s.ack));
  }

  /** True if it was shut and no longer is. */
  update(s: Segment): boolean {
    const before = this.bytes;
    this.#set(s, this.of(s));
    return before === 0 && this.bytes > 0;
  }

  #set(s: Segment, bytes: number): void {
    this.bytes = bytes;
    this.#seq = s.seq;
    this.#ack = s.ack;
  }
}
