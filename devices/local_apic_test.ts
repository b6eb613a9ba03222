import { assertEquals } from "@std/assert";
import { Arena } from "../src/base/arena.ts";
import { TestTime, Timers } from "../src/base/timers.ts";
import { LocalApic } from "./local_apic.ts";
import type { InterruptMessage } from "./local_apic_message.ts";
import { LOCAL_APIC as R, LocalApicRecord } from "./local_apic_registers.ts";

/** One APIC; `log` holds what it told the CPU and the bus. */
function fixture(options: { id?: number; bsp?: boolean } = {}) {
  const arena = Arena.private();
  const timers = new Timers(arena);
  const time = new TestTime(timers);
  const log: string[] = [];
  const sent: { message: InterruptMessage; shorthand: number }[] = [];
  const pic = { asks: false, pending: () => pic.asks, acknowledge: () => (pic.asks = false, 0x30) };
  const cpu = { intr: false };
  const s = arena.place("apic", LocalApicRecord);
  const apic: LocalApic = new LocalApic(s, {
    id: options.id ?? 1,
    bsp: options.bsp ?? false,
    clock: time,
    timer: timers.timer("apic", () => apic.settle()),
    bus: {
      sendIpi: (message, shorthand) => void sent.push({ message, shorthand }),
      eoi: (vector) => void log.push(`eoi ${vector}`),
    },
    pic,
    physicalAddressBits: 40,
    setIntr: (level) => void (cpu.intr = level),
    nmi: () => void log.push("nmi"),
    init: () => void log.push("init"),
    sipi: (vector) => void log.push(`sipi ${vector}`),
  });
  arena.powerOn();
  const page = {
    read: (r: { at: number }) => apic.read(r.at, 4),
    write: (r: { at: number }, value: number) => apic.write(r.at, 4, value),
  };
  return { arena, time, timers, apic, s, page, pic, cpu, log, sent };
}

/** The same, enabled by software. */
function enabled(options: { id?: number; bsp?: boolean } = {}) {
  const f = fixture(options);
  f.page.write(R.SVR, 0x1ff);
  return f;
}

const FIXED = 0, NMI = 4, INIT = 5, STARTUP = 6, EXTINT = 7;
const EN = 0x800, EXTD = 0x400;

Deno.test("power-on: software-disabled, every LVT entry masked, flat model [sdm3 §11.4.7.1]", () => {
  const { page } = fixture({ id: 3 });
  assertEquals(page.read(R.ID), 0x0300_0000);
  assertEquals(page.read(R.VERSION) & 0xff00ff, 0x050014);
  assertEquals(page.read(R.SVR), 0xff);
  assertEquals(page.read(R.DFR), 0xffffffff);
  assertEquals(page.read(R.LDR), 0);
  for (const r of [R.LVT_TIMER, R.LVT_THERMAL, R.LVT_PERF, R.LVT_LINT0, R.LVT_LINT1, R.LVT_ERROR]) {
    assertEquals(page.read(r), 0x10000);
  }
});

Deno.test("software-disabled, LVT masks cannot be cleared and fixed messages are refused [sdm3 §11.4.7.2]", () => {
  const { page, apic, log } = fixture();
  page.write(R.LVT_TIMER, 0x40);
  assertEquals(page.read(R.LVT_TIMER), 0x10040);
  assertEquals(apic.receive(FIXED, 0x40, false), false);
  assertEquals(apic.receive(NMI, 0, false), true);
  assertEquals(log, ["nmi"]);
  page.write(R.SVR, 0x1ff);
  page.write(R.LVT_TIMER, 0x40);
  page.write(R.SVR, 0xff);
  assertEquals(page.read(R.LVT_TIMER), 0x10040);
});

