/**
 * Fused multiply-add in WebAssembly's arithmetic, for ordinary numbers and MXCSR's default: [boldo08].
 *
 * Singles: the product is exact in double precision; the sum, rounded to odd, may be rounded again. Doubles: the product as two
 * numbers, all sums with their errors, and only what is left over at the end rounded to odd. What could overflow or underflow on
 * the way takes the slow path, and so do results that are zero, whose sign is not looked at here.
 */
import { f32, f64, i64, v128, type Value } from "../../../wasm/value.ts";
import type { Ops } from "../ops.ts";
import { MXCSR } from "./soft_float.ts";
import { Checks, fromFloat, isDefault, PD, type Quick, SD, type Shape, toFloat } from "./float.ts";
import { allDwords, allQwords, dwords, lanes, qwords, zeros } from "./vector.ts";

/** A sum and what rounding it has lost, both exact. Operands are leaves. */
function twoSum(o: Ops, check: Checks, a: Value, b: Value): [Value, Value] {
  const s = o.let(check.op("add", a, b)), part = o.let(check.op("sub", s, a));
  const lost = o.let(check.op("sub", a, o.let(check.op("sub", s, part))));
  return [s, o.let(check.op("add", lost, o.let(check.op("sub", b, part))))];
}

/** s moved to its neighbour on the side of `rest`, unless that is zero or s is odd already. */
function toOdd(o: Ops, shape: Shape, s: Value, rest: Value): Value {
  if (shape.packed) {
    const inexact = rest.op("f64x2.ne", zeros()), even = s.and(allQwords(1n)).op("i64x2.eq", zeros());
    const step = rest.xor(s).op("i64x2.shr_s", 63).or(allQwords(1n));
    return o.let(s.op("i64x2.add", o.let(step.and(inexact).and(even))));
  }
  const bits = o.let(s.op("i64.reinterpret_f64"));
  const moves = rest.op("f64.ne", f64(0)).and(bits.lo().and(1).eqz()).zx();
  const step = o.let(rest.op("i64.reinterpret_f64").xor(bits).shrS(63).or(1));
  return o.let(bits.add(step.mul(moves)).op("f64.reinterpret_i64"));
}

const constant = (shape: Shape, x: number): Value => {
  if (shape.packed) return v128(new Uint8Array(new Float64Array(2).fill(x).buffer));
  return shape.format.bits === 64 ? f64(x) : f32(x);
};
const isZero = (shape: Shape, v: Value) => new Checks(shape).isZero(v);

/** x × y + z in double precision: the result, whether it is exact, and whether the way there held; masks or conditions. */
function fusedDouble(o: Ops, shape: Shape, x: Value, y: Value, z: Value): { r: Value; exact: Value; safe: Value } {
  const check = new Checks(shape), c = (n: number) => constant(shape, n);
  const op = (name: string, a: Value, b: Value) => o.let(check.op(name, a, b));
  const within = (v: Value, low: number, high: number) =>
    check.op("gt", check.abs(v), c(low)).and(check.below(v, high)).or(isZero(shape, v));
  const split = (v: Value): [Value, Value] => {
    const t = op("mul", v, c(2 ** 27 + 1)), high = op("sub", t, op("sub", t, v));
    return [high, op("sub", v, high)];
  };
  const [xh, xl] = split(x), [yh, yl] = split(y), p = op("mul", x, y);
  const cross = op("sub", op("sub", op("sub", p, op("mul", xh, yh)), op("mul", xl, yh)), op("mul", xh, yl));
  const rest = op("sub", op("mul", xl, yl), cross);
  const [th, tl] = twoSum(o, check, z, rest);
  const [vh, vl] = twoSum(o, check, p, th);
  const [s, lost] = twoSum(o, check, tl, vl);
  const odd = toOdd(o, shape, s, lost);
  const [r, end] = twoSum(o, check, vh, odd);
  return {
    r,
    exact: o.let(isZero(shape, lost).and(isZero(shape, end))),
    safe: o.let(
      within(x, 2 ** -480, 2 ** 480).and(within(y, 2 ** -480, 2 ** 480)).and(within(z, 2 ** -960, 2 ** 1000)),
    ),
  };
}

