/**
 * The virtio network device.
 *
 * Spec: [virtio §5.1].
 * Emulated: receive and transmit queue pairs, mergeable receive buffers, checksum and TCP segmentation offload both
 * ways, UDP segmentation offload of what the guest sends, link status, MTU, the control queue (receive modes, MAC address, guest offloads, number of queue pairs).
 * Absent: filtering (receive modes and tables are accepted; every frame is delivered), RSS, VLAN filters, notification
 * coalescing, UDP fragmentation offload.
 *
 * Every queue is served in the thread of the back end, without the machine lock.
 */
import type { Arena } from "../../src/base/arena.ts";
import type { RegisterDevice } from "../../src/base/bus.ts";
import { record, type View } from "../../src/base/record.ts";
import type { Delivery, NetworkCard } from "../network_card.ts";
import {
  type FrameOffload,
  NET_HDR_GSO,
  NET_HEADER_BYTES,
  NO_OFFLOAD,
  parseNetHeader,
  writeNetHeader,
} from "./net_header.ts";
import { type VirtioParts, VirtioPci } from "./pci_transport.ts";
import type { Chain, Virtqueue } from "./queue.ts";

export const NET_FEATURE = {
  CSUM: 0,
  GUEST_CSUM: 1,
  CTRL_GUEST_OFFLOADS: 2,
  MTU: 3,
  MAC: 5,
  GUEST_TSO4: 7,
  GUEST_TSO6: 8,
  HOST_TSO4: 11,
  HOST_TSO6: 12,
  MRG_RXBUF: 15,
  STATUS: 16,
  CTRL_VQ: 17,
  CTRL_RX: 18,
  MQ: 22,
  CTRL_MAC_ADDR: 23,
  HOST_USO: 56,
} as const;

/** Which feature lets the guest send frames to be cut in which way. */
const HOST_FEATURE: Readonly<Record<number, number>> = {
  [NET_HDR_GSO.TCPV4]: NET_FEATURE.HOST_TSO4,
  [NET_HDR_GSO.TCPV6]: NET_FEATURE.HOST_TSO6,
  [NET_HDR_GSO.UDP_L4]: NET_FEATURE.HOST_USO,
};

export const NET_CTRL = { RX: 0, MAC: 1, MQ: 4, GUEST_OFFLOADS: 5 } as const;
export const NET_CTRL_MAC = { TABLE_SET: 0, ADDR_SET: 1 } as const;
const CTRL_RX_COMMANDS = 2; // promiscuous, all multicast: those of VIRTIO_NET_F_CTRL_RX
const VQ_PAIRS_SET = 0;
const GUEST_OFFLOADS_SET = 0;
export const NET_ACK = { OK: 0, ERR: 1 } as const;
const LINK_UP = 1;

/** The largest frame: an IPv6 packet, whose length does not count its own header, behind an Ethernet header. */
export const MAX_FRAME_BYTES = 65535 + 40 + 14;
const QUEUE_SIZE = 256;
const MAX_CONTROL_BYTES = 64;

/** The device configuration structure [virtio §5.1.4]. */
export const VIRTIO_NET_CONFIG = {
  mac_lo: { at: 0, width: 4, access: "ro" },
  mac_hi: { at: 4, width: 2, access: "ro" },
  status: { at: 6, width: 2, access: "ro" },
  max_virtqueue_pairs: { at: 8, width: 2, access: "ro" },
  mtu: { at: 10, width: 2, access: "ro" },
} as const;

export const VirtioNetRecord = record("virtio-net", 1, {
  /** The driver has set an address of its own. */
  macSet: { type: "u8", max: 1 },
  mac: { array: "u8", length: 6 },
  linkDown: { type: "u8", max: 1 },
  /** Queue pairs in use, less one. */
  morePairs: "u16",
  /** The driver has said which offloads it wants now; else it is those it negotiated. */
  offloadsSet: { type: "u8", max: 1 },
  offloads: "u32",
});

