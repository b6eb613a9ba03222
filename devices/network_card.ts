/** What a network card is to whoever carries its frames. Calls come from one thread, without the machine lock, but for `setLink`. */
import type { FrameOffload } from "./virtio/net_header.ts";

/** What happened to a frame for the guest: it has it, nobody can have it, or there is no room now. */
export type Delivery = "delivered" | "dropped" | "full";

export interface NetworkCard {
  /** Whether the guest takes frames with an incomplete checksum, and TCP segments that are to be cut, over IPv4 and IPv6. */
  readonly guestChecksums: boolean;
  readonly guestSegments: boolean;
  readonly guestSegments6: boolean;
  /** Pairs of queues that the guest uses. */
  readonly activePairs: number;
  /** Hands what the guest sends by a queue to `sink`; the arguments are good during the call. True: more is waiting. */
  transmit(pair: number, sink: (frame: Uint8Array, offload: Readonly<FrameOffload>) => void): boolean;
  /** Gives the guest a frame; after "full" its next buffers are announced. The guest hears of it at `flush`. */
  deliver(pair: number, frame: Uint8Array, offload: Readonly<FrameOffload>): Delivery;
  flush(): void;
  /** Carries out commands of the driver's. True: more are waiting. */
  serveControl(): boolean;
  /** Plugs the cable in or out. Under the machine lock. */
  readonly linkUp: boolean;
  setLink(up: boolean): void;
  /** Looks for what was waiting when the machine was saved. Under the machine lock. */
  renotify(): void;
}
