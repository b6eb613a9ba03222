/**
 * Values: pure expressions over WebAssembly locals and constants.
 *
 * A value is a description; it becomes code where a statement of a `Code` (code.ts) uses it. Whatever reads memory or calls is
 * a statement and gives back a value that is already in a local, so the order of effects is the order of the TypeScript lines.
 * A value that is used more than once and is more than a leaf is best put into a local by `code.let`; a large one must be.
 *
 * Operations take their instruction from the type of the left operand and check the right one: a mistake throws while the
 * code is being generated. Plain numbers (and bigints) stand for constants of the left operand's type.
 */
import { Bug } from "../base/errors.ts";
import type { Bytes } from "./bytes.ts";
import { LANES, OPCODES, SIMD } from "./opcodes.ts";

export type Type = "i32" | "i64" | "f32" | "f64" | "v128";
export const TYPE_CODE: Record<Type, number> = { i32: 0x7f, i64: 0x7e, f32: 0x7d, f64: 0x7c, v128: 0x7b };
const LETTER: Record<string, Type> = { i: "i32", I: "i64", f: "f32", F: "f64", v: "v128" };

export type Operand = Value | number | bigint;

/** Instructions by type and short name ("add" for "i32.add"): found without building strings. */
const BY_TYPE: Record<
  string,
  Record<string, { readonly code: number; readonly second: Type; readonly result: Type; readonly arity: number }>
> = {};
for (const o of OPCODES.values()) {
  const dot = o.name.indexOf("."), prefix = o.name.slice(0, dot);
  const first = LETTER[o.params[0]!]!;
  if (prefix !== first && !(o.name === "i32.wrap_i64")) continue;
  (BY_TYPE[prefix] ??= {})[o.name.slice(dot + 1)] = {
    code: o.code,
    second: LETTER[o.params[1] ?? o.params[0]!]!,
    result: LETTER[o.result]!,
    arity: o.params.length,
  };
}
const NONE: readonly Value[] = [];

/** How large a value may be and still be emitted twice. */
const REPEATABLE = 4;

export class Value {
  /** Instructions in this expression. */
  readonly size: number;
  /** Whether this is an integer or float constant. */
  readonly isConst: boolean;
  #emitted = false;

  constructor(
    readonly type: Type,
    readonly kind: "op" | "const" | "local" | "lane" | "shuffle" | "select" | "global",
    readonly code: number,
    readonly args: readonly Value[],
    readonly imm: number | bigint | Uint8Array = 0,
  ) {
    let size = 1;
    for (let i = 0; i < args.length; i++) size += args[i]!.size;
    this.size = size;
    this.isConst = kind === "const" && type !== "v128";
  }

  emit(out: Bytes): void {
    if (this.#emitted && this.size > REPEATABLE) {
      throw new Bug(`A value of ${this.size} instructions is used twice: put it into a local with let()`);
    }
    this.#emitted = true;
    for (let i = 0; i < this.args.length; i++) this.args[i]!.emit(out);
    switch (this.kind) {
      case "op":
        return emitOp(out, this.code);
      case "const":
        out.u8(this.code);
        if (this.type === "i32") out.s32(this.imm as number);
        else if (this.type === "i64") out.s64(this.imm as bigint);
        else if (this.type === "f32") out.f32(this.imm as number);
        else if (this.type === "f64") out.f64(this.imm as number);
        else out.u8(12), out.raw(this.imm as Uint8Array);
        return;
      case "local":
        out.u8(0x20);
        return out.u32(this.code);
      case "global":
        out.u8(0x23);
        return out.u32(this.code);
      case "lane":
        emitOp(out, this.code);
        return out.u8(this.imm as number);
      case "shuffle":
        emitOp(out, SIMD | 13);
        return out.raw(this.imm as Uint8Array);
      case "select":
        if (this.type === "v128") {
          out.u8(0x1c);
          out.u32(1);
          return out.u8(TYPE_CODE.v128);
        }
        return out.u8(0x1b);
    }
  }

  /** Any instruction without immediates, by its name; `this` is the first operand. */
  op(name: string, ...rest: Operand[]): Value {
    const o = OPCODES.get(name);
    if (!o) throw new Bug(`No instruction ${name}`);
    const args = [this, ...rest].map((a, i) => lift(a, LETTER[o.params[i]!] ?? "i32"));
    if (args.length !== o.params.length) throw new Bug(`${name} takes ${o.params.length} operands`);
    args.forEach((a, i) => {
      if (a.type !== LETTER[o.params[i]!]) throw new Bug(`${name}: operand ${i} is ${a.type}`);
    });
    return new Value(LETTER[o.result]!, "op", o.code, args);
  }

