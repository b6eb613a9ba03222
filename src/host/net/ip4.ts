/** IPv4 over Ethernet: packets in, packets out, fragments both ways. Spec: [rfc791], [rfc894]. */
import { type FrameOffload, NO_OFFLOAD } from "../../../devices/virtio/net_header.ts";
import { checksum, put16, put32, sum16, u16, u32 } from "./address.ts";
import { ETHERNET_BYTES, ETHERTYPE, HOPS, type IpOutput, MTU, type Packet } from "./ip.ts";
import { Reassembler } from "./reassembly.ts";
import type { Outbox } from "./wire.ts";

const HEADER_BYTES = 20;
/** Where the payload of an outgoing packet stands in its frame. */
const PAYLOAD_AT = ETHERNET_BYTES + HEADER_BYTES;
const DONT_FRAGMENT = 0x4000;
const MORE_FRAGMENTS = 0x2000;

export class Ip4Input {
  readonly #fragments: Reassembler;

  constructor(now: () => number) {
    this.#fragments = new Reassembler(now);
  }

  /** The packet in a frame; null if it is none, or not whole yet. */
  parse(frame: Uint8Array, offload: Readonly<FrameOffload>): Packet | null {
    const ip = frame.subarray(ETHERNET_BYTES);
    const headerBytes = (ip[0]! & 15) * 4;
    if (ip.length < HEADER_BYTES || ip[0]! >> 4 !== 4 || headerBytes < HEADER_BYTES || headerBytes > ip.length) {
      return null;
    }
    const total = u16(ip, 2);
    // Frames are padded to their least length; the header knows.
    if (total < headerBytes || total > ip.length || sum16(ip, 0, headerBytes) !== 0xffff) return null;
    const packet: Packet = {
      source: u32(ip, 12),
      destination: u32(ip, 16),
      protocol: ip[9]!,
      bytes: ip.subarray(0, total),
      headerBytes,
      verify: offload.csumStart < 0,
      cutBytes: offload.gsoSize,
    };
    const fragment = u16(ip, 6);
    if ((fragment & (MORE_FRAGMENTS | 0x1fff)) === 0) return packet;
    const payload = this.#fragments.add(
      `${packet.source} ${packet.destination} ${packet.protocol} ${u16(ip, 4)}`,
      (fragment & 0x1fff) * 8,
      (fragment & MORE_FRAGMENTS) === 0,
      packet.bytes.subarray(headerBytes),
    );
    if (!payload) return null;
    const whole = new Uint8Array(HEADER_BYTES + payload.length);
    whole.set(ip.subarray(0, HEADER_BYTES));
    whole.set(payload, HEADER_BYTES);
    return { ...packet, bytes: whole, headerBytes: HEADER_BYTES, verify: true };
  }

  clear(): void {
    this.#fragments.clear();
  }
}

export class Ip4Output implements IpOutput {
  readonly payloadAt = PAYLOAD_AT;
  readonly frame: Uint8Array = new Uint8Array(ETHERNET_BYTES + 65535);
  readonly #fragment = new Uint8Array(ETHERNET_BYTES + MTU);
  #id = 0;

  /** `macOf` knows which station has an address. */
  constructor(
    private readonly outbox: Outbox,
    private readonly ownMac: Uint8Array,
    private readonly macOf: (address: number) => Uint8Array,
  ) {}

  send(
    protocol: number,
    source: number,
    destination: number,
    payloadBytes: number,
    offload: Readonly<FrameOffload> = NO_OFFLOAD,
  ): void {
    const frame = this.frame, id = this.#id = (this.#id + 1) & 0xffff;
    const whole = HEADER_BYTES + payloadBytes <= MTU || offload.gsoSize > 0;
    this.#header(frame, { protocol, source, destination, payloadBytes, id, fragment: whole ? DONT_FRAGMENT : 0 });
    if (whole) return this.outbox.send(frame.subarray(0, PAYLOAD_AT + payloadBytes), offload);
    const step = (MTU - HEADER_BYTES) & ~7;
    for (let at = 0; at < payloadBytes; at += step) {
      const size = Math.min(step, payloadBytes - at);
      const fragment = (at >> 3) | (at + size < payloadBytes ? MORE_FRAGMENTS : 0);
      this.#header(this.#fragment, { protocol, source, destination, payloadBytes: size, id, fragment });
      this.#fragment.set(frame.subarray(PAYLOAD_AT + at, PAYLOAD_AT + at + size), PAYLOAD_AT);
      this.outbox.send(this.#fragment.subarray(0, PAYLOAD_AT + size), NO_OFFLOAD);
    }
  }

  #header(
    frame: Uint8Array,
    p: { protocol: number; source: number; destination: number; payloadBytes: number; id: number; fragment: number },
  ): void {
    frame.set(this.macOf(p.destination));
    frame.set(this.ownMac, 6);
    put16(frame, 12, ETHERTYPE.IPV4);
    const at = ETHERNET_BYTES;
    frame[at] = 0x45;
    frame[at + 1] = 0;
    put16(frame, at + 2, HEADER_BYTES + p.payloadBytes);
    put16(frame, at + 4, p.id);
    put16(frame, at + 6, p.fragment);
    frame[at + 8] = HOPS;
    frame[at + 9] = p.protocol;
    put16(frame, at + 10, 0);
    put32(frame, at + 12, p.source);
    put32(frame, at + 16, p.destination);
    put16(frame, at + 10, checksum(frame, at, at + HEADER_BYTES));
  }
}
