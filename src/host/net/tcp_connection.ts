/**
 * One TCP connection: the guest's peer, and the host's socket behind it.
 *
 * Spec: [rfc9293], recovery [rfc5681 §3.2], [rfc6582] and, with SACK, [rfc6675], timing [rfc6298], blind attacks [rfc5961 §3.2] and §4.2.
 * Between here and the guest is a queue that loses nothing, so there is no congestion to control: the window opens at once,
 * and only after a loss does it start small.
 *
 * Bytes from the guest are acknowledged when they are queued for the host's socket, and the window is what that queue has
 * left: back-pressure goes through. The queue to the guest stops reads from the socket in the same way.
 */
import { ByteQueue } from "./byte_queue.ts";
import type { HostStream } from "./host_sockets.ts";
import { HostSide } from "./tcp_host.ts";
import {
  acceptable,
  after,
  type ConnectionParts,
  DEFAULT_MSS,
  LEAST_MSS,
  mostCut,
  type Phase,
  WINDOW_SCALE,
} from "./tcp_parts.ts";
import { ReorderQueue } from "./tcp_reorder.ts";
import { Scoreboard } from "./tcp_sack.ts";
import { FLAG, type Segment } from "./tcp_segment.ts";
import { RetransmissionTimer } from "./tcp_timing.ts";
import { SendWindow } from "./tcp_window.ts";

const DELAYED_ACK_MS = 40;
const TIME_WAIT_MS = 2000; // two lives of a segment, on a cable
const MAX_EXPIRED = 8;
/** A half-closed connection whose other half says nothing. */
const FIN_WAIT_MS = 120_000;
const DUPLICATES = 3;
/** As many as a header has room for. */
const MAX_SACK_BLOCKS = 4;

export class TcpConnection {
  phase: Phase;
  readonly #host: HostSide;
  readonly #rtx = new RetransmissionTimer();
  // Towards the guest. Everything between #una and #max has been sent once; #next is where sending goes on.
  readonly #out: ByteQueue;
  #una: number;
  #next: number;
  #max: number;
  readonly #window = new SendWindow();
  #sack = false;
  readonly #has = new Scoreboard();
  #mss = DEFAULT_MSS;
  #congestion = Infinity;
  #duplicates = 0;
  /** In fast recovery: up to where it lasts. */
  #recover = -1;
  /** Timeouts since the guest last said something. */
  #unanswered = 0;
  #hostEof = false;
  // From the guest.
  readonly #in: ByteQueue;
  readonly #early: ReorderQueue;
  #rcvNext = 0;
  #advertised = 0;
  #ownScale = -1;
  #guestFin = false;
  /** Its FIN came before ours went. */
  #guestFirst = false;
  #unacknowledged = 0;
  #ackNow = false;
  #wasTouched = false;
  // Deadlines, Infinity if none.
  #resendAt = Infinity;
  #ackAt = Infinity;
  #endAt = Infinity;

