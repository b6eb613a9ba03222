/**
 * The LZMA decoder, and the `.lzma` file (LZMA_Alone) around it. The output buffer is the dictionary: everything a kernel
 * unpacks to is in one piece.
 *
 * Spec: [lzma] the format specification of the LZMA SDK.
 */
import { DecompressError } from "./error.ts";

const STATES = 12;
const POS_STATES = 16;
const PROB_BITS = 11;
const HALF = 1 << (PROB_BITS - 1);
const RATE = 5;
const RANGE = 0;
const CODE = 1;
const RANGE_MIN = 1 << 24;

// Where each model lies in the one array of probabilities.
const IS_MATCH = 0;
const IS_REP = IS_MATCH + STATES * POS_STATES;
const IS_REP_G0 = IS_REP + STATES;
const IS_REP_G1 = IS_REP_G0 + STATES;
const IS_REP_G2 = IS_REP_G1 + STATES;
const IS_REP0_LONG = IS_REP_G2 + STATES;
const POS_SLOT = IS_REP0_LONG + STATES * POS_STATES; // 4 trees of 64
const POS_SPECIAL = POS_SLOT + 4 * 64; // the reversed trees of slots 4..13
const POS_ALIGN = POS_SPECIAL + 128; // a reversed tree of 16
const LEN = POS_ALIGN + 16;
const LEN_SIZE = 2 + 2 * POS_STATES * 8 + 256; // choice, choice2, low, mid, high
const REP_LEN = LEN + LEN_SIZE;
const LITERAL = REP_LEN + LEN_SIZE;
const LITERAL_SIZE = 0x300;

/** An LZMA decoder that survives from chunk to chunk. `out` is written in place; a match reaches back to `dictStart` at most. */
export class LzmaDecoder {
  #probs = new Uint16Array(LITERAL);
  #lc = 0;
  #lpMask = 0;
  #pbMask = 0;
  #state = 0;
  #rep0 = 0;
  #rep1 = 0;
  #rep2 = 0;
  #rep3 = 0;
  // The range coder.
  #input: Uint8Array = new Uint8Array(0);
  #at = 0;
  #end = 0;
  // Its range and code, in an array because a field that holds 32 bits is a heap number: a tenth of the time.
  readonly #coder = new Uint32Array(2);
  /** Where the dictionary starts in `out`, and where the positions that pb and lp count start: the last dictionary reset. */
  dictStart = 0;

  constructor(readonly out: Uint8Array) {}

