/**
 * Native code of regions: docs/decisions/0023.
 *
 * Registers are where they are (registers.ts) at every border of a block, so a block that more than one way leads to can be
 * entered from anywhere: flags are written to the state there. A block with one way to it goes on with what is known there.
 */
import type { Decoder } from "../decode.ts";
import type { Variants } from "../handlers.ts";
import { type Block, doesNothing, End, fieldRegister, type Instruction, type Region } from "../jit/region.ts";
import { ITLB_ENTRIES, reg, S, VBASE } from "../state.ts";
import { ALU, Assembler, type Label } from "./assembler.ts";
import { Bmi } from "./bmi.ts";
import { Emitter, type Known } from "./emitter.ts";
import { Integer } from "./integer.ts";
import { ALL_FLAGS, FLAG, needs } from "./kept.ts";
import { findLiveness, type Liveness } from "./liveness.ts";
import { field, HOST, HOST_OF, STATE, T, U } from "./registers.ts";
import { SYSTEM } from "./system.ts";
import { Places } from "./places.ts";
import { emitRoutines, type Routines } from "./routines.ts";
import { Vector } from "./vector.ts";

export interface NativeHost {
  readonly decoder: Decoder;
  readonly variants: Variants;
  /** Base of the vCPU's state. */
  readonly cpu: number;
  /** The handler number of records that lead to native code. */
  readonly native: number;
  /** What the host's processor has, by the names that Linux gives it. */
  readonly features: ReadonlySet<string>;
}

/** Emits the instruction at hand, behind which so many of its block follow; false: it cannot be done as flags are. */
type EmitInstruction = (e: Emitter, remaining: number) => boolean;

export interface NativeCode {
  readonly code: Uint8Array;
  /** By block: where it can be entered with flags in the state, or -1. */
  readonly entries: Int32Array;
  /** Where control comes back behind an instruction that the interpreter does. */
  readonly resumes: ReadonlyMap<Instruction, number>;
}

/** These give all flags at once, so that a branch behind them needs no more. */
const GIVES_ALL = /^(ADD|OR|AND|SUB|XOR|CMP|TEST|NEG|V?U?COMIS[SD]|V?P?TEST(P[SD])?|V?PCMP[EI]STR[IM])$/,
  GIVES_CARRY = /^BT[SRC]?$/;

export class NativeCompiler {
  readonly places: Places;
  readonly #integer: Integer;
  readonly #vector: Vector;
  readonly #bmi: Bmi;
  #routines: Routines | undefined;

  constructor(readonly host: NativeHost) {
    this.places = new Places(host.decoder, host.variants);
    this.#integer = new Integer(host.decoder, host.variants, host.features);
    this.#vector = new Vector(host.decoder, host.variants, host.features);
    this.#bmi = new Bmi(host.decoder, host.variants, host.features);
  }

  /** What lies first in the arena, at host address `at`: the thunk is its first byte. */
  thunk(at: bigint): Uint8Array {
    const { cpu, native, features } = this.host;
    const { code, routines } = emitRoutines(at, cpu, native, features.has("avx"));
    this.#routines = routines;
    return code;
  }

  /** The interpreter does it, and control comes back behind it, unless it is the region's business to go elsewhere. */
  leavesAt(i: Instruction): boolean {
    const row = this.host.decoder.rows[i.row]!;
    return !doesNothing(row, i) && !this.emitterOf(i);
  }
  emitterOf(i: Instruction): EmitInstruction | undefined {
    const system = SYSTEM[this.host.decoder.rows[i.row]!.name];
    if (system) return (e, remaining) => system(e, i, remaining);
    return this.#integer.emitterOf(i) ?? this.#vector.emitterOf(i) ?? this.#bmi.emitterOf(i);
  }

