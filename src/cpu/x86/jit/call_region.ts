/** How compiled regions call each other through the interpreter's table. */
import type { Module } from "../../../wasm/module.ts";
import { i64, type Type, type Value } from "../../../wasm/value.ts";
import { type CpuFuncs, STATUS } from "../ops.ts";
import { ITLB_ENTRIES, MAX_DEPTH, OP, reg, S, VBASE } from "../state.ts";

/**
 * "callRegion" (cpu, back): runs the compiled region at S.rip, and whatever compiled regions that leads to, until rip is
 * `back`. Returns JUMP where there is none (any more), or what a region left with.
 */
export function defineCallRegion(
  m: Module,
  f: CpuFuncs,
  signature: { params: readonly Type[]; results: readonly Type[]; typeIndex: number },
  inLoop: number,
  functions: number,
): void {
  const func = m.func("callRegion", ["i32", "i64"], ["i32"], (c) => {
    const cpu = c.param(0);
    const status = c.variable("i32");
    const none = (when: Value) => c.if(when, () => c.return(STATUS.JUMP));
    const depth = c.ld32(cpu, S.depth);
    none(depth.geU(MAX_DEPTH));
    c.loop((again) => {
      const target = c.ld64(cpu, S.rip);
      const budget = c.ld32(cpu, S.budget);
      none(budget.ltS(0));
      const page = c.let(target.and(-4096));
      const entry = c.let(c.ld32(cpu, S.itlb).add(target.shrU(12).lo().and(ITLB_ENTRIES - 1).shl(4)));
      none(c.ld64(entry).ne(page));
      const table = c.ld32(entry, 8);
      none(table.eqz());
      const op = c.ld32(table.add(target.lo().and(0xfff).shl(2)));
      none(op.eqz());
      const h = c.ld16u(op, OP.h);
      none(h.ltU(inLoop + functions));
      c.st64(cpu, page, reg(VBASE));
      c.st32(cpu, depth.add(1), S.depth);
      // As the interpreter does for an operation it runs.
      c.st32(cpu, budget.sub(1), S.budget);
      status.set(c.callIndirect(signature, h.sub(inLoop), cpu, op, i64(0))[0]!);
      c.st32(cpu, depth, S.depth);
      c.if(status.get().ne(STATUS.JUMP).or(c.ld64(cpu, S.rip).eq(c.param(1))), () => c.return(status.get()));
      c.br(again);
    });
    c.unreachable();
  });
  f.more.set("callRegion", func);
}
