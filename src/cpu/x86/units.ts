/** What stops an x87, MMX, SSE or AVX instruction before it starts: [sdm3 §2.5, §13.1, table 13-1], [sdm2 §2.4]. */
import type { Module } from "../../wasm/module.ts";
import { type CpuFuncs, deepFunc } from "./ops.ts";
import { CR0, CR4, EXC } from "./state.ts";
import { isReal } from "./system/segments.ts";

/** Bits of S.unitTraps. */
export const UNIT = { SSE: 1, X87: 2, MMX: 4, AVX: 8 } as const;

export function defineUnits(m: Module, f: CpuFuncs): void {
  // (bit of the unit that traps): always a fault.
  deepFunc(m, f, "unitTrap", ["i32"], [], (o, unit) => {
    const cr0 = o.ld32("cr0"), cr4 = o.ld32("cr4");
    o.faultIf(unit!.and(UNIT.SSE | UNIT.MMX).bool().and(cr0.and(CR0.EM).bool()), EXC.UD);
    o.faultIf(unit!.eq(UNIT.SSE).and(cr4.and(CR4.OSFXSR).eqz()), EXC.UD);
    const noAvx = cr4.and(CR4.OSXSAVE).eqz().or(o.ld32("xcr0").and(6).ne(6)).or(isReal(o).bool());
    o.faultIf(unit!.eq(UNIT.AVX).and(noAvx), EXC.UD);
    o.fault(EXC.NM);
  });
}
