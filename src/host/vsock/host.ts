/**
 * The host's end of a guest's vsock, on Unix sockets: who connects to PATH and says `CONNECT port` reaches that port of the
 * guest; a guest that connects to port N of the host (CID 2) reaches who listens at PATH_N.
 *
 * Spec: [virtio §5.10.6]. Every number the guest sends is doubted: what belongs to no connection is reset, and the number of
 * connections, the bytes that wait in each, and the answers that wait for room are bounded.
 */
import { VSOCK_OP, VSOCK_TYPE_STREAM, type VsockHeader } from "../../../devices/virtio/vsock.ts";
import type { HostStream } from "../net/host_sockets.ts";
import { BUF_ALLOC, Connection } from "./connection.ts";

const HOST_CID = 2;
export const MAX_CONNECTIONS = 1024;
const MAX_WAITING_PACKETS = 4 * MAX_CONNECTIONS;
/** Ports of the host's clients, from here on up. */
const FIRST_PORT = 1 << 30;
const MAX_LINE_BYTES = 32;
/** How long a client may take to say where to, and the guest to answer. */
const PATIENCE_MS = 10_000;

export interface VsockParts {
  readonly guestCid: number;
  /** Puts a packet into a buffer of the guest's: how much of the data went with it, or -1 if there is no buffer. */
  deliver(header: Readonly<VsockHeader>, data: Uint8Array): number;
  /** Connects to whoever serves the host's port. */
  connect(port: number): Promise<HostStream>;
}

const NOTHING = new Uint8Array(0);

export class VsockHost {
  readonly #connections = new Map<string, Connection>();
  /** Clients that the guest has yet to accept. */
  readonly #asking = new Map<Connection, () => void>();
  /** Control packets that wait for a buffer. */
  #waiting: VsockHeader[] = [];
  #roomWaiters: (() => void)[] = [];
  #nextPort = FIRST_PORT;
  #clients = 0;

  constructor(private readonly p: VsockParts) {}

  get connections(): number {
    return this.#connections.size;
  }

  // From the guest.

  receive(h: Readonly<VsockHeader>, payload: Uint8Array): void {
    if (h.srcCid !== this.p.guestCid || h.dstCid !== HOST_CID) return this.#refuse(h);
    if (h.type !== VSOCK_TYPE_STREAM) return this.#refuse(h);
    const c = this.#connections.get(keyOf(h.dstPort, h.srcPort));
    if (h.op === VSOCK_OP.REQUEST) return c ? c.reset() : this.#requested(h);
    if (!c) return this.#refuse(h);
    c.credit(h.bufAlloc, h.fwdCnt);
    const accept = this.#asking.get(c);
    switch (h.op) {
      case VSOCK_OP.RESPONSE:
        return accept ? accept() : c.reset();
      case VSOCK_OP.RST:
        return c.close();
      case VSOCK_OP.SHUTDOWN:
        return accept ? c.reset() : c.shutdown(h.flags);
      case VSOCK_OP.RW:
        return accept ? c.reset() : c.receive(payload);
      case VSOCK_OP.CREDIT_UPDATE:
        return;
      case VSOCK_OP.CREDIT_REQUEST:
        return this.#control(c, VSOCK_OP.CREDIT_UPDATE);
      default:
        return c.reset();
    }
  }

  #requested(h: Readonly<VsockHeader>): void {
    if (this.#connections.size >= MAX_CONNECTIONS) return this.#refuse(h);
    const c = this.#add(h.dstPort, h.srcPort);
    c.credit(h.bufAlloc, h.fwdCnt);
    this.p.connect(h.dstPort).then((stream) => {
      if (!c.open) return stream.close();
      this.#control(c, VSOCK_OP.RESPONSE);
      c.start(stream);
    }, () => c.reset());
  }

  #add(hostPort: number, guestPort: number): Connection {
    const c = new Connection(hostPort, guestPort, {
      control: (c, op, flags) => this.#control(c, op, flags),
      data: (c, bytes) => this.#data(c, bytes),
      room: () => new Promise((resolve) => this.#roomWaiters.push(resolve)),
      gone: (c) => {
        this.#connections.delete(keyOf(c.hostPort, c.guestPort));
        this.#asking.delete(c);
      },
    });
    this.#connections.set(keyOf(hostPort, guestPort), c);
    return c;
  }

