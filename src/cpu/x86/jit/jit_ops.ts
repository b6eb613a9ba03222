/**
 * Ops for a region: the same semantics, with guest registers in locals and what is known while generating used.
 *
 * Registers live in locals from the region's entry to its exits. Status flags stay pending, as the values they would be worked
 * out from, until something could look at them: then they are written to the state. What a fault needs (registers, flags, the
 * record, the instruction count) is written on the way out only.
 */
import { Bug } from "../../../base/errors.ts";
import type { Code, Label, Var } from "../../../wasm/code.ts";
import { i32, i64, lift, type Operand as Num, select, type Value } from "../../../wasm/value.ts";
import { KIND } from "../flags.ts";
import { type CpuFuncs, Ops, STATUS, WRITE_ONLY } from "../ops.ts";
import { BOUNCE, DTLB, MICRO, MICRO_ENTRY, reg, S, ZF } from "../state.ts";

/** Flags not yet written: by kind, the values that formulas need, sign-extended. */
interface Pending {
  readonly kind: number;
  readonly result: Value;
  readonly a?: Value;
  readonly b?: Value;
  /** For RES: CF, OF, AF at their places. */
  readonly extra?: Value;
}

/** What the instruction at hand is: constants of its record. */
export interface Place {
  /** Address of its record, for faults. */
  readonly record: number;
  /** Offset of its first byte in the page, and its length. */
  readonly at: number;
  readonly length: number;
  /** Instructions of the block that come after it. */
  readonly remaining: number;
  readonly imm: number;
}

export class RegionState {
  readonly registers: (Var | undefined)[] = new Array(16);
  readonly written = new Uint8Array(16);
  /** Vector registers, low 128 bits. */
  readonly vectors: (Var | undefined)[] = new Array(16);
  readonly vectorWritten = new Uint8Array(16);
  readonly status: Var;
  readonly budget: Var;
  readonly epoch: Var;
  readonly vbase: Var;
  /** A store of the present instruction took the slow way. */
  readonly slow: Var;
  /** Where the MICRO table in force lies. */
  readonly micro: Var;
  /** Pending flags from one instruction to the next. */
  readonly kept: { readonly result: Var; readonly a: Var; readonly b: Var; readonly extra: Var };
  /** Where everything leaves: with `exit*` set, and for `jumpOut` the page offset to go on at. */
  epilogue: Label | undefined;
  jumpOut: Label | undefined;
  /** Where the flags are when no pending ones are known: 0 in the state, else one more than their kind, in the kept locals. */
  readonly flagKind: Var;
  /** While generating: the flags are in the state for sure. */
  inState = false;
  readonly exitRecord: Var;
  readonly exitAdjust: Var;
  readonly exitAt: Var;

  constructor(readonly c: Code, readonly cpu: number) {
    this.status = c.variable("i32");
    this.budget = c.variable("i32");
    this.epoch = c.variable("i32");
    this.vbase = c.variable("i64");
    this.slow = c.variable("i32");
    this.micro = c.variable("i32");
    this.flagKind = c.variable("i32");
    this.exitRecord = c.variable("i32");
    this.exitAdjust = c.variable("i32");
    this.exitAt = c.variable("i32");
    this.kept = { result: c.variable("i64"), a: c.variable("i64"), b: c.variable("i64"), extra: c.variable("i32") };
  }

