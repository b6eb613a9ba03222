/** Ending an instruction whose effect must be seen before the next one runs. */
import { i32, select, type Value } from "../../../wasm/value.ts";
import { type Ops, STATUS } from "../ops.ts";
import { TF } from "../state.ts";

/** After an effect that may have raised an interrupt or stopped the machine: leaves if so, goes on otherwise. */
export function attend(o: Ops): void {
  o.c.if(o.c.atomicLd32(o.ld32("events")), () => resync(o));
}

/** The instruction is done; whoever runs the vCPU looks at everything before the next one. */
export function resync(o: Ops): void {
  o.st64("rip", o.nextRip());
  o.leave(STATUS.RESYNC);
}

/** The instruction is done; the next one is fetched anew. */
export function refetch(o: Ops): void {
  o.jump(o.nextRip());
}

/** What an instruction ends with that has loaded RIP and the flags: with TF set, the next one is to be run by itself. */
export function loadedFlags(o: Ops): Value {
  return select(o.ld32("eflags").and(TF), i32(STATUS.RESYNC), i32(STATUS.JUMP));
}

/** Calls a plain function without results, such as "flushTlb" and "updateMode". */
export function callPlain(o: Ops, name: string): void {
  o.c.call(o.deep(name), o.cpu);
}

/** Whether an i64 (a leaf) is not a canonical address. */
export function notCanonical(v: Value): Value {
  return v.shl(16).shrS(16).ne(v);
}
