/** The body of one function under construction: statements, locals and structured control flow. */
import { Bug } from "../base/errors.ts";
import { Bytes } from "./bytes.ts";
import type { Func } from "./module.ts";
import { MEMORY } from "./opcodes.ts";
import { i32, lift, type Operand, type Type, TYPE_CODE, Value } from "./value.ts";

/** A place that `br` can go to: the end of a block, or the start of a loop. */
export interface Label {
  readonly depth: number;
}

/** A local that can change. `get()` describes the value it has when the describing statement runs. */
export class Var {
  readonly #get: Value;
  constructor(private readonly code: Code, readonly index: number, readonly type: Type) {
    this.#get = new Value(type, "local", index, []);
  }
  get(): Value {
    return this.#get;
  }
  set(value: Operand): void {
    this.code.expr(lift(value, this.type), this.type);
    this.code.out.u8(0x21);
    this.code.out.u32(this.index);
  }
}

/** What a function takes and gives, for indirect calls. */
export interface Signature {
  readonly params: readonly Type[];
  readonly results: readonly Type[];
  readonly typeIndex: number;
}

export class Code {
  readonly out = new Bytes();
  readonly #locals: Type[] = [];
  /** Locals that may be used again, by type; those made in the present scope. */
  readonly #free: Record<Type, number[]> = { i32: [], i64: [], f32: [], f64: [], v128: [] };
  #scope: number[] = [];
  #scoped = false;
  #depth = 0;
  /** Branches that mostly go one way: place in `out`, and whether that is the condition being true. */
  readonly #hints: [number, boolean][] = [];
  /** The same in the finished body: offset from its first byte. [wasm branch hinting §Binary format] */
  hints: [number, boolean][] = [];

  constructor(readonly params: readonly Type[], readonly results: readonly Type[]) {}

  /** Parameter `i`. */
  param(i: number): Value {
    return new Value(this.params[i]!, "local", i, []);
  }

  /** A parameter as a variable. */
  paramVar(i: number): Var {
    return new Var(this, i, this.params[i]!);
  }

