/** For tests: numbers where rounding and formats have their corners. */
import type { Real } from "./fixture.ts";

export class Random {
  #s: number;
  constructor(seed: number) {
    this.#s = seed;
  }
  /** 32 bits: xorshift, with a multiplication so that low bits are good too. */
  u32(): number {
    let x = this.#s;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#s = x;
    return Math.imul(x, 0x9e3779b1) >>> 0;
  }
  below(n: number): number {
    return this.u32() % n;
  }
  u64(): bigint {
    return (BigInt(this.u32()) << 32n) | BigInt(this.u32());
  }
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** With the integer bit set: random, few bits, long runs of equal bits, near halves of 24 and 53 bits. */
  significand(): bigint {
    const top = 1n << 63n, n = BigInt(this.below(64));
    switch (this.below(7)) {
      case 0:
        return top;
      case 1:
        return (1n << 64n) - 1n;
      case 2:
        return top | (1n << n);
      case 3:
        return ((1n << 64n) - 1n) ^ ((1n << n) - 1n);
      case 4:
        return top | (this.u64() >> n);
      case 5: {
        const drop = this.pick([11n, 40n]);
        const half = (1n << (drop - 1n)) + BigInt(this.below(3) - 1);
        return top | (this.u64() >> drop << drop) | half;
      }
      default:
        return top | this.u64();
    }
  }
  /** Finite and not 0: near `exponent` (biased), or at the ends of the range. */
  finite(exponent: number): Real {
    const sign = this.below(2) << 15;
    switch (this.below(8)) {
      case 0:
        return { sig: (this.u64() >> BigInt(1 + this.below(63))) | 1n, se: sign };
      case 1:
        return { sig: this.u64() | (1n << 63n), se: sign };
      case 2:
        return { sig: this.significand(), se: sign | (1 + this.below(80)) };
      case 3:
        return { sig: this.significand(), se: sign | (0x7ffe - this.below(80)) };
      default:
        return {
          sig: this.significand(),
          se: sign | Math.min(0x7ffe, Math.max(1, exponent + this.below(140) - 70)),
        };
    }
  }
}
