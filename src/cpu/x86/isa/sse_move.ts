/** Moves, unpacks, shuffles and logic of SSE and SSE2, and MXCSR: [sdm2]. */
import { select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { S } from "../state.ts";
import { andNot, dwordOrder, unpackHigh, unpackLow } from "../simd/integer.ts";
import { binary, enterMmx, lanes, low, qword, registerAt, same, setMmx, type VectorOp, zeros } from "../simd/vector.ts";

function move(_o: Ops, a: Operand, b: Operand): void {
  a.set(b.get());
}
/** Loads the low lane and clears the rest of the register. */
function moveZero(_o: Ops, a: Operand, b: Operand): void {
  a.set(low(b.get()));
}
/** MOVQ to a register or to memory. */
function moveQuad(o: Ops, a: Operand, b: Operand): void {
  if (a.isMemory) a.set(b.get());
  else o.c.stV(registerAt(o, "d"), low(b.get()), S.xmm);
}

function movhlps(_o: Ops, a: Operand, b: Operand): void {
  a.set(qword(b.get(), 1));
}
function loadHigh(_o: Ops, a: Operand, b: Operand): void {
  const x = b.get();
  a.set(a.get().lane("i64x2.replace_lane", 1, x));
}
function storeHigh(_o: Ops, a: Operand, b: Operand): void {
  a.set(qword(b.get(), 1));
}
function movlhps(_o: Ops, a: Operand, b: Operand): void {
  a.set(a.get().shuffle(b.get(), lanes(8, 0, 2)));
}
function movddup(_o: Ops, a: Operand, b: Operand): void {
  a.set(b.get().op("i64x2.splat"));
}
function duplicate(...order: number[]) {
  return (_o: Ops, a: Operand, b: Operand) => {
    const x = b.get();
    a.set(x.shuffle(x, lanes(4, ...order)));
  };
}

function mask(lanesName: "i32x4" | "i64x2") {
  return (_o: Ops, a: Operand, b: Operand) => a.set(b.get().op(`${lanesName}.bitmask`));
}

function shufps(o: Ops, a: Operand, b: Operand, imm: Operand): void {
  const y = b.get(), order = dwordOrder(o, imm.get());
  const chosen = y.op("i8x16.swizzle", order);
  a.set(a.get().op("i8x16.swizzle", order).shuffle(chosen, lanes(8, 0, 3)));
}
function shufpd(o: Ops, a: Operand, b: Operand, imm: Operand): void {
  const y = b.get(), x = a.get(), order = imm.get();
  const first = select(order.and(1), qword(x, 1), qword(x, 0));
  const second = select(order.and(2), qword(y, 1), qword(y, 0));
  a.set(zeros().lane("i64x2.replace_lane", 0, first).lane("i64x2.replace_lane", 1, o.let(second)));
}

/** MMX moves. */
function movqLoad(o: Ops, _a: Operand, b: Operand): void {
  setMmx(o, b.get());
}
function movqStore(o: Ops, a: Operand, b: Operand): void {
  const x = b.get();
  if (!a.isMemory) return setMmx(o, x);
  a.set(x);
  enterMmx(o);
}
function movdLoadMmx(o: Ops, _a: Operand, b: Operand): void {
  setMmx(o, b.get().zx());
}
function movdStoreMmx(o: Ops, a: Operand, b: Operand): void {
  const x = b.get();
  a.set(o.size === 64 ? x : x.lo());
  enterMmx(o);
}
function movdStore(o: Ops, a: Operand, b: Operand): void {
  const x = b.get();
  a.set(o.size === 64 ? x : x.lo());
}
function movq2dq(o: Ops, a: Operand, b: Operand): void {
  a.set(low(b.get()));
  enterMmx(o);
}
function emms(o: Ops): void {
  o.st32("ftop", 0);
  o.st64("fempty", 0x0101_0101_0101_0101n);
}

/** DS:rDI by the record's segment (b) and address size (x): linear address of `size` bytes to be written. */
function destination(o: Ops, size: number): Value {
  const x = o.field("x"), di = o.gpr(7);
  const cut = select(x.eq(8), di, o.let(select(x.eq(4), di.and(0xffff_ffff), di.and(0xffff))));
  const [at] = o.callF(o.deep("segLinear"), o.cpu, o.field("b"), o.let(cut), size, 1);
  return at!;
}
/** Stores the bytes whose bit of `bits` is set. Nothing is touched if there is none. */
function storeMasked(o: Ops, bits: Value, size: 8 | 16, byte: (i: number) => Value): void {
  const c = o.c;
  c.if(bits, () => {
    const at = o.writeAt(destination(o, size), size);
    for (let i = 0; i < size; i++) c.if(bits.and(1 << i), () => c.st8(at, byte(i), i));
    o.commit(at);
  });
}
export function maskmovdqu(o: Ops, a: Operand, b: Operand): void {
  const x = a.get(), bits = o.let(b.get().op("i8x16.bitmask"));
  storeMasked(o, bits, 16, (i) => x.lane("i8x16.extract_lane_u", i));
}
function maskmovq(o: Ops, a: Operand, b: Operand): void {
  const x = a.get(), bits = o.let(low(b.get()).op("i8x16.bitmask"));
  storeMasked(o, bits, 8, (i) => x.shrU(8 * i).lo());
  enterMmx(o);
}

function ldmxcsr(o: Ops, a: Operand): void {
  const x = a.get();
  o.gpIf(x.shrU(16).bool());
  o.st32("mxcsr", x);
}
function stmxcsr(o: Ops, a: Operand): void {
  a.set(o.ld32("mxcsr"));
}

const LOGIC: [string, string, VectorOp][] = [
  ["54", "AND", same("v128.and")],
  ["55", "ANDN", andNot],
  ["56", "OR", same("v128.or")],
  ["57", "XOR", same("v128.xor")],
];
const sse = { unit: "sse" } as const, mmx = { unit: "mmx" } as const;

export const ROWS: readonly Row[] = [
  { op: "NP 0F 10 /r", name: "MOVUPS", args: "Vu=,Wu", ...sse, hot: 1, sem: move },
  { op: "NP 0F 11 /r", name: "MOVUPS", args: "Wu=,Vu", ...sse, hot: 1, sem: move },
  { op: "66 0F 10 /r", name: "MOVUPD", args: "Vu=,Wu", ...sse, sem: move },
  { op: "66 0F 11 /r", name: "MOVUPD", args: "Wu=,Vu", ...sse, sem: move },
  { op: "F3 0F 10 /r", name: "MOVSS", args: "Vdq=,Md", ...sse, sem: moveZero },
  { op: "F3 0F 10 /r", name: "MOVSS", args: "Vd=,Ud", ...sse, sem: move },
  { op: "F3 0F 11 /r", name: "MOVSS", args: "Wd=,Vd", ...sse, sem: move },
  { op: "F2 0F 10 /r", name: "MOVSD", args: "Vdq=,Mq", ...sse, sem: moveZero },
  { op: "F2 0F 10 /r", name: "MOVSD", args: "Vq=,Uq", ...sse, sem: move },
  { op: "F2 0F 11 /r", name: "MOVSD", args: "Wq=,Vq", ...sse, sem: move },
  { op: "NP 0F 12 /r", name: "MOVLPS", args: "Vq=,Mq", ...sse, sem: move },
  { op: "NP 0F 12 /r", name: "MOVHLPS", args: "Vq=,Udq", ...sse, sem: movhlps },
  { op: "66 0F 12 /r", name: "MOVLPD", args: "Vq=,Mq", ...sse, sem: move },
  { op: "F2 0F 12 /r", name: "MOVDDUP", args: "Vdq=,Wq", ...sse, feature: "SSE3", sem: movddup },
  { op: "F3 0F 12 /r", name: "MOVSLDUP", args: "Vdq=,Wdq", ...sse, feature: "SSE3", sem: duplicate(0, 0, 2, 2) },
  { op: "NP 0F 13 /r", name: "MOVLPS", args: "Mq=,Vq", ...sse, sem: move },
  { op: "66 0F 13 /r", name: "MOVLPD", args: "Mq=,Vq", ...sse, sem: move },
  { op: "NP 0F 14 /r", name: "UNPCKLPS", args: "Vdq+,Wdq", ...sse, sem: binary(unpackLow(4)) },
  { op: "66 0F 14 /r", name: "UNPCKLPD", args: "Vdq+,Wdq", ...sse, sem: binary(unpackLow(8)) },
  { op: "NP 0F 15 /r", name: "UNPCKHPS", args: "Vdq+,Wdq", ...sse, sem: binary(unpackHigh(4)) },
  { op: "66 0F 15 /r", name: "UNPCKHPD", args: "Vdq+,Wdq", ...sse, sem: binary(unpackHigh(8)) },
  { op: "NP 0F 16 /r", name: "MOVHPS", args: "Vdq+,Mq", ...sse, sem: loadHigh },
  { op: "NP 0F 16 /r", name: "MOVLHPS", args: "Vdq+,Udq", ...sse, sem: movlhps },
  { op: "66 0F 16 /r", name: "MOVHPD", args: "Vdq+,Mq", ...sse, sem: loadHigh },
  { op: "F3 0F 16 /r", name: "MOVSHDUP", args: "Vdq=,Wdq", ...sse, feature: "SSE3", sem: duplicate(1, 1, 3, 3) },
  { op: "NP 0F 17 /r", name: "MOVHPS", args: "Mq=,Vdq", ...sse, sem: storeHigh },
  { op: "66 0F 17 /r", name: "MOVHPD", args: "Mq=,Vdq", ...sse, sem: storeHigh },
  { op: "NP 0F 28 /r", name: "MOVAPS", args: "Vdq=,Wdq", ...sse, hot: 1, sem: move },
  { op: "NP 0F 29 /r", name: "MOVAPS", args: "Wdq=,Vdq", ...sse, hot: 1, sem: move },
  { op: "66 0F 28 /r", name: "MOVAPD", args: "Vdq=,Wdq", ...sse, sem: move },
  { op: "66 0F 29 /r", name: "MOVAPD", args: "Wdq=,Vdq", ...sse, sem: move },
  { op: "NP 0F 2B /r", name: "MOVNTPS", args: "Mdq=,Vdq", ...sse, sem: move },
  { op: "66 0F 2B /r", name: "MOVNTPD", args: "Mdq=,Vdq", ...sse, sem: move },
  { op: "NP 0F 50 /r", name: "MOVMSKPS", args: "Gd=,Udq", ...sse, sem: mask("i32x4") },
  { op: "66 0F 50 /r", name: "MOVMSKPD", args: "Gd=,Udq", ...sse, sem: mask("i64x2") },
  ...LOGIC.flatMap(([code, name, f]): Row[] => [
    { op: `NP 0F ${code} /r`, name: `${name}PS`, args: "Vdq+,Wdq", ...sse, sem: binary(f) },
    { op: `66 0F ${code} /r`, name: `${name}PD`, args: "Vdq+,Wdq", ...sse, sem: binary(f) },
  ]),
  { op: "66 0F 6E /r", name: "MOVD", args: "Vdq=,Ey", ...sse, sem: moveZero },
  { op: "66 0F 7E /r", name: "MOVD", args: "Ey=,Vq", ...sse, sem: movdStore },
  { op: "F3 0F 7E /r", name: "MOVQ", args: "Vdq=,Wq", ...sse, sem: moveZero },
  { op: "66 0F D6 /r", name: "MOVQ", args: "Wq=,Vq", ...sse, sem: moveQuad },
  { op: "66 0F 6F /r", name: "MOVDQA", args: "Vdq=,Wdq", ...sse, hot: 1, sem: move },
  { op: "66 0F 7F /r", name: "MOVDQA", args: "Wdq=,Vdq", ...sse, hot: 1, sem: move },
  { op: "F3 0F 6F /r", name: "MOVDQU", args: "Vu=,Wu", ...sse, hot: 1, sem: move },
  { op: "F3 0F 7F /r", name: "MOVDQU", args: "Wu=,Vu", ...sse, hot: 1, sem: move },
  { op: "F2 0F F0 /r", name: "LDDQU", args: "Vu=,Mu", ...sse, feature: "SSE3", sem: move },
  { op: "66 0F E7 /r", name: "MOVNTDQ", args: "Mdq=,Vdq", ...sse, sem: move },
  { op: "66 0F 38 2A /r", name: "MOVNTDQA", args: "Vdq=,Mdq", ...sse, feature: "SSE4.1", sem: move },
  { op: "NP 0F C3 /r", name: "MOVNTI", args: "My=,Gy", sem: move },
  { op: "66 0F F7 /r", name: "MASKMOVDQU", args: "Vdq,Udq", ...sse, string: true, sem: maskmovdqu },
  { op: "NP 0F C6 /r", name: "SHUFPS", args: "Vdq+,Wdq,Iub", ...sse, sem: shufps },
  { op: "66 0F C6 /r", name: "SHUFPD", args: "Vdq+,Wdq,Iub", ...sse, sem: shufpd },
  { op: "NP 0F AE /2", name: "LDMXCSR", args: "Md", ...sse, noHost: "some processors have a bit 17", sem: ldmxcsr },
  { op: "NP 0F AE /3", name: "STMXCSR", args: "Md=", ...sse, sem: stmxcsr },
  { op: "NP 0F 6E /r", name: "MOVD", args: "Pq=,Ey", ...mmx, sem: movdLoadMmx },
  { op: "NP 0F 7E /r", name: "MOVD", args: "Ey=,Pq", ...mmx, sem: movdStoreMmx },
  { op: "NP 0F 6F /r", name: "MOVQ", args: "Pq=,Qq", ...mmx, sem: movqLoad },
  { op: "NP 0F 7F /r", name: "MOVQ", args: "Qq=,Pq", ...mmx, sem: movqStore },
  { op: "NP 0F E7 /r", name: "MOVNTQ", args: "Mq=,Pq", ...mmx, sem: movqStore },
  { op: "F2 0F D6 /r", name: "MOVDQ2Q", args: "Pq=,Uq", ...mmx, sem: movqLoad },
  { op: "F3 0F D6 /r", name: "MOVQ2DQ", args: "Vdq=,Nq", ...mmx, sem: movq2dq },
  { op: "NP 0F F7 /r", name: "MASKMOVQ", args: "Pq,Nq", ...mmx, string: true, sem: maskmovq },
  { op: "NP 0F 77", name: "EMMS", ...mmx, sem: emms },
];
