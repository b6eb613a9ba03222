/**
 * Ops: what the semantics of an instruction are written against.
 *
 * One `Ops` stands for one instantiation of one row: an operand size, register or memory form, flags wanted or not. The code it
 * builds runs in one of three hosts, which differ only in where the record's fields come from and what leaving means: inside
 * the interpreter's loop, as a function of its own, or (deep functions) as a helper that semantics call.
 *
 * Faults are precise: a semantics changes registers and flags only after the last thing that may fault. Whatever may fault
 * (memory, `faultIf`, `callF`) leaves by itself with the architectural state untouched.
 */
import { Bug } from "../../base/errors.ts";
import type { Code } from "../../wasm/code.ts";
import type { Func, Module } from "../../wasm/module.ts";
import {
  i32,
  i64,
  lift,
  type Operand as Num,
  select,
  type Type,
  v128,
  type Value,
  type Value as V,
} from "../../wasm/value.ts";
import type { Var } from "../../wasm/code.ts";
import { condition, type FlagFuncs, KIND } from "./flags.ts";
import { lateBits, type LateName } from "./late_flags.ts";
import { lockedUpdate } from "./locked.ts";
import {
  AF,
  BOUNCE,
  CF,
  DTLB_ENTRIES,
  EXC,
  OF,
  OP,
  reg,
  S,
  STATUSES,
  TLB_ADDEND,
  TLB_TAG_R,
  TLB_TAG_W,
  VBASE,
  ZF,
} from "./state.ts";

/** What an operation that does not simply continue returns. */
export const STATUS = {
  /** Go on with the next operation. */
  NEXT: 0,
  /** An exception is described in excVector/excError (and cr2); rip is that of the instruction. */
  FAULT: 1,
  /** rip holds the target; look it up. */
  JUMP: 2,
  /** From here on: return to TypeScript, rip already right. */
  SLICE: 3,
  TRANSLATE: 4,
  HALT: 5,
  SHUTDOWN: 6,
  /** Decoded code was thrown away, or the mode changed in a way only TypeScript handles: go round. */
  RESYNC: 7,
  /** An instruction that a hypervisor takes note of is about to run (exits.ts); rip is its own. */
  EXIT: 8,
  /** S.resumeOp holds the record to go on at; rip holds nothing. */
  RESUME: STATUSES - 2,
  /** rip holds the next instruction: look it up, but nobody has jumped. */
  FALL: STATUSES - 1,
} as const;

/** The record's field of the first, second and third operand. */
const SLOT_FIELD = ["d", "s", "x"] as const;

/** Added to the byte count of `writeAddr`: the old bytes are not wanted, so device memory is not read first. */
export const WRITE_ONLY = 1 << 16;

/** Functions of the module that any semantics may call. Addresses are linear; `cpu` is the vCPU's base. */
export interface CpuFuncs {
  readonly flags: FlagFuncs;
  /**
   * (cpu, address, bytes) → offset in memory where the bytes can be read, in RAM or in the bounce buffer; 0: a fault is
   * pending. Fills the TLB.
   */
  readonly readAddr: Func;
  /** The same for writing (or reading and then writing): if the offset is the bounce buffer's, `commit` must follow. */
  readonly writeAddr: Func;
  /** (cpu): carries the bounce buffer's bytes to where they belong. */
  readonly commit: Func;
  /** Everything else, by name: filled in by the families as they define deep functions. */
  readonly more: Map<string, Func>;
}

export interface Host {
  /** Ends the operation with a status that is not NEXT. */
  leave(status: Value): void;
  /** Runs before a call that may fault or look at time: writes curOp and budget where they are still in locals. */
  beforeSlow(): void;
}

export class Ops {
  /** Whether fast paths are worth their size: in compiled code, which is hot. */
  readonly expands: boolean = false;
  /** The instruction is atomic among several vCPUs (Row.locked). */
  locked = false;

  constructor(
    readonly c: Code,
    readonly f: CpuFuncs,
    readonly host: Host,
    /** The vCPU's base. */
    readonly cpu: Value,
    /** The operation record. */
    readonly op: Value,
    /** The effective (linear) address, if the row has a memory operand that was computed by an operation before. */
    readonly ea: Var,
    /** Operand size in bits: 8, 16, 32 or 64. */
    readonly size: number,
    /** Whether anybody will look at the flags this instruction leaves. */
    public flagsLive: boolean,
    /** 64-bit mode (else any other). Only for rows with `modes`. */
    readonly is64: boolean,
  ) {}

