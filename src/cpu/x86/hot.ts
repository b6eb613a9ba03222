/**
 * Where compiled code is left for the interpreter, counted: a place that is come to often is worth compiling, however few
 * instructions are interpreted there, and samples would hardly ever meet it.
 *
 * A table of counts, by the address of the first record of what is interpreted. Two places share a pair of entries, of a third
 * one all wear each other down. A place that has come to S.hotLimit is put on a list that is emptied between slices.
 * Whoever halves the counts now and then asks how often a place is come to, and not only whether it has been for long.
 */
import type { Func, Module } from "../../wasm/module.ts";
import { i32, select, type Value } from "../../wasm/value.ts";
import { HOT, HOT_ENTRIES, HOT_PLACES, S } from "./state.ts";

/**
 * For regions: so many times in HOT_SLICES slices, after which counts are halved. A limit for all time instead fills the compiling
 * thread with what runs once, before samples find better (2000: pipe and fork took 1.4 times as long), or comes late (20,000).
 */
export const HOT_LIMIT = 4000, HOT_SLICES = 1024;
/** The count of a place that has been listed: it was refused, or will be compiled soon. */
const LISTED = 1_000_000;

/** (cpu, record): a region was left for what S.lookedPage and S.lookedOffset describe, whose first record this is. */
export function defineHot(m: Module): Func {
  return m.func("hot", ["i32", "i32"], [], (c) => {
    const cpu = c.param(0), record = c.param(1);
    const first = c.let(cpu.add(record.shrU(4).and(HOT_ENTRIES - 1).shl(3))), second = c.let(first.xor(8));
    const counted = (at: Value) => c.ld32(at, HOT).eq(record);
    const fewer = select(c.ld32(second, HOT + 4).ltS(c.ld32(first, HOT + 4)), second, first);
    const entry = c.let(select(counted(first), first, select(counted(second), second, fewer)));
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
    c.if(count.geS(limit).and(count.ltS(LISTED / 2)).and(listed.ltU(HOT_PLACES)), () => {
      c.st32(entry, i32(LISTED), HOT + 4);
      const at = c.let(cpu.add(listed.shl(3)));
      c.st32(at, c.ld32(cpu, S.lookedPage), S.hot);
      c.st32(at, c.ld32(cpu, S.lookedOffset), S.hot + 4);
      c.st32(cpu, listed.add(1), S.hotPlaces);
    });
  });
}

/** Halves the counts of a vCPU, whose state is at `cpu` of the memory, but not of what has been listed. */
export function halveHot(memory: Int32Array, cpu: number): void {
  const from = (cpu + HOT) >> 2;
  for (let at = from + 1; at < from + 2 * HOT_ENTRIES; at += 2) if (memory[at]! < LISTED / 2) memory[at]! >>= 1;
}
