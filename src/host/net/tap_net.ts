/**
 * The TAP back end of Linux: an interface of the host's is the other end of the cable. Segments and checksums go through as they
 * are, as far as the guest takes them.
 */
import {
  type FrameOffload,
  NET_HEADER_BYTES,
  NO_OFFLOAD,
  parseNetHeader,
  writeNetHeader,
} from "../../../devices/virtio/net_header.ts";
import {
  EACCES,
  EBUSY,
  EINVAL,
  ENOENT,
  EPERM,
  errnoName,
  errnoOf,
  IFF_NO_PI,
  IFF_TAP,
  IFF_VNET_HDR,
  IFREQ_FLAGS,
  O_CLOEXEC,
  O_NONBLOCK,
  O_RDWR,
  SIZEOF_IFREQ,
  type SocketLibc,
  TUN_F_CSUM,
  TUN_F_TSO4,
  TUN_F_TSO6,
  TUNSETIFF,
  TUNSETOFFLOAD,
  TUNSETVNETHDRSZ,
} from "../../../ffi/socket.ts";
import { HostError } from "../../base/errors.ts";
import { MAX_FRAME_BYTES } from "./framed_stream.ts";
import { libcFor, PacketNet, type PacketPort } from "./packet_net.ts";
import type { Wire } from "./wire.ts";

const DEVICE = "/dev/net/tun";

export class TapNet extends PacketNet {
  constructor(wire: Wire, private readonly name: string) {
    super(wire);
  }

  // deno-lint-ignore require-await
  async open(): Promise<void> {
    if (Deno.build.os !== "linux") {
      throw new HostError("Cannot use --net tap: expected Linux; on macOS there is --net vmnet");
    }
    const libc = libcFor("--net tap");
    const fd = libc.open(new TextEncoder().encode(`${DEVICE}\0`), O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) throw this.#refusal("open", errnoOf(libc));
    // SAFETY: used within the calls only.
    const ifreq = new Uint8Array(SIZEOF_IFREQ);
    ifreq.set(new TextEncoder().encode(this.name));
    new DataView(ifreq.buffer).setUint16(IFREQ_FLAGS, IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, true);
    const headerBytes = Int32Array.of(NET_HEADER_BYTES);
    if (
      libc.ioctl(fd, BigInt(TUNSETIFF), ifreq) < 0 ||
      libc.ioctl(fd, BigInt(TUNSETVNETHDRSZ), new Uint8Array(headerBytes.buffer)) < 0
    ) {
      const errno = errnoOf(libc);
      libc.close(fd);
      throw this.#refusal("ioctl(TUNSETIFF)", errno);
    }
    this.attach(libc, new TapPort(libc, fd, this.wire));
  }

  #refusal(call: string, errno: number): HostError {
    const make = `sudo ip tuntap add dev ${this.name} mode tap user $USER && sudo ip link set ${this.name} up`;
    const advice: Record<number, string> = {
      [ENOENT]: "this host has no TUN/TAP driver; sudo modprobe tun",
      [EACCES]: `${DEVICE} is closed to this user; give it access, or use --net user`,
      [EPERM]: `it takes CAP_NET_ADMIN, or an interface that belongs to this user: ${make}`,
      [EBUSY]: `${this.name} is in use by another process`,
      [EINVAL]: `${this.name} is no TAP interface; make one with: ${make}`,
    };
    const why = advice[errno] ?? "see ip tuntap";
    return new HostError(`Cannot use "${this.name}" for --net tap: ${call} said ${errnoName(errno)}: ${why}`);
  }
}

class TapPort implements PacketPort {
  // SAFETY: held as long as the port, and used within each call only.
  readonly #in = new Uint8Array(NET_HEADER_BYTES + MAX_FRAME_BYTES + 40);
  readonly #out = new Uint8Array(NET_HEADER_BYTES + MAX_FRAME_BYTES + 40);
  readonly #offload: FrameOffload = { ...NO_OFFLOAD };
  #shown = -1;

  constructor(private readonly libc: SocketLibc, readonly fd: number, private readonly wire: Wire) {
    this.refresh();
  }

  /** Tells the host which frames the guest takes unfinished. */
  refresh(): void {
    const { checksums, segments, segments6 } = this.wire;
    const wanted = checksums ? TUN_F_CSUM | (segments ? TUN_F_TSO4 : 0) | (segments6 ? TUN_F_TSO6 : 0) : 0;
    if (wanted === this.#shown) return;
    this.#shown = wanted;
    // The argument is the flags themselves, where others have a pointer.
    this.libc.ioctl_number(this.fd, BigInt(TUNSETOFFLOAD), BigInt(wanted));
  }

  read(): { frame: Uint8Array; offload: Readonly<FrameOffload> } | null {
    for (;;) {
      const n = Number(this.libc.read(this.fd, this.#in, BigInt(this.#in.length)));
      if (n <= NET_HEADER_BYTES) return null;
      const frame = this.#in.subarray(NET_HEADER_BYTES, n);
      if (parseNetHeader(this.#in, frame.length, this.#offload)) return { frame, offload: this.#offload };
    }
  }

  write(frame: Uint8Array, offload: Readonly<FrameOffload>): void {
    writeNetHeader(offload, this.#out);
    this.#out.fill(0, 10, NET_HEADER_BYTES);
    this.#out.set(frame, NET_HEADER_BYTES);
    this.libc.write(this.fd, this.#out, BigInt(NET_HEADER_BYTES + frame.length));
  }
}
