/** IPv6 over Ethernet: packets in, packets out, fragments both ways. Spec: [rfc8200], [rfc2464]. */
import { type FrameOffload, NO_OFFLOAD } from "../../../devices/virtio/net_header.ts";
import { type Address, type Ip6, ip6, put16, put32, putIp6, u16, u32 } from "./address.ts";
import { ETHERNET_BYTES, ETHERTYPE, HOPS, type IpOutput, MTU, type Packet, PROTOCOL } from "./ip.ts";
import { Reassembler } from "./reassembly.ts";
import type { Outbox } from "./wire.ts";

const HEADER_BYTES = 40;
const PAYLOAD_AT = ETHERNET_BYTES + HEADER_BYTES;
const FRAGMENT_BYTES = 8;
/** Extension headers before the payload [rfc8200 §4]. */
const EXTENSION = { HOP_BY_HOP: 0, ROUTING: 43, FRAGMENT: 44, DESTINATION: 60 } as const;
/** Of Neighbour Discovery: nothing from beyond the link has it [rfc4861 §3.1]. */
export const MOST_HOPS = 255;

export class Ip6Input {
  readonly #fragments: Reassembler;

  constructor(now: () => number) {
    this.#fragments = new Reassembler(now, true);
  }

  /** The packet in a frame; null if it is none, or not whole yet. */
  parse(frame: Uint8Array, offload: Readonly<FrameOffload>): Packet | null {
    const ip = frame.subarray(ETHERNET_BYTES);
    if (ip.length < HEADER_BYTES || ip[0]! >> 4 !== 6) return null;
    const total = HEADER_BYTES + u16(ip, 4);
    if (total > ip.length) return null;
    const source = ip6(ip, 8), destination = ip6(ip, 24);
    // Nobody is a group [rfc4291 §2.7].
    if (source.charCodeAt(0) >>> 8 === 0xff) return null;
    const bytes = ip.subarray(0, total);
    const verify = offload.csumStart < 0, cutBytes = offload.gsoSize;
    const payload = payloadOf(bytes, ip[6]!, HEADER_BYTES);
    if (!payload) return null;
    if (payload.protocol !== EXTENSION.FRAGMENT) {
      return { source, destination, protocol: payload.protocol, bytes, headerBytes: payload.at, verify, cutBytes };
    }
    const { at } = payload;
    if (at + FRAGMENT_BYTES > total) return null;
    const place = u16(bytes, at + 2);
    const rest = this.#fragments.add(
      `${source} ${destination} ${u32(bytes, at + 4)}`,
      place & ~7,
      (place & 1) === 0,
      bytes.subarray(at + FRAGMENT_BYTES),
    );
    if (!rest) return null;
    const whole = new Uint8Array(HEADER_BYTES + rest.length);
    whole.set(bytes.subarray(0, HEADER_BYTES));
    whole.set(rest, HEADER_BYTES);
    const inner = payloadOf(whole, bytes[at]!, HEADER_BYTES);
    if (!inner || inner.protocol === EXTENSION.FRAGMENT) return null;
    return {
      source,
      destination,
      protocol: inner.protocol,
      bytes: whole,
      headerBytes: inner.at,
      verify: true,
      cutBytes: 0,
    };
  }

  clear(): void {
    this.#fragments.clear();
  }
}

/** What follows the extension headers, and where; a fragment header ends the search. Null if they lead nowhere. */
function payloadOf(bytes: Uint8Array, protocol: number, at: number): { protocol: number; at: number } | null {
  while (
    protocol === EXTENSION.HOP_BY_HOP || protocol === EXTENSION.ROUTING || protocol === EXTENSION.DESTINATION
  ) {
    if (at + 8 > bytes.length) return null;
    // A route that is not at its end goes through somebody else, and this is no router for that.
    if (protocol === EXTENSION.ROUTING && bytes[at + 3] !== 0) return null;
    protocol = bytes[at]!;
    at += 8 * (bytes[at + 1]! + 1);
    if (at > bytes.length) return null;
  }
  return { protocol, at };
}

export class Ip6Output implements IpOutput {
  readonly frame: Uint8Array = new Uint8Array(ETHERNET_BYTES + 65535);
  readonly payloadAt = PAYLOAD_AT;
  readonly #fragment = new Uint8Array(ETHERNET_BYTES + MTU);
  #id = 0;

  /** `macOf` knows which station has an address. */
  constructor(
    private readonly outbox: Outbox,
    private readonly ownMac: Uint8Array,
    private readonly macOf: (address: Address) => Uint8Array,
  ) {}

  send(
    protocol: number,
    source: Ip6,
    destination: Ip6,
    payloadBytes: number,
    offload: Readonly<FrameOffload> = NO_OFFLOAD,
  ): void {
    const frame = this.frame;
    if (HEADER_BYTES + payloadBytes <= MTU || offload.gsoSize > 0) {
      this.#header(frame, protocol, source, destination, payloadBytes);
      return this.outbox.send(frame.subarray(0, PAYLOAD_AT + payloadBytes), offload);
    }
    const id = this.#id = (this.#id + 1) >>> 0;
    const step = (MTU - HEADER_BYTES - FRAGMENT_BYTES) & ~7, to = this.#fragment, at = PAYLOAD_AT;
    for (let from = 0; from < payloadBytes; from += step) {
      const size = Math.min(step, payloadBytes - from);
      this.#header(to, EXTENSION.FRAGMENT, source, destination, FRAGMENT_BYTES + size);
      put16(to, at, protocol << 8);
      put16(to, at + 2, from | (from + size < payloadBytes ? 1 : 0));
      put32(to, at + 4, id);
      to.set(frame.subarray(PAYLOAD_AT + from, PAYLOAD_AT + from + size), at + FRAGMENT_BYTES);
      this.outbox.send(to.subarray(0, PAYLOAD_AT + FRAGMENT_BYTES + size), NO_OFFLOAD);
    }
  }

  #header(frame: Uint8Array, next: number, source: Ip6, destination: Ip6, payloadBytes: number): void {
    frame.set(this.macOf(destination));
    frame.set(this.ownMac, 6);
    put16(frame, 12, ETHERTYPE.IPV6);
    const at = ETHERNET_BYTES;
    put32(frame, at, 0x6000_0000);
    put16(frame, at + 4, payloadBytes);
    frame[at + 6] = next;
    // Everything of ICMPv6 that starts here stays on the link.
    frame[at + 7] = next === PROTOCOL.ICMPV6 ? MOST_HOPS : HOPS;
    putIp6(frame, at + 8, source);
    putIp6(frame, at + 24, destination);
  }
}
