/**
 * Control and debug registers: what may be written, and what a write brings about: [sdm3 §2.5, §4.1, §4.10.4, §18.2].
 *
 * The TLBs hold the current address space only, so PCIDs save nothing and every load of CR3 flushes, asked to or not, all but
 * global pages.
 * Data breakpoints are kept and read back, not watched for.
 */
import type { Module } from "../../../wasm/module.ts";
import { i64, select, type Value } from "../../../wasm/value.ts";
import type { Imports } from "../imports.ts";
import { type CpuFuncs, deepFunc, type Ops } from "../ops.ts";
import { CR0, CR4, CS, DR6, DR7, EFER, EXC, S } from "../state.ts";
import { callPlain } from "./attention.ts";
import { MAXPHYADDR } from "./walk.ts";

/** Every flag of CR4 that this processor has; the others are reserved, virtual interrupts (VME, PVI) among them. */
export const CR4_FLAGS = Object.values(CR4).reduce((all, bit) => all | bit, 0) & ~(CR4.VME | CR4.PVI);
/** CR0 has reserved bits that ignore writes; ET is always 1. */
const CR0_FLAGS = Object.values(CR0).reduce((all, bit) => all | bit, 0) >>> 0;

const bit = (n: number) => 1n << BigInt(n);
const PHYSICAL = bit(MAXPHYADDR) - 1n;
/** Bit 63 of the source of MOV to CR3: keep the translations of the new PCID. */
const CR3_NOFLUSH = bit(63);
/** What must be 0 in a present page-directory-pointer entry of PAE paging: [sdm3 §4.4.1 table 4-8]. */
const PDPTE_RESERVED = ~PHYSICAL | 0x1e6n;

const DR6_ONES = 0xffff_0ff0, DR6_WRITABLE = 0x0000_e00f;
const DR7_ONES = 0x0000_0400, DR7_WRITABLE = 0xffff_23ff;

