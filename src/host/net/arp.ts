/** ARP: the gateway's addresses, and what it learns of the guest's. Spec: [rfc826]. */
import { type Address, put16, put32, u16, u32 } from "./address.ts";
import { ETHERNET_BYTES, ETHERTYPE } from "./ip.ts";

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
  readonly #macs = new Map<Address, Uint8Array>();
  readonly #broadcast = new Uint8Array(6).fill(0xff);
  readonly #group = Uint8Array.of(0x33, 0x33, 0, 0, 0, 0);

  /** `mac` is the guest's, until it shows another. */
  constructor(private readonly mac: Uint8Array, private readonly broadcastAddress: number) {}

  learn(address: Address, mac: Uint8Array): void {
    const known = this.#macs.get(address);
    if (known) {
      for (let i = 0; i < 6; i++) known[i] = mac[i]!;
      return;
    }
    // The oldest goes: a guest takes new addresses for itself now and then [rfc8981].
    if (this.#macs.size >= MAX_NEIGHBOURS) this.#macs.delete(this.#macs.keys().next().value!);
    this.#macs.set(address, mac.slice());
  }

  readonly macOf = (address: Address): Uint8Array => {
    if (typeof address === "string" && address.charCodeAt(0) >>> 8 === 0xff) {
      put32(this.#group, 2, ((address.charCodeAt(6) << 16) | address.charCodeAt(7)) >>> 0); // [rfc2464 §7]
      return this.#group;
    }
    if (address === 0xffffffff || address === this.broadcastAddress) return this.#broadcast;
    return this.#macs.get(address) ?? this.mac;
  };

  clear(): void {
    this.#macs.clear();
  }
}
