/**
 * LZ4 in its legacy frame, as `lz4 -l` and the kernel's build write it: a magic, then blocks of at most 8 MiB of output,
 * each preceded by its compressed size in four bytes.
 *
 * Spec: [lz4-block] sequences; [lz4-frame §legacy].
 */
import { DecompressError } from "./error.ts";

const MAGIC = 0x184c2102;
const BLOCK_BYTES = 8 << 20;

/** Decompresses `input` into `out` and returns how many bytes that were. */
export function decompressLz4(input: Uint8Array, out: Uint8Array): number {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  let at = 0;
  let to = 0;
  while (at + 4 <= input.length) {
    const size = view.getUint32(at, true);
    at += 4;
    if (size === MAGIC) continue; // frames may follow each other
    if (size > input.length - at) throw new DecompressError("an LZ4 block is cut short");
    to = block(input, at, at + size, out, to, Math.min(out.length, to + BLOCK_BYTES));
    at += size;
  }
  return to;
}

/** One block: `input[at..end)` to `out[start..limit)`. Returns where in `out` it ended. */
function block(input: Uint8Array, at: number, end: number, out: Uint8Array, start: number, limit: number): number {
  let to = start;
  while (at < end) {
    const token = input[at++]!;
    let literals = token >> 4;
    if (literals === 15) {
      let more = 255;
      while (more === 255 && at < end) literals += more = input[at++]!;
    }
    if (literals > end - at || literals > limit - to) throw new DecompressError("an LZ4 literal run leaves its block");
    if (literals > 64) {
      out.set(input.subarray(at, at + literals), to);
      to += literals;
      at += literals;
    } else {
      for (const last = at + literals; at < last;) out[to++] = input[at++]!;
    }
    if (at === end) return to; // the last sequence has no match

    if (end - at < 2) throw new DecompressError("an LZ4 block ends inside a sequence");
    const distance = input[at]! | input[at + 1]! << 8;
    at += 2;
    let length = (token & 15) + 4;
    if (length === 19) {
      let more = 255;
      while (more === 255 && at < end) length += more = input[at++]!;
    }
    if (distance === 0 || distance > to - start) throw new DecompressError("an LZ4 match reaches before its block");
    if (length > limit - to) throw new DecompressError("an LZ4 match leaves its block");
    if (length > 64 && distance >= length) {
      out.copyWithin(to, to - distance, to - distance + length);
      to += length;
    } else {
      for (const last = to + length; to < last; to++) out[to] = out[to - distance]!;
    }
  }
  return to;
}
