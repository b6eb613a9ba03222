/**
 * What the code of every instruction is made with: operands, memory, and ways out.
 *
 * An address is worked out into T, and translated there by one comparison with the MICRO table (docs/decisions/0016); where that
 * fails, out of line, the TLB is asked, and where that fails the interpreter does the instruction. So once memory has been
 * translated nothing can fail: an instruction translates first, then changes registers.
 */
import { Bug } from "../../../base/errors.ts";
import { fieldRegister, hasBase, type Instruction, isRegister } from "../jit/region.ts";
import { STACK } from "./places.ts";
import { MICRO_HOSTS, reg, S, VBASE } from "../state.ts";
import { ALU, type Assembler, type At, type Host, type Label } from "./assembler.ts";
import { Flags } from "./kept.ts";
import { field, HOST, HOST_OF, MICRO_TABLE, slot, STATE, T, U } from "./registers.ts";
import { type Routines, VECTORS } from "./routines.ts";

/** AH, CH, DH, BH. */
export const isHigh = (fieldOf: number) => (fieldOf & 7) === 1;

/** What is known where code goes on. */
export type Known = ReturnType<Flags["snapshot"]> & { readonly vectors: number };

export class Emitter {
  readonly flags: Flags;
  /** Code that hardly ever runs, behind all other. */
  readonly #later: (() => void)[] = [];
  /** The instruction at hand. */
  i!: Instruction;
  /** The place in MICRO of its memory operand. */
  place = 0;
  /** Instructions of the block from this one on that have been taken from the budget already, and have not run. */
  uncounted = 0;
  /** Flags that somebody may see after the instruction. */
  live = 0;
  /** What is known to be in the host's vector registers: S.vectorsIn is that, or more. */
  vectors: number = VECTORS.NONE;
  /** Where the instruction at hand is left to the interpreter, once somebody needs that. */
  #exit: { label: Label; pending: Flags["pending"]; uncounted: number; record: number } | undefined;

  constructor(readonly a: Assembler, readonly cpu: number, readonly routines: Routines) {
    this.flags = new Flags(a);
  }

  begin(i: Instruction, place: number, uncounted: number, live: number): void {
    this.i = i;
    this.place = place;
    this.uncounted = uncounted;
    this.live = live;
    this.#exit = undefined;
  }

  later(emit: () => void): void {
    this.#later.push(emit);
  }
  flushLater(): void {
    for (let k = 0; k < this.#later.length; k++) this.#later[k]!();
    this.#later.length = 0;
  }

  // ---- operands ----------------------------------------------------------------------------------------------------------

  /** The host's register with guest register `n`: its own, or `temporary`, loaded whole. */
  source(n: number, temporary: Host = U): Host {
    const h = HOST_OF[n]!;
    if (h >= 0) return h;
    this.a.load(temporary, slot(n), 64);
    return temporary;
  }
  /** Guest register `n` gets what is in host register `from`: 32 bits are zero-extended there already, or are from now on. */
  set(n: number, from: Host, size: number): void {
    const h = HOST_OF[n]!;
    this.flags.beforeWrite(n);
    if (h >= 0) {
      if (size === 8) this.a.rr(8, 0, 0x88, from, h, true, true);
      else this.a.movRR(h, from, size);
    } else {
      if (size === 32) this.a.movRR(from, from, 32);
      this.a.store(slot(n), from, size === 32 ? 64 : size);
    }
  }
  /** What is at T in the machine's memory. */
  get memory(): At {
    return { base: STATE, index: T, scale: 0, disp: -this.cpu };
  }

  // ---- addresses ---------------------------------------------------------------------------------------------------------

  /** The operand's parts as a host address; T and U may be used for them. Of LEA: without a segment. */
  addressOf(): At {
    const i = this.i, a = this.a;
    if (i.base === reg(VBASE)) {
      a.load(T, field(reg(VBASE)), 64);
      return { base: T, index: -1, scale: 0, disp: i.disp + i.at + i.length };
    }
    const base = isRegister(i.base) ? fieldRegister(i.base) : -1;
    const index = isRegister(i.index) ? fieldRegister(i.index) : -1;
    if (index < 0) {
      if (base < 0) {
        a.movRI(T, i.disp);
        return { base: T, index: -1, scale: 0, disp: 0 };
      }
      return { base: this.source(base, T), index: -1, scale: 0, disp: i.disp };
    }
    const x = this.source(index, T);
    if (base >= 0) return { base: this.source(base, U), index: x, scale: i.scale, disp: i.disp };
    if (i.scale === 0) return { base: x, index: -1, scale: 0, disp: i.disp };
    // An address without a base: the index moves into T, shifted.
    if (x !== T) a.movRR(T, x);
    a.shiftRI(4, T, i.scale, 64);
    this.flags.host = 0;
    return { base: T, index: -1, scale: 0, disp: i.disp };
  }
  #address(): void {
    const i = this.i, a = this.a;
    if (i.absolute) {
      a.movRI64(T, (BigInt(i.immHigh | 0) << 32n) | BigInt(i.imm >>> 0));
      if (i.addressBits === 32) a.movRR(T, T, 32);
    } else {
      const m = this.addressOf();
      if (m.index >= 0 || m.disp !== 0) a.lea(T, m, i.addressBits);
      else if (m.base !== T || i.addressBits === 32) a.movRR(T, m.base, i.addressBits);
    }
    if (hasBase(i.segment)) a.aluRM(ALU.ADD, T, field(S.segBase + 8 * i.segment), 64);
  }
  /** The memory operand: T becomes what `memory` needs. Keeps U unless a part of the address stays in the state. */
  operand(bytes: number, write: boolean): void {
    this.#address();
    this.#translate(bytes, write, this.place);
  }
  /** The stack at the guest's RSP plus `disp`. */
  stack(disp: number, bytes: number, write: boolean): void {
    const rsp = HOST_OF[4]!;
    if (disp === 0) this.a.movRR(T, rsp);
    else this.a.lea(T, { base: rsp, index: -1, scale: 0, disp });
    this.#translate(bytes, write, STACK);
  }
  /** The stack at guest register `n`, for LEAVE. */
  stackAt(n: number, bytes: number): void {
    this.a.movRR(T, this.source(n, T));
    this.#translate(bytes, false, STACK);
  }

