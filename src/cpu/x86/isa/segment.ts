/**
 * Segment registers and what describes segments: MOV, PUSH, POP of segment registers, far pointer loads, descriptor tables,
 * LAR, LSL, VERR, VERW, ARPL, SWAPGS, FS and GS bases, the machine status word, BOUND: [sdm2].
 */
import type { Module } from "../../../wasm/module.ts";
import { i32, select, type Value } from "../../../wasm/value.ts";
import type { Imports } from "../imports.ts";
import type { Operand } from "../operand.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import type { Row } from "../row.ts";
import { CR0, CR4, CS, DS, ES, EXC, FS, GS, INHIBIT, LDTR, RSP, S, SS, TR, ZF } from "../state.ts";
import { inhibit } from "../system/attention.ts";
import { desc, isLong, isNull, isReal, notCanonical } from "../system/segments.ts";
import { peek, popped, push } from "./stack.ts";

/** System descriptor types that LAR and LSL accept, as bit sets: outside of long mode and in it. */
const LAR_TYPES = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11 | 1 << 12;
const LAR_LONG = 1 << 2 | 1 << 9 | 1 << 11 | 1 << 12;
const LSL_TYPES = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11;
const LSL_LONG = 1 << 2 | 1 << 9 | 1 << 11;

export function defineSegment(m: Module, f: CpuFuncs, _imports: Imports): void {
  // (selector, types outside of long mode, types in it) → 1 if the selector can be looked at, and its descriptor: for LAR, LSL.
  deepFunc(m, f, "inspect", ["i32", "i32", "i32"], ["i32", "i64"], (o, selector, types, longTypes) => {
    const c = o.c, no = () => c.return(STATUS.NEXT, 0, 0);
    c.if(isNull(selector!), no);
    const local = selector!.and(4);
    const ldtLimit = select(o.ld32("segRights", LDTR).and(1 << 16), i32(0), o.ld32("segLimit", LDTR));
    const limit = select(local, ldtLimit, o.ld32("gdtrLimit"));
    c.if(selector!.or(7).and(0xffff).gtU(limit), no);
    const [d] = o.callF(o.deep("descriptor"), o.cpu, selector!, EXC.GP) as [Value];
    const type = c.let(desc.type(d)), dpl = c.let(desc.dpl(d)), isSegment = c.let(desc.isSegment(d));
    const valid = select(isLong(o), longTypes!, types!).shrU(type).and(1);
    c.if(select(isSegment, i32(1), valid).eqz(), no);
    const conforming = isSegment.bool().and(type.and(12).eq(12));
    const visible = o.ld32("cpl").leU(dpl).and(selector!.and(3).leU(dpl));
    c.if(conforming.or(visible).eqz(), no);
    c.return(STATUS.NEXT, 1, d);
  });
}

/** LAR and its kin do not exist in real mode and VM86 mode. */
const protectedOnly = (o: Ops) => o.faultIf(isReal(o).bool(), EXC.UD);
const umip = (o: Ops) => o.gpIf(o.ld32("cr4").and(CR4.UMIP).bool().and(o.ld32("cpl").bool()));
/** A value of 16 bits for a destination: memory takes 16 bits, a register its operand size. */
function store16(o: Ops, a: Operand, v: Value): void {
  if (a.isMemory) o.write(o.ea.get(), 16, v);
  else a.set(a.bits === 64 ? v.zx() : v);
}
function setZf(o: Ops, zf: Value): void {
  const z = o.let(zf.shl(Math.log2(ZF)));
  o.setFlags(o.getFlags().and(~ZF).or(z));
}
/** Whether a number is a segment register: ES to GS. */
const checkNumber = (o: Ops, seg: Value) => o.faultIf(seg.gtU(GS), EXC.UD);

/** Goes on with the next instruction; decoded anew if the mode is no longer `mode`. */
function refetchIfChanged(o: Ops, mode: Value): void {
  o.c.if(o.ld32("mode").ne(mode), () => o.jump(o.nextRip()));
}

