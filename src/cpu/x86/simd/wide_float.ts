/**
 * Floating point over one or two halves: one deep function for each operation, shape and length, so that the exception flags
 * of all lanes are known before one of them is raised: [sdm1 §11.5.2], [sdm2 §2.4].
 */
import type { Module } from "../../../wasm/module.ts";
import { i64, select, type Value } from "../../../wasm/value.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import { type Lane, laneOf, type Quick, type Shape, withLane } from "./float.ts";
import type { Halves, Length } from "./wide.ts";

export const wideName = (name: string, shape: Shape, length: Length): string =>
  `avx.${name}${shape.suffix}${length === 2 ? ".256" : ""}`;

/**
 * Defines the deep function of `name`: (halves of the first operand, of the second, …, `extra` i32 parameters) → halves.
 * `prepare` makes what `quick` and `lane` get of the extra parameters.
 */
export function deepWide(
  m: Module,
  f: CpuFuncs,
  name: string,
  shape: Shape,
  length: Length,
  operands: number,
  lane: Lane,
  quick?: (o: Ops, operands: readonly Value[], extra: readonly Value[]) => Quick,
  extra = 0,
  prepare: (o: Ops, extra: readonly Value[]) => readonly Value[] = (_o, list) => list,
): void {
  const type = shape.packed ? "v128" : shape.format.bits === 64 ? "i64" : "i32";
  const params = [...new Array(operands * length).fill(type), ...new Array(extra).fill("i32")];
  deepFunc(m, f, wideName(name, shape, length), params, new Array(length).fill(type), (o, ...all) => {
    const c = o.c, more = prepare(o, all.slice(operands * length));
    const half = (h: number) => Array.from({ length: operands }, (_, n) => all[n * length + h]!);
    const halves = Array.from({ length }, (_, h) => half(h));
    if (quick) {
      const ways = halves.map((list) => quick(o, list, more));
      c.if(ways.map((w) => o.let(w.good.bool())).reduce((p, q) => p.and(q)), () => {
        const results = ways.map((w) => o.let(w.result()));
        c.return(STATUS.NEXT, ...results);
      });
    }
    const mxcsr = o.ld32("mxcsr"), flags = c.variable("i32", 0);
    const results = halves.map((list) => {
      const result = c.variable(type, list[0]!);
      for (let i = 0; i < shape.lanes; i++) {
        c.scope(() => {
          const values = list.map((v) => c.let(laneOf(v, shape, i)));
          const [bits, seen] = lane(o, [...values, ...more], mxcsr, i);
          result.set(withLane(result.get(), shape, i, bits));
          flags.set(flags.get().or(seen));
        });
      }
      return result.get();
    });
    o.callF(o.deep("sse.flags"), o.cpu, flags.get());
    c.return(STATUS.NEXT, ...results);
  });
}

/** Calls it. */
export function callWide(
  o: Ops,
  name: string,
  shape: Shape,
  operands: readonly Halves[],
  ...extra: Value[]
): Value[] {
  const length = operands[0]!.length as Length;
  return o.callF(o.deep(wideName(name, shape, length)), o.cpu, ...operands.flat(), ...extra);
}

/** LESS, EQUAL, GREATER, UNORDERED as bits 0 to 3: for which relations each of predicates 0 to 15 holds: [sdm2 table 3-1]. */
const PREDICATES = [2, 1, 3, 8, 13, 14, 12, 7, 10, 9, 11, 0, 5, 6, 4, 15];
const SETS = PREDICATES.reduce((all, set, i) => all | (BigInt(set) << BigInt(4 * i)), 0n);
/** The relations for which predicate `p` of 0 to 31 holds: 16 to 31 differ from the others in what signals. */
export const relations = (p: Value): Value => i64(SETS).shrU(p.and(15).shl(2).zx()).lo().and(15);
/** Whether quiet NaNs are invalid for it. */
export const isSignalling = (p: Value): Value => p.xor(p.shrU(1)).and(1).xor(p.shrU(4).and(1));

/** `yes` where `condition` is not 0, else zero. */
export const only = (condition: Value, yes: Value): Value => select(condition, yes, yes.type === "i64" ? 0n : 0);
