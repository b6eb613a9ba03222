/**
 * Handlers: a row instantiated for an operand size, a form and a mode.
 *
 * Variants are numbered from 0; the first `hotCount` numbers are places in the interpreter's loop, the others entries of the
 * module's table. `Variants` finds the number from what the decoder knows.
 */
import { Bug } from "../../base/errors.ts";
import type { Code, Var } from "../../wasm/code.ts";
import type { Value } from "../../wasm/value.ts";
import { type Arg, argBits, isMemoryLetter, parseArgs, rowSizes } from "./arg.ts";
import { emitExit, type Exits } from "./exits.ts";
import type { Operand } from "./operand.ts";
import { type CpuFuncs, type Host, Ops } from "./ops.ts";
import type { Row } from "./row.ts";
import { EXC, OP, reg, S } from "./state.ts";

/** How an operand that may be memory is reached. */
export const FORM = { REG: 0, EA: 1, BASE: 2, INDEX: 3 } as const;
const SIZE_INDEX: Record<number, number> = { 8: 0, 16: 1, 32: 2, 64: 3 };

export interface Variant {
  readonly row: Row;
  readonly args: readonly Arg[];
  readonly size: number;
  readonly form: number;
  readonly flagsLive: boolean;
  readonly is64: boolean;
  readonly hot: boolean;
  readonly name: string;
}

export class Variants {
  readonly all: Variant[] = [];
  readonly hotCount: number;
  readonly args: (readonly Arg[])[];
  readonly #index: Int16Array;

  /** `reserved`: numbers at the start that the loop keeps for itself. */
  constructor(readonly rows: readonly Row[], readonly reserved: number) {
    this.args = rows.map(parseArgs);
    const hot: Variant[] = [], cold: Variant[] = [];
    const shared = new Map<string, Variant>(), uses: { variant: Variant; rowIndex: number }[] = [];
    const semantics = new Map<unknown, number>();
    rows.forEach((row, rowIndex) => {
      const args = this.args[rowIndex]!;
      const kind = `${row.cpl0},${row.unit},${row.nowait},${!!row.locked},${!!row.modes}`;
      const mayMem = args.some((a) => isMemoryLetter(a.letter));
      const mayReg = !row.locked && !args.some((a) => a.letter === "M" || a.letter === "O");
      for (
        const is64 of row.only === "64" ? [true] : row.only === "legacy" ? [false] : row.modes ? [true, false] : [true]
      ) {
        const forms = [...(mayReg ? [FORM.REG] : []), ...(mayMem ? [FORM.EA] : [])] as number[];
        if (row.hot && mayMem) forms.push(FORM.BASE);
        if (row.hot === 2 && mayMem) forms.push(FORM.INDEX);
        for (const size of rowSizes(row, args, is64)) {
          for (const form of forms) {
            for (const flagsLive of row.flags ? [true, false] : [true]) {
              // A variant without flags is worth having only where the decoder can prove them dead.
              if (!flagsLive && !canBeDead(row)) continue;
              const isHot = (is64 || !row.modes) && isHotVariant(row, args, size, form, flagsLive);
              if (!isHot && (form === FORM.BASE || form === FORM.INDEX)) continue;
              const id = semantics.get(row.sem) ?? semantics.size;
              semantics.set(row.sem, id);
              const same = `${id},${form},${flagsLive},${is64},${kind},${shapes(args, size, form)}`;
              let variant = shared.get(same);
              if (!variant) {
                const name = `${row.name}.${size}${["r", "m", "mb", "mx"][form]}${
                  flagsLive || !row.flags ? "" : ".nf"
                }${is64 ? "" : ".legacy"}${row.locked ? ".lock" : ""}`;
                variant = { row, args, size, form, flagsLive, is64, hot: isHot, name };
                shared.set(same, variant);
                (isHot ? hot : cold).push(variant);
              }
              uses.push({ variant, rowIndex });
            }
          }
        }
      }
    });
    this.all = [...hot, ...cold];
    this.hotCount = hot.length;
    this.#index = new Int16Array(rows.length * 64).fill(-1);
    const numbers = new Map(this.all.map((v, i) => [v, this.reserved + i]));
    for (const { variant: v, rowIndex } of uses) {
      const row = rows[rowIndex]!, number = numbers.get(v)!;
      this.#index[key(rowIndex, v.size, v.form, v.flagsLive, v.is64)] = number;
      // A row without modes serves both kinds of mode.
      if (!row.modes && row.only !== "64") this.#index[key(rowIndex, v.size, v.form, v.flagsLive, false)] = number;
    }
  }

  /** The handler's number, or -1. */
  find(rowIndex: number, size: number, form: number, flagsLive: boolean, is64: boolean): number {
    return this.#index[key(rowIndex, size, form, flagsLive, is64)]!;
  }
}

function key(rowIndex: number, size: number, form: number, flagsLive: boolean, is64: boolean): number {
  return rowIndex * 64 + (is64 ? 32 : 0) + SIZE_INDEX[size]! * 8 + form * 2 + (flagsLive ? 1 : 0);
}

