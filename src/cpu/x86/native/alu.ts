/** Native code of ADD to CMP, TEST, INC, DEC, NEG and NOT. */
import { formNumber as formOf } from "../flag_forms.ts";
import type { Instruction } from "../jit/region.ts";
import { S } from "../state.ts";
import { ALU, MAP_0F, MAP_1 } from "./assembler.ts";
import type { Emitter } from "./emitter.ts";
import { ASKED, FLAG, From, OVERRIDE, type Place } from "./kept.ts";
import {
  aluWith,
  canRevive,
  type Emit,
  isMemory,
  k,
  keep,
  keepX,
  keepY,
  loadHigh,
  type Operand,
  override,
  placeOf,
  r,
  translate,
} from "./pieces.ts";
import { field, HOST_OF, slot, T, U } from "./registers.ts";

/** The same of AH, CH, DH or BH: the byte before S.nativeX is nobody's while native code runs. */
const keepXHigh = (e: Emitter, n: number) => e.a.store(field(S.nativeX - 1), HOST_OF[n]!, 64);

/** AND, OR, XOR, CMP and TEST of AH, CH, DH or BH with a constant: without a REX prefix these are 4 to 7. */
function highByte(op: number | "TEST"): Emit {
  return (e, _i, [dst, src]) => {
    const a = e.a, { n } = dst as { n: number }, { value } = src as { value: number }, live = e.live !== 0;
    if (op === "TEST") {
      e.flags.pending = null;
      if (live) {
        loadHigh(e, n);
        a.aluRI(ALU.AND, U, value & 0xff, 32);
        keepX(e, U);
      }
      a.raw(0xf6, 0xc4 + n, value & 0xff);
      keep(e, "LOGIC", 8, "X");
      return true;
    }
    e.flags.pending = null;
    if (live && op === ALU.CMP) keepXHigh(e, n);
    a.raw(0x80, 0xc4 + n + 8 * op, value & 0xff);
    if (live && op !== ALU.CMP) keepXHigh(e, n);
    if (op === ALU.CMP) keep(e, "SUB", 8, "X", k(value));
    else keep(e, "LOGIC", 8, "X");
    return true;
  };
}

export const HIGH: Partial<Record<string, Emit>> = { TEST: highByte("TEST") };

for (const name of ["AND", "OR", "XOR", "CMP"] as const) HIGH[name] = highByte(ALU[name]);

export function alu(op: number): Emit {
  return (e, i, [dst, src]) => {
    const a = e.a, size = i.size, compare = op === ALU.CMP, carries = op === ALU.ADC || op === ALU.SBB;
    if (carries && !e.flags.pending && (e.flags.host & FLAG.C) === 0) return false;
    if (carries && !canRevive(e, FLAG.C)) return false;
    translate(e, i, [dst!, src!], dst!.kind === "memory" && !compare);
    if (i.barrier) a.raw(0x0f, 0xae, 0xf0); // MFENCE
    if (carries) return withCarry(e, op, dst!, src!, size);
    const live = e.live !== 0;
    if (isMemory(dst)) {
      const s = src!.kind === "register" && HOST_OF[src!.n]! < 0;
      if (!live && !(s && !compare)) {
        if (s) {
          a.load(U, slot((src as { n: number }).n), 64);
          a.aluMR(op, e.memory, U, size);
        } else if (src!.kind === "constant") a.aluMI(op, e.memory, src!.value, size);
        else a.aluMR(op, e.memory, HOST_OF[(src as { n: number }).n]!, size);
        e.flags.pending = null;
        e.flags.host = ASKED;
        return true;
      }
      a.load(U, e.memory, size);
      const arithmetic = op === ALU.ADD || op === ALU.SUB || compare;
      if (live && arithmetic) keepX(e, U);
      aluWith(e, op, U, src!, size);
      if (!compare) a.store(e.memory, U, size);
      if (live && !arithmetic) keepX(e, U);
      keep(
        e,
        arithmetic ? (op === ALU.ADD ? "ADD" : "SUB") : "LOGIC",
        size,
        "X",
        arithmetic ? placeOf(src!) : undefined,
      );
      return true;
    }
    const n = (dst as { n: number }).n, h = HOST_OF[n]!;
    const same = src!.kind === "register" && src!.n === n;
    if (compare) {
      let y: Place;
      if (isMemory(src) && live) {
        a.load(T, e.memory, size);
        keepY(e, T);
        y = "Y";
        if (h >= 0) a.aluRR(op, h, T, size);
        else a.aluMR(op, slot(n), T, size);
      } else {
        y = isMemory(src) ? k(0) : placeOf(src!);
        if (h >= 0) aluWith(e, op, h, src!, size);
        else {
          a.load(U, slot(n), 64);
          aluWith(e, op, U, src!, size);
        }
      }
      keep(e, "SUB", size, r(n), y);
      return true;
    }
    // Register destination: a full writer of flags, so what was pending does not matter any more.
    e.flags.pending = null;
    const to = h >= 0 ? h : U;
    if (h < 0) a.load(U, slot(n), 64);
    let y: Place | undefined;
    const arithmetic = op === ALU.ADD || op === ALU.SUB;
    if (arithmetic && live) {
      if (isMemory(src)) {
        a.load(T, e.memory, size);
        keepY(e, T);
        y = "Y";
        a.aluRR(op, to, T, size);
      } else if (same) {
        keepY(e, to);
        y = "Y";
        a.aluRR(op, to, to, size);
      } else {
        y = placeOf(src!);
        aluWith(e, op, to, src!, size);
      }
    } else if (same) a.aluRR(op, to, to, size);
    else aluWith(e, op, to, src!, size);
    if (h < 0) a.store(slot(n), U, size === 32 ? 64 : size);
    if (arithmetic) keep(e, op === ALU.ADD ? "ADD" : "SUB", size, r(n), y, op === ALU.ADD ? From.Minus : From.Plus);
    else keep(e, "LOGIC", size, r(n));
    return true;
  };
}

