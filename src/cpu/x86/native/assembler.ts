/** An assembler for the host's processor, of what native code is made from: x86-64, [sdm2 chapter 2]. */
import { Bug } from "../../../base/errors.ts";

/** A host register by its number, as in ModRM and REX. */
export type Host = number;

/** A place in memory: [base + index × 2^scale + disp]; index -1: none. */
export interface At {
  readonly base: Host;
  readonly index: Host;
  readonly scale: number;
  readonly disp: number;
}

/** Opcode maps, as bytes before the opcode. */
export const MAP_1 = 0, MAP_0F = 1, MAP_0F38 = 2, MAP_0F3A = 3;

/** What a VEX prefix says beside registers. `pp`: 0 none, 1 66h, 2 F3h, 3 F2h. */
export interface Vex {
  readonly map: number;
  readonly pp: number;
  readonly w: 0 | 1;
  readonly l: 0 | 1;
}

/** ADD OR ADC SBB AND SUB XOR CMP by their number in the opcode. */
export const ALU = { ADD: 0, OR: 1, ADC: 2, SBB: 3, AND: 4, SUB: 5, XOR: 6, CMP: 7 } as const;

export type Label = number;

/** All code is laid here first: one thread assembles one piece at a time. */
let scratch = new Uint8Array(1 << 16);

export class Assembler {
  bytes = scratch;
  /** Where the next byte goes. */
  at = 0;
  readonly #labels: number[] = [];
  #fixups: { at: number; label: Label }[] = [];

  /** `origin`: the host address of the first byte. */
  constructor(readonly origin: bigint) {}

  label(): Label {
    return this.#labels.push(-1) - 1;
  }
  bind(label: Label): void {
    this.#labels[label] = this.at;
  }
  offsetOf(label: Label): number {
    return this.#labels[label]!;
  }

