/**
 * Forms in which a compiled region keeps status flags: two values and a number, of which everything else follows.
 *
 * | form | x | y | extra |
 * |---|---|---|---|
 * | RES, EXPLICIT | the result, sign-extended | | the flags as in flags.ts |
 * | ADD, SUB | first operand, zero-extended | second | |
 * | LOGIC | the result, zero-extended | | |
 * | INC, DEC | the result, zero-extended | | CF |
 * | ROL, ROR | the result of what was before, sign-extended | what was rotated to | AF |
 * | ADC, SBB | first operand | second | the carry that came in |
 * | others of LATE | `a` | `b` | |
 */
import type { Code } from "../../wasm/code.ts";
import type { Func, Module } from "../../wasm/module.ts";
import { i32, type Operand, type Value } from "../../wasm/value.ts";
import { KIND } from "./flags.ts";
import { type Helpers, type Ingredients, LATE, lateBits, lateCf, type LateName } from "./late_flags.ts";
import { AF, CF, OF, PF, S, SF } from "./state.ts";

export type Form = keyof typeof KIND | LateName;
/** INC and DEC have CF in `extra`; those of one name follow each other by size. */
export const FORMS = [...Object.keys(KIND), ...Object.keys(LATE)] as Form[];

export interface Kept {
  readonly form: Form;
  /** Bits of the operands; 64 where x is sign-extended. */
  readonly size: number;
  readonly x: Value;
  readonly y: Value;
  readonly extra: Value;
  /** The result's low `size` bits; above that anything. */
  readonly result: Value;
}

/** The number of a form, from 1 on. */
export function formNumber(form: Form, size: number): number {
  return 1 + 4 * FORMS.indexOf(form) + Math.log2(size / 8);
}
const isLate = (form: Form): form is LateName => form in LATE;
const isRotation = (form: Form) => form === "ROL" || form === "ROR";

function signed(v: Value, size: number): Value {
  return size === 64 ? v : size === 32 ? v.ext32() : size === 16 ? v.ext16() : v.ext8();
}
function signOf(v: Value, size: number): Value {
  return size === 64 ? v.shrU(63).lo() : v.lo().shrU(size - 1).and(1);
}

/** The result from x, y and extra; above `size` anything. A leaf. */
function resultOf(c: Code, form: Form, x: Value, y: Value, extra: Value): Value {
  switch (form) {
    case "ADD":
      return c.let(x.add(y));
    case "SUB":
      return c.let(x.sub(y));
    case "SHL":
      return c.let(x.shl(y));
    case "SHR":
      return c.let(x.shrU(y));
    case "SAR":
      return c.let(x.shrS(y));
    case "IMUL":
      return c.let(x.mul(y));
    case "ADC":
      return c.let(x.add(y).add(extra.zx()));
    case "SBB":
      return c.let(x.sub(y).sub(extra.zx()));
    default:
      return x;
  }
}

/** Answers about flags that are kept. */
export class Answers {
  readonly #c: Code;
  readonly #size: number;
  constructor(private readonly k: Kept, private readonly more: Helpers) {
    this.#c = more.c;
    // The result that a rotation leaves is there in full.
    this.#size = isRotation(k.form) ? 64 : k.size;
  }

