/**
 * bzip2: blocks of up to 900 kB, each run-length coded, Burrows-Wheeler sorted, move-to-front coded and Huffman coded.
 *
 * Absent: randomised blocks, which no packer has written since 1999.
 */
import { DecompressError } from "./error.ts";

const RUN_A = 0;
const RUN_B = 1;
const GROUP = 50; // symbols coded with one table
const MAX_CODE_BITS = 20;

/** Bits, the most significant first. What lies past the end reads as zeros; `spent` tells. */
class BitReader {
  #at = 0;
  #bits = 0;
  #count = 0;

  constructor(readonly input: Uint8Array) {}

  /** 1 to 24 bits. */
  read(count: number): number {
    while (this.#count < count) {
      this.#bits = ((this.#bits << 8) | (this.#at < this.input.length ? this.input[this.#at]! : 0)) >>> 0;
      this.#at++;
      this.#count += 8;
    }
    this.#count -= count;
    return (this.#bits >>> this.#count) & ((1 << count) - 1);
  }

  read32(): number {
    return (this.read(16) * 0x10000 + this.read(16)) >>> 0;
  }

  get spent(): boolean {
    return this.#at - (this.#count >> 3) > this.input.length;
  }
}

/** A canonical Huffman code: `limit[n]` is one past the last code of n bits, `symbols[code - offset[n]]` what it means. */
interface Code {
  readonly limit: Int32Array;
  readonly offset: Int32Array;
  readonly symbols: Uint16Array;
}

function codeOf(lengths: Uint8Array): Code {
  const limit = new Int32Array(MAX_CODE_BITS + 1);
  const offset = new Int32Array(MAX_CODE_BITS + 1);
  const symbols = new Uint16Array(lengths.length);
  let code = 0;
  let at = 0;
  for (let bits = 1; bits <= MAX_CODE_BITS; bits++) {
    code <<= 1;
    offset[bits] = code - at;
    for (let symbol = 0; symbol < lengths.length; symbol++) {
      if (lengths[symbol] !== bits) continue;
      symbols[at++] = symbol;
      code++;
    }
    limit[bits] = code;
  }
  return { limit, offset, symbols };
}

const CRC = new Uint32Array(256).map((_, i) => {
  let crc = i << 24;
  for (let bit = 0; bit < 8; bit++) crc = (crc << 1) ^ (crc < 0 ? 0x04c11db7 : 0);
  return crc;
});

/** Decompresses one bzip2 stream into `out` and returns how many bytes that were. */
export function decompressBzip2(input: Uint8Array, out: Uint8Array): number {
  const bits = new BitReader(input);
  if (bits.read(24) !== 0x425a68) throw new DecompressError("it does not start with BZh");
  const level = bits.read(8) - 0x30;
  if (level < 1 || level > 9) throw new DecompressError("the bzip2 level is not 1 to 9");
  const sorted = new Uint32Array(level * 100_000);
  let to = 0;
  let streamCrc = 0;
  for (;;) {
    const hi = bits.read(24);
    const lo = bits.read(24);
    const expected = bits.read32();
    if (bits.spent) throw new DecompressError("the bzip2 stream is cut short");
    if (hi === 0x177245 && lo === 0x385090) {
      if (streamCrc >>> 0 !== expected) throw new DecompressError("the CRC of the bzip2 stream is wrong");
      return to;
    }
    if (hi !== 0x314159 || lo !== 0x265359) throw new DecompressError("a bzip2 block has no header");
    const { count, origin } = readBlock(bits, sorted);
    const from = to;
    to = unsort(sorted, count, origin, out, to);
    let crc = ~0;
    for (let at = from; at < to; at++) crc = (crc << 8) ^ CRC[(crc >>> 24) ^ out[at]!]!;
    crc = ~crc;
    if (crc >>> 0 !== expected) throw new DecompressError("the CRC of a bzip2 block is wrong");
    streamCrc = ((streamCrc << 1) | (streamCrc >>> 31)) ^ crc;
  }
}

/** Reads one block's bytes, still sorted, into the low bytes of `sorted`. */
function readBlock(bits: BitReader, sorted: Uint32Array): { count: number; origin: number } {
  if (bits.read(1) === 1) throw new DecompressError("randomised bzip2 blocks are not supported");
  const origin = bits.read(24);
  const present = bits.read(16);
  const recent = new Uint8Array(256); // move-to-front: the nearest byte first
  let used = 0;
  for (let i = 0; i < 16; i++) {
    if ((present & (0x8000 >> i)) === 0) continue;
    const row = bits.read(16);
    for (let j = 0; j < 16; j++) if ((row & (0x8000 >> j)) !== 0) recent[used++] = i * 16 + j;
  }
  const { codes, selectors } = readCodes(bits, used + 2);
  const end = used + 1;

  let count = 0;
  let run = 0;
  let weight = 1;
  let left = 0;
  let group = 0;
  let code: Code = codes[0]!;
  for (;;) {
    if (left === 0) {
      if (group === selectors.length) throw new DecompressError("a bzip2 block does not end");
      code = codes[selectors[group++]!]!;
      left = GROUP;
    }
    left--;
    const symbol = readSymbol(bits, code);
    if (symbol <= RUN_B) {
      if (weight > sorted.length) throw new DecompressError("a run is longer than its bzip2 block");
      run += symbol === RUN_A ? weight : 2 * weight;
      weight *= 2;
      continue;
    }
    if (run > 0) {
      if (run > sorted.length - count) throw new DecompressError("a run is longer than its bzip2 block");
      sorted.fill(recent[0]!, count, count + run);
      count += run;
      run = 0;
      weight = 1;
    }
    if (symbol === end) break;
    if (count === sorted.length) throw new DecompressError("a bzip2 block holds more than its level allows");
    const byte = recent[symbol - 1]!;
    recent.copyWithin(1, 0, symbol - 1);
    recent[0] = byte;
    sorted[count++] = byte;
  }
  if (origin >= count && count > 0) throw new DecompressError("a bzip2 block starts outside itself");
  return { count, origin };
}

function readSymbol(bits: BitReader, code: Code): number {
  let value = 0;
  for (let length = 1; length <= MAX_CODE_BITS; length++) {
    value = (value << 1) | bits.read(1);
    if (value < code.limit[length]!) {
      const symbol = code.symbols[value - code.offset[length]!];
      if (symbol !== undefined) return symbol;
      break;
    }
  }
  throw new DecompressError("a bzip2 code means nothing");
}

function readCodes(bits: BitReader, symbols: number): { codes: Code[]; selectors: Uint8Array } {
  const tables = bits.read(3);
  if (symbols < 3 || tables < 2 || tables > 6) throw new DecompressError("a bzip2 block has no codes");
  const selectors = new Uint8Array(bits.read(15));
  const recent = Uint8Array.from({ length: tables }, (_, i) => i);
  for (let i = 0; i < selectors.length; i++) {
    let index = 0;
    while (bits.read(1) === 1) {
      if (++index >= tables) throw new DecompressError("a bzip2 block names a code that it does not have");
    }
    const table = recent[index]!;
    recent.copyWithin(1, 0, index);
    recent[0] = table;
    selectors[i] = table;
  }
  const codes: Code[] = [];
  for (let t = 0; t < tables; t++) {
    const lengths = new Uint8Array(symbols);
    let length = bits.read(5);
    for (let symbol = 0; symbol < symbols; symbol++) {
      for (;;) {
        if (length < 1 || length > MAX_CODE_BITS) throw new DecompressError("a bzip2 code is 0 or over 20 bits long");
        if (bits.read(1) === 0) break;
        length += bits.read(1) === 0 ? 1 : -1;
      }
      lengths[symbol] = length;
    }
    codes.push(codeOf(lengths));
  }
  return { codes, selectors };
}

/** Undoes the sort and then the first run-length code: four equal bytes are followed by how many more there are. */
function unsort(sorted: Uint32Array, count: number, origin: number, out: Uint8Array, to: number): number {
  const starts = new Uint32Array(257);
  for (let i = 0; i < count; i++) starts[(sorted[i]! & 0xff) + 1]!++;
  for (let byte = 0; byte < 256; byte++) starts[byte + 1]! += starts[byte]!;
  // The upper three bytes of each entry become the index of the byte after it.
  for (let i = 0; i < count; i++) sorted[starts[sorted[i]! & 0xff]!++]! |= i << 8;

  let entry = count > 0 ? sorted[origin]! : 0;
  let previous = -1;
  let equal = 0;
  for (let i = 0; i < count; i++) {
    entry = sorted[entry >>> 8]!;
    const byte = entry & 0xff;
    if (equal === 4) {
      if (byte > out.length - to) throw new DecompressError(`it unpacks to more than ${out.length} bytes`);
      out.fill(previous, to, to + byte);
      to += byte;
      equal = 0;
      previous = -1;
      continue;
    }
    equal = byte === previous ? equal + 1 : 1;
    previous = byte;
    if (to === out.length) throw new DecompressError(`it unpacks to more than ${out.length} bytes`);
    out[to++] = byte;
  }
  return to;
}
