/** What native code leaves of the status flags, into the state: generated with the interpreter. */
import type { Func, Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import { FORMS } from "../flag_forms.ts";
import { KIND } from "../flags.ts";
import { CF, OF, S, ZF } from "../state.ts";
import { OVERRIDE } from "./kept.ts";

/** Forms whose values are sign-extended. */
const SIGNED = ["RES", "SAR", "IMUL"] as const;

/** "settleNative": () writes the flags that S.nativeForm and its fields describe to the state. */
export function defineSettleNative(m: Module, cpu: number, putFlags: Func, all: Func): Func {
  return m.func("settleNative", [], [], (c) => {
    const form = c.ld8u(cpu, S.nativeForm), override = c.ld8u(cpu, OVERRIDE.AT);
    c.if(form, () => {
      const kind = c.let(form.sub(1).shrU(2)), unused = c.let(i64(64).sub(i64(8).shl(form.sub(1).and(3).zx())));
      const signed = c.let(SIGNED.map((name) => kind.eq(FORMS.indexOf(name))).reduce((a, b) => a.or(b)));
      // Native code leaves whole registers: what is above the operand size means nothing.
      const cut = (v: Value) => {
        const high = c.let(v.shl(unused));
        return c.let(select(signed, high.shrS(unused), high.shrU(unused)));
      };
      c.call(putFlags, form, cut(c.ld64(cpu, S.nativeX)), cut(c.ld64(cpu, S.nativeY)), c.ld32(cpu, S.nativeExtra));
    });
    c.if(override, () => {
      const flags = c.variable("i32");
      const replace = (which: number, at: number, flag: number) =>
        c.if(override.and(which), () => {
          const bit = c.ld8u(cpu, at).shl(Math.log2(flag));
          flags.set(flags.get().and(~flag).or(bit));
        });
      c.if(override.and(OVERRIDE.STEP), () => {
        // CF is what it was before, or what it has become since.
        flags.set(c.call1(all, i32(cpu)));
        replace(OVERRIDE.CF, OVERRIDE.CF_AT, CF);
        const step = c.ld8u(cpu, OVERRIDE.STEP_AT), unused = c.let(i64(64).sub(i64(8).shl(step.sub(1).and(3).zx())));
        const result = c.let(c.ld64(cpu, S.nativeStepX).shl(unused).shrU(unused));
        c.call(putFlags, step, result, i64(0), flags.get().and(CF));
      });
      flags.set(c.call1(all, i32(cpu)));
      replace(OVERRIDE.CF, OVERRIDE.CF_AT, CF);
      replace(OVERRIDE.OF, OVERRIDE.OF_AT, OF);
      replace(OVERRIDE.ZF, OVERRIDE.ZF_AT, ZF);
      c.st64(cpu, flags.get().zx(), S.fB);
      c.st64(cpu, select(flags.get().and(ZF), i64(0), i64(1)), S.fRes);
      c.st32(cpu, KIND.EXPLICIT, S.fKind);
    });
    c.st32(cpu, 0, S.nativeForm);
  });
}