/** Whether the decoder may drop this row's flags. */
export function canBeDead(row: Row): boolean {
  return !!row.flags && !row.string && !row.ends && !!row.hot;
}

/** Of operands that `parseArgs` gave: the shapes of all of them at a size and in a form. */
function shapes(args: readonly Arg[], size: number, form: number): string {
  let known = SHAPES.get(args);
  if (!known) SHAPES.set(args, known = []);
  return known[SIZE_INDEX[size]! * 4 + form] ??= `${size}${args.map((a) => `,${shape(a, size, form)}`).join("")}`;
}
const SHAPES = new WeakMap<readonly Arg[], string[]>();

/** Operands that make the same code have the same shape. */
function shape(a: Arg, size: number, form: number): string {
  const bits = argBits(a, size);
  if (isMemoryLetter(a.letter) && (form !== FORM.REG || a.letter === "M" || a.letter === "O")) {
    return `m${bits}${a.size === "dq" ? "a" : ""}${a.size === "" ? "&" : ""}`;
  }
  if ("ERGZBA".includes(a.letter)) return `g${a.slot}.${bits}`;
  if ("VWUHL".includes(a.letter)) return `v${a.slot}.${bits}`;
  if ("PQN".includes(a.letter)) return `n${a.slot}.${bits}`;
  if (a.letter === "I" || a.letter === "1") return `i${bits}${a.size === "q" ? "q" : ""}`;
  return `${a.letter}${a.slot}`;
}

const R = 1 << FORM.REG, EA = 1 << FORM.EA, MB = 1 << FORM.BASE, MX = 1 << FORM.INDEX;
/** Which forms of a row marked `hot` stand in the loop, by operand size; chosen by how often kernels and user land run them. */
const HOT: Record<string, { readonly [size: number]: number }> = {
  MOV: { 8: R | EA | MB | MX, 16: MB, 32: R | EA | MB | MX, 64: R | EA | MB | MX },
  MOVZX: { 32: R | EA | MB | MX },
  MOVSX: { 32: R | MB },
  MOVSXD: { 64: R | MB },
  LEA: { 32: MB | MX, 64: EA | MB | MX },
  ADD: { 32: R | MB, 64: R | MB },
  SUB: { 32: R | MB, 64: R | MB },
  AND: { 8: R, 32: R | MB, 64: R | MB },
  OR: { 8: R, 32: R | MB, 64: R | MB },
  XOR: { 8: R, 32: R, 64: R | MB },
  CMP: { 8: R | MB, 32: R | MB, 64: R | MB },
  TEST: { 8: R | MB, 32: R | MB, 64: R },
  INC: { 32: R, 64: R },
  DEC: { 32: R, 64: R },
  NOT: { 32: R, 64: R },
  NEG: { 32: R, 64: R },
  SHL: { 32: R, 64: R },
  SHR: { 32: R, 64: R },
  SAR: { 32: R, 64: R },
  IMUL: { 32: R, 64: R },
  PUSH: { 64: R },
  POP: { 64: R },
  LEAVE: { 64: R },
  CBW: { 32: R, 64: R },
  CWD: { 32: R, 64: R },
  SETZ: { 8: R },
  SETNZ: { 8: R },
};
const HOT_CMOV = { 32: R, 64: R };

function isHotVariant(row: Row, args: readonly Arg[], size: number, form: number, flagsLive: boolean): boolean {
  if (!row.hot) return false;
  const forms = HOT[row.name] ??
    (row.name.startsWith("CMOV") && !/[OP]$/.test(row.name)
      ? HOT_CMOV
      : row.unit
      ? { 8: 15, 16: 15, 32: 15, 64: 15 }
      : undefined);
  if (!forms || !((forms[size as 32] ?? 0) & (1 << form))) return false;
  // Memory destinations with dead flags are rare enough for a call.
  if (form !== FORM.REG && row.flags && !flagsLive) return false;
  // Shifts by CL.
  if (args[1]?.letter === "CL") return false;
  return true;
}

/** Emits a variant's code: unit checks, operands, semantics. The caller goes on with the next operation. */
export function emitVariant(
  v: Variant,
  c: Code,
  f: CpuFuncs,
  host: Host,
  cpu: Value,
  op: Value,
  ea: Var,
  exits: Exits | null = null,
): void {
  const o = new Ops(c, f, host, cpu, op, ea, v.size, v.flagsLive || !v.row.flags, v.is64);
  o.locked = !!v.row.locked;
  if (v.row.cpl0) o.gpIf(o.ld32("cpl").bool());
  if (exits) emitExit(o, exits.bit(v.row));
  if (v.row.unit) emitUnitCheck(o, v.row);
  const memory = v.args.some((a) => isMemoryLetter(a.letter)) && v.form !== FORM.REG;
  if (memory && v.form !== FORM.EA) ea.set(baseAddress(o, v.form));
  v.row.sem(o, ...v.args.map((a) => operand(o, a, v.form)));
}

