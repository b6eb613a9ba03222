/** A guest made of frames: its end of the cable, an IPv4 host on it, and a host whose sockets are scripted. Time is moved by hand. */
import type { FrameOffload } from "../../devices/virtio/net_header.ts";
import { checksum, pseudoSum, put16, put32, sum16, u16, u32 } from "../../src/host/net/address.ts";
import type { HostDatagrams, HostSockets, HostStream, Refusal } from "../../src/host/net/host_sockets.ts";
import { GATEWAY_MAC, NETWORK } from "../../src/host/net/network.ts";
import type { TftpFiles } from "../../src/host/net/tftp.ts";
import { UserNet, type UserNetOptions } from "../../src/host/net/user_net.ts";
import type { Wire } from "../../src/host/net/wire.ts";

export const MAC: Uint8Array = Uint8Array.of(2, 0, 0, 0, 0, 1);
export const WHOLE: Readonly<FrameOffload> = { csumStart: -1, csumOffset: 0, gsoSize: 0, gsoType: 0, headerBytes: 0 };
const PEER = Uint8Array.of(192, 0, 2, 7);
/** An address on the outside. */
export const OUTSIDE = u32(PEER, 0);

/** Lets every promise that can go on go on. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 30; i++) await Promise.resolve();
}

/** A pipe of bytes with two ends that tests hold. */
export class ScriptedStream implements HostStream {
  readonly written: number[] = [];
  sawFin = false;
  closed = false;
  /** Writes wait while this is set. */
  stuck = false;
  #pending: Uint8Array[] = [];
  #eof = false;
  #error: Error | null = null;
  #wake: (() => void)[] = [];

  /** Bytes from the host's side. */
  come(bytes: Uint8Array): void {
    this.#pending.push(bytes);
    this.#go();
  }
  end(): void {
    this.#eof = true;
    this.#go();
  }
  fail(): void {
    this.#error = new Error("connection reset");
    this.#go();
  }
  unstick(): void {
    this.stuck = false;
    this.#go();
  }
  #go(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }
  #wait(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  async read(into: Uint8Array): Promise<number | null> {
    for (;;) {
      if (this.closed) throw new Error("closed");
      if (this.#error) throw this.#error;
      const first = this.#pending[0];
      if (first) {
        const n = Math.min(first.length, into.length);
        into.set(first.subarray(0, n));
        if (n === first.length) this.#pending.shift();
        else this.#pending[0] = first.subarray(n);
        return n;
      }
      if (this.#eof) return null;
      await this.#wait();
    }
  }
  async write(from: Uint8Array): Promise<number> {
    while (this.stuck && !this.closed) await this.#wait();
    if (this.closed) throw new Error("closed");
    this.written.push(...from.subarray(0, 30_000));
    return Math.min(from.length, 30_000);
  }
  closeWrite(): Promise<void> {
    this.sawFin = true;
    return Promise.resolve();
  }
  close(): void {
    this.closed = true;
    this.#go();
  }
}

export class ScriptedSockets implements HostSockets {
  answer: "stream" | Refusal = "stream";
  readonly connects: string[] = [];
  readonly streams: ScriptedStream[] = [];
  readonly listeners = new Map<string, (stream: HostStream, address: string) => void>();
  readonly udp: {
    bound: string;
    sent: { data: Uint8Array; to: string }[];
    received: (bytes: Uint8Array, address: string, port: number) => void;
    closed: boolean;
  }[] = [];
  resolverList = ["198.51.100.1", "198.51.100.2"];

  connect(address: string, port: number): Promise<HostStream | Refusal> {
    this.connects.push(`${address}:${port}`);
    if (this.answer !== "stream") return Promise.resolve(this.answer);
    const stream = new ScriptedStream();
    this.streams.push(stream);
    return Promise.resolve(stream);
  }
  listen(address: string, port: number, accepted: (stream: HostStream, address: string) => void) {
    this.listeners.set(`${address}:${port}`, accepted);
    return { close: () => void this.listeners.delete(`${address}:${port}`) };
  }
  datagrams(
    address: string,
    port: number,
    received: (bytes: Uint8Array, address: string, port: number) => void,
  ): Promise<HostDatagrams> {
    const socket: ScriptedSockets["udp"][number] = { bound: `${address}:${port}`, sent: [], received, closed: false };
    this.udp.push(socket);
    return Promise.resolve({
      send: (data, to, toPort) => socket.sent.push({ data, to: `${to}:${toPort}` }),
      close: () => socket.closed = true,
    });
  }
  /** Of echo requests; null refuses them. */
  echoSent: { message: Uint8Array; to: string }[] | null = null;
  echoReceived: (message: Uint8Array, address: string) => void = () => {};

  echoes(_family: 4 | 6, received: (message: Uint8Array, address: string) => void): Promise<HostDatagrams | null> {
    const sent = this.echoSent;
    if (!sent) return Promise.resolve(null);
    this.echoReceived = received;
    return Promise.resolve({ send: (message, to) => void sent.push({ message, to }), close: () => {} });
  }
  resolvers(): string[] {
    return this.resolverList;
  }
}

export interface SeenTcp {
  readonly seq: number;
  readonly ack: number;
  readonly flags: number;
  readonly window: number;
  readonly data: Uint8Array;
  readonly options: Uint8Array;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly source: number;
}

export class TestGuest implements Wire {
  checksums = false;
  segments = false;
  segments6 = false;
  full = false;
  nowMs = 0;
  readonly frames: { frame: Uint8Array; offload: FrameOffload }[] = [];
  readonly sockets = new ScriptedSockets();
  readonly net: UserNet;

