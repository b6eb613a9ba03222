/** Pixel formats of RFB: from 00RRGGBBh to what a client asked for. [rfc6143 §7.4] */

export interface PixelFormat {
  readonly bitsPerPixel: 8 | 16 | 32;
  readonly depth: number;
  readonly bigEndian: boolean;
  /** If not, pixels are indices of a colour map, which here is always the same. */
  readonly trueColor: boolean;
  readonly max: readonly [number, number, number];
  readonly shift: readonly [number, number, number];
}

/** The server's own: four bytes blue, green, red, nothing. */
export const NATIVE: PixelFormat = {
  bitsPerPixel: 32,
  depth: 24,
  bigEndian: false,
  trueColor: true,
  max: [255, 255, 255],
  shift: [16, 8, 0],
};

export const FORMAT_BYTES = 16;

export function encodeFormat(f: PixelFormat): Uint8Array {
  const view = new DataView(new ArrayBuffer(FORMAT_BYTES));
  view.setUint8(0, f.bitsPerPixel);
  view.setUint8(1, f.depth);
  view.setUint8(2, f.bigEndian ? 1 : 0);
  view.setUint8(3, f.trueColor ? 1 : 0);
  f.max.forEach((m, i) => view.setUint16(4 + 2 * i, m));
  f.shift.forEach((n, i) => view.setUint8(10 + i, n));
  return new Uint8Array(view.buffer);
}

/** Null if the format is none. */
export function decodeFormat(bytes: Uint8Array): PixelFormat | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, FORMAT_BYTES);
  const bitsPerPixel = view.getUint8(0);
  if (bitsPerPixel !== 8 && bitsPerPixel !== 16 && bitsPerPixel !== 32) return null;
  const trueColor = view.getUint8(3) !== 0;
  if (!trueColor) return bitsPerPixel === 8 ? MAPPED : null;
  const max = [0, 1, 2].map((i) => view.getUint16(4 + 2 * i)) as [number, number, number];
  const shift = [0, 1, 2].map((i) => view.getUint8(10 + i)) as [number, number, number];
  for (let i = 0; i < 3; i++) if (max[i]! & (max[i]! + 1) || shift[i]! >= bitsPerPixel) return null;
  return { bitsPerPixel, depth: view.getUint8(1), bigEndian: view.getUint8(2) !== 0, trueColor, max, shift };
}

/** Three bits of red, three of green, two of blue: entry n of the map is colour n. */
const MAPPED: PixelFormat = {
  bitsPerPixel: 8,
  depth: 8,
  bigEndian: false,
  trueColor: false,
  max: [7, 7, 3],
  shift: [0, 3, 6],
};

/** The colour map of MAPPED: 256 times red, green, blue of 16 bits. */
export function colorMap(): Uint16Array {
  return Uint16Array.from({ length: 3 * 256 }, (_, i) => {
    const channel = i % 3, max = MAPPED.max[channel]!;
    return Math.round((((i - channel) / 3 >> MAPPED.shift[channel]!) & max) * 65535 / max);
  });
}

/** Turns pixels into bytes. */
export class PixelWriter {
  readonly bytes: 1 | 2 | 4;
  /** Of a CPIXEL: three if a pixel of four has one that is always zero. [rfc6143 §7.7.5] */
  readonly compactBytes: 1 | 2 | 3 | 4;
  /** The byte of a pixel that a CPIXEL starts with. */
  readonly #compactFrom: number;
  readonly #tables: readonly Uint32Array[];

  constructor(readonly format: PixelFormat) {
    this.bytes = format.bitsPerPixel / 8 as 1 | 2 | 4;
    this.#tables = [0, 1, 2].map((i) =>
      Uint32Array.from({ length: 256 }, (_, v) => (Math.round(v * format.max[i]! / 255) << format.shift[i]!) >>> 0)
    );
    const used = format.max.reduce((bits, max, i) => (bits | (max << format.shift[i]!)) >>> 0, 0);
    const low = (used & 0xff000000) === 0, high = (used & 0xff) === 0;
    const compact = format.bitsPerPixel === 32 && format.depth <= 24 && (low || high);
    this.compactBytes = compact ? 3 : this.bytes;
    // The unused byte is first or last, by significance and by the order of bytes.
    this.#compactFrom = compact && low === format.bigEndian ? 1 : 0;
  }

  /** The value of a pixel of 00RRGGBBh. */
  value(pixel: number): number {
    const [r, g, b] = this.#tables;
    return (r![(pixel >> 16) & 255]! | g![(pixel >> 8) & 255]! | b![pixel & 255]!) >>> 0;
  }

  /** Writes a value; returns where the next goes. */
  put(out: Uint8Array, at: number, value: number): number {
    const n = this.bytes;
    for (let i = 0; i < n; i++) out[at + i] = value >>> (8 * (this.format.bigEndian ? n - 1 - i : i));
    return at + n;
  }

  /** The same for a CPIXEL. */
  putCompact(out: Uint8Array, at: number, value: number): number {
    if (this.compactBytes !== 3) return this.put(out, at, value);
    for (let i = 0; i < 3; i++) {
      const byte = i + this.#compactFrom;
      out[at + i] = value >>> (8 * (this.format.bigEndian ? 3 - byte : byte));
    }
    return at + 3;
  }
}
