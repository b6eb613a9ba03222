/** PNG pictures. Spec: [png §5, §11.2] chunks, [png §9] filters. */
import type { Screen } from "./screen.ts";
import { zlib } from "./zlib.ts";

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const RGB = 2;
const NO_FILTER = 0;

/** Pixels of 00RRGGBBh as a PNG of eight bits a channel. */
export function encodePng(pixels: Uint32Array, width: number, height: number): Uint8Array<ArrayBuffer> {
  const raw = new Uint8Array(height * (1 + 3 * width));
  let at = 0;
  for (let y = 0; y < height; y++) {
    raw[at++] = NO_FILTER;
    for (let x = 0; x < width; x++) {
      const pixel = pixels[y * width + x]!;
      raw[at++] = pixel >> 16;
      raw[at++] = pixel >> 8;
      raw[at++] = pixel;
    }
  }
  const header = new DataView(new ArrayBuffer(13));
  header.setUint32(0, width);
  header.setUint32(4, height);
  header.setUint8(8, 8);
  header.setUint8(9, RGB);
  const parts = [
    Uint8Array.from(SIGNATURE),
    chunk("IHDR", new Uint8Array(header.buffer)),
    chunk("IDAT", zlib().deflateSync(raw)),
    chunk("IEND", new Uint8Array()),
  ];
  const png = new Uint8Array(parts.reduce((bytes, part) => bytes + part.length, 0));
  let end = 0;
  for (const part of parts) {
    png.set(part, end);
    end += part.length;
  }
  return png;
}

/** What a display shows now. */
export function encodeScreen(screen: Pick<Screen, "size" | "render">) {
  const { width, height } = screen.size, pixels = new Uint32Array(width * height);
  screen.render(pixels, { width, height });
  return { width, height, png: encodePng(pixels, width, height) };
}

function chunk(type: string, data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(12 + data.length), view = new DataView(bytes.buffer);
  view.setUint32(0, data.length);
  bytes.set(new TextEncoder().encode(type), 4);
  bytes.set(data, 8);
  view.setUint32(8 + data.length, zlib().crc32(bytes.subarray(4, 8 + data.length)));
  return bytes;
}
