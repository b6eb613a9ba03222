/** Conversions of AVX between integers, single and double precision: [sdm2 CVT*]. */
import type { Module } from "../../../wasm/module.ts";
import { i32, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import {
  Checks,
  type FloatFuncs,
  isDefault,
  isInexactQuiet,
  isPrecisionQuiet,
  PD,
  PS,
  type Quick,
  SD,
  type Shape,
  softCall,
  SS,
} from "../simd/float.ts";
import { RC } from "../simd/soft_float.ts";
import { lanes, low, zeros } from "../simd/vector.ts";
import { AVX, type Halves, type Length, LENGTHS, lengths, setRegister, single, sized, source } from "../simd/wide.ts";
import { callWide, deepWide } from "../simd/wide_float.ts";
import { setScalar } from "./avx_float.ts";
import { fromInteger, narrow, toInteger, widen } from "./sse_convert.ts";

/** Two doublewords in the low half to two in quadwords, and back. */
const apart = (v: Value): Value => v.shuffle(zeros(), lanes(4, 0, 4, 1, 4));
const together = (halves: readonly Value[]): Value => halves[0]!.shuffle(halves[1] ?? zeros(), lanes(4, 0, 2, 4, 6));

function quickToInt(o: Ops, shape: Shape, truncate: boolean, x: Value): Quick {
  const check = new Checks(shape), mxcsr = o.ld32("mxcsr");
  const rounded = o.let(check.op(truncate ? "trunc" : "nearest", x));
  const exact = o.let(check.all(check.op("eq", rounded, x)));
  const quiet = truncate ? isPrecisionQuiet(mxcsr) : isInexactQuiet(mxcsr);
  return {
    good: check.all(check.below(rounded, 2 ** 31)).bool().and(exact.bool().or(quiet)),
    result: () =>
      shape === PD ? apart(o.let(rounded.op("i32x4.trunc_sat_f64x2_s_zero"))) : rounded.op("i32x4.trunc_sat_f32x4_s"),
  };
}
function quickNarrow(o: Ops, x: Value): Quick {
  const check = new Checks(PD), single = new Checks(PS), mxcsr = o.ld32("mxcsr");
  const r = o.let(x.op("f32x4.demote_f64x2_zero"));
  // The upper two lanes of the result are zeros, which pass.
  const plain = single.all(single.plain(r).or(single.isZero(r))).bool();
  const alike = check.op("eq", x, zeros()).op("i64x2.bitmask").eq(single.isZero(r).op("i32x4.bitmask").and(3));
  const exact = check.all(r.op("f64x2.promote_low_f32x4").op("f64x2.eq", x)).bool();
  return {
    good: isDefault(mxcsr).and(plain).and(check.all(check.ordinary(x)).bool()).and(alike)
      .and(isPrecisionQuiet(mxcsr).or(exact)),
    result: () => apart(r),
  };
}
/** Singles in quadwords to doubles. */
function quickWiden(o: Ops, x: Value): Quick {
  const check = new Checks(PS);
  return {
    good: check.all(check.ordinary(x)),
    result: () => o.let(x.shuffle(x, lanes(4, 0, 2, 1, 3))).op("f64x2.promote_low_f32x4"),
  };
}

export function defineAvxConvert(m: Module, f: CpuFuncs, { convert }: FloatFuncs): void {
  for (const length of LENGTHS) {
    for (const truncate of [false, true]) {
      for (const shape of [PS, PD]) {
        const { toInt } = convert[shape.format.bits];
        deepWide(
          m,
          f,
          truncate ? "truncate" : "toInt",
          shape,
          length,
          1,
          (o, [x], mx) => softCall(o, toInt, x!, truncate ? i32(RC.ZERO) : o.let(mx.shrU(13).and(3)), mx, i32(32)),
          (o, [x]) => quickToInt(o, shape, truncate, x!),
        );
      }
    }
    deepWide(
      m,
      f,
      "fromInt",
      PS,
      length,
      1,
      (o, [x], mx) => softCall(o, convert[32].fromInt, o.let(x!.ext32()), mx),
      (o, [x]) => ({ good: isInexactQuiet(o.ld32("mxcsr")), result: () => x!.op("f32x4.convert_i32x4_s") }),
    );
    deepWide(
      m,
      f,
      "narrow",
      PD,
      length,
      1,
      (o, [x], mx) => softCall(o, convert.narrow, x!, mx),
      (o, [x]) => quickNarrow(o, x!),
    );
    deepWide(
      m,
      f,
      "widen",
      PD,
      length,
      1,
      (o, [x], mx) => softCall(o, convert.widen, x!, mx),
      (o, [x]) => quickWiden(o, x!),
    );
  }
}

/** Lanes of the same width. */
const plain = (name: string, shape: Shape) => (length: Length) => (o: Ops, _a: Operand, w: Operand) =>
  setRegister(o, callWide(o, name, shape, [source(o, w, 1, length)]));
/** Doubles to what fits the low half. */
const narrowing = (name: string) => (length: Length) => (o: Ops, _a: Operand, w: Operand) =>
  setRegister(o, [together(callWide(o, name, PD, [source(o, w, 1, length)]))]);
/** What is in the low half, 64 bits or 128, to twice its width. */
function halvesOf(o: Ops, w: Operand, length: Length): Halves {
  const raw = w.get();
  return length === 1 ? [o.let(low(raw))] : [raw, o.let(raw.shuffle(raw, lanes(8, 1, 1)))];
}
const widening = (length: Length) => (o: Ops, _a: Operand, w: Operand) =>
  setRegister(o, callWide(o, "widen", PD, [halvesOf(o, w, length).map((v) => o.let(apart(v)))]));
const widenIntegers = (length: Length) => (o: Ops, _a: Operand, w: Operand) =>
  setRegister(o, halvesOf(o, w, length).map((v) => v.op("f64x2.convert_low_i32x4_s")));

/** The source of these has half the size of the destination. */
function halfRows(code: string, name: string, sem: (length: Length) => Row["sem"]): Row[] {
  return lengths(code, name, "V=,W", AVX, sem).map((row, i) => ({ ...row, args: i ? "Vqq=,Wu" : "Vu=,Wq" }));
}
/** The destination of these has half the size of the source. */
function narrowRows(code: string, name: string, deep: string): Row[] {
  return lengths(code, name, "V=,W", AVX, narrowing(deep))
    .map((row, i) => ({ ...row, args: sized("V=,W", i ? 2 : 1).replace("Vqq", "Vu") }));
}

const integer = (shape: Shape, truncate: boolean) => (o: Ops, a: Operand, b: Operand) =>
  a.set(toInteger(o, shape, a.bits, truncate, b.get()));
const scalar = (shape: Shape, f: (o: Ops, x: Value) => Value) => (o: Ops, _a: Operand, _b: Operand, e: Operand) =>
  setScalar(o, shape, f(o, e.get()));
const LIG = { ignored: true } as const;

export const ROWS: readonly Row[] = [
  single("F3 0F 2A /r", "VCVTSI2SS", "Vu=,Hu,Ey", scalar(SS, (o, x) => fromInteger(o, SS, x)), LIG),
  single("F2 0F 2A /r", "VCVTSI2SD", "Vu=,Hu,Ey", scalar(SD, (o, x) => o.let(fromInteger(o, SD, x))), LIG),
  single("F3 0F 2C /r", "VCVTTSS2SI", "Gy=,Wd", integer(SS, true), LIG),
  single("F2 0F 2C /r", "VCVTTSD2SI", "Gy=,Wq", integer(SD, true), LIG),
  single("F3 0F 2D /r", "VCVTSS2SI", "Gy=,Wd", integer(SS, false), LIG),
  single("F2 0F 2D /r", "VCVTSD2SI", "Gy=,Wq", integer(SD, false), LIG),
  single("F3 0F 5A /r", "VCVTSS2SD", "Vu=,Hu,Wd", scalar(SD, widen), LIG),
  single("F2 0F 5A /r", "VCVTSD2SS", "Vu=,Hu,Wq", scalar(SS, narrow), LIG),
  ...halfRows("NP 0F 5A /r", "VCVTPS2PD", widening),
  ...narrowRows("66 0F 5A /r", "VCVTPD2PS", "narrow"),
  ...lengths("NP 0F 5B /r", "VCVTDQ2PS", "V=,W", AVX, plain("fromInt", PS)),
  ...lengths("66 0F 5B /r", "VCVTPS2DQ", "V=,W", AVX, plain("toInt", PS)),
  ...lengths("F3 0F 5B /r", "VCVTTPS2DQ", "V=,W", AVX, plain("truncate", PS)),
  ...halfRows("F3 0F E6 /r", "VCVTDQ2PD", widenIntegers),
  ...narrowRows("F2 0F E6 /r", "VCVTPD2DQ", "toInt"),
  ...narrowRows("66 0F E6 /r", "VCVTTPD2DQ", "truncate"),
];
