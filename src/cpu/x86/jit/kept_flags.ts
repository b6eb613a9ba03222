/**
 * Status flags in a compiled region: what they would be worked out from, in locals, until something could look at them.
 *
 * While code is generated they are known to be in one of three places: pending, in the kept locals as one kind; in the vCPU's
 * state; or unknown, where ways that differ have come together. At run time `place` tells which when they are unknown, and on
 * every way out.
 */
import type { Code, Var } from "../../../wasm/code.ts";
import type { Func } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import { KIND } from "../flags.ts";
import { FROM_EXTRA, type Helpers, type Late, lateBits, lateCf, lateNumber } from "../late_flags.ts";
import type { CpuFuncs } from "../ops.ts";
import { AF, CF, OF, PF, S, SF } from "../state.ts";

/** Flags not yet written: by kind, the values that formulas need, sign-extended. */
export interface Pending {
  readonly kind: number;
  readonly result: Value;
  readonly a?: Value;
  readonly b?: Value;
  /** For RES and EXPLICIT: the flags at their places; with `late`, that formula's. */
  readonly extra?: Value;
  /** Of kind RES: what CF, OF and AF are still to be worked out by. */
  readonly late?: Late;
}

/** Values of `place`: 0 in the state, else one more than the kind, or a late formula's number from here on. */
const FIRST_LATE = 16;

/** What is known of the flags at a place of the code: nothing, that they are in the state, or how they are pending. */
export type Known = Pending | "state" | null;

export class KeptFlags {
  /** What is known where code is being generated. */
  known: Known = null;
  readonly #place: Var;
  readonly #result: Var;
  readonly #a: Var;
  readonly #b: Var;
  readonly #extra: Var;
  readonly #lateFlags: Func;
  readonly #helpers: Helpers;

  constructor(private readonly c: Code, private readonly cpu: number, f: CpuFuncs) {
    this.#place = c.variable("i32");
    this.#result = c.variable("i64");
    this.#a = c.variable("i64");
    this.#b = c.variable("i64");
    this.#extra = c.variable("i32");
    this.#lateFlags = f.more.get("lateFlags")!;
    this.#helpers = { c, mulHighS: f.more.get("mulHighS")! };
  }

  get pending(): Pending | null {
    return this.known === "state" ? null : this.known;
  }

