/**
 * Binary floating point in integers, with MXCSR's rounding, masks, DAZ and FTZ: [sdm1 §4.8, §11.5], [ieee754].
 *
 * The path of everything that is not ordinary (float.ts has the fast one). Numbers travel as i64 bit patterns, single precision
 * in the low half. Each function takes MXCSR last and gives a result and exception flags at their MXCSR places; results do not
 * matter where an unmasked exception is raised.
 *
 * Unpacked: a kind, an exponent e and a significand s whose leading one is bit 62: the value is s × 2^(e - 62).
 */
import type { Code } from "../../../wasm/code.ts";
import type { Func, Module } from "../../../wasm/module.ts";
import { i32, i64, type Operand, select, type Value } from "../../../wasm/value.ts";

export const MXCSR = {
  IE: 1 << 0,
  DE: 1 << 1,
  ZE: 1 << 2,
  OE: 1 << 3,
  UE: 1 << 4,
  PE: 1 << 5,
  DAZ: 1 << 6,
  UM: 1 << 11,
  OM: 1 << 10,
  PM: 1 << 12,
  RC: 3 << 13,
  FTZ: 1 << 15,
} as const;
export const RC = { NEAREST: 0, DOWN: 1, UP: 2, ZERO: 3 } as const;

export interface Layout {
  readonly bits: 16 | 32 | 64;
  /** Stored bits of the significand. */
  readonly fraction: number;
  readonly bias: number;
  /** The exponent field of infinities and NaNs. */
  readonly special: number;
}
/** A format of arithmetic. */
export interface Format extends Layout {
  readonly bits: 32 | 64;
}
export const SINGLE: Format = { bits: 32, fraction: 23, bias: 127, special: 0xff };
export const DOUBLE: Format = { bits: 64, fraction: 52, bias: 1023, special: 0x7ff };
export const FORMATS = [SINGLE, DOUBLE] as const;
/** Only stored and converted: [sdm1 §14.4]. */
export const HALF: Layout = { bits: 16, fraction: 10, bias: 15, special: 0x1f };

/** Kinds: one bit each, so that two operands can be asked at once. */
export const KIND = { ZERO: 1, NORMAL: 2, DENORMAL: 4, INF: 8, QNAN: 16, SNAN: 32, NAN: 48 } as const;

export const quietBit = (t: Layout): bigint => 1n << BigInt(t.fraction - 1);
export const signBit = (t: Layout): bigint => 1n << BigInt(t.bits - 1);
export const infinity = (t: Layout): bigint => BigInt(t.special) << BigInt(t.fraction);
/** The NaN of invalid operations. */
export const indefinite = (t: Layout): bigint => signBit(t) | infinity(t) | quietBit(t);

export const signOf = (x: Value, t: Layout): Value => x.shrU(t.bits - 1).lo();
export const withSign = (sign: Value, t: Layout, magnitude: Operand): Value => sign.zx().shl(t.bits - 1).or(magnitude);

/** Whether rounding makes the magnitude one unit larger: `rest` is what is cut off, `half` half a unit. */
export function roundsUp(c: Code, rc: Value, sign: Value, odd: Value, rest: Value, half: Operand): Value {
  const up = c.variable("i32", 0);
  c.if(rc.eqz(), () => up.set(rest.gtU(half).or(rest.eq(half).and(odd))), () => {
    // Down is away from zero for negative numbers, up for the others.
    c.if(rc.eq(select(sign, i32(RC.DOWN), RC.UP)), () => up.set(rest.bool()));
  });
  return up.get();
}

/** s >> n with what is lost gathered in bit 0; n from 0 to any. */
export function shiftSticky(c: Code, s: Value, n: Value): Value {
  return c.choose(n.gtU(62), () => s.bool().zx(), () => {
    const wide = c.let(n.zx());
    const kept = c.let(s.shrU(wide));
    return kept.or(kept.shl(wide).ne(s).zx());
  }, "i64");
}

export interface SoftFloat {
  /** (bits, mxcsr) → kind, exponent, significand. DAZ makes zeros of denormals. */
  unpack: Func;
  /** (sign, exponent, significand, mxcsr) → bits, flags. The significand is normalised, bit 0 sticky. */
  round: Func;
  /** (a, b, mxcsr) → bits, flags. */
  add: Func;
  sub: Func;
  mul: Func;
  div: Func;
  /** (a, mxcsr) → bits, flags. */
  sqrt: Func;
}

