/** CLC, STC, CMC, CLD, STD, CLI, STI, CLAC, STAC, LAHF, SAHF, PUSHF, POPF: [sdm2], [sdm3 §20.3] for virtual interrupts. */
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
  IOPL,
  MMU_SUPERVISOR,
  MMU_SUPERVISOR_AC,
  NT,
  PF,
  RF,
  S,
  SF,
  STATUS_FLAGS,
  TF,
  VIF,
  VIP,
  VM,
  ZF,
} from "../state.ts";
import { attend, resync } from "../system/attention.ts";
import { peek, popped, push } from "./stack.ts";

const IOPL_SHIFT = 12;
/** What AH holds of the flags; bit 1 is always set, 3 and 5 are clear. */
const LOW_FLAGS = SF | ZF | AF | PF | CF;

/** IOPL as 0..3. */
function iopl(o: Ops): Value {
  return o.let(o.ld32("eflags").shrU(IOPL_SHIFT).and(3));
}

/** The data TLB in force follows EFLAGS.AC for the supervisor. */
function selectTlb(o: Ops, ac: Value): void {
  const at = (tlb: number) => o.cpu.add(DTLB + tlb * DTLB_BYTES);
  o.st32(
    "dtlb",
    ac.isConst
      ? at(ac.imm ? MMU_SUPERVISOR_AC : MMU_SUPERVISOR)
      : select(ac, at(MMU_SUPERVISOR_AC), at(MMU_SUPERVISOR)),
  );
}

export function defineFlagOps(m: Module, f: CpuFuncs): void {
  // (0 or IF) → whether IF itself changes (else it was VIF, or a fault): CLI and STI away from CPL 0.
  deepFunc(m, f, "changeIf", ["i32"], ["i32"], (o, set) => {
    const c = o.c, flags = o.ld32("eflags"), cr4 = o.ld32("cr4"), cpl = o.ld32("cpl");
    const level = iopl(o);
    const vm = c.let(flags.and(VM));
    // In virtual-8086 mode the privilege level is 3 as well.
    c.if(cpl.leU(level), () => c.return(0, 1));
    const virtual = select(vm, cr4.and(CR4.VME), cr4.and(CR4.PVI));
    o.gpIf(virtual.eqz().or(cpl.ne(3)));
    o.gpIf(set!.bool().and(flags.and(VIP).bool()));
    o.st32("eflags", flags.and(~VIF).or(set!.shl(Math.log2(VIF) - Math.log2(IF))));
    c.return(0, 0);
  });

  // (bytes) → the image to push. #GP(0) where virtual-8086 mode has no right to it.
  deepFunc(m, f, "pushfImage", ["i32"], ["i32"], (o, bytes) => {
    const c = o.c, image = c.variable("i32", o.rflags().and(~(VM | RF)));
    c.if(o.ld32("eflags").and(VM).bool().and(iopl(o).ne(3)), () => {
      o.gpIf(o.ld32("cr4").and(CR4.VME).eqz().or(bytes!.ne(2)));
      // VIF stands where IF is, and the level looks like 3.
      const vif = o.ld32("eflags").shrU(Math.log2(VIF) - Math.log2(IF)).and(IF);
      image.set(image.get().and(~IF).or(vif).or(IOPL));
    });
    c.return(0, image.get());
  });

  // (image, bytes): what POPF does with what it has read. Status flags are the caller's.
  deepFunc(m, f, "popfImage", ["i32", "i32"], [], (o, image, bytes) => {
    const c = o.c, old = o.ld32("eflags"), cpl = o.ld32("cpl");
    const mask = c.variable("i32", TF | DF | NT);
    const value = c.variable("i32", image!);
    c.if(bytes!.ne(2), () => mask.set(mask.get().or(AC | ID)));
    c.if(old.and(VM).bool().and(iopl(o).ne(3)), () => {
      o.gpIf(o.ld32("cr4").and(CR4.VME).eqz().or(bytes!.ne(2)));
      o.gpIf(image!.and(TF).bool());
      o.gpIf(image!.and(IF).bool().and(old.and(VIP).bool()));
      mask.set(mask.get().or(VIF));
      value.set(image!.and(~VIF).or(image!.and(IF).shl(Math.log2(VIF) - Math.log2(IF))));
    }, () => {
      c.if(cpl.leU(iopl(o)), () => mask.set(mask.get().or(IF)));
      c.if(cpl.eqz(), () => mask.set(mask.get().or(IOPL)));
    });
    const flags = c.let(value.get().and(mask.get()).or(old.and(mask.get().or(RF).not())));
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

function cli(o: Ops): void {
  const c = o.c;
  const own = c.variable("i32", 1);
  c.if(o.ld32("cpl"), () => own.set(o.callF(o.deep("changeIf"), o.cpu, 0)[0]!));
  c.if(own.get(), () => o.st32("eflags", o.ld32("eflags").and(~IF)));
}
function sti(o: Ops): void {
  const c = o.c;
  const own = c.variable("i32", 1);
  c.if(o.ld32("cpl"), () => own.set(o.callF(o.deep("changeIf"), o.cpu, IF)[0]!));
  const flags = o.ld32("eflags");
  c.if(own.get().and(flags.and(IF).eqz()), () => {
    o.st32("eflags", flags.or(IF));
    o.st32("inhibit", 1);
    attend(o);
  });
}

function setAc(on: 0 | 1) {
  return (o: Ops) => {
    o.faultIf(o.ld32("cpl").bool(), EXC.UD);
    const flags = o.ld32("eflags");
    o.st32("eflags", on ? flags.or(AC) : flags.and(~AC));
    const smap = o.ld32("cr4").and(CR4.SMAP);
    selectTlb(o, on ? smap : o.let(smap.and(0)));
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

function pushf(o: Ops): void {
  const [image] = o.callF(o.deep("pushfImage"), o.cpu, o.size / 8);
  push(o, o.size === 64 ? image!.zx() : image!, o.size);
}
function popf(o: Ops): void {
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
