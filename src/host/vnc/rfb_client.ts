/** For tests: the client's side of RFB, written from the specification and not from the server. [rfc6143] */
import { constants, inflateSync } from "node:zlib";
import type { PixelFormat } from "./pixel_format.ts";

/** Reads bytes in order. */
export class Cursor {
  at = 0;
  constructor(readonly bytes: Uint8Array) {}
  u8(): number {
    return this.bytes[this.at++]!;
  }
  take(n: number): Uint8Array {
    this.at += n;
    return this.bytes.subarray(this.at - n, this.at);
  }
  u32(): number {
    return new DataView(this.take(4).slice().buffer).getUint32(0);
  }
}

/** A pixel's value on the wire. */
export function readPixel(c: Cursor, f: PixelFormat): number {
  const bytes = [...c.take(f.bitsPerPixel / 8)];
  if (!f.bigEndian) bytes.reverse();
  return bytes.reduce((v, b) => v * 256 + b, 0);
}

/** [rfc6143 §7.7.5] Three bytes where the fourth says nothing. */
function readCompact(c: Cursor, f: PixelFormat): number {
  const mask = f.max.reduce((m, max, i) => m + max * 2 ** f.shift[i]!, 0);
  if (f.bitsPerPixel !== 32 || f.depth > 24) return readPixel(c, f);
  const low = mask < 2 ** 24, high = mask % 256 === 0;
  if (!low && !high) return readPixel(c, f);
  const bytes = [...c.take(3)];
  if (!f.bigEndian) bytes.reverse();
  const v = bytes.reduce((v, b) => v * 256 + b, 0);
  return low ? v : v * 256;
}

export function decodeRaw(c: Cursor, width: number, height: number, f: PixelFormat): Float64Array {
  return Float64Array.from({ length: width * height }, () => readPixel(c, f));
}

export function decodeHextile(c: Cursor, width: number, height: number, f: PixelFormat): Float64Array {
  const out = new Float64Array(width * height);
  let background = 0, foreground = 0;
  for (let ty = 0; ty < height; ty += 16) {
    for (let tx = 0; tx < width; tx += 16) {
      const tw = Math.min(16, width - tx), th = Math.min(16, height - ty);
      const fill = (x: number, y: number, w: number, h: number, v: number) => {
        for (let i = 0; i < h; i++) for (let k = 0; k < w; k++) out[(ty + y + i) * width + tx + x + k] = v;
      };
      const flags = c.u8();
      if (flags & 1) {
        for (let y = 0; y < th; y++) for (let x = 0; x < tw; x++) fill(x, y, 1, 1, readPixel(c, f));
        continue;
      }
      if (flags & 2) background = readPixel(c, f);
      if (flags & 4) foreground = readPixel(c, f);
      fill(0, 0, tw, th, background);
      if (!(flags & 8)) continue;
      for (let n = c.u8(); n > 0; n--) {
        const color = flags & 16 ? readPixel(c, f) : foreground;
        const xy = c.u8(), wh = c.u8();
        fill(xy >> 4, xy & 15, (wh >> 4) + 1, (wh & 15) + 1, color);
      }
    }
  }
  return out;
}

/** All rectangles of a connection, one after the other: they share a zlib stream. */
export class ZrleDecoder {
  #packed = new Uint8Array();
  #used = 0;

  decode(c: Cursor, width: number, height: number, f: PixelFormat): Float64Array {
    const body = c.take(c.u32());
    const joined = new Uint8Array(this.#packed.length + body.length);
    joined.set(this.#packed);
    joined.set(body, this.#packed.length);
    this.#packed = joined;
    const all = new Uint8Array(inflateSync(joined, { finishFlush: constants.Z_SYNC_FLUSH }));
    const data = new Cursor(all.subarray(this.#used));
    const out = new Float64Array(width * height);
    for (let ty = 0; ty < height; ty += 64) {
      for (let tx = 0; tx < width; tx += 64) {
        const tw = Math.min(64, width - tx), th = Math.min(64, height - ty);
        const put = (i: number, v: number) => out[(ty + Math.floor(i / tw)) * width + tx + i % tw] = v;
        const kind = data.u8();
        const size = kind & 127;
        if (kind === 0) { for (let i = 0; i < tw * th; i++) put(i, readCompact(data, f)); }
        else if (kind === 1) {
          const v = readCompact(data, f);
          for (let i = 0; i < tw * th; i++) put(i, v);
        } else if (kind <= 16) {
          const palette = Array.from({ length: size }, () => readCompact(data, f));
          const bits = size === 2 ? 1 : size <= 4 ? 2 : 4;
          for (let y = 0; y < th; y++) {
            const row = data.take(Math.ceil(tw * bits / 8));
            for (let x = 0; x < tw; x++) {
              const index = (row[Math.floor(x * bits / 8)]! >> (8 - bits - (x * bits) % 8)) & ((1 << bits) - 1);
              put(y * tw + x, palette[index]!);
            }
          }
        } else if (kind === 128) {
          for (let i = 0; i < tw * th;) {
            const v = readCompact(data, f);
            let run = 1, more: number;
            do run += more = data.u8(); while (more === 255);
            for (; run > 0; run--) put(i++, v);
          }
        } else throw new Error(`tile of kind ${kind}`);
      }
    }
    this.#used += data.at;
    if (data.at !== data.bytes.length) throw new Error(`${data.bytes.length - data.at} bytes too many`);
    return out;
  }
}
