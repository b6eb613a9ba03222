/** Moves, unpacks and logic of AVX, broadcasts of lanes within a half, masks of sign bits, MXCSR, VZEROUPPER: [sdm2]. */
import { i32, select } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { EXC, MODE_64, S } from "../state.ts";
import { andNot, unpackHigh, unpackLow } from "../simd/integer.ts";
import { dword, lanes, low, qword, same, type VectorOp } from "../simd/vector.ts";
import {
  AVX,
  AVX2_WIDE,
  type Length,
  lengths,
  memory,
  register,
  setMemory,
  setRegister,
  single,
  source,
  three,
  two,
  whole,
} from "../simd/wide.ts";
import { maskmovdqu } from "./sse_move.ts";

/** #GP(0) unless the memory operand is aligned to its size. */
function align(o: Ops, length: Length): void {
  o.faultIf(o.ea.get().and(16 * length - 1).lo(), EXC.GP, 0);
}
const load = (aligned: boolean) => (length: Length) => (o: Ops, _a: Operand, w: Operand) => {
  if (aligned && w.isMemory) align(o, length);
  setRegister(o, source(o, w, 1, length));
};
const store = (aligned: boolean) => (length: Length) => (o: Ops, a: Operand) => {
  const v = register(o, 1, length);
  if (!a.isMemory) return setRegister(o, v);
  if (aligned) align(o, length);
  setMemory(o, v);
};
const loadAligned = (length: Length) => (o: Ops) => {
  align(o, length);
  setRegister(o, memory(o, length));
};

/** A scalar from memory, zeros above. */
function loadScalar(o: Ops, _a: Operand, m: Operand): void {
  setRegister(o, [low(m.get())]);
}
function storeScalar(_o: Ops, a: Operand, v: Operand): void {
  a.set(v.get());
}
/** The low lane of the third operand over the second. */
const merge = (width: 4 | 8) => (o: Ops) => {
  const y = whole(o, 2), order = Array.from({ length: 16 }, (_, i) => i < width ? i : i + 16);
  setRegister(o, [y.shuffle(whole(o, 1), order)]);
};
/** One quadword of a register beside one that is loaded. */
const loadHalf = (lane: 0 | 1) => (o: Ops, _a: Operand, _h: Operand, m: Operand) => {
  const x = m.get();
  setRegister(o, [whole(o, 1).lane("i64x2.replace_lane", lane, x)]);
};
const storeHalf = (lane: 0 | 1) => (o: Ops, a: Operand) => a.set(qword(whole(o, 1), lane));
const joinQuads = (...order: number[]) => (o: Ops) =>
  setRegister(o, [whole(o, 1).shuffle(whole(o, 2), lanes(8, ...order))]);

const reorder = (...order: number[]) => (length: Length) => two((_o, v) => v.shuffle(v, lanes(4, ...order)), length);
/** The 128-bit form reads only the quadword that it doubles. */
const doubleQuad = (length: Length): Row["sem"] =>
  length === 1
    ? (o: Ops, _a: Operand, w: Operand) => setRegister(o, [w.get().op("i64x2.splat")])
    : two((_o, v) => v.shuffle(v, lanes(8, 0, 0)), length);

/** The sign bits of every lane, the lowest lane's first. */
const signs = (shape: "i8x16" | "i32x4" | "i64x2", count: number) => (length: Length) => (o: Ops, a: Operand) => {
  const bits = register(o, 1, length).map((v) => v.op(`${shape}.bitmask`));
  a.set(bits.length === 1 ? bits[0]! : o.let(bits[0]!).or(o.let(bits[1]!).shl(count)));
};

function fromGeneral(o: Ops, _a: Operand, e: Operand): void {
  setRegister(o, [low(e.get())]);
}
function toGeneral(o: Ops, a: Operand): void {
  const v = whole(o, 1);
  a.set(o.size === 64 ? qword(v, 0) : dword(v, 0));
}
function storeQuad(o: Ops, a: Operand): void {
  const v = qword(whole(o, 1), 0);
  if (a.isMemory) a.set(v);
  else setRegister(o, [low(v)]);
}

