/** Between the extended format and what lies in memory: single, double, integers, packed decimal: [sdm1 4.2, 4.7, 8.3.1]. */
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import type { CpuFuncs } from "../ops.ts";
import {
  callFloat,
  callX,
  type Float,
  fpuFunc,
  FSW,
  isNan,
  isSignaling,
  isSpecial,
  isUnsupported,
  isZero,
  ONE,
  QUIET,
} from "./fpu.ts";
import { DROP, MAX_EXP, unpack } from "./round.ts";

const BIAS = 16383;
/** 10^18: what packed decimal cannot hold any more. */
const DECIMAL_LIMIT = 1_000_000_000_000_000_000n;

/** Bytes of "packed BCD indefinite": FFFF C000 0000 0000 0000. */
export const BCD_INDEFINITE = { low: 0xc000_0000_0000_0000n, high: 0xffff } as const;

export function defineConvert(m: Module, f: CpuFuncs): void {
  // (bits) → number; notes whether it was denormal.
  const from = (name: string, fraction: number, exponents: number, bias: number, type: "i32" | "i64") => {
    fpuFunc(m, f, name, [type], ["i64", "i32"], (x, bits) => {
      const c = x.c, b = c.let(bits!.zx());
      const sign = c.let(b.shrU(fraction + exponents).lo().shl(15));
      const e = c.let(b.shrU(fraction).lo().and((1 << exponents) - 1));
      const sig = c.let(b.shl(63 - fraction).and(ONE - 1n));
      x.setDenormalSource(0);
      c.if(e.eqz(), () => {
        c.if(sig.eqz(), () => c.return(0, sign));
        x.setDenormalSource(FSW.DE);
        const n = c.let(sig.clz());
        c.return(sig.shl(n), sign.or(i32(1 - bias + BIAS).sub(n.lo())));
      });
      c.if(e.eq((1 << exponents) - 1), () => c.return(sig.or(ONE), sign.or(0x7fff)));
      c.return(sig.or(ONE), sign.or(e.add(BIAS - bias)));
    });
  };
  from("fromF32", 23, 8, 127, "i32");
  from("fromF64", 52, 11, 1023, "i64");

  fpuFunc(m, f, "fromInt", ["i64"], ["i64", "i32"], (x, v) => {
    const c = x.c;
    x.setDenormalSource(0);
    c.if(v!.eqz(), () => c.return(0, 0));
    const negative = c.let(v!.ltS(0));
    const magnitude = c.let(select(negative, i64(0).sub(v!), v!));
    const n = c.let(magnitude.clz());
    c.return(magnitude.shl(n), negative.shl(15).or(i32(BIAS + 63).sub(n.lo())));
  });

  // (number) → bits, as ST(0) is stored. Raises; with an unmasked IE, OE or UE the bits are not to be stored.
  const to = (name: string, fraction: number, exponents: number, bias: number, drop: number, max: number) => {
    const type = fraction === 23 ? "i32" : "i64";
    const cut = (v: Value) => type === "i32" ? v.lo() : v;
    fpuFunc(m, f, name, ["i64", "i32"], [type], (x, sig, se) => {
      const c = x.c, a: Float = { sig: sig!, se: se! };
      const assemble = (s: Value, e: Value) => {
        // The integer bit goes; a number without it is denormal, exponent 0.
        const whole = c.let(s.shl(1).shrU(64 - fraction).or(e.and(max).zx().shl(fraction)));
        c.return(cut(whole.or(e.shrU(15).zx().shl(fraction + exponents))));
      };
      const sign = c.let(se!.and(0x8000));
      c.if(isUnsupported(a), () => {
        x.raise(FSW.IE);
        assemble(i64(ONE | QUIET), i32(0x8000 | max));
      });
      c.if(isSpecial(a), () => {
        c.if(isSignaling(a), () => x.raise(FSW.IE));
        const quiet = c.let(select(isNan(a), i64(QUIET), 0));
        assemble(c.let(sig!.or(quiet)), c.let(sign.or(max)));
      });
      c.if(isZero(a), () => assemble(i64(0), sign));
      const u = unpack(c, a);
      const r = callFloat(x, f, "pack", sign, u.exp.sub(BIAS - bias), u.sig, 0, drop, max);
      assemble(r.sig, r.se);
    });
  };
  to("toF32", 23, 8, 127, DROP.SINGLE, MAX_EXP.SINGLE);
  to("toF64", 52, 11, 1023, DROP.DOUBLE, MAX_EXP.DOUBLE);

  // (number, limit, rounding control) → magnitude, 1 if invalid. The limit is for positive numbers; negative ones may reach it
  // with `reach` set.
  fpuFunc(m, f, "bounded", ["i64", "i32", "i64", "i32", "i32"], ["i64", "i32"], (x, sig, se, limit, reach, rc) => {
    const c = x.c, a: Float = { sig: sig!, se: se! };
    const invalid = () => {
      x.clear();
      x.raise(FSW.IE);
      c.return(0, 1);
    };
    c.if(isUnsupported(a).or(isSpecial(a)), invalid);
    const [v, wide] = callX(x, f, "integer", sig!, se!, rc!);
    const max = c.let(limit!.sub(se!.shrU(15).and(reach!).eqz().zx()));
    c.if(wide!.or(v!.gtU(max)), invalid);
    c.return(v!, 0);
  });
  // (number, bits 16, 32 or 64, rounding control) → the integer, or the indefinite one.
  fpuFunc(m, f, "toInt", ["i64", "i32", "i32", "i32"], ["i64"], (x, sig, se, bits, rc) => {
    const c = x.c, limit = c.let(i64(1).shl(bits!.sub(1).zx()));
    const [v, invalid] = callX(x, f, "bounded", sig!, se!, limit, 1, rc!);
    c.if(invalid!, () => c.return(limit));
    c.return(select(se!.shrU(15), i64(0).sub(v!), v!));
  });

  // (number) → 18 decimal digits: 16 of them, then 2 with the sign at bit 15.
  fpuFunc(m, f, "toBcd", ["i64", "i32"], ["i64", "i32"], (x, sig, se) => {
    const c = x.c;
    const [v, invalid] = callX(x, f, "bounded", sig!, se!, DECIMAL_LIMIT, 0, x.rc());
    c.if(invalid!, () => c.return(BCD_INDEFINITE.low, BCD_INDEFINITE.high));
    const left = c.variable("i64", v!),
      low = c.variable("i64", 0),
      high = c.variable("i32", 0),
      i = c.variable("i32", 0);
    c.loop((again) => {
      const q = c.let(left.get().divU(10)), digit = c.let(left.get().sub(q.mul(10)));
      c.if(
        i.get().ltU(16),
        () => low.set(low.get().or(digit.shl(i.get().shl(2).zx()))),
        () => high.set(high.get().or(digit.lo().shl(i.get().sub(16).shl(2)))),
      );
      left.set(q);
      i.set(i.get().add(1));
      c.brIf(again, i.get().ltU(18));
    });
    c.return(low.get(), high.get().or(se!.and(0x8000)));
  });
  fpuFunc(m, f, "fromBcd", ["i64", "i32"], ["i64", "i32"], (x, low, high) => {
    const c = x.c, sum = c.variable("i64", 0), i = c.variable("i32", 17);
    c.loop((again) => {
      const digit = c.choose(
        i.get().ltU(16),
        () => low!.shrU(i.get().shl(2).zx()).and(15),
        () => high!.shrU(i.get().sub(16).shl(2)).and(15).zx(),
        "i64",
      );
      sum.set(sum.get().mul(10).add(digit));
      i.set(i.get().sub(1));
      c.brIf(again, i.get().geS(0));
    });
    const r = callFloat(x, f, "fromInt", sum.get());
    c.return(r.sig, r.se.or(high!.and(0x8000)));
  });
}
