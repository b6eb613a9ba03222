/** FMA: x × y + z with one rounding, in its three orders of operands: [sdm2 VFMADD132PD on], [sdm1 §14.5]. */
import type { Module } from "../../../wasm/module.ts";
import { i32, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { type FloatFuncs, PD, PS, SD, type Shape, SHAPES, softCall, SS } from "../simd/float.ts";
import { quickFma } from "../simd/fma_quick.ts";
import { FORMATS } from "../simd/soft_float.ts";
import { defineSoftFma, FMA } from "../simd/soft_fma.ts";
import { type Length, LENGTHS, lengths, register, setRegister, single, source, whole } from "../simd/wide.ts";
import { callWide, deepWide } from "../simd/wide_float.ts";
import { lowLane } from "./avx_float.ts";

/** With this bit, even lanes have the other sign of the addend. */
const ALTERNATE = 4;

export function defineFma(m: Module, f: CpuFuncs, { soft }: FloatFuncs): void {
  const fma = defineSoftFma(m, soft, FORMATS);
  for (const shape of SHAPES) {
    for (const length of shape.packed ? LENGTHS : [1] as const) {
      deepWide(
        m,
        f,
        "fma",
        shape,
        length,
        3,
        (o, [x, y, z, how], mx, lane) => {
          const kind = lane & 1 ? how! : o.let(how!.xor(how!.shrU(1).and(FMA.NEGATE_ADDEND)));
          return softCall(o, fma[shape.format.bits], x!, y!, z!, mx, kind);
        },
        (o, [x, y, z], [how]) => quickFma(o, shape, x!, y!, z!, how!),
        1,
      );
    }
  }
}

/** Which of the operands (1 to 3) are multiplied, and which is added. */
const ORDERS = { 132: [1, 3, 2], 213: [2, 1, 3], 231: [2, 3, 1] } as const;
type Order = keyof typeof ORDERS;

const packed =
  (shape: Shape, order: Order, how: number) => (length: Length) => (o: Ops, _a: Operand, _b: Operand, w: Operand) => {
    const third = source(o, w, 2, length);
    const operands = [register(o, 0, length), register(o, 1, length), third];
    setRegister(o, callWide(o, "fma", shape, ORDERS[order].map((n) => operands[n - 1]!), i32(how)));
  };
/** The other lanes of the destination stay. */
const scalar = (shape: Shape, order: Order, how: number) => (o: Ops, _a: Operand, _b: Operand, w: Operand) => {
  const third = w.get(), first = whole(o, 0);
  const operands: Value[] = [o.let(lowLane(first, shape)), o.let(lowLane(whole(o, 1), shape)), third];
  const [r] = callWide(o, "fma", shape, ORDERS[order].map((n) => [operands[n - 1]!]), i32(how));
  setRegister(o, [
    shape.format.bits === 64 ? first.lane("i64x2.replace_lane", 0, r!) : first.lane("i32x4.replace_lane", 0, r!),
  ]);
};

const feature = ["FMA", "FMA"] as const;
/** Low digit of the opcode, mnemonic, what is negated; scalars have none that alternate. */
const KINDS: [number, string, number, boolean][] = [
  [0x6, "VFMADDSUB", ALTERNATE, false],
  [0x7, "VFMSUBADD", ALTERNATE | FMA.NEGATE_ADDEND, false],
  [0x8, "VFMADD", 0, true],
  [0xa, "VFMSUB", FMA.NEGATE_ADDEND, true],
  [0xc, "VFNMADD", FMA.NEGATE_PRODUCT, true],
  [0xe, "VFNMSUB", FMA.NEGATE_PRODUCT | FMA.NEGATE_ADDEND, true],
];

export const ROWS: readonly Row[] = ([[0x90, 132], [0xa0, 213], [0xb0, 231]] as const).flatMap(([base, order]) =>
  KINDS.flatMap(([low, name, how, scalars]) => {
    const code = (n: number) => (base + n).toString(16).toUpperCase();
    const list = ([[PS, "W0"], [PD, "W1"]] as const).flatMap(([shape, w]) =>
      lengths(
        `${w} 66 0F 38 ${code(low)} /r`,
        `${name}${order}${shape.suffix}`,
        "V+,H,W",
        feature,
        packed(shape, order, how),
      )
    );
    if (!scalars) return list;
    for (const [shape, w, size] of [[SS, "W0", "d"], [SD, "W1", "q"]] as const) {
      list.push(
        single(
          `${w} 66 0F 38 ${code(low + 1)} /r`,
          `${name}${order}${shape.suffix}`,
          `Vu+,Hu,W${size}`,
          scalar(shape, order, how),
          {
            feature: "FMA",
            ignored: true,
          },
        ),
      );
    }
    return list;
  })
);
