/**
 * FSIN, FCOS, FPTAN and FPATAN, to about 120 bits before the one rounding: [sdm2], [sdm1 8.3.7 to 8.3.10].
 *
 * A positive number is a mantissa (Wide, top bit set) and the exponent of that bit. A factor just below 1 is made as the
 * complement of what it lacks, so that even sin(x) for the smallest x comes out below x and is rounded the right way.
 */
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import type { CpuFuncs } from "../ops.ts";
import { noteDenormals, returnInvalid, returnNan } from "./arith.ts";
import { ATAN, PI_66, QUARTER_PI, reciprocalFactorials, reciprocals } from "./constants.ts";
import { callFloat, callX, type Float, type Fpu, fpuFunc, isSpecial, isZero, ONE } from "./fpu.ts";
import { DROP, MAX_EXP, normalize, shiftRightSticky, unpack } from "./round.ts";
import {
  addWide,
  definePolynomial,
  mulHigh,
  notWide,
  polynomial,
  quotient,
  ratio,
  subWide,
  type Wide,
  wide,
} from "./wide.ts";

const BIAS = 16383;
const THIRD = reciprocals([3])[0]!;
export const range = (from: number, to: number, step: number) => {
  const list: number[] = [];
  for (let k = from; k <= to; k += step) list.push(k);
  return list;
};

/** Rounds mantissa × 2^exp, never exact, to the extended format and returns it. */
export function returnInexact(x: Fpu, f: CpuFuncs, sign: Value, exp: Value, v: Wide): void {
  const n = normalize(x.c, exp.add(BIAS), v.hi, v.lo);
  const r = callFloat(x, f, "pack", sign, n.exp, n.hi, n.lo.or(1), DROP.EXTENDED, MAX_EXP.EXTENDED);
  x.c.return(r.sig, r.se);
}