/** (sign, exponent, significand, mxcsr) → bits, flags: the function `round` of SoftFloat. */
export function defineRound(m: Module, t: Layout): Func {
  return m.func(`soft.round${t.bits}`, ["i32", "i32", "i64", "i32"], ["i64", "i32"], (c) => {
    const sign = c.param(0), s = c.param(2), mxcsr = c.param(3);
    const drop = 62 - t.fraction, half = 1n << BigInt(drop - 1), mask = (1n << BigInt(drop)) - 1n;
    const rc = c.let(mxcsr.shrU(13).and(3));
    const field = c.variable("i32", c.param(1).add(t.bias));
    const cut = (x: Value): { rounded: Value; inexact: Value } => {
      const rest = c.let(x.and(mask)), kept = c.let(x.shrU(drop));
      const up = roundsUp(c, rc, sign, kept.lo().and(1), rest, i64(half));
      return { rounded: c.let(kept.add(up.zx())), inexact: c.let(rest.bool()) };
    };
    const full = cut(s);
    const carry = c.let(full.rounded.shrU(t.fraction + 1).lo());
    c.if(field.get().leS(0), () => {
      // Tiny: below the smallest normal number even after rounding as if the exponent had no bound.
      const tiny = c.let(field.get().ltS(0).or(carry.eqz()));
      c.if(tiny, () => {
        c.if(mxcsr.and(MXCSR.UM).eqz(), () => {
          c.return(0, select(full.inexact, i32(MXCSR.UE | MXCSR.PE), MXCSR.UE));
        });
        c.if(mxcsr.and(MXCSR.FTZ), () => c.return(withSign(sign, t, 0n), MXCSR.UE | MXCSR.PE));
      });
      const denormal = cut(c.let(shiftSticky(c, s, i32(1).sub(field.get()))));
      const flags = select(tiny, i32(MXCSR.UE | MXCSR.PE), MXCSR.PE);
      c.return(withSign(sign, t, denormal.rounded), select(denormal.inexact, flags, 0));
    });
    field.set(field.get().add(carry));
    c.if(field.get().geS(t.special), () => {
      const toInfinity = c.let(rc.eqz().or(rc.eq(select(sign, i32(RC.DOWN), RC.UP))));
      const magnitude = select(toInfinity, i64(infinity(t)), infinity(t) - 1n);
      const inexact = full.inexact.or(mxcsr.and(MXCSR.OM).bool());
      c.return(withSign(sign, t, magnitude), select(inexact, i32(MXCSR.OE | MXCSR.PE), MXCSR.OE));
    });
    const magnitude = c.let(full.rounded.shrU(carry.zx()));
    const bits = field.get().sub(1).zx().shl(t.fraction).add(magnitude);
    c.return(withSign(sign, t, bits), full.inexact.shl(5));
  });
}

