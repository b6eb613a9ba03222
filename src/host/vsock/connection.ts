/** One connection between a socket of the guest and one of the host, with credit for both ways [virtio §5.10.6.3]. */
import { VSOCK_OP } from "../../../devices/virtio/vsock.ts";
import type { HostStream } from "../net/host_sockets.ts";

/** Bytes of the guest's that may wait here for the host's end to read them. */
export const BUF_ALLOC = 128 * 1024;
const CHUNK_BYTES = 32 * 1024;
export const SHUTDOWN = { RCV: 1, SEND: 2, BOTH: 3 } as const;

export interface ConnectionParts {
  /** Sends a packet that must not get lost. */
  control(c: Connection, op: number, flags?: number): void;
  /** Sends data: how much of it went, or -1 if the guest has no buffer. */
  data(c: Connection, bytes: Uint8Array): number;
  /** Resolves when the guest has buffers again. */
  room(): Promise<void>;
  /** It is no more. */
  gone(c: Connection): void;
}

export class Connection {
  /** u32, wrapping: bytes that have gone out of the buffer here, and that were sent to the guest. */
  fwdCnt = 0;
  #sent = 0;
  #received = 0;
  /** What the guest was last told of fwdCnt. */
  told = 0;
  #peerAlloc = 0;
  #peerFwd = 0;
  #queue: Uint8Array[] = [];
  #writing = false;
  #closed = false;
  /** SHUTDOWN bits that the guest has sent. */
  #guestDown = 0;
  #wakeReader: (() => void) | null = null;
  /** Called if it ends before it started. */
  onRefused: () => void = () => {};

  constructor(
    readonly hostPort: number,
    readonly guestPort: number,
    private readonly parts: ConnectionParts,
    private stream: HostStream | null = null,
  ) {}

  get open(): boolean {
    return !this.#closed;
  }

  /** What every packet of the guest's says about its buffer. */
  credit(bufAlloc: number, fwdCnt: number): void {
    this.#peerAlloc = bufAlloc;
    this.#peerFwd = fwdCnt;
    this.wake();
  }

  /** The reader may look again. */
  wake(): void {
    this.#wakeReader?.();
    this.#wakeReader = null;
  }

  /** Both ends are there: `early` is what the host's said already. */
  start(stream: HostStream, early: Uint8Array = new Uint8Array(0)): void {
    this.stream = stream;
    void this.#read(stream, early);
    void this.#write();
  }

  /** Bytes from the guest. */
  receive(bytes: Uint8Array): void {
    this.#received = (this.#received + bytes.length) >>> 0;
    // More than there is room for: it does not keep to the protocol.
    if (((this.#received - this.fwdCnt) >>> 0) > BUF_ALLOC || this.#guestDown & SHUTDOWN.SEND) return this.reset();
    this.#queue.push(bytes.slice());
    void this.#write();
  }

  /** The guest will not send, or not receive, any more. */
  shutdown(flags: number): void {
    this.#guestDown |= flags & SHUTDOWN.BOTH;
    void this.#write();
  }

  /** Lets go of it, and tells the guest. */
  reset(): void {
    if (this.#closed) return;
    this.parts.control(this, VSOCK_OP.RST);
    this.close();
  }

  /** Lets go of it. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue = [];
    if (this.stream) this.stream.close();
    else this.onRefused();
    this.wake();
    this.parts.gone(this);
  }

  get #space(): number {
    return Math.max(0, this.#peerAlloc - ((this.#sent - this.#peerFwd) >>> 0));
  }

  async #read(stream: HostStream, early: Uint8Array): Promise<void> {
    const buffer = new Uint8Array(CHUNK_BYTES);
    try {
      if (!(await this.#send(early))) return;
      for (;;) {
        const n = await stream.read(buffer);
        if (n === null) break;
        if (!(await this.#send(buffer.subarray(0, n)))) return;
      }
    } catch {
      return this.reset();
    }
    if (this.open) this.parts.control(this, VSOCK_OP.SHUTDOWN, SHUTDOWN.SEND);
  }

  /** False: there is nobody to send it to any more. */
  async #send(bytes: Uint8Array): Promise<boolean> {
    for (let at = 0; at < bytes.length;) {
      if (this.#closed || this.#guestDown & SHUTDOWN.RCV) return false;
      const space = this.#space;
      if (space === 0) {
        this.parts.control(this, VSOCK_OP.CREDIT_REQUEST);
        await new Promise<void>((resolve) => this.#wakeReader = resolve);
        continue;
      }
      const n = this.parts.data(this, bytes.subarray(at, at + Math.min(space, bytes.length - at)));
      if (n < 0) await this.parts.room();
      else {
        at += n;
        this.#sent = (this.#sent + n) >>> 0;
      }
    }
    return true;
  }

  async #write(): Promise<void> {
    const { stream } = this;
    if (this.#writing || !stream) return;
    this.#writing = true;
    try {
      for (let bytes = this.#queue.shift(); bytes; bytes = this.#queue.shift()) {
        for (let at = 0; at < bytes.length;) at += await stream.write(bytes.subarray(at));
        this.fwdCnt = (this.fwdCnt + bytes.length) >>> 0;
        if (this.open && ((this.fwdCnt - this.told) >>> 0) >= BUF_ALLOC / 4) {
          this.parts.control(this, VSOCK_OP.CREDIT_UPDATE);
        }
      }
      if (this.#closed) return;
      // All that the guest sent is out: what it has shut down can go.
      if (this.#guestDown === SHUTDOWN.BOTH) this.reset();
      else if (this.#guestDown & SHUTDOWN.SEND) await stream.closeWrite();
    } catch {
      this.reset(); // the host's end has left
    } finally {
      this.#writing = false;
    }
    if (this.open && this.#queue.length > 0) void this.#write();
  }
}