function movToSegment(o: Ops, seg: Value, a: Operand): void {
  o.faultIf(seg.eq(CS).or(seg.gtU(GS)), EXC.UD);
  const mode = o.ld32("mode");
  o.callF(o.deep("loadSegment"), o.cpu, seg, a.get());
  o.c.if(seg.eq(SS), () => {
    inhibit(o, INHIBIT.MOV_SS);
    refetchIfChanged(o, mode);
  });
}
function movFromSegment(o: Ops, a: Operand, seg: Value): void {
  checkNumber(o, seg);
  const selector = o.c.ld32(o.cpu.add(seg.shl(2)), S.segSelector);
  store16(o, a, o.let(selector.and(0xffff)));
}
function pushSegment(seg: number) {
  return (o: Ops) => {
    const v = o.let(o.ld32("segSelector", seg).and(0xffff));
    push(o, o.size === 64 ? v.zx() : v, o.size);
  };
}
function popSegment(seg: number) {
  return (o: Ops) => {
    const mode = o.ld32("mode"), old = o.gpr(RSP);
    const selector = o.let(peek(o, o.size).lo().and(0xffff));
    // The pointer moves at the width of the old stack, before SS may change it.
    popped(o, o.size / 8);
    o.host.beforeSlow();
    const status = o.c.call1(o.deep("loadSegment"), o.cpu, seg, selector);
    o.c.if(status, () => {
      o.setGpr(RSP, old);
      o.leave(status);
    });
    if (seg !== SS) return;
    inhibit(o, INHIBIT.MOV_SS);
    refetchIfChanged(o, mode);
  };
}
function loadFar(seg: number) {
  return (o: Ops, r: Operand) => {
    const address = o.ea.get(), offset = o.read(address, o.size);
    const selector = o.read(o.let(address.add(o.size / 8)), 16);
    const mode = o.ld32("mode");
    o.callF(o.deep("loadSegment"), o.cpu, seg, selector);
    r.set(offset);
    if (seg === SS) refetchIfChanged(o, mode);
  };
}

function lar(o: Ops, r: Operand, a: Operand): void {
  protectedOnly(o);
  const [ok, d] = o.callF(o.deep("inspect"), o.cpu, a.get().lo().and(0xffff), LAR_TYPES, LAR_LONG) as [Value, Value];
  o.c.if(ok, () => {
    const rights = d.shrU(32).lo().and(0x00ff_ff00);
    r.set(o.size === 64 ? rights.zx() : rights);
  });
  setZf(o, ok);
}
function lsl(o: Ops, r: Operand, a: Operand): void {
  protectedOnly(o);
  const [ok, d] = o.callF(o.deep("inspect"), o.cpu, a.get().lo().and(0xffff), LSL_TYPES, LSL_LONG) as [Value, Value];
  o.c.if(ok, () => {
    const limit = o.let(d.lo().and(0xffff).or(d.shrU(32).lo().and(0xf_0000)));
    const bytes = o.let(select(d.bit(55), limit.shl(12).or(0xfff), limit));
    r.set(o.size === 64 ? bytes.zx() : bytes);
  });
  setZf(o, ok);
}
function verify(write: boolean) {
  return (o: Ops, a: Operand) => {
    protectedOnly(o);
    const [ok, d] = o.callF(o.deep("inspect"), o.cpu, a.get(), 0, 0) as [Value, Value];
    const type = o.let(desc.type(d));
    // Writable data; data, or code that can be read.
    setZf(o, ok.and(write ? type.and(10).eq(2) : type.and(10).ne(8)));
  };
}
function arpl(o: Ops, a: Operand, r: Operand): void {
  protectedOnly(o);
  const rpl = o.let(r.get().and(3));
  const raised = o.c.variable("i32", 0);
  a.update((old) => {
    raised.set(old.and(3).ltU(rpl));
    return select(raised.get(), old.and(~3).or(rpl), old);
  });
  setZf(o, raised.get());
}

