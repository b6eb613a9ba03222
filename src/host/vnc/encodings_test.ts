import { assertEquals } from "@std/assert";
import { encodeHextile, encodeRaw, type Picture, type Rect, ZrleEncoder } from "./encodings.ts";
import { NATIVE, type PixelFormat, PixelWriter } from "./pixel_format.ts";
import { Cursor, decodeHextile, decodeRaw, ZrleDecoder } from "./rfb_client.ts";

const FORMATS: Record<string, PixelFormat> = {
  "32 bits": NATIVE,
  "32 bits, big-endian": { ...NATIVE, bigEndian: true },
  "32 bits, the lowest byte unused": { ...NATIVE, shift: [24, 16, 8] },
  "the same, big-endian": { ...NATIVE, shift: [8, 16, 24], bigEndian: true },
  "32 bits of 30": { ...NATIVE, depth: 30, max: [1023, 1023, 1023], shift: [20, 10, 0] },
  "16 bits": { ...NATIVE, bitsPerPixel: 16, depth: 16, max: [31, 63, 31], shift: [11, 5, 0] },
  "16 bits, big-endian": {
    ...NATIVE,
    bitsPerPixel: 16,
    depth: 16,
    max: [31, 63, 31],
    shift: [11, 5, 0],
    bigEndian: true,
  },
  "8 bits": { ...NATIVE, bitsPerPixel: 8, depth: 8, max: [7, 7, 3], shift: [0, 3, 6] },
};

/** Pictures of every kind of tile: one colour, few, many in runs, many. */
function pictures(): Picture[] {
  let seed = 3;
  const random = () => (seed = Math.imul(seed, 1103515245) + 12345 >>> 0) >>> 8;
  const width = 150, height = 77;
  const make = (f: (x: number, y: number) => number) => ({
    width,
    height,
    pixels: Uint32Array.from({ length: width * height }, (_, i) => f(i % width, Math.floor(i / width)) & 0xffffff),
  });
  const colors = Array.from({ length: 20 }, random);
  return [
    make(() => 0x123456),
    ...[2, 3, 5, 16, 17].map((n) => make(() => colors[random() % n]!)),
    make((x, y) => x < y ? 0 : 0xffffff),
    make((_x, y) => Math.imul(y, 0x345671)),
    make(random),
  ];
}

const RECTS: Rect[] = [{ x: 0, y: 0, width: 150, height: 77 }, { x: 13, y: 7, width: 65, height: 18 }, {
  x: 149,
  y: 76,
  width: 1,
  height: 1,
}];

/** What the client should see: each channel scaled by its own maximum. */
function wanted(p: Picture, r: Rect, f: PixelFormat): Float64Array {
  return Float64Array.from({ length: r.width * r.height }, (_, i) => {
    const pixel = p.pixels[(r.y + Math.floor(i / r.width)) * p.width + r.x + i % r.width]!;
    return [16, 8, 0].reduce(
      (sum, at, c) => sum + Math.round(((pixel >> at) & 255) * f.max[c]! / 255) * 2 ** f.shift[c]!,
      0,
    );
  });
}

for (const [name, format] of Object.entries(FORMATS)) {
  Deno.test(`RFB, ${name}: raw, hextile and ZRLE are decoded to the picture they were made of`, () => {
    const writer = new PixelWriter(format), zrle = new ZrleEncoder(), unzrle = new ZrleDecoder();
    for (const p of pictures()) {
      for (const r of RECTS) {
        const want = wanted(p, r, format);
        const raw = new Cursor(encodeRaw(p, r, writer));
        assertEquals(decodeRaw(raw, r.width, r.height, format), want);
        const hextile = new Cursor(encodeHextile(p, r, writer));
        assertEquals(decodeHextile(hextile, r.width, r.height, format), want);
        assertEquals(hextile.at, hextile.bytes.length);
        assertEquals(unzrle.decode(new Cursor(zrle.encode(p, r, writer)), r.width, r.height, format), want);
      }
    }
  });
}