  let(v: Value): Value {
    return this.c.let(v);
  }

  // ---- state -------------------------------------------------------------------------------------------------------------

  /** A 32-bit (16-, 8-bit) field of the state. */
  ld32(field: keyof typeof S, index = 0): Value {
    return this.c.ld32(this.cpu, S[field] + index * 4);
  }
  ld64(field: keyof typeof S, index = 0): Value {
    return this.c.ld64(this.cpu, S[field] + index * 8);
  }
  st32(field: keyof typeof S, value: Num, index = 0): void {
    this.c.st32(this.cpu, value, S[field] + index * 4);
  }
  st64(field: keyof typeof S, value: Num, index = 0): void {
    this.c.st64(this.cpu, value, S[field] + index * 8);
  }

  /** General register `n` as 64 bits. */
  gpr(n: number): Value {
    return this.c.ld64(this.cpu, reg(n));
  }
  setGpr(n: number, value: Num): void {
    this.c.st64(this.cpu, value, reg(n));
  }
  /** General register `n` at width `bits`: i32 (zero-extended) or i64. */
  gprAt(n: number, bits: number): Value {
    switch (bits) {
      case 8:
        return this.c.ld8u(this.cpu, reg(n));
      case 16:
        return this.c.ld16u(this.cpu, reg(n));
      case 32:
        return this.c.ld32(this.cpu, reg(n));
      default:
        return this.c.ld64(this.cpu, reg(n));
    }
  }
  /** Writes general register `n` at width `bits`, with the rules of 64-bit mode (32 bits clear the upper half). */
  setGprAt(n: number, bits: number, value: Value): void {
    this.setRegAt(this.cpu, reg(n), bits, value);
  }
  /** The same for the register at `base + offset`. */
  setRegAt(base: Value, offset: number, bits: number, value: Value): void {
    if (bits === 8) this.c.st8(base, value.lo(), offset);
    else if (bits === 16) this.c.st16(base, value.lo(), offset);
    else if (bits === 32) this.c.st64(base, value.lo().zx(), offset);
    else this.c.st64(base, value, offset);
  }

  // ---- the record --------------------------------------------------------------------------------------------------------

  /** A byte field of the record: d, s, b or x. */
  field(name: "d" | "s" | "b" | "x"): Value {
    return this.c.ld8u(this.op, OP[name]);
  }
  /**
   * The place of what a byte field names, as base and constant offset: where the vCPU's base is a constant, it goes into the
   * instruction's offset and costs nothing.
   */
  place(name: "d" | "s" | "b" | "x", value = this.field(name)): { base: Value; offset: number } {
    const cpu = this.cpu;
    if (cpu.isConst) return { base: this.let(value), offset: cpu.imm as number };
    return { base: this.let(cpu.add(value)), offset: 0 };
  }
  /** The 64-bit register that a byte field names. */
  registerOf(name: "d" | "s" | "b" | "x"): Value {
    const { base, offset } = this.place(name);
    return this.c.ld64(base, offset);
  }
  /** The vector register that operand `slot` of the row names: its low 128 bits and, with `both`, its high ones. */
  vector(slot: 0 | 1 | 2, both: boolean): readonly Value[] {
    const { base, offset } = this.place(SLOT_FIELD[slot]);
    const low = this.c.ldV(base, offset + S.xmm);
    return both ? [low, this.c.ldV(base, offset + S.ymmHigh)] : [low];
  }
  /** Writes both halves. The values are leaves. */
  setVector(slot: 0 | 1 | 2, low: Value, high: Value): void {
    const { base, offset } = this.place(SLOT_FIELD[slot]);
    this.c.stV(base, low, offset + S.xmm);
    this.c.stV(base, high, offset + S.ymmHigh);
  }
  /** The immediate, 32 bits, and the displacement field. */
  imm(): Value {
    return this.c.ld32(this.op, OP.imm);
  }
  disp(): Value {
    return this.c.ld32(this.op, OP.disp);
  }