  variable(type: Type, initial?: Operand): Var {
    let index = this.#free[type].pop();
    if (index === undefined) {
      index = this.params.length + this.#locals.length;
      this.#locals.push(type);
    }
    if (this.#scoped) this.#scope.push(index);
    const v = new Var(this, index, type);
    if (initial !== undefined) v.set(initial);
    return v;
  }

  /**
   * Runs `body`; locals made in it may be used again by what comes after. No value from inside may be used outside, and a
   * variable made in a scope without an initial value holds anything. Compilers' work grows with the number of locals.
   */
  scope(body: () => void): void {
    const outer = this.#scope, wasScoped = this.#scoped;
    this.#scope = [];
    this.#scoped = true;
    body();
    for (const index of this.#scope) this.#free[this.#locals[index - this.params.length]!].push(index);
    this.#scope = outer;
    this.#scoped = wasScoped;
  }

  /** Evaluates now, into a local. Constants stay constants. */
  let(value: Value): Value {
    if (value.isConst) return value;
    const v = this.variable(value.type);
    v.set(value);
    return v.get();
  }

  /** Emits a value onto the stack. */
  expr(value: Value, type?: Type): void {
    if (type && value.type !== type) throw new Bug(`Expected ${type}, found ${value.type}`);
    value.emit(this.out);
  }

  /** A load, now. The address is `base + offset`, base an i32. */
  load(name: keyof typeof MEMORY, base: Operand, offset = 0): Value {
    const type = name.slice(0, name.indexOf(".")) as Type;
    const v = this.variable(type);
    this.expr(lift(base, "i32"), "i32");
    this.#memory(name, offset);
    this.out.u8(0x21);
    this.out.u32(v.index);
    return v.get();
  }

  store(name: keyof typeof MEMORY, base: Operand, value: Operand, offset = 0): void {
    const type = name.slice(0, name.indexOf(".")) as Type;
    this.expr(lift(base, "i32"), "i32");
    this.expr(lift(value, type), type);
    this.#memory(name, offset);
  }

  ld8u = (base: Operand, offset = 0) => this.load("i32.load8_u", base, offset);
  ld8s = (base: Operand, offset = 0) => this.load("i32.load8_s", base, offset);
  ld16u = (base: Operand, offset = 0) => this.load("i32.load16_u", base, offset);
  ld16s = (base: Operand, offset = 0) => this.load("i32.load16_s", base, offset);
  ld32 = (base: Operand, offset = 0) => this.load("i32.load", base, offset);
  ld64 = (base: Operand, offset = 0) => this.load("i64.load", base, offset);
  ldF32 = (base: Operand, offset = 0) => this.load("f32.load", base, offset);
  ldF64 = (base: Operand, offset = 0) => this.load("f64.load", base, offset);
  ldV = (base: Operand, offset = 0) => this.load("v128.load", base, offset);
  st8 = (base: Operand, value: Operand, offset = 0) => this.store("i32.store8", base, value, offset);
  st16 = (base: Operand, value: Operand, offset = 0) => this.store("i32.store16", base, value, offset);
  st32 = (base: Operand, value: Operand, offset = 0) => this.store("i32.store", base, value, offset);
  st64 = (base: Operand, value: Operand, offset = 0) => this.store("i64.store", base, value, offset);
  stF32 = (base: Operand, value: Operand, offset = 0) => this.store("f32.store", base, value, offset);
  stF64 = (base: Operand, value: Operand, offset = 0) => this.store("f64.store", base, value, offset);
  stV = (base: Operand, value: Value, offset = 0) => this.store("v128.store", base, value, offset);

  /** An atomic 32-bit load (its address a multiple of 4). */
  atomicLd32(base: Operand, offset = 0): Value {
    const v = this.variable("i32");
    this.expr(lift(base, "i32"), "i32");
    this.out.u8(0xfe);
    this.out.u32(0x10);
    this.out.u32(2);
    this.out.u32(offset);
    this.out.u8(0x21);
    this.out.u32(v.index);
    return v.get();
  }

  /** An atomic 64-bit load (its address a multiple of 8). */
  atomicLd64(base: Operand, offset = 0): Value {
    this.expr(lift(base, "i32"), "i32");
    return this.#atomic(0x11, 3, offset, "i64");
  }

  /**
   * Compares `bits` at `at` (a multiple of their size) with `expected` (zero-extended) and, if they are equal, replaces them;
   * gives what was there, zero-extended: an i64 for 64 bits, else an i32. A full barrier, as all of these are.
   */
  cmpxchg(bits: 8 | 16 | 32 | 64, at: Value, expected: Value, value: Value): Value {
    const type = bits === 64 ? "i64" : "i32";
    this.expr(at, "i32");
    this.expr(expected, type);
    this.expr(value, type);
    return this.#atomic({ 8: 0x4a, 16: 0x4b, 32: 0x48, 64: 0x49 }[bits], Math.log2(bits / 8), 0, type);
  }

  /** Replaces 32 bits; gives what was there. */
  xchg32(at: Value, value: Value): Value {
    this.expr(at, "i32");
    this.expr(value, "i32");
    return this.#atomic(0x41, 2, 0, "i32");
  }

  /** Sleeps while the 32 bits at `at` are `value`, until `notify`. */
  wait32(at: Value, value: Value): void {
    this.expr(at, "i32");
    this.expr(value, "i32");
    this.expr(lift(-1, "i64"), "i64");
    this.#atomic(0x01, 2, 0, "i32");
  }

  /** Wakes up to `count` of those who sleep at `at`. */
  notify(at: Value, count: Operand): void {
    this.expr(at, "i32");
    this.expr(lift(count, "i32"), "i32");
    this.#atomic(0x00, 2, 0, "i32");
  }

  #atomic(code: number, align: number, offset: number, type: Type): Value {
    const v = this.variable(type);
    this.out.u8(0xfe);
    this.out.u32(code);
    this.out.u32(align);
    this.out.u32(offset);
    this.out.u8(0x21);
    this.out.u32(v.index);
    return v.get();
  }

  #memory(name: keyof typeof MEMORY, offset: number): void {
    const code = MEMORY[name][0];
    if (code > 0xff) {
      this.out.u8(code >>> 16);
      this.out.u32(code & 0xffff);
    } else this.out.u8(code);
    // No promise of alignment: guests make none.
    this.out.u32(0);
    this.out.u32(offset);
  }