  register(n: number): Var {
    const v = this.registers[n];
    if (!v) throw new Bug(`Register ${n} is not in this region`);
    return v;
  }
  /** Writes kept flags to the state, if that is where they are. */
  writeKept(): void {
    const c = this.c, k = this.kept;
    c.if(this.flagKind.get(), () => {
      const kind = c.let(this.flagKind.get().sub(1));
      c.st64(this.cpu, k.result.get(), S.fRes);
      c.st64(this.cpu, k.a.get(), S.fA);
      c.st64(this.cpu, select(kind.leU(KIND.EXPLICIT), k.extra.get().zx(), k.b.get()), S.fB);
      c.st32(this.cpu, kind, S.fKind);
    });
  }
  /** At the end: flags, the record and the count, then the registers. */
  finish(): void {
    const c = this.c;
    this.writeKept();
    c.st32(this.cpu, this.exitRecord.get(), S.curOp);
    c.st32(this.cpu, this.budget.get().add(this.exitAdjust.get()), S.budget);
    this.spill();
  }
  spill(): void {
    for (let n = 0; n < 16; n++) if (this.written[n]) this.c.st64(this.cpu, this.registers[n]!.get(), reg(n));
    for (let n = 0; n < 16; n++) {
      if (this.vectorWritten[n]) this.c.stV(this.cpu, this.vectors[n]!.get(), S.xmm + 16 * n);
    }
  }
  reload(): void {
    for (let n = 0; n < 16; n++) {
      this.registers[n]?.set(this.c.ld64(this.cpu, reg(n)));
      this.vectors[n]?.set(this.c.ldV(this.cpu, S.xmm + 16 * n));
    }
  }
  /** At the entry, and after a call of anything: which translations are in force. */
  lookAtTlb(): void {
    // The MICRO tables lie in the order of the data TLBs, 1/32 as far apart.
    this.micro.set(this.c.ld32(this.cpu, S.dtlb).sub(this.cpu + DTLB).shrU(5).add(this.cpu + MICRO));
  }
  /** Leaves to a page offset with the flags in the state. */
  jumpOut_(at: number, remaining: number): void {
    this.exitAt.set(at);
    if (remaining > 0) this.exitAdjust.set(remaining);
    this.c.br(this.jumpOut!);
  }
}

/** Ways of making an address: 0..15 by that base register; the others. Accesses made one way tend to stay in one page. */
export const WAY = { RIP: 16, ABSOLUTE: 17, FS: 18, GS: 19, INDEX: 20 } as const;

export class JitOps extends Ops {
  pending: Pending | null = null;
  /** Flags go straight to the state: the instruction may or may not set them. */
  direct = false;
  /** How the address at hand is made: see WAY. */
  way = 0;
  place_!: Place;

  constructor(
    c: Code,
    f: CpuFuncs,
    readonly region: RegionState,
    ea: Var,
    size: number,
    flagsLive: boolean,
    previous: JitOps | null,
  ) {
    super(
      c,
      f,
      { leave: (s) => this.#leave(s), beforeSlow: () => {} },
      i32(region.cpu),
      i32(0),
      ea,
      size,
      flagsLive,
      true,
    );
    if (previous) this.pending = previous.pending;
  }

  // ---- registers ---------------------------------------------------------------------------------------------------------

  override gpr(n: number): Value {
    // A copy: the local may change before the value is used.
    return this.c.let(this.region.register(n).get());
  }
  override setGpr(n: number, value: Num): void {
    this.region.register(n).set(value);
  }
  override gprAt(n: number, bits: number): Value {
    const v = this.region.register(n).get();
    if (bits === 64) return this.c.let(v);
    if (bits === 32) return this.c.let(v.lo());
    return this.c.let(v.lo().and(bits === 8 ? 0xff : 0xffff));
  }
  override setGprAt(n: number, bits: number, value: Value): void {
    const v = this.region.register(n);
    if (bits === 64) v.set(value);
    else if (bits === 32) v.set(value.lo().zx());
    else {
      const mask = bits === 8 ? 0xff : 0xffff;
      v.set(v.get().and(~mask).or(value.lo().and(mask).zx()));
    }
  }
  /** AH, CH, DH, BH. */
  getHigh(n: number): Value {
    return this.c.let(this.region.register(n).get().shrU(8).lo().and(0xff));
  }
  setHigh(n: number, value: Value): void {
    const v = this.region.register(n);
    v.set(v.get().and(~0xff00).or(value.lo().and(0xff).shl(8).zx()));
  }

  override thisLinear(): Value {
    return this.c.let(this.region.vbase.get().add(this.place_.at));
  }
  override nextLinear(): Value {
    return this.c.let(this.region.vbase.get().add(this.place_.at + this.place_.length));
  }
  override imm(): Value {
    return i32(this.place_.imm);
  }
  override field(): Value {
    throw new Bug("A region has no record fields");
  }

  // ---- leaving -----------------------------------------------------------------------------------------------------------

  #leave(status: Value): void {
    const r = this.region;
    this.exitFlags();
    r.exitRecord.set(this.place_.record);
    r.exitAdjust.set(this.place_.remaining);
    r.status.set(status);
    this.c.br(r.epilogue!);
  }
  /** What the epilogue has to write of the flags: they are in the kept locals. */
  exitFlags(): void {
    if (this.pending) this.region.flagKind.set(this.pending.kind + 1);
  }
  /** Leaves to page offset `at`; `remaining` instructions of the block have not run. */
  exitTo(at: number, remaining: number): void {
    this.exitFlags();
    this.region.jumpOut_(at, remaining);
  }