  /** Linear address of this instruction. */
  thisLinear(): Value {
    return this.let(this.c.ld64(this.cpu, reg(VBASE)).add(this.c.ld16u(this.op, OP.ip).and(0xfff).zx()));
  }
  /** Linear address of the next instruction. */
  nextLinear(): Value {
    const ip = this.c.ld16u(this.op, OP.ip);
    return this.let(this.c.ld64(this.cpu, reg(VBASE)).add(ip.and(0xfff).add(ip.shrU(12)).zx()));
  }
  /** RIP of the next instruction (in legacy modes the offset in CS). */
  nextRip(): Value {
    if (this.is64) return this.nextLinear();
    return this.let(this.nextLinear().sub(this.c.ld64(this.cpu, S.segBase + 8)).and(0xffff_ffff));
  }

  // ---- leaving -----------------------------------------------------------------------------------------------------------

  leave(status: Num): void {
    this.host.leave(lift(status, "i32"));
  }

  /** Raises exception `vector` with an error code, or -1 for none. */
  fault(vector: number, error: Num = -1): void {
    this.st32("excError", error);
    this.st32("excVector", vector);
    this.host.beforeSlow();
    this.leave(STATUS.FAULT);
  }
  faultIf(condition: Value, vector: number, error: Num = -1): void {
    this.c.rarely(condition, () => this.fault(vector, error));
  }
  /** #GP(0). */
  gpIf(condition: Value): void {
    this.faultIf(condition, EXC.GP, 0);
  }

  /** Calls a deep function: its first result is a status, and anything but NEXT leaves with it. Gives the other results. */
  callF(func: Func, ...args: Num[]): Value[] {
    this.host.beforeSlow();
    const [status, ...values] = this.c.call(func, ...args);
    if (!status) throw new Bug(`${func.name} has no status`);
    this.c.rarely(status, () => this.leave(status));
    return values;
  }
  /** The deep function `name`: see CpuFuncs.more. */
  deep(name: string): Func {
    const f = this.f.more.get(name);
    if (!f) throw new Bug(`No deep function ${name}`);
    return f;
  }

  /** Ends with a jump to `rip`. */
  jump(rip: Value): void {
    this.st64("rip", rip);
    this.leave(STATUS.JUMP);
  }

  // ---- memory ------------------------------------------------------------------------------------------------------------

  /** The TLB's answer: whether it hits, and the offset in memory if it does. `address` is a leaf. */
  protected lookup(address: Value, bytes: number, tag: number): { hit: Value; at: Value } {
    const c = this.c;
    const low = c.let(address.lo());
    const entry = c.let(c.ld32(this.cpu, S.dtlb).add(low.shrU(7).and((DTLB_ENTRIES - 1) << 5)));
    const page = (bytes === 1 ? address : address.add(bytes - 1)).and(-4096);
    return { hit: page.eq(c.ld64(entry, tag)), at: low.add(c.ld32(entry, TLB_ADDEND)) };
  }

  /** The offset in memory of `bytes` readable bytes at a linear address (an i64). */
  readAt(address: Value, bytes: number): Value {
    const c = this.c, a = c.let(address), at = c.variable("i32");
    const t = this.lookup(a, bytes, TLB_TAG_R);
    c.mostly(t.hit, () => at.set(t.at), () => {
      this.host.beforeSlow();
      at.set(c.call1(this.f.readAddr, this.cpu, a, bytes));
      c.rarely(at.get().eqz(), () => this.leave(STATUS.FAULT));
    });
    return at.get();
  }

  /** The same for writing; `commit(at)` must follow the stores. With `reads`, the old bytes can be read at the offset. */
  writeAt(address: Value, bytes: number, reads = true): Value {
    const c = this.c, a = c.let(address), at = c.variable("i32");
    const t = this.lookup(a, bytes, TLB_TAG_W);
    c.mostly(t.hit, () => at.set(t.at), () => {
      this.host.beforeSlow();
      at.set(c.call1(this.f.writeAddr, this.cpu, a, reads ? bytes : bytes | WRITE_ONLY));
      c.rarely(at.get().eqz(), () => this.leave(STATUS.FAULT));
    });
    return at.get();
  }
  commit(at: Value): void {
    this.c.rarely(at.eq(this.cpu.add(BOUNCE)), () => {
      this.c.call(this.f.commit, this.cpu);
    });
  }

