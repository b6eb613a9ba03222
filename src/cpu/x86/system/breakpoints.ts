/**
 * Breakpoints of the debug registers: [sdm3 §18.2.4, §18.3.1].
 *
 * None costs anything while DR7 enables none. A page with a data breakpoint is not kept in the data TLBs, one with an instruction
 * breakpoint not in the instruction TLBs; so every access to them comes past here. What meets a data or I/O breakpoint is undone
 * as by a fault, of the vector WATCHED, and S.watchFault asks for the instruction to be run by itself, with S.watching set: then
 * S.watchHits collects what it meets. An instruction breakpoint's page is run instruction by instruction.
 *
 * Functions for others: "updateBreakpoints" (), to be called when DR0 to DR3, DR7 or CR4.DE have changed; "watchIo" (port, bytes).
 */
import type { Code } from "../../../wasm/code.ts";
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import { VIOLATION } from "../exits.ts";
import { type CpuFuncs, deepFunc, STATUS } from "../ops.ts";
import { CR4, S } from "../state.ts";

/** A vector that no exception has: the instruction is to be run again by itself. */
export const WATCHED = VIOLATION + 1;

/** Bits of S.breakpoints: which kinds are enabled. */
export const BREAK = { INSTRUCTION: 1, DATA: 2, IO: 4 } as const;
/** R/W fields of DR7. */
export const ON = { EXECUTE: 0, WRITE: 1, IO: 2, ACCESS: 3 } as const;

const BREAKPOINTS = [0, 1, 2, 3] as const;

/** Of breakpoint `n`: enabled, locally or globally; its R/W field; its length in bytes less one. */
function enabled(dr7: Value, n: number): Value {
  return dr7.and(3 << (2 * n)).bool();
}
function condition(dr7: Value, n: number): Value {
  return dr7.shrU(16 + 4 * n).and(3);
}
/** LEN 0, 1, 2, 3 means 1, 2, 8, 4 bytes. */
function lengthLess1(dr7: Value, n: number): Value {
  return i32(0x3710).shrU(dr7.shrU(18 + 4 * n).and(3).shl(2)).and(7);
}

export interface Watch {
  /** Gives 0 from the function if an explicit access meets a data breakpoint and the instruction must be run by itself. */
  access(c: Code, cpu: Value, address: Value, bytes: Value, write: boolean): void;
  /** Whether the page of a linear address has an enabled data breakpoint. */
  hasData(c: Code, cpu: Value, address: Value): Value;
  /** The same, of an instruction breakpoint. */
  hasInstruction(c: Code, cpu: Value, address: Value): Value;
  /** Asks for the instruction to be run by itself; the caller leaves with a fault. */
  ask(c: Code, cpu: Value): void;
}

