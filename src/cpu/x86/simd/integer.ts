/** Packed integer operations that MMX and XMM registers share, as functions of two vectors: [sdm2]. */
import { select, type Value } from "../../../wasm/value.ts";
import type { Ops } from "../ops.ts";
import {
  allBytes,
  allDwords,
  allQwords,
  allWords,
  dwords,
  iota,
  joinLow,
  lanes,
  same,
  shiftCount,
  type VectorOp,
  zeros,
} from "./vector.ts";

const SHAPE: Record<number, string> = { 8: "i8x16", 16: "i16x8", 32: "i32x4", 64: "i64x2" };
const range = (n: number, f: (i: number) => number) => Array.from({ length: n }, (_, i) => f(i));

/** Interleaves lanes of `width` bytes, from lane `first` of each. */
export function interleave(width: number, first: number): VectorOp {
  const n = 16 / width;
  const order = range(n, (i) => first + (i >> 1) + (i & 1) * n);
  return (_o, a, b) => a.shuffle(b, lanes(width, ...order));
}
export const unpackLow = (width: number): VectorOp => interleave(width, 0);
export const unpackHigh = (width: number): VectorOp => interleave(width, 8 / width);
/** The same within an MMX register. */
export const unpackHighMmx = (width: number): VectorOp => interleave(width, 4 / width);

/** Narrowing with saturation, and the same for MMX: both sources fit one vector. */
export const pack = same;
export function packMmx(name: string): VectorOp {
  return (o, a, b) => {
    const both = o.let(joinLow(a, b));
    return both.op(name, both);
  };
}

export const andNot: VectorOp = (_o, a, b) => b.op("v128.andnot", a);

/** High words of the products. */
export function mulHigh(sign: "s" | "u"): VectorOp {
  return (_o, a, b) =>
    a.op(`i32x4.extmul_low_i16x8_${sign}`, b).shuffle(
      a.op(`i32x4.extmul_high_i16x8_${sign}`, b),
      lanes(2, 1, 3, 5, 7, 9, 11, 13, 15),
    );
}
/** Products of the even doublewords. */
export function mulEven(sign: "s" | "u"): VectorOp {
  const even = lanes(4, 0, 2, 0, 2);
  return (_o, a, b) => a.shuffle(a, even).op(`i64x2.extmul_low_i32x4_${sign}`, b.shuffle(b, even));
}
/** Rounded high words. The saturating instruction differs for -1 × -1, which gives -1. */
export const mulRound: VectorOp = (_o, a, b) => {
  const lowest = allWords(0x8000);
  const both = a.op("i16x8.eq", lowest).and(b.op("i16x8.eq", lowest));
  return a.op("i16x8.q15mulr_sat_s", b).xor(both);
};
/** Unsigned bytes of a times signed bytes of b, neighbours added with saturation. */
export const mulAddBytes: VectorOp = (_o, a, b) => {
  const even = a.and(allWords(0xff)).op("i16x8.mul", b.op("i16x8.shl", 8).op("i16x8.shr_s", 8));
  return even.op("i16x8.add_sat_s", a.op("i16x8.shr_u", 8).op("i16x8.mul", b.op("i16x8.shr_s", 8)));
};
/** Sums of absolute differences of eight bytes. */
export const sumDifferences: VectorOp = (o, a, b) => {
  const difference = a.op("i8x16.sub_sat_u", b).or(b.op("i8x16.sub_sat_u", a));
  const four = o.let(
    difference.op("i16x8.extadd_pairwise_i8x16_u").op("i32x4.extadd_pairwise_i16x8_u"),
  );
  return four.op("i64x2.add", four.op("i64x2.shr_u", 32)).and(allQwords(0xffff_ffffn));
};

/** Neighbouring lanes of `width` bytes combined: a's pairs, then b's. */
export function horizontal(width: number, name: string): VectorOp {
  const n = 16 / width;
  return (_o, a, b) =>
    a.shuffle(b, lanes(width, ...range(n, (i) => 2 * i))).op(
      name,
      a.shuffle(b, lanes(width, ...range(n, (i) => 2 * i + 1))),
    );
}
export function horizontalMmx(width: number, name: string): VectorOp {
  const f = horizontal(width, name);
  return (o, a, b) => {
    const both = o.let(joinLow(a, b));
    return f(o, both, both);
  };
}

/** a, negated where b is negative, zero where b is zero. */
export function sign(bits: number): VectorOp {
  const shape = SHAPE[bits]!;
  return (o, a, b) => {
    const minus = o.let(b.op(`${shape}.shr_s`, bits - 1));
    return a.xor(minus).op(`${shape}.sub`, minus).op("v128.andnot", b.op(`${shape}.eq`, zeros()));
  };
}
/** The absolute value of the source. */
export const abs = (bits: number): VectorOp => (_o, _a, b) => b.op(`${SHAPE[bits]!}.abs`);

/** Bytes of a chosen by b's low bits; b's bit 7 makes a zero. */
export const shuffleBytes: VectorOp = (_o, a, b) => a.op("i8x16.swizzle", b.and(allBytes(0x8f)));
export const shuffleBytesMmx: VectorOp = (_o, a, b) => a.op("i8x16.swizzle", b.and(allBytes(0x87)));

export type Shift = "shl" | "shr_u" | "shr_s";
/** All lanes by one count, an i32 or i64 of any size. */
export function shift(o: Ops, a: Value, kind: Shift, bits: number, count: Value): Value {
  const shape = SHAPE[bits]!;
  if (kind === "shr_s") {
    const n = shiftCount(o, count, bits - 1);
    return a.op(`${shape}.shr_s`, n);
  }
  const n = shiftCount(o, count, bits);
  return select(n.ltU(bits), a.op(`${shape}.${kind}`, n), zeros());
}
/** The count is the source's low quadword. */
export function shiftBy(kind: Shift, bits: number): VectorOp {
  return (o, a, b) => shift(o, a, kind, bits, o.let(b.lane("i64x2.extract_lane", 0)));
}
/** The whole register, by bytes. Byte numbers that leave 0..15 give zeros. */
export function shiftBytes(o: Ops, a: Value, left: boolean, count: Value): Value {
  const n = shiftCount(o, count, 16).op("i8x16.splat");
  return a.op("i8x16.swizzle", iota().op(left ? "i8x16.sub" : "i8x16.add", n));
}
/** Sixteen bytes of b (low) and a (high), from byte `count` on. */
export function alignRight(o: Ops, a: Value, b: Value, count: Value): Value {
  const n = o.let(shiftCount(o, count, 32).op("i8x16.splat"));
  const at = o.let(iota().op("i8x16.add", n));
  return b.op("i8x16.swizzle", at).or(a.op("i8x16.swizzle", at.op("i8x16.sub", allBytes(16))));
}

/** The byte numbers of PSHUFD and SHUFPS: lane i is the doubleword that bits 2i+1..2i of `imm` name. */
export function dwordOrder(o: Ops, imm: Value): Value {
  // A product with 64, 16, 4, 1 puts each pair of bits at the same place.
  const index = o.let(
    imm.op("i32x4.splat").op("i32x4.mul", dwords(64, 16, 4, 1)).op("i32x4.shr_u", 6).and(allDwords(3)),
  );
  const four = index.shuffle(index, [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12]);
  return o.let(four.op("i32x4.shl", 2).or(allDwords(0x03020100)));
}
