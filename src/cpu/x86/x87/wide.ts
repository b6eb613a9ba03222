/** 64 × 64 → 128 and 128 / 64 → 64: WebAssembly has neither. */
import type { Code } from "../../../wasm/code.ts";
import type { Module } from "../../../wasm/module.ts";
import { i64, type Value } from "../../../wasm/value.ts";
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
