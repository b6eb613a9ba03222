/** Operands that need more than chance: pointers that must stay in the window, counts, divisors, targets of branches. */
import { RAX, RBP, RBX, RCX, RDI, RDX, RSI, RSP } from "../../src/cpu/x86/state.ts";
import type { Operands } from "../../src/cpu/x86/assemble.ts";
import { CODE_BYTES, FX, PAGE, R } from "./arena.ts";
import { type CaseBuilder, HIGH, LOW } from "./case.ts";
import type { Subject } from "./which.ts";

const STACK = /^(PUSH|POP|CALL|RET|ENTER|LEAVE|PUSHF|POPF)$/;
const STRING = /^(MOVS|STOS|LODS|CMPS|SCAS)B?$/;
export const BIT_STRING = /^BT[SRC]?$/;
const LOOPS = /^(LOOP|LOOPE|LOOPNE|JCXZ)$/;

/** A pointer into the window whose upper half does not matter if addresses have 32 bits. */
function pointer(c: CaseBuilder, n: number, offset: number, address32: boolean): void {
  c.point(n, offset);
  if (address32) c.u32[c.words + 2 * n + 1] = c.random.next();
}

/** Settles registers before an address is chosen. */
export function prepare(c: CaseBuilder, s: Subject, size: number, address32: boolean, repeat: number): void {
  const { random } = c, name = s.row.name;
  if (STACK.test(name)) c.point(RSP, random.between(LOW + 16, HIGH));
  if (name === "LEAVE") c.point(RBP, random.between(LOW, HIGH));
  else if (name === "ENTER") {
    c.point(RSP, random.between(640, 900));
    c.point(RBP, random.between(400, 1000));
  } else if (name === "XLAT") pointer(c, RBX, random.between(64, 512), address32);
  else if (STRING.test(name)) {
    pointer(c, RSI, random.between(LOW + 32, HIGH - 32), address32);
    pointer(c, RDI, random.between(LOW + 32, HIGH - 32), address32);
    if (repeat) {
      c.set(RCX, random.below(24));
      if (address32) c.u32[c.words + 2 * RCX + 1] = random.next();
      // Now and then an equal stretch, so that comparisons go on.
      const from = c.window + 300, to = c.window + 300 + random.below(64);
      if (random.once(2)) c.u8.fill(random.below(256), from, to + 200);
    }
  } else if (LOOPS.test(name)) {
    c.set(RCX, random.below(3));
    if (address32 || random.once(4)) c.u32[c.words + 2 * RCX + 1] = random.next();
  } else if (/^V?MASKMOV(Q|DQU)/.test(name)) pointer(c, RDI, random.between(LOW, HIGH), address32);
  else if ((name === "DIV" || name === "IDIV") && size > 8 && !random.once(4)) {
    // Quotients that fit, mostly.
    const dividend = c.get(RAX), sign = BigInt.asIntN(size, dividend) < 0n;
    if (random.once(2)) c.set(RDX, name === "IDIV" && sign ? -1n : 0n);
    else c.set(RDX, BigInt(random.below(1 << random.below(20))));
    c.settled &= ~(1 << RDX);
  }
}

/** A bit offset that stays in the window. */
export function bitOffset(c: CaseBuilder, n: number, size: number): void {
  const v = c.random.below(3000) - 1500;
  const high = size === 64 ? 0n : BigInt(c.random.next()) << 32n;
  c.set(n, size === 64 ? v : BigInt.asUintN(32, BigInt(v)) | high);
}

/** Half of the time, compare-and-exchange finds what it expects. `at`: arena offset of the memory operand, or -1. */
export function agree(c: CaseBuilder, name: string, at: number, register: number): void {
  if (!c.random.once(2)) return;
  const read = (offset: number, bytes: number) => {
    let v = 0n;
    for (let i = bytes - 1; i >= 0; i--) v = (v << 8n) | BigInt(c.u8[offset + i]!);
    return v;
  };
  const settle = (n: number, v: bigint) => {
    if (!c.isSettled(n)) c.set(n, v);
  };
  if (name === "CMPXCHG") {
    if (at >= 0) settle(RAX, read(at, 8));
    else if (register < 16) settle(RAX, c.get(register));
  } else if (name === "CMPXCHG8B" && at >= 0) {
    settle(RAX, read(at, 4));
    settle(RDX, read(at + 4, 4));
  } else if (name === "CMPXCHG16B" && at >= 0) {
    settle(RAX, read(at, 8));
    settle(RDX, read(at + 8, 8));
  }
}

/** Makes the memory operand of a gather: indices that lead into the window, now and then one that does not. */
export function vectorIndex(c: CaseBuilder, s: Subject, o: Operands): boolean {
  const { random, u32 } = c, count = c.legacy ? 8 : 16, scale = random.below(4);
  const base = random.below(count), index = random.below(count);
  if (base === RSP) return false;
  // Three different registers, mostly: else it is undefined.
  const regs = o.regs as number[];
  if (!random.once(24) && new Set([regs[0], regs[1], index]).size < 3) return false;
  const quads = s.row.name.includes("GATHERQ"), address = c.native.base + c.window + 512;
  const span = 240 >> scale;
  for (let i = 0; i < 8; i += quads ? 2 : 1) {
    let v = random.below(2 * span) - span;
    // A page that is absent.
    if (random.once(40)) v = (CODE_BYTES + random.below(PAGE) - c.window - 512) >> scale;
    const at = i < 4 ? c.words + (R.FX + FX.XMM) / 4 + 4 * index + i : c.words + R.YMM / 4 + 4 * index + i - 4;
    u32[at] = v;
    if (quads) u32[at + 1] = v >> 31;
  }
  const disp = random.once(3) ? 0 : random.next() >> 1;
  o.memory = { base, index, scale, disp, dispBytes: 0, ripRelative: false };
  if (!c.legacy && random.once(8)) o.address32 = true;
  const value = BigInt(address) - BigInt(disp);
  c.set(base, c.legacy ? BigInt.asUintN(32, value) : value);
  return true;
}
