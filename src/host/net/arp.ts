/** ARP: the gateway's addresses, and what it learns of the guest's. Spec: [rfc826]. */
import { put16, u16, u32 } from "./address.ts";
import { ETHERNET_BYTES, ETHERTYPE } from "./ip4.ts";

export const ARP_BYTES = 28;
const REQUEST = 1;
const REPLY = 2;
const ETHERNET = 1;
const MAX_NEIGHBOURS = 64;

/** The frame that answers `frame`, if it asks for an address of ours; null if there is nothing to answer. */
export function answerArp(
  frame: Uint8Array,
  ownMac: Uint8Array,
  owns: (address: number) => boolean,
): Uint8Array | null {
  const arp = frame.subarray(ETHERNET_BYTES);
  if (arp.length < ARP_BYTES || u16(arp, 0) !== ETHERNET || u16(arp, 2) !== ETHERTYPE.IPV4) return null;
  if (arp[4] !== 6 || arp[5] !== 4 || u16(arp, 6) !== REQUEST || !owns(u32(arp, 24))) return null;
  const reply = new Uint8Array(ETHERNET_BYTES + ARP_BYTES);
  reply.set(frame.subarray(6, 12));
  reply.set(ownMac, 6);
  put16(reply, 12, ETHERTYPE.ARP);
  const at = ETHERNET_BYTES;
  reply.set(arp.subarray(0, 6), at);
  put16(reply, at + 6, REPLY);
  reply.set(ownMac, at + 8);
  reply.set(arp.subarray(24, 28), at + 14);
  reply.set(arp.subarray(8, 18), at + 18);
  return reply;
}

/** Which station has which address, as their own packets tell. */
export class Neighbours {
  readonly #macs = new Map<number, Uint8Array>();
  readonly #broadcast = new Uint8Array(6).fill(0xff);

  /** `mac` is the guest's, until it shows another. */
  constructor(private readonly mac: Uint8Array, private readonly broadcastAddress: number) {}

  learn(address: number, mac: Uint8Array): void {
    const known = this.#macs.get(address);
    if (known) {
      if (!known.every((b, i) => b === mac[i])) known.set(mac);
    } else if (this.#macs.size < MAX_NEIGHBOURS) this.#macs.set(address, mac.slice());
  }

  readonly macOf = (address: number): Uint8Array => {
    if (address === 0xffffffff || address === this.broadcastAddress) return this.#broadcast;
    return this.#macs.get(address) ?? this.mac;
  };

  clear(): void {
    this.#macs.clear();
  }
}
