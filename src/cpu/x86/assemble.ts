/**
 * The encoder of rows: a row, its operand size and its operands to bytes: [sdm2 chapter 2]. Tests use it; the decoder is its
 * inverse.
 */
import { Bug } from "../../base/errors.ts";
import { type Arg, isMemoryLetter, parseArgs, parseOp, type Pattern } from "./arg.ts";
import type { Row } from "./row.ts";
import { CS, DS, ES, FS, GS, SS } from "./state.ts";

/** Register numbers of AH, CH, DH and BH, which exist only without a REX prefix. */
export const AH = 16, CH = 17, DH = 18, BH = 19;

/** A ModRM memory operand with 32- or 64-bit addresses. */
export interface MemoryForm {
  /** -1: none. */
  base: number;
  /** -1: none. Never RSP. */
  index: number;
  /** log2 of the scale. */
  scale: number;
  disp: number;
  /** Bytes of displacement that must be used at least: 0, 1 or 4. */
  dispBytes: number;
  /** disp is from the next instruction. Only in 64-bit mode. */
  ripRelative: boolean;
}

export interface Operands {
  /** Operand size in bits. */
  size: number;
  is64: boolean;
  /** Register numbers by argument; entries of other operands are ignored. */
  regs: readonly number[];
  memory: MemoryForm | undefined;
  /** Immediate, displacement of a branch, or memory offset, low and high 32 bits. */
  imm: number;
  immHigh: number;
  /** 67h: 32-bit addresses in 64-bit mode. */
  address32: boolean;
  /** A segment override, or -1. */
  segment: number;
  lock: boolean;
  /** 0 none, 1 F3, 2 F2. Only for rows whose prefix is free. */
  repeat: number;
  /** REX bits that no operand asks for: 40h alone, 48h with W where it changes nothing. */
  rex: number;
  /** The two-byte VEX prefix where it can say it. */
  shortVex: boolean;
}

/** The parsed form of rows. */
export interface Shape {
  readonly row: Row;
  readonly args: readonly Arg[];
  readonly pattern: Pattern;
}

export function shapeOf(row: Row): Shape {
  return { row, args: parseArgs(row), pattern: parseOp(row) };
}

export function operands(size: number, given: Partial<Operands> = {}): Operands {
  return {
    size,
    is64: true,
    regs: [],
    memory: undefined,
    imm: 0,
    immHigh: 0,
    address32: false,
    segment: -1,
    lock: false,
    repeat: 0,
    rex: 0,
    shortVex: false,
    ...given,
  };
}

const SEGMENT_PREFIX: Record<number, number> = {
  [ES]: 0x26,
  [CS]: 0x2e,
  [SS]: 0x36,
  [DS]: 0x3e,
  [FS]: 0x64,
  [GS]: 0x65,
};

/** Bytes of an immediate operand. */
export function immediateBytes(arg: Arg, size: number, is64: boolean): number {
  switch (arg.size) {
    case "b":
    case "ub":
      return 1;
    case "w":
      return 2;
    case "q":
      return size / 8;
    default:
      return arg.letter === "J" && is64 ? 4 : Math.min(4, size / 8);
  }
}

