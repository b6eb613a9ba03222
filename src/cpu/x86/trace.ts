/**
 * Traces: straight-line runs of instructions turned into operation records.
 *
 * A trace starts at an entry point and runs until an unconditional transfer, the end of the page, a piece already decoded, or
 * its length limit. Flags that the next instructions overwrite before anybody can see them are not computed; a compare and the
 * conditional jump behind it become one operation; short memory operands become part of their operation and the others get an
 * address operation in front.
 */
import { Bug } from "../../base/errors.ts";
import { ALL_FLAGS, DECODED, type Decoder } from "./decode.ts";
import { FORM, type Variants } from "./handlers.ts";
import { findFused, SPECIAL, SPECIAL_JCC } from "./specials.ts";
import { FS, MODE_64, reg, RSP, VBASE, ZERO } from "./state.ts";

const MAX = 96;

/** Where records go. */
export interface OpSink {
  /** Address of the next record. */
  readonly at: number;
  emit(
    h: number,
    ip: number,
    length: number,
    d: number,
    s: number,
    b: number,
    x: number,
    imm: number,
    disp: number,
  ): void;
  /** The operation at page offset `offset`, or 0. */
  entry(offset: number): number;
  /** The record just emitted wants the address of page offset `offset` in its immediate, once it is known. */
  link(at: number, offset: number): void;
}

/** An instruction that is told where its records begin. */
export interface Laid {
  readonly at: number;
  record: number;
}

const enum K {
  Plain,
  Jcc,
  Jmp,
  Call,
  Ret,
  Indirect,
  Bad,
}

/** One decoded instruction of the trace under construction. */
class Slot {
  row = 0;
  size = 0;
  form = 0;
  at = 0;
  length = 0;
  d = 0;
  s = 0;
  x = 0;
  imm = 0;
  immHigh = 0;
  hasMemory = false;
  base = 0;
  index = 0;
  scale = 0;
  disp = 0;
  segment = 0;
  addressBits = 0;
  repeat = 0;
  absolute = false;
  kind = K.Plain;
  /** For kind Bad: the special that raises. */
  bad = 0;
  live = true;
  /** A locked access to the stack. */
  barrier = false;
  /** Native code takes over behind it. */
  returns = false;
}

export class TraceBuilder {
  readonly #slots = Array.from({ length: MAX }, () => new Slot());
  /** Names of rows that need treatment of their own. */
  readonly #kinds: Uint8Array;
  readonly #isXchgNop: boolean[];
  readonly #fuse: (string | undefined)[];
  readonly #isNop: boolean[];
  readonly #isPop: boolean[];
  /** Page offset after the last instruction. */
  end = 0;
  /** Instructions of the last trace. */
  count = 0;

  constructor(readonly decoder: Decoder, readonly variants: Variants) {
    const rows = decoder.rows;
    this.#kinds = new Uint8Array(rows.length);
    this.#fuse = rows.map((r) => r.name === "CMP" || r.name === "TEST" ? r.name : undefined);
    this.#isNop = rows.map((r) => r.name === "NOP");
    this.#isPop = rows.map((r) => r.name === "POP" && r.op === "8F /0");
    this.#isXchgNop = rows.map((r) => r.op === "90 +r");
    rows.forEach((r, i) => {
      if (/^J[A-Z]+$/.test(r.name) && r.k !== undefined) this.#kinds[i] = K.Jcc;
      else if (r.name === "JMP" && r.args?.startsWith("J")) this.#kinds[i] = K.Jmp;
      else if (r.name === "CALL" && r.args?.startsWith("J")) this.#kinds[i] = K.Call;
      else if (r.name === "RET" && (r.op === "C3" || r.op === "C2")) this.#kinds[i] = K.Ret;
      else if ((r.name === "JMP" || r.name === "CALL") && r.args === "Ev") this.#kinds[i] = K.Indirect;
    });
  }

