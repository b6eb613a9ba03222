/**
 * The datagram back end: a frame a datagram, to a Unix socket that a switch or a NAT of another process has bound. Ours has a path
 * of its own, by which the other end answers.
 */
import { type FrameOffload, NO_OFFLOAD } from "../../../devices/virtio/net_header.ts";
import {
  AF_UNIX,
  EAGAIN,
  ECONNREFUSED,
  EMSGSIZE,
  ENOBUFS,
  ENOENT,
  errnoName,
  errnoOf,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  SO_RCVBUF,
  SO_SNDBUF,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  sockaddrUn,
  type SocketLibc,
  SOL_SOCKET,
} from "../../../ffi/socket.ts";
import { HostError } from "../../base/errors.ts";
import { MAX_FRAME_BYTES } from "./framed_stream.ts";
import { libcFor, PacketNet, type PacketPort } from "./packet_net.ts";
import type { Wire } from "./wire.ts";

const RETRY_MS = 1000;
/** macOS has room for two frames, if it is not asked for more. */
const SEND_BYTES = 1 << 20, RECEIVE_BYTES = 4 << 20;

export interface DgramNetParts {
  readonly wire: Wire;
  /** The other end came or went. */
  linkChanged(up: boolean): void;
  sleep(ms: number): Promise<void>;
}

export class DgramNet extends PacketNet {
  #closed = false;

  constructor(private readonly p: DgramNetParts, private readonly path: string) {
    super(p.wire);
  }

  // deno-lint-ignore require-await
  async open(): Promise<void> {
    const libc = libcFor("--net dgram");
    this.attach(libc, this.#connect(libc));
  }

  #connect(libc: SocketLibc): PacketPort {
    const fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const own = `${Deno.makeTempDirSync({ prefix: "trike-" })}/net`;
    const close = () => Deno.removeSync(own.slice(0, -"/net".length), { recursive: true });
    const failed = (call: string, errno: number) => {
      libc.close(fd);
      close();
      const why = errno === ENOENT || errno === ECONNREFUSED ? ": nobody has bound it" : "";
      return new HostError(`Cannot reach "${this.path}" for --net dgram: ${call} said ${errnoName(errno)}${why}`);
    };
    for (const [option, bytes] of [[SO_SNDBUF, SEND_BYTES], [SO_RCVBUF, RECEIVE_BYTES]] as const) {
      // What the host does not grant is not needed everywhere.
      libc.setsockopt(fd, SOL_SOCKET, option, new Uint8Array(Int32Array.of(bytes).buffer), 4);
    }
    const from = sockaddrUn(own), to = sockaddrUn(this.path);
    if (libc.bind(fd, from, from.length) < 0) throw failed("bind", errnoOf(libc));
    if (libc.connect(fd, to, to.length) < 0) throw failed("connect", errnoOf(libc));
    return new DgramPort(libc, fd, () => void this.#lost(libc), close);
  }

  async #lost(libc: SocketLibc): Promise<void> {
    this.detach();
    this.p.linkChanged(false);
    while (!this.#closed) {
      await this.p.sleep(RETRY_MS);
      if (this.#closed) return;
      try {
        this.attach(libc, this.#connect(libc));
        return this.p.linkChanged(true);
      } catch (error) {
        if (!(error instanceof HostError)) throw error; // nobody there yet
      }
    }
  }

  override close(): void {
    this.#closed = true;
    super.close();
  }
}

class DgramPort implements PacketPort {
  // SAFETY: held as long as the port, and used within each call only.
  readonly #in = new Uint8Array(MAX_FRAME_BYTES);
  readonly #out = new Uint8Array(MAX_FRAME_BYTES);
  #gone = false;

  constructor(
    private readonly libc: SocketLibc,
    readonly fd: number,
    private readonly lost: () => void,
    readonly close: () => void,
  ) {}

  read(): { frame: Uint8Array; offload: Readonly<FrameOffload> } | null {
    const n = Number(this.libc.recv(this.fd, this.#in, BigInt(this.#in.length), MSG_DONTWAIT));
    return n > 0 ? { frame: this.#in.subarray(0, n), offload: NO_OFFLOAD } : null;
  }

  write(frame: Uint8Array): void {
    if (this.#gone || frame.length > this.#out.length) return;
    this.#out.set(frame);
    const n = this.libc.send(this.fd, this.#out, BigInt(frame.length), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (Number(n) >= 0) return;
    const errno = errnoOf(this.libc);
    // A full queue loses frames, as any cable does; anything else is the other end's end.
    if (errno === EAGAIN || errno === ENOBUFS || errno === EMSGSIZE) return;
    this.#gone = true;
    this.lost();
  }
}
