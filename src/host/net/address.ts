/** Addresses and the internet checksum. IPv4 addresses are unsigned 32-bit numbers, the first octet on top. */

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

/** The ones' complement sum of 16-bit words from `from` to `end`, added to `sum` and folded [rfc1071]. */
export function sum16(bytes: Uint8Array, from: number, end: number, sum = 0): number {
  let at = from;
  // 2^15 words of 16 bits stay below 2^32.
  while (at + 1 < end) {
    const stop = Math.min(end - 1, at + 0xfffe);
    for (; at < stop; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
    sum = fold(sum);
  }
  if (at < end) sum = fold(sum + (bytes[at]! << 8));
  return sum;
}

function fold(sum: number): number {
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  return sum;
}

/** The checksum field over a stretch in which it counts as zero. */
export function checksum(bytes: Uint8Array, from: number, end: number, sum = 0): number {
  return ~sum16(bytes, from, end, sum) & 0xffff;
}

/** The sum of the pseudo-header that TCP and UDP checksums cover. */
export function pseudoSum(source: number, destination: number, protocol: number, sizeBytes: number): number {
  return fold(
    (source >>> 16) + (source & 0xffff) + (destination >>> 16) + (destination & 0xffff) + protocol + sizeBytes,
  );
}
