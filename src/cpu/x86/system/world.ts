/** For tests: a vCPU in a given mode, with descriptor tables and stacks in the first pages of RAM. Paging is off or identity. */
import { defineFar } from "../isa/far.ts";
import { defineSegment } from "../isa/segment.ts";
import { CS, DS, DTLB, ES, FS, GS, ITLB, LDTR, RSP, SS, TR } from "../state.ts";
import { CPU, type Fixture, fixture, RAM } from "./fixture.ts";

/** Where things are, in linear addresses. */
export const AT = {
  idt: 0x1000,
  gdt: 0x2000,
  ldt: 0x2800,
  tss: 0x3000,
  tss2: 0x3400,
  stack0: 0x8000,
  stack3: 0x9000,
  ist: 0xa000,
};
const PAGES = 64, TABLES = 48;
const NAMES = [
  "deliver",
  "interrupt",
  "trapDb",
  "softInt",
  "iret",
  "far.jump",
  "far.call",
  "far.ret",
  "loadSegment",
  "loadLdtr",
]
  .concat(["loadTr", "updateMode", "flushTlb", "syscall", "sysret", "sysenter", "sysexit", "task.switch", "inspect"]);

/** Selectors of the tables below. */
export const SEL = {
  code0: 0x08,
  data0: 0x10,
  code3: 0x1b,
  data3: 0x23,
  code32: 0x28,
  user32: 0x33,
  conforming: 0x38,
  absent: 0x40,
  readOnly: 0x48,
  narrow: 0x50,
  tss: 0x60,
  tss2: 0x70,
  ldt: 0x80,
  gate: 0x90,
};

/** A descriptor: type and S in `access` bits 0..4, DPL 5..6, P 7; flags G D/B L AVL from bit 3. */
export function descriptor(base: number, limit: number, access: number, flags: number): bigint {
  const l = BigInt(limit), b = BigInt(base);
  return (l & 0xffffn) | ((b & 0xff_ffffn) << 16n) | (BigInt(access) << 40n) | ((l >> 16n) << 48n) |
    (BigInt(flags) << 52n) |
    ((b >> 24n) << 56n);
}

export interface World extends Fixture {
  gdt(selector: number, value: bigint): void;
  peek(linear: number, bytes?: 2 | 4 | 8): bigint;
  poke(linear: number, value: number | bigint, bytes?: 2 | 4 | 8): void;
  /** CS:RIP, SS:RSP, CPL, as text. */
  where(): string;
  segment(n: number): string;
  /** Loads a segment register's cache from the GDT without checks. */
  put(n: number, selector: number): void;
  rsp(value?: number | bigint): number;
}