  #translate(bytes: number, write: boolean, place: number): void {
    const a = this.a, way = 8 * (2 * place + (write ? 1 : 0));
    const micro = (disp: number) => ({ base: MICRO_TABLE, index: -1, scale: 0, disp });
    const slow = a.label(), hit = a.label(), exit = this.exit();
    this.flags.host = 0;
    a.aluRM(ALU.SUB, T, micro(way), 64);
    a.aluRI(ALU.CMP, T, 4096 - bytes, 64);
    a.jcc(7, slow);
    a.aluRM(ALU.ADD, T, micro(way + MICRO_HOSTS), 64);
    a.bind(hit);
    const routine = this.routines.translate.get(`${bytes}${write}`);
    if (routine === undefined) throw new Bug(`No translation of ${bytes} bytes`);
    this.later(() => {
      a.bind(slow);
      a.push(HOST.RAX);
      a.movRI(HOST.RAX, way);
      a.callTo(routine);
      a.pop(HOST.RAX);
      a.jmp(hit);
      a.pop(HOST.RAX);
      a.jmp(exit);
    });
  }

  // ---- ways out ----------------------------------------------------------------------------------------------------------

  /** Where the interpreter takes over at this instruction, with everything as before it. */
  exit(): Label {
    const { pending } = this.flags, known = this.#exit;
    if (known && known.pending === pending) return known.label;
    const a = this.a, label = a.label(), { uncounted } = this, { record } = this.i;
    this.#exit = { label, pending, uncounted, record };
    this.later(() => {
      a.bind(label);
      this.flags.restore({ pending, host: 0 });
      this.leave(record, uncounted);
    });
    return label;
  }
  /** Leaves for a record; so many instructions of the block have not run. */
  leave(record: number, uncounted: number): void {
    const a = this.a;
    this.flags.settle();
    a.storeI(field(S.resumeOp), record, 32);
    if (uncounted !== 0) a.aluMI(ALU.ADD, field(S.budget), uncounted, 32);
    a.jmpTo(this.routines.leaveResume);
  }
  /** What the next instruction can go on with. */
  snapshot(): Known {
    return { ...this.flags.snapshot(), vectors: this.vectors };
  }
  /** Without `vectors`: control may have come from anywhere. */
  restore(known: Omit<Known, "vectors"> & Partial<Known>): void {
    this.flags.restore(known);
    this.vectors = known.vectors ?? VECTORS.NONE;
  }
  count(instructions: number): void {
    if (instructions === 0) return;
    this.a.aluMI(ALU.SUB, field(S.budget), instructions, 32);
    this.flags.host = 0;
  }
}
