/**
 * Rectangles of pixels as RFB's encodings have them.
 *
 * Spec: [rfc6143 §7.7.1] raw, [rfc6143 §7.7.4] hextile, [rfc6143 §7.7.6] ZRLE.
 */
import { zlib } from "../zlib.ts";
import type { PixelWriter } from "./pixel_format.ts";

export const ENCODING = { RAW: 0, HEXTILE: 5, ZRLE: 16, DESKTOP_SIZE: -223 } as const;

export interface Rect {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** A picture of 00RRGGBBh. */
export interface Picture {
  readonly width: number;
  readonly height: number;
  readonly pixels: Uint32Array;
}

/** Calls `each` for tiles of a rectangle, row by row. */
function tiles(r: Rect, side: number, each: (x: number, y: number, width: number, height: number) => void): void {
  for (let y = r.y; y < r.y + r.height; y += side) {
    for (let x = r.x; x < r.x + r.width; x += side) {
      each(x, y, Math.min(side, r.x + r.width - x), Math.min(side, r.y + r.height - y));
    }
  }
}

export function encodeRaw(p: Picture, r: Rect, w: PixelWriter): Uint8Array {
  const out = new Uint8Array(r.width * r.height * w.bytes);
  let at = 0;
  for (let y = r.y; y < r.y + r.height; y++) {
    for (let x = r.x; x < r.x + r.width; x++) at = w.put(out, at, w.value(p.pixels[y * p.width + x]!));
  }
  return out;
}

const HEXTILE = { RAW: 1, BACKGROUND: 2, FOREGROUND: 4, SUBRECTS: 8, COLORED: 16 } as const;
const HEXTILE_SIDE = 16;

export function encodeHextile(p: Picture, r: Rect, w: PixelWriter): Uint8Array {
  const out = new Uint8Array(r.width * r.height * w.bytes + Math.ceil(r.width / 16) * Math.ceil(r.height / 16) * 2);
  let at = 0;
  const tile = new Uint32Array(HEXTILE_SIDE * HEXTILE_SIDE),
    room = new Uint8Array(HEXTILE_SIDE * HEXTILE_SIDE * w.bytes);
  tiles(r, HEXTILE_SIDE, (x, y, width, height) => {
    copyTile(p, w, x, y, width, height, tile);
    const background = commonest(tile, width * height);
    const body = subrects(tile, width, height, background, w, room);
    if (body < 0) {
      out[at++] = HEXTILE.RAW;
      for (let i = 0; i < width * height; i++) at = w.put(out, at, tile[i]!);
      return;
    }
    // Every tile names its background: what the one before had need not be known.
    out[at++] = HEXTILE.BACKGROUND | (body > 0 ? HEXTILE.SUBRECTS | HEXTILE.COLORED : 0);
    at = w.put(out, at, background);
    out.set(room.subarray(0, body), at);
    at += body;
  });
  return out.subarray(0, at);
}

/** What differs from the background, as coloured subrectangles; 0 bytes if nothing, -1 if raw is shorter. */
function subrects(
  tile: Uint32Array,
  width: number,
  height: number,
  background: number,
  w: PixelWriter,
  out: Uint8Array,
): number {
  const limit = width * height * w.bytes - w.bytes - 1;
  let at = 1, count = 0;
  const done = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const color = tile[y * width + x]!;
      if (color === background || done[y * width + x]) continue;
      let x2 = x + 1;
      while (x2 < width && tile[y * width + x2] === color && !done[y * width + x2]) x2++;
      let y2 = y + 1;
      const same = (row: number) => {
        for (let i = x; i < x2; i++) if (tile[row * width + i] !== color || done[row * width + i]) return false;
        return true;
      };
      while (y2 < height && same(y2)) y2++;
      for (let row = y; row < y2; row++) done.fill(1, row * width + x, row * width + x2);
      if (++count > 255 || at + w.bytes + 2 > limit) return -1;
      at = w.put(out, at, color);
      out[at++] = (x << 4) | y;
      out[at++] = ((x2 - x - 1) << 4) | (y2 - y - 1);
    }
  }
  out[0] = count;
  return count === 0 ? 0 : at;
}

function commonest(tile: Uint32Array, n: number): number {
  const counts = new Map<number, number>();
  let best = tile[0]!, most = 0;
  for (let i = 0; i < n; i++) {
    const count = (counts.get(tile[i]!) ?? 0) + 1;
    counts.set(tile[i]!, count);
    if (count > most) [best, most] = [tile[i]!, count];
  }
  return best;
}

