/** Native code of shifts, rotations, and of single bits. */
import { type Form, formNumber as formOf } from "../flag_forms.ts";
import { S } from "../state.ts";
import { ALU, MAP_0F, MAP_1 } from "./assembler.ts";
import type { Emitter } from "./emitter.ts";
import { ASKED, FLAG, From, OVERRIDE } from "./kept.ts";
import { aligned, type Emit, isMemory, k, keep, keepX, keepY, load, override, translate } from "./pieces.ts";
import { field, HOST, HOST_OF, slot, T, U } from "./registers.ts";

const DIGIT: Record<string, number> = { ROL: 0, ROR: 1, SHL: 4, SHR: 5, SAL: 4, SAR: 7 };

/** The operation itself, on a host register or in memory. */
function shiftBy(e: Emitter, digit: number, to: number | null, count: number | "CL", size: number): void {
  const a = e.a, opcode = (count === "CL" ? 0xd2 : 0xc0) | (size === 8 ? 0 : 1);
  if (to === null) a.rm(size, MAP_1, opcode, digit, e.memory);
  else a.rr(size, MAP_1, opcode, digit, to, false, size === 8);
  if (count !== "CL") a.byte(count);
}

export const shift: Emit = (e, i, [x, count], row) => {
  const a = e.a, size = i.size, digit = DIGIT[row.name]!, live = e.live !== 0;
  const rotates = digit < 2;
  const by = count!.kind === "constant" ? count!.value & (size === 64 ? 63 : 31) : "CL" as const;
  if (by === "CL" && live && rotates) return false;
  const form = (row.name === "SAL" ? "SHL" : row.name) as Form;
  translate(e, i, [x!], true);
  const memory = isMemory(x), n = memory ? -1 : (x as { n: number }).n;
  if (by === 0) {
    // Only the upper half of a register changes.
    if (!memory && size === 32) {
      e.flags.beforeWrite(n);
      e.set(n, e.source(n), 32);
    }
    return true;
  }
  if (!live) {
    e.flags.pending = null;
    return plain(by);
  }
  if (rotates) return rotate(by as number);
  if (by === "CL") {
    e.flags.settle();
    const none = a.label();
    if (memory) a.load(U, e.memory, size);
    const from = memory ? U : e.source(n);
    a.testRI(HOST.RCX, size === 64 ? 63 : 31, 8);
    a.jcc(4, none);
    keepX(e, from);
    a.movRR(U, HOST.RCX, 32);
    a.aluRI(ALU.AND, U, size === 64 ? 63 : 31, 32);
    keepY(e, U);
    a.storeI(field(S.nativeForm), formOf(form, size), 32);
    a.bind(none);
    plain("CL");
    e.flags.host = 0;
    return true;
  }
  e.flags.pending = null;
  if (memory) {
    a.load(U, e.memory, size);
    keepX(e, U);
    shiftBy(e, digit, U, by, size);
    a.store(e.memory, U, size);
  } else {
    const h = e.source(n);
    keepX(e, h);
    shiftBy(e, digit, h, by, size);
    if (h === U) a.store(slot(n), U, size === 32 ? 64 : size);
  }
  keep(e, form, size, "X", k(by), From.Self, hostAfter(by));
  return true;

  function hostAfter(n: number): number {
    if (n === 1) return ASKED;
    return n < size ? ASKED & ~FLAG.O : ASKED & ~(FLAG.O | FLAG.C);
  }
  function plain(c: number | "CL"): boolean {
    if (memory) shiftBy(e, digit, null, c, size);
    else {
      e.flags.beforeWrite(n);
      const h = e.source(n);
      shiftBy(e, digit, h, c, size);
      if (h === U) a.store(slot(n), U, size === 32 ? 64 : size);
      // A count of zero has not made the upper half zero.
      else if (c === "CL" && size === 32) a.movRR(h, h, 32);
    }
    e.flags.host = c === "CL" || rotates ? 0 : hostAfter(c);
    return true;
  }
  /** CF and OF change, and the rest stays as it was before. */
  function rotate(c: number): boolean {
    e.flags.settle();
    override(e, OVERRIDE.CF | OVERRIDE.OF);
    let h: number;
    if (memory) {
      a.load(U, e.memory, size);
      h = U;
    } else h = e.source(n);
    shiftBy(e, digit, h, c, size);
    if (memory) a.store(e.memory, U, size);
    else if (h === U) a.store(slot(n), U, size === 32 ? 64 : size);
    // Of ROL: CF is the lowest bit, OF that and the highest differing; of ROR: CF is the highest, OF that and the next differing.
    a.rm(8, MAP_0F, 0x92, 0, field(OVERRIDE.CF_AT)); // SETC
    if (c !== 1) {
      // As for a count of one: by adding what was rotated to itself, or to what it was one step before.
      a.movRR(T, h, 64);
      if (row.name === "ROL") a.shiftRI(1, T, 1, size), a.shiftRI(0, T, 1, size);
      else a.shiftRI(0, T, 1, size), a.shiftRI(1, T, 1, size);
    }
    a.rm(8, MAP_0F, 0x90, 0, field(OVERRIDE.OF_AT)); // SETO
    e.flags.host = 0;
    return true;
  }
};