function withCarry(e: Emitter, op: number, dst: Operand, src: Operand, size: number): boolean {
  const a = e.a, live = e.live !== 0;
  e.flags.revive(FLAG.C);
  if (live) {
    a.storeI(field(S.nativeExtra), 0, 32);
    a.rm(8, MAP_0F, 0x92, 0, field(S.nativeExtra)); // SETC
  }
  // From here on only moves, until the operation.
  const pending = () => {
    e.flags.pending = null;
  };
  const form = op === ALU.ADC ? "ADC" : "SBB";
  if (isMemory(dst)) {
    pending();
    a.load(U, e.memory, size);
    if (live) keepX(e, U);
    aluWith(e, op, U, src, size);
    a.store(e.memory, U, size);
    keep(e, form, size, "X", placeOf(src));
    return true;
  }
  const n = (dst as { n: number }).n, h = HOST_OF[n]!, to = h >= 0 ? h : U;
  if (h < 0) a.load(U, slot(n), 64);
  let y: Place = k(0);
  pending();
  if (live) {
    keepX(e, to);
    if (isMemory(src)) {
      a.load(T, e.memory, size);
      keepY(e, T);
      y = "Y";
    } else if (src.kind === "register" && src.n === n) {
      keepY(e, to);
      y = "Y";
    } else y = placeOf(src);
  }
  if (live && isMemory(src)) a.aluRR(op, to, T, size);
  else aluWith(e, op, to, src, size);
  if (h < 0) a.store(slot(n), U, size === 32 ? 64 : size);
  keep(e, form, size, "X", y);
  return true;
}

export const test: Emit = (e, i, [x, y]) => {
  const a = e.a, size = i.size, live = e.live !== 0;
  translate(e, i, [x!, y!], false);
  if (isMemory(x)) {
    a.load(U, e.memory, size);
    aluWith(e, ALU.AND, U, y!, size);
    if (live) keepX(e, U);
    keep(e, "LOGIC", size, "X");
    return true;
  }
  const n = (x as { n: number }).n, h = e.source(n);
  if (y!.kind === "constant") a.testRI(h, y!.value, size);
  else a.testRR(h, e.source((y as { n: number }).n, T), size);
  if (y!.kind === "register" && y!.n === n) keep(e, "LOGIC", size, r(n));
  else keep(e, "LOGIC", size, r(n), placeOf(y!), From.And);
  return true;
};