/** Pixels of a tile, as values of the client's format. */
function copyTile(
  p: Picture,
  w: PixelWriter,
  x: number,
  y: number,
  width: number,
  height: number,
  to: Uint32Array,
): void {
  let last = -1, value = 0;
  for (let row = 0; row < height; row++) {
    const from = (y + row) * p.width + x;
    for (let i = 0; i < width; i++) {
      const pixel = p.pixels[from + i]!;
      if (pixel !== last) value = w.value(last = pixel);
      to[row * width + i] = value;
    }
  }
}

const ZRLE_SIDE = 64;
const ZRLE = { RAW: 0, SOLID: 1, MAX_PALETTE: 16, PLAIN_RLE: 128 } as const;
/** The header of a zlib stream: deflate, 32 KiB, default level. [rfc1950 §2.2] */
const ZLIB_HEADER = Uint8Array.of(0x78, 0x9c);

/** One stream of zlib data for the life of a connection: each rectangle is a few deflate blocks that end on a byte. */
export class ZrleEncoder {
  #started = false;

  encode(p: Picture, r: Rect, w: PixelWriter): Uint8Array {
    const data = this.#tiles(p, r, w);
    // Blocks that refer to nothing before them may follow each other: the stream never ends, and so has no checksum.
    const { constants, deflateRawSync } = zlib();
    const packed = deflateRawSync(data, { level: 3, finishFlush: constants.Z_SYNC_FLUSH });
    const header = this.#started ? new Uint8Array() : ZLIB_HEADER;
    this.#started = true;
    const out = new Uint8Array(4 + header.length + packed.length);
    new DataView(out.buffer).setUint32(0, header.length + packed.length);
    out.set(header, 4);
    out.set(packed, 4 + header.length);
    return out;
  }

  #tiles(p: Picture, r: Rect, w: PixelWriter): Uint8Array {
    const count = Math.ceil(r.width / ZRLE_SIDE) * Math.ceil(r.height / ZRLE_SIDE);
    const out = new Uint8Array(r.width * r.height * 4 + count * (1 + 4 * ZRLE.MAX_PALETTE));
    const tile = new Uint32Array(ZRLE_SIDE * ZRLE_SIDE);
    let at = 0;
    tiles(r, ZRLE_SIDE, (x, y, width, height) => {
      copyTile(p, w, x, y, width, height, tile);
      at = putTile(tile, width, height, w, out, at);
    });
    return out.subarray(0, at);
  }
}

function putTile(
  tile: Uint32Array,
  width: number,
  height: number,
  w: PixelWriter,
  out: Uint8Array,
  at: number,
): number {
  const n = width * height;
  const palette = new Map<number, number>();
  let runBytes = 1;
  for (let i = 0; i < n;) {
    let run = 1;
    while (i + run < n && tile[i + run] === tile[i]) run++;
    if (palette.size <= ZRLE.MAX_PALETTE && !palette.has(tile[i]!)) palette.set(tile[i]!, palette.size);
    runBytes += w.compactBytes + 1 + Math.floor((run - 1) / 255);
    i += run;
  }
  if (palette.size === 1) {
    out[at++] = ZRLE.SOLID;
    return w.putCompact(out, at, tile[0]!);
  }
  const bits = palette.size > ZRLE.MAX_PALETTE ? 0 : palette.size > 4 ? 4 : palette.size > 2 ? 2 : 1;
  const packedBytes = bits === 0 ? Infinity : palette.size * w.compactBytes + height * Math.ceil(width * bits / 8);
  if (packedBytes <= runBytes && packedBytes <= n * w.compactBytes) {
    out[at++] = palette.size;
    for (const color of palette.keys()) at = w.putCompact(out, at, color);
    for (let row = 0; row < height; row++) {
      let byte = 0, filled = 0;
      for (let i = 0; i < width; i++) {
        byte = (byte << bits) | palette.get(tile[row * width + i]!)!;
        if ((filled += bits) === 8) {
          out[at++] = byte;
          byte = filled = 0;
        }
      }
      if (filled > 0) out[at++] = byte << (8 - filled);
    }
    return at;
  }
  if (runBytes <= n * w.compactBytes) {
    out[at++] = ZRLE.PLAIN_RLE;
    for (let i = 0; i < n;) {
      let run = 1;
      while (i + run < n && tile[i + run] === tile[i]) run++;
      at = w.putCompact(out, at, tile[i]!);
      for (let left = run - 1;; left -= 255) {
        out[at++] = Math.min(left, 255);
        if (left < 255) break;
      }
      i += run;
    }
    return at;
  }
  out[at++] = ZRLE.RAW;
  for (let i = 0; i < n; i++) at = w.putCompact(out, at, tile[i]!);
  return at;
}
