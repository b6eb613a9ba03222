/** The checksums of .xz and bzip2. */

const CRC32 = reflected32(0xedb88320);

function reflected32(polynomial: number): Uint32Array[] {
  const tables = Array.from({ length: 4 }, () => new Uint32Array(256));
  for (let i = 0; i < 256; i++) {
    let crc = i;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) * polynomial);
    tables[0]![i] = crc >>> 0;
  }
  for (let t = 1; t < 4; t++) {
    for (let i = 0; i < 256; i++) {
      const crc = tables[t - 1]![i]!;
      tables[t]![i] = (crc >>> 8) ^ tables[0]![crc & 0xff]!;
    }
  }
  return tables;
}

/** CRC-32 of ISO 3309, four bytes a step. */
export function crc32(bytes: Uint8Array, from = 0, to = bytes.length): number {
  const [t0, t1, t2, t3] = CRC32 as [Uint32Array, Uint32Array, Uint32Array, Uint32Array];
  let crc = ~0;
  let at = from;
  for (const last = to - 3; at < last; at += 4) {
    crc ^= bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24;
    crc = t3[crc & 0xff]! ^ t2[(crc >>> 8) & 0xff]! ^ t1[(crc >>> 16) & 0xff]! ^ t0[crc >>> 24]!;
  }
  for (; at < to; at++) crc = (crc >>> 8) ^ t0[(crc ^ bytes[at]!) & 0xff]!;
  return ~crc >>> 0;
}

/** CRC-64 of ECMA-182 as .xz uses it, as [low, high]. */
export function crc64(bytes: Uint8Array, from: number, to: number): [number, number] {
  const lows = new Uint32Array(256);
  const highs = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    let lo = i;
    let hi = 0;
    for (let bit = 0; bit < 8; bit++) {
      const odd = lo & 1;
      lo = (lo >>> 1) | ((hi & 1) << 31);
      hi >>>= 1;
      if (odd === 1) {
        lo ^= 0xd7870f42;
        hi ^= 0xc96c5795;
      }
    }
    lows[i] = lo;
    highs[i] = hi;
  }
  let lo = ~0;
  let hi = ~0;
  for (let at = from; at < to; at++) {
    const i = (lo ^ bytes[at]!) & 0xff;
    lo = ((lo >>> 8) | (hi << 24)) ^ lows[i]!;
    hi = (hi >>> 8) ^ highs[i]!;
  }
  return [~lo >>> 0, ~hi >>> 0];
}
