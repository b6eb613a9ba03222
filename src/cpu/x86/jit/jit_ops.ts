/**
 * Ops for a region: the same semantics, with guest registers in locals and what is known while generating used.
 *
 * Registers live in locals from the region's entry to its exits. Status flags stay pending, as the values they would be worked
 * out from, until something could look at them: then they are written to the state. What a fault needs (registers, flags, the
 * record, the instruction count) is written on the way out only.
 */
import { Bug } from "../../../base/errors.ts";
import type { Code, Var } from "../../../wasm/code.ts";
import { i32, i64, lift, type Operand as Num, select, type Value } from "../../../wasm/value.ts";
import { KIND } from "../flags.ts";
import { type CpuFuncs, Ops, STATUS, WRITE_ONLY } from "../ops.ts";
import { AF, BOUNCE, CF, MICRO_HOSTS, OF, S, ZF } from "../state.ts";
import type { RegionState } from "./region_state.ts";

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
  /** Fields of its operands. */
  readonly fields: readonly [d: number, s: number, x: number];
}

/** Ways of making an address: 0..15 by that base register; the others. Accesses made one way tend to stay in one page. */
export const WAY = { RIP: 16, ABSOLUTE: 17, FS: 18, GS: 19, INDEX: 20 } as const;

export class JitOps extends Ops {
  override readonly expands = true;
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
    this.region.dirty |= 1 << n;
  }
  override gprAt(n: number, bits: number): Value {
    const v = this.region.register(n).get();
    if (bits === 64) return this.c.let(v);
    if (bits === 32) return this.c.let(v.lo());
    return this.c.let(v.lo().and(bits === 8 ? 0xff : 0xffff));
  }
  override setGprAt(n: number, bits: number, value: Value): void {
    const v = this.region.register(n);
    this.region.dirty |= 1 << n;
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
    this.region.dirty |= 1 << n;
    v.set(v.get().and(~0xff00).or(value.lo().and(0xff).shl(8).zx()));
  }

  override vector(slot: 0 | 1 | 2, both: boolean): readonly Value[] {
    const n = this.place_.fields[slot] >> 4, { vectors, vectorHighs } = this.region;
    const low = this.c.let(vectors[n]!.get());
    return both ? [low, this.c.let(vectorHighs[n]!.get())] : [low];
  }
  override setVector(slot: 0 | 1 | 2, low: Value, high: Value): void {
    const n = this.place_.fields[slot] >> 4, { vectors, vectorHighs } = this.region;
    this.region.dirty |= 1 << (16 + n);
    vectors[n]!.set(low);
    vectorHighs[n]!.set(high);
  }

  override thisLinear(): Value {
    return this.c.let(this.region.vbase.add(this.place_.at));
  }
  override nextLinear(): Value {
    return this.c.let(this.region.vbase.add(this.place_.at + this.place_.length));
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
    this.region.jumpOut_(at, remaining, false);
  }

  // ---- memory ------------------------------------------------------------------------------------------------------------

  /** Tests the address against the entry for its way: `hit` gets its place in memory. `hit` and `miss` are emitted once. */
  #micro(address: Value, bytes: number, write: boolean, hit: (at: Value) => void, miss: (way: number) => void): void {
    const c = this.c, way = 2 * this.way + (write ? 1 : 0), entry = this.region.micro.get();
    // Less than 0, or so near the page's end that the access leaves it, is a large unsigned number.
    const distance = c.let(address.sub(c.ld64(entry, way * 8)));
    c.mostly(
      distance.leU(4096 - bytes),
      () => hit(distance.lo().add(c.ld32(entry, MICRO_HOSTS + way * 8))),
      () => miss(way),
    );
  }
  /** A device may be asked: where instructions make the time, how many have run. */
  #tellTime(): void {
    const { budget, exact } = this.region;
    if (exact) this.c.st32(this.cpu, budget.get().add(this.place_.remaining), S.budget);
  }
  #access(address: Value, bytes: number, write: boolean, reads: boolean): Value {
    const c = this.c, a = c.let(address), at = c.variable("i32");
    this.#micro(a, bytes, write, (host) => at.set(host), (way) => {
      this.#tellTime();
      const size = write && !reads ? bytes | WRITE_ONLY : bytes;
      at.set(c.call1(this.f.more.get(write ? "tlbWrite" : "tlbRead")!, a, size + way * 2 ** 20));
      c.rarely(at.get().eqz(), () => this.leave(STATUS.FAULT));
      if (write) this.region.slow.set(1);
    });
    return at.get();
  }
  /** Set where nothing, or just this, is left to do once the instruction has stored: then its store can be all of it. */
  afterStore: (() => void) | undefined;
  override write(address: Value, bits: number, value: Value): void {
    if (!this.afterStore) return super.write(address, bits, value);
    const c = this.c, a = c.let(address), v = c.let(value), bytes = bits >> 3, then = this.afterStore;
    this.#micro(a, bytes, true, (host) => this.storeAt(host, bits, v), (way) => {
      this.#tellTime();
      const info = bytes + way * 2 ** 20, more = this.f.more;
      const status = bits === 128
        ? c.call1(more.get("storeVector")!, a, v, info)
        : c.call1(more.get("store")!, a, v.type === "i64" ? v : v.zx(), info);
      c.if(status, () => {
        c.if(status.eq(STATUS.FAULT), () => this.leave(status));
        // Decoded code may have changed under the region.
        then();
        this.exitTo(this.place_.at + this.place_.length, this.place_.remaining);
      });
    });
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
    c.rarely(this.region.slow.get(), () => {
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
  override replaceFlags(mask: number, bits: Value): void {
    const p = this.pending;
    if (!p || this.direct) return super.replaceFlags(mask, bits);
    const kept = this.c.let(p.extra ? p.extra.and(~mask).or(bits) : this.#outsideResult(p, mask).or(bits));
    this.#set({ kind: p.kind === KIND.EXPLICIT ? KIND.EXPLICIT : KIND.RES, result: p.result, extra: kept });
  }
  /** CF, OF and AF of a sum, a difference or a logical result, at their places, without those of `mask`. */
  #outsideResult(p: Pending, mask: number): Value {
    if (p.kind === KIND.LOGIC) return i32(0);
    const a = p.a!, b = p.b!, r = p.result, sub = p.kind === KIND.SUB;
    let bits = a.xor(b).xor(r).lo().and(AF);
    if (!(mask & CF)) bits = bits.or(sub ? a.ltU(b) : r.ltU(a));
    const overflow = sub ? a.xor(b).and(a.xor(r)) : a.xor(r).and(b.xor(r));
    if (!(mask & OF)) bits = bits.or(overflow.shrU(63).lo().shl(Math.log2(OF)));
    return bits;
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
      r.settleKept();
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
      r.settleKept();
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
