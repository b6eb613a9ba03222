/** 64 × 64 → 128 and 128 / 64 → 64: WebAssembly has neither. */
import type { Code } from "../../../wasm/code.ts";
import type { Module } from "../../../wasm/module.ts";
import { i64, select, type Value } from "../../../wasm/value.ts";
import type { CpuFuncs } from "../ops.ts";

const LOW = 0xffff_ffff;

export interface Wide {
  readonly hi: Value;
  readonly lo: Value;
}

export function defineWide(m: Module, f: CpuFuncs): void {
  // (a, b) → high and low half of the product.
  f.more.set(
    "wide.mul",
    m.func("wide.mul", ["i64", "i64"], ["i64", "i64"], (c) => {
      const a = c.param(0), b = c.param(1);
      const a0 = c.let(a.and(LOW)), a1 = c.let(a.shrU(32)), b0 = c.let(b.and(LOW)), b1 = c.let(b.shrU(32));
      const p00 = c.let(a0.mul(b0)), p01 = c.let(a0.mul(b1)), p10 = c.let(a1.mul(b0));
      const middle = c.let(p00.shrU(32).add(p01.and(LOW)).add(p10.and(LOW)));
      c.return(
        a1.mul(b1).add(p01.shrU(32)).add(p10.shrU(32)).add(middle.shrU(32)),
        middle.shl(32).or(p00.and(LOW)),
      );
    }),
  );
  // (hi, lo, d) → quotient, remainder; hi < d, and the top bit of d is set. Two digits of 32 bits: [knuth2 4.3.1 D].
  f.more.set(
    "wide.div",
    m.func("wide.div", ["i64", "i64", "i64"], ["i64", "i64"], (c) => {
      const d = c.param(2), d1 = c.let(d.shrU(32)), d0 = c.let(d.and(LOW));
      const digit = (rest: Value, next: Value): { q: Value; r: Value } => {
        const q = c.variable("i64", rest.divU(d1)), r = c.variable("i64");
        r.set(rest.sub(q.get().mul(d1)));
        // At most two too large.
        for (let i = 0; i < 2; i++) {
          const over = q.get().gtU(LOW).or(q.get().mul(d0).gtU(r.get().shl(32).or(next)));
          c.if(over.and(r.get().leU(LOW)), () => {
            q.set(q.get().sub(1));
            r.set(r.get().add(d1));
          });
        }
        return { q: q.get(), r: c.let(rest.shl(32).or(next).sub(q.get().mul(d))) };
      };
      const first = digit(c.param(0), c.let(c.param(1).shrU(32)));
      const second = digit(first.r, c.let(c.param(1).and(LOW)));
      c.return(first.q.shl(32).or(second.q), second.r);
    }),
  );
}

export function mulWide(c: Code, f: CpuFuncs, a: Value, b: Value): Wide {
  const [hi, lo] = c.call(f.more.get("wide.mul")!, a, b);
  return { hi: hi!, lo: lo! };
}
/** Quotient and remainder of (hi:lo) / d, with hi < d and d's top bit set. */
export function divWide(c: Code, f: CpuFuncs, hi: Value, lo: Value, d: Value): { q: Value; r: Value } {
  const [q, r] = c.call(f.more.get("wide.div")!, hi, lo, d);
  return { q: q!, r: r! };
}
export function addWide(c: Code, a: Wide, b: Wide): Wide {
  const lo = c.let(a.lo.add(b.lo));
  return { lo, hi: c.let(a.hi.add(b.hi).add(lo.ltU(b.lo).zx())) };
}
export function subWide(c: Code, a: Wide, b: Wide): Wide {
  return { hi: c.let(a.hi.sub(b.hi).sub(a.lo.ltU(b.lo).zx())), lo: c.let(a.lo.sub(b.lo)) };
}
export const wide = (v: bigint): Wide => ({ hi: i64(v >> 64n), lo: i64(v) });

