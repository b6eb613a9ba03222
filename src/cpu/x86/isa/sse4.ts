/** Integers, blends, insertions and extractions of SSE4.1, PCMPGTQ of SSE4.2: [sdm2]. Floating point is in sse_float.ts. */
import { select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { CF, S, ZF } from "../state.ts";
import { mulEven } from "../simd/integer.ts";
import { binary, dword, dwords, iota, laneMask, low, registerAt, same, unary, type VectorOp } from "../simd/vector.ts";

const sse = { unit: "sse", feature: "SSE4.1" } as const;

/** Opcode after 0F 38, mnemonic, meaning. */
export const SSE4_OPS: readonly (readonly [string, string, VectorOp])[] = [
  ["28", "PMULDQ", mulEven("s")],
  ["29", "PCMPEQQ", same("i64x2.eq")],
  ["2B", "PACKUSDW", same("i16x8.narrow_i32x4_u")],
  ["37", "PCMPGTQ", same("i64x2.gt_s")],
  ["38", "PMINSB", same("i8x16.min_s")],
  ["39", "PMINSD", same("i32x4.min_s")],
  ["3A", "PMINUW", same("i16x8.min_u")],
  ["3B", "PMINUD", same("i32x4.min_u")],
  ["3C", "PMAXSB", same("i8x16.max_s")],
  ["3D", "PMAXSD", same("i32x4.max_s")],
  ["3E", "PMAXUW", same("i16x8.max_u")],
  ["3F", "PMAXUD", same("i32x4.max_u")],
  ["40", "PMULLD", same("i32x4.mul")],
];

/** PMOVSX and PMOVZX: opcode's low digit, mnemonic's end, source size, the widenings it takes. */
export const WIDENINGS: [string, string, string, string[]][] = [
  ["0", "BW", "q", ["i16x8.extend_low_i8x16"]],
  ["1", "BD", "d", ["i16x8.extend_low_i8x16", "i32x4.extend_low_i16x8"]],
  ["2", "BQ", "w", ["i16x8.extend_low_i8x16", "i32x4.extend_low_i16x8", "i64x2.extend_low_i32x4"]],
  ["3", "WD", "q", ["i32x4.extend_low_i16x8"]],
  ["4", "WQ", "d", ["i32x4.extend_low_i16x8", "i64x2.extend_low_i32x4"]],
  ["5", "DQ", "q", ["i64x2.extend_low_i32x4"]],
];
function widenRows(): Row[] {
  return (["s", "u"] as const).flatMap((sign) =>
    WIDENINGS.map(([digit, end, size, steps]): Row => ({
      op: `66 0F 38 ${sign === "s" ? 2 : 3}${digit} /r`,
      name: `PMOV${sign === "s" ? "S" : "Z"}X${end}`,
      args: `Vdq=,W${size}`,
      ...sse,
      sem: unary((_o, x) => steps.reduce((v, step) => v.op(`${step}_${sign}`), low(x))),
    }))
  );
}

function blend(width: 16 | 32 | 64) {
  return (_o: Ops, a: Operand, b: Operand, imm: Operand) => {
    const y = b.get();
    a.set(y.op("v128.bitselect", a.get(), laneMask(imm.get(), width)));
  };
}
/** By the sign bits of XMM0's lanes. */
function blendVariable(name: string, bits: number) {
  return (o: Ops, a: Operand, b: Operand) => {
    const y = b.get();
    a.set(y.op("v128.bitselect", a.get(), o.c.ldV(o.cpu, S.xmm).op(name, bits - 1)));
  };
}

function ptest(o: Ops, a: Operand, b: Operand): void {
  const y = b.get(), x = a.get();
  const zero = x.and(y).op("v128.any_true").eqz(), carry = y.op("v128.andnot", x).op("v128.any_true").eqz();
  o.setFlags(zero.mul(ZF).or(carry.mul(CF)));
}

/** The least word and its number: of words with their numbers below them, the least. */
export function phminposuw(o: Ops, x: Value): Value {
  const first = x.op("i32x4.extend_low_i16x8_u").op("i32x4.shl", 16).or(dwords(0, 1, 2, 3));
  const second = x.op("i32x4.extend_high_i16x8_u").op("i32x4.shl", 16).or(dwords(4, 5, 6, 7));
  const four = o.let(first.op("i32x4.min_u", second));
  const two = o.let(four.op("i32x4.min_u", four.shuffle(four, [8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7])));
  const a = dword(two, 0), b = o.let(dword(two, 1));
  return low(o.let(select(a.ltU(b), dword(two, 0), b).rotl(16)));
}

/** Sums of absolute differences of four bytes of b, which imm bits 1..0 choose, and eight places of a, from imm bit 2 on. */
export function sumsOfDifferences(o: Ops, a: Value, source: Value, n: Value): Value {
  const from = (v: Value, at: Value) => o.let(v.op("i8x16.swizzle", iota().op("i8x16.add", at.op("i8x16.splat"))));
  const x = from(a, n.and(4)), y = from(source, n.and(3).shl(2));
  const difference = (k: number): Value => {
    const window = o.let(x.shuffle(x, Array.from({ length: 16 }, (_, i) => Math.min(15, i + k))));
    const byte = o.let(y.shuffle(y, new Array(16).fill(k)));
    return o.let(window.op("i8x16.sub_sat_u", byte).or(byte.op("i8x16.sub_sat_u", window)))
      .op("i16x8.extend_low_i8x16_u");
  };
  return [1, 2, 3].reduce((v, k) => v.op("i16x8.add", difference(k)), difference(0));
}
function mpsadbw(o: Ops, a: Operand, b: Operand, imm: Operand): void {
  const y = b.get();
  a.set(sumsOfDifferences(o, a.get(), y, imm.get()));
}

/** The address of lane `imm` of a register: an i32 to which S.xmm is added. */
function laneAt(o: Ops, field: "d" | "s", imm: Operand, bytes: number): Value {
  return o.let(registerAt(o, field).add(imm.get().and(16 / bytes - 1).shl(Math.log2(bytes))));
}
/** Extraction to a register (zero-extended) or to memory. `bytes`: of the lane; 0: of the operand size. */
function extract(bytes: 0 | 1 | 2 | 4) {
  return (o: Ops, a: Operand, _b: Operand, imm: Operand) => {
    const n = bytes || o.size / 8;
    a.set(o.loadAt(laneAt(o, "s", imm, n), 8 * n, S.xmm));
  };
}
function insert(bytes: 0 | 1) {
  return (o: Ops, _a: Operand, b: Operand, imm: Operand) => {
    const n = bytes || o.size / 8, x = b.get();
    o.storeAt(laneAt(o, "d", imm, n), 8 * n, x, S.xmm);
  };
}
/** imm: bits 7..6 the source's lane (of a register), 5..4 the destination's, 3..0 lanes to clear. */
function insertps(o: Ops, a: Operand, b: Operand, imm: Operand): void {
  const n = imm.get();
  const x = b.isMemory ? b.get() : o.c.ld32(registerAt(o, "s").add(n.shrU(6).shl(2)), S.xmm);
  const keep = o.let(laneMask(n, 32).not());
  o.c.st32(registerAt(o, "d").add(n.shrU(2).and(12)), x, S.xmm);
  a.set(a.get().and(keep));
}

export const ROWS: readonly Row[] = [
  ...SSE4_OPS.map(([code, name, f]): Row => ({
    op: `66 0F 38 ${code} /r`,
    name,
    args: "Vdq+,Wdq",
    ...sse,
    ...(name === "PCMPGTQ" ? { feature: "SSE4.2" } : {}),
    sem: binary(f),
  })),
  ...widenRows(),
  { op: "66 0F 38 10 /r", name: "PBLENDVB", args: "Vdq+,Wdq", ...sse, sem: blendVariable("i8x16.shr_s", 8) },
  { op: "66 0F 38 14 /r", name: "BLENDVPS", args: "Vdq+,Wdq", ...sse, sem: blendVariable("i32x4.shr_s", 32) },
  { op: "66 0F 38 15 /r", name: "BLENDVPD", args: "Vdq+,Wdq", ...sse, sem: blendVariable("i64x2.shr_s", 64) },
  { op: "66 0F 38 17 /r", name: "PTEST", args: "Vdq,Wdq", ...sse, flags: "OSZAPC", sem: ptest },
  { op: "66 0F 38 41 /r", name: "PHMINPOSUW", args: "Vdq=,Wdq", ...sse, sem: unary(phminposuw) },
  { op: "66 0F 3A 0C /r", name: "BLENDPS", args: "Vdq+,Wdq,Iub", ...sse, sem: blend(32) },
  { op: "66 0F 3A 0D /r", name: "BLENDPD", args: "Vdq+,Wdq,Iub", ...sse, sem: blend(64) },
  { op: "66 0F 3A 0E /r", name: "PBLENDW", args: "Vdq+,Wdq,Iub", ...sse, sem: blend(16) },
  { op: "66 0F 3A 14 /r", name: "PEXTRB", args: "Rd=,Vdq,Iub", ...sse, sem: extract(1) },
  { op: "66 0F 3A 14 /r", name: "PEXTRB", args: "Mb=,Vdq,Iub", ...sse, sem: extract(1) },
  { op: "66 0F 3A 15 /r", name: "PEXTRW", args: "Rd=,Vdq,Iub", ...sse, sem: extract(2) },
  { op: "66 0F 3A 15 /r", name: "PEXTRW", args: "Mw=,Vdq,Iub", ...sse, sem: extract(2) },
  { op: "66 0F 3A 16 /r", name: "PEXTRD", args: "Ey=,Vdq,Iub", ...sse, sem: extract(0) },
  { op: "66 0F 3A 17 /r", name: "EXTRACTPS", args: "Ed=,Vdq,Iub", ...sse, sem: extract(4) },
  { op: "66 0F 3A 20 /r", name: "PINSRB", args: "Vdq+,Rd,Iub", ...sse, sem: insert(1) },
  { op: "66 0F 3A 20 /r", name: "PINSRB", args: "Vdq+,Mb,Iub", ...sse, sem: insert(1) },
  { op: "66 0F 3A 21 /r", name: "INSERTPS", args: "Vdq+,Udq,Iub", ...sse, sem: insertps },
  { op: "66 0F 3A 21 /r", name: "INSERTPS", args: "Vdq+,Md,Iub", ...sse, sem: insertps },
  { op: "66 0F 3A 22 /r", name: "PINSRD", args: "Vdq+,Ey,Iub", ...sse, sem: insert(0) },
  { op: "66 0F 3A 42 /r", name: "MPSADBW", args: "Vdq+,Wdq,Iub", ...sse, sem: mpsadbw },
];
