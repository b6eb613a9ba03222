/** What IPv4 and IPv6 have in common: packets, and how they are sent. */
import type { FrameOffload } from "../../../devices/virtio/net_header.ts";
import type { Address } from "./address.ts";

export const ETHERTYPE = { IPV4: 0x0800, ARP: 0x0806, IPV6: 0x86dd } as const;
export const PROTOCOL = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58 } as const;
export const ETHERNET_BYTES = 14;
export const MTU = 1500;
/** Of packets that start here. */
export const HOPS = 64;

/** A packet whole in memory; `bytes` may belong to the frame it came in. */
export interface Packet {
  source: Address;
  destination: Address;
  protocol: number;
  /** From the IP header on. */
  bytes: Uint8Array;
  /** All that is before the payload, extensions too. */
  headerBytes: number;
  /** The transport checksum is complete and was not looked at yet. */
  verify: boolean;
  /** The payload of each datagram that this one is to be cut into; 0 if it is one. Of UDP. */
  cutBytes: number;
}

/** Builds packets in one frame that is used again for each. */
export interface IpOutput {
  /** The payload goes to `payloadAt` before `send`. */
  readonly frame: Uint8Array;
  readonly payloadAt: number;
  /** Sends the `payloadBytes` bytes there, in fragments if need be; with a gsoSize the guest cuts them. */
  send(
    protocol: number,
    source: Address,
    destination: Address,
    payloadBytes: number,
    offload?: Readonly<FrameOffload>,
  ): void;
}

/** The outputs of both families. */
export class Outputs {
  constructor(readonly ip4: IpOutput, readonly ip6: IpOutput) {}

  to(address: Address): IpOutput {
    return typeof address === "number" ? this.ip4 : this.ip6;
  }
}
