/** Conversions between integers, single and double precision: [sdm2 CVT*]. Needs sse_float.ts' functions. */
import type { Func, Module } from "../../../wasm/module.ts";
import { i32, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import type { Row } from "../row.ts";
import {
  Checks,
  type FloatFuncs,
  fromFloat,
  isDefault,
  isInexactQuiet,
  isPrecisionQuiet,
  PD,
  PS,
  SD,
  type Shape,
  softCall,
  SS,
  toFloat,
} from "../simd/float.ts";
import { RC } from "../simd/soft_float.ts";
import { dword, enterMmx, low, qword, setMmx, unary, zeros } from "../simd/vector.ts";

/** MXCSR's rounding mode, or truncation. */
const mode = (o: Ops, truncate: boolean): Value => truncate ? i32(RC.ZERO) : o.let(o.ld32("mxcsr").shrU(13).and(3));
const word = (shape: Shape) => shape.format.bits === 64 ? "f64" : "f32";

/** A scalar to an integer of 32 or 64 bits. */
export function toInteger(o: Ops, shape: Shape, bits: number, truncate: boolean, x: Value): Value {
  const check = new Checks(shape), a = o.let(toFloat(x, shape)), mxcsr = o.ld32("mxcsr");
  const whole = o.let(check.op(truncate ? "trunc" : "nearest", a));
  const exact = check.op("eq", whole, a);
  const quiet = truncate ? isPrecisionQuiet(mxcsr) : isInexactQuiet(mxcsr);
  // The range without its ends; a NaN fails the comparison.
  const good = check.below(whole, 2 ** (bits - 1)).and(exact.or(quiet));
  const result = o.c.variable(bits === 64 ? "i64" : "i32");
  o.c.if(good, () => result.set(whole.op(`i${bits}.trunc_sat_${word(shape)}_s`)), () => {
    const [v] = o.callF(o.deep(`sse.toInt${shape.suffix}`), o.cpu, x, mode(o, truncate), bits);
    result.set(bits === 64 ? v! : v!.lo());
  });
  return result.get();
}

/** Two or four numbers to signed doublewords; doubles leave the upper half zero. */
function toDwords(o: Ops, shape: Shape, truncate: boolean, x: Value): Value {
  const check = new Checks(shape), mxcsr = o.ld32("mxcsr");
  const whole = o.let(check.op(truncate ? "trunc" : "nearest", x));
  const exact = o.let(check.all(check.op("eq", whole, x)));
  const quiet = truncate ? isPrecisionQuiet(mxcsr) : isInexactQuiet(mxcsr);
  const good = check.all(check.below(whole, 2 ** 31)).and(exact.or(quiet));
  const result = o.c.variable("v128");
  const convert = shape === PD ? "i32x4.trunc_sat_f64x2_s_zero" : "i32x4.trunc_sat_f32x4_s";
  o.c.if(good, () => result.set(whole.op(convert)), () => {
    const [v] = o.callF(o.deep(`sse.toInt${shape.suffix}`), o.cpu, x, mode(o, truncate));
    result.set(v!);
  });
  return result.get();
}

/** A signed integer, i32 or i64, to a scalar. */
export function fromInteger(o: Ops, shape: Shape, x: Value): Value {
  const wide = x.type === "i64", convert = () => x.op(`${word(shape)}.convert_${x.type}_s`);
  if (!wide && shape === SD) return fromFloat(convert(), shape);
  const result = o.c.variable(shape === SD ? "i64" : "i32");
  o.c.if(isInexactQuiet(o.ld32("mxcsr")), () => result.set(fromFloat(convert(), shape)), () => {
    const [v] = o.callF(o.deep(`sse.fromInt${shape.suffix}`), o.cpu, x.sx());
    result.set(shape === SD ? v! : v!.lo());
  });
  return result.get();
}
/** Four signed doublewords to singles; two in the low half to doubles, always exactly. */
function fromDwords(o: Ops, x: Value): Value {
  const result = o.c.variable("v128");
  o.c.if(isInexactQuiet(o.ld32("mxcsr")), () => result.set(x.op("f32x4.convert_i32x4_s")), () => {
    const [v] = o.callF(o.deep("sse.fromIntPS"), o.cpu, x);
    result.set(v!);
  });
  return result.get();
}
const widenDwords = (x: Value): Value => x.op("f64x2.convert_low_i32x4_s");

export function narrow(o: Ops, x: Value): Value {
  const check = new Checks(SD), a = o.let(toFloat(x, SD));
  const r = o.let(a.op("f32.demote_f64"));
  const plain = check.ordinary(a).and(new Checks(SS).plain(r).or(check.isZero(a)));
  const result = o.c.variable("i32");
  const quiet = isPrecisionQuiet(o.ld32("mxcsr")).or(r.op("f64.promote_f32").op("f64.eq", a));
  o.c.if(isDefault(o.ld32("mxcsr")).and(plain).and(quiet), () => result.set(fromFloat(r, SS)), () => {
    const [v] = o.callF(o.deep("sse.narrow"), o.cpu, x);
    result.set(v!);
  });
  return result.get();
}
export function widen(o: Ops, x: Value): Value {
  const a = o.let(toFloat(x, SS)), result = o.c.variable("i64");
  o.c.if(new Checks(SS).ordinary(a), () => result.set(fromFloat(a.op("f64.promote_f32"), SD)), () => {
    const [v] = o.callF(o.deep("sse.widen"), o.cpu, x);
    result.set(v!);
  });
  return result.get();
}
function narrowTwo(o: Ops, x: Value): Value {
  const check = new Checks(PD), result = o.c.variable("v128");
  const r = o.let(x.op("f32x4.demote_f64x2_zero"));
  const single = new Checks(PS);
  // The upper two lanes of the result are zeros, which pass.
  const plain = single.all(single.plain(r).or(single.isZero(r)));
  const zerosAlike = check.all(check.ordinary(x)).and(
    check.op("eq", x, zeros()).op("i64x2.bitmask").eq(single.isZero(r).op("i32x4.bitmask").and(3)),
  );
  const exact = check.all(r.op("f64x2.promote_low_f32x4").op("f64x2.eq", x)).bool();
  const quiet = isPrecisionQuiet(o.ld32("mxcsr")).or(exact);
  o.c.if(isDefault(o.ld32("mxcsr")).and(plain.bool()).and(zerosAlike).and(quiet), () => result.set(r), () => {
    const [v] = o.callF(o.deep("sse.narrowPD"), o.cpu, x);
    result.set(v!);
  });
  return result.get();
}
function widenTwo(o: Ops, half: Value): Value {
  const check = new Checks(PS), x = o.let(low(half)), result = o.c.variable("v128");
  o.c.if(check.all(check.ordinary(x)), () => result.set(x.op("f64x2.promote_low_f32x4")), () => {
    const [v] = o.callF(o.deep("sse.widenPS"), o.cpu, x);
    result.set(v!);
  });
  return result.get();
}

export function defineSseConvert(m: Module, f: CpuFuncs, base: FloatFuncs): void {
  const { convert } = base;
  /** (parameters) → one value, from one call of a soft function. */
  const simple = (
    name: string,
    params: readonly ("i32" | "i64")[],
    type: "i32" | "i64",
    body: (o: Ops, p: Value[]) => readonly [Value, Value],
  ) =>
    deepFunc(m, f, `sse.${name}`, params, [type], (o, ...p) => {
      const [v, flags] = body(o, p);
      o.callF(o.deep("sse.flags"), o.cpu, flags);
      o.c.return(STATUS.NEXT, type === "i32" ? v.lo() : v);
    });
  /** v128 → v128 by lanes: `from` reads lane i of the source, `to` writes lane i of a vector of zeros. */
  const vector = (
    name: string,
    lanes: number,
    from: (v: Value, i: number) => Value,
    to: (v: Value, i: number, x: Value) => Value,
    body: (o: Ops, x: Value, extra: Value | undefined) => readonly [Value, Value],
    extra: readonly "i32"[] = [],
  ) =>
    deepFunc(m, f, `sse.${name}`, ["v128", ...extra], ["v128"], (o, x, more) => {
      const result = o.c.variable("v128", zeros()), flags = o.c.variable("i32", 0);
      for (let i = 0; i < lanes; i++) {
        const [v, seen] = body(o, o.let(from(x!, i)), more);
        result.set(to(result.get(), i, v));
        flags.set(flags.get().or(seen));
      }
      o.callF(o.deep("sse.flags"), o.cpu, flags.get());
      o.c.return(STATUS.NEXT, result.get());
    });
  const mxcsr = (o: Ops) => o.ld32("mxcsr");
  const dwordOf = (v: Value, i: number) => dword(v, i).zx(), qwordOf = (v: Value, i: number) => qword(v, i as 0 | 1);
  const setDword = (v: Value, i: number, x: Value) => v.lane("i32x4.replace_lane", i, x.lo());
  const setQword = (v: Value, i: number, x: Value) => v.lane("i64x2.replace_lane", i, x);

  for (const shape of [SS, SD]) {
    const { toInt, fromInt } = convert[shape.format.bits], type = shape === SD ? "i64" : "i32";
    simple(
      `toInt${shape.suffix}`,
      [type, "i32", "i32"],
      "i64",
      (o, [x, rc, bits]) => softCall(o, toInt, x!.zx(), rc!, mxcsr(o), bits!),
    );
    simple(`fromInt${shape.suffix}`, ["i64"], "i64", (o, [x]) => softCall(o, fromInt, x!, mxcsr(o)));
  }
  simple("narrow", ["i64"], "i32", (o, [x]) => softCall(o, convert.narrow, x!, mxcsr(o)));
  simple("widen", ["i32"], "i64", (o, [x]) => softCall(o, convert.widen, x!.zx(), mxcsr(o)));

  const toDword = (toInt: Func) => (o: Ops, x: Value, rc: Value | undefined) =>
    softCall(o, toInt, x, rc!, mxcsr(o), i32(32));
  vector("toIntPS", 4, dwordOf, setDword, toDword(convert[32].toInt), ["i32"]);
  vector("toIntPD", 2, qwordOf, setDword, toDword(convert[64].toInt), ["i32"]);
  vector("fromIntPS", 4, (v, i) => dword(v, i).sx(), setDword, (o, x) => softCall(o, convert[32].fromInt, x, mxcsr(o)));
  vector("narrowPD", 2, qwordOf, setDword, (o, x) => softCall(o, convert.narrow, x, mxcsr(o)));
  vector("widenPS", 2, dwordOf, setQword, (o, x) => softCall(o, convert.widen, x, mxcsr(o)));
}

const integer = (shape: Shape, truncate: boolean) => (o: Ops, a: Operand, b: Operand) =>
  a.set(toInteger(o, shape, a.bits, truncate, b.get()));

/** MMX forms also need what SSE needs. */
function sseToo(o: Ops): void {
  o.c.if(o.ld32("unitTraps").and(1), () => {
    o.callF(o.deep("unitTrap"), o.cpu, 1);
  });
}
/**
 * Processors make the transition to MMX before they convert: it stays when the conversion raises #XM.
 * CVTPI2PS keeps the upper half; the other half's lanes are zeros while converting, which raise nothing.
 */
function cvtpi2ps(o: Ops, a: Operand, b: Operand): void {
  sseToo(o);
  const x = o.let(low(b.get()));
  enterMmx(o);
  a.set(qword(fromDwords(o, x), 0));
}
function cvtpi2pd(mmx: boolean) {
  return (o: Ops, a: Operand, b: Operand) => {
    if (mmx) sseToo(o);
    a.set(widenDwords(low(b.get())));
    if (mmx) enterMmx(o);
  };
}
function toMmx(shape: Shape, truncate: boolean) {
  return (o: Ops, _a: Operand, b: Operand) => {
    sseToo(o);
    const y = b.get(), x = shape === PS ? o.let(low(y)) : y;
    enterMmx(o);
    setMmx(o, qword(toDwords(o, shape, truncate, x), 0));
  };
}

const transition = "processors differ in whether a memory operand makes the transition to MMX";
const sse = { unit: "sse" } as const, mmx = { unit: "mmx" } as const;

export const ROWS: readonly Row[] = [
  { op: "F3 0F 2A /r", name: "CVTSI2SS", args: "Vd=,Ey", ...sse, sem: unary((o, x) => fromInteger(o, SS, x)) },
  { op: "F2 0F 2A /r", name: "CVTSI2SD", args: "Vq=,Ey", ...sse, sem: unary((o, x) => fromInteger(o, SD, x)) },
  { op: "F3 0F 2C /r", name: "CVTTSS2SI", args: "Gy=,Wd", ...sse, sem: integer(SS, true) },
  { op: "F2 0F 2C /r", name: "CVTTSD2SI", args: "Gy=,Wq", ...sse, sem: integer(SD, true) },
  { op: "F3 0F 2D /r", name: "CVTSS2SI", args: "Gy=,Wd", ...sse, sem: integer(SS, false) },
  { op: "F2 0F 2D /r", name: "CVTSD2SI", args: "Gy=,Wq", ...sse, sem: integer(SD, false) },
  { op: "F3 0F 5A /r", name: "CVTSS2SD", args: "Vq=,Wd", ...sse, sem: unary(widen) },
  { op: "F2 0F 5A /r", name: "CVTSD2SS", args: "Vd=,Wq", ...sse, sem: unary(narrow) },
  { op: "NP 0F 5A /r", name: "CVTPS2PD", args: "Vdq=,Wq", ...sse, sem: unary(widenTwo) },
  { op: "66 0F 5A /r", name: "CVTPD2PS", args: "Vdq=,Wdq", ...sse, sem: unary(narrowTwo) },
  { op: "NP 0F 5B /r", name: "CVTDQ2PS", args: "Vdq=,Wdq", ...sse, sem: unary(fromDwords) },
  { op: "66 0F 5B /r", name: "CVTPS2DQ", args: "Vdq=,Wdq", ...sse, sem: unary((o, x) => toDwords(o, PS, false, x)) },
  { op: "F3 0F 5B /r", name: "CVTTPS2DQ", args: "Vdq=,Wdq", ...sse, sem: unary((o, x) => toDwords(o, PS, true, x)) },
  { op: "F3 0F E6 /r", name: "CVTDQ2PD", args: "Vdq=,Wq", ...sse, sem: unary((_o, x) => widenDwords(low(x))) },
  { op: "F2 0F E6 /r", name: "CVTPD2DQ", args: "Vdq=,Wdq", ...sse, sem: unary((o, x) => toDwords(o, PD, false, x)) },
  { op: "66 0F E6 /r", name: "CVTTPD2DQ", args: "Vdq=,Wdq", ...sse, sem: unary((o, x) => toDwords(o, PD, true, x)) },
  { op: "NP 0F 2A /r", name: "CVTPI2PS", args: "Vq=,Nq", ...mmx, sem: cvtpi2ps },
  { op: "NP 0F 2A /r", name: "CVTPI2PS", args: "Vq=,Mq", ...mmx, noHost: transition, sem: cvtpi2ps },
  { op: "66 0F 2A /r", name: "CVTPI2PD", args: "Vdq=,Nq", ...mmx, sem: cvtpi2pd(true) },
  { op: "66 0F 2A /r", name: "CVTPI2PD", args: "Vdq=,Mq", ...sse, sem: cvtpi2pd(false) },
  { op: "NP 0F 2C /r", name: "CVTTPS2PI", args: "Pq=,Wq", ...mmx, sem: toMmx(PS, true) },
  { op: "66 0F 2C /r", name: "CVTTPD2PI", args: "Pq=,Wdq", ...mmx, sem: toMmx(PD, true) },
  { op: "NP 0F 2D /r", name: "CVTPS2PI", args: "Pq=,Wq", ...mmx, sem: toMmx(PS, false) },
  { op: "66 0F 2D /r", name: "CVTPD2PI", args: "Pq=,Wdq", ...mmx, sem: toMmx(PD, false) },
];
