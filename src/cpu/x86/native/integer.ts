/** Native code of the instructions on general registers. */
import { type Arg, argBits, isMemoryLetter } from "../arg.ts";
import type { Decoder } from "../decode.ts";
import { type Form, formNumber as formOf } from "../flag_forms.ts";
import type { Variants } from "../handlers.ts";
import { fieldRegister, type Instruction } from "../jit/region.ts";
import type { Row } from "../row.ts";
import { reg, S, VBASE } from "../state.ts";
import { ALU, MAP_0F, MAP_1 } from "./assembler.ts";
import { type Emitter, isHigh } from "./emitter.ts";
import { ASKED, explicitGives, FLAG, From, needs, OVERRIDE, type Pending, type Place } from "./kept.ts";
import { field, HOST, HOST_OF, slot, T, U } from "./registers.ts";

/** What an operand is. */
export type Operand =
  | { readonly kind: "register"; readonly n: number; readonly bits: number; readonly high: boolean }
  | { readonly kind: "memory"; readonly bits: number }
  | { readonly kind: "constant"; readonly value: number };

/** Emits the instruction at hand; false: it cannot be done natively with the flags as they are here, and nothing was emitted. */
type Emit = (e: Emitter, i: Instruction, operands: readonly Operand[], row: Row) => boolean;

const isMemory = (o: Operand | undefined): o is Operand & { kind: "memory" } => o?.kind === "memory";

// ---- pieces ----------------------------------------------------------------------------------------------------------------

/** Flags of all six from now on, if anybody looks. */
function keep(e: Emitter, form: Form, size: number, a: Place, y?: Place, from = From.Self, host = ASKED): void {
  e.flags.pending = e.live === 0 ? null : { form, size, from, a, y } satisfies Pending;
  e.flags.host = host;
}
const r = (n: number): Place => ({ register: n });
const k = (value: number): Place => ({ constant: value });

/** host register `to` (temporary) = operand, as loaded. */
function load(e: Emitter, to: number, o: Operand): void {
  const a = e.a;
  if (o.kind === "constant") a.movRI(to, o.value);
  else if (o.kind === "memory") a.load(to, e.memory, o.bits);
  else if (HOST_OF[o.n]! >= 0) a.movRR(to, HOST_OF[o.n]!);
  else a.load(to, slot(o.n), 64);
}
/** op host register, operand. */
function aluWith(e: Emitter, op: number, to: number, o: Operand, size: number): void {
  const a = e.a;
  if (o.kind === "constant") a.aluRI(op, to, o.value, size);
  else if (o.kind === "memory") a.aluRM(op, to, e.memory, size);
  else if (HOST_OF[o.n]! >= 0) a.aluRR(op, to, HOST_OF[o.n]!, size);
  else a.aluRM(op, to, slot(o.n), size);
}
const placeOf = (o: Operand): Place => o.kind === "register" ? r(o.n) : k((o as { value: number }).value);
const keepX = (e: Emitter, host: number) => e.a.store(field(S.nativeX), host, 64);
const keepY = (e: Emitter, host: number) => e.a.store(field(S.nativeY), host, 64);

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
const HIGH: Partial<Record<string, Emit>> = { TEST: highByte("TEST") };
for (const name of ["AND", "OR", "XOR", "CMP"] as const) HIGH[name] = highByte(ALU[name]);

/** The instruction's memory operand, if it has one. */
function translate(e: Emitter, i: Instruction, operands: readonly Operand[], write: boolean): void {
  const m = operands.find(isMemory);
  if (m && i.hasMemory) e.operand(m.bits >> 3, write);
}

// ---- ADD to CMP, TEST, INC, DEC, NEG, NOT ----------------------------------------------------------------------------------