function define(m: Module, t: Format): SoftFloat {
  const name = (s: string) => `soft.${s}${t.bits}`;
  const binaryType = [["i64", "i64", "i32"], ["i64", "i32"]] as const;
  const fractionMask = (1n << BigInt(t.fraction)) - 1n;

  const unpack = m.func(name("unpack"), ["i64", "i32"], ["i32", "i32", "i64"], (c) => {
    const x = c.param(0), mxcsr = c.param(1);
    const exponent = c.let(x.shrU(t.fraction).lo().and(t.special));
    const fraction = c.let(x.and(fractionMask));
    c.if(exponent.eqz(), () => {
      c.if(fraction.eqz().or(mxcsr.and(MXCSR.DAZ)), () => c.return(KIND.ZERO, -30000, 0));
      const shift = c.let(fraction.clz().sub(1));
      c.return(KIND.DENORMAL, i32(63 - t.fraction - t.bias).sub(shift.lo()), fraction.shl(shift));
    });
    c.if(exponent.eq(t.special), () => {
      c.if(fraction.eqz(), () => c.return(KIND.INF, 0, 0));
      c.return(select(fraction.and(quietBit(t)).bool(), i32(KIND.QNAN), KIND.SNAN), 0, 0);
    });
    c.return(KIND.NORMAL, exponent.sub(t.bias), fraction.or(fractionMask + 1n).shl(62 - t.fraction));
  });

  const round = defineRound(m, t);

  type Parts = { sign: Value; kind: Value; exponent: Value; s: Value };
  const take = (c: Code, x: Value, mxcsr: Value): Parts => {
    const [kind, exponent, s] = c.call(unpack, x, mxcsr) as [Value, Value, Value];
    return { sign: c.let(signOf(x, t)), kind, exponent, s };
  };
  const invalid = (c: Code) => c.return(indefinite(t), MXCSR.IE);
  /** The first NaN, made quiet. */
  const propagate = (c: Code, x: Value, a: Parts, y?: Value, b?: Parts) => {
    const kinds = c.let(b ? a.kind.or(b.kind) : a.kind);
    c.if(kinds.and(KIND.NAN), () => {
      const first = y && b ? select(a.kind.and(KIND.NAN), x, y) : x;
      c.return(first.or(quietBit(t)), kinds.shrU(5));
    });
    return { kinds, denormal: c.let(kinds.and(KIND.DENORMAL).shrU(1)) };
  };
  /** Rounds and returns with more flags. */
  const finish = (c: Code, sign: Value, exponent: Value, s: Value, mxcsr: Value, flags: Value) => {
    const [bits, more] = c.call(round, sign, exponent, s, mxcsr) as [Value, Value];
    c.return(bits, more.or(flags));
  };

  const add = m.func(name("add"), ...binaryType, (c) => {
    const x = c.param(0), y = c.param(1), mxcsr = c.param(2);
    const a = take(c, x, mxcsr), b = take(c, y, mxcsr);
    const { kinds, denormal } = propagate(c, x, a, y, b);
    const differ = c.let(a.sign.xor(b.sign));
    const down = c.let(mxcsr.and(MXCSR.RC).eq(RC.DOWN << 13));
    c.if(kinds.and(KIND.INF), () => {
      c.if(a.kind.and(b.kind).and(KIND.INF).bool().and(differ), () => invalid(c));
      c.return(select(a.kind.and(KIND.INF), x, y), denormal);
    });
    c.if(kinds.eq(KIND.ZERO), () => c.return(withSign(select(differ, down, a.sign), t, 0n), 0));
    // The one with the greater exponent first.
    const swap = c.let(a.exponent.ltS(b.exponent));
    const big = c.let(select(swap, b.s, a.s)), small = c.let(select(swap, a.s, b.s));
    const exponent = c.let(select(swap, b.exponent, a.exponent));
    const distance = exponent.sub(select(swap, a.exponent, b.exponent));
    const aligned = shiftSticky(c, small, c.let(distance));
    const sign = c.variable("i32", select(swap, b.sign, a.sign));
    c.if(differ.eqz(), () => {
      const sum = c.let(big.add(aligned)), carry = c.let(sum.shrU(63));
      finish(c, sign.get(), exponent.add(carry.lo()), sum.shrU(carry).or(sum.and(carry)), mxcsr, denormal);
    });
    const difference = c.variable("i64", big.sub(aligned));
    c.if(difference.get().eqz(), () => c.return(withSign(down, t, 0n), denormal));
    c.if(difference.get().ltS(0), () => {
      difference.set(difference.get().neg());
      sign.set(sign.get().xor(1));
    });
    const shift = c.let(difference.get().clz().sub(1));
    finish(c, sign.get(), exponent.sub(shift.lo()), difference.get().shl(shift), mxcsr, denormal);
  });

  const sub = m.func(name("sub"), ...binaryType, (c) => {
    const y = c.param(1);
    const isNan = y.and(signBit(t) - 1n).gtU(infinity(t));
    const [bits, flags] = c.call(add, c.param(0), select(isNan, y, y.xor(signBit(t))), c.param(2)) as [Value, Value];
    c.return(bits, flags);
  });

  const mul = m.func(name("mul"), ...binaryType, (c) => {
    const x = c.param(0), y = c.param(1), mxcsr = c.param(2);
    const a = take(c, x, mxcsr), b = take(c, y, mxcsr);
    const { kinds, denormal } = propagate(c, x, a, y, b);
    const sign = c.let(a.sign.xor(b.sign));
    c.if(kinds.and(KIND.INF), () => {
      c.if(kinds.and(KIND.ZERO), () => invalid(c));
      c.return(withSign(sign, t, infinity(t)), denormal);
    });
    c.if(kinds.and(KIND.ZERO), () => c.return(withSign(sign, t, 0n), denormal));
    // 128-bit product from four of 32 × 32 bits; the leading one is bit 124 or 125.
    const al = c.let(a.s.and(0xffff_ffff)), ah = c.let(a.s.shrU(32));
    const bl = c.let(b.s.and(0xffff_ffff)), bh = c.let(b.s.shrU(32));
    const ll = c.let(al.mul(bl)), lh = c.let(al.mul(bh)), hl = c.let(ah.mul(bl));
    const middle = c.let(ll.shrU(32).add(lh.and(0xffff_ffff)).add(hl.and(0xffff_ffff)));
    const high = c.let(ah.mul(bh).add(lh.shrU(32)).add(hl.shrU(32)).add(middle.shrU(32)));
    const lowBits = c.let(middle.shl(32).or(ll.and(0xffff_ffff)));
    const shift = c.let(high.clz().sub(1));
    // Bits that come in from below, and whether any are left.
    const s = high.shl(shift).or(lowBits.shrU(i64(64).sub(shift))).or(lowBits.shl(shift).bool().zx());
    finish(c, sign, a.exponent.add(b.exponent).add(2).sub(shift.lo()), c.let(s), mxcsr, denormal);
  });

  const div = m.func(name("div"), ...binaryType, (c) => {
    const x = c.param(0), y = c.param(1), mxcsr = c.param(2);
    const a = take(c, x, mxcsr), b = take(c, y, mxcsr);
    const { denormal } = propagate(c, x, a, y, b);
    const sign = c.let(a.sign.xor(b.sign));
    c.if(a.kind.and(b.kind).and(KIND.ZERO | KIND.INF), () => invalid(c));
    c.if(a.kind.eq(KIND.INF), () => c.return(withSign(sign, t, infinity(t)), denormal));
    c.if(b.kind.eq(KIND.ZERO), () => c.return(withSign(sign, t, infinity(t)), MXCSR.ZE));
    c.if(a.kind.eq(KIND.ZERO).or(b.kind.eq(KIND.INF)), () => c.return(withSign(sign, t, 0n), denormal));
    const remainder = c.variable("i64", a.s), quotient = c.variable("i64", 0), n = c.variable("i32", 63);
    c.loop((again) => {
      quotient.set(quotient.get().shl(1));
      c.if(remainder.get().geU(b.s), () => {
        remainder.set(remainder.get().sub(b.s));
        quotient.set(quotient.get().or(1));
      });
      remainder.set(remainder.get().shl(1));
      n.set(n.get().sub(1));
      c.brIf(again, n.get());
    });
    // The first bit is the integer part: the leading one is bit 62 or 61.
    const shift = c.let(quotient.get().clz().sub(1));
    const s = c.let(quotient.get().shl(shift).or(remainder.get().bool().zx()));
    finish(c, sign, a.exponent.sub(b.exponent).sub(shift.lo()), s, mxcsr, denormal);
  });

  const sqrt = m.func(name("sqrt"), ["i64", "i32"], ["i64", "i32"], (c) => {
    const x = c.param(0), mxcsr = c.param(1);
    const a = take(c, x, mxcsr);
    const { denormal } = propagate(c, x, a);
    c.if(a.kind.eq(KIND.ZERO), () => c.return(withSign(a.sign, t, 0n), 0));
    c.if(a.sign, () => invalid(c));
    c.if(a.kind.eq(KIND.INF), () => c.return(x, 0));
    // Two bits of the radicand a step. An odd exponent takes one bit more, so that the integer part is 1..3.
    const odd = c.let(a.exponent.and(1));
    const radicand = c.variable("i64", a.s.shl(odd.zx()));
    const remainder = c.variable("i64", 0), root = c.variable("i64", 0), n = c.variable("i32", 58);
    c.loop((again) => {
      remainder.set(remainder.get().shl(2).or(radicand.get().shrU(62)));
      radicand.set(radicand.get().shl(2));
      const trial = c.let(root.get().shl(2).or(1));
      root.set(root.get().shl(1));
      c.if(remainder.get().geU(trial), () => {
        remainder.set(remainder.get().sub(trial));
        root.set(root.get().or(1));
      });
      n.set(n.get().sub(1));
      c.brIf(again, n.get());
    });
    // 58 bits of root: the leading one is bit 57.
    const s = c.let(root.get().shl(5).or(remainder.get().or(radicand.get()).bool().zx()));
    finish(c, i32(0), a.exponent.sub(odd).shrS(1), s, mxcsr, denormal);
  });

  return { unpack, round, add, sub, mul, div, sqrt };
}

/** The functions of a module, for single and double precision. */
export interface SoftFloats {
  readonly 32: SoftFloat;
  readonly 64: SoftFloat;
}
export function defineSoftFloat(m: Module): SoftFloats {
  return { 32: define(m, SINGLE), 64: define(m, DOUBLE) };
}
