/**
 * The x87 register file and status as generated code sees them: [sdm1 chapter 8].
 *
 * A number is a pair of values: significand (i64) and sign-exponent (i32, 16 bits). While an instruction runs, the exceptions it
 * has met lie in a scratch word, C1 and SF among them; `finish` carries them to the status word. So an instruction that faults
 * on its memory operand has changed nothing.
 */
import { Bug } from "../../../base/errors.ts";
import type { Code } from "../../../wasm/code.ts";
import type { Func, Module } from "../../../wasm/module.ts";
import { i32, i64, type Operand as Num, type Type, type Value } from "../../../wasm/value.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import { CR0, EXC, MODE_64, OP, reg, S, VBASE } from "../state.ts";

/** Status word. TOP is kept apart, in S.ftop. */
export const FSW = {
  IE: 1 << 0,
  DE: 1 << 1,
  ZE: 1 << 2,
  OE: 1 << 3,
  UE: 1 << 4,
  PE: 1 << 5,
  SF: 1 << 6,
  ES: 1 << 7,
  C0: 1 << 8,
  C1: 1 << 9,
  C2: 1 << 10,
  C3: 1 << 14,
  B: 1 << 15,
} as const;
/** The six exceptions; those found before an operation computes anything. */
export const EXCEPTIONS = 0x3f, BEFORE = FSW.IE | FSW.DE | FSW.ZE;
/** Rounding control, as found in FCW bits 11..10. */
export const RC = { NEAREST: 0, DOWN: 1, UP: 2, ZERO: 3 } as const;

/** FCW bits that software can change; bit 6 reads as 1. */
export const FCW_WRITABLE = 0x1f3f, FCW_FIXED = 0x40, FCW_INIT = 0x37f;

export const ONE = 1n << 63n;
/** The quiet bit, and the default NaN ("real indefinite"). */
export const QUIET = 1n << 62n;
export const INDEFINITE = { sig: 3n << 62n, se: 0xffff } as const;

/** Scratch words: exceptions of this instruction; DE of an operand that memory held in a narrower format. */
const RAISED = S.scratch + 96, DENORMAL_SOURCE = S.scratch + 100;

export interface Float {
  readonly sig: Value;
  readonly se: Value;
}

/** Generated code over the x87 state: in deep functions and in plain ones. */
export class Fpu {
  constructor(readonly c: Code, readonly cpu: Value) {}

  // ---- control and status ------------------------------------------------------------------------------------------------

  fcw(): Value {
    return this.c.ld16u(this.cpu, S.fcw);
  }
  fsw(): Value {
    return this.c.ld16u(this.cpu, S.fsw);
  }
  setFsw(v: Num): void {
    this.c.st16(this.cpu, v, S.fsw);
  }
  top(): Value {
    return this.c.ld32(this.cpu, S.ftop);
  }
  setTop(v: Value): void {
    this.c.st32(this.cpu, v.and(7), S.ftop);
  }
  rc(): Value {
    return this.c.let(this.fcw().shrU(10).and(3));
  }
  /** Makes ES and B what exceptions and masks say. */
  settle(): void {
    const c = this.c, fsw = c.let(this.fsw().and(0x7f7f));
    const pending = fsw.and(this.fcw().not()).and(EXCEPTIONS).bool();
    this.setFsw(fsw.or(i32(0).sub(pending).and(FSW.ES | FSW.B)));
  }

  // ---- exceptions of this instruction ------------------------------------------------------------------------------------

  clear(): void {
    this.c.st32(this.cpu, 0, RAISED);
  }
  raise(bits: Num): void {
    this.c.st32(this.cpu, this.c.ld32(this.cpu, RAISED).or(bits), RAISED);
  }
  lower(bits: number): void {
    this.c.st32(this.cpu, this.c.ld32(this.cpu, RAISED).and(~bits), RAISED);
  }
  raised(): Value {
    return this.c.ld32(this.cpu, RAISED);
  }
  /** Those of `bits` that have been raised and are not masked. */
  unmasked(bits: number): Value {
    return this.c.let(this.raised().and(this.fcw().not()).and(bits));
  }
  /** Those of `bits` that FCW masks. */
  masked(bits: number): Value {
    return this.fcw().and(bits);
  }
  denormalSource(): Value {
    return this.c.ld32(this.cpu, DENORMAL_SOURCE);
  }
  setDenormalSource(v: Num): void {
    this.c.st32(this.cpu, v, DENORMAL_SOURCE);
  }
  /** For an instruction that leaves C1 as it is. */
  keepC1(): void {
    this.raise(this.fsw().and(FSW.C1));
  }
  /** Sets C3, C2 and C0; C1 goes with the exceptions. */
  setConditions(bits: Num): void {
    this.setFsw(this.fsw().and(~(FSW.C3 | FSW.C2 | FSW.C0)).or(bits));
  }