  /** An instruction sets them; the values may be in locals of its own. */
  keep(p: Pending): void {
    const had = this.pending;
    const move = (to: Var, value: Value | undefined, old: Value | undefined): Value | undefined => {
      // A rotation leaves the result where it is.
      if (value && value !== old) to.set(value);
      return value && to.get();
    };
    const result = move(this.#result, p.result, had?.result)!;
    const a = move(this.#a, p.a, had?.a),
      b = move(this.#b, p.b, had?.b),
      extra = move(this.#extra, p.extra, had?.extra);
    this.known = {
      kind: p.kind,
      result,
      ...(a ? { a } : {}),
      ...(b ? { b } : {}),
      ...(extra ? { extra } : {}),
      ...(p.late ? { late: p.late } : {}),
    };
  }
  /** The same in code that may be jumped over: after it nothing is known. To go before `place`. */
  keepMaybe(p: Pending): void {
    this.keep(p);
    this.place();
  }

  /** Where they are is told at run time too: before every way to where that is not known. */
  place(): void {
    const p = this.pending;
    if (p) this.#place.set(p.late ? FIRST_LATE + lateNumber(p.late) : p.kind + 1);
  }

  /** Two places where as much is known are the same to those who come from either. */
  static same(x: Known, y: Known): boolean {
    if (x === y) return true;
    if (!x || !y || x === "state" || y === "state" || x.kind !== y.kind) return false;
    return x.late?.name === y.late?.name && x.late?.size === y.late?.size;
  }

  #bits(p: Pending): Value {
    if (!p.late) return p.extra!;
    return this.c.let(lateBits(p.late, ingredients(p), this.#helpers));
  }

  // ---- to the state ------------------------------------------------------------------------------------------------------

  /** From here on the state is right. */
  settle(): void {
    const p = this.pending;
    if (p) {
      const c = this.c;
      c.st64(this.cpu, p.result, S.fRes);
      if (p.kind <= KIND.EXPLICIT) c.st64(this.cpu, this.#bits(p).zx(), S.fB);
      else if (p.kind !== KIND.LOGIC) {
        c.st64(this.cpu, p.a!, S.fA);
        c.st64(this.cpu, p.b!, S.fB);
      }
      c.st32(this.cpu, p.kind, S.fKind);
      this.#place.set(0);
    } else if (this.known === null) {
      this.write();
      this.#place.set(0);
    }
    this.known = "state";
  }
  /** Writes them to the state, if `place` says that they are not there. */
  write(): void {
    const c = this.c, place = this.#place;
    c.if(place.get(), () => {
      c.rarely(place.get().geU(FIRST_LATE), () => {
        const number = place.get().sub(FIRST_LATE);
        const { result, a, b, extra } = this.#locals();
        this.#extra.set(c.call1(this.#lateFlags, number, result, a, b, extra));
        place.set(KIND.RES + 1);
      });
      const kind = c.let(place.get().sub(1));
      c.st64(this.cpu, this.#result.get(), S.fRes);
      c.st64(this.cpu, this.#a.get(), S.fA);
      c.st64(this.cpu, select(kind.leU(KIND.EXPLICIT), this.#extra.get().zx(), this.#b.get()), S.fB);
      c.st32(this.cpu, kind, S.fKind);
    });
  }
  #locals() {
    return { result: this.#result.get(), a: this.#a.get(), b: this.#b.get(), extra: this.#extra.get() };
  }

  // ---- questions ---------------------------------------------------------------------------------------------------------

  /** CF; `inState` asks the state. */
  cf(inState: () => Value): Value {
    const c = this.c, p = this.pending;
    if (p) return c.let(this.#cf(p));
    if (this.known === "state") return inState();
    // Where a loop goes round: mostly a comparison's, or what its last INC or DEC has kept.
    const place = this.#place.get(), x = this.#locals();
    return c.choose(
      place.eq(KIND.SUB + 1),
      () => x.a.ltU(x.b),
      () =>
        c.choose(place.sub(FIRST_LATE).ltU(FROM_EXTRA), () => x.extra, () => {
          this.write();
          this.#place.set(0);
          return inState();
        }, "i32"),
      "i32",
    );
  }
  #cf(p: Pending): Value {
    if (p.late) return lateCf(p.late, ingredients(p), this.#helpers);
    switch (p.kind) {
      case KIND.SUB:
        return p.a!.ltU(p.b!);
      case KIND.ADD:
        return p.result.ltU(p.a!);
      case KIND.LOGIC:
        return i32(0);
      default:
        return p.extra!.and(CF);
    }
  }
  #of(p: Pending): Value {
    switch (p.kind) {
      case KIND.SUB:
        return p.a!.xor(p.b!).and(p.a!.xor(p.result)).shrU(63).lo();
      case KIND.ADD:
        return p.a!.xor(p.result).and(p.b!.xor(p.result)).shrU(63).lo();
      case KIND.LOGIC:
        return i32(0);
      default:
        return this.#bits(p).shrU(Math.log2(OF)).and(1);
    }
  }
  #sf(p: Pending): Value {
    return p.kind === KIND.EXPLICIT ? p.extra!.shrU(Math.log2(SF)).and(1) : p.result.ltS(0);
  }
  #pf(p: Pending): Value {
    if (p.kind === KIND.EXPLICIT) return p.extra!.shrU(Math.log2(PF)).and(1);
    return p.result.lo().and(0xff).popcnt().and(1).xor(1);
  }
  /** An even condition of Jcc, SETcc and CMOVcc: 0 or 1. */
  condition(p: Pending, cc: number): Value {
    const sub = p.kind === KIND.SUB, logic = p.kind === KIND.LOGIC, c = this.c;
    switch (cc) {
      case 0:
        return this.#of(p);
      case 2:
        return this.#cf(p);
      case 4:
        return sub ? p.a!.eq(p.b!) : p.result.eqz();
      case 6:
        return sub ? p.a!.leU(p.b!) : logic ? p.result.eqz() : c.let(this.#cf(p)).or(p.result.eqz());
      case 8:
        return this.#sf(p);
      case 10:
        return this.#pf(p);
      case 12:
        return sub ? p.a!.ltS(p.b!) : logic ? p.result.ltS(0) : c.let(this.#of(p)).xor(this.#sf(p));
      default:
        return sub ? p.a!.leS(p.b!) : logic ? p.result.leS(0) : c.let(this.#of(p)).xor(this.#sf(p)).or(p.result.eqz());
    }
  }

  /** CF, OF and AF at their places, without those of `mask`. */
  outside(p: Pending, mask: number): Value {
    if (p.kind === KIND.LOGIC) return i32(0);
    if (p.late && mask === (CF | OF)) {
      // A shift or a product leaves no AF, a rotation the one before.
      const { name } = p.late;
      if (name === "ROL" || name === "ROR") return p.extra!;
      if (name === "SHL" || name === "SHR" || name === "SAR" || name === "IMUL") return i32(0);
    }
    if (p.kind <= KIND.EXPLICIT) return this.#bits(p).and(~mask);
    let bits = p.a!.xor(p.b!).xor(p.result).lo().and(AF);
    if (!(mask & CF)) bits = bits.or(this.#cf(p));
    if (!(mask & OF)) bits = bits.or(this.#of(p).shl(Math.log2(OF)));
    return bits;
  }
}

function ingredients(p: Pending) {
  return { result: p.result, a: p.a ?? i64(0), b: p.b ?? i64(0), extra: p.extra ?? i32(0) };
}