  /** The guest has buffers, perhaps. */
  room(): void {
    while (this.#waiting.length > 0 && this.p.deliver(this.#waiting[0]!, NOTHING) >= 0) this.#waiting.shift();
    if (this.#waiting.length > 0) return;
    for (const resolve of this.#roomWaiters.splice(0)) resolve();
  }

  /** The guest forgot everything. */
  reset(): void {
    this.#waiting = [];
    for (const c of [...this.#connections.values()]) c.close();
    for (const resolve of this.#roomWaiters.splice(0)) resolve();
  }

  // From the host.

  /** A client has come; it is served from here on. */
  async accept(stream: HostStream): Promise<void> {
    if (this.#clients >= MAX_CONNECTIONS) return stream.close();
    this.#clients++;
    const late = setTimeout(() => stream.close(), PATIENCE_MS);
    try {
      const { line, rest } = await readLine(stream);
      const port = Number(/^CONNECT (\d{1,10})\r?$/i.exec(line)?.[1] ?? NaN);
      clearTimeout(late);
      if (!(port < 0xffff_ffff) || this.#connections.size >= MAX_CONNECTIONS) return stream.close();
      this.#request(stream, port, rest);
    } catch {
      stream.close();
    } finally {
      clearTimeout(late);
      this.#clients--;
    }
  }

  #request(stream: HostStream, guestPort: number, early: Uint8Array): void {
    while (this.#connections.has(keyOf(this.#nextPort, guestPort))) this.#advance();
    const c = this.#add(this.#nextPort, guestPort);
    this.#advance();
    const late = setTimeout(() => c.reset(), PATIENCE_MS);
    this.#asking.set(c, () => {
      clearTimeout(late);
      this.#asking.delete(c);
      const greeting = new TextEncoder().encode(`OK ${c.hostPort}\n`);
      writeAll(stream, greeting).then(() => c.open && c.start(stream, early), () => c.reset());
    });
    c.onRefused = () => {
      clearTimeout(late);
      stream.close();
    };
    this.#control(c, VSOCK_OP.REQUEST);
  }

  #advance(): void {
    this.#nextPort = this.#nextPort >= 2 * FIRST_PORT - 1 ? FIRST_PORT : this.#nextPort + 1;
  }

  // To the guest.

  #header(c: Connection, op: number, flags = 0): VsockHeader {
    c.told = c.fwdCnt;
    return {
      srcCid: HOST_CID,
      dstCid: this.p.guestCid,
      srcPort: c.hostPort,
      dstPort: c.guestPort,
      type: VSOCK_TYPE_STREAM,
      op,
      flags,
      bufAlloc: BUF_ALLOC,
      fwdCnt: c.fwdCnt,
    };
  }

  #control(c: Connection, op: number, flags = 0): void {
    this.#post(this.#header(c, op, flags));
  }

  /** In order with what waits already. A guest that lets too many wait loses them. */
  #post(header: VsockHeader): void {
    if (this.#waiting.length === 0 && this.p.deliver(header, NOTHING) >= 0) return;
    if (this.#waiting.length < MAX_WAITING_PACKETS) this.#waiting.push(header);
  }

  #data(c: Connection, bytes: Uint8Array): number {
    return this.#waiting.length > 0 ? -1 : this.p.deliver(this.#header(c, VSOCK_OP.RW), bytes);
  }

  #refuse(h: Readonly<VsockHeader>): void {
    if (h.op === VSOCK_OP.RST || h.srcCid !== this.p.guestCid || h.dstCid < 0) return;
    this.#post({
      srcCid: h.dstCid,
      dstCid: h.srcCid,
      srcPort: h.dstPort,
      dstPort: h.srcPort,
      type: h.type,
      op: VSOCK_OP.RST,
      flags: 0,
      bufAlloc: 0,
      fwdCnt: 0,
    });
  }
}

function keyOf(hostPort: number, guestPort: number): string {
  return `${hostPort}:${guestPort}`;
}

async function writeAll(stream: HostStream, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await stream.write(bytes.subarray(at));
}

/** The first line, and what came behind it. Rejects if there is none. */
async function readLine(stream: HostStream): Promise<{ line: string; rest: Uint8Array }> {
  const buffer = new Uint8Array(4096);
  for (let end = 0;;) {
    const newline = buffer.subarray(0, end).indexOf(10);
    if (newline > MAX_LINE_BYTES || (newline < 0 && end > MAX_LINE_BYTES)) throw new Error("no line");
    if (newline >= 0) {
      return { line: new TextDecoder().decode(buffer.subarray(0, newline)), rest: buffer.slice(newline + 1, end) };
    }
    const n = await stream.read(buffer.subarray(end));
    if (n === null) throw new Error("no line");
    end += n;
  }
}
