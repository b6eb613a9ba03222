/**
 * What makes a link of IPv6: the router tells of itself and of the prefix, from which the guest makes its addresses, and says
 * who has which address. Spec: Neighbour Discovery [rfc4861], address configuration [rfc4862], DNS servers [rfc8106].
 */
import { type Address, type Ip6, ip6, put16, put32, putIp6 } from "./address.ts";
import { sendIcmp } from "./icmp.ts";
import { ETHERNET_BYTES, HOPS, MTU, type Outputs, type Packet } from "./ip.ts";
import { MOST_HOPS } from "./ip6.ts";
import { NETWORK6 } from "./network.ts";

export const ND = {
  ROUTER_SOLICITATION: 133,
  ROUTER_ADVERTISEMENT: 134,
  NEIGHBOUR_SOLICITATION: 135,
  NEIGHBOUR_ADVERTISEMENT: 136,
} as const;
export const ND_OPTION = { SOURCE_LINK: 1, TARGET_LINK: 2, PREFIX: 3, MTU: 5, RDNSS: 25 } as const;
/** More is to be had from DHCPv6: names of servers, and the like. */
const OTHER_CONFIGURATION = 0x40;
const ON_LINK = 0x80, AUTONOMOUS = 0x40;
const ROUTER = 0x80, SOLICITED = 0x40, OVERRIDE = 0x20;
const LIFETIME_SECONDS = 9000; // the most there may be [rfc4861 §6.2.1]
const FOR_EVER = 0xffff_ffff;
/** Long before a router's lifetime ends [rfc4861 §6.2.1 MaxRtrAdvInterval]. */
const INTERVAL_MS = 600_000;
const UNSPECIFIED = "\0".repeat(8);

export class NeighbourDiscovery {
  #nextMs = Infinity;

  constructor(
    private readonly outputs: Outputs,
    private readonly ownMac: Uint8Array,
    private readonly owns: (address: Ip6) => boolean,
    private readonly learn: (address: Address, mac: Uint8Array) => void,
    /** Whether the guest is to know of a resolver. */
    private readonly resolver: boolean,
    private readonly now: () => number,
    private readonly armed: () => void,
  ) {}

  /** Takes a message of Neighbour Discovery; false if it is another. */
  receive(packet: Packet, icmp: Uint8Array, frame: Uint8Array): boolean {
    const type = icmp[0]!;
    if (type < ND.ROUTER_SOLICITATION || type > ND.NEIGHBOUR_ADVERTISEMENT) return false;
    if (packet.bytes[7] !== MOST_HOPS || icmp[1] !== 0) return true;
    const source = packet.source as Ip6;
    if (type === ND.ROUTER_SOLICITATION) this.#advertiseRouter();
    else if (type === ND.NEIGHBOUR_SOLICITATION && icmp.length >= 24) this.#answer(source, ip6(icmp, 8), frame);
    else if (type === ND.NEIGHBOUR_ADVERTISEMENT && icmp.length >= 24) {
      this.learn(ip6(icmp, 8), frame.subarray(6, 12));
    }
    return true;
  }

  #answer(source: Ip6, target: Ip6, frame: Uint8Array): void {
    if (!this.owns(target)) return;
    // Who has no address yet asks whether somebody has the one it wants: all are to hear that [rfc4862 §5.4.3].
    const unknown = source === UNSPECIFIED;
    if (!unknown) this.learn(source, frame.subarray(6, 12));
    const { frame: out, payloadAt: at } = this.outputs.ip6;
    out.fill(0, at, at + 32);
    out[at] = ND.NEIGHBOUR_ADVERTISEMENT;
    out[at + 4] = ROUTER | (unknown ? 0 : SOLICITED) | OVERRIDE;
    putIp6(out, at + 8, target);
    this.#linkOption(out, at + 24, ND_OPTION.TARGET_LINK);
    sendIcmp(this.outputs, target, unknown ? NETWORK6.allNodes : source, 32);
  }

  #linkOption(out: Uint8Array, at: number, kind: number): void {
    out[at] = kind;
    out[at + 1] = 1;
    out.set(this.ownMac, at + 2);
  }

  #advertiseRouter(): void {
    const { frame: out, payloadAt: at } = this.outputs.ip6;
    const size = 16 + 8 + 8 + 32 + (this.resolver ? 24 : 0);
    out.fill(0, at, at + size);
    out[at] = ND.ROUTER_ADVERTISEMENT;
    out[at + 4] = HOPS;
    out[at + 5] = OTHER_CONFIGURATION;
    put16(out, at + 6, LIFETIME_SECONDS);
    this.#linkOption(out, at + 16, ND_OPTION.SOURCE_LINK);
    out[at + 24] = ND_OPTION.MTU;
    out[at + 25] = 1;
    put32(out, at + 28, MTU);
    out[at + 32] = ND_OPTION.PREFIX;
    out[at + 33] = 4;
    out[at + 34] = NETWORK6.prefixBits;
    out[at + 35] = ON_LINK | AUTONOMOUS;
    put32(out, at + 36, FOR_EVER);
    put32(out, at + 40, FOR_EVER);
    putIp6(out, at + 48, NETWORK6.prefix);
    if (this.resolver) {
      out[at + 64] = ND_OPTION.RDNSS;
      out[at + 65] = 3;
      put32(out, at + 68, FOR_EVER);
      putIp6(out, at + 72, NETWORK6.dns);
    }
    sendIcmp(this.outputs, NETWORK6.router, NETWORK6.allNodes, size);
    this.#nextMs = this.now() + INTERVAL_MS;
    this.armed();
  }

  /** Tells of the router again, to guests that have asked once; when to call again. */
  tick(): number {
    if (this.#nextMs <= this.now()) this.#advertiseRouter();
    return this.#nextMs;
  }

  clear(): void {
    this.#nextMs = Infinity;
  }
}

/** The Ethernet source of a frame, if it is one station's. */
export function stationOf(frame: Uint8Array): Uint8Array | null {
  return frame.length >= ETHERNET_BYTES && !(frame[6]! & 1) ? frame.subarray(6, 12) : null;
}
