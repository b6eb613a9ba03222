/** What the generated module gives to TypeScript and to compiled regions. */
import type { Code } from "../../wasm/code.ts";
import type { Func, Module } from "../../wasm/module.ts";
import { i32, type Value } from "../../wasm/value.ts";
import { definePutFlags } from "./flag_forms.ts";
import { defineSettleNative } from "./native/settle.ts";
import { type CpuFuncs, Ops, STATUS, WRITE_ONLY } from "./ops.ts";
import { ACCESS } from "./system/walk.ts";
import { BOUNCE, DTLB_ENTRIES, MICRO_HOSTS, S, TLB_ADDEND, TLB_TAG_R, TLB_TAG_W } from "./state.ts";

/** Exports of the module. Addresses are i64 halves where a 64-bit one is meant. */
export interface CpuExports {
  run(cpu: number, op: number, budget: number): number;
  /** Translates a linear address for instruction fetch; S.physLo/physHi. */
  fetchAt(cpu: number, lo: number, hi: number): number;
  /** Translates for a debugger-like look at any page, user pages too, no side effects: status; S.physLo/physHi. */
  look(cpu: number, lo: number, hi: number): number;
  deliver(cpu: number): number;
  interrupt(cpu: number, vector: number): number;
  nmi(cpu: number): number;
  /** `bits` of DR6. */
  trapDb(cpu: number, bits: number): number;
  flushTlb(cpu: number): void;
  dropWriteTags(cpu: number, page: number): void;
  updateMode(cpu: number): void;
  updateBreakpoints(cpu: number): void;
  /** (cpu, vector, error code or -1, EVENT, RIP to push) → status: delivers once; FAULT with nothing changed. */
  event(cpu: number, vector: number, error: number, kind: number, rip: bigint): number;
  readonly table: WebAssembly.Table;
  rflags(cpu: number): number;
  setRflags(cpu: number, value: number): void;
}

/** What TypeScript calls between runs. */
export function exportEntries(m: Module, f: CpuFuncs, cpu: number): void {
  const more = (name: string): Func => f.more.get(name)!;
  const address = (c: Code) => c.let(c.param(1).zx().or(c.param(2).zx().shl(32)));
  m.export(
    m.func("fetchAt", ["i32", "i32", "i32"], ["i32"], (c) => c.return(c.call1(more("fetch"), c.param(0), address(c)))),
  );
  m.export(m.func("look", ["i32", "i32", "i32"], ["i32"], (c) => {
    const [status, phys] = c.call(more("walk"), c.param(0), address(c), ACCESS.QUIET | ACCESS.AC);
    c.st32(c.param(0), phys!.lo(), S.physLo);
    c.st32(c.param(0), phys!.shrU(32).lo(), S.physHi);
    c.return(status!);
  }));
  for (
    const name of [
      "deliver",
      "event",
      "interrupt",
      "nmi",
      "trapDb",
      "flushTlb",
      "dropWriteTags",
      "updateMode",
      "updateBreakpoints",
      "locked.read",
      "locked.write",
    ] as const
  ) {
    const func = f.more.get(name);
    if (func) m.export(func, name);
  }
  // What compiled regions import: REGION_IMPORTS in jit/region_host.ts.
  m.export(f.readAddr, "readAddr");
  m.export(f.writeAddr, "writeAddr");
  m.export(f.commit, "commit");
  for (const [name, func] of Object.entries(f.flags)) m.export(func, `flag${name[0]!.toUpperCase()}${name.slice(1)}`);
  for (const name of ["mulHighU", "mulHighS"]) m.export(more(name), name);
  const putFlags = definePutFlags(m, cpu, more("mulHighS"));
  m.export(putFlags);
  m.export(defineSettleNative(m, cpu, putFlags, f.flags.all));
  exportMemory(m, f, cpu);
  m.export(
    m.func(
      "rflags",
      ["i32"],
      ["i32"],
      (c) => c.return(c.call1(f.flags.all, c.param(0)).or(c.ld32(c.param(0), S.eflags))),
    ),
  );
  m.export(m.func("setRflags", ["i32", "i32"], [], (c) => {
    const o = new Ops(
      c,
      f,
      { leave: () => c.unreachable(), beforeSlow: () => {} },
      c.param(0),
      i32(0),
      c.variable("i64"),
      32,
      true,
      true,
    );
    o.setFlags(c.param(1));
    o.st32("eflags", c.param(1).and(~0x8d5).or(2));
  }));
}

/** Memory for compiled regions, behind an entry of MICRO, which is filled: `info` is bytes, WRITE_ONLY, and the place << 20. */
function exportMemory(m: Module, f: CpuFuncs, cpu: number): void {
  // (address, info) → as readAddr and writeAddr.
  const at = (name: string, slow: Func, tag: number) =>
    m.func(name, ["i64", "i32"], ["i32"], (c) => {
      const a = c.param(0), info = c.param(1), low = c.let(a.lo());
      const dtlb = c.ld32(cpu, S.dtlb);
      const entry = c.let(dtlb.add(low.shrU(7).and((DTLB_ENTRIES - 1) << 5)));
      const page = c.let(a.add(info.and(0xffff).zx()).sub(1).and(-4096));
      const hit = () =>
        c.mostly(page.eq(c.ld64(entry, tag)), () => {
          const micro = c.let(c.ld32(cpu, S.micro).add(info.shrU(20).shl(3)));
          const addend = c.ld32(entry, TLB_ADDEND);
          c.st64(micro, page);
          c.st32(micro, page.lo().add(addend), MICRO_HOSTS);
          c.return(low.add(addend));
        });
      hit();
      const found = c.call1(slow, cpu, a, info.and(0xf_ffff));
      hit();
      c.return(found);
    });
  const read = at("tlbRead", f.readAddr, TLB_TAG_R), write = at("tlbWrite", f.writeAddr, TLB_TAG_W);
  m.export(read);
  m.export(write);
  // (address, value, info) → 0, FAULT, or RESYNC if the store has changed decoded code.
  const store = (name: string, type: "i64" | "v128", put: (c: Code, at: Value, bytes: Value) => void) =>
    m.export(m.func(name, ["i64", type, "i32"], ["i32"], (c) => {
      const info = c.param(2), epoch = c.ld32(cpu, S.codeEpoch);
      const found = c.call1(write, c.param(0), info.or(WRITE_ONLY));
      c.rarely(found.eqz(), () => c.return(STATUS.FAULT));
      put(c, found, info.and(0xff));
      c.rarely(found.eq(cpu + BOUNCE), () => {
        c.call(f.commit, cpu);
      });
      c.rarely(c.ld32(cpu, S.codeEpoch).ne(epoch), () => c.return(STATUS.RESYNC));
      c.return(0);
    }));
  store("store", "i64", (c, at, bytes) => {
    const v = c.param(1);
    c.if(bytes.eq(8), () => c.st64(at, v), () => {
      c.if(bytes.eq(4), () => c.st32(at, v.lo()), () => {
        c.if(bytes.eq(2), () => c.st16(at, v.lo()), () => c.st8(at, v.lo()));
      });
    });
  });
  store("storeVector", "v128", (c, at) => c.stV(at, c.param(1)));
}
