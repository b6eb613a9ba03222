/** Packed payloads: they fill their buffer exactly or cannot be unpacked. The first byte names the packing. */
import { gzipSync, zstdCompressSync } from "node:zlib";
import { decompress, DecompressError, type Packing } from "../../src/boot/decompress/mod.ts";
import type { Target } from "./target.ts";

const PACKINGS: readonly Packing[] = ["gzip", "zstd", "lz4", "xz", "lzma", "bzip2", "none"];
/** What the corpus' inputs unpack to: the numbers 0, 3, 6, … mod 256 by fours, which packs well. */
const OUT_BYTES = 4096;
const PLAIN = Uint8Array.from({ length: OUT_BYTES }, (_, i) => 3 * (i >> 2));

export const payload: Target = {
  name: "payload",
  // the other packings start from the corpus
  seeds: () => [Uint8Array.of(0, ...gzipSync(PLAIN)), Uint8Array.of(1, ...zstdCompressSync(PLAIN))],
  fuzz(bytes) {
    if (bytes.length === 0) return;
    const packing = PACKINGS[bytes[0]! % PACKINGS.length]!;
    const around = new Uint8Array(OUT_BYTES + 64).fill(0xa5);
    try {
      const got = decompress(packing, bytes.subarray(1), around.subarray(32, 32 + OUT_BYTES));
      if (got.length !== OUT_BYTES) throw new Error(`${packing}: ${got.length} bytes, expected ${OUT_BYTES}`);
    } catch (error) {
      if (!(error instanceof DecompressError)) throw error;
    }
    const outside = [...around.subarray(0, 32), ...around.subarray(32 + OUT_BYTES)];
    if (outside.some((byte) => byte !== 0xa5)) throw new Error(`${packing}: wrote outside of its buffer`);
  },
};
