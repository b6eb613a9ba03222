/** What the code of instructions on general registers is put together from. */
import type { Form } from "../flag_forms.ts";
import type { Instruction } from "../jit/region.ts";
import type { Row } from "../row.ts";
import { S } from "../state.ts";
import { ALU, MAP_0F } from "./assembler.ts";
import type { Emitter } from "./emitter.ts";
import { ASKED, explicitGives, FLAG, From, OVERRIDE, type Pending, type Place } from "./kept.ts";
import { field, HOST_OF, slot, T, U } from "./registers.ts";

/** What an operand is. */
export type Operand =
  | { readonly kind: "register"; readonly n: number; readonly bits: number; readonly high: boolean }
  | { readonly kind: "memory"; readonly bits: number }
  | { readonly kind: "constant"; readonly value: number };

/** Emits the instruction at hand; false: it cannot be done natively with the flags as they are here, and nothing was emitted. */
export type Emit = (e: Emitter, i: Instruction, operands: readonly Operand[], row: Row) => boolean;

export const isMemory = (o: Operand | undefined): o is Operand & { kind: "memory" } => o?.kind === "memory";

/** Flags of all six from now on, if anybody looks. */
export function keep(e: Emitter, form: Form, size: number, a: Place, y?: Place, from = From.Self, host = ASKED): void {
  e.flags.pending = e.live === 0 ? null : { form, size, from, a, y } satisfies Pending;
  e.flags.host = host;
}

export const r = (n: number): Place => ({ register: n });

export const k = (value: number): Place => ({ constant: value });

/** host register `to` (temporary) = operand, as loaded. */
export function load(e: Emitter, to: number, o: Operand): void {
  const a = e.a;
  if (o.kind === "constant") a.movRI(to, o.value);
  else if (o.kind === "memory") a.load(to, e.memory, o.bits);
  else if (HOST_OF[o.n]! >= 0) a.movRR(to, HOST_OF[o.n]!);
  else a.load(to, slot(o.n), 64);
}

/** op host register, operand. */
export function aluWith(e: Emitter, op: number, to: number, o: Operand, size: number): void {
  const a = e.a;
  if (o.kind === "constant") a.aluRI(op, to, o.value, size);
  else if (o.kind === "memory") a.aluRM(op, to, e.memory, size);
  else if (HOST_OF[o.n]! >= 0) a.aluRR(op, to, HOST_OF[o.n]!, size);
  else a.aluRM(op, to, slot(o.n), size);
}

export const placeOf = (o: Operand): Place => o.kind === "register" ? r(o.n) : k((o as { value: number }).value);

export const keepX = (e: Emitter, host: number) => e.a.store(field(S.nativeX), host, 64);

export const keepY = (e: Emitter, host: number) => e.a.store(field(S.nativeY), host, 64);

/** The instruction's memory operand, if it has one. */
export function translate(e: Emitter, i: Instruction, operands: readonly Operand[], write: boolean): void {
  const m = operands.find(isMemory);
  if (m && i.hasMemory) e.operand(m.bits >> 3, write);
}

/** Whether the host's flags can be made right for `wanted` after memory was translated. */
export function canRevive(e: Emitter, wanted: number): boolean {
  const p = e.flags.pending;
  if (!p) return (wanted & ~e.flags.host) === 0 && !e.i.hasMemory;
  if (p.form === "SUB" || p.form === "ADD" || p.form === "LOGIC") return true;
  if (p.form === "INC" || p.form === "DEC") return wanted === FLAG.C || (wanted & (FLAG.O | FLAG.C)) === 0;
  if (p.form === "EXPLICIT") return explicitGives(wanted);
  return (wanted & ~e.flags.host) === 0 && !e.i.hasMemory;
}

export const srcNumber = (o: Operand) => (o as { n: number }).n;

/** U = AH, CH, DH or BH. */
export function loadHigh(e: Emitter, n: number): void {
  e.a.movRR(U, HOST_OF[n]!, 32);
  e.a.shiftRI(5, U, 8, 32);
  e.a.rr(32, MAP_0F, 0xb6, U, U, false, true);
  e.flags.host = 0;
}

/** Locked accesses are natively atomic only where they are aligned; the others are the interpreter's. */
export function aligned(e: Emitter, bytes: number): void {
  if (bytes === 1) return;
  e.a.testRI(T, bytes - 1, 32);
  e.a.jcc(5, e.exit());
  e.flags.host = 0;
}

/** Some flags are going to be in S.nativeForm itself. */
export function override(e: Emitter, flags: number): void {
  e.a.aluMI(ALU.OR, field(OVERRIDE.AT), flags, 8);
  e.flags.host = 0;
}
