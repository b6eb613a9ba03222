/** F2XM1, FYL2X, FYL2XP1, to about 110 bits before the one rounding: [sdm2], [sdm1 8.3.9]. */
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import type { CpuFuncs } from "../ops.ts";
import { noteDenormals, returnInvalid, returnNan } from "./arith.ts";
import { HALF_LOG2E, LN2, reciprocalFactorials, reciprocals } from "./constants.ts";
import { callFloat, callX, type Float, type Fpu, fpuFunc, FSW, isNegative, isSpecial, isZero, ONE } from "./fpu.ts";
import { DROP, MAX_EXP, normalize, shiftRightSticky, unpack } from "./round.ts";
import { range, returnInexact } from "./trigonometry.ts";
import { addWide, definePolynomial, mulHigh, notWide, polynomial, quotient, subWide, type Wide, wide } from "./wide.ts";

const BIAS = 16383;
/** √2 as the upper half of a mantissa. */
const SQRT2 = 0xb504_f333_f9de_6484n;

export function defineLogarithm(m: Module, f: CpuFuncs): void {
  // e^y - 1 = y × (1 + these), for y and for -y.
  definePolynomial(m, f, "x87.expMore", reciprocalFactorials(range(2, 34, 1)), 1);
  definePolynomial(m, f, "x87.expLack", reciprocalFactorials(range(2, 34, 1)), -1);
  // atanh(s) = s × (1 + this of s²), for s ≤ 0.172.
  definePolynomial(m, f, "x87.atanhMore", reciprocals(range(3, 53, 2)), 1);

  fpuFunc(m, f, "exp2m1", ["i64", "i32"], ["i64", "i32"], (x, sig, se) => {
    const c = x.c, a: Float = { sig: sig!, se: se! };
    returnNan(x, f, a);
    const negative = c.let(se!.shrU(15));
    c.if(isSpecial(a), () => {
      c.if(negative, () => c.return(ONE, 0x8000 | BIAS));
      c.return(sig!, se!);
    });
    c.if(isZero(a), () => c.return(sig!, se!));
    noteDenormals(x, [a]);
    const u = unpack(c, a), e = c.let(u.exp.sub(BIAS));
    c.if(e.geS(0), () => {
      // Nothing is promised beyond ±1, and the number stays as it is.
      x.raise(FSW.PE);
      c.if(e.eqz().and(u.sig.eq(ONE)).and(negative), () => c.return(ONE, 0x8000 | (BIAS - 1)));
      c.return(sig!, se!);
    });
    const y = mulHigh(c, f, { hi: u.sig, lo: i64(0) }, wide(LN2));
    const z = shiftRightSticky(c, y.hi, y.lo, c.let(i32(-1).sub(e)));
    c.if(negative, () => {
      returnInexact(x, f, i32(0x8000), e, mulHigh(c, f, y, notWide(polynomial(c, f, "x87.expLack", z))));
    });
    returnInexact(x, f, i32(0), e, addWide(c, y, mulHigh(c, f, y, polynomial(c, f, "x87.expMore", z))));
  });

  // (mantissa and exponent of s ≤ 0.172) → log2((1 + s) / (1 - s)): mantissa, exponent.
  fpuFunc(m, f, "log2Ratio", ["i64", "i64", "i32"], ["i64", "i64", "i32"], (x, hi, lo, exp) => {
    const c = x.c, s: Wide = { hi: hi!, lo: lo! };
    const square = mulHigh(c, f, s, s);
    const z = shiftRightSticky(c, square.hi, square.lo, c.let(i32(-2).sub(exp!.shl(1))));
    const half: Wide = { hi: c.let(s.hi.shrU(1)), lo: c.let(s.lo.shrU(1).or(s.hi.shl(63))) };
    const sum = addWide(c, half, mulHigh(c, f, half, polynomial(c, f, "x87.atanhMore", z)));
    const r = mulHigh(c, f, sum, wide(HALF_LOG2E));
    const n = normalize(c, exp!.add(3), r.hi, r.lo);
    c.return(n.hi, n.lo, n.exp);
  });

  // (mantissa, exponent) → log2: mantissa (0 for 0), exponent, sign 0 or 1, 1 if exact.
  fpuFunc(m, f, "log2", ["i64", "i64", "i32"], ["i64", "i64", "i32", "i32", "i32"], (x, hi, lo, exp) => {
    const c = x.c, v: Wide = { hi: hi!, lo: lo! };
    const high = c.let(hi!.geU(SQRT2));
    const k = c.let(exp!.add(high)), kNegative = c.let(k.shrU(31));
    const kSize = c.let(select(kNegative, i32(0).sub(k), k));
    c.if(hi!.eq(ONE).and(lo!.eqz()), () => {
      c.if(k.eqz(), () => c.return(0, 0, 0, 0, 1));
      const n = normalize(c, i32(63), kSize.zx(), i64(0));
      c.return(n.hi, 0, n.exp, kNegative, 1);
    });
    // s = (m - 1) / (m + 1); for m ≥ √2 of m / 2, below 1.
    const below = subWide(c, wide(0n), v), above: Wide = { hi: c.let(hi!.and(ONE - 1n)), lo: lo! };
    const numerator = normalize(
      c,
      select(high, i32(-1), 0),
      c.let(select(high, below.hi, above.hi)),
      c.let(select(high, below.lo, above.lo)),
    );
    // 1 + m / 2 has its top bit at 0; (m + 1) / 2, half of the sum, the same with the exponent 1.
    const halved: Wide = { hi: c.let(hi!.shrU(1).or(ONE)), lo: c.let(lo!.shrU(1).or(hi!.shl(63))) };
    const plain = addWide(c, { hi: c.let(hi!.shrU(1)), lo: halved.lo }, { hi: i64(ONE >> 1n), lo: i64(0) });
    const d: Wide = { hi: c.let(select(high, halved.hi, plain.hi)), lo: halved.lo };
    const q = quotient(c, f, numerator, d);
    const s = normalize(c, numerator.exp.add(q.exp).sub(high.eqz()), q.hi, q.lo);
    const [lHi, lLo, lExp] = callX(x, f, "log2Ratio", s.hi, s.lo, s.exp) as [Value, Value, Value];
    c.if(k.eqz(), () => c.return(lHi, lLo, lExp, high, 0));
    // 16 bits before the point.
    const part = shiftRightSticky(c, lHi, lLo, c.let(i32(15).sub(lExp)));
    const whole: Wide = { hi: c.let(kSize.zx().shl(48)), lo: i64(0) };
    const sum = addWide(c, whole, part), less = subWide(c, whole, part);
    const same = c.let(high.eq(kNegative));
    const n = normalize(c, i32(15), c.let(select(same, sum.hi, less.hi)), c.let(select(same, sum.lo, less.lo)));
    c.return(n.hi, n.lo, n.exp, kNegative, 0);
  });

  /** y × log, y finite and not 0, rounded and returned. */
  const returnProduct = (x: Fpu, y: Float, log: { hi: Value; lo: Value; exp: Value }, sign: Value, exact: Value) => {
    const c = x.c, u = unpack(c, y);
    c.if(log.hi.eqz(), () => c.return(0, sign));
    // Processors call every computed result inexact, and a denormal one an underflow, even where x is a power of 2.
    x.raise(FSW.PE);
    const p = mulHigh(c, f, { hi: log.hi, lo: log.lo }, { hi: u.sig, lo: i64(0) });
    const n = normalize(c, u.exp.add(log.exp).add(1), p.hi, p.lo);
    const lo = n.lo.or(exact.eqz().zx());
    const r = callFloat(x, f, "pack", sign, n.exp, n.hi, lo, DROP.EXTENDED, MAX_EXP.EXTENDED);
    c.if(r.se.and(0x7fff).eqz(), () => x.raise(FSW.UE));
    c.return(r.sig, r.se);
  };

  // (x, y): y × log2(x).
  fpuFunc(m, f, "yLog2x", ["i64", "i32", "i64", "i32"], ["i64", "i32"], (x, xSig, xSe, ySig, ySe) => {
    const c = x.c, a: Float = { sig: xSig!, se: xSe! }, y: Float = { sig: ySig!, se: ySe! };
    returnNan(x, f, a, y);
    const sign = c.let(ySe!.and(0x8000)), flipped = c.let(sign.xor(0x8000));
    const zero = c.let(isZero(a)), yZero = c.let(isZero(y)), ySpecial = c.let(isSpecial(y));
    c.if(isNegative(a).and(zero.eqz()), () => returnInvalid(x));
    c.if(zero, () => {
      c.if(yZero, () => returnInvalid(x));
      c.if(ySpecial.eqz(), () => x.raise(FSW.ZE));
      c.return(ONE, flipped.or(0x7fff));
    });
    const unity = c.let(xSe!.eq(BIAS).and(xSig!.eq(ONE)));
    c.if(isSpecial(a).and(yZero).or(ySpecial.and(unity)), () => returnInvalid(x));
    noteDenormals(x, [a, y]);
    const small = c.let(xSe!.ltU(BIAS)), result = c.let(select(small, flipped, sign));
    c.if(isSpecial(a).or(ySpecial), () => c.return(ONE, result.or(0x7fff)));
    c.if(yZero, () => c.return(0, result));
    const u = unpack(c, a);
    const [hi, lo, exp, negative, exact] = callX(x, f, "log2", u.sig, 0, u.exp.sub(BIAS)) as Value[];
    const r = c.let(sign.xor(negative!.shl(15)));
    returnProduct(x, y, { hi: hi!, lo: lo!, exp: exp! }, r, exact!);
  });

  // (x, y): y × log2(x + 1). Promised only for |x| < 1 - √½; the rest is computed all the same.
  fpuFunc(m, f, "yLog2xp1", ["i64", "i32", "i64", "i32"], ["i64", "i32"], (x, xSig, xSe, ySig, ySe) => {
    const c = x.c, a: Float = { sig: xSig!, se: xSe! }, y: Float = { sig: ySig!, se: ySe! };
    returnNan(x, f, a, y);
    const negative = c.let(xSe!.shrU(15)), sign = c.let(ySe!.xor(xSe!).and(0x8000));
    const zero = c.let(isZero(a)), yZero = c.let(isZero(y)), ySpecial = c.let(isSpecial(y));
    const large = c.let(xSe!.and(0x7fff).geU(BIAS));
    c.if(isSpecial(a).and(yZero.or(negative)).or(zero.and(ySpecial)), () => returnInvalid(x));
    noteDenormals(x, [a, y]);
    c.if(isSpecial(a).or(ySpecial), () => c.return(ONE, sign.or(0x7fff)));
    c.if(zero.or(yZero), () => c.return(0, sign));
    c.if(negative.and(large), () => {
      x.raise(FSW.PE);
      c.return(a.sig, a.se);
    });
    const u = unpack(c, a), e = c.let(u.exp.sub(BIAS));
    c.if(e.leS(-3), () => {
      // s = x / (2 + x).
      const t = shiftRightSticky(c, u.sig, i64(0), c.let(i32(1).sub(e)));
      const two: Wide = { hi: i64(ONE), lo: i64(0) };
      const more = addWide(c, two, t), less = subWide(c, two, t);
      const d = normalize(
        c,
        i32(1),
        c.let(select(negative, less.hi, more.hi)),
        c.let(select(negative, less.lo, more.lo)),
      );
      const q = quotient(c, f, { hi: u.sig, lo: i64(0) }, d);
      const s = normalize(c, e.add(q.exp).sub(d.exp), q.hi, q.lo);
      const [hi, lo, exp] = callX(x, f, "log2Ratio", s.hi, s.lo, s.exp) as [Value, Value, Value];
      returnProduct(x, y, { hi, lo, exp }, sign, i32(0));
    });
    // 1 + x, in units such that neither loses a bit that matters.
    const top = c.let(select(e.geS(0), e, 0));
    const one = shiftRightSticky(c, i64(ONE >> 1n), i64(0), top);
    const part = shiftRightSticky(c, u.sig, i64(0), c.let(top.add(1).sub(e)));
    const sum = addWide(c, one, part), less = subWide(c, one, part);
    const v = normalize(
      c,
      top.add(1),
      c.let(select(negative, less.hi, sum.hi)),
      c.let(select(negative, less.lo, sum.lo)),
    );
    const [hi, lo, exp, logNegative, exact] = callX(x, f, "log2", v.hi, v.lo, v.exp) as Value[];
    const r = c.let(ySe!.and(0x8000).xor(logNegative!.shl(15)));
    returnProduct(x, y, { hi: hi!, lo: lo!, exp: exp! }, r, exact!);
  });
}