  constructor(options: Partial<UserNetOptions> = {}, files: TftpFiles | null = null) {
    let random = 1000;
    this.net = new UserNet({
      wire: this,
      sockets: this.sockets,
      now: () => this.nowMs,
      random: () => random += 1_000_000,
      armed: () => {},
      ...(files ? { files } : {}),
    }, { mac: MAC, restrict: false, publish: [], dns: null, ...options });
  }

  send(frame: Uint8Array, offload: Readonly<FrameOffload>): boolean {
    if (this.full) return false;
    this.frames.push({ frame: frame.slice(), offload: { ...offload } });
    return true;
  }

  /** Moves time and runs what falls due on the way. */
  async pass(ms: number): Promise<void> {
    const end = this.nowMs + ms;
    for (let step = 0; step < 10_000; step++) {
      const next = this.net.tick();
      if (!(next <= end)) break;
      this.nowMs = Math.max(next, this.nowMs);
      await settle();
    }
    this.nowMs = end;
    this.net.tick();
    await settle();
  }

  /** Everything that came since the last call. */
  take(): Uint8Array[] {
    return this.frames.splice(0).map(({ frame }) => frame);
  }

  raw(frame: Uint8Array, offload: Readonly<FrameOffload> = WHOLE): void {
    this.net.receive(frame, offload);
    this.net.endOfBurst();
  }

  /** A packet of the guest's, with the IP header's checksum right. */
  packet(
    protocol: number,
    to: number,
    payload: Uint8Array,
    change: { from?: number; fragment?: number; id?: number } = {},
  ) {
    const frame = new Uint8Array(34 + payload.length);
    frame.set(GATEWAY_MAC);
    frame.set(MAC, 6);
    put16(frame, 12, 0x0800);
    frame[14] = 0x45;
    put16(frame, 16, 20 + payload.length);
    put16(frame, 18, change.id ?? 7);
    put16(frame, 20, change.fragment ?? 0);
    frame[22] = 64;
    frame[23] = protocol;
    put32(frame, 26, change.from ?? NETWORK.guest);
    put32(frame, 30, to);
    put16(frame, 24, checksum(frame, 14, 34));
    frame.set(payload, 34);
    return frame;
  }

  udp(port: number, to: number, toPort: number, data: Uint8Array, from: number = NETWORK.guest): Uint8Array {
    const udp = new Uint8Array(8 + data.length);
    put16(udp, 0, port);
    put16(udp, 2, toPort);
    put16(udp, 4, udp.length);
    udp.set(data, 8);
    put16(udp, 6, checksum(udp, 0, udp.length, pseudoSum(from, to, 17, udp.length)));
    return this.packet(17, to, udp, { from });
  }

  tcp(
    s: { port: number; to: number; toPort: number; seq: number; ack?: number; flags: number; window?: number },
    data: Uint8Array = new Uint8Array(0),
    options: readonly number[] = [],
  ): Uint8Array {
    const tcp = new Uint8Array(20 + options.length + data.length);
    put16(tcp, 0, s.port);
    put16(tcp, 2, s.toPort);
    put32(tcp, 4, s.seq);
    put32(tcp, 8, s.ack ?? 0);
    tcp[12] = ((20 + options.length) / 4) << 4;
    tcp[13] = s.flags;
    put16(tcp, 14, s.window ?? 65535);
    tcp.set(options, 20);
    tcp.set(data, 20 + options.length);
    put16(tcp, 16, checksum(tcp, 0, tcp.length, pseudoSum(NETWORK.guest, s.to, 6, tcp.length)));
    return this.packet(6, s.to, tcp);
  }

  /** TCP segments among what came, checksums verified. */
  takeTcp(): SeenTcp[] {
    return this.take().filter((f) => u16(f, 12) === 0x0800 && f[23] === 6).map(parseTcp);
  }
}

function parseTcp(frame: Uint8Array): SeenTcp {
  if (sum16(frame, 14, 34) !== 0xffff) throw new Error("the IP header's checksum is wrong");
  const total = u16(frame, 16);
  const tcp = frame.subarray(34, 14 + total);
  if (sum16(tcp, 0, tcp.length, pseudoSum(u32(frame, 26), u32(frame, 30), 6, tcp.length)) !== 0xffff) {
    throw new Error("the TCP checksum is wrong");
  }
  const header = (tcp[12]! >> 4) * 4;
  return {
    sourcePort: u16(tcp, 0),
    destinationPort: u16(tcp, 2),
    source: u32(frame, 26),
    seq: u32(tcp, 4),
    ack: u32(tcp, 8),
    flags: tcp[13]!,
    window: u16(tcp, 14),
    options: tcp.slice(20, header),
    data: tcp.slice(header),
  };
}