Deno.test("the higher priority class interrupts the lower, and EOI ends the innermost [sdm3 §11.8.3]", () => {
  const { page, apic, cpu } = enabled();
  apic.receive(FIXED, 0x41, false);
  assertEquals(cpu.intr, true);
  assertEquals(apic.acknowledge(), 0x41);
  assertEquals(page.read(R.PPR), 0x40);
  apic.receive(FIXED, 0x4f, false); // same class: waits
  assertEquals(cpu.intr, false);
  assertEquals(apic.acknowledge(), -1);
  apic.receive(FIXED, 0x52, false);
  assertEquals(cpu.intr, true);
  assertEquals(apic.acknowledge(), 0x52);
  assertEquals(page.read({ at: R.ISR.at + 0x20 }), (1 << 1) | (1 << 0x12));
  page.write(R.EOI, 0);
  assertEquals(page.read({ at: R.ISR.at + 0x20 }), 1 << 1);
  page.write(R.EOI, 0);
  assertEquals(apic.acknowledge(), 0x4f);
});

Deno.test("TPR holds back its class and those below; CR8 is its upper half [sdm3 §11.8.3.1, §11.8.6]", () => {
  const { page, apic, cpu } = enabled();
  page.write(R.TPR, 0x45);
  assertEquals(page.read(R.PPR), 0x45);
  assertEquals(apic.readTpr(), 4);
  apic.receive(FIXED, 0x4f, false);
  assertEquals(cpu.intr, false);
  apic.writeTpr(3);
  assertEquals(page.read(R.TPR), 0x30);
  assertEquals(cpu.intr, true);
});

Deno.test("APR is the highest of the classes of TPR, ISRV and IRRV [sdm3 §11.6.2.4]", () => {
  const { page, apic } = enabled();
  page.write(R.TPR, 0x25);
  assertEquals(page.read(R.APR), 0x25);
  apic.receive(FIXED, 0x61, false);
  assertEquals(page.read(R.APR), 0x60);
  apic.acknowledge();
  apic.receive(FIXED, 0x51, false);
  assertEquals(page.read(R.APR), 0x60);
});

Deno.test("EOI of a level-triggered interrupt is broadcast unless SVR bit 12 suppresses it [sdm3 §11.8.5]", () => {
  const { page, apic, log } = enabled();
  for (const [level, svr] of [[false, 0x1ff], [true, 0x1ff], [true, 0x11ff]] as const) {
    page.write(R.SVR, svr);
    apic.receive(FIXED, 0x50, level);
    assertEquals(page.read({ at: R.TMR.at + 0x20 }), level ? 1 << 16 : 0);
    apic.acknowledge();
    page.write(R.EOI, 0);
  }
  assertEquals(log, ["eoi 80"]);
});

Deno.test("a vector below 16 is an error and no interrupt [sdm3 §11.5.3]", () => {
  const { page, apic, cpu, sent } = enabled();
  page.write(R.LVT_ERROR, 0xf0);
  assertEquals(apic.receive(FIXED, 15, false), false);
  assertEquals(page.read(R.ESR), 0); // not before ESR is written
  page.write(R.ESR, 0);
  assertEquals(page.read(R.ESR), 0x40);
  assertEquals(cpu.intr, true);
  assertEquals(apic.acknowledge(), 0xf0);
  page.write(R.EOI, 0);
  page.write(R.ICR_LO, 0x0000_000f);
  assertEquals(sent, []);
  page.write(R.ESR, 0);
  assertEquals(page.read(R.ESR), 0x20);
  page.write(R.ESR, 0);
  assertEquals(page.read(R.ESR), 0);
});

Deno.test("an error interrupt whose own vector is illegal is logged once and ends there", () => {
  const { page, cpu } = enabled();
  page.write(R.LVT_ERROR, 0x01);
  page.read({ at: 0x040 }); // reserved
  page.write(R.ESR, 0);
  assertEquals(page.read(R.ESR), 0xc0);
  assertEquals(cpu.intr, false);
});

Deno.test("the error interrupt is rearmed by a write to ESR only", () => {
  const { page, apic } = enabled();
  page.write(R.LVT_ERROR, 0xf0);
  page.read({ at: 0x040 });
  assertEquals(apic.acknowledge(), 0xf0);
  page.write(R.EOI, 0);
  page.read({ at: 0x050 });
  assertEquals(apic.acknowledge(), -1);
  page.write(R.ESR, 0);
  page.write({ at: 0x060 }, 1);
  assertEquals(apic.acknowledge(), 0xf0);
});