/** [base + disp] or [base + index × scale + disp] from the record. */
export function baseAddress(o: Ops, form: number): Value {
  const c = o.c;
  const base = o.registerOf("b");
  const disp = o.disp().sx();
  if (form === FORM.BASE) return base.add(disp);
  const x = o.field("x");
  const at = o.place("x", x.and(0xf8));
  const index = c.ld64(at.base, at.offset);
  return base.add(index.shl(x.and(3).zx())).add(disp);
}

function emitUnitCheck(o: Ops, row: Row): void {
  const bit = { sse: 1, x87: 2, mmx: 4, avx: 8 }[row.unit!];
  o.c.if(o.ld32("unitTraps").and(bit), () => {
    o.callF(o.deep("unitTrap"), o.cpu, bit);
  });
  if (row.unit !== "sse" && row.unit !== "avx" && !row.nowait) {
    // ES (bit 7 of the status word): an unmasked exception waits.
    o.c.if(o.c.ld16u(o.cpu, S.fsw).and(0x80), () => {
      o.callF(o.deep("x87Pending"), o.cpu);
    });
  }
}

const SLOT_FIELD = ["d", "s", "x"] as const;

function operand(o: Ops, a: Arg, form: number): Operand | Value {
  const bits = argBits(a, o.size);
  if (isMemoryLetter(a.letter) && (form !== FORM.REG || a.letter === "M" || a.letter === "O")) {
    if (a.letter === "M" && a.size === "") return o.ea.get();
    return new MemoryOperand(o, bits, a.size === "dq");
  }
  switch (a.letter) {
    case "E":
    case "R":
    case "G":
    case "Z":
    case "B":
    case "A":
      return new RegisterOperand(o, bits, ...place(o, a, 0));
    case "CL":
      return new RegisterOperand(o, 8, o.cpu, reg(1));
    case "V":
    case "W":
    case "U":
    case "H":
    case "L":
      return new VectorOperand(o, bits, ...place(o, a, S.xmm));
    case "P":
    case "Q":
    case "N":
      return new VectorOperand(o, bits, ...place(o, a, S.fpr));
    case "S":
    case "C":
    case "D":
    case "F":
      return o.field(SLOT_FIELD[a.slot]!);
    case "I":
    case "1":
      return new ImmediateOperand(o, bits, a.size === "q");
    case "J":
      return o.imm();
    default:
      throw new Bug(`No operand for ${a.letter}${a.size}`);
  }
}

function place(o: Ops, a: Arg, extra: number): [Value, number] {
  const { base, offset } = o.place(SLOT_FIELD[a.slot]!);
  return [base, offset + extra];
}

class RegisterOperand implements Operand {
  readonly isMemory = false;
  constructor(
    private readonly o: Ops,
    readonly bits: number,
    private readonly at: Value,
    private readonly offset: number,
  ) {}
  get(): Value {
    return this.o.loadAt(this.at, this.bits, this.offset);
  }
  set(value: Value): void {
    this.o.setRegAt(this.at, this.offset, this.bits, value);
  }
  update(change: (old: Value) => Value): void {
    this.set(change(this.get()));
  }
}

class VectorOperand implements Operand {
  readonly isMemory = false;
  constructor(
    private readonly o: Ops,
    readonly bits: number,
    private readonly at: Value,
    private readonly offset: number,
  ) {}
  get(): Value {
    return this.o.loadAt(this.at, this.bits, this.offset);
  }
  set(value: Value): void {
    this.o.storeAt(this.at, this.bits, value, this.offset);
  }
  update(change: (old: Value) => Value): void {
    this.set(change(this.get()));
  }
}

class MemoryOperand implements Operand {
  readonly isMemory = true;
  constructor(private readonly o: Ops, readonly bits: number, private readonly aligned: boolean) {}
  #check(): void {
    if (this.aligned) this.o.faultIf(this.o.ea.get().and(15).bool(), EXC.GP, 0);
  }
  get(): Value {
    this.#check();
    return this.o.read(this.o.ea.get(), this.bits);
  }
  set(value: Value): void {
    this.#check();
    this.o.write(this.o.ea.get(), this.bits, value);
  }
  update(change: (old: Value) => Value): void {
    this.#check();
    this.o.modify(this.o.ea.get(), this.bits, change);
  }
}

class ImmediateOperand implements Operand {
  readonly isMemory = false;
  constructor(private readonly o: Ops, readonly bits: number, private readonly wide: boolean) {}
  /** The decoder has cut the immediate to the operand size; 64-bit operands sign-extend it. */
  get(): Value {
    if (this.wide) return this.o.c.ld64(this.o.op, OP.imm);
    const v = this.o.imm();
    return this.bits === 64 ? v.sx() : v;
  }
  set(): void {
    throw new Bug("An immediate cannot be written");
  }
  update(): void {
    throw new Bug("An immediate cannot be written");
  }
}
