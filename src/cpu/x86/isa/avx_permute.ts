/** What moves lanes within and across the halves: shuffles, broadcasts, insertions, extractions, permutations: [sdm2]. */
import { select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { S } from "../state.ts";
import { dwordOrder } from "../simd/integer.ts";
import { allBytes, allDwords, allQwords, laneMask, lanes, qword, zeros } from "../simd/vector.ts";
import {
  AVX,
  AVX2,
  type Length,
  lengths,
  ONLY_256,
  ONLY_256_AVX2,
  register,
  setMemory,
  setRegister,
  single,
  source,
  three,
  threeImm,
  two,
  whole,
} from "../simd/wide.ts";

/** Bytes 0 to 3 (0 to 7) in every doubleword (quadword). */
const WITHIN_4 = () => allDwords(0x03020100), WITHIN_8 = () => allQwords(0x0706050403020100n);
/** The low byte of every doubleword (quadword) in all of its bytes. */
const spread4 = (v: Value) => v.shuffle(v, [0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12]);
const spread8 = (v: Value) => v.shuffle(v, [0, 0, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8, 8, 8, 8, 8]);

function shufps(o: Ops, a: Value, b: Value, imm: Value): Value {
  const order = dwordOrder(o, imm), chosen = o.let(b.op("i8x16.swizzle", order));
  return a.op("i8x16.swizzle", order).shuffle(chosen, lanes(8, 0, 3));
}
/** One quadword of `v`: by bit `bit` of the immediate. */
const pick = (v: Value, imm: Value, bit: Value | number) => select(imm.shrU(bit).and(1), qword(v, 1), qword(v, 0));
function pair(o: Ops, first: Value, second: Value): Value {
  return o.let(zeros().lane("i64x2.replace_lane", 0, first)).lane("i64x2.replace_lane", 1, o.let(second));
}
const shufpd = (o: Ops, a: Value, b: Value, imm: Value, half: number) =>
  pair(o, pick(a, imm, 2 * half), pick(b, imm, 2 * half + 1));

/** VPERMILPS and VPERMILPD: lanes of the same half, by a vector or an immediate. */
const permuteDwords = (length: Length) =>
  three(
    (o, a, b) => a.op("i8x16.swizzle", o.let(spread4(o.let(b.and(allDwords(3)).op("i32x4.shl", 2))).or(WITHIN_4()))),
    length,
  );
const permuteQwords = (length: Length) =>
  three(
    (o, a, b) => a.op("i8x16.swizzle", o.let(spread8(o.let(b.and(allQwords(2n)).op("i64x2.shl", 2))).or(WITHIN_8()))),
    length,
  );
const permuteQwordsImm = (length: Length) => (o: Ops, _a: Operand, w: Operand, imm: Operand) => {
  const x = source(o, w, 1, length), n = imm.get();
  setRegister(o, x.map((v, i) => pair(o, pick(v, n, 2 * i), pick(v, n, 2 * i + 1))));
};

/** Lanes of both halves: `index` holds byte numbers 0 to 31 in every lane. */
function across(x: readonly Value[], index: Value): Value {
  return x[0]!.op("i8x16.swizzle", index).or(x[1]!.op("i8x16.swizzle", index.op("i8x16.sub", allBytes(16))));
}
function permuteWhole(o: Ops, _a: Operand, _b: Operand, w: Operand): void {
  const x = source(o, w, 2, 2);
  setRegister(
    o,
    register(o, 1, 2).map((v) => {
      const first = o.let(v.and(allDwords(7)).op("i32x4.shl", 2));
      return across(x, o.let(spread4(first).or(WITHIN_4())));
    }),
  );
}
function permuteQuads(o: Ops, _a: Operand, w: Operand, imm: Operand): void {
  const x = source(o, w, 1, 2), n = imm.get();
  const quad = (i: number): Value => {
    const lane = o.let(n.shrU(2 * i).and(3));
    const v = o.let(select(lane.and(2), x[1]!, x[0]!));
    return o.let(pick(v, lane, 0));
  };
  setRegister(o, [pair(o, quad(0), quad(1)), pair(o, quad(2), quad(3))]);
}
/** Each half is one of four, or zeros. */
function permuteHalves(o: Ops, _a: Operand, _b: Operand, w: Operand, imm: Operand): void {
  const y = source(o, w, 2, 2), x = register(o, 1, 2), n = imm.get();
  const half = (bits: Value): Value => {
    const low = o.let(select(bits.and(2), y[0]!, x[0]!)), high = o.let(select(bits.and(2), y[1]!, x[1]!));
    return o.let(select(bits.and(8), zeros(), o.let(select(bits.and(1), high, low))));
  };
  setRegister(o, [half(n), half(o.let(n.shrU(4)))]);
}

function insertHalf(o: Ops, _a: Operand, _b: Operand, w: Operand, imm: Operand): void {
  const y = w.get(), [low, high] = register(o, 1, 2) as [Value, Value], n = imm.get();
  setRegister(o, [select(n.and(1), low, y), select(n.and(1), y, high)]);
}
function extractHalf(o: Ops, a: Operand, _b: Operand, imm: Operand): void {
  const [low, high] = register(o, 1, 2) as [Value, Value];
  const v = o.let(select(imm.get().and(1), high, low));
  if (a.isMemory) setMemory(o, [v]);
  else setRegister(o, [v]);
}

/** The low lane everywhere. The value is an i32 or i64. */
const broadcast = (splat: string) => (length: Length) => (o: Ops, _a: Operand, w: Operand) => {
  const v = o.let(w.get().op(splat));
  setRegister(o, length === 1 ? [v] : [v, v]);
};
function broadcastHalf(o: Ops, _a: Operand, m: Operand): void {
  const v = m.get();
  setRegister(o, [v, v]);
}

/** The address of lane `imm` of a register: an i32 to which S.xmm is added. */
function laneAt(o: Ops, field: "d" | "s", imm: Value, width: number): Value {
  return o.let(o.cpu.add(o.field(field)).add(imm.and(16 / width - 1).shl(Math.log2(width))));
}
/** Extraction to a register (zero-extended) or to memory. `width` in bytes; 0: the operand size. */
const extract = (width: 0 | 1 | 2 | 4) => (o: Ops, a: Operand, _b: Operand, imm: Operand) => {
  const n = width || o.size / 8;
  a.set(o.loadAt(laneAt(o, "s", imm.get(), n), 8 * n, S.xmm));
};
const insert = (width: 0 | 1 | 2) => (o: Ops, _a: Operand, _b: Operand, e: Operand, imm: Operand) => {
  const n = width || o.size / 8, x = e.get(), v = whole(o, 1), number = imm.get();
  setRegister(o, [v]);
  o.storeAt(laneAt(o, "d", number, n), 8 * n, x, S.xmm);
};
/** Immediate: bits 7..6 the source's lane (of a register), 5..4 the destination's, 3..0 lanes to clear. */
const insertSingle = (fromMemory: boolean) => (o: Ops, _a: Operand, _b: Operand, e: Operand, imm: Operand) => {
  const n = imm.get(), v = whole(o, 1);
  const x = fromMemory ? e.get() : o.c.ld32(o.cpu.add(o.field("x")).add(n.shrU(6).shl(2)), S.xmm);
  const keep = o.let(laneMask(n, 32).not());
  setRegister(o, [v]);
  const at = o.let(o.cpu.add(o.field("d")));
  o.c.st32(at.add(n.shrU(2).and(12)), x, S.xmm);
  o.c.stV(at, o.c.ldV(at, S.xmm).and(keep), S.xmm);
};

const STATE = { inState: true } as const;
const INDEXED = { feature: "AVX2" } as const;
const l1 = (row: Row): Row => ({ ...row, op: row.op.replace("VEX L0", "VEX L1") });

export const ROWS: readonly Row[] = [
  ...lengths("NP 0F C6 /r", "VSHUFPS", "V=,H,W,Iub", AVX, (n) => threeImm(shufps, n)),
  ...lengths("66 0F C6 /r", "VSHUFPD", "V=,H,W,Iub", AVX, (n) => threeImm(shufpd, n)),
  ...lengths("W0 66 0F 38 0C /r", "VPERMILPS", "V=,H,W", AVX, permuteDwords),
  ...lengths("W0 66 0F 38 0D /r", "VPERMILPD", "V=,H,W", AVX, permuteQwords),
  ...lengths(
    "W0 66 0F 3A 04 /r",
    "VPERMILPS",
    "V=,W,Iub",
    AVX,
    (n) => two((o, v, imm) => v.op("i8x16.swizzle", dwordOrder(o, imm!)), n),
  ),
  ...lengths("W0 66 0F 3A 05 /r", "VPERMILPD", "V=,W,Iub", AVX, permuteQwordsImm),
  ...lengths("W0 66 0F 38 36 /r", "VPERMD", "V=,H,W", ONLY_256_AVX2, () => permuteWhole),
  ...lengths("W0 66 0F 38 16 /r", "VPERMPS", "V=,H,W", ONLY_256_AVX2, () => permuteWhole),
  ...lengths("W1 66 0F 3A 00 /r", "VPERMQ", "V=,W,Iub", ONLY_256_AVX2, () => permuteQuads),
  ...lengths("W1 66 0F 3A 01 /r", "VPERMPD", "V=,W,Iub", ONLY_256_AVX2, () => permuteQuads),
  ...lengths("W0 66 0F 3A 06 /r", "VPERM2F128", "V=,H,W,Iub", ONLY_256, () => permuteHalves),
  ...lengths("W0 66 0F 3A 46 /r", "VPERM2I128", "V=,H,W,Iub", ONLY_256_AVX2, () => permuteHalves),
  l1(single("W0 66 0F 3A 18 /r", "VINSERTF128", "Vqq=,Hqq,Wu,Iub", insertHalf)),
  l1(single("W0 66 0F 3A 38 /r", "VINSERTI128", "Vqq=,Hqq,Wu,Iub", insertHalf, INDEXED)),
  l1(single("W0 66 0F 3A 19 /r", "VEXTRACTF128", "Wu=,Vqq,Iub", extractHalf)),
  l1(single("W0 66 0F 3A 39 /r", "VEXTRACTI128", "Wu=,Vqq,Iub", extractHalf, INDEXED)),
  ...lengths("W0 66 0F 38 18 /r", "VBROADCASTSS", "V=,Md", AVX, broadcast("i32x4.splat")),
  ...lengths("W0 66 0F 38 18 /r", "VBROADCASTSS", "V=,Ud", AVX2, broadcast("i32x4.splat")),
  ...lengths("W0 66 0F 38 19 /r", "VBROADCASTSD", "V=,Mq", ONLY_256, broadcast("i64x2.splat")),
  ...lengths("W0 66 0F 38 19 /r", "VBROADCASTSD", "V=,Uq", ONLY_256_AVX2, broadcast("i64x2.splat")),
  l1(single("W0 66 0F 38 1A /r", "VBROADCASTF128", "Vqq=,Mu", broadcastHalf)),
  l1(single("W0 66 0F 38 5A /r", "VBROADCASTI128", "Vqq=,Mu", broadcastHalf, INDEXED)),
  ...lengths("W0 66 0F 38 78 /r", "VPBROADCASTB", "V=,Wb", AVX2, broadcast("i8x16.splat")),
  ...lengths("W0 66 0F 38 79 /r", "VPBROADCASTW", "V=,Ww", AVX2, broadcast("i16x8.splat")),
  ...lengths("W0 66 0F 38 58 /r", "VPBROADCASTD", "V=,Wd", AVX2, broadcast("i32x4.splat")),
  ...lengths("W0 66 0F 38 59 /r", "VPBROADCASTQ", "V=,Wq", AVX2, broadcast("i64x2.splat")),
  single("W0 66 0F C4 /r", "VPINSRW", "Vu=,Hu,Rd,Iub", insert(2), STATE),
  single("W0 66 0F C4 /r", "VPINSRW", "Vu=,Hu,Mw,Iub", insert(2), STATE),
  single("W0 66 0F C5 /r", "VPEXTRW", "Gd=,Uu,Iub", extract(2), STATE),
  single("W0 66 0F 3A 14 /r", "VPEXTRB", "Rd=,Vu,Iub", extract(1), STATE),
  single("W0 66 0F 3A 14 /r", "VPEXTRB", "Mb=,Vu,Iub", extract(1), STATE),
  single("W0 66 0F 3A 15 /r", "VPEXTRW", "Rd=,Vu,Iub", extract(2), STATE),
  single("W0 66 0F 3A 15 /r", "VPEXTRW", "Mw=,Vu,Iub", extract(2), STATE),
  single("66 0F 3A 16 /r", "VPEXTRD", "Ey=,Vu,Iub", extract(0), STATE),
  single("66 0F 3A 17 /r", "VEXTRACTPS", "Ed=,Vu,Iub", extract(4), STATE),
  single("W0 66 0F 3A 20 /r", "VPINSRB", "Vu=,Hu,Rd,Iub", insert(1), STATE),
  single("W0 66 0F 3A 20 /r", "VPINSRB", "Vu=,Hu,Mb,Iub", insert(1), STATE),
  single("66 0F 3A 21 /r", "VINSERTPS", "Vu=,Hu,Uu,Iub", insertSingle(false), STATE),
  single("66 0F 3A 21 /r", "VINSERTPS", "Vu=,Hu,Md,Iub", insertSingle(true), STATE),
  single("66 0F 3A 22 /r", "VPINSRD", "Vu=,Hu,Ey,Iub", insert(0), STATE),
];
