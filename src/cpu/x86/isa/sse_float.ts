/** Floating-point arithmetic, comparisons and approximations of SSE to SSE4.1: [sdm2]. */
import type { Module } from "../../../wasm/module.ts";
import { i32, select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import type { Row } from "../row.ts";
import { CF, PF, ZF } from "../state.ts";
import {
  Checks,
  deepLanes,
  defineFloatBase,
  type FloatFuncs,
  fromFloat,
  isDefault,
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
import { RELATION } from "../simd/soft_convert.ts";
import { MXCSR } from "../simd/soft_float.ts";
import { allDwords, dwords, laneMask, lanes, low, qwords, unary, zeros } from "../simd/vector.ts";

export type Arithmetic = "add" | "sub" | "mul" | "div";

/** a op b with all of MXCSR. Operands are leaves: v128, or the integers of a scalar. */
export function arithmetic(o: Ops, shape: Shape, name: Arithmetic, x: Value, y: Value): Value {
  const { good, result } = quickArithmetic(o, shape, name, x, y);
  return slowUnless(o, good, result, name + shape.suffix, x, y);
}
export function quickArithmetic(o: Ops, shape: Shape, name: Arithmetic, x: Value, y: Value): Quick {
  const c = o.c, check = new Checks(shape);
  const a = c.let(toFloat(x, shape)), b = c.let(toFloat(y, shape));
  const r = c.let(check.op(name, a, b)), bits = () => fromFloat(r, shape);
  const sum = name === "add" || name === "sub";
  // A zero result is exact if it comes from zeros; sums and differences never underflow to zero.
  const zero = sum
    ? check.isZero(r)
    : check.isZero(r).and(name === "mul" ? check.isZero(a).or(check.isZero(b)) : check.isZero(a));
  const good = check.all(check.ordinary(a).and(check.ordinary(b)).and(check.plain(r).or(zero)));
  const exact = (): Value => {
    if (name === "mul") return check.short(x, y);
    if (name === "div") return check.short(c.let(bits()), y).and(check.op("eq", check.op("mul", r, b), a));
    // What rounding a sum has lost is itself a number, which a few operations find.
    const part = c.let(check.op("sub", r, a)), inverse = name === "add" ? "sub" : "add";
    const lost = check.op("sub", a, c.let(check.op("sub", r, part)));
    const rest = inverse === "sub" ? check.op("sub", b, part) : check.op("neg", c.let(check.op("add", b, part)));
    return check.isZero(c.let(check.op("add", lost, rest)));
  };
  return { good: isFast(o, good, () => check.all(exact())), result: bits };
}
/** Whether the fast path is right: MXCSR and operands are ordinary, and PE is set or the result exact. */
export function isFast(o: Ops, good: Value, exact: () => Value): Value {
  const mxcsr = o.ld32("mxcsr"), fast = o.c.variable("i32", isDefault(mxcsr).and(good.bool()));
  o.c.if(fast.get().and(mxcsr.and(MXCSR.PE).eqz()), () => fast.set(exact()));
  return fast.get();
}
/** `fast()` if the condition holds, else what the deep function gives. */
function slowUnless(o: Ops, good: Value, fast: () => Value, deep: string, ...args: Value[]): Value {
  const result = o.c.variable(args[0]!.type);
  o.c.if(good, () => result.set(fast()), () => {
    const [v] = o.callF(o.deep(`sse.${deep}`), o.cpu, ...args);
    result.set(v!);
  });
  return result.get();
}

function squareRoot(o: Ops, shape: Shape, x: Value): Value {
  const { good, result } = quickRoot(o, shape, x);
  return slowUnless(o, good, result, `sqrt${shape.suffix}`, x);
}
export function quickRoot(o: Ops, shape: Shape, x: Value): Quick {
  const check = new Checks(shape), a = o.let(toFloat(x, shape)), r = o.let(check.op("sqrt", a));
  const good = check.all(check.isZero(a).or(check.plain(a).and(check.op("ge", a, check.abs(a)))));
  const bits = () => fromFloat(r, shape);
  const exact = () => check.all(check.short(o.let(bits())).and(check.op("eq", check.op("mul", r, r), a)));
  return { good: isFast(o, good, exact), result: bits };
}
/** MIN and MAX: the second operand, unless the first is less (greater). */
function extreme(o: Ops, shape: Shape, name: "min" | "max", x: Value, y: Value): Value {
  const { good, result } = quickExtreme(o, shape, name, x, y);
  return slowUnless(o, good, result, name + shape.suffix, x, y);
}
export function quickExtreme(o: Ops, shape: Shape, name: "min" | "max", x: Value, y: Value): Quick {
  const check = new Checks(shape);
  const a = o.let(toFloat(x, shape)), b = o.let(toFloat(y, shape));
  const good = check.all(check.ordinary(a).and(check.ordinary(b)));
  const first = check.op(name === "min" ? "lt" : "gt", a, b);
  return { good, result: () => shape.packed ? x.op("v128.bitselect", y, first) : select(first, x, y) };
}
/** Bits 0..1 of the predicate choose EQ, LT, LE, UNORD; bit 2 the opposite. A mask of ones in each lane that holds. */
function compare(o: Ops, shape: Shape, x: Value, y: Value, predicate: Value): Value {
  const check = new Checks(shape), p = o.let(predicate.and(7)), which = o.let(p.and(3));
  const a = o.let(toFloat(x, shape)), b = o.let(toFloat(y, shape));
  const good = check.all(check.ordinary(a).and(check.ordinary(b)));
  const result = o.c.variable(x.type);
  const none = () => shape.packed ? zeros() : i32(0);
  o.c.if(good, () => {
    const ordered = select(which.eq(2), check.op("le", a, b), none());
    const holds = o.let(
      select(which.eqz(), check.op("eq", a, b), o.let(select(which.eq(1), check.op("lt", a, b), ordered))),
    );
    const opposite = o.let(p.shrU(2).neg());
    if (shape.packed) result.set(holds.xor(opposite.op("i32x4.splat")));
    else {
      const mask = holds.neg().xor(opposite);
      result.set(shape.format.bits === 64 ? mask.sx() : mask);
    }
  }, () => {
    const [v] = o.callF(o.deep(`sse.cmp${shape.suffix}`), o.cpu, x, y, p);
    result.set(v!);
  });
  return result.get();
}

/** COMISS and its relatives: any NaN is invalid for the signalling ones. */
export function compareFlags(shape: Shape, signalling: 0 | 1) {
  return (o: Ops, a: Operand, b: Operand) => {
    const y = b.get(), x = a.get(), check = new Checks(shape);
    const fa = o.let(toFloat(x, shape)), fb = o.let(toFloat(y, shape));
    const flags = o.c.variable("i32");
    o.c.if(check.ordinary(fa).and(check.ordinary(fb)), () => {
      flags.set(check.op("lt", fa, fb).or(check.op("eq", fa, fb).shl(6)));
    }, () => {
      const [relation] = o.callF(o.deep(`sse.comi${shape.suffix}`), o.cpu, x, y, signalling);
      const equal = select(relation!.and(RELATION.EQUAL), i32(ZF), 0);
      const less = select(relation!.and(RELATION.LESS), i32(CF), equal);
      flags.set(select(relation!.and(RELATION.UNORDERED), i32(ZF | PF | CF), less));
    });
    o.setFlags(flags.get());
  };
}

/** Pairs of neighbours, a's and then b's. */
function horizontal(shape: Shape, name: "add" | "sub") {
  const width = shape.format.bits / 8;
  const pick = (odd: number) => lanes(width, ...Array.from({ length: shape.lanes }, (_, i) => 2 * i + odd));
  return (o: Ops, a: Operand, b: Operand) => {
    const y = b.get(), x = a.get();
    a.set(arithmetic(o, shape, name, o.let(x.shuffle(y, pick(0))), o.let(x.shuffle(y, pick(1)))));
  };
}
/** Even lanes subtracted, odd lanes added. */
export function quickAddSub(o: Ops, shape: Shape, x: Value, y: Value): Quick {
  const signs = () => shape === PD ? qwords(1n << 63n, 0n) : dwords(0x80000000, 0, 0x80000000, 0);
  const check = new Checks(shape);
  const r = o.let(check.op("add", x, o.let(y.xor(signs()))));
  const good = check.all(
    check.ordinary(x).and(check.ordinary(y)).and(check.plain(r).or(check.isZero(r))),
  );
  // Rare enough not to look for exact results.
  return { good: isFast(o, good, () => i32(0)), result: () => r };
}
function addSub(shape: Shape) {
  return (o: Ops, a: Operand, b: Operand) => {
    const y = b.get(), x = a.get(), { good, result } = quickAddSub(o, shape, x, y);
    a.set(slowUnless(o, good, result, `addsub${shape.suffix}`, x, y));
  };
}

/** What ROUNDPS and its relatives take from the immediate: the mode, or MXCSR's (bit 2); bit 3: no precision exception. */
function roundTo(o: Ops, shape: Shape, x: Value, imm: Value): Value {
  const check = new Checks(shape), a = o.let(toFloat(x, shape)), mxcsr = o.ld32("mxcsr");
  const mode = o.let(select(imm.and(4), mxcsr.shrU(13).and(3), imm.and(3)));
  const r = o.c.variable(a.type);
  o.c.switch(mode, [
    () => r.set(check.op("nearest", a)),
    () => r.set(check.op("floor", a)),
    () => r.set(check.op("ceil", a)),
  ], () => r.set(check.op("trunc", a)));
  const quiet = o.let(imm.and(8).or(isPrecisionQuiet(mxcsr)).bool());
  const exact = o.let(check.all(check.op("eq", r.get(), a)));
  const good = check.all(check.ordinary(a)).bool().and(quiet.or(exact.bool()));
  const result = o.c.variable(x.type);
  o.c.if(good, () => result.set(fromFloat(r.get(), shape)), () => {
    const [v] = o.callF(o.deep(`sse.round${shape.suffix}`), o.cpu, x, mode, imm.and(8));
    result.set(v!);
  });
  return result.get();
}
function round(shape: Shape) {
  return (o: Ops, a: Operand, b: Operand, imm: Operand) => {
    const x = b.get();
    a.set(roundTo(o, shape, x, imm.get()));
  };
}

/** DPPS, DPPD: products of the lanes that imm bits 4.. choose, their sum in the lanes that bits 0.. choose. */
function dotProduct(shape: Shape) {
  const width = shape.format.bits / 8, zero = shape.lanes;
  return (o: Ops, a: Operand, b: Operand, imm: Operand) => {
    const y = b.get(), x = a.get(), n = imm.get();
    // Zeros in the other lanes raise nothing.
    const chosen = o.let(laneMask(n.shrU(4), shape.format.bits));
    let sum = arithmetic(o, shape, "mul", o.let(x.and(chosen)), o.let(y.and(chosen)));
    for (let left = shape.lanes; left > 1; left /= 2) {
      // Neighbours added; lanes that are no longer needed are zeros.
      const pick = (odd: number) =>
        o.let(sum.shuffle(
          zeros(),
          lanes(width, ...Array.from({ length: shape.lanes }, (_, i) => i < left / 2 ? 2 * i + odd : zero)),
        ));
      sum = arithmetic(o, shape, "add", pick(0), pick(1));
    }
    const everywhere = sum.shuffle(sum, lanes(width, ...new Array(shape.lanes).fill(0)));
    a.set(everywhere.and(laneMask(n, shape.format.bits)));
  };
}

/**
 * RCPPS and RSQRTPS: the nearest single, closer than the 1.5 × 2^-12 that is promised. No flags; denormals count as zeros, and
 * tiny results become zeros.
 */
export function approximate(root: boolean) {
  return (o: Ops, x: Value): Value => {
    const check = new Checks(PS), sign = allDwords(0x80000000);
    const tiny = (v: Value) => check.op("lt", check.abs(v), allDwords(0x00800000));
    const a = o.let(x.and(sign).op("v128.bitselect", x, tiny(x)));
    const one = () => allDwords(0x3f800000);
    const raw = o.let(check.op("div", one(), root ? check.op("sqrt", a) : a));
    const r = o.let(raw.and(sign).op("v128.bitselect", raw, tiny(raw)));
    const nan = o.let(check.op("ne", x, x));
    const quiet = x.or(allDwords(0x00400000));
    if (!root) return quiet.op("v128.bitselect", r, nan);
    const negative = check.op("lt", a, zeros());
    const valid = o.let(allDwords(0xffc00000).op("v128.bitselect", r, negative));
    return quiet.op("v128.bitselect", valid, nan);
  };
}

export function defineSseFloat(m: Module, f: CpuFuncs): FloatFuncs {
  const base = defineFloatBase(m, f);
  for (const shape of SHAPES) {
    const soft = base.soft[shape.format.bits], convert = base.convert[shape.format.bits];
    for (const name of ["add", "sub", "mul", "div"] as const) {
      deepLanes(m, f, `sse.${name}${shape.suffix}`, shape, 2, (o, [a, b], mx) => softCall(o, soft[name], a!, b!, mx));
    }
    for (const name of ["min", "max"] as const) {
      deepLanes(
        m,
        f,
        `sse.${name}${shape.suffix}`,
        shape,
        2,
        (o, [a, b], mx) => softCall(o, convert[name], a!, b!, mx),
      );
    }
    deepLanes(m, f, `sse.sqrt${shape.suffix}`, shape, 1, (o, [a], mx) => softCall(o, soft.sqrt, a!, mx));
    deepLanes(m, f, `sse.cmp${shape.suffix}`, shape, 2, (o, [a, b, p], mx) => {
      const which = o.let(p!.and(3));
      const signalling = which.eq(1).or(which.eq(2));
      const [relation, flags] = softCall(o, convert.compare, a!, b!, mx, signalling);
      // EQ, LT, LE, UNORD as sets of relations, one in each half-byte.
      const { LESS, EQUAL, UNORDERED } = RELATION;
      const sets = EQUAL | (LESS << 4) | ((LESS | EQUAL) << 8) | (UNORDERED << 12);
      const holds = i32(sets).shrU(which.shl(2)).and(relation).bool().xor(p!.shrU(2));
      return [holds.zx().neg(), flags];
    }, 1);
    deepLanes(m, f, `sse.round${shape.suffix}`, shape, 1, (o, [a, mode, quiet], mx) => {
      const [bits, flags] = softCall(o, convert.roundInt, a!, mode!, mx);
      return [bits, flags.and(select(quiet!, i32(1), 0x3f))];
    }, 2);
    if (!shape.packed) continue;
    deepLanes(
      m,
      f,
      `sse.addsub${shape.suffix}`,
      shape,
      2,
      (o, [a, b], mx, lane) => softCall(o, lane & 1 ? soft.add : soft.sub, a!, b!, mx),
    );
  }
  for (const shape of [SS, SD]) {
    const { compare } = base.convert[shape.format.bits], type = shape === SD ? "i64" : "i32";
    deepFunc(m, f, `sse.comi${shape.suffix}`, [type, type, "i32"], ["i32"], (o, a, b, signalling) => {
      const [relation, flags] = softCall(o, compare, a!.zx(), b!.zx(), o.ld32("mxcsr"), signalling!);
      o.callF(o.deep("sse.flags"), o.cpu, flags);
      o.c.return(STATUS.NEXT, relation);
    });
  }
  return base;
}

/** Semantics of "x+,y" from a function of two values, of "x=,y" from a function of one. */
const two = (f: (o: Ops, x: Value, y: Value) => Value) => (o: Ops, a: Operand, b: Operand) => {
  const y = b.get();
  a.set(f(o, a.get(), y));
};
/** A packed function on one single. */
const scalar = (f: (o: Ops, x: Value) => Value) => (o: Ops, a: Operand, b: Operand) => {
  const x = o.let(low(b.get()));
  a.set(f(o, x).lane("i32x4.extract_lane", 0));
};

/** Rows of the four shapes, told apart by the prefix. */
function shapes(
  code: string,
  name: string,
  args: (v: string, w: string) => string,
  sem: (shape: Shape) => Row["sem"],
): Row[] {
  const list: [string, Shape, string][] = [["NP", PS, "dq"], ["66", PD, "dq"], ["F3", SS, "d"], ["F2", SD, "q"]];
  return list.map(([prefix, shape, size]) => ({
    op: `${prefix} 0F ${code} /r`,
    name: name + shape.suffix,
    args: args(`V${size}`, `W${size}`),
    unit: "sse",
    sem: sem(shape),
  }));
}
const both = (v: string, w: string) => `${v}+,${w}`;
const sse = { unit: "sse" } as const;
const sse3 = { ...sse, feature: "SSE3" } as const, sse41 = { ...sse, feature: "SSE4.1" } as const;
const compares = { ...sse, flags: "OSZAPC" } as const;
const promised = "any result within 1.5 × 2^-12 is right";

export const ROWS: readonly Row[] = [
  ...shapes("51", "SQRT", (v, w) => `${v}=,${w}`, (s) => unary((o, x) => squareRoot(o, s, x))),
  ...shapes("58", "ADD", both, (s) => two((o, x, y) => arithmetic(o, s, "add", x, y))),
  ...shapes("59", "MUL", both, (s) => two((o, x, y) => arithmetic(o, s, "mul", x, y))),
  ...shapes("5C", "SUB", both, (s) => two((o, x, y) => arithmetic(o, s, "sub", x, y))),
  ...shapes("5D", "MIN", both, (s) => two((o, x, y) => extreme(o, s, "min", x, y))),
  ...shapes("5E", "DIV", both, (s) => two((o, x, y) => arithmetic(o, s, "div", x, y))),
  ...shapes("5F", "MAX", both, (s) => two((o, x, y) => extreme(o, s, "max", x, y))),
  ...shapes("C2", "CMP", (v, w) => `${v}+,${w},Iub`, (s) => (o: Ops, a: Operand, b: Operand, imm: Operand) => {
    const y = b.get();
    a.set(compare(o, s, a.get(), y, imm.get()));
  }),
  { op: "NP 0F 2E /r", name: "UCOMISS", args: "Vd,Wd", ...compares, sem: compareFlags(SS, 0) },
  { op: "66 0F 2E /r", name: "UCOMISD", args: "Vq,Wq", ...compares, sem: compareFlags(SD, 0) },
  { op: "NP 0F 2F /r", name: "COMISS", args: "Vd,Wd", ...compares, sem: compareFlags(SS, 1) },
  { op: "66 0F 2F /r", name: "COMISD", args: "Vq,Wq", ...compares, sem: compareFlags(SD, 1) },
  { op: "66 0F 7C /r", name: "HADDPD", args: "Vdq+,Wdq", ...sse3, sem: horizontal(PD, "add") },
  { op: "F2 0F 7C /r", name: "HADDPS", args: "Vdq+,Wdq", ...sse3, sem: horizontal(PS, "add") },
  { op: "66 0F 7D /r", name: "HSUBPD", args: "Vdq+,Wdq", ...sse3, sem: horizontal(PD, "sub") },
  { op: "F2 0F 7D /r", name: "HSUBPS", args: "Vdq+,Wdq", ...sse3, sem: horizontal(PS, "sub") },
  { op: "66 0F D0 /r", name: "ADDSUBPD", args: "Vdq+,Wdq", ...sse3, sem: addSub(PD) },
  { op: "F2 0F D0 /r", name: "ADDSUBPS", args: "Vdq+,Wdq", ...sse3, sem: addSub(PS) },
  { op: "66 0F 3A 08 /r", name: "ROUNDPS", args: "Vdq=,Wdq,Iub", ...sse41, sem: round(PS) },
  { op: "66 0F 3A 09 /r", name: "ROUNDPD", args: "Vdq=,Wdq,Iub", ...sse41, sem: round(PD) },
  { op: "66 0F 3A 0A /r", name: "ROUNDSS", args: "Vd=,Wd,Iub", ...sse41, sem: round(SS) },
  { op: "66 0F 3A 0B /r", name: "ROUNDSD", args: "Vq=,Wq,Iub", ...sse41, sem: round(SD) },
  { op: "66 0F 3A 40 /r", name: "DPPS", args: "Vdq+,Wdq,Iub", ...sse41, sem: dotProduct(PS) },
  { op: "66 0F 3A 41 /r", name: "DPPD", args: "Vdq+,Wdq,Iub", ...sse41, sem: dotProduct(PD) },
  { op: "NP 0F 52 /r", name: "RSQRTPS", args: "Vdq=,Wdq", ...sse, noHost: promised, sem: unary(approximate(true)) },
  { op: "F3 0F 52 /r", name: "RSQRTSS", args: "Vd=,Wd", ...sse, noHost: promised, sem: scalar(approximate(true)) },
  { op: "NP 0F 53 /r", name: "RCPPS", args: "Vdq=,Wdq", ...sse, noHost: promised, sem: unary(approximate(false)) },
  { op: "F3 0F 53 /r", name: "RCPSS", args: "Vd=,Wd", ...sse, noHost: promised, sem: scalar(approximate(false)) },
];
