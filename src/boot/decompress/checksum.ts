/** The checksums of .xz and bzip2. */

type Tables = [Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array, Int32Array];

/** Table n: what a byte does to the CRC when n more bytes follow it. */
const TABLES: Tables = (() => {
  const tables = Array.from({ length: 8 }, () => new Int32Array(256));
  for (let i = 0; i < 256; i++) {
    let crc = i;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) * 0xedb88320);
    tables[0]![i] = crc;
  }
  for (let n = 1; n < 8; n++) {
    for (let i = 0; i < 256; i++) {
      const crc = tables[n - 1]![i]!;
      tables[n]![i] = (crc >>> 8) ^ tables[0]![crc & 0xff]!;
    }
  }
  return tables as Tables;
})();

/** CRC-32 of ISO 3309, eight bytes a step. */
export function crc32(bytes: Uint8Array, from = 0, to = bytes.length): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const [t0, t1, t2, t3, t4, t5, t6, t7] = TABLES;
  let crc = ~0;
  let at = from;
  for (const last = to - 7; at < last; at += 8) {
    const a = crc ^ view.getInt32(at, true);
    const b = view.getInt32(at + 4, true);
    crc = t7[a & 0xff]! ^ t6[(a >>> 8) & 0xff]! ^ t5[(a >>> 16) & 0xff]! ^ t4[a >>> 24]! ^
      t3[b & 0xff]! ^ t2[(b >>> 8) & 0xff]! ^ t1[(b >>> 16) & 0xff]! ^ t0[b >>> 24]!;
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
