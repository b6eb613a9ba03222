/**
 * MONITOR and MWAIT: [sdm2], [sdm3 §9.10.5].
 *
 * What is watched is the page that the line lies in: a store elsewhere in the page ends the wait as well, which software must
 * expect (CPUID leaf 5 tells the size). Memory that is not RAM is not watched, and MWAIT goes on at once. Hints are taken for C1.
 */
import type { Module } from "../../../wasm/module.ts";
import type { Imports } from "../imports.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import type { Row } from "../row.ts";
import { EXC, MWAIT, RAX, RCX } from "../state.ts";
import { at, Index } from "./string.ts";

export function defineMonitor(m: Module, f: CpuFuncs, imports: Imports): void {
  // (linear address)
  deepFunc(m, f, "monitor", ["i64"], [], (o, address) => {
    o.c.call(imports.monitor, address!.lo(), address!.shrU(32).lo());
  });
}

/** Both are the supervisor's, and say so as if they did not exist. */
function supervisorOnly(o: Ops): void {
  o.faultIf(o.ld32("cpl").bool(), EXC.UD);
}

function monitor(o: Ops): void {
  supervisorOnly(o);
  // No extension is defined.
  o.gpIf(o.gprAt(RCX, 32).bool());
  const address = at(o, o.field("b"), new Index(o).get(RAX), 1, 0);
  // A load of a byte, as far as faults go.
  o.let(o.read(address, 8));
  o.callF(o.deep("monitor"), o.cpu, address);
}

function mwait(o: Ops): void {
  supervisorOnly(o);
  const extensions = o.let(o.gprAt(RCX, 32));
  o.gpIf(extensions.and(~MWAIT.BREAKS).bool());
  o.st32("mwait", extensions.or(MWAIT.WAITS));
  o.st64("rip", o.nextRip());
  o.leave(STATUS.HALT);
}

const noHost = "the supervisor's";
export const ROWS: readonly Row[] = [
  { op: "0F 01 C8", name: "MONITOR", string: true, modes: true, feature: "MONITOR", noHost, sem: monitor },
  { op: "0F 01 C9", name: "MWAIT", modes: true, ends: true, feature: "MONITOR", noHost, sem: mwait },
];
