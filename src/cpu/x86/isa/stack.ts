/** PUSH, POP, PUSHA, POPA, ENTER, LEAVE: [sdm2]. In 64-bit mode the stack is flat; elsewhere SS decides. */
import type { Module } from "../../../wasm/module.ts";
import { i64, select, type Value } from "../../../wasm/value.ts";
import { ACCESS_WRITE, linear } from "../linear.ts";
import type { Operand } from "../operand.ts";
import { type CpuFuncs, deepFunc, type Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { MODE_STACK32, RBP, RSP, SS } from "../state.ts";

/** The mask of the stack pointer outside 64-bit mode. */
function stackMask(o: Ops): Value {
  return o.let(select(o.ld32("mode").and(MODE_STACK32), i64(0xffff_ffff), 0xffff));
}

/** Writes the stack pointer under the mask: a 16-bit stack keeps the upper half of ESP. */
function setSp(o: Ops, mask: Value, sp: Value): void {
  const old = o.gpr(RSP);
  o.setGpr(RSP, old.and(mask.not()).or(sp.and(mask)));
}

/** Pushes `value` (i64, or i32 for narrower) of `bits`. Nothing changes if it faults. */
export function push(o: Ops, value: Value, bits: number): void {
  const v = o.let(value), bytes = bits / 8;
  if (o.is64) {
    const sp = o.let(o.gpr(RSP).sub(bytes));
    o.write(sp, bits, v);
    o.setGpr(RSP, sp);
    return;
  }
  o.callF(o.deep("pushLegacy"), o.cpu, v.zx(), bytes);
}

/** Reads the top of the stack without popping; `popped` moves the pointer afterwards. */
export function peek(o: Ops, bits: number): Value {
  if (o.is64) return o.read(o.gpr(RSP), bits);
  const mask = stackMask(o);
  const v = o.read(linear(o, SS, o.let(o.gpr(RSP).and(mask)), bits / 8), bits);
  return v;
}
export function popped(o: Ops, bytes: number | Value): void {
  const n = typeof bytes === "number" ? bytes : bytes.zx();
  if (o.is64) o.setGpr(RSP, o.gpr(RSP).add(n));
  else {
    const mask = stackMask(o);
    setSp(o, mask, o.let(o.gpr(RSP).add(n)));
  }
}

export function defineStack(m: Module, f: CpuFuncs): void {
  // (value i64, bytes i32), by SS; bytes is 2, 4 or 8.
  deepFunc(m, f, "pushLegacy", ["i64", "i32"], [], (o, value, bytes) => {
    const c = o.c, mask = stackMask(o);
    const sp = c.let(o.gpr(RSP).sub(bytes.zx()).and(mask));
    const [at] = o.callF(o.deep("segLinear"), o.cpu, SS, sp, bytes, ACCESS_WRITE);
    c.if(bytes.eq(2), () => o.write(at!, 16, value.lo()), () => o.write(at!, 32, value.lo()));
    setSp(o, mask, sp);
  });
}

function pushOperand(o: Ops, a: Operand): void {
  push(o, a.get(), o.size);
}
function popOperand(o: Ops, a: Operand): void {
  const v = peek(o, o.size);
  if (!a.isMemory) {
    popped(o, o.size / 8);
    a.set(v);
    return;
  }
  // A memory destination is written with the stack pointer already moved back only in its address; the decoder has added the
  // operand's size to an address based on RSP. The write may fault: it comes first.
  a.set(v);
  popped(o, o.size / 8);
}

function pusha(o: Ops): void {
  const bytes = o.size / 8, mask = stackMask(o), sp = o.let(o.gpr(RSP));
  const place = (n: number) => linear(o, SS, o.let(sp.sub((n + 1) * bytes).and(mask)), bytes, ACCESS_WRITE);
  // All places are probed first, in the order of the pushes, so that a fault is the first push's and leaves nothing half done.
  for (let n = 0; n < 8; n++) o.callF(o.deep("probeWrite"), o.cpu, place(n), bytes);
  for (let n = 0; n < 8; n++) o.write(place(n), o.size, o.gprAt(n, o.size));
  setSp(o, mask, o.let(sp.sub(8 * bytes)));
}
function popa(o: Ops): void {
  const bytes = o.size / 8, mask = stackMask(o), sp = o.let(o.gpr(RSP));
  const values: Value[] = [];
  for (let n = 0; n < 8; n++) {
    values.push(o.read(linear(o, SS, o.let(sp.add(n * bytes).and(mask)), bytes), o.size));
  }
  for (let n = 0; n < 8; n++) if (7 - n !== RSP) o.setGprAt(7 - n, o.size, values[n]!);
  setSp(o, mask, o.let(sp.add(8 * bytes)));
}

/** ENTER imm16, imm8: the record's immediate holds the size in bits 0..15 and the nesting level in 16..20. */
function enter(o: Ops): void {
  const c = o.c, bytes = o.size / 8;
  const imm = o.imm(), frameBytes = o.let(imm.and(0xffff).zx()), level = o.let(imm.shrU(16).and(31));
  const mask = o.is64 ? undefined : stackMask(o);
  const cut = (v: Value) => mask ? v.and(mask) : v;
  const at = (offset: Value, access: number) => mask ? linear(o, SS, offset, bytes, access) : offset;
  const sp = c.variable("i64", o.gpr(RSP)), bp = c.variable("i64", o.gpr(RBP));
  const pushValue = (v: Value) => {
    const value = o.let(v);
    sp.set(sp.get().sub(bytes));
    o.write(at(o.let(cut(sp.get())), ACCESS_WRITE), o.size, value);
  };
  pushValue(o.gprAt(RBP, o.size));
  const frame = o.let(sp.get());
  c.if(level, () => {
    const i = c.variable("i32", 1);
    c.block((end) =>
      c.loop((again) => {
        c.brIf(end, i.get().geU(level));
        bp.set(bp.get().sub(bytes));
        pushValue(o.read(at(o.let(cut(bp.get())), 0), o.size));
        i.set(i.get().add(1));
        c.br(again);
      })
    );
    pushValue(o.size === 64 ? frame : frame.lo());
  });
  const newSp = o.let(sp.get().sub(frameBytes));
  // The new stack top must be writable.
  o.callF(o.deep("probeWrite"), o.cpu, at(o.let(cut(newSp)), ACCESS_WRITE), 1);
  o.setGprAt(RBP, o.size, o.size === 64 ? frame : frame.lo());
  if (mask) setSp(o, mask, newSp);
  else o.setGpr(RSP, newSp);
}

function leave(o: Ops): void {
  const bytes = o.size / 8;
  if (o.is64) {
    const bp = o.let(o.gpr(RBP));
    const v = o.read(bp, o.size);
    o.setGpr(RSP, bp.add(bytes));
    o.setGprAt(RBP, o.size, v);
    return;
  }
  const mask = stackMask(o), bp = o.let(o.gpr(RBP).and(mask));
  const v = o.read(linear(o, SS, bp, bytes), o.size);
  setSp(o, mask, o.let(bp.add(bytes)));
  o.setGprAt(RBP, o.size, v);
}

export const ROWS: readonly Row[] = [
  { op: "50 +r", name: "PUSH", args: "Zv", d64: true, modes: true, hot: 1, sem: pushOperand },
  { op: "FF /6", name: "PUSH", args: "Ev", d64: true, modes: true, hot: 1, sem: pushOperand },
  { op: "68", name: "PUSH", args: "Iz", d64: true, modes: true, sem: pushOperand },
  { op: "6A", name: "PUSH", args: "Ib", d64: true, modes: true, hot: 1, sem: pushOperand },
  { op: "58 +r", name: "POP", args: "Zv=", d64: true, modes: true, hot: 1, sem: popOperand },
  { op: "8F /0", name: "POP", args: "Ev=", d64: true, modes: true, sem: popOperand },
  { op: "60", name: "PUSHA", sizes: "v", only: "legacy", modes: true, sem: pusha },
  { op: "61", name: "POPA", sizes: "v", only: "legacy", modes: true, sem: popa },
  { op: "C8", name: "ENTER", d64: true, modes: true, sem: enter },
  { op: "C9", name: "LEAVE", d64: true, modes: true, hot: 1, sem: leave },
];
