import { assertEquals } from "@std/assert";
import { Module } from "../../../wasm/module.ts";
import { defineSoftConvert } from "./soft_convert.ts";
import { defineSoftFloat, DOUBLE, type Format, indefinite, infinity, MXCSR, quietBit, SINGLE } from "./soft_float.ts";

type Result = readonly [bits: bigint, flags: number];
type Soft = (...args: (bigint | number)[]) => [bigint, number];

const soft: Record<string, Soft> = (() => {
  const m = new Module();
  const float = defineSoftFloat(m), convert = defineSoftConvert(m, float);
  for (const bits of [32, 64] as const) {
    for (const name of ["add", "sub", "mul", "div", "sqrt"] as const) m.export(float[bits][name], `${name}${bits}`);
    for (const name of ["fromInt", "toInt", "roundInt", "compare", "min", "max"] as const) {
      m.export(convert[bits][name], `${name}${bits}`);
    }
  }
  m.export(convert.narrow, "narrow");
  m.export(convert.widen, "widen");
  return new WebAssembly.Instance(new WebAssembly.Module(m.bytes())).exports as Record<string, Soft>;
})();
const call = (name: string, ...args: (bigint | number)[]): Result => {
  const [bits, flags] = soft[name]!(...args);
  return [typeof bits === "bigint" ? BigInt.asUintN(64, bits) : bits, flags];
};

// ---- the oracle: rational numbers ------------------------------------------------------------------------------------------

/** A number: sign, and numerator over denominator. */
interface Rational {
  readonly negative: boolean;
  readonly n: bigint;
  readonly d: bigint;
}

const fractionOf = (x: bigint, t: Format) => x & ((1n << BigInt(t.fraction)) - 1n);
const exponentOf = (x: bigint, t: Format) => Number((x >> BigInt(t.fraction)) & BigInt(t.special));
const negative = (x: bigint, t: Format) => ((x >> BigInt(t.bits - 1)) & 1n) === 1n;
const isNan = (x: bigint, t: Format) => exponentOf(x, t) === t.special && fractionOf(x, t) !== 0n;
const isSignalling = (x: bigint, t: Format) => isNan(x, t) && (x & quietBit(t)) === 0n;
const isInfinite = (x: bigint, t: Format) => exponentOf(x, t) === t.special && fractionOf(x, t) === 0n;
const isDenormal = (x: bigint, t: Format) => exponentOf(x, t) === 0 && fractionOf(x, t) !== 0n;
const signed = (minus: boolean, magnitude: bigint, t: Format) => magnitude | (minus ? 1n << BigInt(t.bits - 1) : 0n);
const power = (e: number): Rational =>
  e >= 0 ? { negative: false, n: 1n << BigInt(e), d: 1n } : { negative: false, n: 1n, d: 1n << BigInt(-e) };

function exact(x: bigint, t: Format): Rational {
  const e = exponentOf(x, t), hidden = e === 0 ? 0n : 1n << BigInt(t.fraction);
  const unit = power(Math.max(e, 1) - t.bias - t.fraction);
  return { negative: negative(x, t), n: (fractionOf(x, t) | hidden) * unit.n, d: unit.d };
}
/** Whole units in v, rounded as MXCSR says; whether exact. */
function units(v: Rational, unit: Rational, mxcsr: number): { whole: bigint; inexact: boolean } {
  const n = v.n * unit.d, d = v.d * unit.n;
  let whole = n / d;
  const rest = n % d, rc = (mxcsr >> 13) & 3;
  const up = rc === 0
    ? 2n * rest > d || (2n * rest === d && whole % 2n === 1n)
    : rc === 3
    ? false
    : rest !== 0n && (rc === 1) === v.negative;
  if (up) whole++;
  return { whole, inexact: rest !== 0n };
}
function floorLog2(v: Rational): number {
  let e = v.n.toString(2).length - v.d.toString(2).length;
  const less = (k: number) => v.n * power(k).d < v.d * power(k).n;
  if (less(e)) e--;
  return e;
}
/** A nonzero rational in format `t`, with the masked responses. */
function rounded(v: Rational, t: Format, mxcsr: number): Result {
  const e = floorLog2(v), least = 1 - t.bias;
  const free = units(v, power(e - t.fraction), mxcsr);
  const tiny = e < least && !(e === least - 1 && free.whole === 1n << BigInt(t.fraction + 1));
  if (tiny && !(mxcsr & MXCSR.UM)) return [0n, MXCSR.UE | (free.inexact ? MXCSR.PE : 0)];
  if (tiny && mxcsr & MXCSR.FTZ) return [signed(v.negative, 0n, t), MXCSR.UE | MXCSR.PE];
  const place = Math.max(e, least);
  const { whole, inexact } = units(v, power(place - t.fraction), mxcsr);
  const bits = (BigInt(place + t.bias - 1) << BigInt(t.fraction)) + whole;
  if (bits >= infinity(t)) {
    const rc = (mxcsr >> 13) & 3, away = rc === 0 || (rc !== 3 && (rc === 1) === v.negative);
    // An unmasked overflow is delivered before anything is rounded to the largest number.
    const flags = MXCSR.OE | (mxcsr & MXCSR.OM || free.inexact ? MXCSR.PE : 0);
    return [signed(v.negative, away ? infinity(t) : infinity(t) - 1n, t), flags];
  }
  return [signed(v.negative, bits, t), inexact ? MXCSR.PE | (tiny ? MXCSR.UE : 0) : 0];
}

