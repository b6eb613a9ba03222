/** For tests: what the x87 must answer, in exact arithmetic on bigint fractions. */
import type { Real } from "./fixture.ts";

export const IE = 1, DE = 2, ZE = 4, OE = 8, UE = 16, PE = 32, C1 = 0x200;
export const NEAREST = 0, DOWN = 1, UP = 2, ZERO = 3;

/** A magnitude num / den, num not 0. */
export interface Fraction {
  readonly num: bigint;
  readonly den: bigint;
}
export interface Format {
  /** Bits of the significand. */
  readonly bits: number;
  /** Exponents of the least normal number's top bit, and the greatest number's. */
  readonly min: number;
  readonly max: number;
}
export const EXTENDED: Format = { bits: 64, min: -16382, max: 16383 };
export const withPrecision = (bits: number): Format => ({ ...EXTENDED, bits });

export const scale = (f: Fraction, by: number): Fraction =>
  by >= 0 ? { num: f.num << BigInt(by), den: f.den } : { num: f.num, den: f.den << BigInt(-by) };
export const valueOf = (r: Real): Fraction => scale({ num: r.sig, den: 1n }, Math.max(r.se & 0x7fff, 1) - 16383 - 63);
export const isqrt = (n: bigint): bigint => {
  if (n < 2n) return n;
  let x = 1n << BigInt((n.toString(2).length + 1) >> 1);
  for (;;) {
    const y = (x + n / x) >> 1n;
    if (y >= x) return x;
    x = y;
  }
};

/** Exponent of the top bit. */
export function exponentOf({ num, den }: Fraction): number {
  let e = num.toString(2).length - den.toString(2).length;
  if (e >= 0 ? num < den << BigInt(e) : num << BigInt(-e) < den) e--;
  return e;
}

/** To an integer multiple of 2^quantum. */
export function roundAt(
  f: Fraction,
  quantum: number,
  negative: boolean,
  rc: number,
): { n: bigint; up: boolean; inexact: boolean } {
  const { num, den } = scale(f, -quantum);
  const floor = num / den, rest = num - floor * den;
  const twice = 2n * rest - den;
  const up = rc === NEAREST
    ? twice > 0n || (twice === 0n && (floor & 1n) === 1n)
    : rest > 0n && rc === (negative ? DOWN : UP);
  return { n: floor + (up ? 1n : 0n), up, inexact: rest > 0n };
}

export interface Rounded {
  /** The significand as an integer times 2^(exponent - bits + 1). */
  readonly sig: bigint;
  /** Exponent of the place of the top bit; infinite when above the format's. */
  readonly exponent: number;
  readonly flags: number;
}

/** Rounds into `format`; `masks` as in FCW. An unmasked overflow or underflow moves the exponent by 24576. */
export function round(f: Fraction, negative: boolean, format: Format, rc: number, masks = 0x3f): Rounded {
  const { bits, min, max } = format;
  let e = exponentOf(f);
  let r = roundAt(f, e - bits + 1, negative, rc);
  let n = r.n;
  if (n === 1n << BigInt(bits)) (n >>= 1n), e++;
  let flags = 0;
  if (e > max) {
    flags |= OE;
    if (masks & OE) {
      const infinite = rc === NEAREST || rc === (negative ? DOWN : UP);
      return infinite
        ? { sig: 1n << BigInt(bits - 1), exponent: max + 1, flags: flags | PE | C1 }
        : { sig: (1n << BigInt(bits)) - 1n, exponent: max, flags: flags | PE };
    }
    e -= 24576;
  } else if (e < min) {
    if (masks & UE) {
      r = roundAt(f, min - bits + 1, negative, rc);
      n = r.n;
      e = min;
      if (r.inexact) flags |= UE;
    } else {
      flags |= UE;
      e += 24576;
    }
  }
  if (r.inexact) flags |= PE | (r.up ? C1 : 0);
  return { sig: n, exponent: e, flags };
}

/** As a register holds it. */
export function toReal(r: Rounded, negative: boolean, bits: number): Real {
  const sig = r.sig << BigInt(64 - bits), sign = negative ? 0x8000 : 0;
  return { sig, se: sign | (sig >> 63n ? r.exponent + 16383 : 0) };
}

// ---- elementary functions, on integers that stand for multiples of 2^-WORK -------------------------------------------------

export const WORK = 400n;
export const UNIT = 1n << WORK;
export const fixed = (f: Fraction): bigint => (f.num << WORK) / f.den;
const mul = (a: bigint, b: bigint) => (a * b) >> WORK;
const div = (a: bigint, b: bigint) => (a << WORK) / b;
const sqrt = (a: bigint) => isqrt(a << WORK);

export function exp(x: bigint): bigint {
  let sum = UNIT, term = UNIT;
  for (let k = 1n; term !== 0n && term !== -1n; k++) sum += term = mul(term, x) / k;
  return sum;
}
export function sin(x: bigint): bigint {
  let sum = x, term = x;
  for (let k = 2n; term !== 0n && term !== -1n; k += 2n) sum += term = -mul(mul(term, x), x) / (k * (k + 1n));
  return sum;
}
export function cos(x: bigint): bigint {
  let sum = UNIT, term = UNIT;
  for (let k = 1n; term !== 0n && term !== -1n; k += 2n) sum += term = -mul(mul(term, x), x) / (k * (k + 1n));
  return sum;
}
/** ln x, x > 0: of a root near 1. */
export function ln(x: bigint): bigint {
  const ROOTS = 8n;
  let y = x;
  for (let i = 0n; i < ROOTS; i++) y = sqrt(y);
  const s = div(y - UNIT, y + UNIT), square = mul(s, s);
  let sum = 0n, power = s;
  for (let k = 1n; power !== 0n && power !== -1n; k += 2n) {
    sum += power / k;
    power = mul(power, square);
  }
  return sum << (ROOTS + 1n);
}
/** atan t, t ≥ 0: of half angles. */
export function atan(t: bigint): bigint {
  const HALVES = 6n;
  let y = t;
  for (let i = 0n; i < HALVES; i++) y = div(y, UNIT + sqrt(UNIT + mul(y, y)));
  const square = mul(y, y);
  let sum = 0n, power = y, sign = 1n;
  for (let k = 1n; power !== 0n; k += 2n) {
    sum += sign * power / k;
    power = mul(power, square);
    sign = -sign;
  }
  return sum << HALVES;
}
export const LN2 = ln(2n * UNIT);
export const PI = 4n * atan(UNIT);