  #ingredients(): Ingredients {
    const { form, x, y, extra } = this.k;
    const result = this.#c.let(signed(this.k.result, this.#size));
    return isRotation(form) ? { result, a: y, b: y, extra } : { result, a: x, b: y, extra };
  }
  /** CF, OF and AF at their places; of EXPLICIT all but ZF. A leaf, or small. */
  bits(): Value {
    const { form, size, x, y } = this.k;
    if (isLate(form)) return this.#c.let(lateBits({ name: form, size }, this.#ingredients(), this.more));
    if (form === "RES" || form === "EXPLICIT") return this.k.extra;
    if (form === "LOGIC") return i32(0);
    const half = x.xor(y).xor(this.k.result).lo().and(AF);
    return this.#c.let(half.or(this.cf()).or(this.of().shl(Math.log2(OF))));
  }
  /** AF at its place, for a rotation: it leaves that alone. */
  af(): Value {
    const { form, x, y, extra } = this.k;
    if (isRotation(form)) return extra;
    if (["LOGIC", "SHL", "SHR", "SAR", "IMUL"].includes(form)) return i32(0);
    if (form === "ADD" || form === "SUB") return this.#c.let(x.xor(y).xor(this.k.result).lo().and(AF));
    return this.#c.let(this.bits().and(AF));
  }
  cf(): Value {
    const { form, size, x, y } = this.k;
    if (isLate(form)) return lateCf({ name: form, size }, this.#ingredients(), this.more);
    if (form === "SUB") return x.ltU(y);
    if (form === "LOGIC") return i32(0);
    if (form === "ADD") return size === 64 ? this.k.result.ltU(x) : x.add(y).shrU(size).lo();
    return this.k.extra.and(CF);
  }
  of(): Value {
    const { form, size, x, y, result } = this.k;
    if (form === "SUB") return signOf(x.xor(y).and(x.xor(result)), size);
    if (form === "ADD") return signOf(x.xor(result).and(y.xor(result)), size);
    if (form === "LOGIC") return i32(0);
    return this.bits().shrU(Math.log2(OF)).and(1);
  }
  zf(): Value {
    const { form, x, y, result } = this.k, size = this.#size;
    if (form === "SUB") return x.eq(y);
    if (size === 64) return result.eqz();
    return (size === 32 ? result.lo() : result.lo().and(size === 16 ? 0xffff : 0xff)).eqz();
  }
  sf(): Value {
    const { form, extra, result } = this.k, size = this.#size;
    if (form === "EXPLICIT") return extra.shrU(Math.log2(SF)).and(1);
    return size === 64 ? result.ltS(0) : size === 32 ? result.lo().ltS(0) : signOf(result, size);
  }
  pf(): Value {
    if (this.k.form === "EXPLICIT") return this.k.extra.shrU(Math.log2(PF)).and(1);
    return this.k.result.lo().and(0xff).popcnt().and(1).xor(1);
  }

  /** An even condition of Jcc, SETcc and CMOVcc: 0 or 1. */
  condition(cc: number): Value {
    const { form, size, x, y } = this.k, sub = form === "SUB", c = this.#c;
    const pair = (): [Value, Value] => size === 32 ? [x.lo(), y.lo()] : [signed(x, size), signed(y, size)];
    switch (cc) {
      case 0:
        return this.of();
      case 2:
        return this.cf();
      case 4:
        return this.zf();
      case 6:
        return sub ? x.leU(y) : form === "LOGIC" ? this.zf() : c.let(this.cf()).or(this.zf());
      case 8:
        return this.sf();
      case 10:
        return this.pf();
      case 12: {
        if (form === "LOGIC") return this.sf();
        if (!sub) return c.let(this.of()).xor(this.sf());
        const [a, b] = pair();
        return a.ltS(b);
      }
      default: {
        if (!sub) return c.let(form === "LOGIC" ? this.sf() : this.of().xor(this.sf())).or(this.zf());
        const [a, b] = pair();
        return a.leS(b);
      }
    }
  }

  /** Writes them to the state of the vCPU at `cpu`. */
  put(cpu: Operand): void {
    const c = this.#c, { form, size, x, y } = this.k;
    const kind = isLate(form) ? KIND.RES : KIND[form];
    // What LATE needs may be worked out by a call: first.
    const bits = isLate(form) ? this.bits() : this.k.extra;
    c.st64(cpu, signed(this.k.result, this.#size), S.fRes);
    if (kind <= KIND.EXPLICIT) c.st64(cpu, bits.zx(), S.fB);
    else if (kind !== KIND.LOGIC) {
      c.st64(cpu, signed(x, size), S.fA);
      c.st64(cpu, signed(y, size), S.fB);
    }
    c.st32(cpu, kind, S.fKind);
  }
}

/** Where the form is known at run time only: CF of the commonest ones, others as `otherwise` has it. */
export function cfByNumber(c: Code, number: Value, x: Value, y: Value, extra: Value, otherwise: () => Value): Value {
  const isOf = (form: Form, count: number) => number.sub(formNumber(form, 8)).ltU(count);
  return c.choose(
    isOf("SUB", 4),
    () => x.ltU(y),
    () => c.choose(isOf("INC", 8), () => extra, otherwise, "i32"),
    "i32",
  );
}

/** "putFlags": (number, x, y, extra) writes what is kept in that form to the state. */
export function definePutFlags(m: Module, cpu: number, mulHighS: Func): Func {
  return m.func("putFlags", ["i32", "i64", "i64", "i32"], [], (c) => {
    const x = c.param(1), y = c.param(2), extra = c.param(3);
    const cases = FORMS.flatMap((form) =>
      [8, 16, 32, 64].map((size) => () => {
        const result = resultOf(c, form, x, y, extra);
        new Answers({ form, size, x, y, extra, result }, { c, mulHighS }).put(cpu);
        c.return();
      })
    );
    c.switch(c.param(0).sub(1), cases, () => c.unreachable());
  });
}
