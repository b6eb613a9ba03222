/** CLC, STC, CMC, CLD, STD, CLI, STI, CLAC, STAC, LAHF, SAHF, PUSHF, POPF: [sdm2]. Absent: CR4.VME, CR4.PVI. */
import type { Module } from "../../../wasm/module.ts";
import { select, type Value } from "../../../wasm/value.ts";
import { type CpuFuncs, deepFunc, type Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import {
  AC,
  AF,
  CF,
  CR4,
  DF,
  DTLB,
  DTLB_BYTES,
  EXC,
  ID,
  IF,
  INHIBIT,
  IOPL,
  MICRO,
  MICRO_BYTES,
  MMU_SUPERVISOR,
  MMU_SUPERVISOR_AC,
  NT,
  PF,
  RF,
  S,
  SF,
  STATUS_FLAGS,
  TF,
  VM,
  ZF,
} from "../state.ts";
import { attend, inhibit, resync } from "../system/attention.ts";
import { peek, popped, push } from "./stack.ts";

const IOPL_SHIFT = 12;
/** What AH holds of the flags; bit 1 is always set, 3 and 5 are clear. */
const LOW_FLAGS = SF | ZF | AF | PF | CF;

/** IOPL as 0..3. */
function iopl(o: Ops): Value {
  return o.let(o.ld32("eflags").shrU(IOPL_SHIFT).and(3));
}

/** The supervisor's data TLB in force follows EFLAGS.AC while CR4.SMAP is set; `open`: both are. */
function selectTlb(o: Ops, open: Value): void {
  const isOpen = o.let(open);
  const either = (base: number, bytes: number) =>
    select(isOpen, o.cpu.add(base + MMU_SUPERVISOR_AC * bytes), o.cpu.add(base + MMU_SUPERVISOR * bytes));
  o.st32("dtlb", either(DTLB, DTLB_BYTES));
  o.st32("micro", either(MICRO, MICRO_BYTES));
}

export function defineFlagOps(m: Module, f: CpuFuncs): void {
  // (image, bytes): what POPF makes of what it has read. Status flags are the caller's.
  deepFunc(m, f, "popfImage", ["i32", "i32"], [], (o, image, bytes) => {
    const c = o.c, old = o.ld32("eflags"), cpl = o.ld32("cpl");
    const mask = c.variable("i32", TF | DF | NT);
    c.if(bytes!.ne(2), () => mask.set(mask.get().or(AC | ID)));
    c.if(cpl.leU(iopl(o)), () => mask.set(mask.get().or(IF)));
    c.if(cpl.eqz(), () => mask.set(mask.get().or(IOPL)));
    const flags = c.let(image!.and(mask.get()).or(old.and(mask.get().or(RF).not())));
    o.st32("eflags", flags);
    c.if(flags.xor(old).and(AC).bool().and(cpl.ne(3)), () => {
      const open = flags.and(AC).bool().and(o.ld32("cr4").and(CR4.SMAP).bool());
      selectTlb(o, c.let(open));
    });
  });
}

function setCarry(change: (flags: Value) => Value) {
  return (o: Ops) => o.setFlags(o.let(change(o.getFlags())));
}
function setDirection(on: boolean) {
  return (o: Ops) => {
    const flags = o.ld32("eflags");
    o.st32("eflags", on ? flags.or(DF) : flags.and(~DF));
  };
}

/** IF is the supervisor's, or that of whoever has the I/O privilege; in virtual-8086 mode CPL is 3. */
function checkIfRight(o: Ops): void {
  o.c.if(o.ld32("cpl"), () => o.gpIf(o.ld32("cpl").gtU(iopl(o))));
}

function cli(o: Ops): void {
  checkIfRight(o);
  o.st32("eflags", o.ld32("eflags").and(~IF));
}
function sti(o: Ops): void {
  checkIfRight(o);
  const flags = o.ld32("eflags");
  o.c.if(flags.and(IF).eqz(), () => {
    o.st32("eflags", flags.or(IF));
    inhibit(o, INHIBIT.STI);
    attend(o);
  });
}

function setAc(on: 0 | 1) {
  return (o: Ops) => {
    o.faultIf(o.ld32("cpl").bool(), EXC.UD);
    const flags = o.ld32("eflags");
    o.st32("eflags", on ? flags.or(AC) : flags.and(~AC));
    selectTlb(o, o.let(o.ld32("cr4").and(on ? CR4.SMAP : 0)));
  };
}

function lahf(o: Ops): void {
  o.c.st8(o.cpu, o.getFlags().and(LOW_FLAGS).or(2), S.gpr + 1);
}
function sahf(o: Ops): void {
  const ah = o.c.ld8u(o.cpu, S.gpr + 1);
  const overflow = o.let(o.c.call1(o.f.flags.of, o.cpu).shl(11));
  o.setFlags(o.let(ah.and(LOW_FLAGS).or(overflow)));
}

/** PUSHF and POPF in virtual-8086 mode need IOPL 3. */
function checkVm86(o: Ops): void {
  if (!o.is64) o.gpIf(o.ld32("eflags").and(VM).bool().and(iopl(o).ne(3)));
}
function pushf(o: Ops): void {
  checkVm86(o);
  const image = o.let(o.rflags().and(~(VM | RF)));
  push(o, o.size === 64 ? image.zx() : image, o.size);
}
function popf(o: Ops): void {
  checkVm86(o);
  const bytes = o.size / 8;
  const image = o.let(peek(o, o.size).lo());
  const old = o.ld32("eflags");
  o.callF(o.deep("popfImage"), o.cpu, image, bytes);
  o.setFlags(image.and(STATUS_FLAGS));
  popped(o, bytes);
  // Single steps are somebody else's work; a new IF may let an interrupt in.
  const changed = o.let(o.ld32("eflags").xor(old));
  o.c.if(changed.and(TF), () => resync(o));
  o.c.if(changed.and(IF), () => attend(o));
}

export const ROWS: readonly Row[] = [
  { op: "F8", name: "CLC", flags: "C", reads: "OSZAP", sem: setCarry((v) => v.and(~CF)) },
  { op: "F9", name: "STC", flags: "C", reads: "OSZAP", sem: setCarry((v) => v.or(CF)) },
  { op: "F5", name: "CMC", flags: "C", reads: "OSZAPC", sem: setCarry((v) => v.xor(CF)) },
  { op: "FC", name: "CLD", sem: setDirection(false) },
  { op: "FD", name: "STD", sem: setDirection(true) },
  { op: "FA", name: "CLI", hot: 1, faults: true, sem: cli },
  { op: "FB", name: "STI", hot: 1, modes: true, sem: sti },
  { op: "NP 0F 01 CA", name: "CLAC", hot: 1, faults: true, feature: "SMAP", sem: setAc(0) },
  { op: "NP 0F 01 CB", name: "STAC", hot: 1, faults: true, feature: "SMAP", sem: setAc(1) },
  { op: "9F", name: "LAHF", reads: "SZAPC", sem: lahf },
  { op: "9E", name: "SAHF", flags: "SZAPC", reads: "O", sem: sahf },
  { op: "9C", name: "PUSHF", d64: true, modes: true, reads: "OSZAPC", noHost: "system flags differ", sem: pushf },
  { op: "9D", name: "POPF", d64: true, modes: true, flags: "OSZAPC", noHost: "may set TF", sem: popf },
];
