/**
 * For a processor that runs its guest under a hypervisor, as VMX and its like have it: what leaves the generated code besides
 * what always does. A module generated without it holds none of this.
 *
 * - An instruction whose bit is set in S.exits leaves with STATUS.EXIT before it does anything, behind the check of CPL.
 * - Exceptions leave with STATUS.FAULT instead of being delivered.
 * - An access to memory that the map at S.rights does not allow is a fault of the vector VIOLATION, which nothing delivers:
 *   S.excError tells how (RIGHT, and FINAL), S.physLo and S.physHi where, S.violation the linear address.
 */
import type { Code } from "../../wasm/code.ts";
import { lift, type Value } from "../../wasm/value.ts";
import { type Ops, STATUS } from "./ops.ts";
import type { Row } from "./row.ts";
import { CS, S } from "./state.ts";

export interface Exits {
  /** The bit of S.exits that stands for the row's instructions; 0 if they never leave. */
  bit(row: Row): number;
}

/** How many bytes the map at S.rights has: a page each, of the first 4 GiB. */
export const MAP_PAGES = 1 << 20;
/** A vector that no exception has. */
export const VIOLATION = 0x100;
/** Bits of a page's byte in the map, and of what an access wants. */
export const RIGHT = { READ: 1, WRITE: 2, EXEC: 4 } as const;
/** In S.excError beside them: the access was to what the guest's page tables lead to, not to one of them. */
export const FINAL = 8;

export function emitExit(o: Ops, bit: number): void {
  if (bit === 0) return;
  o.c.if(o.ld32("exits").and(bit), () => {
    const linear = o.thisLinear();
    o.st64("rip", linear);
    o.c.if(o.ld32("mode").and(3).ne(2), () => {
      o.st64("rip", linear.sub(o.c.ld64(o.cpu, S.segBase + CS * 8)).and(0xffff_ffff));
    });
    o.leave(STATUS.EXIT);
  });
}

/**
 * Unless everything that `wanted` (RIGHT) names is allowed at a guest-physical address: notes a violation and runs `leave`.
 * `linear` leads there; `more` is told beside what was wanted.
 */
export function guardMapped(
  c: Code,
  cpu: Value,
  linear: Value,
  physical: Value,
  wanted: Value | number,
  more: number,
  leave: () => void,
): void {
  const allowed = c.variable("i32", 0), need = c.let(lift(wanted, "i32"));
  const page = c.let(physical.shrU(12));
  c.if(page.ltU(MAP_PAGES), () => allowed.set(c.ld8u(c.ld32(cpu, S.rights).add(page.lo()))));
  c.if(allowed.get().and(need).ne(need), () => {
    c.st64(cpu, linear, S.violation);
    c.st32(cpu, physical.lo(), S.physLo);
    c.st32(cpu, physical.shrU(32).lo(), S.physHi);
    c.st32(cpu, need.or(more), S.excError);
    c.st32(cpu, VIOLATION, S.excVector);
    leave();
  });
}