  /**
   * Decodes from page offset `offset`: `bytes[offset..limit)` is the page, and what follows it if the first instruction
   * crosses (then `crossing` and only that instruction is taken). `single`: one instruction, for stepping. Returns whether
   * the first instruction needs bytes beyond `limit`.
   */
  build(
    bytes: Uint8Array,
    page: number,
    offset: number,
    limit: number,
    mode: number,
    crossing: number,
    single: boolean,
    sink: OpSink,
  ): boolean {
    const n = this.#collect(bytes, page, offset, limit, mode, single || crossing >= 0, sink);
    if (n < 0) return true;
    this.count = n;
    this.#liveness(n);
    if (crossing >= 0) sink.emit(SPECIAL.XPAGE, offset, this.#slots[0]!.length, 0, 0, 0, 0, crossing, 0);
    const is64 = (mode & 3) === MODE_64;
    let open = true;
    for (let i = 0; i < n; i++) {
      const fused = i + 1 < n && !single ? this.#fusedWith(i, is64) : -1;
      const slot = this.#slots[i]!;
      open = this.#emit(slot, is64, single, sink, fused);
      if (slot.barrier && open) sink.emit(SPECIAL.FENCE, slot.at, slot.length, 0, 0, 0, 0, 0, 0);
    }
    if (open) {
      if (single) sink.emit(SPECIAL.STEP_END, this.end & 0xfff, 0, 0, 0, 0, 0, 0, this.end);
      else this.#goOn(sink);
    }
    return false;
  }

  /**
   * Lays a block of 64-bit code for native code to fall back on: instructions that follow each other in the page at `bytes[page..]`
   * and all can be decoded, then the way to what follows them. Each is told where its records begin. Behind those that `returns`
   * names there is a record of handler `native` whose address is yet to be filled in: gives them with those records.
   */
  layBlock<T extends Laid>(
    bytes: Uint8Array,
    page: number,
    block: readonly T[],
    returns: (i: T) => boolean,
    native: number,
    sink: OpSink,
  ): [T, number][] {
    const behind: [T, number][] = [];
    let open = true;
    for (let first = 0; first < block.length; first += MAX) {
      const part = block.slice(first, first + MAX), n = part.length;
      part.forEach((i, k) => this.#decodeAgain(bytes, page, i.at, returns(i), this.#slots[k]!));
      this.#liveness(n);
      for (let k = 0; k < n; k++) {
        const slot = this.#slots[k]!, next = slot.at + slot.length;
        const apart = k + 1 === n || slot.returns || this.#slots[k + 1]!.returns;
        part[k]!.record = sink.at;
        open = this.#emit(slot, true, false, sink, apart ? -1 : this.#fusedWith(k, true));
        if (slot.barrier && open) sink.emit(SPECIAL.FENCE, slot.at, slot.length, 0, 0, 0, 0, 0, 0);
        if (slot.returns && open && next < 4096) {
          behind.push([part[k]!, sink.at]);
          sink.emit(native, next, 0, 0, 0, 0, 0, 0, 0);
        }
        this.end = next;
      }
    }
    if (open) this.#goOn(sink);
    return behind;
  }

  #decodeAgain(bytes: Uint8Array, page: number, at: number, returns: boolean, slot: Slot): void {
    const d = this.decoder;
    if (d.decode(bytes, page + at, page + 4096, MODE_64) !== DECODED.OK) throw new Bug("Code has changed on the way");
    slot.at = at;
    slot.live = true;
    this.#take(slot);
    slot.kind = d.size === 64 ? this.#kinds[d.row]! : K.Plain;
    slot.returns = returns;
  }

  /** To what follows, wherever that is. */
  #goOn(sink: OpSink): void {
    const at = sink.at;
    sink.emit(SPECIAL.GOTO, 0, 0, 0, 0, 0, 0, this.end < 4096 ? sink.entry(this.end) : 0, this.end);
    if (this.end < 4096) sink.link(at, this.end);
  }

  /** Name of the first instruction of the last trace. */
  get firstName(): string {
    return this.decoder.rows[this.#slots[0]!.row]!.name;
  }

  /** Fills the slots; returns how many, or -1 if the first instruction is cut off. */
  #collect(
    bytes: Uint8Array,
    page: number,
    offset: number,
    limit: number,
    mode: number,
    one: boolean,
    sink: OpSink,
  ): number {
    const d = this.decoder, is64 = (mode & 3) === MODE_64;
    let at = offset, n = 0;
    while (n < MAX) {
      if (at >= 4096 || (n > 0 && sink.entry(at) !== 0)) break;
      const result = d.decode(bytes, page + at, page + limit, mode);
      if (result === DECODED.MORE) {
        if (n === 0) return -1;
        break;
      }
      const slot = this.#slots[n++]!;
      slot.at = at;
      slot.live = true;
      slot.returns = false;
      if (result !== DECODED.OK) {
        slot.kind = K.Bad;
        slot.bad = result === DECODED.TOO_LONG ? SPECIAL.TOO_LONG : SPECIAL.UNDEFINED;
        slot.length = 1;
        at += 1;
        break;
      }
      this.#take(slot);
      at += d.length;
      const row = d.rows[d.row]!;
      slot.kind = is64 && d.size === 64 ? this.#kinds[d.row]! : K.Plain;
      if (row.ends || one) break;
    }
    this.end = at;
    return n;
  }

