/**
 * Flags of a result whose CF, OF and AF take several operations: formulas over what the instruction leaves, for who asks.
 *
 * The interpreter uses them at once. A compiled region keeps the ingredients instead, as most flags are overwritten unread and
 * live only as long because an access to memory may fault before that.
 */
import type { Code } from "../../wasm/code.ts";
import type { Func } from "../../wasm/module.ts";
import { i32, type Value } from "../../wasm/value.ts";
import { AF, OF } from "./state.ts";

/** What a formula may use: the result and `a`, `b` are i64, the result sign-extended; `extra` is an i32. All are leaves. */
export interface Ingredients {
  readonly result: Value;
  readonly a: Value;
  readonly b: Value;
  readonly extra: Value;
}

interface Formula {
  /** CF as 0 or 1. */
  cf(x: Ingredients, size: number, more: Helpers): Value;
  /** OF and AF at their places, given CF; `cf` is a leaf. */
  rest(x: Ingredients, size: number, cf: Value, more: Helpers): Value;
}
/** What formulas call. */
export interface Helpers {
  readonly c: Code;
  readonly mulHighS: Func;
}

const at = (bit: Value, flag: number) => bit.shl(Math.log2(flag));
const step = (by: 1 | -1): Formula => ({
  // `extra` is the CF from before, which stays. OF when the result is the most negative (INC) or the most positive (DEC) number.
  cf: ({ extra }) => extra,
  rest: ({ result }, size) => {
    const edge = by > 0 ? -(2n ** BigInt(size - 1)) : 2n ** BigInt(size - 1) - 1n;
    return at(result.eq(edge), OF).or(at(result.lo().and(15).eq(by > 0 ? 0 : 15), AF));
  },
});
/** CF, OF and AF from the carries out of each bit. */
const carries = (vector: (x: Ingredients) => Value): Formula => ({
  cf: (x, size) => vector(x).bit(size - 1),
  rest: (x, size, cf, { c }) => {
    const v = c.let(vector(x));
    return at(cf.xor(v.bit(size - 2)), OF).or(v.lo().shl(1).and(AF));
  },
});

export const LATE = {
  INC: step(1),
  DEC: step(-1),
  // Of a by b places, which are not 0. `a` is zero-extended, for SAR sign-extended. A count above the size pushes zeros into CF.
  SHL: {
    cf: ({ a, b }, size) => size === 64 ? a.shl(b.sub(1)).shrU(63).lo() : a.shl(b).bit(size),
    rest: ({ result }, _size, cf) => at(cf.xor(result.shrU(63).lo()), OF),
  },
  // OF of a one-bit SHR is the old sign; of SAR zero. For longer counts it is undefined, and this is as good.
  SHR: {
    cf: ({ a, b }) => a.shrU(b.sub(1)).lo().and(1),
    rest: ({ a }, size) => at(a.bit(size - 1), OF),
  },
  SAR: { cf: ({ a, b }) => a.shrS(b.sub(1)).lo().and(1), rest: () => i32(0) },
  // `a` is what was rotated to; the result and AF, in `extra`, are from before.
  ROL: {
    cf: ({ a }) => a.lo().and(1),
    rest: ({ a, extra }, size, cf) => at(cf.xor(a.bit(size - 1)), OF).or(extra),
  },
  ROR: {
    cf: ({ a }, size) => a.bit(size - 1),
    rest: ({ a, extra }, size, cf) => at(cf.xor(a.bit(size - 2)), OF).or(extra),
  },
  // Of the sign-extended factors.
  IMUL: {
    cf: ({ result, a, b }, size, { c, mulHighS }) => {
      if (size === 64) return c.call1(mulHighS, a, b).ne(result.shrS(63));
      const product = c.let(a.mul(b));
      return product.ne(result);
    },
    rest: (_x, _size, cf) => at(cf, OF),
  },
  ADC: carries(({ result, a, b }) => a.and(b).or(a.or(b).and(result.not()))),
  SBB: carries(({ result, a, b }) => a.not().and(b).or(a.not().or(b).and(result))),
} as const satisfies Record<string, Formula>;

export type LateName = keyof typeof LATE;
export interface Late {
  readonly name: LateName;
  readonly size: number;
}

export function lateCf({ name, size }: Late, x: Ingredients, more: Helpers): Value {
  return more.c.let((LATE[name] as Formula).cf(x, size, more));
}
/** CF, OF and AF at their places. */
export function lateBits(late: Late, x: Ingredients, more: Helpers): Value {
  const cf = lateCf(late, x, more);
  return cf.or((LATE[late.name] as Formula).rest(x, late.size, cf, more));
}