export interface VirtioNetParts extends VirtioParts {
  /**
   * Queue `index` has buffers: wake whoever owns the back end. Receive queues are even, transmit queues odd, and the control
   * queue is the last.
   */
  readonly notify: (index: number) => void;
  /** The driver has let go of the device. */
  readonly onReset?: () => void;
}

export interface VirtioNetOptions {
  readonly mac: Uint8Array;
  /** The back end takes checksums that are not complete, and segments to be cut, and may give such. */
  readonly offload: boolean;
  readonly mtu?: number;
  readonly pairs?: number;
  /** An expansion ROM, a power of two long, by which firmware boots from the card. */
  readonly rom?: Uint8Array;
}

export class VirtioNet extends VirtioPci implements NetworkCard {
  readonly #n: View<typeof VirtioNetRecord>;
  readonly #pairs: number;
  readonly #header = new Uint8Array(NET_HEADER_BYTES);
  readonly #offload: FrameOffload = { ...NO_OFFLOAD };
  readonly #frame = new Uint8Array(MAX_FRAME_BYTES);
  readonly #control = new Uint8Array(MAX_CONTROL_BYTES);
  readonly #ack = new Uint8Array(1);
  /** Receive queues held from the first frame of a burst to `flush`. */
  readonly #held: (Virtqueue | null)[];

  constructor(
    arena: Arena,
    id: string,
    private readonly netParts: VirtioNetParts,
    private readonly options: VirtioNetOptions,
  ) {
    const F = NET_FEATURE, pairs = options.pairs ?? 1;
    const features: number[] = [F.MAC, F.STATUS, F.MRG_RXBUF, F.CTRL_VQ, F.CTRL_RX, F.CTRL_MAC_ADDR];
    if (options.offload) {
      features.push(F.CSUM, F.GUEST_CSUM, F.CTRL_GUEST_OFFLOADS);
      features.push(F.GUEST_TSO4, F.GUEST_TSO6, F.HOST_TSO4, F.HOST_TSO6, F.HOST_USO);
    }
    if (options.mtu !== undefined) features.push(F.MTU);
    if (pairs > 1) features.push(F.MQ);
    super(arena, id, netParts, {
      type: 1,
      classCode: 0x020000,
      features,
      queues: 2 * pairs + 1,
      queueSize: QUEUE_SIZE,
      ...(options.rom ? { rom: options.rom } : {}),
    });
    this.#pairs = pairs;
    this.#held = Array.from({ length: pairs }, () => null);
    this.#n = arena.place(`${id}.net`, VirtioNetRecord);
    const config: RegisterDevice<typeof VIRTIO_NET_CONFIG> = {
      registers: VIRTIO_NET_CONFIG,
      readRegister: (reg) => this.#config(reg),
      writeRegister: () => {},
    };
    this.showConfig(config);
  }

  /** The address frames for this device carry. */
  get mac(): Uint8Array {
    return this.#n.macSet ? this.#n.mac : this.options.mac;
  }

