/** Partial remainders, FSCALE, FXTRACT: [sdm2 FPREM, FPREM1, FSCALE, FXTRACT]. */
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import type { CpuFuncs } from "../ops.ts";
import { noteDenormals, returnInvalid, returnNan } from "./arith.ts";
import {
  BEFORE,
  callFloat,
  callX,
  type Float,
  fpuFunc,
  FSW,
  INDEFINITE,
  isDenormal,
  isNan,
  isSignaling,
  isSpecial,
  isUnsupported,
  isZero,
  ONE,
  QUIET,
} from "./fpu.ts";
import { DROP, MAX_EXP, unpack } from "./round.ts";
import { divWide } from "./wide.ts";

const BIAS = 16383;
/** Scaling further than this overflows or underflows whatever is scaled. */
const FAR = 0x10000;

export function defineRemainder(m: Module, f: CpuFuncs): void {
  const pair = ["i64", "i32", "i64", "i32"] as const;

  // (a, b, 1 for FPREM1) → remainder, C3 C2 C1 C0: the quotient's last three bits, or C2 alone if there is more to do, or -1 if
  // there is no quotient.
  fpuFunc(m, f, "remainder", [...pair, "i32"], ["i64", "i32", "i32"], (x, ...p) => {
    const c = x.c, a: Float = { sig: p[0]!, se: p[1]! }, b: Float = { sig: p[2]!, se: p[3]! }, nearest = p[4]!;
    const invalid = () => {
      x.raise(FSW.IE);
      c.return(INDEFINITE.sig, INDEFINITE.se, -1);
    };
    c.if(isSpecial(a).or(isSpecial(b)).or(isUnsupported(a)).or(isUnsupported(b)), () => {
      const [found, sig, se] = callX(x, f, "nan2", a.sig, a.se, b.sig, b.se);
      c.if(found!, () => c.return(sig!, se!, -1));
    });
    c.if(isSpecial(a).or(isZero(b)), invalid);
    c.if(isDenormal(a).or(isDenormal(b)), () => x.raise(FSW.DE));
    c.if(x.unmasked(BEFORE), () => c.return(0, 0, 0));
    c.if(isZero(a), () => c.return(a.sig, a.se, 0));
    const ua = unpack(c, a);
    const sign = c.variable("i32", a.se.and(0x8000)), exp = c.variable("i32", ua.exp);
    const rest = c.variable("i64", ua.sig), q = c.variable("i64", 0), cc = c.variable("i32", 0);
    c.if(isSpecial(b).eqz(), () => {
      const ub = unpack(c, b);
      const distance = c.let(ua.exp.sub(ub.exp));
      const divide = (n: Value) => {
        // a × 2^n / b, both significands with their top bits set, n < 64.
        const first = c.let(ua.sig.geU(ub.sig));
        const r = c.let(select(first, ua.sig.sub(ub.sig), ua.sig));
        const k = c.let(n.zx());
        const hi = c.let(select(n, r.shrU(i64(0).sub(k)), i64(0)));
        const d = divWide(c, f, hi, r.shl(k), ub.sig);
        q.set(d.q.add(first.zx().shl(k)));
        rest.set(d.r);
      };
      c.if(distance.geS(64), () => {
        // The distance goes down by 32 to 63, to a multiple of 32 above the divisor's exponent.
        const n = c.let(distance.and(31).or(32));
        divide(n);
        exp.set(ua.exp.sub(n));
        cc.set(FSW.C2);
      }, () => {
        c.if(distance.geS(0), () => {
          divide(distance);
          exp.set(ub.exp);
          const r = rest.get(), other = c.let(ub.sig.sub(r));
          const up = r.gtU(other).or(r.eq(other).and(q.get().lo().and(1)));
          c.if(nearest.and(up), () => {
            rest.set(other);
            sign.set(sign.get().xor(0x8000));
            q.set(q.get().add(1));
          });
        }, () => {
          // Less than the divisor; more than half of it only if the exponents are neighbours.
          c.if(nearest.and(distance.eq(-1)).and(ua.sig.gtU(ub.sig)), () => {
            rest.set(ub.sig.shl(1).sub(ua.sig));
            sign.set(sign.get().xor(0x8000));
            q.set(1);
          });
        });
        const low = c.let(q.get().lo());
        cc.set(low.and(1).shl(9).or(low.and(2).shl(13)).or(low.and(4).shl(6)));
      });
    });
    c.if(rest.get().eqz(), () => c.return(0, a.se.and(0x8000), cc.get()));
    const n = c.let(rest.get().clz());
    const r = callFloat(
      x,
      f,
      "pack",
      sign.get(),
      exp.get().sub(n.lo()),
      rest.get().shl(n),
      0,
      DROP.EXTENDED,
      MAX_EXP.EXTENDED,
    );
    c.return(r.sig, r.se, cc.get());
  });

  // (a, b): a × 2^trunc(b).
  fpuFunc(m, f, "scale", pair, ["i64", "i32"], (x, ...p) => {
    const c = x.c, a: Float = { sig: p[0]!, se: p[1]! }, b: Float = { sig: p[2]!, se: p[3]! };
    returnNan(x, f, a, b);
    const sign = c.let(a.se.and(0x8000));
    const down = c.let(b.se.shrU(15));
    c.if(isSpecial(b).and(select(down, isSpecial(a), isZero(a))), () => returnInvalid(x));
    noteDenormals(x, [a, b]);
    c.if(isSpecial(a).or(isZero(a)), () => c.return(a.sig, a.se));
    c.if(isSpecial(b), () => {
      c.if(down, () => c.return(0, sign));
      c.return(ONE, sign.or(0x7fff));
    });
    const e = c.let(b.se.and(0x7fff).sub(BIAS)), by = c.variable("i32", 0);
    c.if(e.geS(0), () => {
      by.set(FAR);
      c.if(e.ltS(16), () => by.set(b.sig.shrU(i32(63).sub(e).zx()).lo()));
    });
    const u = unpack(c, a);
    const exp = u.exp.add(select(down, i32(0).sub(by.get()), by.get()));
    c.return(...callX(x, f, "pack", sign, exp, u.sig, 0, DROP.EXTENDED, MAX_EXP.EXTENDED));
  });

  // → exponent as a number, significand.
  fpuFunc(m, f, "extract", ["i64", "i32"], ["i64", "i32", "i64", "i32"], (x, sig, se) => {
    const c = x.c, a: Float = { sig: sig!, se: se! };
    const sign = c.let(se!.and(0x8000));
    c.if(isUnsupported(a), () => {
      x.raise(FSW.IE);
      c.return(INDEFINITE.sig, INDEFINITE.se, INDEFINITE.sig, INDEFINITE.se);
    });
    c.if(isNan(a), () => {
      x.raise(isSignaling(a));
      const quiet = c.let(sig!.or(QUIET));
      c.return(quiet, se!, quiet, se!);
    });
    c.if(isSpecial(a), () => c.return(ONE, 0x7fff, sig!, se!));
    c.if(isZero(a), () => {
      x.raise(FSW.ZE);
      c.return(ONE, 0xffff, 0, sign);
    });
    c.if(isDenormal(a), () => x.raise(FSW.DE));
    const u = unpack(c, a);
    const e = callFloat(x, f, "fromInt", u.exp.sub(BIAS).sx());
    c.return(e.sig, e.se, u.sig, sign.or(BIAS));
  });
}