  /**
   * `entryTable`: the page's entry points. `at`: where the code will lie. Each instruction's `record` is where the interpreter
   * does it and goes on from there, that of a conditional branch too: flags are in the state then. `next`: the region is one
   * instruction that ends in the page after its own, which must be that page of RAM.
   */
  compile(region: Region, entryTable: number, at: bigint, next = -1): NativeCode {
    return new Compilation(this, this.#routines!, region, entryTable, at, next).run();
  }
}

/** What a block goes on with that only one way leads to. */
interface Carried {
  readonly known: Known;
  /** Instructions before it that are not counted yet. */
  readonly debt: number;
  readonly label: Label | undefined;
}

class Compilation {
  readonly #a: Assembler;
  readonly #e: Emitter;
  readonly #host: NativeHost;
  readonly #live: Liveness;
  readonly #labels: Label[];
  /** Behind their count of instructions: what jumps here has counted them. */
  readonly #bodies: Label[];
  /** Only one way leads to them, and that is a direct one. */
  readonly #single: boolean[];
  readonly #done: boolean[];
  readonly #entries: Int32Array;
  readonly #resumes = new Map<Instruction, number>();
  readonly #emitters = new Map<Instruction, EmitInstruction | undefined>();
  readonly #work: { block: Block; carried: Carried }[] = [];
  #debt = 0;

  constructor(
    private readonly compiler: NativeCompiler,
    private readonly routines: Routines,
    private readonly region: Region,
    private readonly entryTable: number,
    at: bigint,
    private readonly next: number,
  ) {
    const { blocks } = region;
    this.#host = compiler.host;
    this.#a = new Assembler(at);
    this.#e = new Emitter(this.#a, compiler.host.cpu, routines);
    for (const b of blocks) for (const i of b.instructions) this.#emitters.set(i, compiler.emitterOf(i));
    this.#labels = blocks.map(() => this.#a.label());
    this.#bodies = blocks.map(() => this.#a.label());
    const ways = new Int32Array(blocks.length);
    ways[0] = 2;
    for (const b of blocks) {
      const returns = b.end === End.Call || b.end === End.IndirectCall;
      for (const to of successors(b)) ways[to]! += returns ? 2 : 1;
    }
    this.#single = [...ways].map((n) => n === 1);
    this.#live = findLiveness(region, compiler.host.decoder, (i) => this.#isLeft(i), this.#single);
    this.#done = blocks.map(() => false);
    this.#entries = new Int32Array(blocks.length).fill(-1);
  }

  #isLeft(i: Instruction): boolean {
    return !this.#emitters.get(i) && !doesNothing(this.#host.decoder.rows[i.row]!, i);
  }

