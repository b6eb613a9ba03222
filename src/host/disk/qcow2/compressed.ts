/**
 * Compressed clusters: raw deflate streams with a window of 4 KiB, or zstd frames.
 *
 * Spec: [qcow2 §Compressed Clusters Descriptor]. What follows a stream within its last sector is of no meaning, so the end of a
 * zstd frame has to be found first [rfc8878 §3.1.1].
 */
import { messageOf } from "../../../base/errors.ts";
import { zlib } from "../../zlib.ts";
import type { Compression } from "./format.ts";

const WINDOW_BITS = 12;

/** The cluster in a stream; throws if it holds none of that size. */
export function decompressCluster(kind: Compression, stream: Uint8Array, clusterBytes: number): Uint8Array {
  let bytes: Uint8Array;
  try {
    const { inflateRawSync, zstdDecompressSync } = zlib(), options = { maxOutputLength: clusterBytes };
    bytes = kind === "zlib"
      ? inflateRawSync(stream, options)
      : zstdDecompressSync(stream.subarray(0, zstdFrameBytes(stream)), options);
  } catch (error) {
    throw new Error(`a compressed cluster is damaged: ${messageOf(error)}`, { cause: error });
  }
  if (bytes.length !== clusterBytes) throw new Error(`a compressed cluster holds ${bytes.length} bytes`);
  return bytes;
}

/** Null if the bytes do not become fewer. */
export function compressCluster(kind: Compression, bytes: Uint8Array): Uint8Array | null {
  const { deflateRawSync, zstdCompressSync } = zlib();
  const stream = kind === "zlib" ? deflateRawSync(bytes, { windowBits: WINDOW_BITS }) : zstdCompressSync(bytes);
  return stream.length < bytes.length ? stream : null;
}

/** The length of the zstd frame that `bytes` begin with. */
function zstdFrameBytes(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < 9 || view.getUint32(0, true) !== 0xfd2fb528) {
    throw new Error("a compressed cluster is no zstd frame");
  }
  const descriptor = bytes[4]!;
  const single = (descriptor >> 5) & 1;
  const sizeField = [single, 2, 4, 8][descriptor >> 6]!;
  let at = 5 + (single ? 0 : 1) + [0, 1, 2, 4][descriptor & 3]! + sizeField;
  for (;;) {
    if (at + 3 > bytes.length) throw new Error("a compressed cluster ends early");
    const block = bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16);
    const type = (block >> 1) & 3;
    at += 3 + (type === 1 ? 1 : block >> 3); // an RLE block is one byte
    if (block & 1) break;
  }
  return Math.min(bytes.length, at + (descriptor & 4 ? 4 : 0));
}
