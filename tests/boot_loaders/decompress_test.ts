import { assert, assertEquals, assertThrows } from "@std/assert";
import { crc32, crc64 } from "../../src/boot/decompress/checksum.ts";
import { decompress, DecompressError, type Packing, packingOf } from "../../src/boot/decompress/mod.ts";
import { codeLike } from "./images.ts";
import { pack, PACKERS } from "./packers.ts";

const PLAIN = codeLike(300_000);

for (const packer of PACKERS) {
  Deno.test(`decompress restores what ${packer.line} packed`, async (t) => {
    for (const plain of [PLAIN, codeLike(1), new Uint8Array(200_000), codeLike(70_000, 7)]) {
      const packed = await pack(packer, plain);
      if (packed === null) return void console.log(`skipped: ${packer.command} is not installed`);
      await t.step(`${plain.length} bytes`, () => {
        assertEquals(packingOf(packed), packer.packing);
        assert(equal(decompress(packer.packing, packed, new Uint8Array(plain.length)), plain));
      });
    }
  });

  Deno.test(`decompress says so when ${packer.line} data is cut short, damaged, or more than allowed`, async () => {
    const packed = await pack(packer, PLAIN);
    if (packed === null) return void console.log(`skipped: ${packer.command} is not installed`);
    const run = (bytes: Uint8Array, size: number) => decompress(packer.packing, bytes, new Uint8Array(size));
    assertThrows(() => run(packed, PLAIN.length - 1), DecompressError);
    assertThrows(() => run(packed, PLAIN.length + 1), DecompressError);
    assertThrows(() => run(packed, 16), DecompressError);
    for (const length of [0, 1, 7, 13, 20, packed.length >> 1, Math.floor(packed.length * 0.9)]) {
      assertThrows(() => run(packed.subarray(0, length), PLAIN.length), DecompressError);
    }
  });

  Deno.test(`decompress of ${packer.line} survives any damaged byte`, async () => {
    const plain = codeLike(5_000);
    const packed = await pack(packer, plain);
    if (packed === null) return void console.log(`skipped: ${packer.command} is not installed`);
    let unnoticed = 0;
    for (let at = 0; at < packed.length; at += 7) {
      const damaged = packed.slice();
      damaged[at]! ^= 1 << (at % 8);
      try {
        const out = decompress(packer.packing, damaged, new Uint8Array(plain.length));
        if (!equal(out, plain)) unnoticed++;
      } catch (error) {
        assert(error instanceof DecompressError, String(error));
      }
    }
    if (packer.checked) assertEquals(unnoticed, 0);
  });
}

Deno.test("decompress of LZ4 refuses matches before the start and past the end", () => {
  const frame = (...block: number[]) => Uint8Array.from([0x02, 0x21, 0x4c, 0x18, block.length, 0, 0, 0, ...block]);
  const run = (bytes: Uint8Array) => decompress("lz4", bytes, new Uint8Array(8));
  // One literal, then a match of four at distance one, then the last literals.
  assertEquals(run(frame(0x10, 7, 1, 0, 0x30, 1, 2, 3)), Uint8Array.of(7, 7, 7, 7, 7, 1, 2, 3));
  assertThrows(() => run(frame(0x10, 7, 2, 0, 0x30, 1, 2, 3)), DecompressError, "before its block");
  assertThrows(() => run(frame(0x10, 7, 0, 0, 0x30, 1, 2, 3)), DecompressError, "before its block");
  assertThrows(() => run(frame(0x1f, 7, 1, 0, 200, 0x30, 1, 2, 3)), DecompressError, "leaves its block");
  assertThrows(() => run(frame(0x40, 7)), DecompressError, "leaves its block");
  assertThrows(() => run(frame(0x10, 7, 1)), DecompressError, "inside a sequence");
  assertThrows(() => run(Uint8Array.of(2, 0x21, 0x4c, 0x18, 9, 0, 0, 0, 1)), DecompressError, "cut short");
});

Deno.test("crc32 and crc64 have the check values of their catalogue", () => {
  const digits = new TextEncoder().encode("123456789");
  assertEquals(crc32(digits), 0xcbf43926);
  assertEquals(crc64(digits, 0, 9), [0xdf1939fa, 0x995dc9bb]);
});

Deno.test("packingOf knows each kind by its first bytes and nothing else", () => {
  const bytes = (hex: string) => Uint8Array.from(hex.match(/../g)!, (pair) => parseInt(pair, 16));
  const known: [string, Packing][] = [
    ["1f8b0800", "gzip"],
    ["28b52ffd", "zstd"],
    ["02214c18", "lz4"],
    ["fd377a585a00", "xz"],
    ["5d000000", "lzma"],
    ["425a6839", "bzip2"],
    ["7f454c46", "none"],
  ];
  for (const [hex, packing] of known) {
    assertEquals(packingOf(bytes(hex)), packing);
    assertEquals(packingOf(bytes(hex).subarray(0, 2)), null);
  }
  assertEquals(packingOf(bytes("894c5a4f000d0a1a")), null); // lzop
});

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}