  private constructor(readonly p: ConnectionParts, stream: HostStream, phase: Phase) {
    this.phase = phase;
    this.#out = new ByteQueue(p.bufferBytes);
    this.#in = new ByteQueue(p.bufferBytes);
    this.#early = new ReorderQueue(p.bufferBytes);
    this.#una = this.#next = this.#max = p.initialSeq;
    this.#host = new HostSide(stream, this.#out, this.#in, {
      came: (end) => {
        this.#hostEof = end;
        this.#output();
      },
      took: () => this.#windowMayOpen(),
      finished: () => this.#bothDone(),
      failed: () => this.abort(),
    });
  }

  /** Answers the guest's SYN, now that the host's side is there. */
  static accept(p: ConnectionParts, host: HostStream, syn: Segment): TcpConnection {
    const c = new TcpConnection(p, host, "syn-received");
    c.#rcvNext = c.#advertised = (syn.seq + 1) >>> 0;
    c.#learn(syn);
    c.#sendSyn();
    return c;
  }

  /** Connects to the guest for a client of a published port. */
  static open(p: ConnectionParts, host: HostStream): TcpConnection {
    const c = new TcpConnection(p, host, "syn-sent");
    c.#ownScale = WINDOW_SCALE;
    c.#sack = true;
    c.#sendSyn();
    return c;
  }

  get deadlineMs(): number {
    return Math.min(this.#resendAt, this.#ackAt, this.#endAt);
  }

  /** What a SYN says, with or without ACK. */
  #learn(syn: Segment): void {
    this.#mss = Math.max(LEAST_MSS, Math.min(this.p.mss, syn.mss || DEFAULT_MSS));
    this.#ownScale = syn.windowScale < 0 ? -1 : WINDOW_SCALE;
    this.#sack = syn.sackPermitted;
    this.#window.start(syn);
  }

  #sendSyn(): void {
    const answer = this.phase === "syn-received";
    this.#next = this.#max = (this.#una + 1) >>> 0;
    this.#emit(FLAG.SYN | (answer ? FLAG.ACK : 0), this.#una, 0);
    this.#rtx.sent(this.#next, this.p.now());
    this.#armResend();
  }

  // Segments from the guest [rfc9293 §3.10.7].

  receive(s: Segment): void {
    if (this.phase === "closed") return;
    if (this.phase === "syn-sent") return this.#receiveInSynSent(s);
    if (!acceptable(s, this.#rcvNext, this.#advertised)) {
      if (!(s.flags & FLAG.RST)) this.#acknowledge();
      return;
    }
    if (s.flags & FLAG.RST) {
      // Only the very next number proves that it is no guess.
      if (s.seq === this.#rcvNext) this.#end();
      else this.#acknowledge();
      return;
    }
    if (s.flags & FLAG.SYN) return this.#acknowledge();
    if (!(s.flags & FLAG.ACK)) return;
    this.#unanswered = 0;
    if (this.phase === "syn-received") {
      if (after(s.ack, this.#max) || !after(s.ack, this.#una)) return this.#emit(FLAG.RST, s.ack, 0);
      this.#established(s);
    }
    if (after(s.ack, this.#max)) return this.#acknowledge();
    this.#takeAck(s);
    if (this.phase as Phase === "closed") return;
    this.#takeData(s);
    this.#output();
  }

  #receiveInSynSent(s: Segment): void {
    const acked = (s.flags & FLAG.ACK) !== 0;
    if (acked && s.ack !== this.#max) {
      if (!(s.flags & FLAG.RST)) this.#emit(FLAG.RST, s.ack, 0);
      return;
    }
    if (s.flags & FLAG.RST) {
      if (acked) this.#end();
      return;
    }
    // Both ends calling each other at once is legal and does not happen: the guest's SYN goes to a port of ours.
    if (!(s.flags & FLAG.SYN) || !acked) return;
    this.#rcvNext = this.#advertised = (s.seq + 1) >>> 0;
    this.#learn(s);
    this.#established(s);
    this.#acknowledge();
  }

  #established(s: Segment): void {
    this.phase = "open";
    this.#rtx.acknowledged(s.ack, this.p.now());
    this.#resendAt = Infinity;
    this.#una = (this.p.initialSeq + 1) >>> 0;
    if (!(s.flags & FLAG.SYN)) this.#setWindow(s);
    void this.#host.read();
  }

  #setWindow(s: Segment): void {
    if (!this.#window.update(s)) return;
    this.#rtx.expired = 0;
    this.#resendAt = Infinity; // until something is sent
  }

  #takeAck(s: Segment): void {
    const acked = (s.ack - this.#una) | 0;
    if (this.#sack && s.sack.length > 0) this.#has.add(s.sack, this.#una, this.#max);
    if (acked > 0) {
      this.#advance(s.ack, acked);
      if (this.phase === "closed") return;
    } else if (
      acked === 0 && s.data.length === 0 && !(s.flags & FLAG.FIN) && this.#max !== this.#una &&
      this.#window.bytes > 0 && this.#window.of(s) === this.#window.bytes
    ) {
      if (this.#recover >= 0) this.#resendHole(); // one has left, another may go
      else if (++this.#duplicates === DUPLICATES) this.#fastRetransmit();
    }
    if (acked >= 0 && this.#window.isNewer(s)) this.#setWindow(s);
  }

  #advance(ack: number, acked: number): void {
    this.#out.consume(Math.min(acked, this.#out.length)); // one more is the FIN's
    this.#has.advance(ack);
    this.#una = ack;
    if (after(ack, this.#next)) this.#next = ack;
    this.#rtx.acknowledged(ack, this.p.now());
    this.#duplicates = 0;
    this.#congestion += acked;
    if (this.#recover >= 0) {
      if (after(this.#recover, ack)) this.#resendNext(); // a part: the next hole
      else this.#recover = -1;
    }
    this.#resendAt = Infinity;
    if (this.#una !== this.#max) this.#armResend();
    else this.#congestion = Infinity;
    this.#host.drained();
    if (this.#finAcked) this.#bothDone();
  }

  /** The sequence number behind the last byte there is for the guest, and whether its FIN is acknowledged. */
  get #finAcked(): boolean {
    return this.#hostEof && this.#out.length === 0 && this.#una === this.#max && this.#finSent;
  }
  #finSent = false;

  #fastRetransmit(): void {
    this.#recover = this.#max;
    this.#congestion = Math.max(2 * this.#mss, ((this.#max - this.#una) >>> 0) / 2);
    this.#has.start(this.#una);
    this.#resendNext();
    this.#armResend();
  }

  #resendNext(): void {
    if (!this.#resendHole() && this.#has.empty) this.#resendFirst();
  }

  /** Sends again what the guest lacks before something it has; false if it does not tell. */
  #resendHole(): boolean {
    const hole = this.#has.hole(this.#mss);
    if (!hole) return false;
    this.#rtx.resent();
    const offset = (hole.seq - this.#una) >>> 0;
    const n = Math.min(hole.bytes, this.#out.length - offset);
    if (n > 0) this.#emit(FLAG.ACK, hole.seq, n);
    return n > 0;
  }

  #resendFirst(): void {
    this.#rtx.resent();
    const n = Math.min(this.#mss, this.#out.length);
    if (n > 0) this.#emit(FLAG.ACK, this.#una, n);
    else if (this.#finSent) this.#emit(FLAG.ACK | FLAG.FIN, this.#una, 0);
  }

  #takeData(s: Segment): void {
    if (this.#guestFin) {
      // A FIN again: the answer to it was lost.
      if (s.data.length > 0 || s.flags & FLAG.FIN) this.#ackNow = true;
      return this.#touch();
    }
    const skip = (this.#rcvNext - s.seq) | 0;
    const room = (this.#advertised - this.#rcvNext) >>> 0;
    if (skip < 0) {
      this.#early.add(s.seq, s.data.subarray(0, Math.max(0, room + skip)));
      return this.#acknowledge(); // each one counts for the guest's recovery
    }
    if (s.data.length === 0 && !(s.flags & FLAG.FIN)) return;
    const data = s.data.subarray(Math.min(skip, s.data.length), Math.min(s.data.length, skip + room));
    this.#take(data);
    if (!this.#early.empty) {
      this.#ackNow = true;
      for (let next = this.#early.next(this.#rcvNext); next; next = this.#early.next(this.#rcvNext)) this.#take(next);
    }
    if (s.flags & FLAG.FIN && (s.seq + s.data.length) >>> 0 === this.#rcvNext) {
      this.#guestFin = true;
      this.#guestFirst = !this.#finSent;
      this.#early.clear();
      this.#rcvNext = (this.#rcvNext + 1) >>> 0;
      this.#ackNow = true;
      this.#host.finish();
      this.#bothDone();
    }
    this.#touch();
  }

  #take(data: Uint8Array): void {
    const bytes = data.length > this.#in.space ? data.subarray(0, this.#in.space) : data;
    if (bytes.length === 0) {
      if (data.length > 0) this.#ackNow = true;
      return;
    }
    this.#in.push(bytes);
    if (this.#endAt !== Infinity) this.#endAt = this.p.now() + FIN_WAIT_MS;
    this.#rcvNext = (this.#rcvNext + bytes.length) >>> 0;
    this.#unacknowledged += bytes.length;
    void this.#host.write();
  }

  #touch(): void {
    if (this.#wasTouched) return;
    this.#wasTouched = true;
    this.p.touched(this);
  }

  /** The burst is over: acknowledges what deserves it at once, the rest in a while. */
  flush(): void {
    this.#wasTouched = false;
    if (this.phase === "closed") return;
    if (this.#ackNow || this.#unacknowledged >= 2 * this.p.mss) this.#acknowledge();
    else if (this.#unacknowledged > 0 && this.#ackAt === Infinity) {
      this.#ackAt = this.p.now() + DELAYED_ACK_MS;
      this.p.armed();
    }
  }

  // Segments to the guest.

  /** Sends what the guest's window and the way to it allow. */
  #output(): void {
    if (this.phase !== "open") return;
    while (this.p.ready) {
      const flying = (this.#next - this.#una) >>> 0;
      const unsent = this.#out.length - flying;
      const window = Math.min(this.#window.bytes, this.#congestion) - flying;
      const most = this.p.cut && this.#congestion === Infinity ? mostCut(this.#mss) : this.#mss;
      const n = Math.min(unsent, window, most);
      // A window that is nearly shut is no place for small segments; nor does an acknowledgment have to hurry to open it.
      if (n <= 0 || (n < unsent && n < this.#mss && flying > 0)) break;
      this.#emit(FLAG.ACK | (n === unsent ? FLAG.PSH : 0), this.#next, n);
      this.#sent((this.#next + n) >>> 0);
    }
    const end = this.#out.length === ((this.#next - this.#una) >>> 0);
    if (this.#hostEof && end && (!this.#finSent || this.#next !== this.#max) && this.p.ready) {
      this.#finSent = true;
      this.#emit(FLAG.ACK | FLAG.FIN, this.#next, 0);
      this.#sent((this.#next + 1) >>> 0);
    }
    // With a shut window nothing flies, and somebody has to ask.
    if (this.#resendAt === Infinity && this.#out.length > 0) this.#armResend();
  }

  #sent(next: number): void {
    this.#next = next;
    if (after(next, this.#max)) {
      this.#max = next;
      this.#rtx.sent(next, this.p.now());
    }
    if (this.#resendAt === Infinity) this.#armResend();
  }

  #armResend(): void {
    this.#resendAt = this.p.now() + this.#rtx.ms;
    this.p.armed();
  }

  readonly #fill = (to: Uint8Array) => this.#out.copy(this.#fillFrom, to);
  #fillFrom = 0;

  #emit(flags: number, seq: number, dataBytes: number): void {
    const { guest, guestPort, peer, peerPort } = this.p;
    const syn = (flags & FLAG.SYN) !== 0;
    if (flags & FLAG.ACK) this.#advertise();
    const window = syn ? Math.min(65535, this.p.bufferBytes) : (this.#advertised - this.#rcvNext) >>> 0;
    if (syn && flags & FLAG.ACK) this.#advertised = (this.#rcvNext + window) >>> 0;
    this.#fillFrom = (seq - this.#una) >>> 0;
    this.p.send({
      source: peer,
      sourcePort: peerPort,
      destination: guest,
      destinationPort: guestPort,
      seq,
      ack: this.#rcvNext,
      flags,
      window: syn ? window : window >>> Math.max(0, this.#ownScale),
      ...(syn ? { mss: this.p.mss, windowScale: this.#ownScale, sackPermitted: this.#sack } : {}),
      ...(this.#sack && dataBytes === 0 && !this.#early.empty ? { sack: this.#early.edges(MAX_SACK_BLOCKS) } : {}),
      dataBytes,
      ...(dataBytes > 0 ? { fill: this.#fill, segmentBytes: this.#mss } : {}),
    });
    if (flags & FLAG.ACK) {
      this.#unacknowledged = 0;
      this.#ackNow = false;
      this.#ackAt = Infinity;
    }
  }

  /** Opens the window by no less than is worth a segment, and never shuts it behind what was promised. */
  #advertise(): void {
    const scale = Math.max(0, this.#ownScale);
    const free = Math.min(this.#in.space, 65535 << scale) >>> scale << scale;
    const edge = (this.#rcvNext + free) >>> 0;
    if (((edge - this.#advertised) | 0) >= Math.min(this.p.mss, this.p.bufferBytes / 2)) this.#advertised = edge;
  }

  #acknowledge(): void {
    if (this.phase === "syn-received") this.#emit(FLAG.SYN | FLAG.ACK, this.#una, 0);
    else if (this.phase !== "syn-sent") this.#emit(FLAG.ACK, this.#max, 0);
  }

  #windowMayOpen(): void {
    const shown = (this.#advertised - this.#rcvNext) >>> 0;
    const most = Math.min(this.p.bufferBytes, 65535 << Math.max(0, this.#ownScale));
    if (this.#guestFin || this.phase !== "open") return;
    // A guest that still has room to send hears of more by and by.
    if (shown < most / 8 && this.#in.space >= most / 2) this.#acknowledge();
  }

  // The end.

  /** Both directions may be at their end. */
  #bothDone(): void {
    if (this.phase !== "open") return;
    if (this.#finAcked && this.#guestFin && this.#host.finished && this.#in.length === 0) {
      if (this.#guestFirst) return this.#end();
      this.#host.close();
      this.phase = "time-wait";
      this.#resendAt = Infinity;
      this.#endAt = this.p.now() + TIME_WAIT_MS;
      this.p.armed();
    } else if (this.#finAcked && !this.#guestFin) {
      this.#endAt = this.p.now() + FIN_WAIT_MS;
      this.p.armed();
    }
  }

  /** Runs what is due. */
  tick(nowMs: number): void {
    if (this.#endAt <= nowMs) {
      if (this.phase === "time-wait") this.#end();
      else this.abort();
      return;
    }
    if (this.#ackAt <= nowMs) this.#acknowledge();
    if (this.#resendAt <= nowMs) this.#expire();
  }

  #expire(): void {
    // What waits for room on the way has not even left.
    if (!this.p.ready) return this.#armResend();
    if (++this.#unanswered > MAX_EXPIRED) return this.abort();
    this.#rtx.expired++;
    this.#rtx.resent();
    if (this.phase !== "open") {
      this.#emit(FLAG.SYN | (this.phase === "syn-received" ? FLAG.ACK : 0), this.#una, 0);
    } else if (this.#window.bytes === 0) {
      this.#probe();
    } else {
      this.#recover = -1;
      this.#duplicates = 0;
      this.#has.clear(); // the guest may have thrown it away since [rfc2018 §8]
      this.#congestion = this.#mss;
      this.#next = this.#una;
      this.#output();
    }
    this.#armResend();
  }

  /** Asks a guest with a shut window by a byte that it need not take: its answer tells the window. */
  #probe(): void {
    if (this.#out.length > 0) {
      this.#emit(FLAG.ACK, this.#una, 1);
      const next = (this.#una + 1) >>> 0;
      if (after(next, this.#max)) this.#max = next;
    } else if (this.#finSent) this.#emit(FLAG.ACK | FLAG.FIN, this.#una, 0);
  }

  /** There may be room on the way to the guest. */
  room(): void {
    this.#output();
  }

  /** Resets the guest's end, and lets go of the host's. */
  abort(): void {
    if (this.phase === "closed") return;
    if (this.phase !== "syn-sent") this.#emit(FLAG.RST | FLAG.ACK, this.#max, 0);
    this.#end();
  }

  /** Lets go of everything without a word. */
  drop(): void {
    if (this.phase !== "closed") this.#end();
  }

  #end(): void {
    this.phase = "closed";
    this.#resendAt = this.#ackAt = this.#endAt = Infinity;
    this.#host.close();
    this.p.closed(this);
  }
}