  /** Loads `bits` at an offset in memory: i32 up to 32 bits, i64, or v128. */
  loadAt(at: Value, bits: number, offset = 0): Value {
    switch (bits) {
      case 8:
        return this.c.ld8u(at, offset);
      case 16:
        return this.c.ld16u(at, offset);
      case 32:
        return this.c.ld32(at, offset);
      case 64:
        return this.c.ld64(at, offset);
      case 128:
        return this.c.ldV(at, offset);
      default:
        throw new Bug(`No load of ${bits} bits`);
    }
  }
  storeAt(at: Value, bits: number, value: Value, offset = 0): void {
    if (bits === 8) this.c.st8(at, value.lo(), offset);
    else if (bits === 16) this.c.st16(at, value.lo(), offset);
    else if (bits === 32) this.c.st32(at, value.lo(), offset);
    else if (bits === 64) this.c.st64(at, value, offset);
    else this.c.stV(at, value, offset);
  }

  /** Reads `bits` at a linear address with the rights of the current privilege level. */
  read(address: Value, bits: number): Value {
    return this.loadAt(this.readAt(address, bits >> 3), bits);
  }
  write(address: Value, bits: number, value: Value): void {
    const v = this.c.let(value);
    const at = this.writeAt(address, bits >> 3, false);
    this.storeAt(at, bits, v);
    this.commit(at);
  }

  /** Reads, computes and writes `bits` at a linear address: in one step if the instruction is locked. */
  modify(address: Value, bits: number, change: (old: Value) => Value): void {
    if (this.locked) return lockedUpdate(this, address, bits as 8 | 16 | 32 | 64, change);
    const at = this.writeAt(address, bits >> 3);
    this.storeAt(at, bits, change(this.loadAt(at, bits)));
    this.commit(at);
  }

  // ---- flags -------------------------------------------------------------------------------------------------------------

  /** Sign-extends a value of the operand size (or `bits`) to 64 bits. */
  sext(v: Value, bits = this.size): Value {
    if (v.type === "i64") return bits === 32 ? v.ext32() : bits === 16 ? v.ext16() : bits === 8 ? v.ext8() : v;
    return bits === 8 ? v.ext8().sx() : bits === 16 ? v.ext16().sx() : v.sx();
  }
  /** Zero-extends an i32 of the operand size (its upper bits may hold anything); i64 stays. */
  zext(v: Value, bits = this.size): Value {
    return v.type === "i64" || bits === 32 ? v : v.and(bits === 8 ? 0xff : 0xffff);
  }
  /** The sign bit of a value of the operand size: i32, 0 or 1. */
  signBit(v: Value, bits = this.size): Value {
    return bits === 64 ? v.shrU(63).lo() : v.lo().shrU(bits - 1).and(1);
  }

