/**
 * Fused multiply-add in integers: one rounding of the exact x × y + z: [sdm1 §14.5], [ieee754 §5.4.1].
 *
 * The product of two significands has its leading one at bit 124 or 125 of 128; the addend is put beside it with its own at bit
 * 124. Whichever is smaller is shifted to the other's exponent with what is lost gathered in bit 0, far below where rounding
 * looks even after the two cancel.
 */
import type { Code } from "../../../wasm/code.ts";
import type { Func, Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import {
  type Format,
  indefinite,
  infinity,
  KIND,
  MXCSR,
  quietBit,
  RC,
  signOf,
  type SoftFloats,
  withSign,
} from "./soft_float.ts";

/** The last argument of the functions: bits that negate the product, and the addend. */
export const FMA = { NEGATE_PRODUCT: 1, NEGATE_ADDEND: 2 } as const;

export interface SoftFma {
  /** (x, y, z, mxcsr, FMA bits) → bits, flags. */
  readonly 32: Func;
  readonly 64: Func;
}

/** Numbers of 128 bits: low half, high half. */
type Wide = readonly [low: Value, high: Value];

/** (low, high, n) → low, high: v >> n with what is lost in bit 0; n from 0 to any. */
function defineShift(m: Module): Func {
  return m.func("soft.shift128", ["i64", "i64", "i32"], ["i64", "i64"], (c) => {
    const low = c.param(0), high = c.param(1), n = c.let(c.param(2).zx());
    c.if(n.eqz(), () => c.return(low, high));
    c.if(n.gtU(127), () => c.return(low.or(high).bool().zx(), 0));
    c.if(n.geU(64), () => {
      const k = c.let(n.sub(64));
      const kept = c.let(high.shrU(k));
      c.return(kept.or(low.bool().or(kept.shl(k).ne(high)).zx()), 0);
    });
    const down = c.let(low.shrU(n));
    const lost = c.let(down.shl(n).ne(low).zx());
    c.return(down.or(high.shl(i64(64).sub(n))).or(lost), high.shrU(n));
  });
}

/** The exact product of two numbers below 2^63. */
function product(c: Code, a: Value, b: Value): Wide {
  const al = c.let(a.and(0xffff_ffff)), ah = c.let(a.shrU(32));
  const bl = c.let(b.and(0xffff_ffff)), bh = c.let(b.shrU(32));
  const ll = c.let(al.mul(bl)), lh = c.let(al.mul(bh)), hl = c.let(ah.mul(bl));
  const middle = c.let(ll.shrU(32).add(lh.and(0xffff_ffff)).add(hl.and(0xffff_ffff)));
  const high = c.let(ah.mul(bh).add(lh.shrU(32)).add(hl.shrU(32)).add(middle.shrU(32)));
  return [c.let(middle.shl(32).or(ll.and(0xffff_ffff))), high];
}

function define(m: Module, t: Format, soft: SoftFloats, shift: Func): Func {
  const { unpack, round } = soft[t.bits];
  return m.func(`soft.fma${t.bits}`, ["i64", "i64", "i64", "i32", "i32"], ["i64", "i32"], (c) => {
    const [x, y, z, mxcsr, how] = [0, 1, 2, 3, 4].map((n) => c.param(n)) as [Value, Value, Value, Value, Value];
    const take = (v: Value) => {
      const [kind, exponent, s] = c.call(unpack, v, mxcsr) as [Value, Value, Value];
      return { kind, exponent, s };
    };
    const a = take(x), b = take(y), d = take(z);
    const factors = c.let(a.kind.or(b.kind)), kinds = c.let(factors.or(d.kind));
    const sign = c.let(signOf(x, t).xor(signOf(y, t)).xor(how.and(FMA.NEGATE_PRODUCT)));
    const addendSign = c.let(signOf(z, t).xor(how.shrU(1).and(1)));
    const denormal = c.let(kinds.and(KIND.DENORMAL).shrU(1));
    // Infinity times zero is invalid, whatever is added but a NaN.
    const nothing = c.let(factors.and(KIND.INF).bool().and(factors.and(KIND.ZERO).bool()));
    c.if(kinds.and(KIND.NAN), () => {
      // The first of them, made quiet.
      const last = c.let(select(b.kind.and(KIND.NAN), y, z));
      const first = c.let(select(a.kind.and(KIND.NAN), x, last));
      c.return(first.or(quietBit(t)), kinds.shrU(5));
    });
    c.if(nothing, () => c.return(indefinite(t), MXCSR.IE));
    c.if(factors.and(KIND.INF), () => {
      c.if(d.kind.and(KIND.INF).bool().and(sign.ne(addendSign)), () => c.return(indefinite(t), MXCSR.IE));
      c.return(withSign(sign, t, infinity(t)), denormal);
    });
    c.if(d.kind.and(KIND.INF), () => c.return(withSign(addendSign, t, infinity(t)), denormal));
    const down = c.let(mxcsr.and(MXCSR.RC).eq(RC.DOWN << 13));
    const differ = c.let(sign.xor(addendSign));
    const finish = (s: Value, exponent: Value, significand: Value) => {
      const [bits, flags] = c.call(round, s, exponent, significand, mxcsr) as [Value, Value];
      c.return(bits, flags.or(denormal));
    };
    c.if(factors.and(KIND.ZERO), () => {
      c.if(d.kind.eq(KIND.ZERO), () => c.return(withSign(select(differ, down, sign), t, 0n), denormal));
      finish(addendSign, d.exponent, d.s);
    });
    // In units of 2^(e - 124).
    const pe = c.let(a.exponent.add(b.exponent)), [pl, ph] = product(c, a.s, b.s);
    const hasAddend = c.let(d.kind.ne(KIND.ZERO));
    const zl = c.let(d.s.shl(62)), zh = c.let(d.s.shrU(2));
    const distance = c.let(select(hasAddend, c.let(pe.sub(d.exponent)), 0x4000));
    const low = c.variable("i64"), high = c.variable("i64"), e = c.variable("i32", pe);
    const otherLow = c.variable("i64"), otherHigh = c.variable("i64");
    c.if(distance.geS(0), () => {
      const [l, h] = c.call(shift, zl, zh, distance) as [Value, Value];
      low.set(pl), high.set(ph), otherLow.set(l), otherHigh.set(h);
    }, () => {
      const [l, h] = c.call(shift, pl, ph, i32(0).sub(distance)) as [Value, Value];
      low.set(l), high.set(h), otherLow.set(zl), otherHigh.set(zh);
      e.set(d.exponent);
    });
    // low:high is the product, other the addend, as they stand now.
    const result = c.variable("i32", sign);
    c.if(differ.eqz(), () => {
      const sum = c.let(low.get().add(otherLow.get()));
      high.set(high.get().add(otherHigh.get()).add(sum.ltU(otherLow.get()).zx()));
      low.set(sum);
    }, () => {
      const borrow = c.let(low.get().ltU(otherLow.get()).zx());
      low.set(low.get().sub(otherLow.get()));
      high.set(high.get().sub(otherHigh.get()).sub(borrow));
      c.if(low.get().or(high.get()).eqz(), () => c.return(withSign(down, t, 0n), denormal));
      c.if(high.get().ltS(0), () => {
        result.set(result.get().xor(1));
        const zero = c.let(low.get().eqz().zx());
        low.set(low.get().neg());
        high.set(high.get().not().add(zero));
      });
    });
    // The leading one goes to bit 126, which is bit 62 of the upper half.
    const n = c.let(c.choose(high.get().eqz(), () => low.get().clz().add(64), () => high.get().clz(), "i64").sub(1));
    c.if(n.geU(64), () => {
      high.set(low.get().shl(n.sub(64)));
      low.set(0);
    }, () => {
      high.set(high.get().shl(n).or(low.get().shrU(1).shrU(i64(63).sub(n))));
      low.set(low.get().shl(n));
    });
    finish(result.get(), c.let(e.get().add(2).sub(n.lo())), c.let(high.get().or(low.get().bool().zx())));
  });
}

export function defineSoftFma(m: Module, soft: SoftFloats, formats: readonly [Format, Format]): SoftFma {
  const shift = defineShift(m);
  return { 32: define(m, formats[0], soft, shift), 64: define(m, formats[1], soft, shift) };
}
