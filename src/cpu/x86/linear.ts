/** Logical to linear addresses, with the segment checks of every mode: [sdm3 §5.3, §5.5]. */
import type { Module } from "../../wasm/module.ts";
import { select, type Value } from "../../wasm/value.ts";
import { type CpuFuncs, deepFunc, type Ops } from "./ops.ts";
import { EXC, FS, MODE_64, S, SS } from "./state.ts";

/** Of S.mode. */
const MODE_REAL_OR_VM86 = 8;

/** Bits of the access argument. */
export const ACCESS_WRITE = 1;

/**
 * Defines "segLinear" (segment i32, offset i64, bytes i32, access i32) → linear i64. In 64-bit mode only FS and GS have a
 * base and nothing is checked here; elsewhere a violation is #SS(0) for SS and #GP(0) for the others.
 */
export function defineLinear(m: Module, f: CpuFuncs): void {
  deepFunc(m, f, "segLinear", ["i32", "i64", "i32", "i32"], ["i64"], (o, segment, offset, bytes, access) => {
    const c = o.c;
    const base = c.let(c.ld64(o.cpu.add(segment.shl(3)), S.segBase));
    c.if(c.ld32(o.cpu, S.mode).and(3).eq(MODE_64), () => {
      c.return(0, select(segment.geU(FS), base.add(offset), offset));
    });
    const rights = c.ld32(o.cpu.add(segment.shl(2)), S.segRights);
    const limit = c.let(c.ld32(o.cpu.add(segment.shl(2)), S.segLimit).zx());
    const bad = c.variable("i32", 0);
    const last = c.let(offset.add(bytes.zx()).sub(1));
    const isCode = c.let(rights.and(8).bool());
    // Unusable, or not present.
    c.if(rights.and(1 << 16), () => bad.set(1));
    // Types protect in protected mode: in real mode CS may be written through, whatever it was loaded with before.
    c.if(c.ld32(o.cpu, S.mode).and(MODE_REAL_OR_VM86).eqz(), () => {
      c.if(isCode, () => {
        // Code is never writable, and readable only with the R bit.
        c.if(access.and(ACCESS_WRITE).or(rights.and(2).eqz()), () => bad.set(1));
      }, () => {
        c.if(access.and(ACCESS_WRITE).and(rights.and(2).eqz()), () => bad.set(1));
      });
    });
    c.if(isCode.eqz().and(rights.shrU(2).and(1)), () => {
      // Expand-down: valid above the limit.
      const max = c.choose(rights.and(1 << 14), () => 0xffff_ffff, () => 0xffff, "i64");
      c.if(offset.leU(limit).or(last.gtU(max)), () => bad.set(1));
    }, () => c.if(last.gtU(limit), () => bad.set(1)));
    c.if(bad.get(), () => {
      c.if(segment.eq(SS), () => o.fault(EXC.SS, 0), () => o.fault(EXC.GP, 0));
    });
    c.return(0, base.add(offset).and(0xffff_ffff));
  });
}

/** The linear address of `offset` in a segment chosen at generation time. `offset` is already cut to the address size. */
export function linear(o: Ops, segment: Value | number, offset: Value, bytes: number, access = 0): Value {
  const [a] = o.callF(o.deep("segLinear"), o.cpu, segment, offset, bytes, access);
  return a!;
}
