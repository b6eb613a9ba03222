/**
 * Lowering: a region becomes a WebAssembly function of the signature REGION (region_state.ts), and one with the signature of a
 * handler, (cpu, op, ea) → status, through which the interpreter enters it.
 *
 * Rows that are hot or simple are expanded in place from their semantics; the others are calls of their tier 0 handlers, with
 * registers and flags written to the state before and read back after. A call of guest code calls the region of its target, and
 * goes on if that comes back to the right place.
 */
import { Bug } from "../../../base/errors.ts";
import type { Code, Signature, Var } from "../../../wasm/code.ts";
import { type Func, Module } from "../../../wasm/module.ts";
import { i32, i64, type Value } from "../../../wasm/value.ts";
import { type Arg, argBits, isMemoryLetter } from "../arg.ts";
import { FORM } from "../handlers.ts";
import type { Operand } from "../operand.ts";
import { type CpuFuncs, STATUS } from "../ops.ts";
import { ENTRY_TABLE, EXC, MAX_DEPTH, OP, reg, RSP, S, VBASE } from "../state.ts";
import { CHANGES_TLB, rowsInPlace, STEPS } from "./inline_rows.ts";
import { constant, JitOps } from "./jit_ops.ts";
import { HANDLERS, LEFT, type Links, REGION, REGIONS, RegionState } from "./region_state.ts";
import { importFunctions, type RegionHost, type RegionPlaces } from "./region_host.ts";
import { emitEntry, HANDLER } from "./entry.ts";
import { findRegisters } from "./used_registers.ts";
import { Memory, notWritable, Register, Vector } from "./operands.ts";
import { KeptFlags, type Known } from "./kept_flags.ts";
import {
  type Block,
  constantCount,
  doesNothing,
  End,
  fieldRegister,
  hasBase,
  type Instruction,
  isRegister,
  type Region,
} from "./region.ts";
import { findGroups, type Uses } from "./groups.ts";
import { findPlaces, type Places } from "./places.ts";
import { UNIT } from "../units.ts";
import { Structure } from "./structure.ts";

/** Spreads numbers that lie close together. */
const spread = (n: number) => Math.imul(n, 0x9e37_79b1) >>> 12;

/** Rows that do nothing after they have stored. */
const STORES =
  /^(MOV|MOVBE|SET[A-Z]+|V?MOV[AU]P[SD]|V?MOVDQ[AU]|V?MOVNT(DQ|PS|PD|I|Q)|V?MOV[QD]|V?MOVS[SD]|V?MOV[LH]P[SD])$/;

export class RegionCompiler {
  readonly #inline: boolean[];

  constructor(private readonly host: RegionHost) {
    this.#inline = rowsInPlace(host);
  }