  /** A vector instruction with a lane number, such as "i8x16.extract_lane_u". */
  lane(name: keyof typeof LANES, lane: number, value?: Operand): Value {
    const [code, signature] = LANES[name];
    const [params, result] = signature.split(":") as [string, string];
    const args: Value[] = [this];
    if (value !== undefined) args.push(lift(value, LETTER[params[1]!]!));
    if (args.length !== params.length) throw new Bug(`${name} takes ${params.length} operands`);
    return new Value(LETTER[result]!, "lane", SIMD | code, args, lane);
  }

  /** i8x16.shuffle: byte i of the result is byte lanes[i] of this (0..15) or of `b` (16..31). */
  shuffle(b: Value, lanes: readonly number[]): Value {
    if (lanes.length !== 16) throw new Bug("A shuffle has 16 lanes");
    return new Value("v128", "shuffle", 0, [this, b], Uint8Array.from(lanes));
  }

  #bin(name: string, b: Operand): Value {
    const o = BY_TYPE[this.type]?.[name], v = lift(b, this.type);
    if (!o || o.arity !== 2) throw new Bug(`No instruction ${this.type}.${name}`);
    if (v.type !== o.second) throw new Bug(`${this.type}.${name}: operand 1 is ${v.type}`);
    return new Value(o.result, "op", o.code, [this, v]);
  }
  #un(name: string): Value {
    const o = BY_TYPE[this.type]?.[name];
    if (!o || o.arity !== 1) throw new Bug(`No instruction ${this.type}.${name}`);
    return new Value(o.result, "op", o.code, [this]);
  }
  #sign(float: string, integer: string, b: Operand): Value {
    return this.#bin(this.type === "f32" || this.type === "f64" ? float : integer, b);
  }

  add(b: Operand): Value {
    if (this.type === "i32" || this.type === "i64") {
      const v = lift(b, this.type);
      if (isZero(v)) return this;
      if (isZero(this)) return v;
      return this.#fold(v, (x, y) => x + y) ?? this.#bin("add", v);
    }
    return this.#bin("add", b);
  }
  sub(b: Operand): Value {
    if (this.type === "i32" || this.type === "i64") {
      const v = lift(b, this.type);
      if (isZero(v)) return this;
      return this.#fold(v, (x, y) => x - y) ?? this.#bin("sub", v);
    }
    return this.#bin("sub", b);
  }
  mul(b: Operand): Value {
    return this.#bin("mul", b);
  }
  divS(b: Operand): Value {
    return this.#bin("div_s", b);
  }
  divU(b: Operand): Value {
    return this.#bin("div_u", b);
  }
  div(b: Operand): Value {
    return this.#bin("div", b);
  }
  remS(b: Operand): Value {
    return this.#bin("rem_s", b);
  }
  remU(b: Operand): Value {
    return this.#bin("rem_u", b);
  }
  and(b: Operand): Value {
    if (this.type === "v128") return this.op("v128.and", b);
    const v = lift(b, this.type);
    return this.#fold(v, (x, y) => x & y) ?? this.#bin("and", v);
  }
  or(b: Operand): Value {
    if (this.type === "v128") return this.op("v128.or", b);
    const v = lift(b, this.type);
    if (isZero(v)) return this;
    return this.#fold(v, (x, y) => x | y) ?? this.#bin("or", v);
  }
  xor(b: Operand): Value {
    if (this.type === "v128") return this.op("v128.xor", b);
    const v = lift(b, this.type);
    if (isZero(v)) return this;
    return this.#fold(v, (x, y) => x ^ y) ?? this.#bin("xor", v);
  }
  not(): Value {
    return this.type === "v128" ? this.op("v128.not") : this.xor(-1);
  }
  neg(): Value {
    return this.type === "f32" || this.type === "f64" ? this.#un("neg") : lift(0, this.type).#bin("sub", this);
  }
  shl(b: Operand): Value {
    const v = lift(b, this.type);
    return isZero(v) ? this : this.#bin("shl", v);
  }
  shrU(b: Operand): Value {
    const v = lift(b, this.type);
    return isZero(v) ? this : this.#bin("shr_u", v);
  }
  shrS(b: Operand): Value {
    const v = lift(b, this.type);
    return isZero(v) ? this : this.#bin("shr_s", v);
  }
  rotl(b: Operand): Value {
    return this.#bin("rotl", b);
  }
  rotr(b: Operand): Value {
    return this.#bin("rotr", b);
  }
  eq(b: Operand): Value {
    const v = lift(b, this.type);
    return isZero(v) && (this.type === "i32" || this.type === "i64") ? this.eqz() : this.#bin("eq", v);
  }
  ne(b: Operand): Value {
    return this.#bin("ne", b);
  }
  eqz(): Value {
    if (this.isConst) return i32(isZero(this) ? 1 : 0);
    return this.#un("eqz");
  }
  /** 1 if not zero. */
  bool(): Value {
    return this.#bin("ne", 0);
  }
  ltS(b: Operand): Value {
    return this.#sign("lt", "lt_s", b);
  }
  leS(b: Operand): Value {
    return this.#sign("le", "le_s", b);
  }
  gtS(b: Operand): Value {
    return this.#sign("gt", "gt_s", b);
  }
  geS(b: Operand): Value {
    return this.#sign("ge", "ge_s", b);
  }
  ltU(b: Operand): Value {
    return this.#bin("lt_u", b);
  }
  leU(b: Operand): Value {
    return this.#bin("le_u", b);
  }
  gtU(b: Operand): Value {
    return this.#bin("gt_u", b);
  }
  geU(b: Operand): Value {
    return this.#bin("ge_u", b);
  }
  clz(): Value {
    return this.#un("clz");
  }
  ctz(): Value {
    return this.#un("ctz");
  }
  popcnt(): Value {
    return this.#un("popcnt");
  }
  ext8(): Value {
    return this.#un("extend8_s");
  }
  ext16(): Value {
    return this.#un("extend16_s");
  }
  /** Sign-extends the low 32 bits of an i64. */
  ext32(): Value {
    return this.#un("extend32_s");
  }
  /** The low 32 bits of an i64; an i32 is itself. */
  lo(): Value {
    if (this.type === "i32") return this;
    if (this.isConst) return i32(Number(BigInt.asIntN(32, this.imm as bigint)));
    return new Value("i32", "op", 0xa7, [this]);
  }
  /** Zero-extended to i64; an i64 is itself. */
  zx(): Value {
    if (this.type === "i64") return this;
    if (this.isConst) return i64(BigInt((this.imm as number) >>> 0));
    return new Value("i64", "op", 0xad, [this]);
  }
  /** Sign-extended to i64; an i64 is itself. */
  sx(): Value {
    if (this.type === "i64") return this;
    if (this.isConst) return i64(BigInt((this.imm as number) | 0));
    return new Value("i64", "op", 0xac, [this]);
  }
  /** Bit `n` as 0 or 1, in an i32. */
  bit(n: number): Value {
    return this.shrU(n).lo().and(1);
  }

  #fold(b: Value, f: (x: bigint, y: bigint) => bigint): Value | undefined {
    if (!this.isConst || !b.isConst) return undefined;
    const r = f(BigInt(this.imm as number), BigInt(b.imm as number));
    return this.type === "i32" ? i32(Number(BigInt.asIntN(32, r))) : this.type === "i64" ? i64(r) : undefined;
  }
}