function ldmxcsr(o: Ops, a: Operand): void {
  const x = a.get();
  o.gpIf(x.shrU(16).bool());
  o.st32("mxcsr", x);
}
function stmxcsr(o: Ops, a: Operand): void {
  a.set(o.ld32("mxcsr"));
}

/** Outside 64-bit mode registers 8 to 15 keep what they hold. */
const zero = (from: readonly (keyof typeof S)[]) => (o: Ops) => {
  const long = o.ld32("mode").and(3).eq(MODE_64);
  const bytes = o.let(select(long, i32(256), 128));
  for (const field of from) o.c.fill(o.cpu.add(S[field]), 0, bytes);
};

const LOGIC: [string, string, VectorOp][] = [
  ["54", "VAND", same("v128.and")],
  ["55", "VANDN", andNot],
  ["56", "VOR", same("v128.or")],
  ["57", "VXOR", same("v128.xor")],
];
const UNPACKS: [string, string, string, VectorOp][] = [
  ["NP", "14", "VUNPCKLPS", unpackLow(4)],
  ["66", "14", "VUNPCKLPD", unpackLow(8)],
  ["NP", "15", "VUNPCKHPS", unpackHigh(4)],
  ["66", "15", "VUNPCKHPD", unpackHigh(8)],
];
const LIG = { ignored: true } as const;

