/** Random numbers from a seed, and values that lean towards the edges where instructions change their minds. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  constructor(seed: number) {
    this.#a = seed | 0;
    this.#b = 0x9e3779b9 | 0;
    this.#c = 0x243f6a88;
    this.#d = 1;
    for (let i = 0; i < 12; i++) this.next();
  }

  /** 32 random bits, unsigned. */
  next(): number {
    const t = (this.#a + this.#b + this.#d) | 0;
    this.#d = (this.#d + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + t | 0;
    return t >>> 0;
  }
  below(n: number): number {
    return this.next() % n;
  }
  /** True once in `n` times. */
  once(n: number): boolean {
    return this.next() % n === 0;
  }
  pick<T>(list: readonly T[]): T {
    return list[this.next() % list.length]!;
  }
  /** From `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** A 64-bit value into `words[at]` (low) and `words[at + 1]`. */
  value64(words: Uint32Array, at: number): void {
    let lo = this.next(), hi = this.next();
    switch (this.below(10)) {
      case 0: // small, or a little below zero
        lo = this.below(20) - 4;
        hi = lo < 0 ? -1 : 0;
        break;
      case 1: { // around the edges of 8, 16, 32 and 64 bits
        const bits = this.pick([7, 8, 15, 16, 31, 32, 63]), d = this.below(3) - 1;
        const v = BigInt.asUintN(64, (1n << BigInt(bits)) + BigInt(d));
        lo = Number(v & 0xffff_ffffn);
        hi = Number(v >> 32n);
        break;
      }
      case 2: { // one bit
        const bit = this.below(64);
        lo = bit < 32 ? 1 << bit : 0;
        hi = bit < 32 ? 0 : 1 << (bit - 32);
        break;
      }
      case 3: // all ones, perhaps but one
        lo = hi = -1;
        if (this.once(2)) lo &= ~(1 << this.below(32));
        break;
      case 4: // sign-extended
        lo = this.once(2) ? (lo << 24) >> 24 : this.once(2) ? (lo << 16) >> 16 : lo;
        hi = lo >> 31;
        break;
      case 5: // zero-extended
        if (this.once(2)) lo &= this.once(2) ? 0xff : 0xffff;
        hi = 0;
        break;
      case 6: // runs of equal bits
        lo &= this.next() & this.next();
        hi &= this.next() & this.next();
        break;
    }
    words[at] = lo;
    words[at + 1] = hi;
  }

  /** An edge of 32-bit operations. */
  value32(): number {
    const v = this.next();
    switch (this.below(6)) {
      case 0:
        return this.below(20) - 4;
      case 1:
        return this.pick([0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000 | 0, -1, -128]);
      case 2:
        return 1 << this.below(32);
      case 3:
        return (v << 24) >> 24;
      default:
        return v | 0;
    }
  }

  /** A single-precision number's bits: zeros, ones, infinities, NaNs, denormals, halves, and anything. */
  float32(): number {
    const v = this.next(), sign = v & 0x8000_0000;
    switch (this.below(12)) {
      case 0:
        return sign;
      case 1:
        return sign | 0x3f80_0000;
      case 2:
        return sign | 0x7f80_0000;
      case 3:
        return sign | 0x7fc0_0000 | (v & 0x3f_ffff);
      case 4:
        return sign | 0x7f80_0000 | (v & 0x3f_ffff);
      case 5:
        return sign | (v & 0x7f_ffff);
      case 6:
        return sign | 0x7f7f_ffff;
      case 7:
        return sign | ((this.between(120, 160)) << 23) | (this.once(2) ? 0 : v & 0x7f_ffff);
      case 8:
        return sign | ((this.between(1, 30)) << 23) | (v & 0x7f_ffff);
      case 9: // small integers and halves
        return new Uint32Array(new Float32Array([(this.below(64) - 32) / 2]).buffer)[0]! | 0;
      default:
        return v | 0;
    }
  }

  /** A double-precision number's bits. */
  float64(words: Uint32Array, at: number): void {
    const v = this.next(), sign = v & 0x8000_0000, low = this.once(2) ? 0 : this.next();
    let lo = low, hi = this.next();
    switch (this.below(12)) {
      case 0:
        [lo, hi] = [0, sign];
        break;
      case 1:
        [lo, hi] = [0, sign | 0x3ff0_0000];
        break;
      case 2:
        [lo, hi] = [0, sign | 0x7ff0_0000];
        break;
      case 3:
        hi = sign | 0x7ff8_0000 | (v & 0x7_ffff);
        break;
      case 4:
        [lo, hi] = [low | 1, sign | 0x7ff0_0000 | (v & 0x7_ffff)];
        break;
      case 5:
        hi = sign | (v & 0xf_ffff);
        break;
      case 6:
        [lo, hi] = [-1, sign | 0x7fef_ffff];
        break;
      case 7: // around one, and around the widths of integers
        hi = sign | (this.between(1010, 1090) << 20) | (v & 0xf_ffff);
        break;
      case 8: // where singles end
        hi = sign | ((this.once(2) ? this.between(860, 900) : this.between(1140, 1160)) << 20) | (v & 0xf_ffff);
        break;
      case 9: {
        const bits = new Uint32Array(new Float64Array([(this.below(64) - 32) / 2]).buffer);
        [lo, hi] = [bits[0]!, bits[1]!];
        break;
      }
      case 10:
        hi = sign | (this.between(1, 60) << 20) | (v & 0xf_ffff);
        break;
    }
    words[at] = lo;
    words[at + 1] = hi;
  }

  /** An extended-precision number: significand at words[at..], sign and exponent returned. */
  float80(words: Uint32Array, at: number): number {
    const sign = this.once(2) ? 0x8000 : 0;
    words[at] = this.once(2) ? 0 : this.next();
    words[at + 1] = this.next() | 0x8000_0000;
    const exponent = (e: number) => sign | e;
    const set = (lo: number, hi: number) => {
      words[at] = lo;
      words[at + 1] = hi;
    };
    switch (this.below(14)) {
      case 0:
        set(0, 0);
        return sign;
      case 1:
        set(0, 0x8000_0000);
        return exponent(0x3fff);
      case 2:
        set(0, 0x8000_0000);
        return exponent(0x7fff);
      case 3:
        words[at + 1]! |= 0x4000_0000;
        return exponent(0x7fff);
      case 4:
        words[at + 1]! &= ~0x4000_0000;
        return exponent(0x7fff);
      case 5: // denormal, or pseudo-denormal
        if (!this.once(4)) words[at + 1]! &= 0x7fff_ffff;
        return sign;
      case 6: // unnormal and other encodings that are not numbers
        words[at + 1]! &= 0x7fff_ffff;
        return exponent(this.once(3) ? 0x7fff : this.between(1, 0x7ffe));
      case 7:
        set(-1, -1);
        return exponent(0x7ffe);
      case 8: // integers
        words[at] = 0;
        return exponent(this.between(0x3fff, 0x3fff + 66));
      case 9:
        return exponent(this.between(0x3fff - 70, 0x3fff + 70));
      case 10: // where doubles and singles end
        return exponent(
          this.pick([0x3fff - 1022, 0x3fff + 1023, 0x3fff - 126, 0x3fff + 127]) + this.between(0, 4) - 2,
        );
      case 11:
        return exponent(this.between(1, 70));
      default:
        return exponent(this.between(1, 0x7ffe));
    }
  }
}
