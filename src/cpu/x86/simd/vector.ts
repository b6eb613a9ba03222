/** Pieces of vector semantics that many families share: constants, lanes, and how MMX and XMM registers are written. */
import { i64, select, v128, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { Ops } from "../ops.ts";
import { S } from "../state.ts";

/** A vector operation on two vectors; both are leaves. With three-operand encodings the first need not be the destination. */
export type VectorOp = (o: Ops, a: Value, b: Value) => Value;

export const zeros = (): Value => v128(new Uint8Array(16));
/** A vector constant from sixteen bytes, eight words, four doublewords or two quadwords, lowest first. */
export const bytes = (...list: number[]): Value => v128(Uint8Array.from(list));
export const words = (...list: number[]): Value => v128(new Uint8Array(Uint16Array.from(list).buffer));
export const dwords = (...list: number[]): Value => v128(new Uint8Array(Uint32Array.from(list).buffer));
export const qwords = (...list: bigint[]): Value => v128(new Uint8Array(BigUint64Array.from(list).buffer));
/** The same byte (word, ...) in every lane. */
export const allBytes = (x: number): Value => v128(new Uint8Array(16).fill(x));
export const allWords = (x: number): Value => words(...new Array(8).fill(x));
export const allDwords = (x: number): Value => dwords(...new Array(4).fill(x));
export const allQwords = (x: bigint): Value => qwords(x, x);
/** 0, 1, ... 15. */
export const iota = (): Value => v128(Uint8Array.from({ length: 16 }, (_, i) => i));

/** An i32 or i64 in the low lane, zeros above. */
export function low(x: Value): Value {
  return x.type === "i32" ? zeros().lane("i32x4.replace_lane", 0, x) : zeros().lane("i64x2.replace_lane", 0, x);
}
export const qword = (v: Value, lane: 0 | 1): Value => v.lane("i64x2.extract_lane", lane);
export const dword = (v: Value, lane: number): Value => v.lane("i32x4.extract_lane", lane);

/** Byte numbers for `shuffle`: lanes of `width` bytes, numbered through a and then b. */
export function lanes(width: number, ...list: number[]): number[] {
  return list.flatMap((n) => Array.from({ length: width }, (_, i) => n * width + i));
}
/** Low quadword of a, low quadword of b. */
export const joinLow = (a: Value, b: Value): Value => a.shuffle(b, lanes(8, 0, 2));

/** Where the vector register that a field of the record names lies: an i32 to which S.xmm is the offset. */
export function registerAt(o: Ops, field: "d" | "s" | "x"): Value {
  return o.let(o.cpu.add(o.field(field)));
}

/** After an MMX instruction the stack's top is 0 and no register is empty: [sdm1 §9.5.1]. */
export function enterMmx(o: Ops): void {
  o.st32("ftop", 0);
  o.st64("fempty", 0);
}
/** Writes the MMX register that the record's field d names: sign and exponent become ones. */
export function setMmx(o: Ops, value: Value): void {
  const at = registerAt(o, "d");
  o.c.st64(at, value, S.fpr);
  o.c.st16(at, 0xffff, S.fpr + 8);
  enterMmx(o);
}

/** Semantics of "Vdq+,Wdq". */
export function binary(f: VectorOp): (o: Ops, a: Operand, b: Operand) => void {
  return (o, a, b) => {
    const y = b.get();
    a.set(f(o, a.get(), y));
  };
}
/** Semantics of "Pq+,Qq" (or Qd): f on the low halves of vectors. */
export function binaryMmx(f: VectorOp): (o: Ops, a: Operand, b: Operand) => void {
  return (o, a, b) => {
    const y = o.let(low(b.get())), x = o.let(low(a.get()));
    setMmx(o, qword(f(o, x, y), 0));
  };
}
/** An instruction that is one WebAssembly instruction. */
export const same = (name: string): VectorOp => (_o, a, b) => a.op(name, b);

/** A shift count cut to `width`, which stands for all greater ones. */
export function shiftCount(o: Ops, count: Value, width: number): Value {
  const big = count.type === "i64" ? i64(width) : width;
  return o.let(select(count.ltU(width), count, big).lo());
}

/** Ones in the lanes whose bit of `bits` (an i32) is set. */
export function laneMask(bits: Value, width: 16 | 32 | 64): Value {
  switch (width) {
    case 16:
      return bits.op("i16x8.splat").and(words(1, 2, 4, 8, 16, 32, 64, 128)).op("i16x8.ne", zeros());
    case 32:
      return bits.op("i32x4.splat").and(dwords(1, 2, 4, 8)).op("i32x4.ne", zeros());
    case 64:
      return bits.zx().op("i64x2.splat").and(qwords(1n, 2n)).op("i64x2.ne", zeros());
  }
}
/** Semantics of "x=,y" from a function of one value. */
export const unary = (f: (o: Ops, x: Value) => Value) => (o: Ops, a: Operand, b: Operand): void => a.set(f(o, b.get()));