type Op = "add" | "sub" | "mul" | "div";
function oracle(op: Op, x: bigint, y: bigint, t: Format, mxcsr: number): Result {
  if (isNan(x, t) || isNan(y, t)) {
    const flags = isSignalling(x, t) || isSignalling(y, t) ? MXCSR.IE : 0;
    return [(isNan(x, t) ? x : y) | quietBit(t), flags];
  }
  let de = 0;
  const operand = (v: bigint) => {
    if (!isDenormal(v, t)) return v;
    if (mxcsr & MXCSR.DAZ) return signed(negative(v, t), 0n, t);
    de = MXCSR.DE;
    return v;
  };
  const a = operand(x);
  let b = operand(y);
  if (op === "sub") b ^= 1n << BigInt(t.bits - 1);
  const zero = (v: bigint) => exponentOf(v, t) === 0 && fractionOf(v, t) === 0n;
  const invalid: Result = [indefinite(t), MXCSR.IE];
  const minus = negative(a, t) !== negative(b, t), down = ((mxcsr >> 13) & 3) === 1;
  if (op === "add" || op === "sub") {
    if (isInfinite(a, t)) return isInfinite(b, t) && minus ? invalid : [a, de];
    if (isInfinite(b, t)) return [b, de];
    const p = exact(a, t), q = exact(b, t);
    const sum = (p.negative ? -p.n : p.n) * q.d + (q.negative ? -q.n : q.n) * p.d;
    if (sum === 0n) {
      const sign = zero(a) && zero(b) && !minus ? negative(a, t) : down;
      return [signed(sign, 0n, t), de];
    }
    const [bits, flags] = rounded({ negative: sum < 0n, n: sum < 0n ? -sum : sum, d: p.d * q.d }, t, mxcsr);
    return [bits, flags | de];
  }
  const inf = signed(minus, infinity(t), t), nil = signed(minus, 0n, t);
  if (op === "mul") {
    if (isInfinite(a, t) || isInfinite(b, t)) return zero(a) || zero(b) ? invalid : [inf, de];
    if (zero(a) || zero(b)) return [nil, de];
  } else {
    if ((zero(a) && zero(b)) || (isInfinite(a, t) && isInfinite(b, t))) return invalid;
    if (isInfinite(a, t)) return [inf, de];
    if (zero(b)) return [inf, MXCSR.ZE];
    if (zero(a) || isInfinite(b, t)) return [nil, de];
  }
  const p = exact(a, t), q = exact(b, t);
  const v = op === "mul" ? { n: p.n * q.n, d: p.d * q.d } : { n: p.n * q.d, d: p.d * q.n };
  const [bits, flags] = rounded({ negative: minus, ...v }, t, mxcsr);
  return [bits, flags | de];
}

// ---- cases -----------------------------------------------------------------------------------------------------------------

