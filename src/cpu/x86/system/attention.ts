/** Ending an instruction whose effect must be seen before the next one runs. */
import { i32, select, type Value } from "../../../wasm/value.ts";
import { type Ops, STATUS } from "../ops.ts";
import { IF, type INHIBIT, RF, TF } from "../state.ts";

/** The bit of the event word that stands for an NMI. */
export const EVENT_NMI = 2;

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

/**
 * What an instruction ends with that has loaded RIP and the flags: with TF or RF set, the next one is to be run by itself; and what
 * IF or the end of an NMI's handler lets in comes before it.
 */
export function loadedFlags(o: Ops): Value {
  const flags = o.let(o.ld32("eflags"));
  // RF stands only where breakpoints look at it: nothing else would clear it behind the next instruction.
  o.c.rarely(flags.and(RF), () => {
    o.c.if(
      o.ld32("breakpoints"),
      () => o.st32("resumes", 1),
      () => o.st32("eflags", flags.and(~RF)),
    );
  });
  const lets = o.c.atomicLd32(o.ld32("events")).and(select(flags.and(IF), i32(-1), EVENT_NMI));
  return select(o.ld32("eflags").and(TF | RF).or(lets), i32(STATUS.RESYNC), i32(STATUS.JUMP));
}

/** No interrupt before the next instruction has run. */
export function inhibit(o: Ops, what: typeof INHIBIT[keyof typeof INHIBIT]): void {
  o.st32("inhibit", what);
  o.st64("inhibitRip", o.nextRip());
}

/** Calls a plain function without results, such as "flushTlb" and "updateMode". */
export function callPlain(o: Ops, name: string): void {
  o.c.call(o.deep(name), o.cpu);
}

/** Whether an i64 (a leaf) is not a canonical address. */
export function notCanonical(v: Value): Value {
  return v.shl(16).shrS(16).ne(v);
}
