/**
 * JMP, Jcc, CALL, RET, LOOP, JCXZ near: [sdm2]. The interpreter's loop has its own forms of the commonest ones for 64-bit mode
 * (loop.ts); these serve every mode and every operand size.
 */
import { select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { CS, RCX, S } from "../state.ts";
import { peek, popped, push } from "./stack.ts";

/** A branch target cut to the operand size, and checked: canonical in 64-bit mode, within CS elsewhere. */
function checked(o: Ops, target: Value): Value {
  if (o.is64) {
    const t = o.let(o.size === 16 ? target.and(0xffff) : target);
    o.gpIf(t.shl(16).shrS(16).ne(t));
    return t;
  }
  const t = o.let(target.and(o.size === 16 ? 0xffff : 0xffff_ffff));
  o.gpIf(t.gtU(o.c.ld32(o.cpu, S.segLimit + CS * 4).zx()));
  return t;
}

function target(o: Ops, displacement: Value): Value {
  return checked(o, o.let(o.nextRip().add(displacement.sx())));
}

function jmpRelative(o: Ops, displacement: Value): void {
  o.jump(target(o, displacement));
}
function jcc(cc: number) {
  return (o: Ops, displacement: Value) => {
    o.c.if(o.cond(cc), () => o.jump(target(o, displacement)));
  };
}
function callRelative(o: Ops, displacement: Value): void {
  const t = target(o, displacement);
  const next = o.nextRip();
  push(o, o.size === 64 ? next : next.lo(), o.size);
  o.jump(t);
}
function jmpIndirect(o: Ops, a: Operand): void {
  o.jump(checked(o, a.get().zx()));
}
function callIndirect(o: Ops, a: Operand): void {
  const t = checked(o, a.get().zx());
  const next = o.nextRip();
  push(o, o.size === 64 ? next : next.lo(), o.size);
  o.jump(t);
}
function ret(o: Ops): void {
  const t = checked(o, peek(o, o.size).zx());
  // The immediate (RET imm16) is zero in the plain form.
  popped(o, o.let(o.imm().add(o.size / 8)));
  o.jump(t);
}

/** LOOP, LOOPE, LOOPNE, JCXZ. The record's x holds the address size in bytes, as for string instructions. */
function loop(kind: "LOOP" | "LOOPE" | "LOOPNE" | "JCXZ") {
  return (o: Ops, displacement: Value) => {
    const c = o.c, x = o.field("x");
    const mask = o.let(
      select(x.eq(8), o.let(x.zx().and(0).sub(1)), select(x.eq(4), o.let(x.zx().and(0).or(0xffff_ffff)), 0xffff)),
    );
    const old = o.gpr(RCX);
    const count = o.let((kind === "JCXZ" ? old : old.sub(1)).and(mask));
    const take = kind === "JCXZ"
      ? count.eqz()
      : kind === "LOOP"
      ? count.bool()
      : count.bool().and(o.cond(kind === "LOOPE" ? 4 : 5).bool());
    const taken = o.let(take);
    const t = c.variable("i64", 0);
    c.if(taken, () => t.set(target(o, displacement)));
    if (kind !== "JCXZ") {
      // A 32-bit count clears the upper half, a 16-bit one keeps it.
      o.setGpr(RCX, select(x.eq(2), o.let(old.and(-0x10000).or(count)), count));
    }
    c.if(taken, () => o.jump(t.get()));
  };
}

const CC = ["O", "NO", "B", "AE", "Z", "NZ", "BE", "A", "S", "NS", "P", "NP", "L", "GE", "LE", "G"];
const READS = ["O", "O", "C", "C", "Z", "Z", "CZ", "CZ", "S", "S", "P", "P", "SO", "SO", "SOZ", "SOZ"];
const hex2 = (n: number) => n.toString(16).toUpperCase().padStart(2, "0");
const common = { d64: true, no16: true, modes: true } as const;

export const ROWS: readonly Row[] = [
  { op: "EB", name: "JMP", args: "Jb", ...common, ends: true, sem: jmpRelative },
  { op: "E9", name: "JMP", args: "Jz", ...common, ends: true, sem: jmpRelative },
  { op: "E8", name: "CALL", args: "Jz", ...common, ends: true, sem: callRelative },
  { op: "FF /4", name: "JMP", args: "Ev", ...common, ends: true, sem: jmpIndirect },
  { op: "FF /2", name: "CALL", args: "Ev", ...common, ends: true, sem: callIndirect },
  { op: "C3", name: "RET", ...common, ends: true, sem: ret },
  { op: "C2", name: "RET", args: "Iw", ...common, ends: true, sem: ret },
  ...CC.map((name, cc): Row => ({
    op: hex2(0x70 + cc),
    name: `J${name}`,
    args: "Jb",
    k: cc,
    reads: READS[cc]!,
    ...common,
    sem: jcc(cc),
  })),
  ...CC.map((name, cc): Row => ({
    op: `0F ${hex2(0x80 + cc)}`,
    name: `J${name}`,
    args: "Jz",
    k: cc,
    reads: READS[cc]!,
    ...common,
    sem: jcc(cc),
  })),
  { op: "E0", name: "LOOPNE", args: "Jb", ...common, string: true, reads: "Z", sem: loop("LOOPNE") },
  { op: "E1", name: "LOOPE", args: "Jb", ...common, string: true, reads: "Z", sem: loop("LOOPE") },
  { op: "E2", name: "LOOP", args: "Jb", ...common, string: true, sem: loop("LOOP") },
  { op: "E3", name: "JCXZ", args: "Jb", ...common, string: true, sem: loop("JCXZ") },
];