let seed = 0x2545f491;
function random(): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return seed >>> 0;
}
const random64 = () => (BigInt(random()) << 32n) | BigInt(random());
/** Numbers at every edge, and random ones around them. */
function number(t: Format): bigint {
  const top = 1n << BigInt(t.fraction), max = infinity(t);
  const edges = [0n, 1n, top - 1n, top, top + 1n, max - 1n, max, max | 1n, max | quietBit(t), BigInt(t.bias) * top];
  const mask = (1n << BigInt(t.bits)) - 1n;
  const sign = random() & 1 ? 1n << BigInt(t.bits - 1) : 0n;
  switch (random() % 4) {
    case 0:
      return edges[random() % edges.length]! | sign;
    case 1:
      return random64() & mask;
    case 2:
      // Few significant bits near one: ties and exact results.
      return (BigInt(t.bias - 4 + random() % 8) * top + ((random64() & 7n) << BigInt(t.fraction - 3))) | sign;
    default:
      // Exponents near an end.
      return ((BigInt([1, 2, t.special - 2, t.special - 1, 30][random() % 5]!) * top) | (random64() & (top - 1n))) |
        sign;
  }
}
const mxcsrs = () => random() & 0xffc0;
const show = (r: Result) => `${r[0].toString(16)} ${r[1].toString(16)}`;

for (const t of [SINGLE, DOUBLE]) {
  for (const op of ["add", "sub", "mul", "div"] as const) {
    Deno.test(`${op} of ${t.bits} bits rounds and flags as rational arithmetic does`, () => {
      for (let i = 0; i < 4000; i++) {
        const a = number(t), b = i % 5 ? number(t) : a ^ (random64() & 3n), mxcsr = mxcsrs();
        assertEquals(
          show(call(op + t.bits, a, b, mxcsr)),
          show(oracle(op, a, b, t, mxcsr)),
          `${a.toString(16)} ${b.toString(16)} MXCSR ${mxcsr.toString(16)}`,
        );
      }
    });
  }

  Deno.test(`sqrt of ${t.bits} bits is the root rounded once`, () => {
    for (let i = 0; i < 2000; i++) {
      const a = number(t) & ((1n << BigInt(t.bits - 1)) - 1n), mxcsr = mxcsrs() | MXCSR.UM;
      if (isNan(a, t) || isInfinite(a, t) || a === 0n || (isDenormal(a, t) && mxcsr & MXCSR.DAZ)) continue;
      // The root times 2^600, with a half added if it goes on: never a tie, never exact.
      const v = exact(a, t), scaled = (v.n << 1200n) / v.d;
      let root = 0n;
      for (let bit = 1n << BigInt(Math.ceil(scaled.toString(2).length / 2)); bit; bit >>= 1n) {
        if ((root + bit) ** 2n <= scaled) root += bit;
      }
      const going = root * root !== scaled || (v.n << 1200n) % v.d !== 0n;
      const [bits, flags] = rounded({ negative: false, n: 2n * root + (going ? 1n : 0n), d: 1n << 601n }, t, mxcsr);
      const de = isDenormal(a, t) ? MXCSR.DE : 0;
      assertEquals(show(call(`sqrt${t.bits}`, a, mxcsr)), show([bits, flags | de]), `${a.toString(16)} ${mxcsr}`);
    }
    assertEquals(call(`sqrt${t.bits}`, 1n << BigInt(t.bits - 1), 0x1f80), [1n << BigInt(t.bits - 1), 0]);
    assertEquals(call(`sqrt${t.bits}`, signed(true, 1n, t), 0x1f80), [indefinite(t), MXCSR.IE]);
  });

  Deno.test(`integers to and from ${t.bits} bits`, () => {
    for (let i = 0; i < 3000; i++) {
      const shift = BigInt(random() % 64), x = BigInt.asIntN(64, random64() >> shift), mxcsr = mxcsrs();
      const wanted: Result = x === 0n ? [0n, 0] : rounded({ negative: x < 0n, n: x < 0n ? -x : x, d: 1n }, t, mxcsr);
      assertEquals(show(call(`fromInt${t.bits}`, x, mxcsr)), show(wanted), `${x}`);

      const a = i & 1 ? number(t) : wanted[0] ^ (random64() & 1n), rc = random() & 3, width = random() & 1 ? 64 : 32;
      const lowest = -(1n << BigInt(width - 1));
      let back: Result = [BigInt.asUintN(64, lowest), MXCSR.IE];
      const flushed = isDenormal(a, t) && mxcsr & MXCSR.DAZ;
      if (flushed) back = [0n, 0];
      else if (!isNan(a, t) && !isInfinite(a, t)) {
        const v = exact(a, t), { whole, inexact } = units(v, power(0), rc << 13);
        const n = v.negative ? -whole : whole;
        if (n >= lowest && n < -lowest) back = [BigInt.asUintN(64, n), inexact ? MXCSR.PE : 0];
      }
      assertEquals(show(call(`toInt${t.bits}`, a, rc, mxcsr, width)), show(back), `${a.toString(16)} ${rc} ${width}`);
      if (isNan(a, t) || isInfinite(a, t)) continue;
      const v = exact(a, t), { whole, inexact } = units(v, power(0), rc << 13);
      const kept = flushed || whole === 0n ? 0n : rounded({ negative: false, n: whole, d: 1n }, t, 0x1f80)[0];
      assertEquals(
        show(call(`roundInt${t.bits}`, a, rc, mxcsr)),
        show([signed(v.negative, kept, t), inexact && !flushed ? MXCSR.PE : 0]),
        `${a.toString(16)} ${rc}`,
      );
    }
  });
}

