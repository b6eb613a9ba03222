/** MOV to and from control and debug registers, CLTS, INVLPG, INVPCID, WBINVD, INVD, HLT, XGETBV, XSETBV: [sdm2], [sdm3 §2.8]. */
import type { Module } from "../../../wasm/module.ts";
import { i64, select, type Value } from "../../../wasm/value.ts";
import type { Imports } from "../imports.ts";
import type { Operand } from "../operand.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import type { Row } from "../row.ts";
import { CR0, CR4, EXC, RAX, RCX, RDX } from "../state.ts";
import { attend, callPlain, notCanonical, refetch, resync } from "../system/attention.ts";
import { type CpuLimits, NO_LIMITS } from "../system/cpu_model.ts";
import { defineCr } from "../system/cr.ts";

/** Sets a general register of 32 or 64 bits from an i64. */
function setWide(a: Operand, v: Value): void {
  a.set(a.bits === 64 ? v : v.lo());
}

export function defineControl(m: Module, f: CpuFuncs, imports: Imports, limits: CpuLimits = NO_LIMITS): void {
  defineCr(m, f, imports, limits.reservedCr4);

  // (type, descriptor low, high): INVPCID. Translations of address spaces other than the current one are never kept.
  deepFunc(m, f, "invpcid", ["i64", "i64", "i64"], [], (o, type, low, address) => {
    const c = o.c, pcide = o.ld32("cr4").and(CR4.PCIDE);
    o.gpIf(type!.gtU(3));
    o.gpIf(low!.shrU(12).bool());
    o.gpIf(type!.eqz().and(notCanonical(address!)));
    o.gpIf(type!.leU(1).and(low!.bool()).and(pcide.eqz()));
    const current = c.let(select(pcide, o.ld64("cr3").and(0xfff), i64(0)));
    c.if(type!.leU(1).and(low!.ne(current)), () => c.return(0));
    c.if(type!.eqz(), () => {
      c.call(o.deep("invlpg"), o.cpu, address!);
    }, () => {
      // Of the types only 2 is about global pages too.
      c.if(type!.eq(2), () => callPlain(o, "flushTlb"), () => callPlain(o, "flushSpace"));
    });
  });

  // → EDX:EAX as one.
  deepFunc(m, f, "xgetbv", ["i32"], ["i64"], (o, ecx) => {
    o.faultIf(o.ld32("cr4").and(CR4.OSXSAVE).eqz(), EXC.UD);
    // ECX = 1 asks which components are in use: not offered.
    o.gpIf(ecx!.bool());
    o.c.return(0, o.ld64("xcr0"));
  });
  deepFunc(m, f, "xsetbv", ["i32", "i64"], [], (o, ecx, value) => {
    o.faultIf(o.ld32("cr4").and(CR4.OSXSAVE).eqz(), EXC.UD);
    o.gpIf(o.ld32("cpl").bool());
    o.gpIf(ecx!.bool());
    // x87 state is always on, SSE state is free to be, and AVX state wants that of SSE: [sdm1 §13.3].
    o.gpIf(value!.or(limits.avx ? 6 : 2).ne(limits.avx ? 7 : 3));
    if (limits.avx) o.gpIf(value!.and(6).eq(4));
    o.st64("xcr0", value!);
    callPlain(o, "updateMode");
  });
}

const exists = (number: Value) => number.ltU(5).and(number.ne(1)).or(number.eq(8));

function readCr(o: Ops, a: Operand, number: Value): void {
  const c = o.c;
  o.faultIf(exists(number).eqz(), EXC.UD);
  o.gpIf(o.ld32("cpl").bool());
  c.if(number.eq(8), () => {
    const [v] = o.callF(o.deep("readCr8"), o.cpu);
    setWide(a, v!);
  });
  for (const [n, field] of [[0, "cr0"], [2, "cr2"], [3, "cr3"], [4, "cr4"]] as const) {
    c.if(number.eq(n), () => setWide(a, o.ld64(field)));
  }
}

