import { assertEquals } from "@std/assert";
import { Buffer } from "node:buffer";
import { crc32, inflateSync } from "node:zlib";
import { encodePng } from "./png.ts";

Deno.test("PNG: signature, chunks with right checksums, and rows that unpack to the pixels [png §5, §9]", () => {
  const width = 3, height = 2, pixels = Uint32Array.of(0x112233, 0x445566, 0x778899, 0xaabbcc, 0xddeeff, 0x000102);
  const png = encodePng(pixels, width, height), view = new DataView(png.buffer, png.byteOffset);
  assertEquals([...png.subarray(0, 8)], [0x89, 0x50, 0x4e, 0x47, 13, 10, 26, 10]);
  const chunks: Record<string, Uint8Array> = {};
  for (let at = 8; at < png.length;) {
    const length = view.getUint32(at), type = new TextDecoder().decode(png.subarray(at + 4, at + 8));
    assertEquals(view.getUint32(at + 8 + length), crc32(Buffer.from(png.subarray(at + 4, at + 8 + length))), type);
    chunks[type] = png.slice(at + 8, at + 8 + length);
    at += 12 + length;
  }
  assertEquals(Object.keys(chunks), ["IHDR", "IDAT", "IEND"]);
  assertEquals([...chunks.IHDR!], [0, 0, 0, 3, 0, 0, 0, 2, 8, 2, 0, 0, 0]);
  const rows = [...inflateSync(chunks.IDAT!)];
  const rgb = (p: number) => [p >> 16, (p >> 8) & 255, p & 255];
  assertEquals(rows, [0, ...[...pixels.subarray(0, 3)].flatMap(rgb), 0, ...[...pixels.subarray(3)].flatMap(rgb)]);
});
