/** Floating-point arithmetic, comparisons and approximations of AVX: [sdm2]. */
import type { Module } from "../../../wasm/module.ts";
import type { Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import {
  Checks,
  type FloatFuncs,
  isPrecisionQuiet,
  PD,
  PS,
  type Quick,
  SD,
  type Shape,
  SHAPES,
  softCall,
  SS,
  toFloat,
} from "../simd/float.ts";
import { fromFloat } from "../simd/float.ts";
import { dword, laneMask, lanes, low, qword, zeros } from "../simd/vector.ts";
import {
  AVX,
  type Halves,
  type Length,
  LENGTHS,
  lengths,
  register,
  setRegister,
  single,
  source,
  two,
  whole,
} from "../simd/wide.ts";
import { callWide, deepWide, isSignalling, relations } from "../simd/wide_float.ts";
import {
  approximate,
  type Arithmetic,
  compareFlags,
  quickAddSub,
  quickArithmetic,
  quickExtreme,
  quickRoot,
} from "./sse_float.ts";

const ARITHMETIC = ["add", "sub", "mul", "div"] as const satisfies readonly Arithmetic[];

/** Ones where one of the relations of `set` holds, for ordinary operands. */
function quickCompare(o: Ops, shape: Shape, x: Value, y: Value, set: Value): Quick {
  const check = new Checks(shape), a = o.let(toFloat(x, shape)), b = o.let(toFloat(y, shape));
  const good = check.all(check.ordinary(a).and(check.ordinary(b)));
  const bit = (n: number): Value => {
    const all = o.let(set.shrU(n).and(1).neg());
    return shape.packed ? all.op("i32x4.splat") : all;
  };
  const result = (): Value => {
    const holds = o.let(
      check.op("lt", a, b).and(bit(0)).or(check.op("eq", a, b).and(bit(1))).or(check.op("gt", a, b).and(bit(2))),
    );
    if (shape.packed) return holds;
    return shape.format.bits === 64 ? holds.neg().sx() : holds.neg();
  };
  return { good, result };
}

/** `mode` and `quiet` as ROUNDPS' immediate and MXCSR have them. */
function quickRound(o: Ops, shape: Shape, x: Value, mode: Value, quiet: Value): Quick {
  const check = new Checks(shape), a = o.let(toFloat(x, shape)), r = o.c.variable(a.type);
  o.c.switch(mode, [
    () => r.set(check.op("nearest", a)),
    () => r.set(check.op("floor", a)),
    () => r.set(check.op("ceil", a)),
  ], () => r.set(check.op("trunc", a)));
  const silent = o.let(quiet.or(isPrecisionQuiet(o.ld32("mxcsr"))).bool());
  const exact = o.let(check.all(check.op("eq", r.get(), a)));
  return {
    good: check.all(check.ordinary(a)).bool().and(silent.or(exact.bool())),
    result: () => fromFloat(r.get(), shape),
  };
}

export function defineAvxFloat(m: Module, f: CpuFuncs, base: FloatFuncs): void {
  for (const shape of SHAPES) {
    const soft = base.soft[shape.format.bits], convert = base.convert[shape.format.bits];
    for (const length of shape.packed ? LENGTHS : [1] as const) {
      for (const name of ARITHMETIC) {
        deepWide(
          m,
          f,
          name,
          shape,
          length,
          2,
          (o, [a, b], mx) => softCall(o, soft[name], a!, b!, mx),
          (o, [x, y]) => quickArithmetic(o, shape, name, x!, y!),
        );
      }
      for (const name of ["min", "max"] as const) {
        deepWide(
          m,
          f,
          name,
          shape,
          length,
          2,
          (o, [a, b], mx) => softCall(o, convert[name], a!, b!, mx),
          (o, [x, y]) => quickExtreme(o, shape, name, x!, y!),
        );
      }
      deepWide(
        m,
        f,
        "sqrt",
        shape,
        length,
        1,
        (o, [a], mx) => softCall(o, soft.sqrt, a!, mx),
        (o, [x]) => quickRoot(o, shape, x!),
      );
      deepWide(
        m,
        f,
        "cmp",
        shape,
        length,
        2,
        (o, [a, b, set, signalling], mx) => {
          const [relation, flags] = softCall(o, convert.compare, a!, b!, mx, signalling!);
          return [o.let(set!.and(relation).bool().zx().neg()), flags];
        },
        (o, [x, y], [set]) => quickCompare(o, shape, x!, y!, set!),
        1,
        (o, [p]) => [o.let(relations(p!)), o.let(isSignalling(p!))],
      );
      deepWide(
        m,
        f,
        "round",
        shape,
        length,
        1,
        (o, [a, mode, quiet], mx) => {
          const [bits, flags] = softCall(o, convert.roundInt, a!, mode!, mx);
          // Only the invalid operation is told then.
          return [bits, flags.and(o.let(quiet!.eqz().mul(0x3e).or(1)))];
        },
        (o, [x], [mode, quiet]) => quickRound(o, shape, x!, mode!, quiet!),
        1,
        (o, [imm]) => {
          const mxcsr = o.ld32("mxcsr");
          const mode = o.c.choose(imm!.and(4), () => mxcsr.shrU(13).and(3), () => imm!.and(3), "i32");
          return [mode, o.let(imm!.and(8))];
        },
      );
      if (!shape.packed) continue;
      deepWide(
        m,
        f,
        "addsub",
        shape,
        length,
        2,
        (o, [a, b], mx, lane) => softCall(o, lane & 1 ? soft.add : soft.sub, a!, b!, mx),
        (o, [x, y]) => quickAddSub(o, shape, x!, y!),
      );
    }
  }
}

/** A scalar result in the low lane of the second operand. */
export function setScalar(o: Ops, shape: Shape, result: Value): void {
  const v = whole(o, 1);
  setRegister(o, [
    shape.format.bits === 64 ? v.lane("i64x2.replace_lane", 0, result) : v.lane("i32x4.replace_lane", 0, result.lo()),
  ]);
}
export const lowLane = (v: Value, shape: Shape): Value => shape.format.bits === 64 ? qword(v, 0) : dword(v, 0);

/** The fast paths that are worth a place in compiled code. */
const IN_PLACE: Readonly<
  Record<string, (o: Ops, shape: Shape, operands: readonly Value[], extra: readonly Value[]) => Quick>
> = {
  ...Object.fromEntries(
    ARITHMETIC.map((
      name,
    ) => [name, (o: Ops, shape: Shape, [x, y]: readonly Value[]) => quickArithmetic(o, shape, name, x!, y!)]),
  ),
  min: (o, shape, [x, y]) => quickExtreme(o, shape, "min", x!, y!),
  max: (o, shape, [x, y]) => quickExtreme(o, shape, "max", x!, y!),
  sqrt: (o, shape, [x]) => quickRoot(o, shape, x!),
  cmp: (o, shape, [x, y], [p]) => quickCompare(o, shape, x!, y!, o.let(relations(p!))),
};
/** The deep function's result: in compiled code by its fast path, if that is right. */
function perform(o: Ops, name: string, shape: Shape, operands: readonly Halves[], ...extra: Value[]): Value[] {
  const quick = o.expands ? IN_PLACE[name] : undefined;
  if (!quick) return callWide(o, name, shape, operands, ...extra);
  const ways = operands[0]!.map((_, half) => quick(o, shape, operands.map((list) => list[half]!), extra));
  const results = operands[0]!.map((v) => o.c.variable(v.type));
  o.c.if(
    ways.map((w) => o.let(w.good.bool())).reduce((p, q) => p.and(q)),
    () => ways.forEach((w, i) => results[i]!.set(w.result())),
    () => callWide(o, name, shape, operands, ...extra).forEach((v, i) => results[i]!.set(v)),
  );
  return results.map((r) => r.get());
}

/** Semantics of "V=,H,W" (and an immediate) from a deep function. */
const packed =
  (name: string, shape: Shape) => (length: Length) => (o: Ops, _a: Operand, _b: Operand, w: Operand, imm?: Operand) => {
    const y = source(o, w, 2, length), x = register(o, 1, length);
    setRegister(o, perform(o, name, shape, [x, y], ...(imm ? [imm.get()] : [])));
  };
const scalar = (name: string, shape: Shape) => (o: Ops, _a: Operand, _b: Operand, w: Operand, imm?: Operand) => {
  const y = w.get(), x = o.let(lowLane(whole(o, 1), shape));
  const [r] = perform(o, name, shape, [[x], [y]], ...(imm ? [imm.get()] : []));
  setScalar(o, shape, r!);
};
/** Semantics of "V=,W" (and an immediate), and of "V=,H,W" whose scalar comes from the third operand alone. */
const packedOne =
  (name: string, shape: Shape) => (length: Length) => (o: Ops, _a: Operand, w: Operand, imm?: Operand) => {
    const x = source(o, w, 1, length);
    setRegister(o, perform(o, name, shape, [x], ...(imm ? [imm.get()] : [])));
  };
const scalarOne = (name: string, shape: Shape) => (o: Ops, _a: Operand, _b: Operand, w: Operand, imm?: Operand) => {
  const x = w.get();
  const [r] = perform(o, name, shape, [[x]], ...(imm ? [imm.get()] : []));
  setScalar(o, shape, r!);
};
const approximateScalar = (f: (o: Ops, x: Value) => Value) => (o: Ops, _a: Operand, _b: Operand, w: Operand) => {
  const x = o.let(low(w.get()));
  setScalar(o, SS, o.let(dword(f(o, x), 0)));
};

/** Pairs of neighbours within each half, the first operand's and then the second's. */
const horizontal =
  (shape: Shape, name: "add" | "sub") => (length: Length) => (o: Ops, _a: Operand, _b: Operand, w: Operand) => {
    const y = source(o, w, 2, length), x = register(o, 1, length), width = shape.format.bits / 8;
    const pick = (odd: number): Halves => {
      const order = lanes(width, ...Array.from({ length: shape.lanes }, (_, i) => 2 * i + odd));
      return x.map((v, i) => o.let(v.shuffle(y[i]!, order)));
    };
    setRegister(o, perform(o, name, shape, [pick(0), pick(1)]));
  };
/** Products of the lanes that bits 4.. choose, their sum in the lanes that bits 0.. choose, in each half. */
const dotProduct =
  (shape: Shape) => (length: Length) => (o: Ops, _a: Operand, _b: Operand, w: Operand, imm: Operand) => {
    const y = source(o, w, 2, length), x = register(o, 1, length), n = imm.get(), width = shape.format.bits / 8;
    const chosen = o.let(laneMask(n.shrU(4), shape.format.bits as 32 | 64));
    const cut = (list: Halves) => list.map((v) => o.let(v.and(chosen)));
    let sum = perform(o, "mul", shape, [cut(x), cut(y)]);
    for (let left = shape.lanes; left > 1; left /= 2) {
      // Lanes that are no longer needed are zeros, which raise nothing.
      const pick = (odd: number) => {
        const order = lanes(
          width,
          ...Array.from({ length: shape.lanes }, (_, i) => i < left / 2 ? 2 * i + odd : shape.lanes),
        );
        return sum.map((v) => o.let(v.shuffle(zeros(), order)));
      };
      sum = perform(o, "add", shape, [pick(0), pick(1)]);
    }
    const mask = o.let(laneMask(n, shape.format.bits as 32 | 64));
    setRegister(o, sum.map((v) => v.shuffle(v, lanes(width, ...new Array(shape.lanes).fill(0))).and(mask)));
  };

const PREFIX: Record<string, string> = { PS: "NP", PD: "66", SS: "F3", SD: "F2" };
const memorySize = (shape: Shape) => shape.format.bits === 64 ? "q" : "d";
const LIG = { ignored: true } as const;

/** Rows of "V,H,W" in the four shapes. */
function family(code: string, name: string, deep: string, imm = ""): Row[] {
  return SHAPES.flatMap((shape) => {
    const op = `${PREFIX[shape.suffix]} 0F ${code} /r`;
    if (shape.packed) return lengths(op, name + shape.suffix, `V=,H,W${imm}`, AVX, packed(deep, shape));
    return [single(op, name + shape.suffix, `Vu=,Hu,W${memorySize(shape)}${imm}`, scalar(deep, shape), LIG)];
  });
}
const roots: Row[] = SHAPES.flatMap((shape) => {
  const op = `${PREFIX[shape.suffix]} 0F 51 /r`, name = `VSQRT${shape.suffix}`;
  if (shape.packed) return lengths(op, name, "V=,W", AVX, packedOne("sqrt", shape));
  return [single(op, name, `Vu=,Hu,W${memorySize(shape)}`, scalarOne("sqrt", shape), LIG)];
});
const compares = { flags: "OSZAPC", ignored: true } as const;
const noHost = "any result within 1.5 × 2^-12 is right";

export const ROWS: readonly Row[] = [
  ...family("58", "VADD", "add"),
  ...family("59", "VMUL", "mul"),
  ...family("5C", "VSUB", "sub"),
  ...family("5D", "VMIN", "min"),
  ...family("5E", "VDIV", "div"),
  ...family("5F", "VMAX", "max"),
  ...family("C2", "VCMP", "cmp", ",Iub"),
  ...roots,
  single("NP 0F 2E /r", "VUCOMISS", "Vd,Wd", compareFlags(SS, 0), compares),
  single("66 0F 2E /r", "VUCOMISD", "Vq,Wq", compareFlags(SD, 0), compares),
  single("NP 0F 2F /r", "VCOMISS", "Vd,Wd", compareFlags(SS, 1), compares),
  single("66 0F 2F /r", "VCOMISD", "Vq,Wq", compareFlags(SD, 1), compares),
  ...lengths("66 0F 7C /r", "VHADDPD", "V=,H,W", AVX, horizontal(PD, "add")),
  ...lengths("F2 0F 7C /r", "VHADDPS", "V=,H,W", AVX, horizontal(PS, "add")),
  ...lengths("66 0F 7D /r", "VHSUBPD", "V=,H,W", AVX, horizontal(PD, "sub")),
  ...lengths("F2 0F 7D /r", "VHSUBPS", "V=,H,W", AVX, horizontal(PS, "sub")),
  ...lengths("66 0F D0 /r", "VADDSUBPD", "V=,H,W", AVX, packed("addsub", PD)),
  ...lengths("F2 0F D0 /r", "VADDSUBPS", "V=,H,W", AVX, packed("addsub", PS)),
  ...lengths("66 0F 3A 08 /r", "VROUNDPS", "V=,W,Iub", AVX, packedOne("round", PS)),
  ...lengths("66 0F 3A 09 /r", "VROUNDPD", "V=,W,Iub", AVX, packedOne("round", PD)),
  single("66 0F 3A 0A /r", "VROUNDSS", "Vu=,Hu,Wd,Iub", scalarOne("round", SS), LIG),
  single("66 0F 3A 0B /r", "VROUNDSD", "Vu=,Hu,Wq,Iub", scalarOne("round", SD), LIG),
  ...lengths("66 0F 3A 40 /r", "VDPPS", "V=,H,W,Iub", AVX, dotProduct(PS)),
  ...lengths("66 0F 3A 41 /r", "VDPPD", "V=,H,W,Iub", ["AVX", null], dotProduct(PD)),
  ...lengths("NP 0F 52 /r", "VRSQRTPS", "V=,W", AVX, (n) => two(approximate(true), n), { noHost }),
  ...lengths("NP 0F 53 /r", "VRCPPS", "V=,W", AVX, (n) => two(approximate(false), n), { noHost }),
  single("F3 0F 52 /r", "VRSQRTSS", "Vu=,Hu,Wd", approximateScalar(approximate(true)), { ...LIG, noHost }),
  single("F3 0F 53 /r", "VRCPSS", "Vu=,Hu,Wd", approximateScalar(approximate(false)), { ...LIG, noHost }),
];