function alu(op: number): Emit {
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

/** Whether the host's flags can be made right for `wanted` after memory was translated. */
function canRevive(e: Emitter, wanted: number): boolean {
  const p = e.flags.pending;
  if (!p) return (wanted & ~e.flags.host) === 0 && !e.i.hasMemory;
  if (p.form === "SUB" || p.form === "ADD" || p.form === "LOGIC") return true;
  if (p.form === "INC" || p.form === "DEC") return wanted === FLAG.C || (wanted & (FLAG.O | FLAG.C)) === 0;
  if (p.form === "EXPLICIT") return explicitGives(wanted);
  return (wanted & ~e.flags.host) === 0 && !e.i.hasMemory;
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

const test: Emit = (e, i, [x, y]) => {
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

function step(form: "INC" | "DEC"): Emit {
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

const neg: Emit = (e, i, [x]) => {
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

const not: Emit = (e, i, [x]) => {
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

// ---- moves -----------------------------------------------------------------------------------------------------------------

const mov: Emit = (e, i, [dst, src], row) => {
  const a = e.a, size = i.size;
  const high = src!.kind === "register" && src!.high;
  if (isMemory(dst)) {
    e.operand(size >> 3, true);
    if (src!.kind === "constant") a.storeI(e.memory, src!.value, size);
    else if (high) {
      loadHigh(e, srcNumber(src!));
      a.store(e.memory, U, 8);
    } else a.store(e.memory, e.source(srcNumber(src!)), size);
    return true;
  }
  const n = (dst as { n: number }).n, h = HOST_OF[n]!;
  if (isMemory(src)) {
    e.operand(size >> 3, false);
    e.flags.beforeWrite(n);
    if (h >= 0) {
      if (size === 8) a.rm(8, MAP_1, 0x8a, h, e.memory, true);
      else a.rm(size, MAP_1, 0x8b, h, e.memory);
    } else {
      a.load(U, e.memory, size);
      a.store(slot(n), U, size === 32 ? 64 : size);
    }
    return true;
  }
  if (src!.kind === "constant") {
    e.flags.beforeWrite(n);
    if (row.op === "B8 +r" && size === 64) {
      const value = (BigInt(i.immHigh | 0) << 32n) | BigInt(i.imm >>> 0);
      a.movRI64(h >= 0 ? h : U, value);
      if (h < 0) a.store(slot(n), U, 64);
    } else if (size === 64 || size === 32) {
      const value = size === 32 ? src!.value >>> 0 : src!.value;
      if (h < 0) {
        a.movRI64(U, BigInt(value));
        a.store(slot(n), U, 64);
      } else a.movRI64(h, BigInt(value));
    } else if (h < 0) a.storeI(slot(n), src!.value, size);
    else {
      a.rr(size, MAP_1, size === 8 ? 0xc6 : 0xc7, 0, h, false, size === 8);
      a.immediate(src!.value, size);
    }
    return true;
  }
  e.flags.beforeWrite(n);
  if (high) {
    loadHigh(e, srcNumber(src!));
    e.set(n, U, 8);
    return true;
  }
  const from = e.source(srcNumber(src!));
  if (h >= 0) {
    if (size === 8) a.rr(8, MAP_1, 0x88, from, h, true, true);
    else a.movRR(h, from, size);
  } else {
    if (size === 32) {
      a.movRR(U, from, 32);
      a.store(slot(n), U, 64);
    } else a.store(slot(n), from, size);
  }
  return true;
};
const srcNumber = (o: Operand) => (o as { n: number }).n;
/** U = AH, CH, DH or BH. */
function loadHigh(e: Emitter, n: number): void {
  e.a.movRR(U, HOST_OF[n]!, 32);
  e.a.shiftRI(5, U, 8, 32);
  e.a.rr(32, MAP_0F, 0xb6, U, U, false, true);
  e.flags.host = 0;
}

function extend(signed: boolean, from: number): Emit {
  return (e, i, [dst, src]) => {
    const a = e.a, size = i.size, n = (dst as { n: number }).n, h = HOST_OF[n]! >= 0 ? HOST_OF[n]! : U;
    const high = src!.kind === "register" && src!.high;
    if (isMemory(src)) e.operand(from >> 3, false);
    e.flags.beforeWrite(n);
    const map = from === 32 ? MAP_1 : MAP_0F,
      opcode = from === 32 ? 0x63 : (signed ? 0xbe : 0xb6) | (from === 16 ? 1 : 0);
    if (isMemory(src)) a.rm(size, map, opcode, h, e.memory);
    else {
      const m = srcNumber(src!);
      if (high) {
        loadHigh(e, m);
        a.rr(size, map, opcode, h, U, false, true);
      } else if (HOST_OF[m]! >= 0) a.rr(size, map, opcode, h, HOST_OF[m]!, false, from === 8);
      else a.rm(size, map, opcode, h, slot(m));
    }
    if (h === U) a.store(slot(n), U, size === 32 ? 64 : size);
    return true;
  };
}

const lea: Emit = (e, i, [dst]) => {
  const a = e.a, n = (dst as { n: number }).n, h = HOST_OF[n]!;
  e.flags.beforeWrite(n);
  a.lea(h >= 0 ? h : U, e.addressOf(), i.size === 32 || i.addressBits === 32 ? 32 : 64);
  if (h < 0) a.store(slot(n), U, 64);
  return true;
};

const xchg: Emit = (e, i, [x, y], row) => {
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

/** Locked accesses are natively atomic only where they are aligned; the others are the interpreter's. */
function aligned(e: Emitter, bytes: number): void {
  if (bytes === 1) return;
  e.a.testRI(T, bytes - 1, 32);
  e.a.jcc(5, e.exit());
  e.flags.host = 0;
}

/** LOCK ADD, OR, AND, SUB, XOR with memory. */
function lockedAlu(op: number): Emit {
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

const xadd: Emit = (e, i, [x, y], row) => {
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

const cmpxchg: Emit = (e, i, [x, y], row) => {
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
const cmpxchg16b: Emit = (e, i, [m], row) => {
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

// ---- conditions ------------------------------------------------------------------------------------------------------------

function setcc(cc: number): Emit {
  return (e, i, [x]) => {
    if (!canRevive(e, needs(cc))) return false;
    const a = e.a;
    if (isMemory(x)) {
      e.operand(1, true);
      e.flags.revive(needs(cc));
      a.rm(8, MAP_0F, 0x90 | cc, 0, e.memory);
      return true;
    }
    const n = (x as { n: number }).n, h = HOST_OF[n]!;
    e.flags.beforeWrite(n);
    e.flags.revive(needs(cc));
    if (h < 0) a.rm(8, MAP_0F, 0x90 | cc, 0, slot(n));
    else a.rr(8, MAP_0F, 0x90 | cc, 0, h, false, true);
    void i;
    return true;
  };
}
function cmov(cc: number): Emit {
  return (e, i, [dst, src]) => {
    if (!canRevive(e, needs(cc))) return false;
    const a = e.a, size = i.size, n = (dst as { n: number }).n;
    if (isMemory(src)) {
      e.operand(size >> 3, false);
      a.load(T, e.memory, size);
    } else load(e, T, src!);
    e.flags.beforeWrite(n);
    e.flags.revive(needs(cc));
    const h = e.source(n);
    a.rr(size, MAP_0F, 0x40 | cc, h, T);
    if (h === U) a.store(slot(n), U, size === 32 ? 64 : size);
    return true;
  };
}

// ---- shifts and rotations --------------------------------------------------------------------------------------------------

const DIGIT: Record<string, number> = { ROL: 0, ROR: 1, SHL: 4, SHR: 5, SAL: 4, SAR: 7 };

/** The operation itself, on a host register or in memory. */
function shiftBy(e: Emitter, digit: number, to: number | null, count: number | "CL", size: number): void {
  const a = e.a, opcode = (count === "CL" ? 0xd2 : 0xc0) | (size === 8 ? 0 : 1);
  if (to === null) a.rm(size, MAP_1, opcode, digit, e.memory);
  else a.rr(size, MAP_1, opcode, digit, to, false, size === 8);
  if (count !== "CL") a.byte(count);
}

const shift: Emit = (e, i, [x, count], row) => {
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

/** Some flags are going to be in S.nativeForm itself. */
function override(e: Emitter, flags: number): void {
  e.a.aluMI(ALU.OR, field(OVERRIDE.AT), flags, 8);
  e.flags.host = 0;
}

// ---- bits ------------------------------------------------------------------------------------------------------------------

function bitTest(digit: number): Emit {
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
function scan(prefix: number, opcode: number): Emit {
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

const bswap: Emit = (e, i, [x]) => {
  const a = e.a, n = (x as { n: number }).n;
  e.flags.beforeWrite(n);
  const h = e.source(n);
  const rex = (i.size === 64 ? 0x48 : 0x40) | (h >> 3);
  a.raw(rex, 0x0f, 0xc8 | (h & 7));
  if (h === U) a.store(slot(n), U, 64);
  return true;
};

// ---- multiplication and division -------------------------------------------------------------------------------------------

const imul: Emit = (e, i, [dst, src, third]) => {
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

function multiply(digit: number): Emit {
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
function divide(signed: boolean): Emit {
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

/** CBW, CWDE, CDQE; CWD, CDQ, CQO. */
function widen(opcode: number): Emit {
  return (e, i) => {
    e.flags.beforeWrite(opcode === 0x98 ? 0 : 2);
    if (i.size === 16) e.a.byte(0x66);
    if (i.size === 64) e.a.byte(0x48);
    e.a.byte(opcode);
    return true;
  };
}

// ---- the stack -------------------------------------------------------------------------------------------------------------

const push: Emit = (e, _i, [src]) => {
  const a = e.a, rsp = HOST_OF[4]!;
  if (isMemory(src)) {
    e.operand(8, false);
    a.load(U, e.memory, 64);
    e.stack(-8, 8, true);
    a.store(e.memory, U, 64);
  } else {
    e.stack(-8, 8, true);
    if (src!.kind === "constant") a.storeI(e.memory, src!.value, 64);
    else a.store(e.memory, e.source((src as { n: number }).n), 64);
  }
  e.flags.beforeWrite(4);
  a.lea(rsp, { base: rsp, index: -1, scale: 0, disp: -8 });
  return true;
};
const pop: Emit = (e, _i, [dst]) => {
  const a = e.a, rsp = HOST_OF[4]!, n = (dst as { n: number }).n, h = HOST_OF[n]!;
  e.stack(0, 8, false);
  e.flags.beforeWrite(4);
  e.flags.beforeWrite(n);
  a.lea(rsp, { base: rsp, index: -1, scale: 0, disp: 8 });
  a.load(h >= 0 ? h : U, e.memory, 64);
  if (h < 0) a.store(slot(n), U, 64);
  return true;
};
const leave: Emit = (e) => {
  const a = e.a, rsp = HOST_OF[4]!, rbp = HOST_OF[5]!;
  e.stackAt(5, 8);
  e.flags.beforeWrite(4);
  e.flags.beforeWrite(5);
  a.lea(rsp, { base: rbp, index: -1, scale: 0, disp: 8 });
  a.load(rbp, e.memory, 64);
  return true;
};

const fence = (last: number): Emit => (e) => {
  e.a.raw(0x0f, 0xae, last);
  return true;
};
const nothing: Emit = () => true;

// ---- which rows ------------------------------------------------------------------------------------------------------------

const BY_NAME: Record<string, Emit> = {
  MOV: mov,
  MOVNTI: mov,
  LEA: lea,
  TEST: test,
  INC: step("INC"),
  DEC: step("DEC"),
  NEG: neg,
  NOT: not,
  XCHG: xchg,
  XADD: xadd,
  CMPXCHG: cmpxchg,
  BSWAP: bswap,
  BT: bitTest(4),
  BTS: bitTest(5),
  BTR: bitTest(6),
  BTC: bitTest(7),
  PUSH: push,
  POP: pop,
  LEAVE: leave,
  CBW: widen(0x98),
  CWD: widen(0x99),
  NOP: nothing,
  PAUSE: nothing,
  LFENCE: fence(0xe8),
  MFENCE: fence(0xf0),
  SFENCE: fence(0xf8),
};
for (const [name, op] of Object.entries(ALU)) BY_NAME[name] = alu(op);
for (const name of ["SHL", "SAL", "SHR", "SAR", "ROL", "ROR"]) BY_NAME[name] = shift;

/** Locked forms of what has more to say than a prefix. */
const LOCKED: Record<string, Emit> = {
  XCHG: xchg,
  XADD: xadd,
  CMPXCHG: cmpxchg,
  BTS: bitTest(5),
  BTR: bitTest(6),
  BTC: bitTest(7),
};
for (const name of ["ADD", "OR", "AND", "SUB", "XOR"] as const) LOCKED[name] = lockedAlu(ALU[name]);

export class Integer {
  readonly #emits: (Emit | undefined)[];

  /** `features`: what the host's processor has, by the names that Linux gives it. */
  constructor(
    private readonly decoder: Decoder,
    private readonly variants: Variants,
    private readonly features: ReadonlySet<string>,
  ) {
    this.#emits = decoder.rows.map((row) => this.#find(row));
  }

  #find(row: Row): Emit | undefined {
    if (row.unit || row.cpl0 || row.string || row.inState || row.only === "legacy" || row.ends) return undefined;
    if (row.name === "CMPXCHG16B") return this.features.has("cx16") ? cmpxchg16b : undefined;
    if (row.locked) return LOCKED[row.name];
    const args = row.args ?? "";
    if (/[SCD]/.test(args.replace(/CL/g, ""))) return undefined;
    if (row.name === "MOVZX" || row.name === "MOVSX" || row.name === "MOVSXD") {
      return extend(row.name !== "MOVZX", row.name === "MOVSXD" ? 32 : args.endsWith("b") ? 8 : 16);
    }
    if (row.name === "IMUL") return args.includes(",") ? imul : args === "Ev" ? multiply(5) : undefined;
    if (row.name === "MUL") return args === "Ev" ? multiply(4) : undefined;
    if (row.name === "DIV" || row.name === "IDIV") return args === "Ev" ? divide(row.name === "IDIV") : undefined;
    if (row.name === "TZCNT") return this.features.has("bmi1") ? scan(0xf3, 0xbc) : undefined;
    if (row.name === "LZCNT") return this.features.has("abm") ? scan(0xf3, 0xbd) : undefined;
    if (row.name === "POPCNT") return this.features.has("popcnt") ? scan(0xf3, 0xb8) : undefined;
    if (row.name === "BSF") return scan(0, 0xbc);
    if (row.name === "BSR") return scan(0, 0xbd);
    if (/^(CMOV|SET)/.test(row.name)) {
      const cc = parseInt(row.op.slice(3, 5), 16) & 15;
      return row.name.startsWith("SET") ? setcc(cc) : cmov(cc);
    }
    if (row.name === "PUSH" || row.name === "POP") {
      if (!args || row.op === "8F /0") return undefined;
    }
    if (row.name === "XCHG" && row.op === "90 +r") return xchg;
    return BY_NAME[row.name];
  }

  /** The instruction's emitter, if it has one for these operands; whether it works with the flags at hand is seen later. */
  emitterOf(i: Instruction): ((e: Emitter) => boolean) | undefined {
    const emit = this.#emits[i.row];
    if (!emit) return undefined;
    const row = this.decoder.rows[i.row]!, args = this.variants.args[i.row]!;
    if (row.d64 && i.size !== 64) return undefined;
    if (["BSWAP", "DIV", "IDIV", "LEA"].includes(row.name) && i.size === 16) return undefined;
    if (i.hasMemory && !fits(i)) return undefined;
    const operands: Operand[] = [];
    for (const a of args) {
      const o = operandOf(i, a);
      if (!o) return undefined;
      operands.push(o);
    }
    // AH, CH, DH and BH: as a source of moves only.
    if (operands.some((o) => o.kind === "register" && o.high) && !highMove(row, operands)) {
      const own = HIGH[row.name];
      return own && operands[1]!.kind === "constant" ? (e) => own(e, i, operands, row) : undefined;
    }
    return (e) => emit(e, i, operands, row);
  }
}

function highMove(row: Row, [dst]: readonly Operand[]): boolean {
  return /^MOV([SZ]X)?$/.test(row.name) && !(dst!.kind === "register" && dst!.high);
}

const fieldOf = (i: Instruction, a: Arg) => a.slot === 0 ? i.d : a.slot === 1 ? i.s : i.x;

/** Displacements that are relative to the instruction may not fit an address any more. */
export function fits(i: Instruction): boolean {
  const d = i.base === reg(VBASE) ? i.disp + i.at + i.length : i.disp;
  return d === (d | 0);
}

function operandOf(i: Instruction, a: Arg): Operand | undefined {
  const bits = argBits(a, i.size);
  if (isMemoryLetter(a.letter) && (i.hasMemory || a.letter === "M")) return { kind: "memory", bits };
  switch (a.letter) {
    case "E":
    case "R":
    case "G":
    case "Z":
    case "A":
      return { kind: "register", n: fieldRegister(fieldOf(i, a)), bits, high: bits === 8 && isHigh(fieldOf(i, a)) };
    case "CL":
      return { kind: "register", n: 1, bits: 8, high: false };
    case "I":
      return { kind: "constant", value: i.imm };
    case "1":
      return { kind: "constant", value: 1 };
    default:
      return undefined;
  }
}