Deno.test("single to double is exact, double to single rounds", () => {
  for (let i = 0; i < 3000; i++) {
    const a = number(DOUBLE), mxcsr = mxcsrs();
    if (
      !isNan(a, DOUBLE) && !isInfinite(a, DOUBLE) && a & ((1n << 63n) - 1n) && !(isDenormal(a, DOUBLE) && mxcsr & 64)
    ) {
      const [bits, flags] = rounded(exact(a, DOUBLE), SINGLE, mxcsr);
      const de = isDenormal(a, DOUBLE) ? MXCSR.DE : 0;
      assertEquals(show(call("narrow", a, mxcsr)), show([bits, flags | de]), a.toString(16));
    }
    const s = number(SINGLE);
    if (isNan(s, SINGLE) || (isDenormal(s, SINGLE) && mxcsr & MXCSR.DAZ)) continue;
    const view = new DataView(new ArrayBuffer(8));
    view.setUint32(0, Number(s));
    view.setFloat64(0, view.getFloat32(0));
    assertEquals(
      show(call("widen", s, mxcsr)),
      show([view.getBigUint64(0), isDenormal(s, SINGLE) ? MXCSR.DE : 0]),
      s.toString(16),
    );
  }
});

Deno.test("NaNs keep their payload across formats and become quiet", () => {
  assertEquals(call("widen", 0xff812345n, 0x1f80), [0xfff82468a0000000n, MXCSR.IE]);
  assertEquals(call("narrow", 0x7ff8000020000000n, 0x1f80), [0x7fc00001n, 0]);
});

Deno.test("minimum and maximum give the second operand for zeros and NaNs", () => {
  const one = 0x3f800000n, nan = 0x7fc00000n, minusZero = 0x80000000n;
  assertEquals(call("min32", 0n, minusZero, 0x1f80), [minusZero, 0]);
  assertEquals(call("max32", minusZero, 0n, 0x1f80), [0n, 0]);
  assertEquals(call("min32", nan, one, 0x1f80), [one, MXCSR.IE]);
  assertEquals(call("max32", one, nan, 0x1f80), [nan, MXCSR.IE]);
  assertEquals(call("min32", 1n, one, 0x1f80), [1n, MXCSR.DE]);
  assertEquals(call("min32", one, 1n, 0x1fc0), [0n, 0]);
});

Deno.test("comparison: quiet NaNs are invalid only for the signalling kind", () => {
  const one = 0x3ff0000000000000n, qnan = 0x7ff8000000000000n, snan = 0x7ff0000000000001n;
  assertEquals(call("compare64", one, qnan, 0x1f80, 0), [8, 0] as never);
  assertEquals(call("compare64", one, qnan, 0x1f80, 1), [8, MXCSR.IE] as never);
  assertEquals(call("compare64", snan, one, 0x1f80, 0), [8, MXCSR.IE] as never);
  assertEquals(call("compare64", one | (1n << 63n), one, 0x1f80, 1), [1, 0] as never);
  assertEquals(call("compare64", 0n, 1n << 63n, 0x1f80, 1), [2, 0] as never);
  assertEquals(call("compare64", 2n, 1n, 0x1f80, 1), [4, MXCSR.DE] as never);
});