export function defineTrigonometry(m: Module, f: CpuFuncs): void {
  // What sin(r) / r and cos(r) lack to 1, of r².
  definePolynomial(m, f, "x87.sinLack", reciprocalFactorials(range(3, 35, 2)), -1);
  definePolynomial(m, f, "x87.cosLack", reciprocalFactorials(range(2, 34, 2)), -1);
  // What atan(u) / u lacks to 1, of u², for u ≤ 1/16.
  definePolynomial(m, f, "x87.atanLack", reciprocals(range(3, 37, 2)), -1);

  // (significand, exponent) of |x| → |r| ≤ π/4 (mantissa, exponent), quadrant and, at bit 2, the sign of r. Exact: r is x less a
  // multiple of the processor's π/2.
  fpuFunc(m, f, "reduce", ["i64", "i32"], ["i64", "i64", "i32", "i32"], (x, sig, exp) => {
    const c = x.c;
    c.if(exp!.ltS(-1), () => c.return(sig!, 0, exp!, 0));
    // Units of 2^-65, in which π/2 is PI_66.
    const pHi = PI_66 >> 64n, pLo = BigInt.asUintN(64, PI_66);
    const hi = c.variable("i64", 0), lo = c.variable("i64", sig!), q = c.variable("i32", 0);
    const i = c.variable("i32", exp!.add(2));
    const below = (bHi: bigint, bLo: bigint) => c.let(hi.get().ltU(bHi).or(hi.get().eq(bHi).and(lo.get().ltU(bLo))));
    c.loop((again) => {
      hi.set(hi.get().shl(1).or(lo.get().shrU(63)));
      lo.set(lo.get().shl(1));
      const fits = c.let(below(pHi, pLo).eqz());
      c.if(fits, () => {
        hi.set(hi.get().sub(pHi).sub(lo.get().ltU(pLo).zx()));
        lo.set(lo.get().sub(pLo));
      });
      q.set(q.get().shl(1).or(fits).and(3));
      i.set(i.get().sub(1));
      c.brIf(again, i.get());
    });
    const half = PI_66 / 2n + 1n;
    c.if(below(half >> 64n, BigInt.asUintN(64, half)).eqz(), () => {
      hi.set(i64(pHi).sub(hi.get()).sub(lo.get().gtU(pLo).zx()));
      lo.set(i64(pLo).sub(lo.get()));
      q.set(q.get().add(1).and(3).or(4));
    });
    // At most 65 bits.
    c.if(hi.get().bool(), () => c.return(hi.get().shl(63).or(lo.get().shrU(1)), lo.get().shl(63), -1, q.get()));
    const n = c.let(lo.get().clz());
    c.return(lo.get().shl(n), 0, i32(-2).sub(n.lo()), q.get());
  });

  // (mantissa, exponent) of r ≤ π/4, 1 for the cosine → mantissa, exponent, not normalized.
  fpuFunc(m, f, "sinCos", ["i64", "i64", "i32", "i32"], ["i64", "i64", "i32"], (x, hi, lo, exp, cosine) => {
    const c = x.c, r: Wide = { hi: hi!, lo: lo! };
    const square = mulHigh(c, f, r, r);
    const z = shiftRightSticky(c, square.hi, square.lo, c.let(i32(-2).sub(exp!.shl(1))));
    c.if(cosine!, () => {
      const v = notWide(polynomial(c, f, "x87.cosLack", z));
      c.return(v.hi, v.lo, -1);
    });
    const v = mulHigh(c, f, r, notWide(polynomial(c, f, "x87.sinLack", z)));
    c.return(v.hi, v.lo, exp!);
  });

  // (number, finite and not 0, 0 sine 1 cosine 2 tangent)
  fpuFunc(m, f, "trig", ["i64", "i32", "i32"], ["i64", "i32"], (x, sig, se, kind) => {
    const c = x.c, u = unpack(c, { sig: sig!, se: se! });
    const [hi, lo, exp, q] = callX(x, f, "reduce", u.sig, u.exp.sub(BIAS)) as [Value, Value, Value, Value];
    const argument = c.let(se!.shrU(15));
    const part = (cosine: Value | number) => {
      const [h, l, e] = callX(x, f, "sinCos", hi, lo, exp, cosine) as [Value, Value, Value];
      return normalize(c, e, h, l);
    };
    const rNegative = c.let(q.shrU(2));
    c.if(kind!.eq(2), () => {
      // tan r = r + r³/3 near 0, and never below r.
      c.if(exp.ltS(-40).and(q.and(1).eqz()), () => {
        const r: Wide = { hi, lo }, square = mulHigh(c, f, r, r);
        const z = shiftRightSticky(c, square.hi, square.lo, c.let(i32(-2).sub(exp.shl(1))));
        const sum = addWide(c, r, mulHigh(c, f, r, mulHigh(c, f, z, wide(THIRD))));
        returnInexact(x, f, argument.xor(rNegative).shl(15), exp, sum);
      });
      const s = part(0), k = part(1), odd = c.let(q.and(1));
      // tan r, or -1 / tan r.
      const pick = (a: Value, b: Value) => c.let(select(odd, a, b));
      const a: Wide = { hi: pick(k.hi, s.hi), lo: pick(k.lo, s.lo) };
      const b: Wide = { hi: pick(s.hi, k.hi), lo: pick(s.lo, k.lo) };
      const e = c.let(pick(k.exp, s.exp).sub(pick(s.exp, k.exp)));
      const t = quotient(c, f, a, b);
      returnInexact(x, f, argument.xor(rNegative).xor(odd).shl(15), e.add(t.exp), t);
    });
    // The sine of quadrant q, or the cosine as the sine of the next.
    const quadrant = c.let(q.add(kind!));
    const v = part(c.let(quadrant.and(1)));
    // The cosine is even: neither the argument's sign nor that of r matters where a cosine is taken of them.
    const flips = select(quadrant.and(1), i32(0), rNegative);
    const sign = flips.xor(quadrant.shrU(1).and(1)).xor(select(kind!, i32(0), argument));
    returnInexact(x, f, c.let(sign).shl(15), v.exp, v);
  });

  // The same for any number less than 2^63, infinities and NaNs.
  fpuFunc(m, f, "trigOf", ["i64", "i32", "i32"], ["i64", "i32"], (x, sig, se, kind) => {
    const c = x.c, a: Float = { sig: sig!, se: se! };
    returnNan(x, f, a);
    c.if(isSpecial(a), () => returnInvalid(x));
    c.if(isZero(a), () => {
      c.if(kind!.eq(1), () => c.return(ONE, BIAS));
      c.return(0, se!);
    });
    noteDenormals(x, [a]);
    const r = callFloat(x, f, "trig", sig!, se!, kind!);
    c.return(r.sig, r.se);
  });

  // (y, x): the angle of the point (x, y).
  fpuFunc(m, f, "atan2", ["i64", "i32", "i64", "i32"], ["i64", "i32"], (x, ySig, ySe, xSig, xSe) => {
    const c = x.c, a: Float = { sig: ySig!, se: ySe! }, b: Float = { sig: xSig!, se: xSe! };
    returnNan(x, f, a, b);
    noteDenormals(x, [a, b]);
    const sign = c.let(ySe!.and(0x8000)), left = c.let(xSe!.shrU(15));
    const ay = c.let(isSpecial(a)), ax = c.let(isSpecial(b)), zy = c.let(isZero(a)), zx = c.let(isZero(b));
    // Multiples of π/4, from QUARTER_PI with the exponent of its top bit -1.
    const quarters = (count: Value) => {
      c.if(count.eq(3), () => {
        const p = wide(QUARTER_PI * 3n / 4n);
        returnInexact(x, f, sign, i32(1), p);
      });
      returnInexact(x, f, sign, count.shrU(1).sub(1), wide(QUARTER_PI));
    };
    c.if(ay.and(ax), () => quarters(c.let(left.shl(1).add(1))));
    c.if(zy.or(ax), () => {
      c.if(left, () => quarters(i32(4)));
      c.return(0, sign);
    });
    c.if(ay.or(zx), () => quarters(i32(2)));

    const uy = unpack(c, a), ux = unpack(c, b);
    const steep = c.let(uy.exp.gtS(ux.exp).or(uy.exp.eq(ux.exp).and(uy.sig.gtU(ux.sig))));
    const small = c.let(select(steep, ux.sig, uy.sig)), big = c.let(select(steep, uy.sig, ux.sig));
    const distance = c.let(select(steep, ux.exp.sub(uy.exp), uy.exp.sub(ux.exp)));
    // t = small / big × 2^distance ≤ 1, as mantissa and exponent.
    const q = quotient(c, f, { hi: small, lo: i64(0) }, { hi: big, lo: i64(0) });
    const t = normalize(c, distance.add(q.exp), q.hi, q.lo);
    const one = c.let(t.exp.geS(0));

    // atan t as mantissa and exponent.
    const hi = c.variable("i64"), lo = c.variable("i64"), exp = c.variable("i32");
    const fixed = shiftRightSticky(c, t.hi, t.lo, c.let(select(one, i32(0), i32(-1).sub(t.exp))));
    const index = c.let(select(one, i32(16), fixed.hi.shrU(59).lo().add(1).shrU(1)));
    const lackOf = (v: Wide) => notWide(polynomial(c, f, "x87.atanLack", v));
    c.if(index.eqz(), () => {
      const square = mulHigh(c, f, fixed, fixed);
      const v = mulHigh(c, f, { hi: t.hi, lo: t.lo }, lackOf(square));
      hi.set(v.hi);
      lo.set(v.lo);
      exp.set(t.exp);
    }, () => {
      c.if(one, () => {
        hi.set(wide(QUARTER_PI).hi);
        lo.set(wide(QUARTER_PI).lo);
      }, () => {
        // u = (t - k) / (1 + t k), k = index / 16; both halved, so that 1 + t k is a fraction.
        const k = c.let(index.zx().shl(60)); // modulo 1: 16 / 16 is 0
        const whole = c.let(index.eq(16));
        const negative = c.let(whole.or(fixed.hi.ltU(k)));
        const up = subWide(c, fixed, { hi: k, lo: i64(0) });
        const down = subWide(c, { hi: k, lo: i64(0) }, fixed);
        const n: Wide = { hi: c.let(select(negative, down.hi, up.hi)), lo: c.let(select(negative, down.lo, up.lo)) };
        // t × k, for k = 1 t itself.
        const tk = mulHigh(c, f, fixed, { hi: k, lo: i64(0) });
        const pHi = c.let(select(whole, fixed.hi, tk.hi)), pLo = c.let(select(whole, fixed.lo, tk.lo));
        const d: Wide = {
          hi: c.let(pHi.shrU(1).or(1n << 63n)),
          lo: c.let(pLo.shrU(1).or(pHi.shl(63))),
        };
        const u = ratio(c, f, { hi: n.hi.shrU(1), lo: c.let(n.lo.shrU(1).or(n.hi.shl(63))) }, d);
        const v = mulHigh(c, f, u, lackOf(mulHigh(c, f, u, u)));
        const base = atanOf(index);
        const sum = addWide(c, base, v), less = subWide(c, base, v);
        hi.set(select(negative, less.hi, sum.hi));
        lo.set(select(negative, less.lo, sum.lo));
      });
      exp.set(-1);
    });
    const angle = normalize(c, exp.get(), hi.get(), lo.get());
    c.if(steep.or(left).eqz(), () => {
      returnInexact(x, f, sign, angle.exp, angle);
    });
    // A quarter of it, as a fraction, to add to or take from π/4 (for π) or π/8 (for π/2).
    const quarter = shiftRightSticky(c, angle.hi, angle.lo, c.let(i32(1).sub(angle.exp)));
    const right = wide(QUARTER_PI);
    const whole: Wide = {
      hi: c.let(select(steep, right.hi.shrU(1), right.hi)),
      lo: c.let(select(steep, i64(QUARTER_PI >> 1n), right.lo)),
    };
    const sum = addWide(c, whole, quarter), less = subWide(c, whole, quarter);
    // Steep: π/2 - a on the right, π/2 + a on the left; flat, on the left: π - a.
    const adds = c.let(steep.and(left));
    const rHi = c.let(select(adds, sum.hi, less.hi)), rLo = c.let(select(adds, sum.lo, less.lo));
    returnInexact(x, f, sign, i32(1), { hi: rHi, lo: rLo });

    function atanOf(i: Value): Wide {
      const h = c.variable("i64"), l = c.variable("i64");
      c.switch(
        i,
        ATAN.map((v) => () => {
          h.set(wide(v).hi);
          l.set(wide(v).lo);
        }),
        () => {},
      );
      return { hi: h.get(), lo: l.get() };
    }
  });
}
