/**
 * Addresses and the internet checksum. An IPv4 address is an unsigned 32-bit number, the first octet on top; an IPv6 address is
 * a string of eight code units, one for each group of 16 bits. Both are compared with ===, and may be keys of a map.
 */
import { fold } from "../../../devices/internet_checksum.ts";

export { checksum, sum16 } from "../../../devices/internet_checksum.ts";

export type Ip6 = string;
export type Address = number | Ip6;

/** The address of dotted text; null if it is none. */
export function parseIp4(text: string): number | null {
  const parts = text.split(".");
  if (parts.length !== 4) return null;
  let value = 0;
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return null;
    value = value * 256 + Number(part);
  }
  return value;
}

export function formatIp4(address: number): string {
  return `${address >>> 24}.${(address >>> 16) & 255}.${(address >>> 8) & 255}.${address & 255}`;
}

/** The address of text as in [rfc4291 §2.2], without a zone; null if it is none. */
export function parseIp6(text: string): Ip6 | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const groupsOf = (half: string, last: boolean): number[] | null => {
    if (half === "") return [];
    const groups: number[] = [];
    const parts = half.split(":");
    for (const [i, part] of parts.entries()) {
      if (last && i === parts.length - 1 && part.includes(".")) {
        const ip4 = parseIp4(part);
        if (ip4 === null) return null;
        groups.push(ip4 >>> 16, ip4 & 0xffff);
      } else if (/^[0-9a-f]{1,4}$/i.test(part)) groups.push(parseInt(part, 16));
      else return null;
    }
    return groups;
  };
  const head = groupsOf(halves[0]!, halves.length === 1), tail = groupsOf(halves[1] ?? "", true);
  if (!head || !tail) return null;
  const missing = 8 - head.length - tail.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return null;
  return String.fromCharCode(...head, ...new Array<number>(missing).fill(0), ...tail);
}

/** As [rfc5952 §4] wants it. */
export function formatIp6(address: Ip6): string {
  const groups = Array.from({ length: 8 }, (_, i) => address.charCodeAt(i).toString(16));
  let at = -1, length = 1;
  for (let i = 0; i < 8; i++) {
    let end = i;
    while (groups[end] === "0") end++;
    if (end - i > length) [at, length] = [i, end - i];
  }
  if (at < 0) return groups.join(":");
  return `${groups.slice(0, at).join(":")}::${groups.slice(at + length).join(":")}`;
}

export function formatAddress(address: Address): string {
  return typeof address === "number" ? formatIp4(address) : formatIp6(address);
}

/** The six bytes of `aa:bb:cc:dd:ee:ff`; null if it is no address of one station. */
export function parseMac(text: string): Uint8Array | null {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text)) return null;
  const bytes = Uint8Array.from(text.split(":"), (part) => parseInt(part, 16));
  return bytes[0]! & 1 || bytes.every((b) => b === 0) ? null : bytes;
}

export function u16(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 8) | bytes[at + 1]!;
}

export function u32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

export function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

export function put32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

export function ip6(bytes: Uint8Array, at: number): Ip6 {
  return String.fromCharCode(
    u16(bytes, at),
    u16(bytes, at + 2),
    u16(bytes, at + 4),
    u16(bytes, at + 6),
    u16(bytes, at + 8),
    u16(bytes, at + 10),
    u16(bytes, at + 12),
    u16(bytes, at + 14),
  );
}

export function putIp6(bytes: Uint8Array, at: number, address: Ip6): void {
  for (let i = 0; i < 8; i++) put16(bytes, at + 2 * i, address.charCodeAt(i));
}

/** The sum of the pseudo-header that the checksums of TCP, UDP and ICMPv6 cover; both addresses are of one family. */
export function pseudoSum(source: Address, destination: Address, protocol: number, sizeBytes: number): number {
  return fold(wordsOf(source) + wordsOf(destination) + protocol + (sizeBytes >>> 16) + (sizeBytes & 0xffff));
}

function wordsOf(address: Address): number {
  if (typeof address === "number") return (address >>> 16) + (address & 0xffff);
  let sum = 0;
  for (let i = 0; i < 8; i++) sum += address.charCodeAt(i);
  return sum;
}