export function assemble(shape: Shape, o: Operands): number[] {
  const { row, args, pattern: p } = shape;
  const sized = row.sizes === "v" || !!row.d64 || args.some((a) => a.size === "v" || a.size === "z");
  const wide = row.sizes === "y" || args.some((a) => a.size === "y");
  const defaultSize = o.is64 && row.d64 ? 64 : 32;

  // Fields.
  let reg = p.digit >= 0 ? p.digit : 0, rm = 0, low = 0, vvvv = 0, highByte = false, needsRex = false;
  let hasRm = false;
  args.forEach((a, i) => {
    let n = o.regs[i] ?? 0;
    if (a.size === "b" && "ERGZ".includes(a.letter) && !(o.memory && isMemoryLetter(a.letter))) {
      if (n >= AH) {
        highByte = true;
        n -= 12;
      } else if (n >= 4) needsRex = true;
    }
    switch (a.letter) {
      case "E":
      case "R":
      case "W":
      case "U":
      case "Q":
      case "N":
      case "M":
        hasRm = true;
        rm = n;
        break;
      case "G":
      case "V":
      case "P":
      case "S":
      case "C":
      case "D":
        reg = n;
        break;
      case "Z":
        low = n;
        break;
      case "B":
      case "H":
        vvvv = n;
        break;
      case "F":
        rm = n;
        break;
    }
  });

  const memory = hasRm ? o.memory : undefined;
  let rex = o.rex | (p.w === 1 || ((sized || wide) && o.size === 64 && defaultSize !== 64) ? 8 : 0);
  rex |= (reg >> 3) << 2;
  if (p.plusR) rex |= low >> 3;
  if (memory) {
    if (memory.base >= 8) rex |= 1;
    if (memory.index >= 8) rex |= 2;
  } else rex |= rm >> 3;
  if (rex || needsRex) rex |= 0x40;
  if (rex && highByte) throw new Bug(`${row.name}: a high byte register beside REX`);
  if (rex && !o.is64 && !p.vex) throw new Bug(`${row.name}: REX outside 64-bit mode`);

  const out: number[] = [];
  if (o.lock) out.push(0xf0);
  if (o.segment >= 0) out.push(SEGMENT_PREFIX[o.segment]!);
  if (o.address32) out.push(0x67);
  if (p.vex) pushVex(out, p, rex, vvvv, o);
  else {
    if (p.prefix === 1 || (sized && o.size === 16)) out.push(0x66);
    if (p.prefix === 2 || o.repeat === 1) out.push(0xf3);
    if (p.prefix === 3 || o.repeat === 2) out.push(0xf2);
    if (rex) out.push(rex);
    if (p.map > 0) out.push(0x0f);
    if (p.map === 2) out.push(0x38);
    if (p.map === 3) out.push(0x3a);
  }
  out.push(p.opcode + (p.plusR ? low & 7 : 0));
  if (p.fixed >= 0) out.push((p.fixed & p.fixedMask) | (rm & ~p.fixedMask & 7));
  else if (p.modrm) {
    if (memory) pushMemory(out, reg & 7, memory, o.is64);
    else out.push(0xc0 | ((reg & 7) << 3) | (rm & 7));
  }
  args.forEach((a, i) => {
    if (a.letter === "I" || a.letter === "J") pushBytes(out, o.imm, o.immHigh, immediateBytes(a, o.size, o.is64));
    else if (a.letter === "O") pushBytes(out, o.imm, o.immHigh, o.is64 && !o.address32 ? 8 : 4);
    else if (a.letter === "L") out.push((o.regs[i] ?? 0) << 4);
  });
  if (row.name === "ENTER") pushBytes(out, o.imm, 0, 3);
  return out;
}

function pushVex(out: number[], p: Pattern, rex: number, vvvv: number, o: Operands): void {
  const pp = p.prefix < 0 ? 0 : p.prefix, l = p.l === 1 ? 4 : 0;
  const tail = ((~vvvv & 15) << 3) | l | pp;
  if (o.shortVex && p.map === 1 && (rex & 0xb) === 0) {
    out.push(0xc5, ((~rex & 4) << 5) | tail);
    return;
  }
  out.push(0xc4, ((~rex & 7) << 5) | p.map, ((rex & 8) << 4) | tail);
}

function pushMemory(out: number[], reg: number, m: MemoryForm, is64: boolean): void {
  const field = reg << 3;
  if (m.ripRelative) {
    out.push(field | 5);
    pushBytes(out, m.disp, 0, 4);
    return;
  }
  if (m.base < 0) {
    // Without a base: [disp32] and [index × scale + disp32]; outside 64-bit mode the former has a shorter form.
    if (m.index < 0 && !is64) out.push(field | 5);
    else out.push(field | 4, (m.scale << 6) | ((m.index < 0 ? 4 : m.index & 7) << 3) | 5);
    pushBytes(out, m.disp, 0, 4);
    return;
  }
  let bytes = m.disp === 0 && (m.base & 7) !== 5 ? 0 : m.disp >= -128 && m.disp <= 127 ? 1 : 4;
  bytes = Math.max(bytes, m.dispBytes);
  const mod = bytes === 0 ? 0 : bytes === 1 ? 0x40 : 0x80;
  if (m.index >= 0 || (m.base & 7) === 4) {
    out.push(mod | field | 4, (m.scale << 6) | ((m.index < 0 ? 4 : m.index & 7) << 3) | (m.base & 7));
  } else out.push(mod | field | (m.base & 7));
  pushBytes(out, m.disp, 0, bytes);
}

function pushBytes(out: number[], low: number, high: number, n: number): void {
  for (let i = 0; i < n; i++) out.push(((i < 4 ? low : high) >>> (8 * (i & 3))) & 0xff);
}
