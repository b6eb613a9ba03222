/** Operands of instructions in a compiled region: registers are locals. */
import { Bug } from "../../../base/errors.ts";
import type { Var } from "../../../wasm/code.ts";
import type { Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import { EXC } from "../state.ts";
import type { JitOps } from "./jit_ops.ts";
import { fieldRegister } from "./region.ts";

export function notWritable(): never {
  throw new Bug("An immediate cannot be written");
}

export class Register implements Operand {
  readonly isMemory = false;
  readonly #n: number;
  readonly #high: boolean;
  constructor(private readonly o: JitOps, readonly bits: number, field: number) {
    this.#n = fieldRegister(field);
    this.#high = (field & 7) === 1;
  }
  get(): Value {
    return this.#high ? this.o.getHigh(this.#n) : this.o.gprAt(this.#n, this.bits);
  }
  set(value: Value): void {
    if (this.#high) this.o.setHigh(this.#n, value);
    else this.o.setGprAt(this.#n, this.bits, value);
  }
  update(change: (old: Value) => Value): void {
    this.set(change(this.get()));
  }
}

export class Vector implements Operand {
  readonly isMemory = false;
  readonly #n: number;
  private readonly v: Var;
  constructor(private readonly o: JitOps, field: number, readonly bits: number) {
    this.#n = field >> 4;
    this.v = o.region.vectors[this.#n]!;
  }
  get(): Value {
    const v = this.v.get(), c = this.o.c;
    switch (this.bits) {
      case 128:
        return c.let(v);
      case 64:
        return c.let(v.lane("i64x2.extract_lane", 0));
      case 32:
        return c.let(v.lane("i32x4.extract_lane", 0));
      case 16:
        return c.let(v.lane("i16x8.extract_lane_u", 0));
      default:
        return c.let(v.lane("i8x16.extract_lane_u", 0));
    }
  }
  set(value: Value): void {
    const v = this.v.get();
    this.o.region.dirty |= 1 << (16 + this.#n);
    if (this.bits === 128) this.v.set(value);
    else if (this.bits === 64) this.v.set(v.lane("i64x2.replace_lane", 0, value));
    else if (this.bits === 32) this.v.set(v.lane("i32x4.replace_lane", 0, value.lo()));
    else throw new Bug(`No vector write of ${this.bits} bits`);
  }
  update(change: (old: Value) => Value): void {
    this.set(change(this.get()));
  }
}

export class Memory implements Operand {
  readonly isMemory = true;
  constructor(
    private readonly o: JitOps,
    private readonly ea: Var,
    readonly bits: number,
    private readonly aligned: boolean,
  ) {}
  /** Before each access. */
  #check(): void {
    if (this.aligned) this.o.faultIf(this.ea.get().and(15).bool(), EXC.GP, 0);
    this.o.near = this.o.uses?.operand;
  }
  get(): Value {
    this.#check();
    return this.o.read(this.ea.get(), this.bits);
  }
  set(value: Value): void {
    this.#check();
    this.o.write(this.ea.get(), this.bits, value);
  }
  update(change: (old: Value) => Value): void {
    this.#check();
    this.o.modify(this.ea.get(), this.bits, change);
  }
}