/** Functions on 128-bit fractions. */
export function defineFractions(m: Module, f: CpuFuncs): void {
  const four = ["i64", "i64", "i64", "i64"] as const;
  // The upper half of a 256-bit product, up to 3 units too small.
  f.more.set(
    "wide.mulHigh",
    m.func("wide.mulHigh", four, ["i64", "i64"], (c) => {
      const aHi = c.param(0), aLo = c.param(1), bHi = c.param(2), bLo = c.param(3);
      const top = mulWide(c, f, aHi, bHi);
      const left = mulWide(c, f, aHi, bLo), right = mulWide(c, f, aLo, bHi);
      const sum = addWide(c, addWide(c, top, { hi: i64(0), lo: left.hi }), { hi: i64(0), lo: right.hi });
      c.return(sum.hi, sum.lo);
    }),
  );
  // The fraction a / b, cut off; a < b.
  f.more.set(
    "wide.ratio",
    m.func("wide.ratio", four, ["i64", "i64"], (c) => {
      const bHi = c.param(2), bLo = c.param(3);
      const hi = c.paramVar(0), lo = c.paramVar(1);
      const qHi = c.variable("i64", 0), qLo = c.variable("i64", 0), i = c.variable("i32", 128);
      c.loop((again) => {
        const carry = c.let(hi.get().shrU(63).lo());
        hi.set(hi.get().shl(1).or(lo.get().shrU(63)));
        lo.set(lo.get().shl(1));
        const fits = c.let(carry.or(hi.get().gtU(bHi)).or(hi.get().eq(bHi).and(lo.get().geU(bLo))));
        c.if(fits, () => {
          hi.set(hi.get().sub(bHi).sub(lo.get().ltU(bLo).zx()));
          lo.set(lo.get().sub(bLo));
        });
        qHi.set(qHi.get().shl(1).or(qLo.get().shrU(63)));
        qLo.set(qLo.get().shl(1).or(fits.zx()));
        i.set(i.get().sub(1));
        c.brIf(again, i.get());
      });
      c.return(qHi.get(), qLo.get());
    }),
  );
}

export function mulHigh(c: Code, f: CpuFuncs, a: Wide, b: Wide): Wide {
  const [hi, lo] = c.call(f.more.get("wide.mulHigh")!, a.hi, a.lo, b.hi, b.lo);
  return { hi: hi!, lo: lo! };
}
export function ratio(c: Code, f: CpuFuncs, a: Wide, b: Wide): Wide {
  const [hi, lo] = c.call(f.more.get("wide.ratio")!, a.hi, a.lo, b.hi, b.lo);
  return { hi: hi!, lo: lo! };
}
/** a / b for mantissas with their top bits set: the exponent is that of the quotient's top bit, 0 or -1, or one more than it. */
export function quotient(c: Code, f: CpuFuncs, a: Wide, b: Wide): Wide & { exp: Value } {
  const large = c.let(a.hi.gtU(b.hi).or(a.hi.eq(b.hi).and(a.lo.geU(b.lo))));
  const half: Wide = {
    hi: c.let(select(large, a.hi.shrU(1), a.hi)),
    lo: c.let(select(large, a.lo.shrU(1).or(a.hi.shl(63)), a.lo)),
  };
  return { ...ratio(c, f, half, b), exp: large.sub(1) };
}

/**
 * Defines name(z) = z × (c0 ± z × (c1 ± z × (…))) on fractions: the signs are all + for 1, and − for -1. Every partial sum must
 * be a fraction itself.
 */
export function definePolynomial(
  m: Module,
  f: CpuFuncs,
  name: string,
  coefficients: readonly bigint[],
  sign: 1 | -1,
): void {
  f.more.set(
    name,
    m.func(name, ["i64", "i64"], ["i64", "i64"], (c) => {
      const z: Wide = { hi: c.param(0), lo: c.param(1) };
      const last = coefficients.length - 1;
      let sum = wide(coefficients[last]!);
      for (let i = last - 1; i >= 0; i--) {
        const product = mulHigh(c, f, z, sum);
        sum = (sign > 0 ? addWide : subWide)(c, wide(coefficients[i]!), product);
      }
      const r = mulHigh(c, f, z, sum);
      c.return(r.hi, r.lo);
    }),
  );
}
export function polynomial(c: Code, f: CpuFuncs, name: string, z: Wide): Wide {
  const [hi, lo] = c.call(f.more.get(name)!, z.hi, z.lo);
  return { hi: hi!, lo: lo! };
}
export const notWide = (a: Wide): Wide => ({ hi: a.hi.not(), lo: a.lo.not() });