/** `reservedCr4`: flags that this processor lacks. */
export function defineCr(m: Module, f: CpuFuncs, imports: Imports, reservedCr4 = 0): void {
  /**
   * (cr3): #GP(0) if an entry that PAE paging would load has a reserved bit set. The walk reads the entries in RAM itself; what
   * lies outside of RAM reads as not present.
   */
  const checkPdptes = deepFunc(m, f, "checkPdptes", ["i64"], [], (o, cr3) => {
    const c = o.c, table = c.let(cr3!.lo().and(0xffff_ffe0 | 0));
    c.if(table.shrU(12).geU(o.ld32("ramPages")), () => c.return(0));
    for (let i = 0; i < 4; i++) {
      const e = c.ld64(o.ld32("ramBase").add(table), 8 * i);
      o.gpIf(e.bit(0).and(e.and(PDPTE_RESERVED).bool()));
    }
  });
  const paeLegacy = (cr0: Value, cr4: Value, efer: Value) => cr0.shrU(31).and(cr4.bit(5)).and(efer.and(EFER.LMA).eqz());

  deepFunc(m, f, "writeCr0", ["i64"], [], (o, value) => {
    const c = o.c;
    o.gpIf(value!.shrU(32).bool());
    const cr0 = c.let(value!.lo().and(CR0_FLAGS | 0).or(CR0.ET));
    const old = o.ld32("cr0"), cr4 = o.ld32("cr4");
    const changed = c.let(old.xor(cr0));
    o.gpIf(cr0.and(CR0.PG | CR0.PE).eq(CR0.PG | 0));
    o.gpIf(cr0.and(CR0.NW | CR0.CD).eq(CR0.NW));
    const efer = c.variable("i32", o.ld32("efer"));
    const codeIs64 = () => o.ld32("segRights", CS).bit(13);
    c.if(changed.and(CR0.PG), () => {
      c.if(cr0.and(CR0.PG), () => {
        c.if(efer.get().and(EFER.LME), () => {
          o.gpIf(cr4.and(CR4.PAE).eqz());
          o.gpIf(codeIs64().bool());
          o.gpIf(is16BitTss(o));
          efer.set(efer.get().or(EFER.LMA));
        });
      }, () => {
        o.gpIf(cr4.and(CR4.PCIDE).bool());
        c.if(efer.get().and(EFER.LMA), () => o.gpIf(codeIs64().bool()));
        efer.set(efer.get().and(~EFER.LMA));
      });
    });
    c.if(changed.and(CR0.PG | CR0.CD | CR0.NW).bool().and(paeLegacy(cr0, cr4, efer.get())), () => {
      o.callF(checkPdptes, o.cpu, o.ld64("cr3"));
    });
    o.st64("cr0", cr0.zx());
    o.st32("efer", efer.get());
    c.if(changed.and(CR0.PG | CR0.WP | CR0.PE), () => callPlain(o, "flushTlb"));
    c.if(changed, () => callPlain(o, "updateMode"));
  });

  deepFunc(m, f, "writeCr3", ["i64"], [], (o, value) => {
    const c = o.c, efer = o.ld32("efer"), cr4 = o.ld32("cr4");
    const noFlush = select(cr4.and(CR4.PCIDE), i64(CR3_NOFLUSH), i64(0));
    const cr3 = c.let(value!.and(noFlush.not()));
    o.gpIf(cr3.and(~PHYSICAL).bool());
    c.if(paeLegacy(o.ld32("cr0"), cr4, efer), () => {
      o.callF(checkPdptes, o.cpu, cr3);
    });
    o.st64("cr3", cr3);
    callPlain(o, "flushSpace");
  });

  deepFunc(m, f, "writeCr4", ["i64"], [], (o, value) => {
    const c = o.c, old = o.ld32("cr4"), efer = o.ld32("efer"), cr0 = o.ld32("cr0");
    o.gpIf(value!.and(~BigInt(CR4_FLAGS & ~reservedCr4)).bool());
    const cr4 = c.let(value!.lo());
    const changed = c.let(old.xor(cr4));
    o.gpIf(efer.and(EFER.LMA).bool().and(cr4.and(CR4.PAE).eqz()));
    c.if(changed.and(cr4).and(CR4.PCIDE), () => {
      o.gpIf(efer.and(EFER.LMA).eqz());
      o.gpIf(o.ld32("cr3").and(0xfff).bool());
    });
    c.if(
      changed.and(CR4.PAE | CR4.PGE | CR4.PSE | CR4.SMEP).bool().and(paeLegacy(cr0, cr4, efer)),
      () => {
        o.callF(checkPdptes, o.cpu, o.ld64("cr3"));
      },
    );
    o.st64("cr4", cr4.zx());
    const paging = CR4.PAE | CR4.PGE | CR4.PSE | CR4.PCIDE | CR4.SMEP | CR4.SMAP;
    c.if(changed.and(paging), () => callPlain(o, "flushTlb"));
    c.if(changed, () => callPlain(o, "updateMode"));
    c.if(changed.and(CR4.DE), () => callPlain(o, "updateBreakpoints"));
  });

  deepFunc(m, f, "readCr8", [], ["i64"], (o) => {
    o.c.return(0, o.c.call1(imports.readTpr).zx());
  });
  deepFunc(m, f, "writeCr8", ["i64"], [], (o, value) => {
    o.gpIf(value!.gtU(15));
    o.c.call(imports.writeTpr, value!.lo());
  });

  // (number) → the register to use. #UD before #GP before #DB.
  const drNumber = deepFunc(m, f, "drNumber", ["i32"], ["i32"], (o, number) => {
    const c = o.c, n = c.variable("i32", number!);
    c.if(number!.shrU(1).eq(2), () => {
      o.faultIf(o.ld32("cr4").and(CR4.DE).bool(), EXC.UD);
      n.set(number!.add(2));
    });
    o.faultIf(number!.gtU(7), EXC.UD);
    o.gpIf(o.ld32("cpl").bool());
    c.if(o.ld32("dr", 2 * 7).and(DR7.GD), () => {
      // GD is cleared on entry to the handler, which may then use the registers.
      o.st64("dr", o.ld64("dr", 7).and(~BigInt(DR7.GD)), 7);
      o.st64("dr", o.ld64("dr", 6).or(DR6.BD), 6);
      o.fault(EXC.DB);
    });
    c.return(0, n.get());
  });
  const place = (o: Ops, n: Value) => o.let(o.cpu.add(n.shl(3)));
  deepFunc(m, f, "readDr", ["i32"], ["i64"], (o, number) => {
    const [n] = o.callF(drNumber, o.cpu, number!);
    o.c.return(0, o.c.ld64(place(o, n!), S.dr));
  });
  deepFunc(m, f, "writeDr", ["i32", "i64"], [], (o, number, value) => {
    const c = o.c, [n] = o.callF(drNumber, o.cpu, number!);
    c.if(n!.geU(6), () => {
      o.gpIf(value!.shrU(32).bool());
      const kept = select(n!.eq(6), i64(DR6_WRITABLE), i64(DR7_WRITABLE));
      const ones = select(n!.eq(6), i64(DR6_ONES), i64(DR7_ONES));
      c.st64(place(o, n!), value!.and(kept).or(ones), S.dr);
    }, () => c.st64(place(o, n!), value!, S.dr));
    c.if(n!.ne(6), () => callPlain(o, "updateBreakpoints"));
  });
}

/** Whether TR holds a 16-bit task state (types 1 and 3), which IA-32e mode has no use for: [sdm3 §10.8.5]. */
function is16BitTss(o: Ops): Value {
  return o.let(o.ld32("segRights", 7).and(0x1d).eq(1));
}