  // ---- memory ------------------------------------------------------------------------------------------------------------

  #access(address: Value, bytes: number, write: boolean, reads: boolean): Value {
    const c = this.c, a = c.let(address), at = c.variable("i32");
    const page = c.let((bytes === 1 ? a : a.add(bytes - 1)).and(-4096));
    const way = 2 * this.way + (write ? 1 : 0), entry = this.region.micro.get();
    // The table has one entry for this way, whatever the page: an access that begins in the page before it must not hit.
    const inPage = page.eq(c.ld64(entry, way * MICRO_ENTRY));
    c.if(
      bytes === 1 ? inPage : inPage.and(a.lo().and(4095).leU(4096 - bytes)),
      () => at.set(a.lo().add(c.ld32(entry, way * MICRO_ENTRY + 8))),
      () => {
        const size = write && !reads ? bytes | WRITE_ONLY : bytes;
        at.set(c.call1(this.f.more.get(write ? "tlbWrite" : "tlbRead")!, a, size + way * 2 ** 20));
        c.if(at.get().eqz(), () => this.leave(STATUS.FAULT));
        if (write) this.region.slow.set(1);
      },
    );
    return at.get();
  }
  override readAt(address: Value, bytes: number): Value {
    return this.#access(address, bytes, false, true);
  }
  override writeAt(address: Value, bytes: number, reads = true): Value {
    return this.#access(address, bytes, true, reads);
  }
  override commit(at: Value): void {
    const c = this.c;
    this.stores = true;
    c.if(this.region.slow.get(), () => {
      c.if(at.eq(this.region.cpu + BOUNCE), () => {
        c.call(this.f.commit, this.cpu);
      });
    });
  }
  /** The instruction stored: if the slow way, decoded code may have changed under the region. */
  stores = false;

  // ---- flags -------------------------------------------------------------------------------------------------------------

  protected override kind(kind: number, r: Value, a?: Value, b?: Value, bits = this.size): void {
    const p: Pending = {
      kind,
      result: this.c.let(this.sext(r, bits)),
      ...(a ? { a: this.c.let(this.sext(a, bits)) } : {}),
      ...(b ? { b: this.c.let(this.sext(b, bits)) } : {}),
    };
    this.#set(p);
  }
  protected override flagsOfResult(r: Value, extra: Value, bits: number): void {
    this.#set({ kind: KIND.RES, result: this.c.let(this.sext(r, bits)), extra });
  }
  override setFlags(bits: Value): void {
    const v = this.c.let(bits);
    this.#set({ kind: KIND.EXPLICIT, result: this.c.let(select(v.and(ZF), i64(0), i64(1))), extra: v });
  }
  /** This instruction has set the pending flags. */
  #fresh = false;
  #set(p: Pending): void {
    this.pending = p;
    this.#fresh = true;
    if (!this.direct) this.region.inState = false;
    if (this.direct) {
      this.writeFlags();
      this.pending = null;
    }
  }

  /** Moves pending flags into locals of the region, which outlive the instruction's own. */
  keepFlags(): void {
    const p = this.pending;
    if (!p || !this.#fresh) return;
    const k = this.region.kept;
    k.result.set(p.result);
    if (p.a) k.a.set(p.a);
    if (p.b) k.b.set(p.b);
    if (p.extra) k.extra.set(p.extra);
    this.pending = {
      kind: p.kind,
      result: k.result.get(),
      ...(p.a ? { a: k.a.get() } : {}),
      ...(p.b ? { b: k.b.get() } : {}),
      ...(p.extra ? { extra: k.extra.get() } : {}),
    };
  }

  /** Writes pending flags to the state; they stay pending too. */
  writeFlags(): void {
    const p = this.pending, c = this.c;
    if (!p) return;
    c.st64(this.cpu, p.result, S.fRes);
    if (p.a) c.st64(this.cpu, p.a, S.fA);
    if (p.b) c.st64(this.cpu, p.b, S.fB);
    if (p.extra) c.st64(this.cpu, p.extra.zx(), S.fB);
    c.st32(this.cpu, p.kind, S.fKind);
  }
  /** Writes them and forgets them: from here on the state is right. */
  settleFlags(): void {
    const r = this.region;
    if (this.pending) {
      this.writeFlags();
      this.pending = null;
      r.flagKind.set(0);
    } else if (!r.inState) {
      r.writeKept();
      r.flagKind.set(0);
    }
    r.inState = true;
  }

  override getFlags(): Value {
    this.settleFlags();
    return super.getFlags();
  }
  override cf(): Value {
    const p = this.pending;
    if (p?.kind === KIND.SUB) return this.c.let(p.a!.ltU(p.b!));
    if (p?.kind === KIND.ADD) return this.c.let(p.result.ltU(p.a!));
    if (p?.kind === KIND.LOGIC) return i32(0);
    if (p?.extra) return this.c.let(p.extra.and(1));
    const r = this.region, c = this.c;
    if (p || r.inState) {
      this.settleFlags();
      return super.cf();
    }
    // A loop that ends in DEC and JNZ asks for what the last round's DEC has kept: not worth a way through the state.
    return c.choose(r.flagKind.get().eq(KIND.RES + 1), () => r.kept.extra.get().and(1), () => {
      r.writeKept();
      r.flagKind.set(0);
      return super.cf();
    }, "i32");
  }
  override cond(cc: number): Value {
    const p = this.pending;
    const direct = p && this.#condition(p, cc & ~1);
    if (!direct) {
      this.settleFlags();
      return super.cond(cc);
    }
    return this.c.let(cc & 1 ? direct.eqz() : direct);
  }
  /** An even condition straight from the operands, if that is simple. */
  #condition(p: Pending, cc: number): Value | undefined {
    const sub = p.kind === KIND.SUB, logic = p.kind === KIND.LOGIC;
    switch (cc) {
      case 4:
        return sub ? p.a!.eq(p.b!) : p.result.eqz();
      case 8:
        return p.kind === KIND.EXPLICIT ? undefined : p.result.ltS(0);
      case 2:
        return sub ? p.a!.ltU(p.b!) : p.kind === KIND.ADD ? p.result.ltU(p.a!) : logic ? i32(0) : p.extra!.and(1);
      case 6:
        return sub ? p.a!.leU(p.b!) : logic ? p.result.eqz() : undefined;
      case 12:
        return sub ? p.a!.ltS(p.b!) : logic ? p.result.ltS(0) : undefined;
      case 14:
        return sub ? p.a!.leS(p.b!) : logic ? p.result.leS(0) : undefined;
      default:
        return undefined;
    }
  }
}

/** A constant that reads as a value of any width. */
export function constant(value: number, high: number, bits: number): Value {
  return bits === 64 ? i64((BigInt(high | 0) << 32n) | BigInt(value >>> 0)) : lift(value, "i32");
}