  protected kind(kind: number, r: Value, a?: Value, b?: Value, bits = this.size): void {
    const c = this.c;
    c.st64(this.cpu, this.sext(r, bits), S.fRes);
    if (a) c.st64(this.cpu, this.sext(a, bits), S.fA);
    if (b) c.st64(this.cpu, this.sext(b, bits), S.fB);
    c.st32(this.cpu, kind, S.fKind);
  }
  /** Flags of r = a + b, of r = a - b, of a logical result. */
  flagsAdd(a: Value, b: Value, r: Value): void {
    if (this.flagsLive) this.kind(KIND.ADD, r, a, b);
  }
  flagsSub(a: Value, b: Value, r: Value): void {
    if (this.flagsLive) this.kind(KIND.SUB, r, a, b);
  }
  flagsLogic(r: Value, bits = this.size): void {
    if (this.flagsLive) this.kind(KIND.LOGIC, r, undefined, undefined, bits);
  }
  /** ZF, SF, PF from the result; CF, OF, AF as given (an i32 with those bits at their RFLAGS places). */
  flagsResult(r: Value, cfOfAf: () => Value, bits = this.size): void {
    if (!this.flagsLive) return;
    const extra = this.c.let(cfOfAf());
    this.flagsOfResult(r, extra, bits);
  }
  /** The same by a formula of LATE, over the operand size: see there what `a`, `b` (i64) and `extra` (i32) are. */
  flagsLate(name: LateName, r: Value, a: Num = 0, b: Num = 0, extra: Num = 0): void {
    if (!this.flagsLive) return;
    const c = this.c, size = this.size;
    const x = {
      result: c.let(this.sext(r)),
      a: c.let(lift(a, "i64")),
      b: c.let(lift(b, "i64")),
      extra: c.let(lift(extra, "i32")),
    };
    const bits = c.let(lateBits({ name, size }, x, { c, mulHighS: this.deep("mulHighS") }));
    this.flagsOfResult(x.result, bits, 64);
  }
  /** CF and OF of a rotation to `r` by a count that is not 0; the other flags stay. */
  flagsRotated(name: "ROL" | "ROR", r: Value): void {
    if (!this.flagsLive) return;
    const c = this.c, size = this.size;
    const x = { result: i64(0), a: c.let(r.zx()), b: i64(0), extra: i32(0) };
    this.replaceFlags(CF | OF, c.let(lateBits({ name, size }, x, { c, mulHighS: this.deep("mulHighS") })));
  }
  protected flagsOfResult(r: Value, extra: Value, bits: number): void {
    this.kind(KIND.RES, r, undefined, undefined, bits);
    this.c.st64(this.cpu, extra.zx(), S.fB);
  }
  /** All six flags from an i32 with the bits at their RFLAGS places (other bits are ignored). */
  setFlags(bits: Value): void {
    const v = this.c.let(bits);
    this.c.st64(this.cpu, v.zx(), S.fB);
    this.c.st64(this.cpu, select(v.and(ZF), i64(0), i64(1)), S.fRes);
    this.c.st32(this.cpu, KIND.EXPLICIT, S.fKind);
  }
  /** Gives the flags of `mask` (CF or OF or both) from an i32 with these bits; the others stay. */
  replaceFlags(mask: number, bits: Value): void {
    const keep = this.c.let(this.getFlags().and(~mask));
    this.setFlags(keep.or(bits));
  }
  /** All six flags at their RFLAGS places: i32. */
  getFlags(): Value {
    return this.c.call1(this.f.flags.all, this.cpu);
  }
  /** CF as 0 or 1: i32. */
  cf(): Value {
    return this.c.call1(this.f.flags.cf, this.cpu);
  }
  /** Condition `cc` of Jcc/SETcc/CMOVcc: i32, 0 or not. */
  cond(cc: number): Value {
    return this.c.let(condition(this.c, this.f.flags, this.cpu, cc));
  }
  /** CF and OF at their places from two 0-or-1 i32 values. */
  cfOf(cf: Value, of: Value): Value {
    return cf.or(of.shl(Math.log2(OF)));
  }
  static readonly CF = CF;
  static readonly OF = OF;
  static readonly AF = AF;

  /** RFLAGS as PUSHF sees them, without RF and VM: i32. */
  rflags(): Value {
    return this.c.let(this.getFlags().or(this.ld32("eflags")));
  }
}

/**
 * Defines a deep function: `build` gets an Ops whose leaving returns the status, and the parameters after the first, which is
 * the vCPU's base. The function's results are the status and `results`.
 */
export function deepFunc(
  m: Module,
  f: CpuFuncs,
  name: string,
  params: readonly Type[],
  results: readonly Type[],
  build: (o: Ops, ...params: Value[]) => void,
): Func {
  const func = declareDeep(m, f, name, params, results);
  defineDeep(m, f, func, build);
  return func;
}

/** Declares a deep function whose body `defineDeep` gives later: for functions that call each other. */
export function declareDeep(
  m: Module,
  f: CpuFuncs,
  name: string,
  params: readonly Type[],
  results: readonly Type[],
): Func {
  const func = m.declare(name, ["i32", ...params], ["i32", ...results]);
  f.more.set(name, func);
  return func;
}

export function defineDeep(m: Module, f: CpuFuncs, func: Func, build: (o: Ops, ...params: Value[]) => void): void {
  m.define(func, (c) => {
    const zeros = func.results.slice(1).map((t) => t === "v128" ? v128(new Uint8Array(16)) : lift(0, t));
    const host: Host = { leave: (status) => c.return(status, ...zeros), beforeSlow: () => {} };
    const o = new Ops(c, f, host, c.param(0), i32(0), c.variable("i64"), 64, true, true);
    build(o, ...func.params.slice(1).map((_, i) => c.param(i + 1)));
    if (func.results.length === 1) c.return(STATUS.NEXT);
  });
}

export type { V };