function loadTable(name: "loadLdtr" | "loadTr") {
  return (o: Ops, a: Operand) => {
    protectedOnly(o);
    o.gpIf(o.ld32("cpl").bool());
    o.callF(o.deep(name), o.cpu, a.get());
  };
}
function storeSelector(seg: number) {
  return (o: Ops, a: Operand) => {
    protectedOnly(o);
    umip(o);
    store16(o, a, o.let(o.ld32("segSelector", seg).and(0xffff)));
  };
}
function storeDescriptorTable(name: "gdtr" | "idtr") {
  return (o: Ops) => {
    umip(o);
    const bits = o.is64 ? 64 : 32, a = o.let(o.ea.get());
    o.callF(o.deep("probeWrite"), o.cpu, a, 2 + bits / 8);
    o.write(a, 16, o.ld32(`${name}Limit`));
    const base = o.ld64(`${name}Base`);
    o.write(o.let(a.add(2)), bits, o.is64 ? base : base.lo());
  };
}
function loadDescriptorTable(name: "gdtr" | "idtr") {
  return (o: Ops) => {
    const address = o.ea.get(), limit = o.read(address, 16);
    const base = o.let(o.read(o.let(address.add(2)), o.is64 ? 64 : 32).zx());
    if (o.is64) o.gpIf(notCanonical(base));
    o.st32(`${name}Limit`, limit);
    // With a 16-bit operand size the base has 24 bits.
    o.st64(`${name}Base`, !o.is64 && o.size === 16 ? base.and(0xff_ffff) : base);
  };
}

function swapgs(o: Ops): void {
  const old = o.ld64("segBase", GS);
  o.st64("segBase", o.ld64("kernelGsBase"), GS);
  o.st64("kernelGsBase", old);
}
const fsgsbase = (o: Ops) => o.faultIf(o.ld32("cr4").and(CR4.FSGSBASE).eqz(), EXC.UD);
function readBase(seg: number) {
  return (o: Ops, r: Operand) => {
    fsgsbase(o);
    const base = o.ld64("segBase", seg);
    r.set(o.size === 64 ? base : base.lo());
  };
}
function writeBase(seg: number) {
  return (o: Ops, r: Operand) => {
    fsgsbase(o);
    const base = o.let(r.get().zx());
    o.gpIf(notCanonical(base));
    o.st64("segBase", base, seg);
  };
}

function smsw(o: Ops, a: Operand): void {
  umip(o);
  const cr0 = o.ld64("cr0");
  if (a.isMemory) o.write(o.ea.get(), 16, cr0.lo().and(0xffff));
  else a.set(o.size === 64 ? cr0 : cr0.lo());
}
/** LMSW can set PE but not clear it. */
function lmsw(o: Ops, a: Operand): void {
  const old = o.ld64("cr0");
  const low = o.let(a.get().zx().and(15).or(old.and(CR0.PE)));
  o.st64("cr0", old.and(-16).or(low));
  o.c.call(o.deep("updateMode"), o.cpu);
  o.jump(o.nextRip());
}

function bound(o: Ops, r: Operand): void {
  const address = o.ea.get(), index = o.sext(r.get());
  const lower = o.let(o.sext(o.read(address, o.size)));
  const upper = o.let(o.sext(o.read(o.let(address.add(o.size / 8)), o.size)));
  const value = o.let(index);
  o.faultIf(value.ltS(lower).or(value.gtS(upper)), EXC.BR);
}

const SEG = { ES, CS, SS, DS, FS, GS };
const push8 = (op: string, seg: keyof typeof SEG, only?: "legacy"): Row => ({
  op,
  name: "PUSH",
  d64: true,
  modes: true,
  ...(only ? { only } : {}),
  noHost: "selectors differ",
  sem: pushSegment(SEG[seg]),
});
const pop8 = (op: string, seg: keyof typeof SEG, only?: "legacy"): Row => ({
  op,
  name: "POP",
  d64: true,
  modes: true,
  ...(only ? { only } : {}),
  noHost: "selectors differ",
  sem: popSegment(SEG[seg]),
});
const noHost = "depends on the system's descriptors";
/** ZF is set, the other flags stay. */
const zf = { flags: "Z", reads: "OSAPC", modes: true, noHost } as const;

