/**
 * Back ends where a read or a write of a descriptor is a frame: TAP interfaces and datagram sockets. Frames that the guest has no
 * room for wait in the host's queue; what that does not hold is lost, as on any cable.
 */
import { type FrameOffload, NO_OFFLOAD } from "../../../devices/virtio/net_header.ts";
import { openSocketLibc, type SocketLibc } from "../../../ffi/socket.ts";
import { HostError, messageOf } from "../../base/errors.ts";
import { Descriptor } from "./descriptor.ts";
import type { NetBackend, Wire } from "./wire.ts";

const MAX_AT_ONCE = 64;

export interface PacketPort {
  readonly fd: number;
  /** Reads a frame into its own buffer; null if there is none now. */
  read(): { frame: Uint8Array; offload: Readonly<FrameOffload> } | null;
  write(frame: Uint8Array, offload: Readonly<FrameOffload>): void;
  /** What the guest takes may have changed. */
  refresh?(): void;
  close?(): void;
}

export abstract class PacketNet implements NetBackend {
  #port: PacketPort | null = null;
  #descriptor: Descriptor | null = null;
  #held: { frame: Uint8Array; offload: FrameOffload } | null = null;

  constructor(protected readonly wire: Wire) {}

  /** Opens the port. Rejects with HostError. */
  abstract open(): Promise<void>;

  protected attach(libc: SocketLibc, port: PacketPort): void {
    this.#port = port;
    this.#descriptor = new Descriptor(libc, port.fd, () => this.#readable(port));
  }

  protected detach(): void {
    this.#descriptor?.close();
    this.#port?.close?.();
    this.#descriptor = this.#port = this.#held = null;
  }

  #readable(port: PacketPort): void {
    for (let i = 0; i < MAX_AT_ONCE; i++) {
      const one = port.read();
      if (!one) return;
      if (this.wire.send(one.frame, one.offload)) continue;
      this.#held = { frame: one.frame.slice(), offload: { ...one.offload } };
      this.#descriptor?.pause();
      return;
    }
  }

  receive(frame: Uint8Array, offload: Readonly<FrameOffload> = NO_OFFLOAD): void {
    this.#port?.write(frame, offload);
  }

  endOfBurst(): void {}

  room(): void {
    this.#port?.refresh?.();
    const held = this.#held;
    if (held && !this.wire.send(held.frame, held.offload)) return;
    this.#held = null;
    this.#descriptor?.resume();
  }

  guestReset(): void {
    this.#held = null;
    this.#port?.refresh?.();
    this.#descriptor?.resume();
  }

  tick(): number {
    return Infinity;
  }

  close(): void {
    this.detach();
  }
}

/** Opens libc for a back end of descriptors. Throws what is to be told. */
export function libcFor(flag: string): SocketLibc {
  try {
    return openSocketLibc();
  } catch (error) {
    const why = error instanceof Deno.errors.NotCapable ? "run again with --allow-ffi" : messageOf(error);
    throw new HostError(`Cannot open libc for ${flag}: ${why}`, { cause: error });
  }
}
