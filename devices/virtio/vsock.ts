/**
 * The virtio socket device: packets between sockets of the guest and of the host.
 *
 * Spec: [virtio §5.10].
 * Emulated: stream sockets, the event queue with VIRTIO_VSOCK_EVENT_TRANSPORT_RESET.
 * Absent: seqpacket sockets.
 *
 * What the packets mean is the host end's business, in whose thread every queue is served, without the machine lock.
 */
import type { Arena } from "../../src/base/arena.ts";
import type { RegisterDevice } from "../../src/base/bus.ts";
import { type VirtioParts, VirtioPci } from "./pci_transport.ts";

const RX = 0, TX = 1, EVENT = 2;
const F_STREAM = 0;
const QUEUE_SIZE = 128;
const EVENT_TRANSPORT_RESET = 0;
export const VSOCK_HEADER_BYTES = 44;
/** What one packet of the guest's may carry: as much as Linux sends at once. What is longer is no packet. */
export const VSOCK_MAX_PAYLOAD_BYTES = 64 * 1024;

export const VSOCK_OP = {
  REQUEST: 1,
  RESPONSE: 2,
  RST: 3,
  SHUTDOWN: 4,
  RW: 5,
  CREDIT_UPDATE: 6,
  CREDIT_REQUEST: 7,
} as const;
export const VSOCK_TYPE_STREAM = 1;

/** struct virtio_vsock_hdr; context IDs have 32 bits in use, the upper halves are zero. */
export interface VsockHeader {
  srcCid: number;
  dstCid: number;
  srcPort: number;
  dstPort: number;
  type: number;
  op: number;
  flags: number;
  bufAlloc: number;
  fwdCnt: number;
}

/** The device configuration structure [virtio §5.10.4]. */
export const VIRTIO_VSOCK_CONFIG = {
  guest_cid_lo: { at: 0, width: 4, access: "ro" },
  guest_cid_hi: { at: 4, width: 4, access: "ro" },
} as const;

export interface VirtioVsockParts extends VirtioParts {
  /** The guest sent packets, or has room for some: wake whoever owns the other end. */
  readonly notify: () => void;
  /** The driver has let go of the device. */
  readonly onReset?: () => void;
}

export class VirtioVsock extends VirtioPci {
  readonly #header = new Uint8Array(VSOCK_HEADER_BYTES);
  readonly #view = new DataView(this.#header.buffer);
  #payload: Uint8Array | null = null;

  constructor(arena: Arena, id: string, private readonly vsockParts: VirtioVsockParts, readonly guestCid: number) {
    super(arena, id, vsockParts, {
      type: 19,
      classCode: 0x078000,
      features: [F_STREAM],
      queues: 3,
      queueSize: QUEUE_SIZE,
    });
    const config: RegisterDevice<typeof VIRTIO_VSOCK_CONFIG> = {
      registers: VIRTIO_VSOCK_CONFIG,
      readRegister: (reg) => reg === "guest_cid_lo" ? guestCid : 0,
      writeRegister: () => {},
    };
    this.showConfig(config);
  }

  protected override notified(index: number): void {
    if (index !== EVENT) this.vsockParts.notify();
  }

  protected override wasReset(): void {
    this.vsockParts.onReset?.();
  }

  /**
   * Hands every packet that waits to `sink`, at most as many as the queue has entries; what it is given is good during the call
   * only. True: call again, more are waiting.
   */
  transmit(sink: (header: Readonly<VsockHeader>, payload: Uint8Array) => void): boolean {
    const q = this.acquire(TX);
    if (!q) return false;
    const v = this.#view, payload = this.#payload ??= new Uint8Array(VSOCK_MAX_PAYLOAD_BYTES);
    while (q.pop()) {
      const { chain } = q;
      const whole = chain.read(0, this.#header) === VSOCK_HEADER_BYTES;
      const size = v.getUint32(24, true);
      if (whole && size <= VSOCK_MAX_PAYLOAD_BYTES && VSOCK_HEADER_BYTES + size <= chain.readableBytes) {
        const bytes = payload.subarray(0, size);
        chain.read(VSOCK_HEADER_BYTES, bytes);
        // A context ID whose upper half is not zero is nobody's.
        const cid = (at: number) => v.getUint32(at + 4, true) === 0 ? v.getUint32(at, true) : -1;
        sink({
          srcCid: cid(0),
          dstCid: cid(8),
          srcPort: v.getUint32(16, true),
          dstPort: v.getUint32(20, true),
          type: v.getUint16(28, true),
          op: v.getUint16(30, true),
          flags: v.getUint32(32, true),
          bufAlloc: v.getUint32(36, true),
          fwdCnt: v.getUint32(40, true),
        }, bytes);
      }
      q.push(chain.head, 0);
    }
    this.signalUsed(TX);
    return this.release(TX);
  }

  /**
   * Puts a packet into a buffer of the guest's, with as much of `payload` as that holds; how much that was, or -1 if there is no
   * buffer: then `notify` tells of the next.
   */
  deliver(header: Readonly<VsockHeader>, payload: Uint8Array): number {
    const q = this.acquire(RX);
    if (!q) return -1;
    let sent = -1;
    while (sent < 0 && q.pop()) {
      const { chain } = q, room = chain.writableBytes - VSOCK_HEADER_BYTES;
      if (room < 0 || (room === 0 && payload.length > 0)) {
        q.push(chain.head, 0); // no buffer for packets
        continue;
      }
      sent = Math.min(room, payload.length);
      this.#compose(header, sent);
      chain.write(0, this.#header);
      if (sent > 0) chain.write(VSOCK_HEADER_BYTES, payload.subarray(0, sent));
      q.push(chain.head, VSOCK_HEADER_BYTES + sent);
    }
    this.signalUsed(RX);
    this.release(RX);
    return sent;
  }

  #compose(h: Readonly<VsockHeader>, size: number): void {
    const v = this.#view;
    this.#header.fill(0);
    v.setUint32(0, h.srcCid, true);
    v.setUint32(8, h.dstCid, true);
    v.setUint32(16, h.srcPort, true);
    v.setUint32(20, h.dstPort, true);
    v.setUint32(24, size, true);
    v.setUint16(28, h.type, true);
    v.setUint16(30, h.op, true);
    v.setUint32(32, h.flags, true);
    v.setUint32(36, h.bufAlloc, true);
    v.setUint32(40, h.fwdCnt, true);
  }

  /** Tells a driver that is there that every connection is gone [virtio §5.10.6.7]. */
  transportReset(): void {
    const q = this.acquire(EVENT);
    if (!q) return;
    if (q.pop()) q.push(q.chain.head, q.chain.write(0, Uint8Array.of(EVENT_TRANSPORT_RESET, 0, 0, 0)));
    this.signalUsed(EVENT);
    this.release(EVENT, "none");
  }
}
