/** Packed integers of SSE2 (66h) and MMX (no prefix), and PSHUFD and its relatives: [sdm2]. */
import type { Module } from "../../../wasm/module.ts";
import type { Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { S } from "../state.ts";
import {
  andNot,
  dwordOrder,
  mulEven,
  mulHigh,
  packMmx,
  type Shift,
  shift,
  shiftBy,
  shiftBytes,
  sumDifferences,
  unpackHigh,
  unpackHighMmx,
  unpackLow,
} from "../simd/integer.ts";
import {
  binary,
  binaryMmx,
  enterMmx,
  lanes,
  low,
  qword,
  registerAt,
  same,
  setMmx,
  type VectorOp,
} from "../simd/vector.ts";

/** Opcode after 0F, mnemonic, meaning, meaning for MMX if it differs. */
export const INTEGER_OPS: readonly (readonly [string, string, VectorOp, VectorOp?])[] = [
  ["60", "PUNPCKLBW", unpackLow(1)],
  ["61", "PUNPCKLWD", unpackLow(2)],
  ["62", "PUNPCKLDQ", unpackLow(4)],
  ["63", "PACKSSWB", same("i8x16.narrow_i16x8_s"), packMmx("i8x16.narrow_i16x8_s")],
  ["64", "PCMPGTB", same("i8x16.gt_s")],
  ["65", "PCMPGTW", same("i16x8.gt_s")],
  ["66", "PCMPGTD", same("i32x4.gt_s")],
  ["67", "PACKUSWB", same("i8x16.narrow_i16x8_u"), packMmx("i8x16.narrow_i16x8_u")],
  ["68", "PUNPCKHBW", unpackHigh(1), unpackHighMmx(1)],
  ["69", "PUNPCKHWD", unpackHigh(2), unpackHighMmx(2)],
  ["6A", "PUNPCKHDQ", unpackHigh(4), unpackHighMmx(4)],
  ["6B", "PACKSSDW", same("i16x8.narrow_i32x4_s"), packMmx("i16x8.narrow_i32x4_s")],
  ["74", "PCMPEQB", same("i8x16.eq")],
  ["75", "PCMPEQW", same("i16x8.eq")],
  ["76", "PCMPEQD", same("i32x4.eq")],
  ["D1", "PSRLW", shiftBy("shr_u", 16)],
  ["D2", "PSRLD", shiftBy("shr_u", 32)],
  ["D3", "PSRLQ", shiftBy("shr_u", 64)],
  ["D4", "PADDQ", same("i64x2.add")],
  ["D5", "PMULLW", same("i16x8.mul")],
  ["D8", "PSUBUSB", same("i8x16.sub_sat_u")],
  ["D9", "PSUBUSW", same("i16x8.sub_sat_u")],
  ["DA", "PMINUB", same("i8x16.min_u")],
  ["DB", "PAND", same("v128.and")],
  ["DC", "PADDUSB", same("i8x16.add_sat_u")],
  ["DD", "PADDUSW", same("i16x8.add_sat_u")],
  ["DE", "PMAXUB", same("i8x16.max_u")],
  ["DF", "PANDN", andNot],
  ["E0", "PAVGB", same("i8x16.avgr_u")],
  ["E1", "PSRAW", shiftBy("shr_s", 16)],
  ["E2", "PSRAD", shiftBy("shr_s", 32)],
  ["E3", "PAVGW", same("i16x8.avgr_u")],
  ["E4", "PMULHUW", mulHigh("u")],
  ["E5", "PMULHW", mulHigh("s")],
  ["E8", "PSUBSB", same("i8x16.sub_sat_s")],
  ["E9", "PSUBSW", same("i16x8.sub_sat_s")],
  ["EA", "PMINSW", same("i16x8.min_s")],
  ["EB", "POR", same("v128.or")],
  ["EC", "PADDSB", same("i8x16.add_sat_s")],
  ["ED", "PADDSW", same("i16x8.add_sat_s")],
  ["EE", "PMAXSW", same("i16x8.max_s")],
  ["EF", "PXOR", same("v128.xor")],
  ["F1", "PSLLW", shiftBy("shl", 16)],
  ["F2", "PSLLD", shiftBy("shl", 32)],
  ["F3", "PSLLQ", shiftBy("shl", 64)],
  ["F4", "PMULUDQ", mulEven("u")],
  ["F5", "PMADDWD", same("i32x4.dot_i16x8_s")],
  ["F6", "PSADBW", sumDifferences],
  ["F8", "PSUBB", same("i8x16.sub")],
  ["F9", "PSUBW", same("i16x8.sub")],
  ["FA", "PSUBD", same("i32x4.sub")],
  ["FB", "PSUBQ", same("i64x2.sub")],
  ["FC", "PADDB", same("i8x16.add")],
  ["FD", "PADDW", same("i16x8.add")],
  ["FE", "PADDD", same("i32x4.add")],
];

function integerRows(): Row[] {
  return INTEGER_OPS.flatMap(([code, name, f, mmx]): Row[] => [
    {
      op: `66 0F ${code} /r`,
      name,
      args: "Vdq+,Wdq",
      unit: "sse",
      ...(name === "PXOR" ? { hot: 1 as const } : {}),
      sem: binary(f),
    },
    // The low unpacks read only half of a memory operand.
    {
      op: `NP 0F ${code} /r`,
      name,
      args: name.startsWith("PUNPCKL") ? "Pq+,Qd" : "Pq+,Qq",
      unit: "mmx",
      sem: binaryMmx(mmx ?? f),
    },
  ]);
}

function shiftImmediate(kind: Shift, bits: number) {
  return (o: Ops, a: Operand, count: Operand) => a.set(shift(o, a.get(), kind, bits, o.let(count.get())));
}
function shiftImmediateMmx(kind: Shift, bits: number) {
  return (o: Ops, a: Operand, count: Operand) => {
    const x = o.let(low(a.get()));
    setMmx(o, qword(shift(o, x, kind, bits, o.let(count.get())), 0));
  };
}
function shiftRows(): Row[] {
  const list: [string, string, Shift, number][] = [
    ["71 /2", "PSRLW", "shr_u", 16],
    ["71 /4", "PSRAW", "shr_s", 16],
    ["71 /6", "PSLLW", "shl", 16],
    ["72 /2", "PSRLD", "shr_u", 32],
    ["72 /4", "PSRAD", "shr_s", 32],
    ["72 /6", "PSLLD", "shl", 32],
    ["73 /2", "PSRLQ", "shr_u", 64],
    ["73 /6", "PSLLQ", "shl", 64],
  ];
  return list.flatMap(([code, name, kind, bits]): Row[] => [
    { op: `66 0F ${code}`, name, args: "Udq+,Iub", unit: "sse", sem: shiftImmediate(kind, bits) },
    { op: `NP 0F ${code}`, name, args: "Nq+,Iub", unit: "mmx", sem: shiftImmediateMmx(kind, bits) },
  ]);
}
function shiftWhole(left: boolean) {
  return (o: Ops, a: Operand, count: Operand) => a.set(shiftBytes(o, a.get(), left, o.let(count.get())));
}

/** Defines "shuffleWords" (four words, order) → four words. */
export function defineSseInt(m: Module, f: CpuFuncs): void {
  f.more.set(
    "shuffleWords",
    m.func("shuffleWords", ["i64", "i32"], ["i64"], (c) => {
      const source = c.param(0), order = c.param(1);
      const word = (i: number): Value => {
        const n = (i < 2 ? order.shl(4 - 2 * i) : order.shrU(2 * i - 4)).and(0x30);
        return source.shrU(n.zx()).and(0xffff).shl(16 * i);
      };
      c.return(word(0).or(word(1)).or(word(2)).or(word(3)));
    }),
  );
}
function pshufd(o: Ops, a: Operand, b: Operand, imm: Operand): void {
  a.set(b.get().op("i8x16.swizzle", dwordOrder(o, imm.get())));
}
function pshufHalf(high: 0 | 1) {
  return (o: Ops, a: Operand, b: Operand, imm: Operand) => {
    const x = b.get();
    const half = o.c.call1(o.deep("shuffleWords"), qword(x, high), imm.get());
    a.set(x.lane("i64x2.replace_lane", high, half));
  };
}
function pshufw(o: Ops, _a: Operand, b: Operand, imm: Operand): void {
  setMmx(o, o.c.call1(o.deep("shuffleWords"), b.get(), imm.get()));
}

/** The address of word `imm` (of `count`) of a register: an i32 to which the register file's offset is added. */
function wordAt(o: Ops, field: "d" | "s", imm: Operand, count: number): Value {
  return o.let(registerAt(o, field).add(imm.get().and(count - 1).shl(1)));
}
function pinsrw(o: Ops, _a: Operand, b: Operand, imm: Operand): void {
  const x = b.get();
  o.c.st16(wordAt(o, "d", imm, 8), x, S.xmm);
}
function pinsrwMmx(o: Ops, _a: Operand, b: Operand, imm: Operand): void {
  const x = b.get();
  o.c.st16(wordAt(o, "d", imm, 4), x, S.fpr);
  o.c.st16(registerAt(o, "d"), 0xffff, S.fpr + 8);
  enterMmx(o);
}
function pextrw(o: Ops, a: Operand, _b: Operand, imm: Operand): void {
  a.set(o.c.ld16u(wordAt(o, "s", imm, 8), S.xmm));
}
function pextrwMmx(o: Ops, a: Operand, _b: Operand, imm: Operand): void {
  enterMmx(o);
  a.set(o.c.ld16u(wordAt(o, "s", imm, 4), S.fpr));
}

function pmovmskb(_o: Ops, a: Operand, b: Operand): void {
  a.set(b.get().op("i8x16.bitmask"));
}
function pmovmskbMmx(o: Ops, a: Operand, b: Operand): void {
  enterMmx(o);
  a.set(low(b.get()).op("i8x16.bitmask"));
}

const quads = (first: 0 | 1): VectorOp => (_o, a, b) => a.shuffle(b, lanes(8, first, first + 2));

export const ROWS: readonly Row[] = [
  ...integerRows(),
  ...shiftRows(),
  { op: "66 0F 6C /r", name: "PUNPCKLQDQ", args: "Vdq+,Wdq", unit: "sse", sem: binary(quads(0)) },
  { op: "66 0F 6D /r", name: "PUNPCKHQDQ", args: "Vdq+,Wdq", unit: "sse", sem: binary(quads(1)) },
  { op: "66 0F 73 /3", name: "PSRLDQ", args: "Udq+,Iub", unit: "sse", sem: shiftWhole(false) },
  { op: "66 0F 73 /7", name: "PSLLDQ", args: "Udq+,Iub", unit: "sse", sem: shiftWhole(true) },
  { op: "66 0F 70 /r", name: "PSHUFD", args: "Vdq=,Wdq,Iub", unit: "sse", sem: pshufd },
  { op: "F3 0F 70 /r", name: "PSHUFHW", args: "Vdq=,Wdq,Iub", unit: "sse", sem: pshufHalf(1) },
  { op: "F2 0F 70 /r", name: "PSHUFLW", args: "Vdq=,Wdq,Iub", unit: "sse", sem: pshufHalf(0) },
  { op: "NP 0F 70 /r", name: "PSHUFW", args: "Pq=,Qq,Iub", unit: "mmx", sem: pshufw },
  { op: "66 0F C4 /r", name: "PINSRW", args: "Vdq+,Rd,Iub", unit: "sse", sem: pinsrw },
  { op: "66 0F C4 /r", name: "PINSRW", args: "Vdq+,Mw,Iub", unit: "sse", sem: pinsrw },
  { op: "NP 0F C4 /r", name: "PINSRW", args: "Pq+,Rd,Iub", unit: "mmx", sem: pinsrwMmx },
  { op: "NP 0F C4 /r", name: "PINSRW", args: "Pq+,Mw,Iub", unit: "mmx", sem: pinsrwMmx },
  { op: "66 0F C5 /r", name: "PEXTRW", args: "Gd=,Udq,Iub", unit: "sse", sem: pextrw },
  { op: "NP 0F C5 /r", name: "PEXTRW", args: "Gd=,Nq,Iub", unit: "mmx", sem: pextrwMmx },
  { op: "66 0F D7 /r", name: "PMOVMSKB", args: "Gd=,Udq", unit: "sse", sem: pmovmskb },
  { op: "NP 0F D7 /r", name: "PMOVMSKB", args: "Gd=,Nq", unit: "mmx", sem: pmovmskbMmx },
];
