/** The cable between the guest's network device and whatever is at the other end. */
import type { FrameOffload } from "../../../devices/virtio/net_header.ts";

export interface Wire {
  /** Whether the guest takes frames whose checksum is not complete, and TCP segments that are to be cut, over IPv4 and IPv6. */
  readonly checksums: boolean;
  readonly segments: boolean;
  readonly segments6: boolean;
  /** Gives the guest a copy of a frame; false if there is no room now, and the back end's `room` is called once there is. */
  send(frame: Uint8Array, offload: Readonly<FrameOffload>): boolean;
}

/** What a frame of the guest's goes to. All calls are made in one thread. */
export interface NetBackend {
  /** A frame from the guest, good during the call only. */
  receive(frame: Uint8Array, offload: Readonly<FrameOffload>): void;
  /** Several frames may come at a time; this is after the last of them. */
  endOfBurst(): void;
  /** There may be room again for frames to the guest. */
  room(): void;
  /** The guest's device was reset: nobody there remembers anything. */
  guestReset(): void;
  /** Does what is due now; returns when to call again, in milliseconds of guest time, or Infinity. */
  tick(): number;
  close(): void;
}

const MAX_FRAMES = 256;

/** Frames that wait for room, in order. What comes when it is full is lost, as on any cable. */
export class Outbox {
  readonly #waiting: { frame: Uint8Array; offload: FrameOffload }[] = [];
  /** Frames lost for want of room. */
  dropped = 0;

  constructor(private readonly wire: Wire) {}

  /** Nothing waits: what is sent now goes straight to the guest. */
  get ready(): boolean {
    return this.#waiting.length === 0;
  }

  send(frame: Uint8Array, offload: Readonly<FrameOffload>): void {
    if (this.ready && this.wire.send(frame, offload)) return;
    if (this.#waiting.length >= MAX_FRAMES) {
      this.dropped++;
      return;
    }
    this.#waiting.push({ frame: frame.slice(), offload: { ...offload } });
  }

  /** Sends what waits, as far as there is room. */
  flush(): void {
    let sent = 0;
    for (const { frame, offload } of this.#waiting) {
      if (!this.wire.send(frame, offload)) break;
      sent++;
    }
    if (sent > 0) this.#waiting.splice(0, sent);
  }

  clear(): void {
    this.#waiting.length = 0;
  }
}
