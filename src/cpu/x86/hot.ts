/**
 * Where compiled code is left for the interpreter, counted: a place that is come to often is worth compiling, however few
 * instructions are interpreted there, and samples would hardly ever meet it.
 *
 * A table of counts, by the address of the first record of what is interpreted; two places that share an entry wear each other
 * down. A place that has come to S.hotLimit is put on a list that RegionTier empties between slices.
 */
import type { Func, Module } from "../../wasm/module.ts";
import { i32 } from "../../wasm/value.ts";
import { HOT, HOT_ENTRIES, HOT_PLACES, S } from "./state.ts";

/**
 * For regions. Fewer, and what runs once fills the compiling thread before what samples find: with 2000 a pipe took 1.4 times as
 * long, fork 1.4.
 */
export const HOT_LIMIT = 20_000;
/** The count of a place that has been listed: it was refused, or will be compiled soon. */
const LISTED = 1_000_000;

/** (cpu, record): a region was left for what S.lookedPage and S.lookedOffset describe, whose first record this is. */
export function defineHot(m: Module): Func {
  return m.func("hot", ["i32", "i32"], [], (c) => {
    const cpu = c.param(0), record = c.param(1);
    const entry = c.let(cpu.add(record.shrU(4).and(HOT_ENTRIES - 1).shl(3)));
    const count = c.let(c.ld32(entry, HOT + 4));
    c.if(c.ld32(entry, HOT).ne(record), () => {
      c.if(count.gtS(0), () => c.st32(entry, count.sub(1), HOT + 4), () => {
        c.st32(entry, record, HOT);
        c.st32(entry, 1, HOT + 4);
      });
      c.return();
    });
    const listed = c.ld32(cpu, S.hotPlaces), limit = c.let(c.ld32(cpu, S.hotLimit));
    c.if(count.ltS(limit), () => c.st32(entry, count.add(1), HOT + 4));
    c.if(count.eq(limit).and(listed.ltU(HOT_PLACES)), () => {
      c.st32(entry, i32(LISTED), HOT + 4);
      const at = c.let(cpu.add(listed.shl(3)));
      c.st32(at, c.ld32(cpu, S.lookedPage), S.hot);
      c.st32(at, c.ld32(cpu, S.lookedOffset), S.hot + 4);
      c.st32(cpu, listed.add(1), S.hotPlaces);
    });
  });
}
