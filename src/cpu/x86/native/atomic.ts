/** Native code of XCHG, XADD, CMPXCHG and of locked instructions: [sdm3 §9.1]. */
import { ALU, MAP_0F, MAP_1 } from "./assembler.ts";
import { ASKED, FLAG, From, OVERRIDE } from "./kept.ts";
import { aligned, aluWith, type Emit, isMemory, keep, keepX, keepY, load, override, placeOf, r } from "./pieces.ts";
import { field, HOST, slot, T, U } from "./registers.ts";

export const xchg: Emit = (e, i, [x, y], row) => {
  const a = e.a, size = i.size, n = (y as { n: number }).n;
  if (isMemory(x)) {
    e.operand(size >> 3, true);
    if (row.locked) aligned(e, size >> 3);
    e.flags.beforeWrite(n);
    const h = e.source(n);
    if (row.locked || i.barrier) a.rm(size, MAP_1, size === 8 ? 0x86 : 0x87, h, e.memory, size === 8);
    else if (h === U) {
      a.rm(size, MAP_1, size === 8 ? 0x86 : 0x87, h, e.memory, size === 8);
    } else {
      a.load(U, e.memory, size);
      a.store(e.memory, h, size);
      if (size === 8) a.rr(8, MAP_1, 0x88, U, h, true, true);
      else a.movRR(h, U, size);
      return true;
    }
    if (h === U) {
      if (size === 32) a.movRR(U, U, 32);
      a.store(slot(n), U, size === 32 ? 64 : size);
    }
    return true;
  }
  const m = (x as { n: number }).n;
  e.flags.beforeWrite(n);
  e.flags.beforeWrite(m);
  load(e, T, x!);
  load(e, U, y!);
  e.set(m, U, size);
  e.set(n, T, size);
  return true;
};

/** LOCK ADD, OR, AND, SUB, XOR with memory. */
export function lockedAlu(op: number): Emit {
  return (e, i, [dst, src]) => {
    const a = e.a, size = i.size, live = e.live !== 0;
    if (!isMemory(dst)) return false;
    const logic = op !== ALU.ADD && op !== ALU.SUB;
    if (live && logic && src!.kind === "register" && src!.n === 0) return false;
    e.operand(size >> 3, true);
    aligned(e, size >> 3);
    e.flags.pending = null;
    if (!live) {
      const h = src!.kind === "register" ? e.source(src!.n) : 0;
      a.byte(0xf0);
      if (src!.kind === "constant") a.aluMI(op, e.memory, src!.value, size);
      else a.aluMR(op, e.memory, h, size);
      e.flags.host = ASKED;
    } else if (logic) {
      // The new value is known only to who has put it there.
      const again = a.label();
      a.push(HOST.RAX);
      a.load(HOST.RAX, e.memory, size);
      a.bind(again);
      a.movRR(U, HOST.RAX);
      aluWith(e, op, U, src!, size);
      a.byte(0xf0);
      a.rm(size, MAP_0F, size === 8 ? 0xb0 : 0xb1, U, e.memory, size === 8);
      a.jcc(5, again);
      a.pop(HOST.RAX);
      keepX(e, U);
      keep(e, "LOGIC", size, "X", undefined, From.Self, 0);
    } else {
      load(e, U, src!);
      if (op === ALU.SUB) a.rr(size, MAP_1, size === 8 ? 0xf6 : 0xf7, 3, U, false, size === 8);
      a.byte(0xf0);
      a.rm(size, MAP_0F, size === 8 ? 0xc0 : 0xc1, U, e.memory, size === 8); // XADD
      keepX(e, U);
      keep(e, op === ALU.ADD ? "ADD" : "SUB", size, "X", placeOf(src!), From.Self, 0);
    }
    return true;
  };
}

export const xadd: Emit = (e, i, [x, y], row) => {
  const a = e.a, size = i.size, n = (y as { n: number }).n, live = e.live !== 0;
  if (!isMemory(x)) return false;
  e.operand(size >> 3, true);
  if (row.locked) aligned(e, size >> 3);
  e.flags.pending = null;
  const h = e.source(n);
  if (live) keepY(e, h);
  if (row.locked || i.barrier) a.byte(0xf0);
  a.rm(size, MAP_0F, size === 8 ? 0xc0 : 0xc1, h, e.memory, size === 8);
  if (h === U) {
    if (size === 32) a.movRR(U, U, 32);
    a.store(slot(n), U, size === 32 ? 64 : size);
  }
  keep(e, "ADD", size, r(n), "Y");
  return true;
};

export const cmpxchg: Emit = (e, i, [x, y], row) => {
  const a = e.a, size = i.size, n = (y as { n: number }).n, live = e.live !== 0;
  if (!isMemory(x)) return false;
  e.operand(size >> 3, true);
  if (row.locked) aligned(e, size >> 3);
  e.flags.pending = null;
  if (live) keepX(e, HOST.RAX);
  const h = e.source(n);
  if (row.locked || i.barrier) a.byte(0xf0);
  a.rm(size, MAP_0F, size === 8 ? 0xb0 : 0xb1, h, e.memory, size === 8);
  // RAX is now what memory had, whether it was equal or not.
  keep(e, "SUB", size, "X", r(0));
  return true;
};

/** It changes ZF alone, and RAX and RDX only where they are not what memory has. */
export const cmpxchg16b: Emit = (e, i, [m], row) => {
  const a = e.a;
  if (!isMemory(m)) return false;
  e.operand(16, true);
  aligned(e, 16);
  if (e.live !== 0) {
    e.flags.settle();
    override(e, OVERRIDE.ZF);
  } else e.flags.pending = null;
  if (row.locked || i.barrier) a.byte(0xf0);
  a.rm(64, MAP_0F, 0xc7, 1, e.memory);
  e.flags.host = FLAG.Z;
  if (e.live !== 0) a.rm(8, MAP_0F, 0x94, 0, field(OVERRIDE.ZF_AT)); // SETZ
  return true;
};