  /** Takes the properties byte: (pb × 5 + lp) × 9 + lc. */
  setProperties(byte: number): void {
    if (byte >= 9 * 5 * 5) throw new DecompressError(`the LZMA properties are ${byte}, past 224`);
    this.#lc = byte % 9;
    const lp = Math.floor(byte / 9) % 5;
    this.#lpMask = (1 << lp) - 1;
    this.#pbMask = (1 << Math.floor(byte / 45)) - 1;
    const size = LITERAL + (LITERAL_SIZE << (this.#lc + lp));
    if (this.#probs.length < size) this.#probs = new Uint16Array(size);
    this.resetState();
  }

  resetState(): void {
    this.#probs.fill(HALF);
    this.#state =
      this.#rep0 =
      this.#rep1 =
      this.#rep2 =
      this.#rep3 =
        0;
  }

  /** Starts the range coder on `input[at..end)`. */
  start(input: Uint8Array, at: number, end: number): void {
    if (end - at < 5) throw new DecompressError("LZMA data is cut short");
    if (input[at] !== 0) throw new DecompressError("LZMA data does not start with a zero byte");
    this.#input = input;
    this.#coder[CODE] = ((input[at + 1]! << 24) | (input[at + 2]! << 16) | (input[at + 3]! << 8) | input[at + 4]!) >>>
      0;
    this.#coder[RANGE] = 0xffffffff;
    this.#at = at + 5;
    this.#end = end;
  }

  /** Where the range coder stands in its input. */
  get at(): number {
    return this.#at;
  }

  /** Decodes from `out[to]` until `limit` is reached or the end marker comes; returns where it stopped. */
  decode(to: number, limit: number): number {
    const out = this.out;
    const start = this.dictStart;
    while (to < limit) {
      const posState = (to - start) & this.#pbMask;
      const state = this.#state;
      if (this.#bit(IS_MATCH + state * POS_STATES + posState) === 0) {
        const previous = to > start ? out[to - 1]! : 0;
        const context = (((to - start) & this.#lpMask) << this.#lc) + (previous >> (8 - this.#lc));
        out[to] = this.#literal(LITERAL + context * LITERAL_SIZE, state < 7, to);
        to++;
        this.#state = state < 4 ? 0 : state < 10 ? state - 3 : state - 6;
        continue;
      }
      let length = 0;
      if (this.#bit(IS_REP + state) === 0) {
        this.#rep3 = this.#rep2;
        this.#rep2 = this.#rep1;
        this.#rep1 = this.#rep0;
        length = this.#length(LEN, posState);
        this.#rep0 = this.#distance(length);
        this.#state = state < 7 ? 7 : 10;
        if (this.#rep0 === 0xffffffff) return to; // the end marker
      } else {
        if (this.#bit(IS_REP_G0 + state) === 0) {
          if (this.#bit(IS_REP0_LONG + state * POS_STATES + posState) === 0) length = 1;
        } else {
          let distance;
          if (this.#bit(IS_REP_G1 + state) === 0) distance = this.#rep1;
          else {
            if (this.#bit(IS_REP_G2 + state) === 0) distance = this.#rep2;
            else {
              distance = this.#rep3;
              this.#rep3 = this.#rep2;
            }
            this.#rep2 = this.#rep1;
          }
          this.#rep1 = this.#rep0;
          this.#rep0 = distance;
        }
        if (length === 1) this.#state = state < 7 ? 9 : 11;
        else {
          length = this.#length(REP_LEN, posState);
          this.#state = state < 7 ? 8 : 11;
        }
      }
      if (this.#rep0 >= to - start) throw new DecompressError("an LZMA match reaches before its dictionary");
      if (length > limit - to) throw new DecompressError("an LZMA match goes past the end of its output");
      const back = this.#rep0 + 1;
      for (const last = to + length; to < last; to++) out[to] = out[to - back]!;
      // A range coder that has run out reads zeros and says nothing: looked at once a match, not once a bit.
      if (this.#at > this.#end) throw new DecompressError("LZMA data is cut short");
    }
    if (this.#at > this.#end) throw new DecompressError("LZMA data is cut short");
    return to;
  }

  #bit(index: number): number {
    const probs = this.#probs;
    const coder = this.#coder;
    const p = probs[index]!;
    let range = coder[RANGE]!;
    let code = coder[CODE]!;
    const bound = (range >>> PROB_BITS) * p;
    let bit;
    if (code < bound) {
      range = bound;
      probs[index] = p + (((1 << PROB_BITS) - p) >> RATE);
      bit = 0;
    } else {
      range -= bound;
      code -= bound;
      probs[index] = p - (p >> RATE);
      bit = 1;
    }
    if (range < RANGE_MIN) {
      range <<= 8;
      code = (code << 8) | this.#next();
    }
    coder[RANGE] = range;
    coder[CODE] = code;
    return bit;
  }

  #next(): number {
    const at = this.#at++;
    return at < this.#end ? this.#input[at]! : 0;
  }

  #literal(at: number, plain: boolean, to: number): number {
    let symbol = 1;
    if (!plain) {
      if (this.#rep0 >= to - this.dictStart) throw new DecompressError("an LZMA match reaches before its dictionary");
      let match = this.out[to - this.#rep0 - 1]!;
      while (symbol < 0x100) {
        const expected = (match >> 7) & 1;
        match <<= 1;
        const bit = this.#bit(at + ((1 + expected) << 8) + symbol);
        symbol = (symbol << 1) | bit;
        if (bit !== expected) break;
      }
    }
    while (symbol < 0x100) symbol = (symbol << 1) | this.#bit(at + symbol);
    return symbol & 0xff;
  }

  #tree(at: number, bits: number): number {
    let symbol = 1;
    for (let i = 0; i < bits; i++) symbol = (symbol << 1) | this.#bit(at + symbol);
    return symbol - (1 << bits);
  }

  #reversedTree(at: number, bits: number): number {
    let node = 1;
    let symbol = 0;
    for (let i = 0; i < bits; i++) {
      const bit = this.#bit(at + node);
      node = (node << 1) | bit;
      symbol |= bit << i;
    }
    return symbol;
  }

  /** A length of 2..273 from the coder at `at`. */
  #length(at: number, posState: number): number {
    if (this.#bit(at) === 0) return 2 + this.#tree(at + 2 + posState * 8, 3);
    if (this.#bit(at + 1) === 0) return 10 + this.#tree(at + 2 + (POS_STATES + posState) * 8, 3);
    return 18 + this.#tree(at + 2 + 2 * POS_STATES * 8, 8);
  }

  /** A distance less one; 0xffffffff is the end marker. */
  #distance(length: number): number {
    const slot = this.#tree(POS_SLOT + Math.min(length - 2, 3) * 64, 6);
    if (slot < 4) return slot;
    const bits = (slot >> 1) - 1;
    const top = ((2 | (slot & 1)) << bits) >>> 0;
    // The trees of the slots lie one after the other, each numbered from its node 1.
    if (slot < 14) return top + this.#reversedTree(POS_SPECIAL + top - slot, bits);
    const middle = this.#direct(bits - 4) * 16;
    return (top + middle + this.#reversedTree(POS_ALIGN, 4)) >>> 0;
  }

  #direct(bits: number): number {
    const coder = this.#coder;
    let value = 0;
    for (let i = 0; i < bits; i++) {
      const half = coder[RANGE]! >>> 1;
      const bit = coder[CODE]! >= half ? 1 : 0;
      if (bit === 1) coder[CODE]! -= half;
      coder[RANGE] = half;
      value = value * 2 + bit;
      if (half < RANGE_MIN) {
        coder[RANGE] = half << 8;
        coder[CODE] = (coder[CODE]! << 8) | this.#next();
      }
    }
    return value;
  }
}

/** Decompresses a `.lzma` file into `out` and returns how many bytes that were. */
export function decompressLzma(input: Uint8Array, out: Uint8Array): number {
  if (input.length < 13) throw new DecompressError("the LZMA header is cut short");
  const view = new DataView(input.buffer, input.byteOffset, input.byteLength);
  const lo = view.getUint32(5, true);
  const hi = view.getUint32(9, true);
  const unknown = lo === 0xffffffff && hi === 0xffffffff; // then an end marker tells
  const size = hi * 0x1_0000_0000 + lo;
  if (!unknown && size > out.length) throw new DecompressError(`it unpacks to ${size} bytes, more than ${out.length}`);
  const decoder = new LzmaDecoder(out);
  decoder.setProperties(input[0]!);
  decoder.start(input, 13, input.length);
  if (!unknown) return decoder.decode(0, size);
  const to = decoder.decode(0, out.length);
  // A full buffer must be followed by the marker; what else follows goes past the buffer's end and is lost.
  if (to === out.length && decoder.decode(to, to + 1) !== to) {
    throw new DecompressError(`it unpacks to more than ${out.length} bytes`);
  }
  return to;
}