  #config(reg: keyof typeof VIRTIO_NET_CONFIG): number {
    const mac = this.mac;
    switch (reg) {
      case "mac_lo":
        return (mac[0]! | (mac[1]! << 8) | (mac[2]! << 16) | (mac[3]! << 24)) >>> 0;
      case "mac_hi":
        return mac[4]! | (mac[5]! << 8);
      case "status":
        return this.#n.linkDown ? 0 : LINK_UP;
      case "max_virtqueue_pairs":
        return this.#pairs;
      case "mtu":
        return this.options.mtu ?? 0;
    }
  }

  /** Pairs of queues that the driver uses [virtio §5.1.6.5.6]. */
  get activePairs(): number {
    return Math.min(this.#pairs, this.#n.morePairs + 1);
  }

  get linkUp(): boolean {
    return this.#n.linkDown === 0;
  }

  /** Plugs the cable in or out. Under the machine lock. */
  setLink(up: boolean): void {
    if (this.linkUp === up) return;
    this.#n.linkDown = up ? 0 : 1;
    this.configChanged();
  }

  /** Where the control queue is: after the pairs that were negotiated [virtio §5.1.2]. */
  get controlQueue(): number {
    return this.negotiated(NET_FEATURE.MQ) ? 2 * this.#pairs : 2;
  }

  protected override notified(index: number): void {
    if (index === this.controlQueue || index < 2 * this.#pairs) this.netParts.notify(index);
  }

  protected override wasReset(): void {
    const n = this.#n, linkDown = n.linkDown;
    VirtioNetRecord.reset(n);
    n.linkDown = linkDown;
    this.netParts.onReset?.();
  }

  /** Whether the guest takes frames with an incomplete checksum. */
  get guestChecksums(): boolean {
    return this.#guestOffload(NET_FEATURE.GUEST_CSUM);
  }

  /** Whether the guest takes TCP segments over IPv4 that are to be cut. */
  get guestSegments(): boolean {
    return this.guestChecksums && this.#guestOffload(NET_FEATURE.GUEST_TSO4);
  }

  /** The same over IPv6. */
  get guestSegments6(): boolean {
    return this.guestChecksums && this.#guestOffload(NET_FEATURE.GUEST_TSO6);
  }

  #guestOffload(bit: number): boolean {
    return this.negotiated(bit) && (!this.#n.offloadsSet || ((this.#n.offloads >>> bit) & 1) !== 0);
  }

  // What follows is for the thread of the back end.

  /**
   * Hands every frame waiting on transmit queue `pair` to `sink`, at most as many as the queue has entries; the arguments are
   * good during the call only. True: call again, more are waiting.
   */
  transmit(pair: number, sink: (frame: Uint8Array, offload: Readonly<FrameOffload>) => void): boolean {
    const index = 2 * pair + 1;
    const q = this.acquire(index);
    if (!q) return false;
    while (q.pop()) {
      const { chain } = q;
      const size = chain.readableBytes - NET_HEADER_BYTES;
      // A frame that cannot be one is swallowed, as a cable would.
      if (size >= 14 && size <= MAX_FRAME_BYTES && !this.#n.linkDown) {
        chain.read(0, this.#header);
        const frame = this.#frame.subarray(0, size);
        chain.read(NET_HEADER_BYTES, frame);
        if (parseNetHeader(this.#header, size, this.#offload) && this.#offered()) sink(frame, this.#offload);
      }
      q.push(chain.head, 0);
    }
    this.signalUsed(index);
    return this.release(index);
  }

  #offered(): boolean {
    const { csumStart, gsoSize, gsoType } = this.#offload;
    return (csumStart < 0 || this.negotiated(NET_FEATURE.CSUM)) &&
      (gsoSize === 0 || this.negotiated(HOST_FEATURE[gsoType] ?? NET_FEATURE.HOST_TSO4));
  }

  /**
   * Puts a frame into buffers of receive queue `pair`. After "full" the guest's next buffers are announced by `notify`; the
   * guest hears of frames at `flush`.
   */
  deliver(pair: number, frame: Uint8Array, offload: Readonly<FrameOffload> = NO_OFFLOAD): Delivery {
    if (this.#n.linkDown) return "dropped";
    for (;;) {
      const held = this.#held[pair];
      const q = held ?? this.acquire(2 * pair);
      if (!q) return "dropped";
      this.#held[pair] = q;
      const delivery = this.#fill(q, frame, offload);
      if (delivery !== "full") return delivery;
      this.signalUsed(2 * pair);
      this.#held[pair] = null;
      // The frames before may have used up what one turn may take; a fresh one shows what there is.
      if (!this.release(2 * pair, "more") && !held) return "full";
    }
  }

  #fill(q: Virtqueue, frame: Uint8Array, offload: Readonly<FrameOffload>): Delivery {
    const header = this.#header;
    writeNetHeader(offload, header);
    const mergeable = this.negotiated(NET_FEATURE.MRG_RXBUF);
    const total = NET_HEADER_BYTES + frame.length;
    let buffers = 0, done = 0, countLo = -1, countHi = -1;
    const heads = this.#heads, sizes = this.#sizes;
    while (done < total) {
      if (buffers === q.size) {
        q.fail(); // an empty queue, and all of it is less than a frame
        return "dropped";
      }
      if (!q.pop()) {
        q.untake(buffers);
        return "full";
      }
      const { chain } = q;
      const room = chain.writableBytes;
      if (buffers === 0) {
        if (room < NET_HEADER_BYTES || (!mergeable && room < total)) {
          q.push(chain.head, 0);
          return "dropped";
        }
        countLo = placeOf(chain, 10);
        countHi = placeOf(chain, 11);
        chain.write(0, header);
        chain.write(NET_HEADER_BYTES, frame);
      } else chain.write(0, frame.subarray(done - NET_HEADER_BYTES));
      heads[buffers] = chain.head;
      sizes[buffers] = Math.min(room, total - done);
      done += sizes[buffers]!;
      buffers++;
    }
    if (buffers > 1) {
      const ram = this.parts.ram;
      ram.write(countLo, 1, buffers & 0xff);
      ram.write(countHi, 1, buffers >> 8);
    }
    for (let i = 0; i < buffers; i++) q.push(heads[i]!, sizes[i]!);
    return "delivered";
  }

  readonly #heads = new Uint16Array(QUEUE_SIZE);
  readonly #sizes = new Uint32Array(QUEUE_SIZE);

  /** Tells the guest of the frames delivered since the last call. */
  flush(): void {
    for (let pair = 0; pair < this.#pairs; pair++) {
      if (!this.#held[pair]) continue;
      this.#held[pair] = null;
      this.signalUsed(2 * pair);
      this.release(2 * pair, "none");
    }
  }

  /** Carries out the commands waiting on the control queue [virtio §5.1.6.5]. True: call again, more are waiting. */
  serveControl(): boolean {
    const index = this.controlQueue;
    const q = this.acquire(index);
    if (!q) return false;
    while (q.pop()) {
      const { chain } = q;
      const n = chain.read(0, this.#control);
      if (n < 2 || chain.writableBytes < 1) {
        q.fail();
        break;
      }
      this.#ack[0] = this.#command(this.#control.subarray(2, n), chain.readableBytes - 2) ? NET_ACK.OK : NET_ACK.ERR;
      q.push(chain.head, chain.write(0, this.#ack));
    }
    this.signalUsed(index);
    return this.release(index);
  }

  /** `size` is that of the whole command, of which `data` is the start. */
  #command(data: Uint8Array, size: number): boolean {
    const [group, command] = this.#control;
    const n = this.#n;
    switch (group) {
      case NET_CTRL.RX:
        return command! < CTRL_RX_COMMANDS && size === 1;
      case NET_CTRL.MAC:
        if (command === NET_CTRL_MAC.TABLE_SET) return true;
        if (command !== NET_CTRL_MAC.ADDR_SET || size !== 6) return false;
        n.mac.set(data.subarray(0, 6));
        n.macSet = 1;
        return true;
      case NET_CTRL.MQ: {
        const pairs = data[0]! | (data[1]! << 8);
        if (!this.negotiated(NET_FEATURE.MQ) || command !== VQ_PAIRS_SET || size !== 2) return false;
        if (pairs < 1 || pairs > this.#pairs) return false;
        n.morePairs = pairs - 1;
        return true;
      }
      case NET_CTRL.GUEST_OFFLOADS:
        if (!this.negotiated(NET_FEATURE.CTRL_GUEST_OFFLOADS) || command !== GUEST_OFFLOADS_SET || size !== 8) {
          return false;
        }
        n.offloads = (data[0]! | (data[1]! << 8) | (data[2]! << 16) | (data[3]! << 24)) >>> 0;
        n.offloadsSet = 1;
        return true;
      default:
        return false;
    }
  }
}

/** Where in guest RAM byte `offset` of a chain's device-writable part is. */
function placeOf(chain: Chain, offset: number): number {
  for (let i = chain.readableCount; i < chain.count; i++) {
    const size = chain.sizeBytes[i]!;
    if (offset < size) return chain.gpa[i]! + offset;
    offset -= size;
  }
  return -1;
}
