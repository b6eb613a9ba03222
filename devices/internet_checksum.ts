/** The internet checksum. Spec: [rfc1071]. */

/** The ones' complement sum of 16-bit words from `from` to `end`, added to `sum` and folded. */
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

export function fold(sum: number): number {
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  return sum;
}

/** The checksum field over a stretch in which it counts as zero. */
export function checksum(bytes: Uint8Array, from: number, end: number, sum = 0): number {
  return ~sum16(bytes, from, end, sum) & 0xffff;
}