export const ROWS: readonly Row[] = [
  ...lengths("NP 0F 10 /r", "VMOVUPS", "V=,W", AVX, load(false)),
  ...lengths("NP 0F 11 /r", "VMOVUPS", "W=,V", AVX, store(false)),
  ...lengths("66 0F 10 /r", "VMOVUPD", "V=,W", AVX, load(false)),
  ...lengths("66 0F 11 /r", "VMOVUPD", "W=,V", AVX, store(false)),
  ...lengths("NP 0F 28 /r", "VMOVAPS", "V=,W", AVX, load(true)),
  ...lengths("NP 0F 29 /r", "VMOVAPS", "W=,V", AVX, store(true)),
  ...lengths("66 0F 28 /r", "VMOVAPD", "V=,W", AVX, load(true)),
  ...lengths("66 0F 29 /r", "VMOVAPD", "W=,V", AVX, store(true)),
  ...lengths("66 0F 6F /r", "VMOVDQA", "V=,W", AVX, load(true)),
  ...lengths("66 0F 7F /r", "VMOVDQA", "W=,V", AVX, store(true)),
  ...lengths("F3 0F 6F /r", "VMOVDQU", "V=,W", AVX, load(false)),
  ...lengths("F3 0F 7F /r", "VMOVDQU", "W=,V", AVX, store(false)),
  ...lengths("F2 0F F0 /r", "VLDDQU", "V=,M", AVX, load(false)),
  ...lengths("NP 0F 2B /r", "VMOVNTPS", "M=,V", AVX, store(true)),
  ...lengths("66 0F 2B /r", "VMOVNTPD", "M=,V", AVX, store(true)),
  ...lengths("66 0F E7 /r", "VMOVNTDQ", "M=,V", AVX, store(true)),
  ...lengths("66 0F 38 2A /r", "VMOVNTDQA", "V=,M", AVX2_WIDE, loadAligned),

  single("F3 0F 10 /r", "VMOVSS", "Vu=,Md", loadScalar, LIG),
  single("F3 0F 10 /r", "VMOVSS", "Vu=,Hu,Uu", merge(4), LIG),
  single("F3 0F 11 /r", "VMOVSS", "Md=,Vd", storeScalar, LIG),
  single("F3 0F 11 /r", "VMOVSS", "Uu=,Hu,Vu", merge(4), LIG),
  single("F2 0F 10 /r", "VMOVSD", "Vu=,Mq", loadScalar, LIG),
  single("F2 0F 10 /r", "VMOVSD", "Vu=,Hu,Uu", merge(8), LIG),
  single("F2 0F 11 /r", "VMOVSD", "Mq=,Vq", storeScalar, LIG),
  single("F2 0F 11 /r", "VMOVSD", "Uu=,Hu,Vu", merge(8), LIG),
  single("NP 0F 12 /r", "VMOVLPS", "Vu=,Hu,Mq", loadHalf(0)),
  single("NP 0F 12 /r", "VMOVHLPS", "Vu=,Hu,Uu", joinQuads(3, 1)),
  single("NP 0F 13 /r", "VMOVLPS", "Mq=,Vu", storeHalf(0)),
  single("66 0F 12 /r", "VMOVLPD", "Vu=,Hu,Mq", loadHalf(0)),
  single("66 0F 13 /r", "VMOVLPD", "Mq=,Vu", storeHalf(0)),
  single("NP 0F 16 /r", "VMOVHPS", "Vu=,Hu,Mq", loadHalf(1)),
  single("NP 0F 16 /r", "VMOVLHPS", "Vu=,Hu,Uu", joinQuads(0, 2)),
  single("NP 0F 17 /r", "VMOVHPS", "Mq=,Vu", storeHalf(1)),
  single("66 0F 16 /r", "VMOVHPD", "Vu=,Hu,Mq", loadHalf(1)),
  single("66 0F 17 /r", "VMOVHPD", "Mq=,Vu", storeHalf(1)),

  ...lengths("F3 0F 12 /r", "VMOVSLDUP", "V=,W", AVX, reorder(0, 0, 2, 2)),
  ...lengths("F3 0F 16 /r", "VMOVSHDUP", "V=,W", AVX, reorder(1, 1, 3, 3)),
  single("F2 0F 12 /r", "VMOVDDUP", "Vu=,Wq", doubleQuad(1)),
  ...lengths("F2 0F 12 /r", "VMOVDDUP", "V=,W", [null, "AVX"], doubleQuad),
  ...UNPACKS.flatMap(([prefix, code, name, f]) =>
    lengths(`${prefix} 0F ${code} /r`, name, "V=,H,W", AVX, (n) => three(f, n))
  ),
  ...LOGIC.flatMap(([code, name, f]) => [
    ...lengths(`NP 0F ${code} /r`, `${name}PS`, "V=,H,W", AVX, (n) => three(f, n)),
    ...lengths(`66 0F ${code} /r`, `${name}PD`, "V=,H,W", AVX, (n) => three(f, n)),
  ]),
  ...lengths("NP 0F 50 /r", "VMOVMSKPS", "Gd=,U", AVX, signs("i32x4", 4)),
  ...lengths("66 0F 50 /r", "VMOVMSKPD", "Gd=,U", AVX, signs("i64x2", 2)),
  ...lengths("66 0F D7 /r", "VPMOVMSKB", "Gd=,U", AVX2_WIDE, signs("i8x16", 16)),

  single("66 0F 6E /r", "VMOVD", "Vu=,Ey", fromGeneral),
  single("66 0F 7E /r", "VMOVD", "Ey=,Vu", toGeneral),
  single("F3 0F 7E /r", "VMOVQ", "Vu=,Wq", fromGeneral),
  single("66 0F D6 /r", "VMOVQ", "Wq=,Vu", storeQuad),
  single("66 0F F7 /r", "VMASKMOVDQU", "Vdq,Udq", maskmovdqu, { string: true, inState: true }),
  single("NP 0F AE /2", "VLDMXCSR", "Md", ldmxcsr, { noHost: "some processors have a bit 17" }),
  single("NP 0F AE /3", "VSTMXCSR", "Md=", stmxcsr),
  { op: "VEX L0 NP 0F 77", name: "VZEROUPPER", unit: "avx", feature: "AVX", inState: true, sem: zero(["ymmHigh"]) },
  {
    op: "VEX L1 NP 0F 77",
    name: "VZEROALL",
    unit: "avx",
    feature: "AVX",
    inState: true,
    sem: zero(["xmm", "ymmHigh"]),
  },
];
