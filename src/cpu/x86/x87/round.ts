/**
 * Rounding, once and exactly: [sdm1 4.8.4, 4.9.1].
 *
 * What is to be rounded is hi:lo, 128 bits with the top bit set and the last bit sticky; it stands for hi.lo × 2^(exp - bias - 63)
 * with hi read as an integer.
 */
import type { Code } from "../../../wasm/code.ts";
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import type { CpuFuncs } from "../ops.ts";
import { type Float, fpuFunc, FSW, ONE, RC } from "./fpu.ts";

/** What FCW's precision control drops of 64 bits: 40 for 24, 11 for 53, 0 for 64. */
export const DROP = { SINGLE: 40, DOUBLE: 11, EXTENDED: 0 } as const;
/** The greatest exponent, that of infinity. */
export const MAX_EXP = { SINGLE: 0xff, DOUBLE: 0x7ff, EXTENDED: 0x7fff } as const;
/** What an unmasked overflow or underflow takes from or adds to the exponent. */
const ADJUST = 0x6000;

/** Whether to round away from zero. `rest`: what is dropped, 1/2 at the top bit; `odd`: last bit kept; `negative`: 0 or 1. */
export function roundsUp(rc: Value, negative: Value, rest: Value, odd: Value): Value {
  const near = rest.gtU(ONE).or(rest.eq(ONE).and(odd));
  // DOWN (1) grows what is negative, UP (2) what is positive.
  const directed = rest.bool().and(rc.eq(i32(RC.UP).sub(negative)));
  return select(rc, directed, near);
}

/** hi:lo shifted right by n ≥ 0, what falls out kept as a sticky last bit. */
export function shiftRightSticky(c: Code, hi: Value, lo: Value, n: Value): { hi: Value; lo: Value } {
  const h = c.variable("i64", hi), l = c.variable("i64", lo);
  const low = (lost: Value, kept: Value) => l.set(kept.or(lost.bool().zx()));
  c.if(n.geU(128), () => {
    l.set(h.get().or(l.get()).bool().zx());
    h.set(0);
  }, () => {
    c.if(n.geU(64), () => {
      l.set(h.get().or(l.get().bool().zx()));
      h.set(0);
    });
    const k = c.let(n.and(63).zx());
    c.if(k.bool(), () => {
      const back = c.let(i64(0).sub(k));
      low(l.get().shl(back), h.get().shl(back).or(l.get().shrU(k)));
      h.set(h.get().shrU(k));
    });
  });
  return { hi: h.get(), lo: l.get() };
}

/** hi:lo (not 0) shifted left until its top bit is set; `exp` goes down with it. */
export function normalize(c: Code, exp: Value, hi: Value, lo: Value): { exp: Value; hi: Value; lo: Value } {
  const e = c.variable("i32", exp), h = c.variable("i64", hi), l = c.variable("i64", lo);
  c.if(h.get().eqz(), () => {
    h.set(l.get());
    l.set(0);
    e.set(e.get().sub(64));
  });
  const n = c.let(h.get().clz());
  c.if(n.bool(), () => {
    h.set(h.get().shl(n).or(l.get().shrU(i64(0).sub(n))));
    l.set(l.get().shl(n));
    e.set(e.get().sub(n.lo()));
  });
  return { exp: e.get(), hi: h.get(), lo: l.get() };
}

/** A finite number that is not 0, its exponent what it would be with the integer bit set. */
export function unpack(c: Code, x: Float): { exp: Value; sig: Value } {
  const e = c.let(x.se.and(0x7fff)), n = c.let(x.sig.clz());
  return { exp: c.let(select(e, e, 1).sub(n.lo())), sig: c.let(x.sig.shl(n)) };
}