export function step(form: "INC" | "DEC"): Emit {
  return (e, i, [x]) => {
    const a = e.a, size = i.size, live = e.live !== 0, carryLive = (e.live & FLAG.C) !== 0;
    if (carryLive && !canRevive(e, FLAG.C)) return stepOver(e, i, form, x!);
    translate(e, i, [x!], true);
    if (i.barrier) a.raw(0x0f, 0xae, 0xf0);
    if (carryLive) e.flags.revive(FLAG.C);
    const host = carryLive ? ASKED : ASKED & ~FLAG.C;
    if (live) {
      a.storeI(field(S.nativeExtra), 0, 32);
      if (carryLive) a.rm(8, MAP_0F, 0x92, 0, field(S.nativeExtra));
    }
    e.flags.pending = null;
    const digit = form === "INC" ? 0 : 1;
    if (isMemory(x)) {
      if (!live) {
        a.rm(size, MAP_1, size === 8 ? 0xfe : 0xff, digit, e.memory);
        e.flags.host = host;
        return true;
      }
      a.load(U, e.memory, size);
      a.rr(size, MAP_1, size === 8 ? 0xfe : 0xff, digit, U, false, size === 8);
      a.store(e.memory, U, size);
      keepX(e, U);
      keep(e, form, size, "X", undefined, From.Self, host);
      return true;
    }
    const n = (x as { n: number }).n, h = e.source(n);
    a.rr(size, MAP_1, size === 8 ? 0xfe : 0xff, digit, h, false, size === 8);
    if (h === U) a.store(slot(n), U, size === 32 ? 64 : size);
    keep(e, form, size, r(n), undefined, From.Self, host);
    return true;
  };
}

/** CF is wherever it is, maybe in the state: the other flags are laid over it. */
function stepOver(e: Emitter, i: Instruction, form: "INC" | "DEC", x: Operand): boolean {
  const a = e.a, size = i.size, digit = form === "INC" ? 0 : 1;
  translate(e, i, [x], true);
  if (i.barrier) a.raw(0x0f, 0xae, 0xf0);
  e.flags.settle();
  a.aluMI(ALU.AND, field(OVERRIDE.AT), OVERRIDE.CF, 8);
  override(e, OVERRIDE.STEP);
  a.storeI(field(OVERRIDE.STEP_AT), formOf(form, size), 8);
  const n = isMemory(x) ? -1 : (x as { n: number }).n;
  if (n < 0) a.load(U, e.memory, size);
  const h = n < 0 ? U : e.source(n);
  a.rr(size, MAP_1, size === 8 ? 0xfe : 0xff, digit, h, false, size === 8);
  if (n < 0) a.store(e.memory, U, size);
  else if (h === U) a.store(slot(n), U, size === 32 ? 64 : size);
  a.store(field(S.nativeStepX), h, 64);
  e.flags.host = ASKED & ~FLAG.C;
  return true;
}

export const neg: Emit = (e, i, [x]) => {
  const a = e.a, size = i.size, live = e.live !== 0;
  translate(e, i, [x!], true);
  e.flags.pending = null;
  if (isMemory(x)) {
    a.load(U, e.memory, size);
    if (live) keepY(e, U);
    a.rr(size, MAP_1, size === 8 ? 0xf6 : 0xf7, 3, U, false, size === 8);
    a.store(e.memory, U, size);
  } else {
    const n = (x as { n: number }).n, h = e.source(n);
    if (live) keepY(e, h);
    a.rr(size, MAP_1, size === 8 ? 0xf6 : 0xf7, 3, h, false, size === 8);
    if (h === U) a.store(slot(n), U, size === 32 ? 64 : size);
  }
  keep(e, "SUB", size, k(0), "Y");
  return true;
};

export const not: Emit = (e, i, [x]) => {
  const a = e.a, size = i.size;
  translate(e, i, [x!], true);
  if (isMemory(x)) a.rm(size, MAP_1, size === 8 ? 0xf6 : 0xf7, 2, e.memory);
  else {
    const n = (x as { n: number }).n;
    e.flags.beforeWrite(n);
    const h = e.source(n);
    a.rr(size, MAP_1, size === 8 ? 0xf6 : 0xf7, 2, h, false, size === 8);
    if (h === U) a.store(slot(n), U, size === 32 ? 64 : size);
  }
  return true;
};
