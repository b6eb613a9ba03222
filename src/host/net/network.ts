/** The guest's own small network: who has which address in it, and which addresses lead out. */

const octets = (a: number, b: number, c: number, d: number) => ((a << 24) | (b << 16) | (c << 8) | d) >>> 0;

export const NETWORK = {
  address: octets(10, 0, 2, 0),
  mask: octets(255, 255, 255, 0),
  /** The host: its loop-back services are reached here. */
  gateway: octets(10, 0, 2, 2),
  dns: octets(10, 0, 2, 3),
  guest: octets(10, 0, 2, 15),
  broadcast: octets(10, 0, 2, 255),
} as const;

export const LOOPBACK = "127.0.0.1";
export const GATEWAY_MAC: Uint8Array = Uint8Array.of(0x52, 0x55, 10, 0, 2, 2);

export function isLocal(address: number): boolean {
  return (address & NETWORK.mask) >>> 0 === NETWORK.address;
}

/** Whether packets may go there at all: not this host, not a group, not nowhere [rfc6890 §2.2.2]. */
export function isForwardable(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}