Deno.test("ICR: an 8-bit destination, FFh of which means all [sdm3 §11.6.1]", () => {
  const { page, sent } = enabled();
  page.write(R.ICR_HI, 0x0700_0000);
  page.write(R.ICR_LO, 0x0000_0845);
  page.write(R.ICR_HI, 0xff00_0000);
  page.write(R.ICR_LO, 0x0000_0400);
  page.write(R.ICR_LO, 0x000c_0500);
  page.write(R.ICR_LO, 0x0000_c608);
  assertEquals(sent, [
    { message: { mode: FIXED, vector: 0x45, level: false, logical: true, destination: 7 }, shorthand: 0 },
    { message: { mode: NMI, vector: 0, level: false, logical: false, destination: 0xffffffff }, shorthand: 0 },
    { message: { mode: INIT, vector: 0, level: false, logical: false, destination: 0xffffffff }, shorthand: 3 },
    { message: { mode: STARTUP, vector: 8, level: false, logical: false, destination: 0xffffffff }, shorthand: 0 },
  ]);
  assertEquals(page.read(R.ICR_LO), 0xc608); // delivery status is idle
});

Deno.test("ICR: what has no meaning is not sent [sdm3 §11.6.1, Table 11-3]", () => {
  const { page, apic, sent } = enabled();
  page.write(R.ICR_LO, 0x0000_8500); // INIT level de-assert
  page.write(R.ICR_LO, 0x0000_0340); // reserved mode
  page.write(R.ICR_LO, 0x0000_0740);
  page.write(R.ICR_LO, 0x0008_0500); // INIT to all including self
  page.write(R.ICR_LO, 0x0004_0440); // NMI to self
  assertEquals(sent, []);
  page.write(R.ICR_LO, 0x0004_0040); // a fixed interrupt to self needs no bus
  assertEquals(sent, []);
  assertEquals(apic.acknowledge(), 0x40);
});

Deno.test("INIT returns all but the ID and the mode to power-on; SIPI and NMI are told to the CPU", () => {
  const { page, apic, log, cpu } = enabled();
  apic.receive(FIXED, 0x40, false);
  page.write(R.TPR, 0x10);
  page.write(R.LDR, 0x0200_0000);
  apic.receive(INIT, 0, false);
  assertEquals([page.read(R.SVR), page.read(R.TPR), page.read(R.LDR), cpu.intr], [0xff, 0, 0, false]);
  apic.receive(STARTUP, 0x9a, false);
  assertEquals(log, ["init", "sipi 154"]);
});

Deno.test("ExtINT on LINT0: the vector comes from the 8259A, whatever TPR says, and nothing is in service [sdm3 §11.5.1]", () => {
  const { page, apic, pic, cpu } = enabled();
  page.write(R.LVT_LINT0, 0x700);
  page.write(R.TPR, 0xff);
  pic.asks = true;
  apic.lint0.set(true);
  assertEquals(cpu.intr, true);
  assertEquals(apic.acknowledge(), 0x30);
  assertEquals(cpu.intr, false);
  for (let i = 0; i < 8; i++) assertEquals(page.read({ at: R.ISR.at + 16 * i }), 0);
  pic.asks = true;
  page.write(R.LVT_LINT0, 0x10700);
  assertEquals([cpu.intr, apic.acknowledge()], [false, -1]);
});

Deno.test("setVirtualWire is what the 8259A needs to be heard [mps §3.6.2.2]", () => {
  const { apic, pic, cpu, log, page } = fixture({ bsp: true });
  pic.asks = true;
  apic.settle();
  assertEquals(cpu.intr, false);
  apic.setVirtualWire();
  assertEquals(cpu.intr, true);
  apic.lint1.set(true);
  apic.lint1.set(true);
  assertEquals(log, ["nmi"]);
  assertEquals(page.read(R.LVT_LINT1), 0x400);
});

Deno.test("an ExtINT message is one INTA cycle to the 8259A", () => {
  const { apic, cpu } = enabled();
  apic.receive(EXTINT, 0, false);
  assertEquals(cpu.intr, true);
  assertEquals(apic.acknowledge(), 0x30);
  assertEquals(cpu.intr, false);
});