function emitOp(out: Bytes, code: number): void {
  const prefix = code >>> 16;
  if (prefix === 0) return out.u8(code);
  out.u8(prefix);
  out.u32(code & 0xffff);
}

function isZero(v: Value): boolean {
  return v.isConst && (v.imm === 0 || v.imm === 0n);
}

/** Constants are shared: small ones are asked for all the time. */
const SMALL = 1024;
const small32: Value[] = [], small64: Value[] = [];
export function i32(value: number): Value {
  const v = value | 0;
  if (v >= -SMALL && v < SMALL) return small32[v + SMALL] ??= new Value("i32", "const", 0x41, NONE, v);
  return new Value("i32", "const", 0x41, NONE, v);
}
export function i64(value: number | bigint): Value {
  if (typeof value === "number" && value >= -SMALL && value < SMALL && Number.isInteger(value)) {
    return small64[value + SMALL] ??= new Value("i64", "const", 0x42, NONE, BigInt(value));
  }
  return new Value("i64", "const", 0x42, NONE, BigInt.asIntN(64, BigInt(value)));
}
export function f32(value: number): Value {
  return new Value("f32", "const", 0x43, [], value);
}
export function f64(value: number): Value {
  return new Value("f64", "const", 0x44, [], value);
}
/** A vector constant from its 16 bytes. */
export function v128(bytes: Uint8Array): Value {
  if (bytes.length !== 16) throw new Bug("A vector has 16 bytes");
  return new Value("v128", "const", 0xfd, [], bytes.slice());
}

/** A constant of type `type`, or the value itself. */
export function lift(x: Operand, type: Type): Value {
  if (x instanceof Value) return x;
  switch (type) {
    case "i32":
      return i32(typeof x === "bigint" ? Number(BigInt.asIntN(32, x)) : x);
    case "i64":
      return i64(x);
    case "f32":
      return f32(Number(x));
    case "f64":
      return f64(Number(x));
    case "v128":
      throw new Bug("A number is not a vector");
  }
}

/** `condition ? a : b`; both sides are evaluated. */
export function select(condition: Value, a: Value, b: Operand): Value {
  const other = lift(b, a.type);
  if (other.type !== a.type || condition.type !== "i32") {
    throw new Bug(`select of ${condition.type} ${a.type} ${other.type}`);
  }
  return new Value(a.type, "select", 0, [a, other, condition]);
}