function writeCr(o: Ops, a: Operand, number: Value): void {
  const c = o.c, value = o.let(a.get().zx());
  o.faultIf(exists(number).eqz(), EXC.UD);
  o.gpIf(o.ld32("cpl").bool());
  c.if(number.eq(2), () => o.st64("cr2", value));
  for (const n of [0, 3, 4, 8]) {
    c.if(number.eq(n), () => void o.callF(o.deep(`writeCr${n}`), o.cpu, value));
  }
  // A lower task priority may let an interrupt through.
  c.if(number.eq(8), () => attend(o));
  refetch(o);
}

function readDr(o: Ops, a: Operand, number: Value): void {
  const [v] = o.callF(o.deep("readDr"), o.cpu, number);
  setWide(a, v!);
}
function writeDr(o: Ops, a: Operand, number: Value): void {
  const value = o.let(a.get().zx());
  const before = o.let(o.ld32("breakpoints"));
  o.callF(o.deep("writeDr"), o.cpu, number, value);
  // The next instruction may be in a page with a breakpoint.
  o.c.if(before.or(o.ld32("breakpoints")), () => resync(o));
  refetch(o);
}

function clts(o: Ops): void {
  o.st32("cr0", o.ld32("cr0").and(~CR0.TS));
  callPlain(o, "updateMode");
}

function invlpg(o: Ops): void {
  o.c.call(o.deep("invlpg"), o.cpu, o.ea.get());
  refetch(o);
}
function invpcid(o: Ops, type: Operand, descriptor: Operand): void {
  const d = descriptor.get();
  o.callF(
    o.deep("invpcid"),
    o.cpu,
    type.get().zx(),
    d.lane("i64x2.extract_lane", 0),
    d.lane("i64x2.extract_lane", 1),
  );
  refetch(o);
}

/** Caches are always coherent here: nothing to write back, nothing that may be dropped. */
function flushCaches(): void {}

function hlt(o: Ops): void {
  o.st64("rip", o.nextRip());
  o.leave(STATUS.HALT);
}

function xgetbv(o: Ops): void {
  const [v] = o.callF(o.deep("xgetbv"), o.cpu, o.gprAt(RCX, 32));
  o.setGpr(RAX, v!.and(0xffff_ffff));
  o.setGpr(RDX, v!.shrU(32));
}
function xsetbv(o: Ops): void {
  const value = o.gprAt(RAX, 32).zx().or(o.gprAt(RDX, 32).zx().shl(32));
  o.callF(o.deep("xsetbv"), o.cpu, o.gprAt(RCX, 32), o.let(value));
}

/** Control and debug registers move at the mode's full width, whatever the prefixes say. */
function inBothWidths(row: Omit<Row, "only">): Row[] {
  return [
    { ...row, args: row.args!.replaceAll("?", "q"), modes: true, only: "64" },
    { ...row, args: row.args!.replaceAll("?", "d"), modes: true, only: "legacy" },
  ];
}

export const ROWS: readonly Row[] = [
  ...inBothWidths({ op: "0F 20 /r", name: "MOV", args: "R?=,C", sem: readCr }),
  ...inBothWidths({ op: "0F 22 /r", name: "MOV", args: "R?,C", ends: true, sem: writeCr }),
  ...inBothWidths({ op: "0F 21 /r", name: "MOV", args: "R?=,D", sem: readDr }),
  ...inBothWidths({ op: "0F 23 /r", name: "MOV", args: "R?,D", ends: true, sem: writeDr }),
  { op: "0F 06", name: "CLTS", cpl0: true, sem: clts },
  { op: "0F 01 /7", name: "INVLPG", args: "Mb", cpl0: true, modes: true, ends: true, sem: invlpg },
  ...inBothWidths({
    op: "66 0F 38 82 /r",
    name: "INVPCID",
    args: "G?,Mu",
    cpl0: true,
    ends: true,
    feature: "INVPCID",
    sem: invpcid,
  }),
  { op: "0F 08", name: "INVD", cpl0: true, sem: flushCaches },
  { op: "0F 09", name: "WBINVD", cpl0: true, sem: flushCaches },
  { op: "F4", name: "HLT", cpl0: true, modes: true, ends: true, sem: hlt },
  { op: "NP 0F 01 D0", name: "XGETBV", feature: "XSAVE", noHost: "XCR0 differs", sem: xgetbv },
  { op: "NP 0F 01 D1", name: "XSETBV", feature: "XSAVE", sem: xsetbv },
];