  #take(slot: Slot): void {
    const d = this.decoder;
    slot.row = d.row;
    slot.size = d.size;
    slot.form = d.form;
    slot.length = d.length;
    slot.d = d.d;
    slot.s = d.s;
    slot.x = d.x;
    slot.imm = d.imm;
    slot.immHigh = d.immHigh;
    slot.hasMemory = d.hasMemory;
    slot.base = d.base;
    slot.index = d.index;
    slot.scale = d.scale;
    slot.disp = d.disp;
    slot.segment = d.segment;
    slot.addressBits = d.addressBits;
    slot.repeat = d.repeat;
    slot.absolute = d.absolute;
    slot.barrier = d.lock && d.hasMemory && d.base === reg(RSP);
    // POP [RSP + n] uses the stack pointer after the pop.
    if (d.hasMemory && d.base === reg(RSP) && this.#isPop[d.row]) slot.disp += d.size >> 3;
  }

  /** Backwards: which instructions' flags nobody sees. */
  #liveness(n: number): void {
    let live = ALL_FLAGS;
    for (let i = n - 1; i >= 0; i--) {
      const slot = this.#slots[i]!;
      if (slot.returns) live = ALL_FLAGS;
      if (slot.kind !== K.Plain) {
        live = ALL_FLAGS;
        continue;
      }
      const info = this.decoder.info[slot.row]!;
      const leaves = info.leaves || slot.hasMemory;
      if (slot.hasMemory && info.stores) live = ALL_FLAGS;
      if (info.dead && (info.writes & live) === 0) slot.live = false;
      else live &= ~info.kills;
      live |= info.reads;
      // A dead INC still needs nothing; a live one keeps CF, so it reads it.
      if (slot.live && info.writes !== 0 && info.writes !== ALL_FLAGS) live |= ALL_FLAGS & ~info.writes;
      if (leaves) live = ALL_FLAGS;
    }
  }

  /** The fused operation for slots i and i + 1, or -1. */
  #fusedWith(i: number, is64: boolean): number {
    const a = this.#slots[i]!, j = this.#slots[i + 1]!;
    if (j.kind !== K.Jcc || a.kind !== K.Plain || !is64) return -1;
    const name = this.#fuse[a.row];
    if (!name) return -1;
    const args = this.decoder.info[a.row]!.args;
    let form: string;
    const second = args[1]!.letter;
    if (a.hasMemory) {
      if (!this.#isShort(a) || a.index !== reg(ZERO)) return -1;
      form = args[0]!.letter === "E" ? (second === "I" ? "mi" : "mr") : "rm";
    } else form = second === "I" ? "ri" : "rr";
    return findFused(name, a.size, form, this.decoder.rows[j.row]!.k!);
  }

  /** Whether the address is [base + index + disp] without a segment base or address-size games. */
  #isShort(s: Slot): boolean {
    return s.hasMemory && !s.absolute && s.addressBits === 64 && s.segment < FS && this.#disp(s) !== undefined;
  }

  /** The displacement, with the instruction's own place added if RIP-relative; undefined if it does not fit. */
  #disp(s: Slot): number | undefined {
    if (s.base !== reg(VBASE)) return s.disp;
    const disp = s.disp + s.at + s.length;
    return disp === (disp | 0) ? disp : undefined;
  }

  /** Emits an instruction; returns whether the next one follows. */
  #emit(s: Slot, is64: boolean, single: boolean, sink: OpSink, fused: number): boolean {
    const row = this.decoder.rows[s.row];
    const x = s.index | s.scale;
    switch (s.kind) {
      case K.Bad:
        sink.emit(s.bad, s.at, 1, 0, 0, 0, 0, 0, 0);
        return false;
      case K.Jcc:
        if (this.#jump(SPECIAL_JCC + row!.k!, s, single, sink)) return true;
        break;
      case K.Jmp:
        if (this.#jump(SPECIAL.JMP, s, single, sink)) return false;
        break;
      case K.Call:
        if (this.#jump(SPECIAL.CALL, s, single, sink)) return false;
        break;
      case K.Ret:
        sink.emit(SPECIAL.RET, s.at, s.length, 0, 0, 0, 0, s.imm + 8, 0);
        return false;
      case K.Indirect: {
        const call = row!.name === "CALL";
        if (s.hasMemory) this.#address(s, is64, sink);
        sink.emit(
          s.hasMemory ? (call ? SPECIAL.CALL_M : SPECIAL.JMP_M) : call ? SPECIAL.CALL_R : SPECIAL.JMP_R,
          s.at,
          s.length,
          s.d,
          0,
          0,
          0,
          0,
          0,
        );
        return false;
      }
    }
    if (!row) return true;
    if (this.#isNop[s.row] || (this.#isXchgNop[s.row] && s.d === reg(0))) {
      // 90h is NOP, with any prefix; XCHG EAX, EAX would clear the upper half. Other rows called NOP may touch nothing either.
      if (!s.hasMemory || this.#isNop[s.row]) {
        sink.emit(SPECIAL.NOP, s.at, s.length, 0, 0, 0, 0, 0, 0);
        return true;
      }
    }
    if (fused >= 0) {
      sink.emit(fused, s.at, s.length, s.d, s.s, s.base, x, s.imm, s.hasMemory ? this.#disp(s)! : 0);
      return true;
    }
    if (row.string) {
      const h = this.variants.find(s.row, s.size, FORM.REG, s.live, is64);
      sink.emit(
        h,
        s.at,
        s.length,
        s.d,
        s.s,
        s.segment < 0 ? 3 : s.segment,
        s.addressBits >> 3,
        row.args?.startsWith("J") ? s.imm : s.repeat,
        0,
      );
      return !row.ends;
    }
    if (s.hasMemory && is64 && this.#isShort(s)) {
      const form = s.index === reg(ZERO) ? FORM.BASE : FORM.INDEX;
      const h = this.variants.find(s.row, s.size, form, s.live, is64);
      if (h >= 0) {
        sink.emit(h, s.at, s.length, s.d, s.s, s.base, form === FORM.INDEX ? x : s.x, s.imm, this.#disp(s)!);
        return !row.ends;
      }
    }
    if (s.hasMemory) this.#address(s, is64, sink);
    const h = this.variants.find(s.row, s.size, s.hasMemory ? FORM.EA : FORM.REG, s.live, is64);
    if (h < 0) sink.emit(SPECIAL.UNDEFINED, s.at, s.length, 0, 0, 0, 0, 0, 0);
    else sink.emit(h, s.at, s.length, s.d, s.s, reg(ZERO), s.x, s.imm, s.immHigh);
    return h >= 0 && !row.ends;
  }

  /** A relative jump of the loop; false if its displacement does not fit a record. */
  #jump(h: number, s: Slot, single: boolean, sink: OpSink): boolean {
    const offset = s.at + s.length + s.imm;
    if (offset !== (offset | 0)) return false;
    const at = sink.at;
    const near = offset >= 0 && offset < 4096 && !single;
    sink.emit(h, s.at, s.length, 0, 0, 0, 0, near ? sink.entry(offset) : 0, offset);
    if (near) sink.link(at, offset);
    return true;
  }

  /** The address operation of a memory operand. */
  #address(s: Slot, is64: boolean, sink: OpSink): void {
    const x = s.index | s.scale;
    const mem = this.decoder.info[s.row]!.mem!;
    // LEA wants the offset; every other operand without a size (an x87 environment, a far pointer) is in a segment.
    const plain = this.decoder.rows[s.row]!.name === "LEA";
    if (is64) {
      const segment = s.segment >= FS && !plain ? s.segment : 255;
      if (s.absolute) sink.emit(SPECIAL.EA_ABSOLUTE, s.at, s.length, 0, segment, 0, 0, s.imm, s.immHigh);
      else {
        const disp = this.#disp(s);
        if (s.addressBits === 32) sink.emit(SPECIAL.EA_32, s.at, s.length, 0, segment, s.base, x, 0, disp ?? s.disp);
        else if (disp === undefined) {
          sink.emit(SPECIAL.EA_FAR, s.at, s.length, 0, 0, s.base, 0, s.at + s.length, s.disp);
        } else if (segment !== 255) sink.emit(SPECIAL.EA_SEGMENT, s.at, s.length, 0, segment, s.base, x, 0, disp);
        else sink.emit(SPECIAL.EA, s.at, s.length, 0, 0, s.base, x, 0, disp);
      }
      return;
    }
    const bytes = memoryBytes(mem.size, s.size);
    const flags = bytes | (mem.access !== "r" ? 1 << 8 : 0) | (s.addressBits === 16 ? 1 << 9 : 0) |
      (plain || this.decoder.rows[s.row]!.elements ? 1 << 10 : 0);
    sink.emit(
      SPECIAL.EA_LEGACY,
      s.at,
      s.length,
      0,
      s.segment,
      s.absolute ? reg(ZERO) : s.base,
      s.absolute ? reg(ZERO) : x,
      flags,
      s.absolute ? s.imm : s.disp,
    );
  }
}

/** Bytes a memory operand covers, for the limit check. */
function memoryBytes(size: string, operandBits: number): number {
  switch (size) {
    case "b":
    case "ub":
      return 1;
    case "w":
      return 2;
    case "d":
      return 4;
    case "q":
      return 8;
    case "dq":
    case "u":
      return 16;
    case "qq":
      return 32;
    case "t":
      return 10;
    case "p":
      return (operandBits >> 3) + 2;
    case "s":
      return 6;
    case "a":
      return operandBits >> 2;
    case "":
      return 1;
    default:
      return operandBits >> 3;
  }
}