  // ---- registers ---------------------------------------------------------------------------------------------------------

  /** Physical number of ST(i). */
  physical(i: Num): Value {
    return this.c.let(this.top().add(i).and(7));
  }
  #at(physical: Value): Value {
    return this.c.let(this.cpu.add(physical.shl(4)));
  }
  empty(i: Num): Value {
    return this.c.ld8u(this.cpu.add(this.physical(i)), S.fempty);
  }
  get(i: Num): Float {
    const at = this.#at(this.physical(i));
    return { sig: this.c.ld64(at, S.fpr), se: this.c.ld16u(at, S.fpr + 8) };
  }
  /** Writes ST(i), which is then not empty. */
  set(i: Num, x: Float): void {
    const p = this.physical(i), at = this.#at(p);
    this.c.st64(at, x.sig, S.fpr);
    this.c.st16(at, x.se, S.fpr + 8);
    this.c.st8(this.cpu.add(p), 0, S.fempty);
  }
  pop(): void {
    const top = this.top();
    this.c.st8(this.cpu.add(top), 1, S.fempty);
    this.setTop(top.add(1));
  }
  push(x: Float): void {
    this.setTop(this.top().sub(1));
    this.set(0, x);
  }

  // ---- numbers -----------------------------------------------------------------------------------------------------------

  constant(sig: bigint, se: number): Float {
    return { sig: i64(sig), se: i32(se) };
  }
  indefinite(): Float {
    return this.constant(INDEFINITE.sig, INDEFINITE.se);
  }
  let(x: Float): Float {
    return { sig: this.c.let(x.sig), se: this.c.let(x.se) };
  }
}

export const exponent = (x: Float): Value => x.se.and(0x7fff);
export const isNegative = (x: Float): Value => x.se.shrU(15);
/** Exponent not 0, integer bit clear: a pseudo-NaN, pseudo-infinity or unnormal. */
export const isUnsupported = (x: Float): Value => exponent(x).bool().and(x.sig.shrU(63).lo().eqz());
export const isSpecial = (x: Float): Value => exponent(x).eq(0x7fff);
/** For a supported number with the greatest exponent. */
export const isNan = (x: Float): Value => isSpecial(x).and(x.sig.shl(1).bool());
export const isInfinity = (x: Float): Value => isSpecial(x).and(x.sig.eq(1n << 63n));
export const isSignaling = (x: Float): Value => isNan(x).and(x.sig.and(QUIET).eqz());
export const isZero = (x: Float): Value => exponent(x).or(x.sig.bool()).eqz();
/** Denormal or pseudo-denormal. */
export const isDenormal = (x: Float): Value => exponent(x).eqz().and(x.sig.bool());

/** Opens an instruction's deep function: Ops and Fpu together. */
export function fpuOp(
  m: Module,
  f: CpuFuncs,
  name: string,
  params: readonly ("i32" | "i64")[],
  build: (o: Ops, x: Fpu, ...params: Value[]) => void,
): Func {
  return deepFunc(m, f, `x87.${name}`, params, [], (o, ...p) => build(o, new Fpu(o.c, o.cpu), ...p));
}

/** Defines a plain function x87.<name>(cpu, …), which cannot fault. */
export function fpuFunc(
  m: Module,
  f: CpuFuncs,
  name: string,
  params: readonly Type[],
  results: readonly Type[],
  build: (x: Fpu, ...params: Value[]) => void,
): void {
  const func = m.func(`x87.${name}`, ["i32", ...params], results, (c) => {
    build(new Fpu(c, c.param(0)), ...params.map((_, i) => c.param(i + 1)));
  });
  f.more.set(func.name, func);
}

