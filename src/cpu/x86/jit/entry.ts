/** How the interpreter enters a region: a function with the signature of a handler, (cpu, op, ea) → status. */
import type { Code } from "../../../wasm/code.ts";
import type { Func } from "../../../wasm/module.ts";
import { i32, i64, type Type, type Value } from "../../../wasm/value.ts";
import { STATUS } from "../ops.ts";
import { reg, RSP, S, VBASE } from "../state.ts";
import { LEFT } from "./region_state.ts";

export const HANDLER: readonly Type[] = ["i32", "i32", "i64"];

/** `base` of the vCPU's state, if that is a constant of the region. */
export function emitEntry(c: Code, region: Func, base: number | null): void {
  const cpu = base === null ? c.param(0) : i32(base), back = 0;
  // The interpreter has counted the operation that led here.
  const budget = c.let(c.ld32(cpu, S.budget).add(1));
  const retired = (n: Value) => c.st64(cpu, c.ld64(cpu, S.tierRetired).add(n), S.tierRetired);
  const leave = (status: Value) => {
    const slot = c.let(cpu.add(status.shl(3)));
    c.st64(slot, c.ld64(slot, S.regionsLeft).add(1), S.regionsLeft);
    c.return(status);
  };
  retired(budget.sx());
  const where = base === null ? cpu : 0;
  const [left, rsp] = c.call(region, where, budget, c.ld64(cpu, reg(VBASE)), back, c.ld64(cpu, reg(RSP))) as [
    Value,
    Value,
  ];
  c.rarely(left.ne(LEFT), () => {
    // No region has called it, but it went there.
    c.st32(cpu, left, S.budget);
    c.st64(cpu, rsp, reg(RSP));
    c.st64(cpu, back, S.rip);
    retired(i64(0).sub(left.sx()));
    leave(i32(STATUS.JUMP));
  });
  retired(i64(0).sub(c.ld32(cpu, S.budget).sx()));
  leave(c.let(c.ld32(cpu, S.exitStatus)));
}
