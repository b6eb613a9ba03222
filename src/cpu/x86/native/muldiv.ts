/** Native code of multiplication and division. */
import { S } from "../state.ts";
import { ALU, MAP_0F, MAP_1 } from "./assembler.ts";
import { FLAG, From } from "./kept.ts";
import { type Emit, isMemory, k, keep, keepX, keepY, load, r, translate } from "./pieces.ts";
import { field, HOST, HOST_OF, slot, T, U } from "./registers.ts";

export const imul: Emit = (e, i, [dst, src, third]) => {
  const a = e.a,
    size = i.size,
    n = (dst as { n: number }).n,
    h = HOST_OF[n]! >= 0 ? HOST_OF[n]! : U,
    live = e.live !== 0;
  translate(e, i, [src!], false);
  e.flags.pending = null;
  if (third) {
    const value = (third as { value: number }).value;
    load(e, T, src!);
    if (live) keepX(e, T);
    a.rr(size, MAP_1, 0x69, h, T);
    a.immediate(value, size);
    if (h === U) a.store(slot(n), U, size === 32 ? 64 : size);
    keep(e, "IMUL", size, "X", k(value), From.Self, FLAG.O | FLAG.C);
    return true;
  }
  if (h === U) a.load(U, slot(n), 64);
  load(e, T, src!);
  if (live) {
    keepX(e, h);
    keepY(e, T);
  }
  a.rr(size, MAP_0F, 0xaf, h, T);
  if (h === U) a.store(slot(n), U, size === 32 ? 64 : size);
  keep(e, "IMUL", size, "X", "Y", From.Self, FLAG.O | FLAG.C);
  return true;
};

export function multiply(digit: number): Emit {
  return (e, i, [src]) => {
    const a = e.a, size = i.size, live = e.live !== 0;
    translate(e, i, [src!], false);
    e.flags.pending = null;
    if (isMemory(src)) a.rm(size, MAP_1, 0xf7, digit, e.memory);
    else a.rr(size, MAP_1, 0xf7, digit, e.source((src as { n: number }).n));
    if (live) {
      a.rr(32, MAP_1, 0x19, U, U); // SBB: all ones where CF is set
      a.aluRI(ALU.AND, U, 0x801, 32);
      a.store(field(S.nativeExtra), U, 32);
      keep(e, "RES", size, r(0), undefined, From.Self, 0);
    } else e.flags.host = FLAG.O | FLAG.C;
    return true;
  };
}

/** Division faults natively where it faults: what could is left to the interpreter. It leaves the flags as they are. */
export function divide(signed: boolean): Emit {
  return (e, i, [src]) => {
    const a = e.a, size = i.size;
    translate(e, i, [src!], false);
    e.flags.host = 0;
    // What it works on changes registers that pending flags may rest on.
    e.flags.beforeWrite(0);
    e.flags.beforeWrite(2);
    load(e, T, src!);
    const exit = e.exit();
    if (!signed) {
      a.aluRR(ALU.CMP, HOST.RDX, T, size);
      a.jcc(3, exit);
    } else {
      // The dividend is one of the operand's size, and the divisor neither 0 nor -1.
      a.movRR(U, HOST.RAX, size);
      a.shiftRI(7, U, size - 1, size);
      a.aluRR(ALU.CMP, U, HOST.RDX, size);
      a.jcc(5, exit);
      a.lea(U, { base: T, index: -1, scale: 0, disp: 1 }, size);
      a.aluRI(ALU.CMP, U, 1, size);
      a.jcc(6, exit);
    }
    a.rr(size, MAP_1, 0xf7, signed ? 7 : 6, T);
    return true;
  };
}
