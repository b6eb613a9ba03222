/**
 * Status flags in a compiled region: what they would be worked out from, in locals, until something could look at them.
 *
 * While code is generated they are known to be in one of three places: pending, in the kept locals in one form; in the vCPU's
 * state; or unknown, where ways that differ have come together. At run time `place` tells which when they are unknown, and on
 * every way out.
 *
 * What is kept crosses every loop and join of the region, where each local costs a move: so there are few.
 */
import type { Code, Var } from "../../../wasm/code.ts";
import type { Func } from "../../../wasm/module.ts";
import { i32, i64, type Value } from "../../../wasm/value.ts";
import { Answers, cfByNumber, type Form, formNumber, type Kept } from "../flag_forms.ts";
import type { Helpers } from "../late_flags.ts";
import type { CpuFuncs } from "../ops.ts";

/** Flags not yet written; the values are leaves. What the form does not use is absent. */
export interface Pending {
  readonly form: Form;
  readonly size: number;
  readonly x: Value;
  readonly y?: Value;
  readonly extra?: Value;
  readonly result: Value;
}

/** What is known of the flags at a place of the code: nothing, that they are in the state, or how they are pending. */
export type Known = Pending | "state" | null;

export class KeptFlags {
  /** What is known where code is being generated. */
  known: Known = null;
  /** 0: in the state; else the number of their form. */
  readonly #place: Var;
  readonly #x: Var;
  readonly #y: Var;
  readonly #extra: Var;
  /** For questions only: it follows from the others. */
  readonly #result: Var;
  readonly #putFlags: Func;
  readonly #helpers: Helpers;

  constructor(private readonly c: Code, private readonly cpu: Value, f: CpuFuncs) {
    this.#place = c.variable("i32");
    this.#x = c.variable("i64");
    this.#y = c.variable("i64");
    this.#extra = c.variable("i32");
    this.#result = c.variable("i64");
    this.#putFlags = f.more.get("putFlags")!;
    this.#helpers = { c, mulHighS: f.more.get("mulHighS")! };
  }

  get pending(): Pending | null {
    return this.known === "state" ? null : this.known;
  }

  /** An instruction sets them; the values may be in locals of its own. */
  keep(p: Pending): void {
    // A local that is its own value is left alone: a rotation leaves the result where it is.
    const move = (to: Var, value: Value | undefined): Value | undefined => {
      if (value && value !== to.get()) to.set(value);
      return value && to.get();
    };
    const result = move(this.#result, p.result)!, x = move(this.#x, p.x)!, y = move(this.#y, p.y);
    const extra = move(this.#extra, p.extra);
    this.known = { form: p.form, size: p.size, x, result, ...(y ? { y } : {}), ...(extra ? { extra } : {}) };
  }
  /** The same in code that may be jumped over: after it nothing is known. `place` goes before it. */
  keepMaybe(p: Pending): void {
    this.keep(p);
    this.place();
  }

  /** Where they are is told at run time too: before every way to where that is not known. */
  place(): void {
    const p = this.pending;
    if (p) this.#place.set(formNumber(p.form, p.size));
  }

  /** Two places where as much is known are the same to those who come from either. */
  static same(x: Known, y: Known): boolean {
    if (x === y) return true;
    return !!x && !!y && x !== "state" && y !== "state" && x.form === y.form && x.size === y.size;
  }

  /** From here on the state is right. */
  settle(): void {
    const p = this.pending;
    if (p) this.ask(p).put(this.cpu);
    else if (this.known === null) this.write();
    if (this.known !== "state") this.inState();
  }
  /** They have just been written there. */
  inState(): void {
    this.#place.set(0);
    this.known = "state";
  }
  /** Writes them to the state, if `place` says that they are not there. */
  write(): void {
    const c = this.c, place = this.#place.get();
    c.if(place, () => void c.call(this.#putFlags, place, this.#x.get(), this.#y.get(), this.#extra.get()));
  }

  ask(p: Pending): Answers {
    const kept: Kept = { ...p, y: p.y ?? i64(0), extra: p.extra ?? i32(0) };
    return new Answers(kept, this.#helpers);
  }
  /** CF; `inState` asks the state. */
  cf(inState: () => Value): Value {
    const p = this.pending;
    if (p) return this.c.let(this.ask(p).cf());
    if (this.known === "state") return inState();
    // Where a loop goes round: mostly a comparison's, or what its last INC or DEC has kept.
    return cfByNumber(this.c, this.#place.get(), this.#x.get(), this.#y.get(), this.#extra.get(), () => {
      this.write();
      this.#place.set(0);
      return inState();
    });
  }
}