  run(): NativeCode {
    this.compiler.places.beginRegion(this.entryTable + this.region.blocks[0]!.at);
    for (const b of this.region.blocks) this.#from(b);
    // Those whose one way is through an instruction of the interpreter's.
    for (const b of this.region.blocks) {
      this.#single[b.number] = false;
      this.#from(b);
    }
    this.#e.flushLater();
    return { code: this.#a.finish(), entries: this.#entries, resumes: this.#resumes };
  }

  /** The block and what only leads on from it. */
  #from(b: Block): void {
    if (this.#done[b.number] || this.#single[b.number]) return;
    this.#block(b, null);
    this.#drain();
  }
  #drain(): void {
    for (let next = this.#work.pop(); next; next = this.#work.pop()) this.#block(next.block, next.carried);
  }

  #block(b: Block, carried: Carried | null): void {
    const a = this.#a, e = this.#e, list = b.instructions;
    this.#done[b.number] = true;
    if (!carried || carried.label !== undefined) this.compiler.places.begin(this.entryTable + b.at);
    if (carried) {
      if (carried.label !== undefined) a.bind(carried.label);
      e.restore(carried.known);
      this.#debt = carried.debt + list.length;
    } else {
      a.bind(this.#labels[b.number]!);
      this.#entries[b.number] = a.at;
      e.restore({ pending: null, host: 0 });
      this.#debt = 0;
      this.#count(b);
      a.bind(this.#bodies[b.number]!);
    }
    if (list.length === 0) return this.#out(b.at);
    if (this.next >= 0) this.#crosses(list[0]!);
    for (let k = 0; k < list.length; k++) {
      const last = k === list.length - 1;
      if (last && b.end !== End.Fall && b.end !== End.Leave) break;
      if (!this.#instruction(b, list[k]!, k)) return;
    }
    this.#end(b, list[list.length - 1]!);
  }

  /** Takes a block's instructions from the budget, or leaves for it: with what flags are pending here. */
  #count(b: Block): void {
    const a = this.#a, e = this.#e, n = b.instructions.length;
    if (n === 0) return;
    const { pending } = e.flags, spent = a.label();
    e.count(n);
    a.jcc(8, spent);
    e.later(() => {
      a.bind(spent);
      // Who has anything left runs all of the block.
      a.aluMI(ALU.CMP, field(S.budget), -n, 32);
      a.jcc(13, this.#bodies[b.number]!);
      a.aluMI(ALU.ADD, field(S.budget), n, 32);
      e.flags.restore({ pending, host: 0 });
      e.flags.settle();
      this.#target(b.at);
      a.jmpTo(this.routines.leaveJump);
    });
  }

  /** The next page of the address space is what it was, or the interpreter looks. */
  #crosses(i: Instruction): void {
    const a = this.#a, e = this.#e, { cpu } = this.#host;
    const entry = (at: number) => ({ base: STATE, index: U, scale: 0, disp: at - cpu });
    e.begin(i, this.compiler.places.of(i), 1, ALL_FLAGS);
    const exit = e.exit();
    a.load(T, field(reg(VBASE)), 64);
    a.lea(T, { base: T, index: -1, scale: 0, disp: 4096 });
    a.movRR(U, T, 32);
    a.shiftRI(5, U, 12, 32);
    a.aluRI(ALU.AND, U, ITLB_ENTRIES - 1, 32);
    a.shiftRI(4, U, 4, 32);
    a.aluRM(ALU.ADD, U, field(S.itlb), 32);
    a.aluRM(ALU.CMP, T, entry(0), 64);
    a.jcc(5, exit);
    a.aluMI(ALU.CMP, entry(12), this.next, 32);
    a.jcc(5, exit);
    e.flags.host = 0;
  }

  /** Takes what is owed from the budget, where flags do not matter. */
  #pay(): void {
    if (this.#debt !== 0) this.#e.count(this.#debt);
    this.#debt = 0;
  }

  /** False if nothing follows it natively. */
  #instruction(b: Block, i: Instruction, k: number): boolean {
    const { decoder } = this.#host, e = this.#e, list = b.instructions, row = decoder.rows[i.row]!;
    const remaining = list.length - k;
    if (doesNothing(row, i)) {
      if (row.name === "PAUSE") this.#pause();
      return true;
    }
    if (decoder.info[i.row]!.reads === 0) this.#pay();
    const uncounted = remaining - this.#debt;
    let live = this.#live.after.get(i)!;
    // A branch that follows, after which nobody looks, finds them in the host's flags.
    if (b.end === End.Jcc && k === list.length - 2) {
      const next = list[k + 1]!, after = this.#live.after.get(next)!, wanted = needs(b.cc);
      if (
        after === 0 && (GIVES_ALL.test(row.name) || (GIVES_CARRY.test(row.name) && wanted === FLAG.C)) && !row.locked
      ) live = 0;
    }
    e.begin(i, this.compiler.places.of(i), uncounted, live);
    this.compiler.places.after(i);
    const emit = this.#emitters.get(i);
    if (emit && this.#emits(emit, remaining - 1)) return true;
    // The interpreter's.
    e.leave(i.record, uncounted);
    this.#debt = 0;
    if (emit || k === list.length - 1 && b.end === End.Leave) return false;
    this.#resumes.set(i, this.#a.at);
    e.restore({ pending: null, host: 0 });
    e.count(remaining - 1);
    return true;
  }
  /** Counted as the interpreter counts it; flags stay as they are. */
  #pause(): void {
    const a = this.#a;
    a.load(T, field(S.pauses), 32);
    a.lea(T, { base: T, index: -1, scale: 0, disp: 1 }, 32);
    a.store(field(S.pauses), T, 32);
    a.raw(0xf3, 0x90);
  }
  #emits(emit: EmitInstruction, remaining: number): boolean {
    const { at } = this.#a, done = emit(this.#e, remaining);
    if (!done) this.#a.at = at;
    // What reads flags has left them alone so far.
    return done;
  }