export function defineBreakpoints(m: Module, f: CpuFuncs): Watch {
  const dr7 = (c: Code) => c.ld32(c.param(0), S.dr + 8 * 7);

  f.more.set(
    "updateBreakpoints",
    m.func("updateBreakpoints", ["i32"], [], (c) => {
      const cpu = c.param(0), control = dr7(c), de = c.let(c.ld32(cpu, S.cr4).and(CR4.DE).bool());
      const all = c.variable("i32", 0);
      for (const n of BREAKPOINTS) {
        c.if(enabled(control, n), () => {
          const on = c.let(condition(control, n));
          // Without CR4.DE its encoding means nothing.
          const io = c.let(on.eq(ON.IO));
          const kind = select(on, select(io, select(de, i32(BREAK.IO), 0), BREAK.DATA), BREAK.INSTRUCTION);
          all.set(all.get().or(kind));
        });
      }
      const changed = c.let(all.get().or(c.ld32(cpu, S.breakpoints)));
      c.st32(cpu, all.get(), S.breakpoints);
      c.if(changed, () => {
        c.call(f.more.get("flushTlb")!, cpu);
      });
    }),
  );

  // (cpu, address or port, bytes, a bit for each value of R/W that counts) → a bit for each breakpoint that is met.
  const met = m.func("breakpoints.met", ["i32", "i64", "i32", "i32"], ["i32"], (c) => {
    const cpu = c.param(0), first = c.param(1), last = c.let(first.add(c.param(2).sub(1).zx())), control = dr7(c);
    const hits = c.variable("i32", 0);
    for (const n of BREAKPOINTS) {
      c.if(enabled(control, n).and(c.param(3).shrU(condition(control, n))), () => {
        const rest = c.let(lengthLess1(control, n).zx());
        const from = c.let(c.ld64(cpu, S.dr + 8 * n).and(rest.not()));
        c.if(last.geU(from).and(first.leU(from.add(rest))), () => hits.set(hits.get().or(1 << n)));
      });
    }
    c.return(hits.get());
  });
  // (cpu, address, a bit for each value of R/W that counts) → whether the page has such a breakpoint.
  const inPage = m.func("breakpoints.inPage", ["i32", "i64", "i32"], ["i32"], (c) => {
    const cpu = c.param(0), control = dr7(c);
    for (const n of BREAKPOINTS) {
      const here = c.ld64(cpu, S.dr + 8 * n).xor(c.param(1)).and(i64(-4096)).eqz();
      const counts = enabled(control, n).and(c.param(2).shrU(condition(control, n)));
      c.if(counts.and(here), () => c.return(1));
    }
    c.return(0);
  });

  const ask = (c: Code, cpu: Value) => {
    c.st32(cpu, 1, S.watchFault);
    c.st32(cpu, WATCHED, S.excVector);
    c.st32(cpu, -1, S.excError);
  };
  /** Notes what is met, or runs `leave` if that must be asked for. */
  const check = (c: Code, cpu: Value, hits: Value, leave: () => void) =>
    c.if(hits, () => {
      c.if(c.ld32(cpu, S.watching).eqz(), () => {
        ask(c, cpu);
        leave();
      });
      c.st32(cpu, c.ld32(cpu, S.watchHits).or(hits), S.watchHits);
    });

  deepFunc(m, f, "watchIo", ["i32", "i32"], [], (o, port, bytes) => {
    const c = o.c;
    c.rarely(o.ld32("breakpoints").and(BREAK.IO), () => {
      const hits = c.call1(met, o.cpu, port!.zx(), bytes!, 1 << ON.IO);
      check(c, o.cpu, hits, () => o.leave(STATUS.FAULT));
    });
  });

  const has = (c: Code, cpu: Value, address: Value, kind: number, conditions: number): Value => {
    const found = c.variable("i32", 0);
    c.rarely(
      c.ld32(cpu, S.breakpoints).and(kind),
      () => found.set(c.call1(inPage, cpu, address, conditions)),
    );
    return found.get();
  };
  const DATA = (1 << ON.WRITE) | (1 << ON.ACCESS);
  return {
    ask,
    hasData: (c, cpu, address) => has(c, cpu, address, BREAK.DATA, DATA),
    hasInstruction: (c, cpu, address) => has(c, cpu, address, BREAK.INSTRUCTION, 1 << ON.EXECUTE),
    access(c, cpu, address, bytes, write) {
      c.rarely(c.ld32(cpu, S.breakpoints).and(BREAK.DATA), () => {
        const hits = c.call1(met, cpu, address, bytes, write ? DATA : 1 << ON.ACCESS);
        check(c, cpu, hits, () => c.return(0));
      });
    },
  };
}

/** For a module whose breakpoints are another's to look for. */
export function defineNoBreakpoints(m: Module, f: CpuFuncs): Watch {
  f.more.set("updateBreakpoints", m.func("updateBreakpoints", ["i32"], [], () => {}));
  return { access: () => {}, hasData: () => i32(0), hasInstruction: () => i32(0), ask: () => {} };
}