/** Two singles in a vector of doubles (or one): the sum rounded to odd, and whether it is exact. */
function fusedSingles(o: Ops, shape: Shape, x: Value, y: Value, z: Value): { s: Value; exact: Value } {
  const check = new Checks(shape);
  const [s, rest] = twoSum(o, check, o.let(check.op("mul", x, y)), z);
  return { s: toOdd(o, shape, s, rest), exact: o.let(isZero(shape, rest)) };
}

/** The sign bits that the FMA bits of `how` change, of the addend: bit 1 in all lanes, bit 2 in the even ones. */
function addendSigns(o: Ops, shape: Shape, how: Value): Value {
  const all = o.let(how.shrU(1).and(1).neg()), even = o.let(how.shrU(2).and(1).neg());
  if (!shape.packed) {
    const one = all.xor(even);
    return shape.format.bits === 64 ? o.let(one.sx().and(i64(1n << 63n))) : o.let(one.and(1 << 31));
  }
  const double = shape.format.bits === 64;
  const every = double ? allQwords(1n << 63n) : allDwords(0x8000_0000);
  const some = double ? qwords(1n << 63n, 0n) : dwords(0x8000_0000, 0, 0x8000_0000, 0);
  return o.let(all.op("i32x4.splat").and(every).xor(even.op("i32x4.splat").and(some)));
}
function productSign(o: Ops, shape: Shape, how: Value): Value {
  const all = o.let(how.and(1).neg());
  if (shape.packed) {
    const every = shape.format.bits === 64 ? allQwords(1n << 63n) : allDwords(0x8000_0000);
    return o.let(all.op("i32x4.splat").and(every));
  }
  return shape.format.bits === 64 ? o.let(all.sx().and(i64(1n << 63n))) : o.let(all.and(1 << 31));
}

/** The fast path of every fused multiply-add. Operands as they arrive: vectors, or the integers of scalars. */
export function quickFma(o: Ops, shape: Shape, x: Value, y: Value, z: Value, how: Value): Quick {
  const check = new Checks(shape), mxcsr = o.ld32("mxcsr");
  const [a, b, c] = [o.let(x.xor(productSign(o, shape, how))), y, o.let(z.xor(addendSigns(o, shape, how)))]
    .map((v) => o.let(toFloat(v, shape))) as [Value, Value, Value];
  let r: Value, exact: Value, good: Value;
  if (shape.format.bits === 64) {
    const f = fusedDouble(o, shape, a, b, c);
    r = f.r;
    exact = check.all(f.exact);
    good = check.all(f.safe.and(check.plain(r)));
  } else if (!shape.packed) {
    const wide = [a, b, c].map((v) => o.let(v.op("f64.promote_f32"))) as [Value, Value, Value];
    const f = fusedSingles(o, SD, ...wide);
    r = o.let(f.s.op("f32.demote_f64"));
    exact = f.exact.and(r.op("f64.promote_f32").op("f64.eq", f.s));
    good = check.ordinary(a).and(check.ordinary(b)).and(check.ordinary(c)).and(check.plain(r));
  } else {
    const parts = [lanes(4, 0, 1, 2, 3), lanes(4, 2, 3, 0, 1)].map((order) => {
      const wide = [a, b, c].map((v) => o.let(v.shuffle(v, order).op("f64x2.promote_low_f32x4"))) as [
        Value,
        Value,
        Value,
      ];
      const f = fusedSingles(o, PD, ...wide), r = o.let(f.s.op("f32x4.demote_f64x2_zero"));
      const same = o.let(f.exact.and(r.op("f64x2.promote_low_f32x4").op("f64x2.eq", f.s)));
      return { r, exact: same };
    });
    r = o.let(parts[0]!.r.shuffle(parts[1]!.r, lanes(8, 0, 2)));
    exact = parts[0]!.exact.op("i64x2.all_true").and(parts[1]!.exact.op("i64x2.all_true"));
    good = check.all(check.ordinary(a).and(check.ordinary(b)).and(check.ordinary(c)).and(check.plain(r)));
  }
  const quiet = mxcsr.and(MXCSR.PE).bool().or(exact.bool());
  return { good: isDefault(mxcsr).and(good.bool()).and(quiet), result: () => fromFloat(r, shape) };
}