Deno.test("LINT0 fixed and level-triggered asks again after EOI while the wire is up", () => {
  const { page, apic } = enabled();
  page.write(R.LVT_LINT0, 0x8045);
  apic.lint0.set(true);
  assertEquals(page.read(R.LVT_LINT0), 0xc045); // remote IRR
  assertEquals(apic.acknowledge(), 0x45);
  assertEquals(apic.acknowledge(), -1);
  page.write(R.EOI, 0);
  assertEquals(apic.acknowledge(), 0x45);
  apic.lint0.set(false);
  page.write(R.EOI, 0);
  assertEquals(page.read(R.LVT_LINT0), 0x8045);
  assertEquals(apic.acknowledge(), -1);
});

Deno.test("the page answers 32-bit accesses; a narrow write does nothing", () => {
  const { apic, page } = enabled({ id: 5 });
  assertEquals(apic.read(0x23, 1), 5);
  assertEquals(apic.read(0x24, 4), 0);
  apic.write(0x80, 1, 0x20);
  apic.write(0x84, 4, 0x20);
  assertEquals(page.read(R.TPR), 0);
});

Deno.test("IA32_APIC_BASE: every transition of the mode diagram [sdm3 §11.12.5]", () => {
  const legal: Record<string, readonly number[]> = {
    disabled: [0, EN],
    xapic: [EN, EN | EXTD, 0],
    x2apic: [EN | EXTD, 0],
  };
  const enter: Record<string, readonly number[]> = { disabled: [0], xapic: [], x2apic: [EN | EXTD] };
  for (const from of Object.keys(legal)) {
    for (const to of [0, EXTD, EN, EN | EXTD]) {
      const { apic } = fixture();
      for (const step of enter[from]!) assertEquals(apic.writeMsr(0x1b, 0xfee00000 | step, 0), true);
      assertEquals(apic.writeMsr(0x1b, 0xfee00000 | to, 0), legal[from]!.includes(to), `${from} to ${to}`);
    }
  }
});

Deno.test("IA32_APIC_BASE: the page moves; reserved bits fault; BSP is read-only", () => {
  const { apic } = fixture({ bsp: true });
  apic.readMsr(0x1b);
  assertEquals([apic.msrLo, apic.msrHi], [0xfee00900, 0]);
  assertEquals(apic.writeMsr(0x1b, 0xfee00801, 0), false);
  assertEquals(apic.writeMsr(0x1b, 0xfee00a00, 0), false);
  assertEquals(apic.writeMsr(0x1b, 0xfee00800, 0x100), false);
  assertEquals(apic.writeMsr(0x1b, 0xd0000800, 0x12), true);
  assertEquals(apic.pageAt(), 0x12_d000_0000);
  apic.readMsr(0x1b);
  assertEquals([apic.msrLo, apic.msrHi], [0xd0000900, 0x12]);
});

Deno.test("disabling loses the state; x2APIC keeps it but for LDR and the upper ICR [sdm3 §11.12.5.1]", () => {
  const { apic, page, pic, cpu } = enabled({ id: 0x25 });
  page.write(R.TPR, 0x30);
  page.write(R.ICR_HI, 0x0100_0000);
  apic.writeMsr(0x1b, 0xfee00000 | EN | EXTD, 0);
  assertEquals(apic.pageAt(), -1);
  assertEquals(page.read(R.TPR), 0xffffffff);
  const msr = (n: number) => (assertEquals(apic.readMsr(n), true), apic.msrLo);
  assertEquals([msr(0x808), msr(0x80f), msr(0x802), msr(0x80d)], [0x30, 0x1ff, 0x25, 0x0002_0020]);
  apic.readMsr(0x830);
  assertEquals(apic.msrHi, 0);
  apic.writeMsr(0x1b, 0xfee00000, 0);
  assertEquals(apic.enabled, false);
  assertEquals(apic.receive(NMI, 0, false), false);
  pic.asks = true; // LINT0 is INTR now
  apic.lint0.set(true);
  assertEquals(cpu.intr, true);
  apic.writeMsr(0x1b, 0xfee00000 | EN, 0);
  assertEquals([page.read(R.TPR), page.read(R.SVR), cpu.intr], [0, 0xff, false]);
});

