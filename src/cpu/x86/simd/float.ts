/**
 * Floating-point vector semantics: a fast path in WebAssembly's own arithmetic, which rounds to nearest and knows no flags,
 * and a slow one (soft_float.ts) for all else.
 *
 * The fast path is right when MXCSR is at its default but for sticky flags, and operands and result are zeros or normal
 * numbers: then no flag but PE can arise. Either PE is set already, as it soon is in most programs, or the result must be seen
 * to be exact, as it is in programs that count in floating point. A result that is the smallest normal number may have been
 * tiny before rounding, and so takes the slow path.
 */
import type { Func, Module } from "../../../wasm/module.ts";
import { f32, f64, select, v128, type Value } from "../../../wasm/value.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import { CR4, EXC } from "../state.ts";
import { defineSoftConvert, type SoftConverts } from "./soft_convert.ts";
import { allDwords, allQwords, zeros } from "./vector.ts";
import { defineSoftFloat, DOUBLE, type Format, MXCSR, SINGLE, type SoftFloats } from "./soft_float.ts";

/** How many numbers an operand holds, and of which format. */
export interface Shape {
  readonly format: Format;
  readonly packed: boolean;
  /** PS, PD, SS, SD. */
  readonly suffix: string;
  /** Prefix of WebAssembly's instructions. */
  readonly wasm: "f32" | "f64" | "f32x4" | "f64x2";
  readonly lanes: number;
}
export const PS: Shape = { format: SINGLE, packed: true, suffix: "PS", wasm: "f32x4", lanes: 4 };
export const PD: Shape = { format: DOUBLE, packed: true, suffix: "PD", wasm: "f64x2", lanes: 2 };
export const SS: Shape = { format: SINGLE, packed: false, suffix: "SS", wasm: "f32", lanes: 1 };
export const SD: Shape = { format: DOUBLE, packed: false, suffix: "SD", wasm: "f64", lanes: 1 };
export const SHAPES = [PS, PD, SS, SD] as const;

/** A lane of a vector as the i64 that the soft functions take; a scalar is itself. */
export function laneOf(v: Value, shape: Shape, lane: number): Value {
  if (!shape.packed) return v.zx();
  return shape.format.bits === 64 ? v.lane("i64x2.extract_lane", lane) : v.lane("i32x4.extract_lane", lane).zx();
}
export function withLane(v: Value, shape: Shape, lane: number, bits: Value): Value {
  if (!shape.packed) return shape.format.bits === 64 ? bits : bits.lo();
  return shape.format.bits === 64
    ? v.lane("i64x2.replace_lane", lane, bits)
    : v.lane("i32x4.replace_lane", lane, bits.lo());
}

/** The numbers themselves, for WebAssembly's arithmetic. Scalars arrive as integers. */
export function toFloat(v: Value, shape: Shape): Value {
  return shape.packed ? v : v.op(shape.format.bits === 64 ? "f64.reinterpret_i64" : "f32.reinterpret_i32");
}
export function fromFloat(v: Value, shape: Shape): Value {
  return shape.packed ? v : v.op(shape.format.bits === 64 ? "i64.reinterpret_f64" : "i32.reinterpret_f32");
}

function constant(shape: Shape, x: number): Value {
  if (!shape.packed) return shape.format.bits === 64 ? f64(x) : f32(x);
  const numbers = shape.format.bits === 64 ? new Float64Array(2).fill(x) : new Float32Array(4).fill(x);
  return v128(new Uint8Array(numbers.buffer));
}

