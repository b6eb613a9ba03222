/** The guest's end of one TCP connection, over a cable that may lose, double and reorder frames in both directions. */
import { FLAG } from "../../src/host/net/tcp_segment.ts";
import { type SeenTcp, settle, type TestGuest } from "./guest.ts";

export interface Trouble {
  /** Per cent of frames. */
  readonly loss: number;
  readonly double: number;
  readonly reorder: number;
}

const SYN_OPTIONS = [2, 4, 1460 >> 8, 1460 & 255, 1, 3, 3, 7];
const RESEND_MS = 300;

export class TcpDriver {
  readonly received: number[] = [];
  sawFin = false;
  reset = false;
  open = false;
  #next: number;
  #una: number;
  #rcvNext = 0;
  #sendable: Uint8Array;
  #finWanted: boolean;
  #finAcked = false;
  readonly #start: number;
  readonly #early = new Map<number, Uint8Array>();
  #peerFinAt = -1;
  #seed = 42;
  #held: Uint8Array[] = [];
  #lastProgressMs = 0;

  constructor(
    readonly guest: TestGuest,
    readonly to: number,
    readonly toPort: number,
    data: Uint8Array,
    readonly trouble: Trouble = { loss: 0, double: 0, reorder: 0 },
    readonly port = 40_000,
    fin = true,
  ) {
    this.#start = this.#next = this.#una = 5000;
    this.#sendable = data;
    this.#finWanted = fin;
  }

  #chance(percent: number): boolean {
    this.#seed = (Math.imul(this.#seed, 1664525) + 1013904223) >>> 0;
    return (this.#seed >>> 8) % 100 < percent;
  }

  #transmit(frame: Uint8Array): void {
    if (this.#chance(this.trouble.loss)) return;
    if (this.#chance(this.trouble.reorder)) {
      this.#held.push(frame);
      return;
    }
    this.guest.raw(frame);
    if (this.#chance(this.trouble.double)) this.guest.raw(frame);
    for (const late of this.#held.splice(0)) this.guest.raw(late);
  }

  #segment(seq: number, flags: number, data?: Uint8Array, options?: readonly number[]): void {
    const { port, to, toPort } = this;
    this.#transmit(this.guest.tcp({ port, to, toPort, seq: seq >>> 0, ack: this.#rcvNext, flags }, data, options));
  }

  connect(): void {
    this.#segment(this.#start, FLAG.SYN, undefined, SYN_OPTIONS);
  }

  get done(): boolean {
    return this.reset || (this.sawFin && this.#finAcked);
  }

  /** Runs to the end, or until so much time has passed. */
  async run(maxMs = 600_000): Promise<void> {
    this.connect();
    for (const end = this.guest.nowMs + maxMs; !this.done && this.guest.nowMs < end;) {
      await this.guest.pass(5);
      const frames = this.guest.takeTcp();
      for (const s of frames) {
        if (this.#chance(this.trouble.loss)) continue;
        this.#take(s);
        if (this.#chance(this.trouble.double)) this.#take(s);
      }
      this.#work();
      await settle();
    }
  }

  #take(s: SeenTcp): void {
    if (s.flags & FLAG.RST) {
      this.reset = true;
      return;
    }
    if (s.flags & FLAG.SYN) {
      if (!this.open) this.#rcvNext = (s.seq + 1) >>> 0;
      this.open = true;
      this.#una = this.#next = this.#start + 1;
      return this.#segment(this.#next, FLAG.ACK);
    }
    if (!this.open) return;
    if (s.ack > this.#una) {
      this.#una = s.ack;
      this.#next = Math.max(this.#next, s.ack);
      this.#lastProgressMs = this.guest.nowMs;
    }
    if (s.ack === this.#start + 1 + this.#sendable.length + 1) this.#finAcked = true;
    if (s.data.length > 0) this.#early.set(s.seq, s.data);
    if (s.flags & FLAG.FIN) this.#peerFinAt = (s.seq + s.data.length) >>> 0;
    for (let again = true; again;) {
      again = false;
      for (const [seq, data] of this.#early) {
        const skip = (this.#rcvNext - seq) | 0;
        if (skip < 0) continue;
        this.#early.delete(seq);
        if (skip >= data.length) continue;
        this.received.push(...data.subarray(skip));
        this.#rcvNext = (this.#rcvNext + data.length - skip) >>> 0;
        again = true;
      }
    }
    if (this.#peerFinAt === this.#rcvNext && !this.sawFin) {
      this.sawFin = true;
      this.#rcvNext = (this.#rcvNext + 1) >>> 0;
    }
    if (s.data.length > 0 || s.flags & FLAG.FIN) this.#segment(this.#next, FLAG.ACK);
  }

  /** Sends what is to be sent; goes back to the first unacknowledged byte when nothing moves. */
  #work(): void {
    if (!this.open) {
      if (this.guest.nowMs - this.#lastProgressMs > RESEND_MS) {
        this.#lastProgressMs = this.guest.nowMs;
        this.connect();
      }
      return;
    }
    if (this.guest.nowMs - this.#lastProgressMs > RESEND_MS) {
      this.#next = this.#una;
      this.#lastProgressMs = this.guest.nowMs;
    }
    const base = this.#start + 1, end = base + this.#sendable.length;
    for (let n = 0; n < 10 && this.#next < end && this.#next - this.#una < 60_000; n++) {
      const data = this.#sendable.subarray(this.#next - base, this.#next - base + 1460);
      this.#segment(this.#next, FLAG.ACK, data);
      this.#next += data.length;
    }
    if (this.#finWanted && this.#next === end) {
      this.#segment(this.#next, FLAG.ACK | FLAG.FIN);
      this.#next++;
    }
  }
}
