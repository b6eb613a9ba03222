/** Far JMP, CALL, RET; IRET; INT n, INT1, INT3, INTO; SYSCALL, SYSRET, SYSENTER, SYSEXIT: [sdm2]. */
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import type { Imports } from "../imports.ts";
import { type CpuFuncs, deepFunc, type Ops, STATUS } from "../ops.ts";
import type { Row } from "../row.ts";
import { CS, EFER, EXC, IF, IOPL, MODE_64, RCX, RDX, RF, RSP, SS, STATUS_FLAGS, VM } from "../state.ts";
import { loadedFlags } from "../system/attention.ts";
import { defineExceptions } from "../system/exception.ts";
import { defineFar as defineFarTransfers } from "../system/far.ts";
import { defineFrames } from "../system/frame.ts";
import { defineIret } from "../system/iret.ts";
import { defineSegments, isLong, isNull, notCanonical } from "../system/segments.ts";
import { defineTasks } from "../system/task.ts";

const R11 = 11;

/** Rights of the flat segments that SYSCALL and its kin load: [sdm2 SYSCALL]. */
const FLAT = { code: 0x809b, data: 0xc093, L: 1 << 13, D: 1 << 14 } as const;

/** Loads CS and SS with flat segments of level `cpl`; `long` (0 or 1) says whether the code is 64-bit. */
function flatSegments(o: Ops, cs: Value, ss: Value, cpl: number, long: Value): void {
  const dpl = cpl << 5;
  o.st32("segSelector", cs, CS);
  o.st32("segRights", select(long, i32(FLAT.code | FLAT.L | dpl), FLAT.code | FLAT.D | dpl), CS);
  o.st32("segSelector", ss, SS);
  o.st32("segRights", FLAT.data | dpl, SS);
  for (const seg of [CS, SS]) {
    o.st64("segBase", 0, seg);
    o.st32("segLimit", -1, seg);
  }
  o.st32("cpl", cpl);
  o.c.call(o.deep("updateLevel"), o.cpu);
}

/** The system segments, exceptions, far transfers and fast system calls. */
export function defineFar(m: Module, f: CpuFuncs, _imports: Imports): void {
  defineSegments(m, f);
  defineFrames(m, f);
  defineTasks(m, f);
  defineExceptions(m, f);
  defineFarTransfers(m, f);
  defineIret(m, f);

  // (RIP of the next instruction)
  deepFunc(m, f, "syscall", ["i64"], [], (o, next) => {
    const not64 = o.ld32("mode").and(3).ne(MODE_64);
    o.faultIf(not64.or(o.ld32("efer").and(EFER.SCE).eqz()), EXC.UD);
    const flags = o.let(o.rflags().and(~RF));
    o.setGpr(RCX, next!);
    o.setGpr(R11, flags.zx());
    const kept = o.let(flags.and(o.ld32("fmask").not()));
    o.setFlags(kept);
    o.st32("eflags", kept.and(~STATUS_FLAGS).or(2));
    o.st64("rip", o.ld64("lstar"));
    const star = o.let(o.ld64("star").shrU(32).lo().and(0xffff));
    flatSegments(o, star.and(0xfffc), star.and(0xfffc).add(8), 0, i32(1));
    o.leave(STATUS.JUMP);
  });

  // (1: to 64-bit code)
  deepFunc(m, f, "sysret", ["i32"], [], (o, to64) => {
    const not64 = o.ld32("mode").and(3).ne(MODE_64);
    o.faultIf(not64.or(o.ld32("efer").and(EFER.SCE).eqz()), EXC.UD);
    o.gpIf(o.ld32("cpl").bool());
    const target = o.let(select(to64!, o.gpr(RCX), o.gpr(RCX).and(0xffff_ffff)));
    o.gpIf(notCanonical(target));
    o.st64("rip", target);
    const flags = o.let(o.gpr(R11).lo().and(0x003c_7fd7));
    o.setFlags(flags);
    o.st32("eflags", flags.and(~STATUS_FLAGS).or(2));
    const star = o.let(o.ld64("star").shrU(48).lo());
    flatSegments(o, star.add(select(to64!, i32(16), 0)).or(3), star.add(8).or(3), 3, to64!);
    o.leave(loadedFlags(o));
  });

  deepFunc(m, f, "sysenter", [], [], (o) => {
    const cs = o.let(o.ld32("sysenterCs").and(0xfffc));
    o.gpIf(o.ld32("cr0").and(1).eqz().or(isNull(cs)));
    const long = o.let(isLong(o).bool());
    const width = o.let(select(long, i64(-1), i64(0xffff_ffff)));
    o.st32("eflags", o.ld32("eflags").and(~(VM | IF | RF)));
    o.setGpr(RSP, o.ld64("sysenterEsp").and(width));
    o.st64("rip", o.ld64("sysenterEip").and(width));
    flatSegments(o, cs, cs.add(8), 0, long);
    o.leave(STATUS.JUMP);
  });

  // (1: to 64-bit code)
  deepFunc(m, f, "sysexit", ["i32"], [], (o, to64) => {
    const base = o.let(o.ld32("sysenterCs").and(0xfffc));
    o.gpIf(o.ld32("cr0").and(1).eqz().or(isNull(base)).or(o.ld32("cpl").bool()));
    const width = o.let(select(to64!, i64(-1), i64(0xffff_ffff)));
    const sp = o.let(o.gpr(RCX).and(width)), ip = o.let(o.gpr(RDX).and(width));
    o.gpIf(notCanonical(sp).or(notCanonical(ip)));
    o.setGpr(RSP, sp);
    o.st64("rip", ip);
    const cs = o.let(base.add(select(to64!, i32(32), 16)));
    flatSegments(o, cs.or(3), cs.add(8).or(3), 3, to64!);
    o.leave(STATUS.JUMP);
  });
}