export function defineRound(m: Module, f: CpuFuncs): void {
  // → what precision control drops.
  fpuFunc(m, f, "drop", [], ["i32"], (x) => {
    const c = x.c, pc = c.let(x.fcw().shrU(8).and(3));
    c.return(select(pc.eqz(), i32(DROP.SINGLE), select(pc.eq(2), i32(DROP.DOUBLE), 0)));
  });

  // (sign 0 or 0x8000, exp, hi, lo, drop, greatest exponent) → significand, sign and exponent. Raises OE, UE, PE, C1.
  // Unmasked overflow and underflow: the extended format gets its exponent adjusted, the others are not to be stored.
  fpuFunc(m, f, "pack", ["i32", "i32", "i64", "i64", "i32", "i32"], ["i64", "i32"], (x, ...p) => {
    const [sign, exp, hi, lo, drop, max] = p as [Value, Value, Value, Value, Value, Value];
    const c = x.c, rc = x.rc(), negative = c.let(sign.shrU(15));
    const h = c.variable("i64", hi), l = c.variable("i64", lo), e = c.variable("i32", exp);
    const sig = c.variable("i64"), rest = c.variable("i64"), up = c.variable("i32");

    /** Rounds h:l into sig; a carry out of the top doubles it. */
    const round = (carry: () => void) => {
      sig.set(h.get());
      rest.set(l.get());
      const ulp = c.let(i64(1).shl(drop.zx()));
      c.if(drop, () => {
        sig.set(h.get().and(i64(0).sub(ulp)));
        rest.set(h.get().shl(i64(64).sub(drop.zx())).or(l.get().bool().zx()));
      });
      up.set(roundsUp(rc, negative, rest.get(), sig.get().and(ulp).bool()));
      c.if(up.get(), () => {
        sig.set(sig.get().add(ulp));
        c.if(sig.get().ltU(ulp), carry);
      });
    };
    const inexact = () => {
      c.if(rest.get().bool(), () => x.raise(i32(FSW.PE).or(up.get().shl(9))));
    };
    const done = () => c.return(sig.get(), sign.or(e.get()));

    round(() => {
      sig.set(ONE);
      e.set(e.get().add(1));
    });
    c.if(e.get().geS(max), () => {
      x.raise(FSW.OE);
      c.if(x.masked(FSW.OE).eqz(), () => {
        c.if(max.eq(MAX_EXP.EXTENDED), () => {
          inexact();
          e.set(e.get().sub(ADJUST));
        });
        // FSCALE goes further than the adjustment reaches.
        c.if(e.get().geS(max), () => {
          c.if(max.eq(MAX_EXP.EXTENDED), () => x.raise(FSW.PE | FSW.C1));
          sig.set(ONE);
          e.set(max);
        });
        done();
      });
      const infinite = c.let(rc.eqz().or(rc.eq(i32(RC.UP).sub(negative))));
      c.if(infinite, () => {
        x.raise(FSW.PE | FSW.C1);
        c.return(ONE, sign.or(max));
      });
      x.raise(FSW.PE);
      c.return(i64(-1).shl(drop.zx()), sign.or(max.sub(1)));
    });
    c.if(e.get().leS(0), () => {
      c.if(x.masked(FSW.UE).eqz(), () => {
        x.raise(FSW.UE);
        c.if(max.eq(MAX_EXP.EXTENDED), () => {
          inexact();
          e.set(e.get().add(ADJUST));
        });
        c.if(e.get().leS(0), () => {
          c.if(max.eq(MAX_EXP.EXTENDED), () => x.raise(FSW.PE));
          sig.set(0);
          e.set(0);
        });
        done();
      });
      const shifted = shiftRightSticky(c, hi, lo, c.let(i32(1).sub(exp)));
      h.set(shifted.hi);
      l.set(shifted.lo);
      round(() => {});
      c.if(rest.get().bool(), () => x.raise(FSW.UE));
      // Rounded up to the least normal number, or denormal.
      e.set(sig.get().shrU(63).lo());
    });
    inexact();
    done();
  });

  // (sign, exp, hi, lo): to the extended format with the precision of FCW.
  fpuFunc(m, f, "packPc", ["i32", "i32", "i64", "i64"], ["i64", "i32"], (x, sign, exp, hi, lo) => {
    const [drop] = x.c.call(f.more.get("x87.drop")!, x.cpu);
    x.c.return(...x.c.call(f.more.get("x87.pack")!, x.cpu, sign!, exp!, hi!, lo!, drop!, MAX_EXP.EXTENDED));
  });

  // (number, rounding control) → magnitude, 1 if it does not fit 64 bits. Raises PE and C1. The number is finite.
  fpuFunc(m, f, "integer", ["i64", "i32", "i32"], ["i64", "i32"], (x, sig, se, rc) => {
    const c = x.c, exp = c.let(se!.and(0x7fff));
    c.if(sig!.eqz(), () => c.return(0, 0));
    c.if(exp.gtU(16383 + 63), () => c.return(0, 1));
    const { hi, lo } = shiftRightSticky(c, sig!, i64(0), c.let(i32(16383 + 63).sub(exp)));
    const up = c.let(roundsUp(rc!, se!.shrU(15), lo, hi.lo().and(1)));
    c.if(lo.bool(), () => x.raise(i32(FSW.PE).or(up.shl(9))));
    const r = c.let(hi.add(up.zx()));
    c.return(r, r.ltU(hi));
  });
}
