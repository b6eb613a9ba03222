/**
 * What a kernel's payload can be packed with, told by its first bytes, and one way to unpack all of it. Every decoder writes
 * into a buffer of the size that the kernel's build recorded, so that no payload can grow past what was allowed.
 */
import { messageOf } from "../../base/errors.ts";
import { decompressBzip2 } from "./bzip2.ts";
import { DecompressError } from "./error.ts";
import { decompressLz4 } from "./lz4.ts";
import { decompressLzma } from "./lzma.ts";
import { decompressXz } from "./xz.ts";

export { DecompressError } from "./error.ts";

export type Packing = "gzip" | "zstd" | "lz4" | "xz" | "lzma" | "bzip2" | "none";

/** The first bytes of each kind. `.lzma` has no magic: its properties and a dictionary of 2^n bytes, as its packers write. */
const MAGIC: readonly (readonly [Packing, readonly number[]])[] = [
  ["gzip", [0x1f, 0x8b, 0x08]],
  ["zstd", [0x28, 0xb5, 0x2f, 0xfd]],
  ["lz4", [0x02, 0x21, 0x4c, 0x18]],
  ["xz", [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ["lzma", [0x5d, 0x00, 0x00]],
  ["bzip2", [0x42, 0x5a, 0x68]],
  ["none", [0x7f, 0x45, 0x4c, 0x46]],
];

/** What `bytes` are packed with; null: nothing known. "none" is a bare ELF. */
export function packingOf(bytes: Uint8Array): Packing | null {
  for (const [packing, magic] of MAGIC) {
    if (bytes.length >= magic.length && magic.every((byte, i) => bytes[i] === byte)) return packing;
  }
  return null;
}

/**
 * Unpacks `input`, which must fill `out` exactly; otherwise throws a DecompressError. Returns the bytes: those of `out`, or
 * others if the decoder has a buffer of its own. `out` may be left half written.
 */
export function decompress(packing: Packing, input: Uint8Array, out: Uint8Array): Uint8Array {
  const bytes = packing === "none"
    ? input
    : packing === "gzip" || packing === "zstd"
    ? zlib(packing, input, out.length)
    : out.subarray(0, DECODERS[packing](input, out));
  if (bytes.length === out.length) return bytes;
  throw new DecompressError(`it unpacks to ${bytes.length} bytes where its size field says ${out.length}`);
}

const DECODERS = { lz4: decompressLz4, xz: decompressXz, lzma: decompressLzma, bzip2: decompressBzip2 } as const;

/** Loaded when needed: loading node:zlib takes 18 ms, more than reading a kernel. */
function zlib(packing: "gzip" | "zstd", input: Uint8Array, sizeBytes: number): Uint8Array {
  const { gunzipSync, zstdDecompressSync } = process.getBuiltinModule("node:zlib");
  const options = { maxOutputLength: sizeBytes };
  try {
    return packing === "gzip" ? gunzipSync(input, options) : zstdDecompressSync(input, options);
  } catch (error) {
    throw new DecompressError(`${packing}: ${messageOf(error)}`, { cause: error });
  }
}
