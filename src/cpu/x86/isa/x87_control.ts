/** x87 control: FNINIT, FNCLEX, control and status words, environment and state in memory, FWAIT, stack top: [sdm2], [sdm1 8.1.10]. */
import type { Module } from "../../../wasm/module.ts";
import { i32, select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import { type CpuFuncs, deepFunc, type Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { CR0, EXC, S } from "../state.ts";
import { isReal } from "../system/segments.ts";
import { FCW_FIXED, FCW_INIT, FCW_WRITABLE, finish, type Fpu, fpuOp, FSW } from "../x87/fpu.ts";

const ENVIRONMENT_BYTES = { 16: 14, 32: 28 } as const;

/** The tag word as the registers are: 0 valid, 1 zero, 2 special, 3 empty. */
function tagWord(x: Fpu): Value {
  const c = x.c, tags = c.variable("i32", 0), i = c.variable("i32", 7);
  c.loop((again) => {
    const at = c.let(x.cpu.add(i.get().shl(4)));
    const sig = c.ld64(at, S.fpr), exponent = c.let(c.ld16u(at, S.fpr + 8).and(0x7fff));
    const normal = exponent.ne(0x7fff).and(sig.shrU(63).lo()).and(exponent.bool());
    const zero = exponent.eqz().and(sig.eqz());
    const kind = select(c.let(normal), i32(0), select(c.let(zero), i32(1), 2));
    const tag = select(c.ld8u(x.cpu.add(i.get()), S.fempty), i32(3), c.let(kind));
    tags.set(tags.get().shl(2).or(tag));
    i.set(i.get().sub(1));
    c.brIf(again, i.get().geS(0));
  });
  return tags.get();
}

/** The instruction and operand pointers, as an environment of real mode has them: linear. */
function realPointers(o: Ops): { fip: Value; fdp: Value } {
  const linear = (selector: Value, offset: Value) => o.let(selector.shl(4).add(offset.lo()));
  return {
    fip: linear(o.c.ld16u(o.cpu, S.fcs), o.ld64("fip")),
    fdp: linear(o.c.ld16u(o.cpu, S.fds), o.ld64("fdp")),
  };
}

function init(o: Ops): void {
  const c = o.c;
  c.st16(o.cpu, FCW_INIT, S.fcw);
  c.st16(o.cpu, 0, S.fsw);
  o.st32("ftop", 0);
  o.st64("fempty", 0x0101_0101_0101_0101n);
  c.st16(o.cpu, 0, S.fop);
  o.st64("fip", 0);
  o.st64("fdp", 0);
  c.st16(o.cpu, 0, S.fcs);
  c.st16(o.cpu, 0, S.fds);
}

function storeEnvironment(o: Ops, x: Fpu, at: Value, size: 16 | 32): void {
  const c = o.c;
  const put = (i: number, v: Value) => {
    if (size === 16) c.st16(at, v, 2 * i);
    else c.st32(at, v, 4 * i);
  };
  const high = size === 32 ? 0xffff0000 | 0 : 0;
  put(0, x.fcw().or(high));
  put(1, x.fsw().or(x.top().shl(11)).or(high));
  put(2, tagWord(x).or(high));
  const fop = c.let(c.ld16u(o.cpu, S.fop).and(0x7ff));
  c.if(isReal(o), () => {
    const { fip, fdp } = realPointers(o);
    // Bits above the low 16 stand 12 bits higher, so that four of them top a word.
    put(3, fip.and(0xffff).or(high));
    put(4, size === 32 ? fip.shrU(16).shl(12).or(fop) : fip.shrU(16).and(15).shl(12).or(fop));
    put(5, fdp.and(0xffff).or(high));
    put(6, size === 32 ? fdp.shrU(16).shl(12) : fdp.shrU(16).and(15).shl(12));
  }, () => {
    put(3, o.ld64("fip").lo());
    put(4, size === 32 ? c.ld16u(o.cpu, S.fcs).or(fop.shl(16)) : c.ld16u(o.cpu, S.fcs));
    put(5, o.ld64("fdp").lo());
    put(6, c.ld16u(o.cpu, S.fds).or(high));
  });
}

function setControl(x: Fpu, v: Value): void {
  x.c.st16(x.cpu, v.and(FCW_WRITABLE).or(FCW_FIXED), S.fcw);
}

function loadEnvironment(o: Ops, x: Fpu, at: Value, size: 16 | 32): void {
  const c = o.c;
  const word = (i: number) => size === 16 ? c.ld16u(at, 2 * i) : c.ld32(at, 4 * i);
  const low = (i: number) => c.ld16u(at, (size / 8) * i);
  setControl(x, low(0));
  const status = low(1);
  x.setTop(status.shrU(11));
  x.setFsw(status.and(0x477f));
  const tags = low(2);
  for (let i = 0; i < 8; i++) c.st8(o.cpu, tags.shrU(2 * i).and(3).eq(3), S.fempty + i);
  c.if(isReal(o), () => {
    const linear = (i: number) => low(i).or(word(i + 1).shrU(12).shl(16)).zx();
    c.st16(o.cpu, low(4).and(0x7ff), S.fop);
    o.st64("fip", linear(3));
    o.st64("fdp", linear(5));
    c.st16(o.cpu, 0, S.fcs);
    c.st16(o.cpu, 0, S.fds);
  }, () => {
    o.st64("fip", word(3).zx());
    c.st16(o.cpu, low(4), S.fcs);
    if (size === 32) c.st16(o.cpu, word(4).shrU(16).and(0x7ff), S.fop);
    o.st64("fdp", word(5).zx());
    c.st16(o.cpu, low(6), S.fds);
  });
  x.settle();
}

export function defineX87Control(m: Module, f: CpuFuncs): void {
  for (const size of [16, 32] as const) {
    const head = ENVIRONMENT_BYTES[size], all = head + 80;
    fpuOp(m, f, `fnstenv${size}`, ["i64"], (o, x, a) => {
      const at = o.writeAt(a!, head, false);
      storeEnvironment(o, x, at, size);
      o.commit(at);
      o.c.st16(o.cpu, x.fcw().or(0x3f), S.fcw);
      x.settle();
    });
    fpuOp(m, f, `fldenv${size}`, ["i64"], (o, x, a) => loadEnvironment(o, x, o.readAt(a!, head), size));
    fpuOp(m, f, `fnsave${size}`, ["i64"], (o, x, a) => {
      const at = o.writeAt(a!, all, false);
      storeEnvironment(o, x, at, size);
      for (let i = 0; i < 8; i++) {
        const r = x.get(i);
        o.c.st64(at, r.sig, head + 10 * i);
        o.c.st16(at, r.se, head + 10 * i + 8);
      }
      o.commit(at);
      init(o);
    });
    fpuOp(m, f, `frstor${size}`, ["i64"], (o, x, a) => {
      const c = o.c, at = o.readAt(a!, all);
      loadEnvironment(o, x, at, size);
      for (let i = 0; i < 8; i++) {
        const to = c.let(o.cpu.add(x.physical(i).shl(4)));
        c.st64(to, c.ld64(at, head + 10 * i), S.fpr);
        c.st16(to, c.ld16u(at, head + 10 * i + 8), S.fpr + 8);
      }
    });
  }
  fpuOp(m, f, "fninit", [], (o) => init(o));
  fpuOp(m, f, "fldcw", ["i32"], (_o, x, v) => {
    setControl(x, v!);
    x.settle();
  });
  fpuOp(m, f, "fnop", [], (o, x) => {
    x.clear();
    x.keepC1();
    finish(o);
  });
  // 1: TOP + 1; -1: TOP - 1.
  fpuOp(m, f, "moveTop", ["i32"], (o, x, by) => {
    x.clear();
    finish(o);
    x.setTop(x.top().add(by!));
  });
  fpuOp(m, f, "ffree", ["i32", "i32"], (o, x, i, pop) => {
    x.clear();
    finish(o);
    o.c.st8(o.cpu.add(x.physical(i!)), 1, S.fempty);
    o.c.if(pop!, () => x.pop());
  });
  deepFunc(m, f, "x87.fwait", [], [], (o) => {
    o.faultIf(o.ld32("cr0").and(CR0.MP | CR0.TS).eq(CR0.MP | CR0.TS), EXC.NM);
    o.c.if(o.c.ld16u(o.cpu, S.fsw).and(FSW.ES), () => {
      o.callF(o.deep("x87Pending"), o.cpu);
    });
  });
}

const call = (name: string) => (o: Ops) => {
  o.callF(o.deep(`x87.${name}`), o.cpu);
};
/** With the operand's address; the layout follows the operand size. */
const callSized = (name: string) => (o: Ops, address: Value) => {
  o.callF(o.deep(`x87.${name}${o.size === 16 ? 16 : 32}`), o.cpu, address);
};
const moveTop = (by: number) => (o: Ops) => {
  o.callF(o.deep("x87.moveTop"), o.cpu, by);
};
const ffree = (pop: number) => (o: Ops, i: Value) => {
  o.callF(o.deep("x87.ffree"), o.cpu, i, pop);
};

function fnclex(o: Ops): void {
  o.c.st16(o.cpu, o.c.ld16u(o.cpu, S.fsw).and(0x7f00), S.fsw);
}
function status(o: Ops): Value {
  return o.let(o.c.ld16u(o.cpu, S.fsw).or(o.ld32("ftop").shl(11)));
}
function fnstsw(o: Ops, a: Operand): void {
  a.set(status(o));
}
function fnstswAx(o: Ops): void {
  o.setGprAt(0, 16, status(o));
}
function fnstcw(o: Ops, a: Operand): void {
  a.set(o.c.ld16u(o.cpu, S.fcw));
}
function fldcw(o: Ops, a: Operand): void {
  o.callF(o.deep("x87.fldcw"), o.cpu, a.get());
}
/** FENI, FDISI, FSETPM of the 8087 and 80287: nothing. */
function nothing(): void {}

const x87 = { unit: "x87" } as const;
const nowait = { unit: "x87", nowait: true } as const;

export const ROWS: readonly Row[] = [
  { op: "9B", name: "FWAIT", sem: call("fwait") },
  { op: "D9 /4", name: "FLDENV", args: "M", sizes: "v", ...x87, sem: callSized("fldenv") },
  { op: "D9 /5", name: "FLDCW", args: "Mw", ...x87, sem: fldcw },
  { op: "D9 /6", name: "FNSTENV", args: "M=", sizes: "v", ...nowait, sem: callSized("fnstenv") },
  { op: "D9 /7", name: "FNSTCW", args: "Mw=", ...nowait, sem: fnstcw },
  { op: "D9 D0", name: "FNOP", ...x87, sem: call("fnop") },
  { op: "D9 F6", name: "FDECSTP", ...x87, sem: moveTop(-1) },
  { op: "D9 F7", name: "FINCSTP", ...x87, sem: moveTop(1) },
  { op: "DB E0", name: "FENI", ...nowait, sem: nothing },
  { op: "DB E1", name: "FDISI", ...nowait, sem: nothing },
  { op: "DB E2", name: "FNCLEX", ...nowait, sem: fnclex },
  { op: "DB E3", name: "FNINIT", ...nowait, sem: call("fninit") },
  { op: "DB E4", name: "FSETPM", ...nowait, sem: nothing },
  { op: "DD /4", name: "FRSTOR", args: "M", sizes: "v", ...x87, sem: callSized("frstor") },
  { op: "DD /6", name: "FNSAVE", args: "M=", sizes: "v", ...nowait, sem: callSized("fnsave") },
  { op: "DD /7", name: "FNSTSW", args: "Mw=", ...nowait, sem: fnstsw },
  { op: "DD C0+", name: "FFREE", args: "F", ...x87, sem: ffree(0) },
  { op: "DF C0+", name: "FFREEP", args: "F", ...x87, sem: ffree(1) },
  { op: "DF E0", name: "FNSTSW", ...nowait, sem: fnstswAx },
];
