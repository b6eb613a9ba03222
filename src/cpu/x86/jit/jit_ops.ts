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
import { type CpuFuncs, Ops, STATUS } from "../ops.ts";
import { BOUNCE, reg, S, TLB_ADDEND, TLB_TAG_R, TLB_TAG_W, ZF } from "../state.ts";

/** Flags not yet written: by kind, the values that formulas need, sign-extended. */
interface Pending {
  readonly kind: number;
  readonly result: Value;
  readonly a?: Value;
  readonly b?: Value;
  /** For RES: CF, OF, AF at their places. */
  readonly extra?: Value;
}

/** A translation kept in locals: the page it is for, and what to add. */
interface MicroTlb {
  readonly page: Var;
  readonly addend: Var;
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
  readonly tlbEpoch: Var;
  readonly dtlb: Var;
  readonly micro = new Map<string, MicroTlb>();
  /** Pending flags from one instruction to the next. */
  readonly kept: { readonly result: Var; readonly a: Var; readonly b: Var; readonly extra: Var };
  epilogue: Label | undefined;

  constructor(readonly c: Code, readonly cpu: number) {
    this.status = c.variable("i32");
    this.budget = c.variable("i32");
    this.epoch = c.variable("i32");
    this.vbase = c.variable("i64");
    this.tlbEpoch = c.variable("i32");
    this.dtlb = c.variable("i32");
    this.kept = { result: c.variable("i64"), a: c.variable("i64"), b: c.variable("i64"), extra: c.variable("i32") };
  }

  register(n: number): Var {
    const v = this.registers[n];
    if (!v) throw new Bug(`Register ${n} is not in this region`);
    return v;
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
  /** At the entry: no translation is known. */
  forget(): void {
    const c = this.c;
    for (const m of this.micro.values()) m.page.set(-1);
    this.tlbEpoch.set(c.ld32(this.cpu, S.tlbEpoch));
    this.dtlb.set(c.ld32(this.cpu, S.dtlb));
  }
  /** After a call of anything: translations hold unless the TLB was flushed or another one is in force. */
  recheck(): void {
    const c = this.c;
    c.if(
      c.ld32(this.cpu, S.tlbEpoch).ne(this.tlbEpoch.get()).or(c.ld32(this.cpu, S.dtlb).ne(this.dtlb.get())),
      () => this.forget(),
    );
  }
  microTlb(key: string): MicroTlb {
    const known = this.micro.get(key);
    if (known) return known;
    if (this.epilogue) throw new Bug(`Micro-TLB ${key} is not known at the region's entry`);
    const made = { page: this.c.variable("i64"), addend: this.c.variable("i32") };
    this.micro.set(key, made);
    return made;
  }
}

export class JitOps extends Ops {
  pending: Pending | null = null;
  /** Flags go straight to the state: the instruction may or may not set them. */
  direct = false;
  /** Names the base register of the access at hand: accesses by the same base tend to hit the same page. */
  hint = "";
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
      { leave: (s) => this.#leave(s), beforeSlow: () => this.#beforeSlow() },
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

  #beforeSlow(): void {
    this.writeFlags();
    this.c.st32(this.cpu, this.place_.record, S.curOp);
    this.c.st32(this.cpu, this.region.budget.get().add(this.place_.remaining), S.budget);
  }
  #leave(status: Value): void {
    const r = this.region;
    this.writeFlags();
    this.c.st32(this.cpu, this.place_.record, S.curOp);
    r.status.set(status);
    r.budget.set(r.budget.get().add(this.place_.remaining));
    this.c.br(r.epilogue!);
  }

  // ---- memory ------------------------------------------------------------------------------------------------------------

  #access(address: Value, bytes: number, write: boolean, reads: boolean): Value {
    const c = this.c, a = c.let(address), at = c.variable("i32");
    const low = c.let(a.lo());
    const page = c.let((bytes === 1 ? a : a.add(bytes - 1)).and(-4096));
    const micro = this.region.microTlb((write ? "w" : "r") + this.hint);
    c.if(page.eq(micro.page.get()), () => at.set(low.add(micro.addend.get())), () => {
      const entry = c.let(this.region.dtlb.get().add(low.shrU(7).and(0x7fe0)));
      c.if(page.eq(c.ld64(entry, write ? TLB_TAG_W : TLB_TAG_R)), () => {
        micro.addend.set(c.ld32(entry, TLB_ADDEND));
        micro.page.set(page);
        at.set(low.add(micro.addend.get()));
      }, () => {
        this.host.beforeSlow();
        at.set(
          c.call1(write ? this.f.writeAddr : this.f.readAddr, this.cpu, a, write && !reads ? bytes | (1 << 16) : bytes),
        );
        c.if(at.get().eqz(), () => this.leave(STATUS.FAULT));
      });
    });
    return at.get();
  }
  override readAt(address: Value, bytes: number): Value {
    return this.#access(address, bytes, false, true);
  }
  override writeAt(address: Value, bytes: number, reads = true): Value {
    return this.#access(address, bytes, true, reads);
  }
  override commit(at: Value): void {
    this.c.if(at.eq(this.region.cpu + BOUNCE), () => {
      this.c.call(this.f.commit, this.cpu);
    });
    this.stores = true;
  }
  /** The instruction stored: decoded code may have changed under the region. */
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
    this.writeFlags();
    this.pending = null;
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
    return super.cf();
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
