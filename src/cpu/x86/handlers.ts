/**
 * Handlers: a row instantiated for an operand size, a form and a mode.
 *
 * Variants are numbered from 0; the first `hotCount` numbers are places in the interpreter's loop, the others entries of the
 * module's table. `Variants` finds the number from what the decoder knows.
 */
import { Bug } from "../../base/errors.ts";
import type { Code, Var } from "../../wasm/code.ts";
import { i32, type Value } from "../../wasm/value.ts";
import { type Arg, argBits, isMemoryLetter, parseArgs, rowSizes } from "./arg.ts";
import type { Operand } from "./operand.ts";
import { type CpuFuncs, type Host, Ops } from "./ops.ts";
import type { Row } from "./row.ts";
import { EXC, OP, reg, S } from "./state.ts";

/** How an operand that may be memory is reached. */
export const FORM = { REG: 0, EA: 1, BASE: 2, INDEX: 3 } as const;
const SIZE_INDEX: Record<number, number> = { 8: 0, 16: 1, 32: 2, 64: 3 };

export interface Variant {
  readonly row: Row;
  readonly rowIndex: number;
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
    rows.forEach((row, rowIndex) => {
      const args = this.args[rowIndex]!;
      const mayMem = args.some((a) => isMemoryLetter(a.letter));
      const mayReg = !args.some((a) => a.letter === "M" || a.letter === "O");
      for (const is64 of row.only === "64" ? [true] : row.only === "legacy" ? [false] : row.modes ? [true, false] : [true]) {
        const forms = [...(mayReg ? [FORM.REG] : []), ...(mayMem ? [FORM.EA] : [])] as number[];
        if (row.hot && mayMem) forms.push(FORM.BASE);
        if (row.hot === 2 && mayMem) forms.push(FORM.INDEX);
        for (const size of rowSizes(row, args, is64)) {
          for (const form of forms) {
            for (const flagsLive of row.flags ? [true, false] : [true]) {
              // A variant without flags is worth having only where the decoder can prove them dead.
              if (!flagsLive && !canBeDead(row)) continue;
              const isHot = !!row.hot && (is64 || !row.modes) && !(size === 16 && form !== FORM.REG && form !== FORM.EA) && !coldSize(row, size, form);
              if (!isHot && (form === FORM.BASE || form === FORM.INDEX)) continue;
              const name = `${row.name}.${size}${["r", "m", "mb", "mx"][form]}${flagsLive || !row.flags ? "" : ".nf"}${is64 ? "" : ".legacy"}`;
              (isHot ? hot : cold).push({ row, rowIndex, args, size, form, flagsLive, is64, hot: isHot, name });
            }
          }
        }
      }
    });
    this.all = [...hot, ...cold];
    this.hotCount = hot.length;
    this.#index = new Int16Array(rows.length * 64).fill(-1);
    this.all.forEach((v, i) => {
      this.#index[key(v.rowIndex, v.size, v.form, v.flagsLive, v.is64)] = this.reserved + i;
      // A row without modes serves both kinds of mode.
      if (!v.row.modes && v.row.only !== "64") this.#index[key(v.rowIndex, v.size, v.form, v.flagsLive, false)] = this.reserved + i;
    });
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

/** 16-bit forms of hot rows stay out of the loop: they are rare in the code that is hot. */
function coldSize(row: Row, size: number, form: number): boolean {
  if (size === 16) return !(row.name === "MOV" && form !== FORM.INDEX);
  if (size === 8 && form === FORM.INDEX) return !row.name.startsWith("MOV");
  return false;
}

/** Emits a variant's code: unit checks, operands, semantics. The caller goes on with the next operation. */
export function emitVariant(v: Variant, c: Code, f: CpuFuncs, host: Host, cpu: Value, op: Value, ea: Var): void {
  const o = new Ops(c, f, host, cpu, op, ea, v.size, v.flagsLive || !v.row.flags, v.is64);
  if (v.row.cpl0) o.gpIf(o.ld32("cpl").bool());
  if (v.row.unit) emitUnitCheck(o, v.row);
  const memory = v.args.some((a) => isMemoryLetter(a.letter)) && v.form !== FORM.REG;
  if (memory && v.form !== FORM.EA) ea.set(baseAddress(o, v.form));
  v.row.sem(o, ...v.args.map((a) => operand(o, a, v.form)));
}

/** [base + disp] or [base + index × scale + disp] from the record. */
export function baseAddress(o: Ops, form: number): Value {
  const c = o.c;
  const base = c.ld64(o.cpu.add(o.field("b")));
  const disp = o.disp().sx();
  if (form === FORM.BASE) return base.add(disp);
  const x = o.field("x");
  const index = c.ld64(o.cpu.add(x.and(0xf8)));
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
      return new RegisterOperand(o, bits, o.let(o.cpu.add(o.field(SLOT_FIELD[a.slot]!))), 0);
    case "A":
      return new RegisterOperand(o, bits, o.cpu, reg(0));
    case "CL":
      return new RegisterOperand(o, 8, o.cpu, reg(1));
    case "V":
    case "W":
    case "U":
    case "H":
    case "L":
      return new VectorOperand(o, bits, o.let(o.cpu.add(o.field(SLOT_FIELD[a.slot]!))), S.xmm);
    case "P":
    case "Q":
    case "N":
      return new VectorOperand(o, bits, o.let(o.cpu.add(o.field(SLOT_FIELD[a.slot]!))), S.fpr);
    case "S":
    case "C":
    case "D":
    case "F":
      return o.field(SLOT_FIELD[a.slot]!);
    case "I":
      return new ImmediateOperand(o, bits, a.size === "q");
    case "1":
      return new ConstantOperand(8, i32(1));
    case "J":
      return o.imm();
    default:
      throw new Bug(`No operand for ${a.letter}${a.size}`);
  }
}

class RegisterOperand implements Operand {
  readonly isMemory = false;
  constructor(private readonly o: Ops, readonly bits: number, private readonly at: Value, private readonly offset: number) {}
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
  constructor(private readonly o: Ops, readonly bits: number, private readonly at: Value, private readonly offset: number) {}
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
    const at = this.o.writeAt(this.o.ea.get(), this.bits >> 3);
    this.o.storeAt(at, this.bits, change(this.o.loadAt(at, this.bits)));
    this.o.commit(at);
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

class ConstantOperand implements Operand {
  readonly isMemory = false;
  constructor(readonly bits: number, private readonly value: Value) {}
  get(): Value {
    return this.value;
  }
  set(): void {
    throw new Bug("A constant cannot be written");
  }
  update(): void {
    throw new Bug("A constant cannot be written");
  }
}