  byte(b: number): void {
    if (this.at + 4 > this.bytes.length) this.#grow();
    this.bytes[this.at++] = b;
  }
  u32(v: number): void {
    if (this.at + 4 > this.bytes.length) this.#grow();
    const { bytes, at } = this;
    bytes[at] = v;
    bytes[at + 1] = v >>> 8;
    bytes[at + 2] = v >>> 16;
    bytes[at + 3] = v >>> 24;
    this.at = at + 4;
  }
  #grow(): void {
    const more = new Uint8Array(2 * this.bytes.length);
    more.set(this.bytes);
    this.bytes = scratch = more;
  }
  u64(v: bigint): void {
    this.u32(Number(v & 0xffff_ffffn));
    this.u32(Number((v >> 32n) & 0xffff_ffffn));
  }
  raw(...bytes: number[]): void {
    for (const b of bytes) this.byte(b);
  }
  finish(): Uint8Array<ArrayBuffer> {
    for (const { at, label } of this.#fixups) {
      const to = this.#labels[label]!;
      if (to < 0) throw new Bug("A label of native code is nowhere");
      const d = to - (at + 4);
      this.bytes[at] = d & 0xff;
      this.bytes[at + 1] = (d >> 8) & 0xff;
      this.bytes[at + 2] = (d >> 16) & 0xff;
      this.bytes[at + 3] = (d >> 24) & 0xff;
    }
    this.#fixups = [];
    return this.bytes.slice(0, this.at);
  }

  // ---- encoding ----------------------------------------------------------------------------------------------------------

  /** Prefixes up to the opcode. `byteRegs`: registers used as bytes, which from SPL on need a REX prefix. */
  #head(
    size: number,
    prefix: number,
    map: number,
    opcode: number,
    reg: number,
    index: number,
    base: number,
    rex: boolean,
  ) {
    if (size === 16) this.byte(0x66);
    if (prefix !== 0) this.byte(prefix);
    const bits = (size === 64 ? 8 : 0) | ((reg & 8) >> 1) | ((index & 8) >> 2) | ((base & 8) >> 3);
    if (bits !== 0 || rex) this.byte(0x40 | bits);
    if (map !== MAP_1) this.byte(0x0f);
    if (map === MAP_0F38) this.byte(0x38);
    else if (map === MAP_0F3A) this.byte(0x3a);
    this.byte(opcode);
  }

  /** opcode with ModRM, both registers; `reg` may be an extension of the opcode. `byteReg`, `byteRm`: used as bytes. */
  rr(
    size: number,
    map: number,
    opcode: number,
    reg: number,
    rm: Host,
    byteReg = false,
    byteRm = false,
    prefix = 0,
  ): void {
    const rex = (byteReg && reg >= 4) || (byteRm && rm >= 4);
    this.#head(size, prefix, map, opcode, reg, 0, rm, rex);
    this.byte(0xc0 | ((reg & 7) << 3) | (rm & 7));
  }
  /** opcode with ModRM, one operand in memory. */
  rm(size: number, map: number, opcode: number, reg: number, m: At, byteReg = false, prefix = 0): void {
    this.#head(size, prefix, map, opcode, reg, m.index < 0 ? 0 : m.index, m.base, byteReg && reg >= 4);
    this.#memory(reg, m);
  }
  /** The same with a VEX prefix and a second source. */
  vexRR(v: Vex, opcode: number, reg: number, source: number, rm: number): void {
    this.#vex(v, reg, source, 0, rm);
    this.byte(opcode);
    this.byte(0xc0 | ((reg & 7) << 3) | (rm & 7));
  }
  vexRM(v: Vex, opcode: number, reg: number, source: number, m: At): void {
    this.#vex(v, reg, source, m.index < 0 ? 0 : m.index, m.base);
    this.byte(opcode);
    this.#memory(reg, m);
  }
  #vex({ map, pp, w, l }: Vex, reg: number, source: number, index: number, base: number): void {
    const r = (~reg & 8) << 4, rest = ((~source & 15) << 3) | (l << 2) | pp;
    if (map === MAP_0F && w === 0 && ((index | base) & 8) === 0) return this.raw(0xc5, r | rest);
    this.raw(0xc4, r | ((~index & 8) << 3) | ((~base & 8) << 2) | map, (w << 7) | rest);
  }
  /** ModRM, SIB and displacement. */
  #memory(reg: number, m: At): void {
    const r = (reg & 7) << 3, low = m.base & 7;
    const short = m.disp === 0 && low !== 5 ? 0 : m.disp >= -128 && m.disp <= 127 ? 1 : 2;
    if (m.index >= 0 || low === 4) {
      this.byte((short << 6) | r | 4);
      this.byte((m.scale << 6) | (m.index < 0 ? 0x20 : (m.index & 7) << 3) | low);
    } else this.byte((short << 6) | r | low);
    if (short === 1) this.byte(m.disp & 0xff);
    else if (short === 2) this.u32(m.disp);
  }

  // ---- instructions ------------------------------------------------------------------------------------------------------

  movRR(to: Host, from: Host, size = 64): void {
    this.rr(size, MAP_1, 0x89, from, to);
  }
  /** The shortest that leaves the whole register with the value; flags stay. */
  movRI(to: Host, value: number): void {
    if (value >= 0 && value <= 0x7fff_ffff) {
      this.#head(32, 0, MAP_1, 0xb8 | (to & 7), 0, 0, to, false);
    } else this.rr(64, MAP_1, 0xc7, 0, to);
    this.u32(value);
  }
  movRI64(to: Host, value: bigint): void {
    const signed = BigInt.asIntN(64, value);
    if (signed >= -0x8000_0000n && signed <= 0x7fff_ffffn) return this.movRI(to, Number(signed));
    if (signed >= 0n && signed <= 0xffff_ffffn) {
      this.#head(32, 0, MAP_1, 0xb8 | (to & 7), 0, 0, to, false);
      return this.u32(Number(signed));
    }
    this.#head(64, 0, MAP_1, 0xb8 | (to & 7), 0, 0, to, false);
    this.u64(BigInt.asUintN(64, value));
  }
  /** Loads `size` bits; 8 and 16 are zero-extended. */
  load(to: Host, m: At, size: number): void {
    if (size === 8) this.rm(32, MAP_0F, 0xb6, to, m);
    else if (size === 16) this.rm(32, MAP_0F, 0xb7, to, m);
    else this.rm(size, MAP_1, 0x8b, to, m);
  }
  store(m: At, from: Host, size: number): void {
    if (size === 8) this.rm(8, MAP_1, 0x88, from, m, true);
    else this.rm(size, MAP_1, 0x89, from, m);
  }
  /** Of 64 bits: sign-extended. */
  storeI(m: At, value: number, size: number): void {
    this.rm(size, MAP_1, size === 8 ? 0xc6 : 0xc7, 0, m);
    this.immediate(value, size);
  }
  immediate(value: number, size: number): void {
    if (size === 8) this.byte(value & 0xff);
    else if (size === 16) this.raw(value & 0xff, (value >> 8) & 0xff);
    else this.u32(value);
  }
  lea(to: Host, m: At, size = 64): void {
    this.rm(size, MAP_1, 0x8d, to, m);
  }
  aluRR(op: number, to: Host, from: Host, size: number): void {
    this.rr(size, MAP_1, (op << 3) | (size === 8 ? 0 : 1), from, to, size === 8, size === 8);
  }
  aluRM(op: number, to: Host, m: At, size: number): void {
    this.rm(size, MAP_1, (op << 3) | (size === 8 ? 2 : 3), to, m, size === 8);
  }
  aluMR(op: number, m: At, from: Host, size: number): void {
    this.rm(size, MAP_1, (op << 3) | (size === 8 ? 0 : 1), from, m, size === 8);
  }
  aluRI(op: number, to: Host, value: number, size: number): void {
    if (size === 8) {
      this.rr(8, MAP_1, 0x80, op, to, false, true);
      this.byte(value & 0xff);
    } else if (value >= -128 && value <= 127) {
      this.rr(size, MAP_1, 0x83, op, to);
      this.byte(value & 0xff);
    } else {
      this.rr(size, MAP_1, 0x81, op, to);
      this.immediate(value, size);
    }
  }
  aluMI(op: number, m: At, value: number, size: number): void {
    if (size === 8) {
      this.rm(8, MAP_1, 0x80, op, m);
      this.byte(value & 0xff);
    } else if (value >= -128 && value <= 127) {
      this.rm(size, MAP_1, 0x83, op, m);
      this.byte(value & 0xff);
    } else {
      this.rm(size, MAP_1, 0x81, op, m);
      this.immediate(value, size);
    }
  }
  testRR(a: Host, b: Host, size: number): void {
    this.rr(size, MAP_1, size === 8 ? 0x84 : 0x85, b, a, size === 8, size === 8);
  }
  testRI(a: Host, value: number, size: number): void {
    this.rr(size, MAP_1, size === 8 ? 0xf6 : 0xf7, 0, a, false, size === 8);
    this.immediate(value, size);
  }
  shiftRI(op: number, to: Host, count: number, size: number): void {
    this.rr(size, MAP_1, size === 8 ? 0xc0 : 0xc1, op, to, false, size === 8);
    this.byte(count);
  }
  push(r: Host): void {
    this.#head(32, 0, MAP_1, 0x50 | (r & 7), 0, 0, r, false);
  }
  pop(r: Host): void {
    this.#head(32, 0, MAP_1, 0x58 | (r & 7), 0, 0, r, false);
  }
  ret(): void {
    this.byte(0xc3);
  }
  jmp(label: Label): void {
    this.byte(0xe9);
    this.#rel32(label);
  }
  jcc(cc: number, label: Label): void {
    this.raw(0x0f, 0x80 | cc);
    this.#rel32(label);
  }
  call(label: Label): void {
    this.byte(0xe8);
    this.#rel32(label);
  }
  #rel32(label: Label): void {
    this.#fixups.push({ at: this.at, label });
    this.u32(0);
  }
  /** To an address of the same arena. */
  jmpTo(address: bigint): void {
    this.byte(0xe9);
    this.#relative(address);
  }
  jccTo(cc: number, address: bigint): void {
    this.raw(0x0f, 0x80 | cc);
    this.#relative(address);
  }
  callTo(address: bigint): void {
    this.byte(0xe8);
    this.#relative(address);
  }
  #relative(address: bigint): void {
    this.u32(Number(BigInt.asIntN(32, address - (this.origin + BigInt(this.at + 4)))));
  }
  jmpM(m: At): void {
    this.rm(32, MAP_1, 0xff, 4, m);
  }
}
