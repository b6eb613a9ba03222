/** The guest's own small network: who has which address in it, and which addresses lead out. */
import { type Address, formatAddress, formatIp4, type Ip6, parseIp4, parseIp6 } from "./address.ts";

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

/** The same over IPv6: a prefix of the unique local addresses [rfc4193 §3.1], in which the guest makes its own addresses. */
export const NETWORK6 = {
  prefix: parseIp6("fd74:7269:6b65::")!,
  prefixBits: 64,
  gateway: parseIp6("fd74:7269:6b65::2")!,
  dns: parseIp6("fd74:7269:6b65::3")!,
  /** The gateway's own on the link: routers are known by it. */
  router: parseIp6("fe80::2")!,
  allNodes: parseIp6("ff02::1")!,
  allRouters: parseIp6("ff02::2")!,
} as const;

/** IPv4 addresses as IPv6 ones [rfc6052 §2.1]: the way to an IPv4 host for who speaks IPv6 only. */
const NAT64 = parseIp6("64:ff9b::")!.slice(0, 6);
/** How a socket that takes both families shows IPv4 clients [rfc4291 §2.5.5.2]. */
const MAPPED = parseIp6("::ffff:0:0")!.slice(0, 6);

export const LOOPBACK = "127.0.0.1";
export const LOOPBACK6 = "::1";
export const GATEWAY_MAC: Uint8Array = Uint8Array.of(0x52, 0x55, 10, 0, 2, 2);

/** Whether an address is of this network: of the guest, the gateway or the resolver. */
export function isLocal(address: Address): boolean {
  if (typeof address === "number") return (address & NETWORK.mask) >>> 0 === NETWORK.address;
  return address.startsWith(NETWORK6.prefix.slice(0, 4)) || isLinkLocal(address);
}

function isLinkLocal(address: Ip6): boolean {
  return (address.charCodeAt(0) & 0xffc0) === 0xfe80;
}

export function isGateway(address: Address): boolean {
  return address === NETWORK.gateway || address === NETWORK6.gateway || address === NETWORK6.router;
}

export function isResolver(address: Address): boolean {
  return address === NETWORK.dns || address === NETWORK6.dns;
}

/** Whether packets may go there at all: not this host, not a group, not nowhere [rfc6890 §2.2.2], §2.2.3. */
export function isForwardable(address: Address): boolean {
  if (typeof address === "number") {
    const first = address >>> 24;
    return first !== 0 && first !== 127 && first < 224;
  }
  const within = inNat64(address);
  if (within !== null) return isForwardable(within);
  const first = address.charCodeAt(0);
  return (first & 0xe000) === 0x2000 || (first & 0xfe00) === 0xfc00;
}

/** The IPv4 address in an IPv6 one; null if there is none. */
function inNat64(address: Ip6): number | null {
  return address.startsWith(NAT64) ? lastIp4(address) : null;
}

function lastIp4(address: Ip6): number {
  return ((address.charCodeAt(6) << 16) | address.charCodeAt(7)) >>> 0;
}

/** The host's address for one of the guest's: the gateway is the host itself. */
export function hostView(address: Address): string {
  if (isGateway(address)) return typeof address === "number" ? LOOPBACK : LOOPBACK6;
  const within = typeof address === "string" ? inNat64(address) : null;
  return formatAddress(within ?? address);
}

/** The guest's address for one of the host's, of the family that the guest speaks; null if it can have none. */
export function guestView(text: string, family: 4 | 6 = 4): Address | null {
  const long = text.includes(":") ? parseIp6(text.replace(/%.*$/, "")) : null;
  const short = long === null ? parseIp4(text) : long.startsWith(MAPPED) ? lastIp4(long) : null;
  const own = short !== null ? short >>> 24 === 127 : long === parseIp6(LOOPBACK6);
  if (own) return family === 4 ? NETWORK.gateway : NETWORK6.gateway;
  if (family === 4) return short;
  if (short !== null) return NAT64 + String.fromCharCode(short >>> 16, short & 0xffff);
  return long;
}

/** The text of a socket's address without what says that it is IPv4 in IPv6. */
export function plainAddress(text: string): string {
  const long = text.includes(":") ? parseIp6(text.replace(/%.*$/, "")) : null;
  if (long === null) return text;
  return long.startsWith(MAPPED) ? formatIp4(lastIp4(long)) : formatAddress(long);
}
