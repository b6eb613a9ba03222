/** A stack under construction (or being taken down): nothing of it is in SS or RSP before `commit`. */
import type { Var } from "../../../wasm/code.ts";
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, lift, type Operand as Num, select, type Value } from "../../../wasm/value.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import { EXC, MODE_64, RSP, SS, TR } from "../state.ts";
import { desc, notCanonical, raise, raiseIf, RIGHTS, selectorError } from "./segments.ts";

export class Frame {
  readonly #base: Var;
  readonly #limit: Var;
  readonly #rights: Var;
  /** 64-bit: no base, no limit. */
  readonly #flat: Var;
  readonly #mask: Var;
  readonly sp: Var;
  readonly #cpl: Var;
  /** Error code of #SS. */
  readonly #error: Var;

  constructor(private readonly o: Ops) {
    const c = o.c;
    this.#base = c.variable("i64", 0);
    this.#limit = c.variable("i32", 0);
    this.#rights = c.variable("i32", 0);
    this.#flat = c.variable("i32", 0);
    this.#mask = c.variable("i64", -1);
    this.sp = c.variable("i64", 0);
    this.#cpl = c.variable("i32", 0);
    this.#error = c.variable("i32", 0);
  }

  #setMask(): void {
    const wide = this.#rights.get().and(RIGHTS.DB);
    this.#mask.set(select(this.#flat.get(), i64(-1), select(wide, i64(0xffff_ffff), i64(0xffff))));
  }
  /** The stack in use. */
  current(): void {
    const o = this.o;
    this.#flat.set(o.ld32("mode").and(3).eq(MODE_64));
    this.#base.set(o.ld64("segBase", SS));
    this.#limit.set(o.ld32("segLimit", SS));
    this.#rights.set(o.ld32("segRights", SS));
    this.#cpl.set(o.ld32("cpl"));
    this.#error.set(0);
    this.sp.set(o.gpr(RSP));
    this.#setMask();
  }
  /** The stack of another privilege level, in the segment that descriptor `d` describes. */
  segment(selector: Value, d: Value, cpl: Value, sp: Value): void {
    this.#flat.set(0);
    this.#base.set(desc.base(d));
    const limit = this.o.let(d.lo().and(0xffff).or(d.shrU(32).lo().and(0xf_0000)));
    this.#limit.set(select(d.bit(55), limit.shl(12).or(0xfff), limit));
    this.#rights.set(d.shrU(40).lo().and(0xff).or(d.shrU(52).lo().and(15).shl(12)));
    this.#cpl.set(cpl);
    this.#error.set(selectorError(selector));
    this.sp.set(sp);
    this.#setMask();
  }
  /** A 64-bit stack. */
  flat(cpl: Value, sp: Value): void {
    this.#flat.set(1);
    this.#mask.set(-1);
    this.#cpl.set(cpl);
    this.sp.set(sp);
  }

  #where(): Value[] {
    return [this.#base, this.#limit, this.#rights, this.#flat].map((v) => v.get());
  }
  push(value: Value, bytes: Num): void {
    const o = this.o, n = o.let(lift(bytes, "i32"));
    this.sp.set(this.sp.get().sub(n.zx()));
    const at = this.sp.get().and(this.#mask.get());
    o.callF(o.deep("frame.put"), o.cpu, ...this.#where(), at, value.zx(), n, this.#cpl.get(), this.#error.get());
  }
  /** The next item, zero-extended. */
  pop(bytes: Num): Value {
    const o = this.o, n = o.let(lift(bytes, "i32"));
    const at = this.sp.get().and(this.#mask.get());
    const [v] = o.callF(o.deep("frame.get"), o.cpu, ...this.#where(), at, n, this.#cpl.get()) as [Value];
    this.sp.set(this.sp.get().add(n.zx()));
    return v;
  }
  /** Writes the stack pointer, at the width of the stack. */
  commit(): void {
    const sp = this.sp.get();
    const merged = this.o.gpr(RSP).and(-0x1_0000).or(sp.and(0xffff));
    this.o.setGpr(RSP, select(this.#mask.get().eq(0xffff), merged, sp.and(this.#mask.get())));
  }
}

/** Defines what frames call, and where a task state says the stacks of inner levels are: "tss.rsp", "tss.stack", "checkStack". */
export function defineFrames(m: Module, f: CpuFuncs): void {
  const place = (o: Ops, [base, limit, rights, flat, at, bytes, error]: Value[]): Value => {
    const c = o.c, address = c.variable("i64", at!);
    c.if(flat!, () => raiseIf(o, notCanonical(at!), EXC.SS, error!), () => {
      const last = c.let(at!.add(bytes!.sub(1).zx()));
      const top = select(rights!.and(RIGHTS.DB), i64(0xffff_ffff), i64(0xffff));
      const expandDown = rights!.and(12).eq(4);
      const bad = select(expandDown, at!.leU(limit!.zx()).or(last.gtU(top)), last.gtU(limit!.zx()));
      raiseIf(o, bad.or(rights!.and(RIGHTS.UNUSABLE).bool()), EXC.SS, error!);
      address.set(base!.add(at!).and(0xffff_ffff));
    });
    return address.get();
  };

  // (base, limit, rights, flat, at, value, bytes, CPL, error)
  deepFunc(m, f, "frame.put", ["i64", "i32", "i32", "i32", "i64", "i64", "i32", "i32", "i32"], [], (o, ...p) => {
    const c = o.c,
      [base, limit, rights, flat, at, value, bytes, cpl, error] = p as [
        Value,
        Value,
        Value,
        Value,
        Value,
        Value,
        Value,
        Value,
        Value,
      ];
    const address = place(o, [base, limit, rights, flat, at, bytes, error]);
    const put = (bits: number, v: Value) => () => o.callF(o.deep(`privWrite${bits}`), o.cpu, address, v, cpl);
    c.if(bytes.eq(8), put(64, value), () => c.if(bytes.eq(4), put(32, value.lo()), put(16, value.lo())));
  });
  // (base, limit, rights, flat, at, bytes, CPL) → the item
  deepFunc(m, f, "frame.get", ["i64", "i32", "i32", "i32", "i64", "i32", "i32"], ["i64"], (o, ...p) => {
    const c = o.c;
    const [base, limit, rights, flat, at, bytes, cpl] = p as [Value, Value, Value, Value, Value, Value, Value];
    const address = place(o, [base, limit, rights, flat, at, bytes, i32(0)]);
    const get = (bits: number) => () => {
      const [v] = o.callF(o.deep(`privRead${bits}`), o.cpu, address, cpl) as [Value];
      c.return(STATUS.NEXT, v.zx());
    };
    c.if(bytes.eq(8), get(64), () => c.if(bytes.eq(4), get(32), get(16)));
    c.return(STATUS.NEXT, 0);
  });

  // (selector, level, vector) → descriptor: a stack segment for `level`, writable, present, its accessed flag set.
  deepFunc(m, f, "checkStack", ["i32", "i32", "i32"], ["i64"], (o, selector, level, vector) => {
    const c = o.c, error = c.let(selectorError(selector!));
    const [d] = o.callF(o.deep("descriptor"), o.cpu, selector!, vector!) as [Value];
    const wrong = c.let(selector!.and(3).ne(level!).or(desc.dpl(d).ne(level!)));
    raiseIf(o, wrong.or(desc.isSegment(d).eqz()).or(desc.type(d).and(10).ne(2)), vector!, error);
    raiseIf(o, desc.present(d).eqz(), EXC.SS, error);
    o.callF(o.deep("markAccessed"), o.cpu, selector!, d);
    c.return(STATUS.NEXT, d);
  });
  // (offset in the TSS, bytes): #TS with the task register's selector unless it lies within the limit.
  deepFunc(m, f, "tss.check", ["i32", "i32"], [], (o, offset, bytes) => {
    const beyond = offset!.add(bytes!.sub(1)).gtU(o.ld32("segLimit", TR));
    raiseIf(o, beyond, EXC.TS, selectorError(o.ld32("segSelector", TR)));
  });
  // (offset in the TSS) → a stack pointer of long mode.
  deepFunc(m, f, "tss.rsp", ["i32"], ["i64"], (o, offset) => {
    o.callF(o.deep("tss.check"), o.cpu, offset!, 8);
    const [v] = o.callF(o.deep("supRead64"), o.cpu, o.ld64("segBase", TR).add(offset!.zx())) as [Value];
    o.c.return(STATUS.NEXT, v);
  });
  // (level) → selector, pointer, descriptor of that level's stack in legacy modes, checked: [sdm3 6.12.1].
  deepFunc(m, f, "tss.stack", ["i32"], ["i32", "i64", "i64"], (o, level) => {
    const c = o.c, base = o.ld64("segBase", TR);
    const selector = c.variable("i32"), sp = c.variable("i64");
    c.if(o.ld32("segRights", TR).and(8), () => {
      const at = c.let(level!.shl(3).add(4));
      o.callF(o.deep("tss.check"), o.cpu, at, 6);
      const [low] = o.callF(o.deep("supRead32"), o.cpu, base.add(at.zx())) as [Value];
      const [high] = o.callF(o.deep("supRead16"), o.cpu, base.add(at.zx()).add(4)) as [Value];
      sp.set(low.zx());
      selector.set(high);
    }, () => {
      const at = c.let(level!.shl(2).add(2));
      o.callF(o.deep("tss.check"), o.cpu, at, 4);
      const [both] = o.callF(o.deep("supRead32"), o.cpu, base.add(at.zx())) as [Value];
      sp.set(both.and(0xffff).zx());
      selector.set(both.shrU(16));
    });
    const s = selector.get();
    c.if(s.and(0xfffc).eqz(), () => raise(o, EXC.TS, 0));
    const [d] = o.callF(o.deep("checkStack"), o.cpu, s, level!, EXC.TS) as [Value];
    c.return(STATUS.NEXT, s, sp.get(), d);
  });
}

/** Makes SS null for code of level `cpl` in 64-bit mode. */
export function nullStack(o: Ops, selector: Value, cpl: Value): void {
  o.st32("segSelector", selector, SS);
  o.st32("segRights", cpl.shl(RIGHTS.DPL).or(RIGHTS.UNUSABLE), SS);
  o.st32("segLimit", 0, SS);
  o.st64("segBase", 0, SS);
}