/** The checks of the fast paths, as masks (packed) or conditions (scalar). */
export class Checks {
  readonly #min: number;
  readonly #max: number;
  constructor(private readonly shape: Shape) {
    const single = shape.format.bits === 32;
    this.#min = single ? 2 ** -126 : 2 ** -1022;
    this.#max = single ? (2 - 2 ** -23) * 2 ** 127 : Number.MAX_VALUE;
  }
  op(name: string, a: Value, b?: Value): Value {
    return b ? a.op(`${this.shape.wasm}.${name}`, b) : a.op(`${this.shape.wasm}.${name}`);
  }
  abs(a: Value): Value {
    return this.op("abs", a);
  }
  isZero(a: Value): Value {
    return this.op("eq", a, constant(this.shape, 0));
  }
  /** Neither NaN nor denormal; infinities pass. */
  ordinary(a: Value): Value {
    return this.op("ge", this.abs(a), constant(this.shape, this.#min)).or(this.isZero(a));
  }
  /** A finite number above the smallest normal one. */
  plain(a: Value): Value {
    return this.op("gt", this.abs(a), constant(this.shape, this.#min))
      .and(this.op("le", this.abs(a), constant(this.shape, this.#max)));
  }
  below(a: Value, limit: number): Value {
    return this.op("lt", this.abs(a), constant(this.shape, limit));
  }
  /**
   * Whether numbers (as they arrived: vectors or integers) have at most half of the significand's bits, so that a product of
   * two of them is exact.
   */
  short(...list: Value[]): Value {
    const any = list.reduce((x, y) => x.or(y)), double = this.shape.format.bits === 64;
    const low = double ? 0x7ff_ffffn : 0xfffn;
    if (!this.shape.packed) return any.and(double ? low : Number(low)).eqz();
    const rest = any.and(double ? allQwords(low) : allDwords(Number(low)));
    return rest.op(double ? "i64x2.eq" : "i32x4.eq", zeros());
  }
  /** Whether a mask holds everywhere: an i32. */
  all(mask: Value): Value {
    if (!this.shape.packed) return mask;
    return mask.op(this.shape.format.bits === 64 ? "i64x2.all_true" : "i32x4.all_true");
  }
}

/** Everything masked, round to nearest, no DAZ or FTZ. */
export function isDefault(mxcsr: Value): Value {
  return mxcsr.and(0xffc0).eq(0x1f80);
}
/** Round to nearest, and PE makes no difference. */
export function isInexactQuiet(mxcsr: Value): Value {
  return mxcsr.and(MXCSR.RC | MXCSR.PM | MXCSR.PE).eq(MXCSR.PM | MXCSR.PE);
}
/** PE makes no difference. */
export function isPrecisionQuiet(mxcsr: Value): Value {
  return mxcsr.and(MXCSR.PM | MXCSR.PE).eq(MXCSR.PM | MXCSR.PE);
}

/** A fast path over one vector (or scalar) of each operand: whether it is right, and what it gives. */
export interface Quick {
  readonly good: Value;
  readonly result: () => Value;
}

/** A lane's computation: calls a soft function; gives bits and flags. */
export type Lane = (o: Ops, operands: readonly Value[], mxcsr: Value, lane: number) => readonly [Value, Value];

/**
 * Defines a deep function over whole operands, (a, b, …) → result, from a computation on lanes. `extra` more i32 parameters
 * reach the computation after the operands.
 */
export function deepLanes(
  m: Module,
  f: CpuFuncs,
  name: string,
  shape: Shape,
  operands: number,
  lane: Lane,
  extra = 0,
): void {
  const type = shape.packed ? "v128" : shape.format.bits === 64 ? "i64" : "i32";
  const params = [...new Array(operands).fill(type), ...new Array(extra).fill("i32")];
  deepFunc(m, f, name, params, [type], (o, ...all) => {
    const c = o.c, mxcsr = o.ld32("mxcsr");
    const result = c.variable(type, all[0]!), flags = c.variable("i32", 0);
    for (let i = 0; i < shape.lanes; i++) {
      const values = all.map((v, n) => n < operands ? c.let(laneOf(v, shape, i)) : v);
      const [bits, more] = lane(o, values, mxcsr, i);
      result.set(withLane(result.get(), shape, i, bits));
      flags.set(flags.get().or(more));
    }
    o.callF(o.deep("sse.flags"), o.cpu, flags.get());
    c.return(STATUS.NEXT, result.get());
  });
}

/** Calls a soft function of two results. */
export function softCall(o: Ops, func: Func, ...args: Value[]): readonly [Value, Value] {
  return o.c.call(func, ...args) as [Value, Value];
}

export interface FloatFuncs {
  readonly soft: SoftFloats;
  readonly convert: SoftConverts;
}

/**
 * Defines the soft functions, and "sse.flags" (flags): notes exception flags in MXCSR and raises what is unmasked. Those that
 * are found before anything is computed (IE, DE, ZE) come first, and alone, if one of them is unmasked.
 */
export function defineFloatBase(m: Module, f: CpuFuncs): FloatFuncs {
  const soft = defineSoftFloat(m), convert = defineSoftConvert(m, soft);
  deepFunc(m, f, "sse.flags", ["i32"], [], (o, flags) => {
    const c = o.c, mxcsr = o.ld32("mxcsr");
    const unmasked = c.let(mxcsr.shrU(7).not().and(0x3f));
    const before = c.let(flags!.and(MXCSR.IE | MXCSR.DE | MXCSR.ZE));
    const seen = c.let(select(before.and(unmasked), before, flags!));
    o.st32("mxcsr", mxcsr.or(seen));
    c.if(seen.and(unmasked), () => {
      o.faultIf(o.ld32("cr4").and(CR4.OSXMMEXCPT).eqz(), EXC.UD);
      o.fault(EXC.XM);
    });
  });
  return { soft, convert };
}