/** Calls it. */
export function callX(x: { c: Code; cpu: Value }, f: CpuFuncs, name: string, ...args: Num[]): Value[] {
  const func = f.more.get(`x87.${name}`);
  if (!func) throw new Bug(`No function x87.${name}`);
  return x.c.call(func, x.cpu, ...args);
}
/** The same for one that gives a number. */
export function callFloat(x: { c: Code; cpu: Value }, f: CpuFuncs, name: string, ...args: Num[]): Float {
  const [sig, se] = callX(x, f, name, ...args);
  return { sig: sig!, se: se! };
}

export function defineFpu(m: Module, f: CpuFuncs): void {
  // Before an instruction that waits, when ES is set. With NE clear the exception is signalled outside, by FERR#, and no
  // interrupt controller is attached to it: the instruction goes on.
  deepFunc(m, f, "x87Pending", [], [], (o) => {
    o.c.if(o.ld32("cr0").and(CR0.NE), () => o.fault(EXC.MF));
  });

  // Where the last opcode byte D8..DF of this instruction lies: 11 bits of it and of ModRM for FOP. Reading may fault.
  const opcode = deepFunc(m, f, "x87.opcode", [], ["i32"], (o) => {
    const c = o.c;
    const ip = c.ld16u(o.ld32("curOp"), OP.ip);
    const start = c.let(c.ld64(o.cpu, reg(VBASE)).add(ip.and(0xfff).zx()));
    const length = c.let(ip.shrU(12));
    const at = c.call1(f.readAddr, o.cpu, start, length);
    c.if(at.eqz(), () => o.leave(STATUS.FAULT));
    const n = c.variable("i32", 0);
    c.loop((again) => {
      const byte = c.ld8u(at.add(n.get()));
      c.if(byte.and(0xf8).eq(0xd8), () => {
        c.return(0, byte.and(7).shl(8).or(c.ld8u(at.add(n.get()), 1)));
      });
      n.set(n.get().add(1));
      c.brIf(again, n.get().add(1).ltU(length));
    });
    c.return(0, 0);
  });

  // Ends a non-control instruction: exceptions and C1 into the status word, FIP and FCS; FOP if an exception is unmasked.
  deepFunc(m, f, "x87.finish", [], [], (o) => {
    const c = o.c, x = new Fpu(c, o.cpu);
    const raised = x.raised();
    const unmasked = x.unmasked(EXCEPTIONS);
    c.if(unmasked, () => {
      const [fop] = o.callF(opcode, o.cpu);
      c.st16(o.cpu, fop!, S.fop);
    });
    const pending = i32(0).sub(unmasked.bool()).and(FSW.ES | FSW.B);
    x.setFsw(x.fsw().and(~FSW.C1).or(raised).or(pending));
    const ip = c.ld16u(o.ld32("curOp"), OP.ip).and(0xfff);
    const linear = c.let(c.ld64(o.cpu, reg(VBASE)).add(ip.zx()));
    c.if(
      o.ld32("mode").and(3).eq(MODE_64),
      () => o.st64("fip", linear),
      () => o.st64("fip", linear.sub(o.ld64("segBase", 1)).and(0xffff_ffff)),
    );
    c.st16(o.cpu, o.ld32("segSelector", 1), S.fcs);
  });
}

/** Ends an instruction. May fault, so registers change after it. */
export function finish(o: Ops): void {
  o.callF(o.deep("x87.finish"), o.cpu);
}

/** Ends an instruction, then does `then` unless an unmasked IE, DE or ZE forbids any result. */
export function finishThen(o: Ops, x: Fpu, then: () => void): void {
  finish(o);
  o.c.if(x.unmasked(BEFORE).eqz(), then);
}

/** Raises a stack fault: C1 tells overflow from underflow. */
export function stackFault(x: Fpu, overflow: boolean): void {
  x.raise(FSW.IE | FSW.SF | (overflow ? FSW.C1 : 0));
}

/** Records the memory operand of an instruction that has ended. Its linear address: FDS counts as 0. */
export function setOperandPointer(o: Ops): void {
  o.st64("fdp", o.ea.get());
  o.c.st16(o.cpu, 0, S.fds);
}