export function bitTest(digit: number): Emit {
  return (e, i, [x, bit], row) => {
    const a = e.a, size = i.size, live = e.live, writes = digit !== 4;
    if (isMemory(x) && bit!.kind !== "constant") return false;
    translate(e, i, [x!], writes);
    if (row.locked && isMemory(x)) aligned(e, size >> 3);
    if (live !== 0) {
      e.flags.settle();
      override(e, OVERRIDE.CF);
    } else e.flags.pending = null;
    if (isMemory(x)) {
      if (row.locked || i.barrier) a.byte(0xf0);
      a.rm(size, MAP_0F, 0xba, digit, e.memory);
      a.byte((bit as { value: number }).value & (size - 1));
    } else {
      const n = (x as { n: number }).n;
      if (writes) e.flags.beforeWrite(n);
      const h = e.source(n);
      if (bit!.kind === "constant") {
        a.rr(size, MAP_0F, 0xba, digit, h);
        a.byte(bit!.value & (size - 1));
      } else a.rr(size, MAP_0F, 0x83 | (digit << 3), e.source((bit as { n: number }).n, T), h);
      if (writes && h === U) a.store(slot(n), U, size === 32 ? 64 : size);
    }
    e.flags.host = FLAG.C;
    if (live !== 0) a.rm(8, MAP_0F, 0x92, 0, field(OVERRIDE.CF_AT)); // SETC
    return true;
  };
}

/** BSF, BSR: TZCNT and LZCNT have another prefix, POPCNT its own opcode. */
export function scan(prefix: number, opcode: number): Emit {
  return (e, i, [dst, src]) => {
    const a = e.a, size = i.size, n = (dst as { n: number }).n, live = e.live !== 0, h = HOST_OF[n]!;
    translate(e, i, [src!], false);
    e.flags.pending = null;
    if (isMemory(src)) a.load(T, e.memory, size);
    else load(e, T, src!);
    if (prefix === 0) {
      // For zero the register stays as it was; whether the upper half of a 32-bit one does too depends on the host.
      const none = a.label();
      if (size === 32) a.movRR(T, T, 32);
      a.rr(size === 16 ? 16 : 64, MAP_0F, opcode, U, T);
      a.jcc(4, none);
      if (h >= 0) a.movRR(h, U, size);
      else {
        if (size === 32) a.movRR(U, U, 32);
        a.store(slot(n), U, size === 16 ? 16 : 64);
      }
      a.bind(none);
    } else {
      if (h < 0) a.load(U, slot(n), 64);
      a.rr(size, MAP_0F, opcode, h >= 0 ? h : U, T, false, false, prefix);
      if (h < 0) a.store(slot(n), U, size === 16 ? 16 : 64);
    }
    e.flags.host = prefix === 0 ? FLAG.Z : opcode === 0xb8 ? ASKED : FLAG.Z | FLAG.C;
    if (live) {
      if (prefix === 0) {
        a.storeI(field(S.nativeExtra), 0, 32);
        a.storeI(field(S.nativeX), 0, 64);
        a.rm(8, MAP_0F, 0x95, 0, field(S.nativeX)); // SETNZ
        keep(e, "RES", 32, "X", undefined, From.Self, FLAG.Z);
      } else {
        const carry = opcode !== 0xb8;
        a.storeI(field(S.nativeExtra), 0, 32);
        if (carry) a.rm(8, MAP_0F, 0x92, 0, field(S.nativeExtra));
        a.storeI(field(S.nativeX), 0, 64);
        a.rm(8, MAP_0F, 0x95, 0, field(S.nativeX));
        keep(e, "EXPLICIT", 64, "X", undefined, From.Self, e.flags.host);
      }
    }
    return true;
  };
}