  /**
   * The module of one region, with the exports "handler" and "region". Without `places`, which are a vCPU's own, it imports them.
   * `salt` is a number that other regions hardly have.
   */
  compile(region: Region, salt: number, places: RegionPlaces | null): Uint8Array<ArrayBuffer> {
    const m = new Module();
    m.importMemory("env", "memory", this.host.pages, 65536);
    const rows = this.host.decoder.rows;
    const vectors = region.blocks.some((b) => b.instructions.some((i) => rows[i.row]!.unit && this.#inline[i.row]));
    const f = importFunctions(m, this.host, vectors);
    m.importTable("env", "handlers");
    m.importTable("env", "regions");
    const signature = m.signature(REGION.params, REGION.results);
    const place = (name: keyof RegionPlaces) => places ? i32(places[name]) : m.importGlobal("env", name, "i32");
    const links: Links = {
      entryTable: place("entryTable"),
      records: place("records"),
      firstRegion: this.host.firstRegion,
      signature,
      salt: spread(salt),
    };
    const own = m.declare("region", REGION.params, REGION.results);
    const handler = m.signature(HANDLER, ["i32"]);
    m.define(own, (c) => new Lowering(this.host, this.#inline, region, links, own, c, f, handler).emit());
    m.export(own);
    m.export(m.func("handler", HANDLER, ["i32"], (c) => emitEntry(c, own, this.host.cpu)));
    return m.bytes(false);
  }
}

class Lowering {
  readonly #state: RegionState;
  readonly #ea: Var;
  readonly #structure: Structure;
  /** By block where ways come together: what is known of the flags on all of those so far. */
  readonly #arrived = new Map<number, Known>();
  /** The block to come goes on where the last edge was: what is known there holds. */
  #carried = false;
  /** By block: what may be dirty where it begins. */
  #dirty!: Int32Array;
  #places!: Map<Instruction, Places>;
  #groups!: Map<Instruction, Uses>;
  /** A vector instruction before in the block has made sure that they do not trap. */
  #unitsChecked = 0;
  /** General registers that the block has given values which may point anywhere. */
  #computed = 0;

  constructor(
    private readonly host: RegionHost,
    private readonly inline: readonly boolean[],
    private readonly region: Region,
    private readonly links: Links,
    private readonly own: Func,
    private readonly c: Code,
    private readonly f: CpuFuncs,
    private readonly handler: Signature,
  ) {
    this.#state = new RegionState(c, host.cpu, f, host.exact);
    this.#ea = c.variable("i64");
    this.#structure = new Structure({
      successors: region.blocks.map((b) => {
        const list: number[] = [];
        if (b.targetBlock >= 0) list.push(b.targetBlock);
        // Twice if both ways lead there: each is an edge.
        if (b.nextBlock >= 0) list.push(b.nextBlock);
        list.push(...b.jumps.map((jump) => jump.block));
        return list;
      }),
    });
  }

  emit(): void {
    const s = this.#state;
    this.#places = findPlaces(
      this.region,
      this.host,
      this.#structure.sequence,
      this.links.salt,
    );
    this.#groups = findGroups(this.region, this.host, this.inline, this.#structure);
    this.#dirty = findRegisters(this.region, this.host, this.inline, s);
    s.begin();
    s.within(this.links, () => this.#structure.emit(this.c, (n) => this.#block(this.region.blocks[n]!)));
  }

  #block(b: Block): void {
    const c = this.c, s = this.#state;
    const list = b.instructions;
    s.budget.set(s.budget.get().sub(list.length));
    if (!this.#carried) {
      s.flags.known = this.#structure.isHeader(b.number) ? null : this.#arrived.get(b.number) ?? null;
      this.#unitsChecked = 0;
    }
    this.#carried = false;
    this.#computed = 0;
    s.dirty = this.#dirty[b.number]!;
    let stopped = false;
    for (let k = 0; k < list.length && !stopped; k++) {
      const i = list[k]!, remaining = list.length - 1 - k;
      const last = k === list.length - 1;
      if (last && b.end !== End.Fall && b.end !== End.Leave) break;
      c.scope(() => {
        stopped = this.#instruction(i, remaining, last && b.end === End.Leave);
        // One that is in one step is a barrier by itself.
        if (i.barrier && !stopped && !this.host.decoder.rows[i.row]!.locked) c.fence();
      });
    }
    if (stopped) return;
    if (b.end === End.Leave) {
      // The last instruction never just continues; if it does all the same, look its successor up.
      return this.#exitTo(b.next);
    }
    if (list.length === 0) return this.#exitTo(b.at);
    const i = list[list.length - 1]!;
    switch (b.end) {
      case End.Fall:
        return this.#edge(b, b.nextBlock, b.next, false);
      case End.Jmp:
        return this.#edge(b, b.targetBlock, b.target, true);
      case End.Jcc: {
        const o = this.#ops(i, 64, true, 0);
        const take = o.cond(b.cc);
        c.if(take, () => this.#edge(b, b.targetBlock, b.target, true));
        return this.#edge(b, b.nextBlock, b.next, false);
      }
      case End.Call:
      case End.IndirectCall:
        return this.#call(b, i);
      case End.Ret: {
        const o = this.#ops(i, 64, true, 0);
        o.atStack(this.#places.get(i)!.stack);
        const sp = o.gpr(RSP);
        const t = o.read(sp, 64);
        // To who called: only what has changed is written, and the flags as they are known to be here.
        const { known } = s.flags, after = sp.add(i.imm + 8);
        c.mostly(t.eq(s.back), () => {
          c.mostly(s.budget.get().geS(0), () => {
            s.flags.settle();
            s.spill(s.dirty, false);
            c.return(s.budget.get(), after);
          });
          s.flags.known = known;
        }, () => o.gpIf(t.shl(16).shrS(16).ne(t)));
        o.setGpr(RSP, after);
        return this.#exit(t);
      }
      case End.IndirectJmp:
        return this.#jump(b, i);
    }
  }

  /** A jump through a register or memory: to where it is known to go, or out. */
  #jump(b: Block, i: Instruction): void {
    const c = this.c, s = this.#state, o = this.#ops(i, 64, true, 0);
    const t = this.#target(o, i);
    s.flags.place();
    if (b.jumps.length > 0) {
      const last = Math.max(...b.jumps.map((jump) => jump.id));
      const cases = Array.from({ length: last + 1 }, (_, id) => b.jumps.find((jump) => jump.id === id));
      const offset = c.let(t.sub(s.vbase));
      c.mostly(offset.ltU(4096), () => {
        const id = c.ld8u(offset.lo().add(this.links.entryTable), ENTRY_TABLE.TARGETS);
        const go = cases.map((jump) => () => jump ? this.#edge(b, jump.block, jump.offset, true) : s.goOnAt(t));
        c.switch(id, go, () => s.goOnAt(t));
      });
    }
    s.goOnAt(t);
  }

  /** The checked target of a jump or call through a register or memory. */
  #target(o: JitOps, i: Instruction): Value {
    let t: Value;
    if (i.hasMemory) {
      this.#address(o, i);
      t = o.read(this.#ea.get(), 64);
    } else t = o.gpr(fieldRegister(i.d));
    o.gpIf(t.shl(16).shrS(16).ne(t));
    return t;
  }

  #ops(i: Instruction, size: number, live: boolean, remaining: number): JitOps {
    const o = new JitOps(this.c, this.f, this.#state, this.#ea, size, live);
    o.place_ = { record: i.record, at: i.at, length: i.length, remaining, imm: i.imm, fields: [i.d, i.s, i.x] };
    o.join(this.#groups.get(i));
    return o;
  }

  /** One instruction that is not the block's branch. True if nothing can follow. */
  #instruction(i: Instruction, remaining: number, ends: boolean): boolean {
    const s = this.#state;
    const row = this.host.decoder.rows[i.row]!;
    if (row.name === "PAUSE") this.c.st32(s.cpu, this.c.ld32(s.cpu, S.pauses).add(1), S.pauses);
    if (doesNothing(row, i)) return false;
    // MOVQ to a register clears its upper half: the row writes it by itself.
    const whole = row.op === "66 0F D6 /r" && !i.hasMemory;
    if (!this.inline[i.row] || whole || (row.modes && i.size === 16)) return this.#cold(i, remaining, ends);
    const unit = row.unit === "sse" ? UNIT.SSE : row.unit === "avx" ? UNIT.AVX : 0;
    if ((unit & ~this.#unitsChecked) !== 0) {
      // Only whole instructions of tier 0 change what traps, and they look their successor up.
      this.#unitsChecked |= unit;
      const { dirty } = s, { known } = s.flags;
      this.c.rarely(this.c.ld32(this.#state.cpu, S.unitTraps).and(unit), () => void this.#cold(i, remaining, false));
      s.flags.known = known;
      s.dirty = dirty;
    }
    const o = this.#ops(i, i.size, i.live || !row.flags, remaining);
    const args = this.host.variants.args[i.row]!;
    o.locked = !!row.locked;
    const memory = i.hasMemory && args.some((a) => isMemoryLetter(a.letter));
    if (memory) this.#address(o, i);
    else if (/^(PUSH|POP|LEAVE)$/.test(row.name)) o.atStack(this.#places.get(i)!.stack);
    // A count of zero leaves flags alone: unless the count is known, it is not known after it how they are kept.
    const maybe = o.flagsLive && !!row.maybe && constantCount(row, i) === undefined;
    if (maybe) {
      s.flags.place();
      o.maybe = true;
    }
    if (STORES.test(row.name)) o.afterStore = () => {};
    else if (row.name === "PUSH") o.afterStore = () => o.setGpr(RSP, s.register(RSP).get().sub(8));
    if (row.cpl0) o.gpIf(this.c.ld32(this.#state.cpu, S.cpl).bool());
    row.sem(o, ...args.map((a) => this.#operand(o, i, a)));
    if (maybe) s.flags.known = null;
    this.#noteComputed(i);
    if (CHANGES_TLB.has(row.name)) s.lookAtTlb();
    if (o.stores) this.#checkEpoch(o, i, remaining);
    return false;
  }

  /** A register that has just been loaded or worked out points anywhere; one that steps on, mostly to the page as before. */
  #noteComputed(i: Instruction): void {
    const { name } = this.host.decoder.rows[i.row]!, args = this.host.variants.args[i.row]!;
    if (STEPS.test(name) || ((name === "ADD" || name === "SUB") && args[1]!.letter === "I")) return;
    for (const a of args) {
      if (a.access === "r" || a.slot < 0 || !"ERGZBA".includes(a.letter) || (isMemoryLetter(a.letter) && i.hasMemory)) {
        continue;
      }
      this.#computed |= 1 << fieldRegister(a.slot === 0 ? i.d : a.slot === 1 ? i.s : i.x);
    }
  }

  /** After a store: if decoded code changed, leave with the next instruction to be looked up. */
  #checkEpoch(o: JitOps, i: Instruction, remaining: number): void {
    const c = this.c, s = this.#state;
    c.rarely(s.slow.get(), () => {
      s.slow.set(0);
      c.if(c.ld32(this.#state.cpu, S.codeEpoch).ne(s.epoch.get()), () => o.exitTo(i.at + i.length, remaining));
    });
  }

  /** ea = the linear address of the memory operand. */
  #address(o: JitOps, i: Instruction): void {
    // LEA wants the offset; every other operand is in a segment.
    const plain = this.host.decoder.rows[i.row]!.name === "LEA";
    const segment = hasBase(i.segment) && !plain;
    let a: Value;
    if (i.absolute) {
      a = constant(i.imm, i.immHigh, 64);
    } else if (i.base === reg(VBASE)) {
      a = this.#state.vbase.add(i.disp + i.at + i.length);
    } else {
      const base = isRegister(i.base) ? this.#state.register(fieldRegister(i.base)).get() : i64(0);
      const index = isRegister(i.index) ? this.#state.register(fieldRegister(i.index)).get().shl(i.scale) : i64(0);
      a = base.add(index).add(i.disp);
    }
    if (i.addressBits === 32) a = a.and(0xffff_ffff);
    if (segment) {
      a = this.c.ld64(this.#state.cpu, S.segBase + i.segment * 8).add(a);
    }
    o.way = this.#places.get(i)!.operand;
    o.roves = isRegister(i.index) || (isRegister(i.base) && (this.#computed & (1 << fieldRegister(i.base))) !== 0);
    this.#ea.set(a);
  }

  #operand(o: JitOps, i: Instruction, a: Arg): Operand | Value {
    const bits = argBits(a, i.size);
    if (isMemoryLetter(a.letter) && (i.hasMemory || a.letter === "M")) {
      if (a.letter === "M" && a.size === "") return this.#ea.get();
      return new Memory(o, this.#ea, bits, a.size === "dq");
    }
    switch (a.letter) {
      case "E":
      case "R":
      case "G":
      case "Z":
      case "B":
      case "A":
        return new Register(o, bits, a.slot === 0 ? i.d : a.slot === 1 ? i.s : i.x);
      case "CL":
        return new Register(o, 8, reg(1));
      case "V":
      case "W":
      case "U":
      case "H":
        return new Vector(o, a.slot === 0 ? i.d : a.slot === 1 ? i.s : i.x, bits);
      case "I":
      case "1": {
        const value = constant(
          i.imm,
          a.size === "q" ? i.immHigh : i.imm >> 31,
          a.letter === "1" ? 8 : a.size === "q" ? 64 : bits,
        );
        return { bits, isMemory: false, get: () => value, set: notWritable, update: notWritable };
      }
      default:
        throw new Bug(`No operand ${a.letter}${a.size} in a region`);
    }
  }

  /** A call of the tier 0 handler. */
  #cold(i: Instruction, remaining: number, ends: boolean): boolean {
    const c = this.c, s = this.#state, host = this.host, row = host.decoder.rows[i.row]!;
    const o = this.#ops(i, i.size, true, remaining);
    if (i.hasMemory && !row.string) this.#address(o, i);
    else if (!i.hasMemory || row.string) this.#ea.set(0);
    const form = i.hasMemory && !row.string && host.variants.args[i.row]!.some((a) => isMemoryLetter(a.letter))
      ? FORM.EA
      : FORM.REG;
    const h = host.variants.find(i.row, i.size, form, true, true);
    s.flags.settle();
    if (h < 0) {
      o.fault(EXC.UD);
      return true;
    }
    s.spill(s.dirty, true);
    const record = c.let(this.links.records.add(o.place_.record));
    c.st32(s.cpu, record, S.curOp);
    c.st32(s.cpu, s.budget.get().add(remaining), S.budget);
    const entry = host.tableEntry(h);
    if (entry < 0) throw new Bug(`${row.name} has no function`);
    const args = [s.cpu, record, this.#ea.get()];
    const [status] = c.callIndirectOf(HANDLERS, this.handler, i32(entry), ...args) as [Value];
    s.budget.set(c.ld32(s.cpu, S.budget).sub(remaining));
    c.if(status, () => {
      // The state is complete; nothing of ours may overwrite it.
      if (remaining > 0) s.exitAdjust.set(remaining);
      else if (ends) c.if(status.eq(STATUS.JUMP), () => s.goOnAfterHandler());
      s.left(status);
    });
    s.reload(true);
    s.lookAtTlb();
    c.rarely(c.ld32(s.cpu, S.codeEpoch).ne(s.epoch.get()), () => {
      s.jumpOut_(i.at + i.length, remaining, false);
    });
    if (ends) this.#exitTo(i.at + i.length);
    return ends;
  }

  /** A call: push, run the target's region, go on if it returns here. */
  #call(b: Block, i: Instruction): void {
    const c = this.c, s = this.#state, cpu = this.#state.cpu;
    const o = this.#ops(i, 64, true, 0);
    const t = b.end === End.Call ? c.let(s.vbase.add(b.target)) : this.#target(o, i);
    const back = o.nextLinear();
    o.atStack(this.#places.get(i)!.stack);
    const sp = c.let(o.gpr(RSP).sub(8));
    // Where decoded code has changed by this, the target is looked up before anything is run.
    o.afterStore = () => {
      o.setGpr(RSP, sp);
      s.flags.place();
      s.goOnAt(t);
    };
    o.write(sp, 64, back);
    o.setGpr(RSP, sp);
    if (b.nextBlock < 0) return this.#exit(t);
    const first = this.region.blocks[0]!, itself = b.end === End.Call && b.target === first.at;
    // Nobody sees the flags where it calls itself, if the first thing that it does is to set them.
    if (itself && first.liveIn === 0) s.flags.place();
    else s.flags.settle();
    s.spill(s.dirty, false);
    c.block((done) => {
      c.block((none) => {
        if (s.exact) s.ifSpent(() => c.br(none));
        c.brIf(none, s.depth.geU(MAX_DEPTH), false);
        const args = (page: Value) => [s.where.add(1), s.budget.get(), page, back, sp] as const;
        let results: Value[];
        // No code has changed since it was entered: it need not look itself up.
        if (itself) results = c.call(this.own, ...args(s.vbase));
        else {
          const { op, page } = b.end === End.Call && b.target >= 0 && b.target < 4096
            ? { op: c.ld32(this.links.entryTable, b.target * 4), page: s.vbase }
            : s.recordAt(this.links, t, none);
          c.brIf(none, op.eqz(), false);
          const h = c.ld16u(op, OP.h);
          c.brIf(none, h.ltU(this.links.firstRegion), false);
          results = c.callIndirectOf(REGIONS, this.links.signature, h.sub(this.links.firstRegion), ...args(page));
        }
        const [budget, rsp] = results as [Value, Value];
        c.rarely(budget.ltS(0), () => c.return(LEFT, 0));
        s.budget.set(budget);
        s.register(RSP).set(rsp);
        c.br(done);
      });
      s.goOnAt(t);
    });
    s.flags.inState();
    c.st64(cpu, s.vbase, reg(VBASE));
    s.reload(false);
    s.lookAtTlb();
    c.rarely(c.ld32(cpu, S.codeEpoch).ne(s.epoch.get()), () => s.jumpOut_(b.next, 0, false));
    this.#edge(b, b.nextBlock, b.next, false);
  }

  /** Goes on with a block of the region, or leaves to a page offset. Where it goes round, the budget is looked at. */
  #edge(b: Block, to: number, offset: number, jumped: boolean): void {
    const s = this.#state, from = b.number;
    if (to < 0 || !this.#structure.expressible(from, to)) return this.#exitTo(offset, jumped);
    if (s.exact ? jumped : this.#structure.isBackEdge(from, to)) {
      s.ifSpent(() => {
        s.flags.place();
        s.jumpOut_(offset, 0, true);
      });
    }
    const { known } = s.flags, checked = this.#unitsChecked;
    this.#carried = this.#structure.isInline(from, to);
    if (!this.#carried) {
      if (this.region.blocks[to]!.liveIn !== 0) s.flags.place();
      const other = this.#arrived.get(to);
      this.#arrived.set(to, other === undefined || KeptFlags.same(other, known) ? known : null);
    }
    this.#structure.follow(from, to);
    s.flags.known = known;
    this.#unitsChecked = checked;
  }

  #exitTo(offset: number, jumped = false): void {
    this.#settled(() => this.#state.jumpOut_(offset, 0, jumped));
  }
  #exit(target: Value): void {
    this.#settled(() => this.#state.goOnAt(target));
  }
  /** Does `leave` with the flags in the state, if it is known how they are kept: what all ways out share has to call for that. */
  #settled(leave: () => void): void {
    const { flags } = this.#state, { known } = flags;
    if (known) flags.settle();
    leave();
    flags.known = known;
  }
}
