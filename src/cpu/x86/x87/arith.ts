/** Addition, multiplication, division, square root, comparison, rounding to an integer: [sdm1 4.8, 8.3.5, 8.5]. */
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import type { CpuFuncs } from "../ops.ts";
import {
  BEFORE,
  callX,
  type Float,
  type Fpu,
  fpuFunc,
  FSW,
  INDEFINITE,
  isDenormal,
  isInfinity,
  isNan,
  isSignaling,
  isSpecial,
  isUnsupported,
  isZero,
  ONE,
  QUIET,
  RC,
} from "./fpu.ts";
import { normalize, shiftRightSticky, unpack } from "./round.ts";
import { divWide, mulWide } from "./wide.ts";

const BIAS = 16383;
/** Where FCOM finds its results: C3 C2 C0 for greater, less, equal, unordered. */
export const COMPARED = {
  GREATER: 0,
  LESS: FSW.C0,
  EQUAL: FSW.C3,
  UNORDERED: FSW.C3 | FSW.C2 | FSW.C0,
} as const;

export function returnInvalid(x: Fpu): void {
  x.raise(FSW.IE);
  x.c.return(INDEFINITE.sig, INDEFINITE.se);
}

/** Raises DE for denormal operands, and leaves with anything if it is not masked. */
export function noteDenormals(x: Fpu, operands: readonly Float[]): void {
  const c = x.c;
  let any = x.denormalSource().bool();
  for (const a of operands) any = any.or(isDenormal(a));
  c.if(any, () => x.raise(FSW.DE));
  c.if(x.unmasked(BEFORE), () => c.return(0, 0));
}

/** Leaves with the result if an operand is a NaN or unsupported: [sdm1 table 4-7]. */
export function returnNan(x: Fpu, f: CpuFuncs, a: Float, b?: Float): void {
  const c = x.c;
  if (!b) {
    c.if(isUnsupported(a), () => returnInvalid(x));
    c.if(isNan(a), () => {
      x.raise(isSignaling(a));
      c.return(a.sig.or(QUIET), a.se);
    });
    return;
  }
  const special = isSpecial(a).or(isSpecial(b)).or(isUnsupported(a)).or(isUnsupported(b));
  c.if(special, () => {
    const [found, sig, se] = callX(x, f, "nan2", a.sig, a.se, b.sig, b.se);
    c.if(found!, () => c.return(sig!, se!));
  });
}