Deno.test("x2APIC MSRs fault outside x2APIC mode, where there is no register, and on reserved bits [sdm3 §11.12.1.2]", () => {
  const { apic } = enabled();
  assertEquals([apic.readMsr(0x802), apic.writeMsr(0x80b, 0, 0)], [false, false]);
  apic.writeMsr(0x1b, 0xfee00000 | EN | EXTD, 0);
  const readable: number[] = [], writable: number[] = [];
  for (let n = 0x800; n <= 0x8ff; n++) {
    if (apic.readMsr(n)) readable.push(n - 0x800);
    if (apic.writeMsr(n, 0, 0)) writable.push(n - 0x800);
  }
  const eight = (from: number) => Array.from({ length: 8 }, (_, i) => from + i);
  const lvt = [0x32, 0x33, 0x34, 0x35, 0x36, 0x37];
  assertEquals(readable, [
    ...[0x02, 0x03, 0x08, 0x0a, 0x0d, 0x0f],
    ...eight(0x10),
    ...eight(0x18),
    ...eight(0x20),
    ...[0x28, 0x30],
    ...lvt,
    ...[0x38, 0x39, 0x3e],
  ]);
  assertEquals(writable, [0x08, 0x0b, 0x0f, 0x28, 0x30, ...lvt, 0x38, 0x3e, 0x3f]);
  for (const [msr, lo, hi] of [[0x808, 0x100, 0], [0x808, 0, 1], [0x80b, 1, 0], [0x828, 1, 0], [0x83f, 0x140, 0]]) {
    assertEquals(apic.writeMsr(msr!, lo!, hi!), false);
  }
  assertEquals(apic.writeMsr(0x830, 1 << 13, 0), false);
});

Deno.test("x2APIC: ICR is one 64-bit write; SELF IPI needs no bus [sdm3 §11.12.9, §11.12.11]", () => {
  const { apic, sent, page } = enabled();
  page.write(R.SVR, 0x1ff);
  apic.writeMsr(0x1b, 0xfee00000 | EN | EXTD, 0);
  assertEquals(apic.writeMsr(0x830, 0x0841, 0x0001_0002), true);
  assertEquals(sent[0]!.message, { mode: FIXED, vector: 0x41, level: false, logical: true, destination: 0x1_0002 });
  apic.readMsr(0x830);
  assertEquals([apic.msrLo, apic.msrHi], [0x841, 0x1_0002]);
  assertEquals(apic.writeMsr(0x83f, 0x77, 0), true);
  assertEquals(apic.acknowledge(), 0x77);
});

Deno.test("destinations: physical, flat, cluster, x2APIC cluster [sdm3 §11.6.2, §11.12.10]", () => {
  const { apic, page } = enabled({ id: 0x13 });
  assertEquals([apic.isDestination(0x13, false), apic.isDestination(0x12, false)], [true, false]);
  assertEquals(apic.isDestination(0xffffffff, false), true);
  page.write(R.LDR, 0x2400_0000);
  assertEquals([0x04, 0x20, 0x24, 0xdb].map((d) => apic.isDestination(d, true)), [true, true, true, false]);
  page.write(R.DFR, 0x0fffffff);
  assertEquals([0x04, 0x24, 0x2c, 0x34, 0xf4, 0x21].map((d) => apic.isDestination(d, true)), [
    false,
    true,
    true,
    false,
    true,
    false,
  ]);
  apic.writeMsr(0x1b, 0xfee00000 | EN | EXTD, 0);
  assertEquals([0x1_0008, 0x1_fff7, 0x0008, 0xffffffff].map((d) => apic.isDestination(d, true)), [
    true,
    false,
    false,
    true,
  ]);
});

Deno.test("a snapshot carries requests over: settle asks the CPU again", () => {
  const a = enabled(), b = fixture();
  a.page.write(R.LVT_TIMER, 0x40);
  a.page.write(R.DCR, 0xb);
  a.page.write(R.INITIAL_COUNT, 100);
  a.apic.receive(FIXED, 0x51, false);
  b.arena.restore(a.arena.save());
  b.apic.settle();
  assertEquals(b.cpu.intr, true);
  assertEquals(b.apic.acknowledge(), 0x51);
  b.page.write(R.EOI, 0);
  b.time.advance(100);
  assertEquals(b.apic.acknowledge(), 0x40);
});