export function world(mode: "real" | "32" | "64", cpl: 0 | 3 = 0): World {
  const f = fixture(PAGES, NAMES, (m, funcs, imports) => {
    defineFar(m, funcs, imports);
    defineSegment(m, funcs, imports);
  });
  const v = f.view;
  const w: World = {
    ...f,
    gdt: (selector, value) => v.setBigUint64(RAM + AT.gdt + (selector & ~7), value, true),
    peek: (a, bytes = 8) =>
      bytes === 8
        ? v.getBigUint64(RAM + a, true)
        : BigInt(bytes === 4 ? v.getUint32(RAM + a, true) : v.getUint16(RAM + a, true)),
    poke: (a, x, bytes = 8) => {
      if (bytes === 8) v.setBigUint64(RAM + a, BigInt.asUintN(64, BigInt(x)), true);
      else if (bytes === 4) v.setUint32(RAM + a, Number(x), true);
      else v.setUint16(RAM + a, Number(x), true);
    },
    where: () =>
      `${f.get("segSelector", CS).toString(16)}:${f.get64("rip").toString(16)} ` +
      `${f.get("segSelector", SS).toString(16)}:${f.get64("gpr", RSP).toString(16)} cpl ${f.get("cpl")}`,
    segment: (n) =>
      [f.get("segSelector", n), f.get64("segBase", n), f.get("segLimit", n), f.get("segRights", n)].map((x) =>
        x.toString(16)
      ).join(" "),
    put: (n, selector) => {
      const d = v.getBigUint64(RAM + AT.gdt + (selector & ~7), true);
      const limit = Number((d & 0xffffn) | ((d >> 32n) & 0xf0000n));
      f.set("segSelector", selector, n);
      f.set("segRights", Number((d >> 40n) & 0xffn) | (Number((d >> 52n) & 15n) << 12), n);
      f.set("segLimit", (d >> 55n) & 1n ? (limit * 4096 + 4095) >>> 0 : limit, n);
      f.set64("segBase", ((d >> 16n) & 0xff_ffffn) | ((d >> 32n) & 0xff00_0000n), n);
    },
    rsp: (value) => {
      if (value !== undefined) f.set64("gpr", value, RSP);
      return Number(f.get64("gpr", RSP));
    },
  };
  f.set64("gdtrBase", AT.gdt);
  f.set("gdtrLimit", 0xff);
  f.set64("idtrBase", mode === "real" ? 0 : AT.idt);
  f.set("idtrLimit", mode === "real" ? 0x3ff : mode === "64" ? 0xfff : 0x7ff);
  f.set("eflags", 0x202);
  f.set("fKind", 1);
  f.set64("fRes", 1);
  f.set("dtlb", CPU + DTLB);
  f.set("itlb", CPU + ITLB);
  f.call("flushTlb");
  if (mode === "real") {
    f.set64("cr0", 0x10);
    for (const n of [ES, CS, SS, DS, FS, GS]) {
      f.set("segLimit", 0xffff, n);
      f.set("segRights", n === CS ? 0x9b : 0x93, n);
    }
  } else {
    const long = mode === "64";
    w.gdt(SEL.code0, descriptor(0, 0xfffff, 0x9a, long ? 0xa : 0xc));
    w.gdt(SEL.data0, descriptor(0, 0xfffff, 0x92, 0xc));
    w.gdt(SEL.code3, descriptor(0, 0xfffff, 0xfa, long ? 0xa : 0xc));
    w.gdt(SEL.data3, descriptor(0, 0xfffff, 0xf2, 0xc));
    w.gdt(SEL.code32, descriptor(0, 0xfffff, 0x9a, 0xc));
    w.gdt(SEL.user32, descriptor(0, 0xfffff, 0xfa, 0xc));
    w.gdt(SEL.conforming, descriptor(0, 0xfffff, 0x9e, long ? 0xa : 0xc));
    w.gdt(SEL.absent, descriptor(0, 0xfffff, 0x12, 0xc));
    w.gdt(SEL.readOnly, descriptor(0, 0xfffff, 0xf0, 0xc));
    w.gdt(SEL.narrow, descriptor(0x4_0000, 0xff, 0xfa, 0x4));
    w.gdt(SEL.tss, descriptor(AT.tss, 0x67, 0x8b, 0));
    w.gdt(SEL.tss2, descriptor(AT.tss2, 0x67, 0x89, 0));
    w.gdt(SEL.ldt, descriptor(AT.ldt, 0x3f, 0x82, 0));
    f.set("segRights", 1 << 16, LDTR);
    if (long) {
      f.set64("cr0", 0x8001_0033);
      f.set64("cr4", 0x20);
      f.set64("efer", 0xd01);
      f.set64("cr3", TABLES * 4096);
      w.poke(TABLES * 4096, (TABLES + 1) * 4096 + 7);
      w.poke((TABLES + 1) * 4096, 0x87 | 0x60); // 1 GiB at 0
      w.poke(AT.tss + 4, AT.stack0);
      w.poke(AT.tss + 0x24, AT.ist);
    } else {
      f.set64("cr0", 0x11);
      w.poke(AT.tss + 4, AT.stack0, 4);
      w.poke(AT.tss + 8, SEL.data0, 2);
    }
    w.put(TR, SEL.tss);
    w.put(CS, cpl ? SEL.code3 : SEL.code0);
    for (const n of [SS, DS, ES, FS, GS]) w.put(n, cpl ? SEL.data3 : SEL.data0);
  }
  f.set("cpl", cpl);
  f.call("updateMode");
  f.set("tlbMisses", 0);
  w.rsp(cpl ? AT.stack3 : AT.stack0 - 0x100);
  f.set64("rip", 0x1234);
  return w;
}

/** A gate of the IDT for `vector`. */
export function gate64(w: World, vector: number, selector: number, target: bigint, type = 0xe, dpl = 0, ist = 0): void {
  const low = (target & 0xffffn) | (BigInt(selector) << 16n) | (BigInt(ist) << 32n) |
    (BigInt(0x80 | (dpl << 5) | type) << 40n) |
    ((target & 0xffff_0000n) << 32n);
  w.poke(AT.idt + vector * 16, low);
  w.poke(AT.idt + vector * 16 + 8, target >> 32n);
}
export function gate32(w: World, vector: number, selector: number, target: number, type = 0xe, dpl = 0): void {
  w.poke(AT.idt + vector * 8, callGate(selector, target, type, dpl));
}
export function callGate(selector: number, target: number, type: number, dpl: number, params = 0): bigint {
  const t = BigInt(target);
  return (t & 0xffffn) | (BigInt(selector) << 16n) | (BigInt(params) << 32n) |
    (BigInt(0x80 | (dpl << 5) | type) << 40n) |
    ((t & 0xffff_0000n) << 32n);
}

/** Asks for an exception as an instruction would: → the status of "deliver". */
export function raiseIn(w: World, vector: number, error = -1): number {
  w.set("excVector", vector);
  w.set("excError", error);
  return w.call("deliver");
}
