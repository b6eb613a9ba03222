/**
 * The .xz container as the kernel's build writes it: blocks of LZMA2, with the x86 branch filter before it or without.
 *
 * Spec: [xz §2, §3, §5.3]. Checked: every block's header and its CRC-32 or CRC-64. The index is not read: the caller knows
 * how much must come out.
 */
import { crc32, crc64 } from "./checksum.ts";
import { DecompressError } from "./error.ts";
import { LzmaDecoder } from "./lzma.ts";
import { unfilterX86 } from "./x86_filter.ts";

const FILTER_X86 = 0x04;
const FILTER_LZMA2 = 0x21;
/** The size of a block's check, by its kind: none, CRC-32, CRC-64. */
const CHECK_BYTES: Readonly<Record<number, number>> = { 0: 0, 1: 4, 4: 8 };

/** Decompresses one .xz stream into `out` and returns how many bytes that were. */
export function decompressXz(input: Uint8Array, out: Uint8Array): number {
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  if (input.length < 12) throw new DecompressError("the xz header is cut short");
  if (crc32(input, 6, 8) !== view.getUint32(8, true)) throw new DecompressError("the xz header's CRC is wrong");
  const check = input[7]!;
  const checkBytes = CHECK_BYTES[check];
  if (input[6] !== 0 || checkBytes === undefined) throw new DecompressError(`the xz check ${check} is not supported`);

  let at = 12;
  let to = 0;
  for (;;) {
    if (at >= input.length) throw new DecompressError("the xz stream is cut short");
    if (input[at] === 0) return to; // the index
    const header = readBlockHeader(input, at);
    at = header.end;
    const from = to;
    const lzma2 = decodeLzma2(input, at, out, to);
    to = lzma2.to;
    at += Math.ceil((lzma2.at - at) / 4) * 4;
    if (header.x86Start !== null) unfilterX86(out, from, to, header.x86Start);
    if (at + checkBytes > input.length) throw new DecompressError("the xz stream is cut short");
    if (!checkHolds(view, at, check, out, from, to)) throw new DecompressError("the CRC of an xz block is wrong");
    at += checkBytes;
  }
}

function checkHolds(view: DataView, at: number, check: number, out: Uint8Array, from: number, to: number): boolean {
  if (check === 1) return crc32(out, from, to) === view.getUint32(at, true);
  if (check === 0) return true;
  const [lo, hi] = crc64(out, from, to);
  return lo === view.getUint32(at, true) && hi === view.getUint32(at + 4, true);
}

/** Where the block's data starts, and the start position of the x86 filter, or null without one. */
function readBlockHeader(input: Uint8Array, start: number): { end: number; x86Start: number | null } {
  const end = start + (input[start]! + 1) * 4;
  if (end > input.length) throw new DecompressError("an xz block header is cut short");
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  if (crc32(input, start, end - 4) !== view.getUint32(end - 4, true)) {
    throw new DecompressError("the CRC of an xz block header is wrong");
  }
  const flags = input[start + 1]!;
  let at = start + 2;
  /** A multibyte integer; what does not fit in 53 bits is rounded, and no field of ours is that long. */
  const integer = (): number => {
    let value = 0;
    for (let i = 0; i < 9 && at < end - 4; i++) {
      const byte = input[at++]!;
      value += (byte & 0x7f) * 2 ** (7 * i);
      if (byte < 0x80) return value;
    }
    throw new DecompressError("a number in an xz block header does not end");
  };
  if ((flags & 0x40) !== 0) integer(); // the compressed size
  if ((flags & 0x80) !== 0) integer(); // the uncompressed size

  let x86Start: number | null = null;
  const count = (flags & 3) + 1;
  for (let i = 0; i < count; i++) {
    const id = integer();
    const size = integer();
    if (size > end - 4 - at) throw new DecompressError("an xz filter's properties leave their header");
    if (i === count - 1 ? id !== FILTER_LZMA2 : id !== FILTER_X86 || i > 0) {
      throw new DecompressError(`the xz filter ${id.toString(16)}h is not supported`);
    }
    if (id === FILTER_X86) x86Start = size === 4 ? view.getUint32(at, true) : 0;
    at += size;
  }
  return { end, x86Start };
}

/** LZMA2 from `input[at]` to `out[to]`; returns where it stopped in both. */
function decodeLzma2(input: Uint8Array, at: number, out: Uint8Array, to: number): { at: number; to: number } {
  const decoder = new LzmaDecoder(out);
  decoder.dictStart = to;
  let hasProperties = false;
  let hasDictionary = false;
  for (;;) {
    if (at >= input.length) throw new DecompressError("LZMA2 data is cut short");
    const control = input[at++]!;
    if (control === 0) return { at, to };
    if (control === 1 || control >= 0xe0) {
      decoder.dictStart = to;
      hasDictionary = true;
    } else if (!hasDictionary) throw new DecompressError("LZMA2 data does not start with a new dictionary");

    if (control < 0x80) {
      if (control > 2) throw new DecompressError(`${control} is no LZMA2 chunk`);
      if (at + 2 > input.length) throw new DecompressError("LZMA2 data is cut short");
      const size = (input[at]! << 8 | input[at + 1]!) + 1;
      at += 2;
      if (size > input.length - at) throw new DecompressError("LZMA2 data is cut short");
      if (size > out.length - to) throw new DecompressError(`it unpacks to more than ${out.length} bytes`);
      out.set(input.subarray(at, at + size), to);
      at += size;
      to += size;
      continue;
    }
    const withProperties = control >= 0xc0;
    if (at + (withProperties ? 5 : 4) > input.length) throw new DecompressError("LZMA2 data is cut short");
    const size = ((control & 0x1f) << 16 | input[at]! << 8 | input[at + 1]!) + 1;
    const packed = (input[at + 2]! << 8 | input[at + 3]!) + 1;
    at += 4;
    if (withProperties) {
      decoder.setProperties(input[at++]!);
      hasProperties = true;
    } else if (!hasProperties) throw new DecompressError("LZMA2 data does not say its properties");
    else if (control >= 0xa0) decoder.resetState();
    if (packed > input.length - at) throw new DecompressError("LZMA2 data is cut short");
    if (size > out.length - to) throw new DecompressError(`it unpacks to more than ${out.length} bytes`);
    decoder.start(input, at, at + packed);
    if (decoder.decode(to, to + size) !== to + size) throw new DecompressError("an LZMA2 chunk ends early");
    to += size;
    at += packed;
  }
}