  /** memory.fill and memory.copy, in bytes. */
  fill(base: Operand, byte: Operand, length: Operand): void {
    for (const x of [base, byte, length]) this.expr(lift(x, "i32"), "i32");
    this.out.raw(Uint8Array.of(0xfc, 11, 0));
  }
  copy(to: Operand, from: Operand, length: Operand): void {
    for (const x of [to, from, length]) this.expr(lift(x, "i32"), "i32");
    this.out.raw(Uint8Array.of(0xfc, 10, 0, 0));
  }

  /** `condition ? then() : otherwise()`, evaluating only one of them, into a local. */
  choose(condition: Value, then: () => Operand, otherwise: () => Operand, type: Type): Value {
    const v = this.variable(type);
    this.if(condition, () => v.set(then()), () => v.set(otherwise()));
    return v.get();
  }

  /** `if` for what hardly ever happens. */
  rarely(condition: Value, then: () => void, otherwise?: () => void): void {
    this.if(condition, then, otherwise, false);
  }
  /** `if` for what nearly always happens. */
  mostly(condition: Value, then: () => void, otherwise?: () => void): void {
    this.if(condition, then, otherwise, true);
  }

  if(condition: Value, then: () => void, otherwise?: () => void, likely?: boolean): void {
    if (condition.isConst) {
      if (condition.imm !== 0) then();
      else otherwise?.();
      return;
    }
    this.expr(condition, "i32");
    if (likely !== undefined) this.#hints.push([this.out.length, likely]);
    this.out.u8(0x04);
    this.out.u8(0x40);
    this.#depth++;
    then();
    if (otherwise) {
      this.out.u8(0x05);
      otherwise();
    }
    this.#depth--;
    this.out.u8(0x0b);
  }

  /** A block; `br(label)` leaves it. */
  block(body: (end: Label) => void): void {
    this.#nest(0x02, body);
  }

  /** A loop; `br(label)` goes round again, falling out of the body ends it. */
  loop(body: (again: Label) => void): void {
    this.#nest(0x03, body);
  }

  #nest(code: number, body: (label: Label) => void): void {
    this.out.u8(code);
    this.out.u8(0x40);
    const label = { depth: ++this.#depth };
    body(label);
    this.#depth--;
    this.out.u8(0x0b);
  }