export function defineArith(m: Module, f: CpuFuncs): void {
  const pair = ["i64", "i32", "i64", "i32"] as const;
  const results = ["i64", "i32"] as const;
  const floats = (p: Value[]): [Float, Float] => [{ sig: p[0]!, se: p[1]! }, { sig: p[2]!, se: p[3]! }];
  const packPc = (x: Fpu, sign: Value, exp: Value, hi: Value, lo: Value) => {
    x.c.return(...callX(x, f, "packPc", sign, exp, hi, lo));
  };

  // → whether one of two operands is a NaN or unsupported, and the result if so.
  fpuFunc(m, f, "nan2", pair, ["i32", "i64", "i32"], (x, ...p) => {
    const c = x.c, [a, b] = floats(p);
    c.if(isUnsupported(a).or(isUnsupported(b)), () => {
      x.raise(FSW.IE);
      c.return(1, INDEFINITE.sig, INDEFINITE.se);
    });
    const na = c.let(isNan(a)), nb = c.let(isNan(b));
    c.if(na.or(nb).eqz(), () => c.return(0, 0, 0));
    const sa = c.let(isSignaling(a)), sb = c.let(isSignaling(b));
    x.raise(sa.or(sb));
    const give = (v: Float) => c.return(1, v.sig.or(QUIET), v.se);
    c.if(nb.eqz(), () => give(a));
    c.if(na.eqz(), () => give(b));
    // One signaling, one quiet: the quiet one. Else the larger significand, else the positive one.
    c.if(sa.ne(sb), () => c.if(sa, () => give(b), () => give(a)));
    c.if(a.sig.gtU(b.sig), () => give(a));
    c.if(b.sig.gtU(a.sig), () => give(b));
    c.if(a.se.ltU(b.se), () => give(a), () => give(b));
    c.return(0, 0, 0);
  });

  // (a, b, 0x8000 to subtract)
  fpuFunc(m, f, "add", [...pair, "i32"], results, (x, ...p) => {
    const c = x.c, [a, original] = floats(p);
    returnNan(x, f, a, original);
    const b: Float = { sig: original.sig, se: c.let(original.se.xor(p[4]!)) };
    const signA = c.let(a.se.and(0x8000)), signB = c.let(b.se.and(0x8000));
    c.if(isSpecial(a).and(isSpecial(b)).and(signA.ne(signB)), () => returnInvalid(x));
    noteDenormals(x, [a, b]);
    c.if(isSpecial(a), () => c.return(a.sig, a.se));
    c.if(isSpecial(b), () => c.return(b.sig, b.se));
    const zeroSign = () => x.rc().eq(RC.DOWN).shl(15);
    c.if(isZero(a), () => {
      c.if(isZero(b), () => {
        c.if(signA.eq(signB), () => c.return(0, signA));
        c.return(0, zeroSign());
      });
      const u = unpack(c, b);
      packPc(x, signB, u.exp, u.sig, i64(0));
    });
    const ua = unpack(c, a);
    c.if(isZero(b), () => packPc(x, signA, ua.exp, ua.sig, i64(0)));
    const ub = unpack(c, b);
    // The larger exponent first.
    const swap = c.let(ua.exp.ltS(ub.exp));
    const big = c.let(select(swap, ub.sig, ua.sig)), small = c.let(select(swap, ua.sig, ub.sig));
    const exp = c.let(select(swap, ub.exp, ua.exp));
    const distance = c.let(exp.sub(select(swap, ua.exp, ub.exp)));
    const sign = c.variable("i32", select(swap, signB, signA));
    const t = shiftRightSticky(c, small, i64(0), distance);
    c.if(signA.eq(signB), () => {
      const sum = c.let(big.add(t.hi));
      c.if(sum.ltU(big), () => {
        packPc(x, sign.get(), exp.add(1), sum.shrU(1).or(ONE), sum.shl(63).or(t.lo.shrU(1)).or(t.lo.and(1)));
      });
      packPc(x, sign.get(), exp, sum, t.lo);
    });
    const hi = c.variable("i64", big.sub(t.hi).sub(t.lo.bool().zx())), lo = c.variable("i64", i64(0).sub(t.lo));
    c.if(distance.eqz().and(big.ltU(t.hi)), () => {
      hi.set(t.hi.sub(big));
      sign.set(sign.get().xor(0x8000));
    });
    c.if(hi.get().or(lo.get()).eqz(), () => c.return(0, zeroSign()));
    const r = normalize(c, exp, hi.get(), lo.get());
    packPc(x, sign.get(), r.exp, r.hi, r.lo);
  });

  fpuFunc(m, f, "mul", pair, results, (x, ...p) => {
    const c = x.c, [a, b] = floats(p);
    returnNan(x, f, a, b);
    const sign = c.let(a.se.xor(b.se).and(0x8000));
    const infinite = c.let(isSpecial(a).or(isSpecial(b)));
    c.if(infinite.and(isZero(a).or(isZero(b))), () => returnInvalid(x));
    noteDenormals(x, [a, b]);
    c.if(infinite, () => c.return(ONE, sign.or(0x7fff)));
    c.if(isZero(a).or(isZero(b)), () => c.return(0, sign));
    const ua = unpack(c, a), ub = unpack(c, b);
    const product = mulWide(c, f, ua.sig, ub.sig);
    const r = normalize(c, ua.exp.add(ub.exp).sub(BIAS - 1), product.hi, product.lo);
    packPc(x, sign, r.exp, r.hi, r.lo);
  });

  fpuFunc(m, f, "div", pair, results, (x, ...p) => {
    const c = x.c, [a, b] = floats(p);
    returnNan(x, f, a, b);
    const sign = c.let(a.se.xor(b.se).and(0x8000));
    c.if(isSpecial(a).and(isSpecial(b)).or(isZero(a).and(isZero(b))), () => returnInvalid(x));
    c.if(isZero(b).and(isSpecial(a).eqz()), () => {
      x.raise(FSW.ZE);
      c.return(ONE, sign.or(0x7fff));
    });
    noteDenormals(x, [a, b]);
    c.if(isSpecial(a), () => c.return(ONE, sign.or(0x7fff)));
    c.if(isZero(a).or(isSpecial(b)), () => c.return(0, sign));
    const ua = unpack(c, a), ub = unpack(c, b);
    // The quotient of the significands is in (1/2, 2): half the dividend if it is not less than the divisor.
    const half = c.let(ua.sig.geU(ub.sig));
    const n = c.let(half.zx());
    const lo = c.let(select(half, ua.sig.shl(63), i64(0)));
    const q = divWide(c, f, ua.sig.shrU(n), lo, ub.sig);
    const rest = divWide(c, f, q.r, i64(0), ub.sig);
    packPc(x, sign, ua.exp.sub(ub.exp).add(BIAS - 1).add(half), q.q, rest.q.or(rest.r.bool().zx()));
  });

  fpuFunc(m, f, "sqrt", ["i64", "i32"], results, (x, ...p) => {
    const c = x.c, a: Float = { sig: p[0]!, se: p[1]! };
    returnNan(x, f, a);
    c.if(isZero(a), () => c.return(a.sig, a.se));
    c.if(a.se.and(0x8000), () => returnInvalid(x));
    noteDenormals(x, [a]);
    c.if(isInfinity(a), () => c.return(a.sig, a.se));
    const u = unpack(c, a);
    // The radicand has 127 bits for an even exponent, 128 for an odd one; its root has 64.
    const e = c.let(u.exp.sub(BIAS)), odd = c.let(e.and(1));
    const nHi = c.variable("i64", select(odd, u.sig, u.sig.shrU(1)));
    const nLo = c.variable("i64", select(odd, i64(0), u.sig.shl(63)));
    const root = c.variable("i64", 0), rHi = c.variable("i64", 0), rLo = c.variable("i64", 0);
    const i = c.variable("i32", 64);
    c.loop((again) => {
      // Two more bits of the radicand; then one more of the root: 4 × root + 1 fits or not.
      rHi.set(rHi.get().shl(2).or(rLo.get().shrU(62)));
      rLo.set(rLo.get().shl(2).or(nHi.get().shrU(62)));
      nHi.set(nHi.get().shl(2).or(nLo.get().shrU(62)));
      nLo.set(nLo.get().shl(2));
      const tHi = c.let(root.get().shrU(62)), tLo = c.let(root.get().shl(2).or(1));
      const fits = c.let(rHi.get().gtU(tHi).or(rHi.get().eq(tHi).and(rLo.get().geU(tLo))));
      c.if(fits, () => {
        rHi.set(rHi.get().sub(tHi).sub(rLo.get().ltU(tLo).zx()));
        rLo.set(rLo.get().sub(tLo));
      });
      root.set(root.get().shl(1).or(fits.zx()));
      i.set(i.get().sub(1));
      c.brIf(again, i.get());
    });
    // The root is never halfway between two numbers: the remainder tells the side.
    const above = c.let(rHi.get().bool().or(rLo.get().gtU(root.get())));
    const rest = c.let(select(above, i64(3n << 62n), rLo.get().bool().zx()));
    packPc(x, i32(0), e.shrS(1).add(BIAS), root.get(), rest);
  });

  // (a, b, 1 if a quiet NaN is invalid too) → C3 C2 C0.
  fpuFunc(m, f, "compare", [...pair, "i32"], ["i32"], (x, ...p) => {
    const c = x.c, [a, b] = floats(p);
    c.if(isUnsupported(a).or(isUnsupported(b)), () => {
      x.raise(FSW.IE);
      c.return(COMPARED.UNORDERED);
    });
    const nan = isNan(a).or(isNan(b));
    c.if(nan, () => {
      x.raise(p[4]!.or(isSignaling(a)).or(isSignaling(b)));
      c.return(COMPARED.UNORDERED);
    });
    c.if(isDenormal(a).or(isDenormal(b)).or(x.denormalSource().bool()), () => x.raise(FSW.DE));
    c.if(isZero(a).and(isZero(b)), () => c.return(COMPARED.EQUAL));
    const negative = c.let(a.se.shrU(15));
    c.if(negative.ne(b.se.shrU(15)), () => c.return(select(negative, i32(COMPARED.LESS), COMPARED.GREATER)));
    // A pseudo-denormal has the exponent of the least normal number.
    const order = (v: Float) => {
      const e = c.let(v.se.and(0x7fff));
      return c.let(e.or(e.eqz().and(v.sig.shrU(63).lo())));
    };
    const ea = order(a), eb = order(b);
    c.if(ea.eq(eb).and(a.sig.eq(b.sig)), () => c.return(COMPARED.EQUAL));
    const less = c.let(ea.ltU(eb).or(ea.eq(eb).and(a.sig.ltU(b.sig))).xor(negative));
    c.return(select(less, i32(COMPARED.LESS), COMPARED.GREATER));
  });

  // FRNDINT.
  fpuFunc(m, f, "roundInt", ["i64", "i32"], results, (x, ...p) => {
    const c = x.c, a: Float = { sig: p[0]!, se: p[1]! };
    returnNan(x, f, a);
    c.if(a.se.and(0x7fff).geU(BIAS + 63).or(isZero(a)), () => c.return(a.sig, a.se));
    noteDenormals(x, [a]);
    const [v] = callX(x, f, "integer", a.sig, a.se, x.rc());
    const sign = c.let(a.se.and(0x8000));
    c.if(v!.eqz(), () => c.return(0, sign));
    const n = c.let(v!.clz());
    c.return(v!.shl(n), sign.or(i32(BIAS + 63).sub(n.lo())));
  });
}