  #end(b: Block, i: Instruction): void {
    const a = this.#a, e = this.#e;
    switch (b.end) {
      case End.Fall:
        return this.#go(b.nextBlock, b.next);
      case End.Leave:
        return this.#out(b.next);
      case End.Jmp:
        return this.#go(b.targetBlock, b.target);
      case End.Jcc:
        return this.#branch(b, i);
      case End.Call: {
        this.#begin(i);
        this.#call(b, () => this.#goOut(b.target));
        return;
      }
      case End.IndirectCall: {
        this.#begin(i);
        this.#indirect(i);
        // The target waits on the host's stack while the guest's is translated.
        a.push(T);
        this.#call(b, () => a.jmpTo(this.routines.chain), true);
        return;
      }
      case End.IndirectJmp:
        this.#begin(i);
        this.#indirect(i);
        a.jmpTo(this.routines.chain);
        return;
      case End.Ret: {
        this.#begin(i);
        e.stack(0, 8, false);
        a.load(T, e.memory, 64);
        const rsp = HOST_OF[4]!, size = 8 + i.imm, exit = e.exit(), elsewhere = a.label();
        a.aluRM(ALU.CMP, T, { base: HOST.RSP, index: -1, scale: 0, disp: 8 }, 64);
        a.lea(rsp, { base: rsp, index: -1, scale: 0, disp: size });
        a.jcc(5, elsewhere);
        a.ret();
        e.later(() => {
          // What a caller has pushed is canonical, this may not be.
          a.bind(elsewhere);
          this.#compareCanonical();
          a.jccTo(4, this.routines.chainFresh);
          a.lea(rsp, { base: rsp, index: -1, scale: 0, disp: -size });
          a.jmp(exit);
        });
        return;
      }
    }
  }

  /** Before the branch of a block that looks at memory, or may fault: flags are written. */
  #begin(i: Instruction): void {
    this.#pay();
    this.#e.flags.settle();
    this.#e.begin(i, this.compiler.places.of(i), 1, 0);
  }
  /** T = the target of an indirect branch. */
  #indirect(i: Instruction): void {
    const a = this.#a, e = this.#e;
    if (i.hasMemory) {
      e.operand(8, false);
      a.load(T, e.memory, 64);
    } else a.movRR(T, e.source(fieldRegister(i.d), T));
    this.#canonical();
  }
  /** A target in T that is not canonical is the interpreter's. */
  #canonical(): void {
    this.#compareCanonical();
    this.#a.jcc(5, this.#e.exit());
  }
  /** Equal if T is. */
  #compareCanonical(): void {
    const a = this.#a;
    a.movRR(U, T);
    a.shiftRI(4, U, 16, 64);
    a.shiftRI(7, U, 16, 64);
    a.aluRR(ALU.CMP, U, T, 64);
  }

  /** `waits`: the target is on the host's stack. */
  #call(b: Block, go: () => void, waits = false): void {
    const a = this.#a, e = this.#e, rsp = HOST_OF[4]!;
    const frame = a.label(), deep = a.label(), enough = a.label();
    e.stack(-8, 8, true);
    a.load(U, field(reg(VBASE)), 64);
    a.lea(U, { base: U, index: -1, scale: 0, disp: b.next });
    a.store(e.memory, U, 64);
    a.lea(rsp, { base: rsp, index: -1, scale: 0, disp: -8 });
    if (waits) a.pop(T);
    a.aluRM(ALU.CMP, HOST.RSP, field(S.nativeLimit), 64);
    a.jcc(2, deep);
    a.bind(enough);
    a.push(U);
    a.call(frame);
    // Comes back here with the guest's return address in T.
    a.lea(HOST.RSP, { base: HOST.RSP, index: -1, scale: 0, disp: 8 });
    e.restore({ pending: null, host: 0 });
    if (b.next >= 4096) a.jmpTo(this.routines.chain);
    else {
      a.aluRI(ALU.AND, T, -4096, 64);
      a.store(field(reg(VBASE)), T, 64);
      if (b.nextBlock >= 0) a.jmp(this.#labels[b.nextBlock]!);
      else this.#out(b.next);
    }
    a.bind(frame);
    go();
    e.later(() => {
      // Too many callers: the ones there are no longer matter.
      a.bind(deep);
      a.load(HOST.RSP, field(S.nativeRsp), 64);
      a.jmp(enough);
    });
  }

  #branch(b: Block, i: Instruction): void {
    const a = this.#a, e = this.#e, wanted = needs(b.cc);
    if (!e.flags.revive(wanted)) {
      e.begin(i, this.compiler.places.of(i), 1 - this.#debt, 0);
      e.leave(i.record, 1 - this.#debt);
      this.#debt = 0;
      return;
    }
    const state = e.snapshot(), debt = this.#debt;
    const target = b.targetBlock;
    if (target >= 0 && this.#single[target] && !this.#done[target]) {
      const label = a.label();
      a.jcc(b.cc, label);
      this.#done[target] = true;
      this.#work.push({ block: this.region.blocks[target]!, carried: { known: state, debt, label } });
    } else if (target >= 0 && debt === 0 && !state.pending) {
      a.jcc(b.cc, this.#labels[target]!);
    } else {
      const label = a.label();
      a.jcc(b.cc, label);
      e.later(() => {
        a.bind(label);
        e.restore(state);
        this.#debt = debt;
        this.#edge(target, b.target);
      });
    }
    e.restore(state);
    this.#go(b.nextBlock, b.next);
  }

  /** Goes on with a block of the region, or out of it. */
  #go(to: number, offset: number): void {
    if (to >= 0 && this.#single[to] && !this.#done[to]) {
      this.#done[to] = true;
      return this.#block(this.region.blocks[to]!, {
        known: this.#e.snapshot(),
        debt: this.#debt,
        label: undefined,
      });
    }
    if (to >= 0 && !this.#done[to]) {
      // Nothing in between, if this is the time to emit it.
      this.#pay();
      this.#e.flags.settle();
      return this.#block(this.region.blocks[to]!, null);
    }
    this.#edge(to, offset);
  }
  #edge(to: number, offset: number): void {
    this.#pay();
    if (to < 0) return this.#out(offset);
    const target = this.region.blocks[to]!;
    if (this.#e.flags.pending && this.#live.atStart[to] === 0 && target.instructions.length > 0) {
      // Nobody looks at them there, but who has no time left to go there.
      this.#count(target);
      return this.#a.jmp(this.#bodies[to]!);
    }
    this.#e.flags.settle();
    this.#a.jmp(this.#labels[to]!);
  }

  /** To page offset `offset`, maybe outside of the page, with everything in its place. */
  #out(offset: number): void {
    this.#pay();
    this.#e.flags.settle();
    this.#goOut(offset);
  }
  #goOut(offset: number): void {
    const a = this.#a;
    if (offset < 0 || offset >= 4096) {
      this.#target(offset);
      return a.jmpTo(this.routines.chain);
    }
    const none = a.label(), { cpu, native } = this.#host;
    a.load(U, { base: STATE, index: -1, scale: 0, disp: this.entryTable + 4 * offset - cpu }, 32);
    a.aluMI(ALU.CMP, { base: STATE, index: U, scale: 0, disp: -cpu }, native, 16);
    a.jcc(5, none);
    a.jmpM({ base: STATE, index: U, scale: 0, disp: 8 - cpu });
    this.#e.later(() => {
      a.bind(none);
      this.#target(offset);
      a.jmpTo(this.routines.leaveJump);
    });
  }
  /** T = the linear address of a page offset. */
  #target(offset: number): void {
    this.#a.load(T, field(reg(VBASE)), 64);
    if (offset !== 0) this.#a.lea(T, { base: T, index: -1, scale: 0, disp: offset });
  }
}

function successors(b: Block): number[] {
  return [b.targetBlock, b.nextBlock].filter((n) => n >= 0);
}
