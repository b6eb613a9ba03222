/** TCP through the host's sockets: which connection a segment belongs to, and how connections come to be. */
import type { Address } from "./address.ts";
import { MTU, type Packet } from "./ip.ts";
import type { HostSockets, Refusal } from "./host_sockets.ts";
import { NETWORK } from "./network.ts";
import { TcpConnection } from "./tcp_connection.ts";
import { BUFFER_BYTES, type ConnectionParts, SMALL_BUFFER_BYTES } from "./tcp_parts.ts";
import { FLAG, type Outgoing, type Segment, TCP_HEADER_BYTES } from "./tcp_segment.ts";

export const MAX_CONNECTIONS = 2048;
/** As long as there are fewer, each new one has large queues. */
const ROOMY_CONNECTIONS = 256;
const IP_BYTES = { 4: 20, 6: 40 } as const;
const FIRST_PORT = 49152; // the dynamic ports [rfc6335 §6]
const PORTS = 16384;

export interface TcpNatParts {
  readonly sockets: HostSockets;
  now(): number;
  /** 32 bits nobody can guess. */
  random(): number;
  /** See ConnectionParts. */
  cut(peer: Address): boolean;
  readonly ready: boolean;
  send(segment: Outgoing): void;
  /** Where on the host a peer of the guest's is. */
  route(address: Address, port: number): { readonly address: string; readonly port: number };
  /** A connection to a peer could not be made; `packet` asked for it. */
  refused(why: Refusal, cause: Uint8Array): void;
  cause(packet: Packet): Uint8Array;
  armed(): void;
}

export class TcpNat {
  readonly #connections = new Map<string, TcpConnection>();
  /** SYNs whose host's side is being connected. */
  readonly #pending = new Map<string, { dead: boolean }>();
  readonly #touched: TcpConnection[] = [];
  /** By the host's address and port. */
  readonly #listeners = new Map<string, { close(): void }>();
  #lastKey = "";
  #last: TcpConnection | undefined;
  #nextPort = 0;

  constructor(private readonly p: TcpNatParts) {}

  get size(): number {
    return this.#connections.size + this.#pending.size;
  }

  receive(packet: Packet, s: Segment): void {
    const key = `${packet.source} ${s.sourcePort} ${packet.destination} ${s.destinationPort}`;
    let c = key === this.#lastKey ? this.#last : this.#connections.get(key);
    if (c && c.phase === "time-wait" && s.flags === FLAG.SYN) {
      c.drop();
      c = undefined;
    }
    if (c) {
      this.#lastKey = key;
      this.#last = c;
      return c.receive(s);
    }
    const pending = this.#pending.get(key);
    if (pending) {
      if (s.flags & FLAG.RST) pending.dead = true;
      return;
    }
    if (s.flags & FLAG.RST) return;
    if ((s.flags & (FLAG.SYN | FLAG.ACK | FLAG.FIN)) !== FLAG.SYN || this.size >= MAX_CONNECTIONS) {
      return this.#reset(packet, s);
    }
    void this.#connect(key, packet, s);
  }

  /** Whether a segment belongs to a connection there is. */
  knows(packet: Packet, s: Segment): boolean {
    return this.#connections.has(`${packet.source} ${s.sourcePort} ${packet.destination} ${s.destinationPort}`);
  }

