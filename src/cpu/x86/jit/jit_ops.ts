/**
 * Ops for a region: the same semantics, with guest registers in locals and what is known while generating used.
 *
 * Registers live in locals from the region's entry to its exits. Status flags stay what they would be worked out from
 * (kept_flags.ts). What a fault needs (registers, flags, the record, the instruction count) is written on the way out only.
 */
import { Bug } from "../../../base/errors.ts";
import type { Code, Var } from "../../../wasm/code.ts";
import { i32, i64, lift, type Operand as Num, select, type Value } from "../../../wasm/value.ts";
import { KIND } from "../flags.ts";
import { type CpuFuncs, Ops, STATUS, WRITE_ONLY } from "../ops.ts";
import type { LateName } from "../late_flags.ts";
import { BOUNCE, MICRO_HOSTS, S, TLB_TAG_R, TLB_TAG_W, ZF } from "../state.ts";
import type { Use, Uses } from "./groups.ts";
import type { Pending } from "./kept_flags.ts";
import type { RegionState } from "./region_state.ts";

/** What the instruction at hand is: constants of its record. */
export interface Place {
  /** Where its record is, from Links.records on: for faults. */
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

export class JitOps extends Ops {
  override readonly expands = true;
  /** The instruction may or may not set its flags: it does so in code that may be jumped over. */
  maybe = false;
  /** The place in MICRO for the address at hand (places.ts). */
  way = 0;
  /** The address at hand may be in another page each time: the TLB is looked at here before it is asked. */
  roves = false;
  place_!: Place;
  /** Groups that accesses of the instruction belong to, and that of the next access. */
  uses: Uses | undefined;
  near: Use | undefined;

  constructor(
    c: Code,
    f: CpuFuncs,
    readonly region: RegionState,
    ea: Var,
    size: number,
    flagsLive: boolean,
  ) {
    super(
      c,
      f,
      { leave: (s) => this.#leave(s), beforeSlow: () => {} },
      region.cpu,
      i32(0),
      ea,
      size,
      flagsLive,
      true,
    );
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
    r.flags.place();
    r.exitRecord.set(this.place_.record);
    r.exitAdjust.set(this.place_.remaining);
    r.status.set(status);
    this.c.br(r.epilogue!);
  }
  /** Leaves to page offset `at`; `remaining` instructions of the block have not run. */
  exitTo(at: number, remaining: number): void {
    this.region.flags.place();
    this.region.jumpOut_(at, remaining, false);
  }

  // ---- memory ------------------------------------------------------------------------------------------------------------

  /** Gives the instruction its groups; those that it begins have no place in memory yet. */
  join(uses: Uses | undefined): void {
    this.uses = uses;
    for (const use of [uses?.operand, uses?.stack]) if (use?.first) this.#hostOf(use).set(0);
  }
  /** The next access is to what lies at RSP. */
  atStack(way: number): void {
    this.way = way;
    this.near = this.uses?.stack;
  }
  #hostOf(use: Use): Var {
    return this.region.hosts[use.group.slot]!;
  }