const bytes = (o: Ops): number => o.size / 8;

/** ptr16:16 and ptr16:32: the record's immediate is the offset, its displacement the selector. */
function direct(name: "far.jump" | "far.call") {
  return (o: Ops) => {
    const offset = o.let(o.imm().and(o.size === 16 ? 0xffff : -1));
    o.callF(o.deep(name), o.cpu, o.disp().and(0xffff), offset.zx(), bytes(o), o.nextRip());
  };
}
function indirect(name: "far.jump" | "far.call") {
  return (o: Ops) => {
    const address = o.ea.get(), offset = o.let(o.read(address, o.size).zx());
    const selector = o.read(o.let(address.add(bytes(o))), 16);
    o.callF(o.deep(name), o.cpu, selector, offset, bytes(o), o.nextRip());
  };
}
function ret(o: Ops): void {
  // The immediate is zero in the plain form.
  o.callF(o.deep("far.ret"), o.cpu, bytes(o), o.imm().and(0xffff));
}
function iret(o: Ops): void {
  o.callF(o.deep("iret"), o.cpu, bytes(o), o.nextRip());
}
function int(vector: number) {
  return (o: Ops) => {
    o.callF(o.deep("softInt"), o.cpu, vector, o.nextRip());
  };
}
function intN(o: Ops): void {
  // VM86: with IOPL below 3 the monitor sees INT n, though not INT3 and INTO.
  const flags = o.ld32("eflags");
  o.gpIf(flags.and(VM).bool().and(flags.and(IOPL).ne(IOPL)));
  o.callF(o.deep("softInt"), o.cpu, o.imm().and(0xff), o.nextRip());
}
function into(o: Ops): void {
  o.c.if(o.cond(0), () => {
    o.callF(o.deep("softInt"), o.cpu, EXC.OF, o.nextRip());
  });
}
/** INT1 is a hardware trap: no check of the gate's DPL. */
function int1(o: Ops): void {
  o.st64("rip", o.nextRip());
  const status = o.c.call1(o.deep("int1"), o.cpu);
  o.leave(select(status, status, STATUS.JUMP));
}

export const ROWS: readonly Row[] = [
  { op: "EA", name: "JMPF", args: "Iz,Iw", only: "legacy", modes: true, ends: true, sem: direct("far.jump") },
  { op: "9A", name: "CALLF", args: "Iz,Iw", only: "legacy", modes: true, ends: true, sem: direct("far.call") },
  { op: "FF /5", name: "JMPF", args: "Mp", sizes: "v", modes: true, ends: true, sem: indirect("far.jump") },
  { op: "FF /3", name: "CALLF", args: "Mp", sizes: "v", modes: true, ends: true, sem: indirect("far.call") },
  { op: "CB", name: "RETF", sizes: "v", modes: true, ends: true, sem: ret },
  { op: "CA", name: "RETF", args: "Iw", sizes: "v", modes: true, ends: true, sem: ret },
  { op: "CF", name: "IRET", sizes: "v", modes: true, ends: true, sem: iret },
  { op: "CC", name: "INT3", modes: true, ends: true, sem: int(EXC.BP) },
  { op: "CD", name: "INT", args: "Iub", modes: true, ends: true, sem: intN },
  { op: "CE", name: "INTO", only: "legacy", modes: true, reads: "O", sem: into },
  { op: "F1", name: "INT1", modes: true, ends: true, sem: int1 },
  {
    op: "0F 05",
    name: "SYSCALL",
    modes: true,
    ends: true,
    reads: "OSZAPC",
    noHost: "leaves user mode",
    sem: (o) => void o.callF(o.deep("syscall"), o.cpu, o.nextRip()),
  },
  {
    op: "0F 07",
    name: "SYSRET",
    sizes: "y",
    modes: true,
    ends: true,
    sem: (o) => void o.callF(o.deep("sysret"), o.cpu, o.size === 64 ? 1 : 0),
  },
  {
    op: "0F 34",
    name: "SYSENTER",
    modes: true,
    ends: true,
    noHost: "leaves user mode",
    sem: (o) => void o.callF(o.deep("sysenter"), o.cpu),
  },
  {
    op: "0F 35",
    name: "SYSEXIT",
    sizes: "y",
    modes: true,
    ends: true,
    sem: (o) => void o.callF(o.deep("sysexit"), o.cpu, o.size === 64 ? 1 : 0),
  },
];
