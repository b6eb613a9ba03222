/** Conversions, comparisons, minimum and maximum, and rounding to integers, over soft_float.ts: [sdm1 §4.8, §11.5]. */
import type { Code } from "../../../wasm/code.ts";
import type { Func, Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import {
  DOUBLE,
  type Format,
  FORMATS,
  infinity,
  KIND,
  MXCSR,
  quietBit,
  roundsUp,
  signBit,
  signOf,
  SINGLE,
  type SoftFloats,
  withSign,
} from "./soft_float.ts";

/** How two numbers compare: one bit each. */
export const RELATION = { LESS: 1, EQUAL: 2, GREATER: 4, UNORDERED: 8 } as const;

export interface SoftConvert {
  /** (a, b, mxcsr, 1 if any NaN is invalid) → RELATION, flags. */
  compare: Func;
  /** (a, b, mxcsr) → bits, flags: a only if it is less (greater) and neither is a NaN. */
  min: Func;
  max: Func;
  /** (integer, mxcsr) → bits, flags. */
  fromInt: Func;
  /** (bits, rounding mode, mxcsr, 32 or 64) → integer, flags. */
  toInt: Func;
  /** (bits, rounding mode, mxcsr) → bits, flags. */
  roundInt: Func;
}
export interface SoftConverts {
  readonly 32: SoftConvert;
  readonly 64: SoftConvert;
  /** (bits, mxcsr) → bits, flags. */
  readonly narrow: Func;
  readonly widen: Func;
}

function define(m: Module, t: Format, soft: SoftFloats): SoftConvert {
  const name = (s: string) => `soft.${s}${t.bits}`;
  const { unpack, round } = soft[t.bits];
  const magnitudeMask = signBit(t) - 1n;

  /** Denormals as MXCSR.DAZ has them. */
  const flushed = (c: Code, x: Value, kind: Value): Value => c.let(select(kind.eq(KIND.ZERO), x.and(signBit(t)), x));
  /** A number whose signed order is that of the floating-point numbers, but for the two zeros. */
  const ordered = (c: Code, x: Value): Value => {
    const wide = t.bits === 32 ? c.let(x.ext32()) : x;
    return wide.xor(wide.shrS(63).and(magnitudeMask));
  };
  const kinds = (c: Code, x: Value, y: Value, mxcsr: Value) => {
    const [a] = c.call(unpack, x, mxcsr) as [Value, Value, Value];
    const [b] = c.call(unpack, y, mxcsr) as [Value, Value, Value];
    return { a, b, both: c.let(a.or(b)) };
  };

  const compare = m.func(name("compare"), ["i64", "i64", "i32", "i32"], ["i32", "i32"], (c) => {
    const { a, b, both } = kinds(c, c.param(0), c.param(1), c.param(2));
    c.if(both.and(KIND.NAN), () => {
      c.return(RELATION.UNORDERED, both.shrU(5).or(c.param(3)));
    });
    const denormal = c.let(both.and(KIND.DENORMAL).shrU(1));
    c.if(both.eq(KIND.ZERO), () => c.return(RELATION.EQUAL, 0));
    const x = c.let(ordered(c, flushed(c, c.param(0), a))), y = c.let(ordered(c, flushed(c, c.param(1), b)));
    const less = select(x.ltS(y), i32(RELATION.LESS), select(x.eq(y), i32(RELATION.EQUAL), RELATION.GREATER));
    c.return(less, denormal);
  });

  const extreme = (which: "min" | "max") =>
    m.func(name(which), ["i64", "i64", "i32"], ["i64", "i32"], (c) => {
      const { a, b, both } = kinds(c, c.param(0), c.param(1), c.param(2));
      const second = flushed(c, c.param(1), b);
      c.if(both.and(KIND.NAN), () => c.return(second, MXCSR.IE));
      c.if(both.eq(KIND.ZERO), () => c.return(second, 0));
      const first = flushed(c, c.param(0), a);
      const x = c.let(ordered(c, first)), y = c.let(ordered(c, second));
      c.return(select(which === "min" ? x.ltS(y) : x.gtS(y), first, second), both.and(KIND.DENORMAL).shrU(1));
    });

  const fromInt = m.func(name("fromInt"), ["i64", "i32"], ["i64", "i32"], (c) => {
    const x = c.param(0), mxcsr = c.param(1);
    c.if(x.eqz(), () => c.return(0, 0));
    const sign = c.let(x.shrU(63).lo());
    const magnitude = c.let(select(sign, c.let(x.neg()), x));
    // The most negative number has its leading one at bit 63, one above where it belongs, and zeros below.
    const top = c.let(magnitude.shrU(63));
    const s = c.let(magnitude.shrU(top));
    const shift = c.let(s.clz().sub(1));
    const [bits, flags] = c.call(round, sign, i32(62).add(top.lo()).sub(shift.lo()), s.shl(shift), mxcsr) as [
      Value,
      Value,
    ];
    c.return(bits, flags);
  });

  const toInt = m.func(name("toInt"), ["i64", "i32", "i32", "i32"], ["i64", "i32"], (c) => {
    const x = c.param(0), rc = c.param(1), width = c.param(3);
    const [kind, exponent, s] = c.call(unpack, x, c.param(2)) as [Value, Value, Value];
    const lowest = c.let(select(width.eq(32), i64(-0x8000_0000n), -(1n << 63n)));
    const invalid = () => c.return(lowest, MXCSR.IE);
    c.if(kind.eq(KIND.ZERO), () => c.return(0, 0));
    c.if(kind.and(KIND.NAN | KIND.INF).or(exponent.gtS(63)), invalid);
    const sign = c.let(signOf(x, t));
    c.if(exponent.eq(63), () => {
      // Only the lowest 64-bit number has this exponent.
      c.if(sign.eqz().or(s.ne(1n << 62n)).or(width.eq(32)), invalid);
      c.return(lowest, 0);
    });
    const drop = c.let(i32(62).sub(exponent));
    const integer = c.variable("i64", 0), rest = c.variable("i64", 1), half = c.variable("i64", 2);
    c.if(drop.leU(63), () => {
      const n = c.let(drop.zx());
      integer.set(s.shrU(n));
      rest.set(s.sub(integer.get().shl(n)));
      // With nothing to drop, rest is 0 and half does not matter.
      half.set(i64(1).shl(n.sub(1)));
    });
    const up = roundsUp(c, rc, sign, integer.get().lo().and(1), rest.get(), half.get());
    integer.set(integer.get().add(up.zx()));
    const limit = c.let(lowest.neg());
    c.if(select(sign, integer.get().gtU(limit), integer.get().geU(limit)), invalid);
    c.return(select(sign, c.let(integer.get().neg()), integer.get()), rest.get().bool().shl(5));
  });

  const roundInt = m.func(name("roundInt"), ["i64", "i32", "i32"], ["i64", "i32"], (c) => {
    const x = c.param(0), rc = c.param(1);
    const [kind, exponent, s] = c.call(unpack, x, c.param(2)) as [Value, Value, Value];
    c.if(kind.and(KIND.NAN), () => c.return(x.or(quietBit(t)), kind.shrU(5)));
    const sign = c.let(signOf(x, t));
    c.if(kind.eq(KIND.ZERO), () => c.return(withSign(sign, t, 0n), 0));
    c.if(kind.eq(KIND.INF).or(exponent.geS(t.fraction)), () => c.return(x, 0));
    c.if(exponent.ltS(0), () => {
      // Below one: s against one half, whose exponent is -1.
      const rest = c.let(select(exponent.eq(-1), s, i64(1)));
      const up = roundsUp(c, rc, sign, i32(0), rest, i64(1n << 62n));
      c.return(withSign(sign, t, select(up, i64(BigInt(t.bias) << BigInt(t.fraction)), 0n)), MXCSR.PE);
    });
    const unit = c.let(i64(1).shl(i32(t.fraction).sub(exponent).zx()));
    const rest = c.let(x.and(unit.sub(1)));
    const odd = x.and(unit).bool().or(exponent.eqz());
    const up = roundsUp(c, rc, sign, c.let(odd), rest, c.let(unit.shrU(1)));
    c.return(x.sub(rest).add(select(up, unit, 0n)), rest.bool().shl(5));
  });

  return { compare, min: extreme("min"), max: extreme("max"), fromInt, toInt, roundInt };
}

export function defineSoftConvert(m: Module, soft: SoftFloats): SoftConverts {
  const between = (name: string, from: Format, to: Format, payload: (x: Value) => Value) =>
    m.func(`soft.${name}`, ["i64", "i32"], ["i64", "i32"], (c) => {
      const x = c.param(0), mxcsr = c.param(1);
      const [kind, exponent, s] = c.call(soft[from.bits].unpack, x, mxcsr) as [Value, Value, Value];
      const sign = c.let(signOf(x, from));
      c.if(kind.and(KIND.NAN), () => {
        const fraction = payload(x.and((1n << BigInt(from.fraction)) - 1n));
        c.return(withSign(sign, to, fraction.or(infinity(to) | quietBit(to))), kind.shrU(5));
      });
      c.if(kind.eq(KIND.INF), () => c.return(withSign(sign, to, infinity(to)), 0));
      c.if(kind.eq(KIND.ZERO), () => c.return(withSign(sign, to, 0n), 0));
      const [bits, flags] = c.call(soft[to.bits].round, sign, exponent, s, mxcsr) as [Value, Value];
      c.return(bits, flags.or(kind.and(KIND.DENORMAL).shrU(1)));
    });
  const [single, double] = FORMATS.map((t) => define(m, t, soft)) as [SoftConvert, SoftConvert];
  return {
    32: single,
    64: double,
    narrow: between("narrow", DOUBLE, SINGLE, (x) => x.shrU(29)),
    widen: between("widen", SINGLE, DOUBLE, (x) => x.shl(29)),
  };
}