  br(label: Label): void {
    this.out.u8(0x0c);
    this.out.u32(this.#depth - label.depth);
  }

  brIf(label: Label, condition: Value, likely?: boolean): void {
    this.expr(condition, "i32");
    if (likely !== undefined) this.#hints.push([this.out.length, likely]);
    this.out.u8(0x0d);
    this.out.u32(this.#depth - label.depth);
  }

  /** Runs the case whose number `index` is (falling through never), or the last one if there is none. */
  switch(index: Value, cases: readonly (() => void)[], otherwise: () => void): void {
    this.block((end) => {
      const run = (i: number) => {
        if (i < 0) {
          // Innermost: the table. Case k ends the block that is k levels out.
          this.expr(index, "i32");
          this.out.u8(0x0e);
          this.out.u32(cases.length);
          for (let k = 0; k <= cases.length; k++) this.out.u32(k);
          return;
        }
        this.block(() => run(i - 1));
        if (i < cases.length) cases[i]!();
        else otherwise();
        if (i < cases.length) this.br(end);
      };
      run(cases.length);
    });
  }

  /** The raw table of a switch whose blocks the caller has opened: case k leaves k levels. */
  table(index: Value, count: number): void {
    this.expr(index, "i32");
    this.out.u8(0x0e);
    this.out.u32(count - 1);
    for (let k = 0; k < count; k++) this.out.u32(k);
  }

  /** Calls; the results, each in a local. */
  call(func: Func, ...args: Operand[]): Value[] {
    if (args.length !== func.params.length) throw new Bug(`${func.name} takes ${func.params.length} arguments`);
    args.forEach((a, i) => this.expr(lift(a, func.params[i]!), func.params[i]!));
    this.out.u8(0x10);
    this.out.u32(func.index);
    return this.#take(func.results);
  }

  /** Calls a function that gives one result. */
  call1(func: Func, ...args: Operand[]): Value {
    const [v] = this.call(func, ...args);
    if (!v) throw new Bug(`${func.name} gives no result`);
    return v;
  }

  /** Calls entry `index` of a table (the module's first unless told otherwise); `like` tells the type. */
  callIndirect(like: Signature, index: Value, ...args: Operand[]): Value[] {
    return this.callIndirectOf(0, like, index, ...args);
  }
  callIndirectOf(table: number, like: Signature, index: Value, ...args: Operand[]): Value[] {
    this.#indirect(0x11, table, like, index, args);
    return this.#take(like.results);
  }
  /** Leaves this function for the entry of a table, whose results become this function's. */
  returnCallIndirect(table: number, like: Signature, index: Value, ...args: Operand[]): void {
    this.#indirect(0x13, table, like, index, args);
  }
  #indirect(code: number, table: number, like: Signature, index: Value, args: Operand[]): void {
    args.forEach((a, i) => this.expr(lift(a, like.params[i]!), like.params[i]!));
    this.expr(index, "i32");
    this.out.u8(code);
    this.out.u32(like.typeIndex);
    this.out.u32(table);
  }

  #take(results: readonly Type[]): Value[] {
    const vars = results.map((t) => this.variable(t));
    for (let i = vars.length - 1; i >= 0; i--) {
      this.out.u8(0x21);
      this.out.u32(vars[i]!.index);
    }
    return vars.map((v) => v.get());
  }

  return(...values: Operand[]): void {
    if (values.length !== this.results.length) throw new Bug(`${this.results.length} results expected`);
    values.forEach((v, i) => this.expr(lift(v, this.results[i]!), this.results[i]!));
    this.out.u8(0x0f);
  }

  /** atomic.fence: stores before it are seen by others before loads after it look. */
  fence(): void {
    this.out.raw(Uint8Array.of(0xfe, 0x03, 0x00));
  }

  /** What cannot be reached. */
  unreachable(): void {
    this.out.u8(0x00);
  }

  /** A 0 or 1 from `condition`, evaluated now. */
  flag(condition: Value): Value {
    return this.let(condition);
  }

  /** The body with its local declarations. */
  finish(): Bytes {
    const body = new Bytes();
    const groups: [number, Type][] = [];
    for (const t of this.#locals) {
      const last = groups[groups.length - 1];
      if (last && last[1] === t) last[0]++;
      else groups.push([1, t]);
    }
    body.u32(groups.length);
    for (const [n, t] of groups) {
      body.u32(n);
      body.u8(TYPE_CODE[t]);
    }
    this.hints = this.#hints.map(([at, likely]) => [body.length + at, likely]);
    body.raw(this.out.view());
    // A function that always returns before its end still needs something of the right type there.
    if (this.results.length > 0) body.u8(0x00);
    body.u8(0x0b);
    return body;
  }
}

/** An i32 constant that reads well in a call. */
export const int = i32;