  /**
   * Finds the address by its group, or by the entry at its place in MICRO: `hit` gets where it lies in memory, and an offset to be
   * added. `hit` and `miss` are emitted once.
   */
  #micro(
    address: Value,
    bytes: number,
    write: boolean,
    hit: (at: Value, offset: number) => void,
    miss: (way: number) => void,
  ): void {
    const c = this.c, way = 2 * this.way + (write ? 1 : 0), entry = this.region.micro.get();
    const use = this.near?.group.write === write ? this.near : undefined;
    this.near = undefined;
    // Less than 0, or so near the page's end that the access leaves it, is a large unsigned number.
    const from = (start: Value) => c.let(start.sub(c.ld64(entry, way * 8)));
    const hostOf = (distance: Value) => distance.lo().add(c.ld32(entry, MICRO_HOSTS + way * 8));
    if (!use) {
      const distance = from(address);
      c.mostly(distance.leU(4096 - bytes), () => hit(hostOf(distance), 0), () => miss(way));
      return;
    }
    const { group } = use, host = this.#hostOf(use), offset = use.at - group.from, length = group.to - group.from;
    if (!use.first) return c.mostly(host.get(), () => hit(host.get(), offset), () => miss(way));
    const whole = (then: (distance: Value) => void, otherwise?: () => void) => {
      const distance = from(address.sub(offset));
      const take = () => {
        host.set(hostOf(distance));
        then(distance);
      };
      if (otherwise) c.mostly(distance.leU(4096 - length), take, otherwise);
      else c.if(distance.leU(4096 - length), take);
    };
    whole(() => hit(host.get(), offset), () => {
      miss(way);
      // The page is in MICRO now, if it is one for that; all of the group may lie in it.
      whole(() => {});
    });
  }
  /** A device may be asked: where instructions make the time, how many have run. */
  #tellTime(): void {
    const { budget, exact } = this.region;
    if (exact) this.c.st32(this.cpu, budget.get().add(this.place_.remaining), S.budget);
  }
  #access(address: Value, bytes: number, write: boolean, reads: boolean): Value {
    const c = this.c, a = c.let(address), at = c.variable("i32");
    const hit = (host: Value, offset: number) => at.set(host.add(offset));
    this.#micro(a, bytes, write, hit, (way) => this.#miss(a, bytes, write, reads, way, at));
    return at.get();
  }
  /** `at` becomes where the address lies in memory, as the TLB or a page walk tells. */
  #miss(address: Value, bytes: number, write: boolean, reads: boolean, way: number, at: Var): void {
    const c = this.c, size = write && !reads ? bytes | WRITE_ONLY : bytes;
    this.#tellTime();
    const ask = () => {
      at.set(c.call1(this.f.more.get(write ? "tlbWrite" : "tlbRead")!, address, size + way * 2 ** 20));
      c.rarely(at.get().eqz(), () => this.leave(STATUS.FAULT));
      if (write) this.region.slow.set(1);
    };
    if (this.roves) this.#probe(address, bytes, write ? TLB_TAG_W : TLB_TAG_R, way, (host) => at.set(host), ask);
    else ask();
  }
  override read(address: Value, bits: number): Value {
    const c = this.c, a = c.let(address), v = c.variable(bits <= 32 ? "i32" : bits === 64 ? "i64" : "v128");
    // A load of its own on each way: where they meet, V8 does not know that an address is 32 bits wide.
    this.#micro(a, bits >> 3, false, (host, offset) => v.set(this.loadAt(host, bits, offset)), (way) => {
      const at = c.variable("i32");
      this.#miss(a, bits >> 3, false, true, way, at);
      v.set(this.loadAt(at.get(), bits));
    });
    return v.get();
  }
  /** Looks at the TLB itself, and keeps what it has for the next access of this way. */
  #probe(address: Value, bytes: number, tag: number, way: number, hit: (at: Value) => void, miss: () => void): void {
    const c = this.c, micro = this.region.micro.get();
    const t = this.lookup(address, bytes, tag);
    c.mostly(t.hit, () => {
      const host = c.let(t.at), offset = address.lo().and(0xfff);
      c.st64(micro, address.and(-4096), way * 8);
      c.st32(micro, host.sub(offset), MICRO_HOSTS + way * 8);
      hit(host);
    }, miss);
  }
  /** Set where nothing, or just this, is left to do once the instruction has stored: then its store can be all of it. */
  afterStore: (() => void) | undefined;
  override write(address: Value, bits: number, value: Value): void {
    if (!this.afterStore) return super.write(address, bits, value);
    const c = this.c, a = c.let(address), v = c.let(value), bytes = bits >> 3, then = this.afterStore;
    this.#micro(a, bytes, true, (host, offset) => this.storeAt(host, bits, v, offset), (way) => {
      this.#tellTime();
      const ask = () => {
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
      };
      if (this.roves) this.#probe(a, bytes, TLB_TAG_W, way, (host) => this.storeAt(host, bits, v), ask);
      else ask();
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
      c.if(at.eq(this.cpu.add(BOUNCE)), () => {
        c.call(this.f.commit, this.cpu);
      });
    });
  }
  override modify(address: Value, bits: number, change: (old: Value) => Value): void {
    this.stores = true;
    super.modify(address, bits, change);
  }
  /** The instruction stored: if the slow way, decoded code may have changed under the region. */
  stores = false;

  // ---- flags -------------------------------------------------------------------------------------------------------------

  #set(p: Pending): void {
    if (this.maybe) this.region.flags.keepMaybe(p);
    else this.region.flags.keep(p);
  }
  /** As an i64 with nothing above `bits`. A leaf. */
  #wide(v: Value, bits = this.size): Value {
    return this.c.let(this.zext(v, bits).zx());
  }
  protected override kind(kind: number, r: Value, a?: Value, b?: Value, size = this.size): void {
    const result = this.#wide(r, size);
    if (kind === KIND.LOGIC) return this.#set({ form: "LOGIC", size, x: result, result });
    const form = kind === KIND.ADD ? "ADD" : "SUB";
    this.#set({ form, size, x: this.#wide(a!, size), y: this.#wide(b!, size), result });
  }
  protected override flagsOfResult(r: Value, extra: Value, bits: number): void {
    const result = this.c.let(this.sext(r, bits));
    this.#set({ form: "RES", size: 64, x: result, result, extra: this.c.let(extra) });
  }
  override flagsLate(name: LateName, r: Value, a: Num = 0, b: Num = 0, extra?: Num): void {
    if (!this.flagsLive) return;
    const c = this.c, size = this.size, result = this.#wide(r);
    const carry = extra === undefined ? {} : { extra: c.let(lift(extra, "i32")) };
    if (name === "INC" || name === "DEC") this.#set({ form: name, size, x: result, result, ...carry });
    else this.#set({ form: name, size, x: c.let(lift(a, "i64")), y: c.let(lift(b, "i64")), result, ...carry });
  }
  override flagsRotated(name: "ROL" | "ROR", r: Value): void {
    if (!this.flagsLive) return;
    const { flags } = this.region, p = flags.pending;
    if (!p || p.form === "EXPLICIT") return super.flagsRotated(name, r);
    const extra = flags.ask(p).af(), before = this.#before(p);
    this.#set({ form: name, size: this.size, x: before, y: this.#wide(r), result: before, extra });
  }
  /** The result that has set the pending flags, sign-extended. */
  #before(p: Pending): Value {
    const whole = p.size === 64 || p.form === "ROL" || p.form === "ROR";
    return whole ? p.result : this.c.let(this.sext(p.result, p.size));
  }
  override setFlags(bits: Value): void {
    const extra = this.c.let(bits), result = this.c.let(select(extra.and(ZF), i64(0), i64(1)));
    this.#set({ form: "EXPLICIT", size: 64, x: result, result, extra });
  }
  override replaceFlags(mask: number, bits: Value): void {
    const { flags } = this.region, p = flags.pending;
    if (!p) return super.replaceFlags(mask, bits);
    const extra = this.c.let(flags.ask(p).bits().and(~mask).or(bits)), result = this.#before(p);
    this.#set({ form: p.form === "EXPLICIT" ? "EXPLICIT" : "RES", size: 64, x: result, result, extra });
  }
  override getFlags(): Value {
    this.region.flags.settle();
    return super.getFlags();
  }
  override cf(): Value {
    return this.region.flags.cf(() => super.cf());
  }
  override cond(cc: number): Value {
    const { flags } = this.region, p = flags.pending;
    if (!p) {
      flags.settle();
      return super.cond(cc);
    }
    const even = flags.ask(p).condition(cc & ~1);
    return this.c.let(cc & 1 ? even.eqz() : even);
  }
}

/** A constant that reads as a value of any width. */
export function constant(value: number, high: number, bits: number): Value {
  return bits === 64 ? i64((BigInt(high | 0) << 32n) | BigInt(value >>> 0)) : lift(value, "i32");
}