  /** Answers a segment that belongs to nothing [rfc9293 §3.10.7.1]. */
  #reset(packet: { source: Address; destination: Address }, s: Segment): void {
    const acked = (s.flags & FLAG.ACK) !== 0;
    const length = s.data.length + (s.flags & FLAG.SYN ? 1 : 0) + (s.flags & FLAG.FIN ? 1 : 0);
    this.p.send({
      source: packet.destination,
      sourcePort: s.destinationPort,
      destination: packet.source,
      destinationPort: s.sourcePort,
      seq: acked ? s.ack : 0,
      ack: (s.seq + length) >>> 0,
      flags: acked ? FLAG.RST : FLAG.RST | FLAG.ACK,
      window: 0,
      dataBytes: 0,
    });
  }

  async #connect(key: string, packet: Packet, s: Segment): Promise<void> {
    const ticket = { dead: false };
    this.#pending.set(key, ticket);
    // The packet's bytes are gone once the host has answered.
    const syn: Segment = { ...s, data: new Uint8Array(0) };
    const ends = { source: packet.source, destination: packet.destination };
    const cause = this.p.cause(packet);
    const to = this.p.route(packet.destination, s.destinationPort);
    const host = await this.p.sockets.connect(to.address, to.port);
    const alive = !ticket.dead;
    if (this.#pending.get(key) === ticket) this.#pending.delete(key);
    if (typeof host !== "string") {
      if (alive) this.#add(TcpConnection.accept(this.#parts(key, { ...ends, s }), host, syn));
      else host.close();
    } else if (alive) {
      if (host === "refused") this.#reset(ends, syn);
      else this.p.refused(host, cause);
    }
  }

  /** Lets clients of a port of the host's in. Throws what the host says. */
  publish(address: string, port: number, guestPort: number, addressOf: (client: string) => number): void {
    const listener = this.p.sockets.listen(address, port, (stream, client) => {
      const ends = { source: NETWORK.guest, destination: addressOf(client) };
      const peerPort = this.#freePort(ends.destination, guestPort);
      if (peerPort === null || this.size >= MAX_CONNECTIONS) return stream.close();
      const key = keyOf(guestPort, ends.destination, peerPort);
      const s = { sourcePort: guestPort, destinationPort: peerPort };
      this.#add(TcpConnection.open(this.#parts(key, { ...ends, s }), stream));
    });
    this.#listeners.set(`${address} ${port}`, listener);
  }

  /** Lets no more clients of a port in; those there are go on. False if it was not published. */
  unpublish(address: string, port: number): boolean {
    const key = `${address} ${port}`, listener = this.#listeners.get(key);
    listener?.close();
    return this.#listeners.delete(key);
  }

  #freePort(peer: number, guestPort: number): number | null {
    for (let tries = 0; tries < PORTS; tries++) {
      const port = FIRST_PORT + this.#nextPort++ % PORTS;
      const key = keyOf(guestPort, peer, port);
      if (!this.#connections.has(key) && !this.#pending.has(key)) return port;
    }
    return null;
  }

  #parts(
    key: string,
    ends: { source: Address; destination: Address; s: { sourcePort: number; destinationPort: number } },
  ): ConnectionParts {
    const { p } = this;
    return {
      key,
      guest: ends.source,
      guestPort: ends.s.sourcePort,
      peer: ends.destination,
      peerPort: ends.s.destinationPort,
      initialSeq: p.random() >>> 0,
      mss: MTU - TCP_HEADER_BYTES - IP_BYTES[typeof ends.source === "number" ? 4 : 6],
      bufferBytes: this.size < ROOMY_CONNECTIONS ? BUFFER_BYTES : SMALL_BUFFER_BYTES,
      now: p.now,
      get cut() {
        return p.cut(ends.destination);
      },
      get ready() {
        return p.ready;
      },
      send: p.send,
      touched: (c) => this.#touched.push(c),
      armed: p.armed,
      closed: (c) => this.#remove(c),
    };
  }

  #add(c: TcpConnection): void {
    this.#connections.set(c.p.key, c);
  }

  #remove(c: TcpConnection): void {
    if (this.#connections.get(c.p.key) === c) this.#connections.delete(c.p.key);
    if (this.#last === c) {
      this.#last = undefined;
      this.#lastKey = "";
    }
  }

  endOfBurst(): void {
    for (const c of this.#touched.splice(0)) c.flush();
  }

  /** There may be room on the way to the guest: every connection has its turn first in its turn. */
  room(): void {
    for (const c of [...this.#connections.values()]) {
      if (!this.p.ready) break;
      c.room();
      // To the end of the queue, so that the first does not always take it all.
      if (this.#connections.delete(c.p.key)) this.#connections.set(c.p.key, c);
    }
  }

  tick(): number {
    const nowMs = this.p.now();
    let next = Infinity;
    for (const c of [...this.#connections.values()]) {
      if (c.deadlineMs <= nowMs) c.tick(nowMs);
      next = Math.min(next, c.deadlineMs);
    }
    return next;
  }

  /** Drops what the guest has forgotten; published ports stay. */
  clear(): void {
    for (const c of [...this.#connections.values()]) c.drop();
    for (const ticket of this.#pending.values()) ticket.dead = true;
    this.#pending.clear();
    this.#touched.length = 0;
  }

  close(): void {
    this.clear();
    for (const listener of this.#listeners.values()) listener.close();
    this.#listeners.clear();
  }
}

function keyOf(guestPort: number, peer: number, peerPort: number): string {
  return `${NETWORK.guest} ${guestPort} ${peer} ${peerPort}`;
}