export const ROWS: readonly Row[] = [
  { op: "8C /r", name: "MOV", args: "Ev=,S", modes: true, noHost, sem: movFromSegment },
  { op: "8E /r", name: "MOV", args: "S,Ew", modes: true, noHost, sem: movToSegment },
  push8("06", "ES", "legacy"),
  push8("0E", "CS", "legacy"),
  push8("16", "SS", "legacy"),
  push8("1E", "DS", "legacy"),
  push8("0F A0", "FS"),
  push8("0F A8", "GS"),
  pop8("07", "ES", "legacy"),
  pop8("17", "SS", "legacy"),
  pop8("1F", "DS", "legacy"),
  pop8("0F A1", "FS"),
  pop8("0F A9", "GS"),
  { op: "C5 /r", name: "LDS", args: "Gv=,Mp", only: "legacy", modes: true, noHost, sem: loadFar(DS) },
  { op: "C4 /r", name: "LES", args: "Gv=,Mp", only: "legacy", modes: true, noHost, sem: loadFar(ES) },
  { op: "0F B2 /r", name: "LSS", args: "Gv=,Mp", modes: true, noHost, sem: loadFar(SS) },
  { op: "0F B4 /r", name: "LFS", args: "Gv=,Mp", modes: true, noHost, sem: loadFar(FS) },
  { op: "0F B5 /r", name: "LGS", args: "Gv=,Mp", modes: true, noHost, sem: loadFar(GS) },

  { op: "0F 02 /r", name: "LAR", args: "Gv=,Ew", ...zf, sem: lar },
  { op: "0F 03 /r", name: "LSL", args: "Gv=,Ew", ...zf, sem: lsl },
  { op: "0F 00 /4", name: "VERR", args: "Ew", ...zf, sem: verify(false) },
  { op: "0F 00 /5", name: "VERW", args: "Ew", ...zf, sem: verify(true) },
  { op: "63 /r", name: "ARPL", args: "Ew+,Gw", only: "legacy", ...zf, sem: arpl },

  { op: "0F 00 /0", name: "SLDT", args: "Ev=", modes: true, noHost, sem: storeSelector(LDTR) },
  { op: "0F 00 /1", name: "STR", args: "Ev=", modes: true, noHost, sem: storeSelector(TR) },
  { op: "0F 00 /2", name: "LLDT", args: "Ew", modes: true, noHost, sem: loadTable("loadLdtr") },
  { op: "0F 00 /3", name: "LTR", args: "Ew", modes: true, noHost, sem: loadTable("loadTr") },
  { op: "0F 01 /0", name: "SGDT", args: "Ms", modes: true, noHost, sem: storeDescriptorTable("gdtr") },
  { op: "0F 01 /1", name: "SIDT", args: "Ms", modes: true, noHost, sem: storeDescriptorTable("idtr") },
  {
    op: "0F 01 /2",
    name: "LGDT",
    args: "Ms",
    sizes: "v",
    cpl0: true,
    modes: true,
    noHost,
    sem: loadDescriptorTable("gdtr"),
  },
  {
    op: "0F 01 /3",
    name: "LIDT",
    args: "Ms",
    sizes: "v",
    cpl0: true,
    modes: true,
    noHost,
    sem: loadDescriptorTable("idtr"),
  },
  { op: "0F 01 /4", name: "SMSW", args: "Ev=", modes: true, noHost, sem: smsw },
  { op: "0F 01 /6", name: "LMSW", args: "Ew", cpl0: true, modes: true, ends: true, noHost, sem: lmsw },
  { op: "0F 01 F8", name: "SWAPGS", only: "64", cpl0: true, noHost, sem: swapgs },

  { op: "F3 0F AE /0", name: "RDFSBASE", args: "Ry=", only: "64", noHost, sem: readBase(FS) },
  { op: "F3 0F AE /1", name: "RDGSBASE", args: "Ry=", only: "64", noHost, sem: readBase(GS) },
  { op: "F3 0F AE /2", name: "WRFSBASE", args: "Ry", only: "64", noHost, sem: writeBase(FS) },
  { op: "F3 0F AE /3", name: "WRGSBASE", args: "Ry", only: "64", noHost, sem: writeBase(GS) },

  { op: "62 /r", name: "BOUND", args: "Gv,Ma", only: "legacy", modes: true, noHost, sem: bound },
];
