/** MOV, MOVZX, MOVSX, LEA, XCHG, CMOVcc, SETcc, BSWAP, MOVBE, XLAT, conversions within the accumulator, NOP: [sdm2]. */
import { select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { S } from "../state.ts";

function mov(_o: Ops, a: Operand, b: Operand): void {
  a.set(b.get());
}

/** The source's bits, zero- or sign-extended to the destination's. */
function movzx(_o: Ops, a: Operand, b: Operand): void {
  a.set(a.bits === 64 ? b.get().zx() : b.get());
}
function movsx(o: Ops, a: Operand, b: Operand): void {
  const wide = o.sext(b.get(), b.bits);
  a.set(a.bits === 64 ? wide : wide.lo());
}

function lea(_o: Ops, a: Operand, address: Value): void {
  a.set(a.bits === 64 ? address : address.lo());
}

function xchg(_o: Ops, a: Operand, b: Operand): void {
  const y = b.get();
  let old: Value | undefined;
  a.update((x) => {
    old = x;
    return y;
  });
  b.set(old!);
}

function cmov(cc: number) {
  return (o: Ops, a: Operand, b: Operand) => {
    const y = b.get(); // reads memory, and may fault, whatever the condition
    const take = o.cond(cc);
    a.set(select(take, y, a.get()));
  };
}
function setcc(cc: number) {
  return (o: Ops, a: Operand) => a.set(o.let(o.cond(cc).bool()));
}

function swap32(v: Value): Value {
  return v.rotl(8).and(0x00ff00ff).or(v.rotr(8).and(0xff00ff00 | 0));
}
function byteSwap(o: Ops, v: Value, bits: number): Value {
  if (bits === 16) return v.shl(8).or(v.shrU(8)).and(0xffff);
  if (bits === 32) return swap32(v);
  const lo = o.let(v.lo()), hi = o.let(v.shrU(32).lo());
  return swap32(lo).zx().shl(32).or(swap32(hi).zx());
}
function bswap(o: Ops, a: Operand): void {
  // 16 bits: undefined by the manual; processors clear the register's low 16.
  a.update((x) => o.size === 16 ? x.sub(x) : byteSwap(o, x, o.size));
}
function movbe(o: Ops, a: Operand, b: Operand): void {
  a.set(o.let(byteSwap(o, b.get(), o.size)));
}

/** CBW, CWDE, CDQE. */
function extendAccumulator(o: Ops): void {
  const half = o.size / 2;
  const wide = o.sext(o.gprAt(0, half), half);
  o.setGprAt(0, o.size, o.size === 64 ? wide : wide.lo());
}
/** CWD, CDQ, CQO. */
function extendToDx(o: Ops): void {
  const sign = o.sext(o.gprAt(0, o.size)).shrS(63);
  o.setGprAt(2, o.size, o.size === 64 ? sign : sign.lo());
}

function xlat(o: Ops): void {
  // The decoder put the segment in b and the address size in x, as for string instructions.
  const c = o.c;
  const offset = o.let(o.gpr(3).add(o.gprAt(0, 8).zx()));
  const x = o.field("x");
  const cut = o.let(select(x.eq(8), offset, select(x.eq(4), offset.and(0xffff_ffff), offset.and(0xffff))));
  const segment = o.field("b");
  const base = c.ld64(o.cpu.add(segment.shl(3)), S.segBase);
  o.setGprAt(0, 8, o.read(o.let(base.add(cut)), 8));
}

const CC = ["O", "NO", "B", "AE", "Z", "NZ", "BE", "A", "S", "NS", "P", "NP", "L", "GE", "LE", "G"];
const READS = ["O", "O", "C", "C", "Z", "Z", "CZ", "CZ", "S", "S", "P", "P", "SO", "SO", "SOZ", "SOZ"];
const hex2 = (n: number) => n.toString(16).toUpperCase().padStart(2, "0");

export const ROWS: readonly Row[] = [
  { op: "88 /r", name: "MOV", args: "Eb=,Gb", hot: 2, sem: mov },
  { op: "89 /r", name: "MOV", args: "Ev=,Gv", hot: 2, sem: mov },
  { op: "8A /r", name: "MOV", args: "Gb=,Eb", hot: 2, sem: mov },
  { op: "8B /r", name: "MOV", args: "Gv=,Ev", hot: 2, sem: mov },
  { op: "A0", name: "MOV", args: "Ab=,Ob", sem: mov },
  { op: "A1", name: "MOV", args: "Av=,Ov", sem: mov },
  { op: "A2", name: "MOV", args: "Ob=,Ab", sem: mov },
  { op: "A3", name: "MOV", args: "Ov=,Av", sem: mov },
  { op: "B0 +r", name: "MOV", args: "Zb=,Ib", hot: 1, sem: mov },
  {
    op: "B8 +r",
    name: "MOV",
    args: "Zv=,Iq",
    hot: 1,
    sem: (_o, a: Operand, b: Operand) => a.set(a.bits === 64 ? b.get() : b.get().lo()),
  },
  { op: "C6 /0", name: "MOV", args: "Eb=,Ib", hot: 1, sem: mov },
  { op: "C7 /0", name: "MOV", args: "Ev=,Iz", hot: 1, sem: mov },
  { op: "0F B6 /r", name: "MOVZX", args: "Gv=,Eb", hot: 2, sem: movzx },
  { op: "0F B7 /r", name: "MOVZX", args: "Gv=,Ew", hot: 1, sem: movzx },
  { op: "0F BE /r", name: "MOVSX", args: "Gv=,Eb", hot: 1, sem: movsx },
  { op: "0F BF /r", name: "MOVSX", args: "Gv=,Ew", sem: movsx },
  { op: "63 /r", name: "MOVSXD", args: "Gv=,Ed", only: "64", hot: 1, sem: movsx },
  { op: "8D /r", name: "LEA", args: "Gv=,M", hot: 2, sem: lea },
  { op: "86 /r", name: "XCHG", args: "Eb+,Gb+", lock: true, sem: xchg },
  { op: "87 /r", name: "XCHG", args: "Ev+,Gv+", lock: true, sem: xchg },
  { op: "90 +r", name: "XCHG", args: "Zv+,Av+", sem: xchg },
  { op: "98", name: "CBW", sizes: "v", hot: 1, sem: extendAccumulator },
  { op: "99", name: "CWD", sizes: "v", hot: 1, sem: extendToDx },
  { op: "D7", name: "XLAT", string: true, sem: xlat },
  { op: "0F C8 +r", name: "BSWAP", args: "Zv+", sem: bswap, noHost: "16 bits are undefined" },
  { op: "NP 0F 38 F0 /r", name: "MOVBE", args: "Gv=,Mv", sem: movbe },
  { op: "NP 0F 38 F1 /r", name: "MOVBE", args: "Mv=,Gv", sem: movbe },
  { op: "66 0F 38 F0 /r", name: "MOVBE", args: "Gv=,Mv", sem: movbe },
  { op: "66 0F 38 F1 /r", name: "MOVBE", args: "Mv=,Gv", sem: movbe },
  ...CC.map((name, cc): Row => ({
    op: `0F ${hex2(0x40 + cc)} /r`,
    name: `CMOV${name}`,
    args: "Gv+,Ev",
    reads: READS[cc]!,
    hot: 1,
    sem: cmov(cc),
  })),
  ...CC.map((name, cc): Row => ({
    op: `0F ${hex2(0x90 + cc)} /r`,
    name: `SET${name}`,
    args: "Eb=",
    reads: READS[cc]!,
    ...(cc >= 2 && cc < 8 ? { hot: 1 as const } : {}),
    sem: setcc(cc),
  })),
];
