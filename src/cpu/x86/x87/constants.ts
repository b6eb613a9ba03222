/** Constants of the transcendental functions as 128-bit fractions, worked out when code is generated. */

/** Bits of the results, and of the sums that lead to them. */
const BITS = 128n, WORK = 192n;
const UNIT = 1n << WORK;

/** atan(p/q) or, with sign +1, atanh(p/q), for p < q, scaled by UNIT: x ∓ x³/3 + x⁵/5 … */
function series(p: bigint, q: bigint, sign: 1n | -1n): bigint {
  let power = UNIT * p / q, sum = 0n;
  for (let k = 1n; power !== 0n; k += 2n) {
    sum += power / k;
    power = sign * power * p * p / (q * q);
  }
  return sum;
}
/** Rounds a sum to a fraction of 2^BITS. */
const cut = (v: bigint): bigint => (v + (1n << (WORK - BITS - 1n))) >> (WORK - BITS);

const ln2 = 2n * series(1n, 3n, 1n);
/** Machin's formula. */
const pi = 4n * (4n * series(1n, 5n, -1n) - series(1n, 239n, -1n));

export const LN2 = cut(ln2);
/** log2(e) / 2 = 1 / (2 ln 2): 0.72. */
export const HALF_LOG2E = cut(UNIT * UNIT / (2n * ln2));
/** π / 4: 0.785. */
export const QUARTER_PI = cut(pi / 4n);

/** π as the processor reduces arguments by, 66 bits: 2 before the point. [sdm1 8.3.8] */
export const PI_66 = 0x3_243f_6a88_85a3_08d3n;

/** atan(i / 16), i from 0 to 16. */
export const ATAN: readonly bigint[] = Array.from({ length: 17 }, (_, i) => {
  if (i === 16) return QUARTER_PI;
  return cut(series(BigInt(i), 16n, -1n));
});

/** 1 / k! for each k of `list`; 1 / k. */
export function reciprocalFactorials(list: readonly number[]): bigint[] {
  return list.map((k) => {
    let f = 1n;
    for (let i = 2n; i <= BigInt(k); i++) f *= i;
    return cut(UNIT / f);
  });
}
export const reciprocals = (list: readonly number[]): bigint[] => list.map((k) => cut(UNIT / BigInt(k)));
