import { assertEquals, assertThrows } from "@std/assert";
import { Arena } from "../src/base/arena.ts";
import { Bug } from "../src/base/errors.ts";
import { TestIrq } from "../src/base/irq.ts";
import { TestTime, Timers } from "../src/base/timers.ts";
import { InterruptRouter, InterruptRouterRecord } from "./interrupt_router.ts";
import { IoApic, IoApicRecord } from "./io_apic.ts";
import { LocalApic } from "./local_apic.ts";
import { LOCAL_APIC as R, LocalApicRecord } from "./local_apic_registers.ts";

/** A board of `cpus` processors, enabled, each with a log of what reached it. */
function board(cpus: number) {
  const arena = Arena.private();
  const timers = new Timers(arena);
  const clock = new TestTime(timers);
  const router = new InterruptRouter(arena.place("router", InterruptRouterRecord));
  const picPins = Array.from({ length: 16 }, () => new TestIrq());
  const pic = { line: (n: number) => picPins[n]!, pending: () => false, acknowledge: () => 0x27 };
  const ioApic = new IoApic(arena.place("ioapic", IoApicRecord), { pins: 24, bus: router });
  router.addIoApic(ioApic);
  router.addPic(pic);
  const logs: string[][] = [];
  const apics = Array.from({ length: cpus }, (_, id) => {
    const log: string[] = [];
    logs.push(log);
    const apic = new LocalApic(arena.place(`apic${id}`, LocalApicRecord), {
      id,
      bsp: id === 0,
      clock,
      timer: timers.timer(`apic${id}`, () => {}),
      bus: router,
      pic,
      physicalAddressBits: 40,
      setIntr: () => {},
      nmi: () => void log.push("nmi"),
      init: () => void log.push("init"),
      sipi: (vector) => void log.push(`sipi ${vector}`),
    });
    router.addLocalApic(apic);
    return apic;
  });
  arena.powerOn();
  for (const apic of apics) apic.write(R.SVR.at, 4, 0x1ff);
  const ipi = (from: number, lo: number, destination = 0) => {
    apics[from]!.write(R.ICR_HI.at, 4, destination << 24);
    apics[from]!.write(R.ICR_LO.at, 4, lo);
  };
  const route = (n: number, lo: number, destination = 0) => {
    for (const [index, value] of [[0x11 + 2 * n, destination << 24], [0x10 + 2 * n, lo]]) {
      ioApic.mmio.write(0, 4, index!);
      ioApic.mmio.write(0x10, 4, value!);
    }
  };
  /** Takes one interrupt on each processor. */
  const taken = () => apics.map((a) => a.acknowledge());
  return { arena, router, apics, ioApic, picPins, logs, ipi, route, taken };
}

Deno.test("IPIs: shorthands reach self, all, and all but self [sdm3 §11.6.1]", () => {
  const { ipi, taken } = board(3);
  ipi(1, 0x0004_0041);
  assertEquals(taken(), [-1, 0x41, -1]);
  ipi(1, 0x0008_0052);
  assertEquals(taken(), [0x52, 0x52, 0x52]);
  ipi(1, 0x000c_0063);
  assertEquals(taken(), [0x63, -1, 0x63]);
});

Deno.test("INIT, then a start-up IPI, to one processor [sdm3 §9.4.4.1]", () => {
  const { ipi, logs } = board(3);
  ipi(0, 0x0000_c500, 2);
  ipi(0, 0x0000_8500, 2);
  ipi(0, 0x0000_0608, 2);
  assertEquals(logs, [[], [], ["init", "sipi 8"]]);
});

Deno.test("logical destinations: a flat set of processors", () => {
  const { apics, ipi, taken } = board(4);
  apics.forEach((a, i) => a.write(R.LDR.at, 4, 1 << (24 + i)));
  ipi(0, 0x0000_0844, 0b1010);
  assertEquals(taken(), [-1, 0x44, -1, 0x44]);
});

Deno.test("lowest priority: one processor, the readiest of those that can [sdm3 §11.6.2.4]", () => {
  const { apics, ipi, taken } = board(4);
  apics.forEach((a, i) => a.write(R.LDR.at, 4, 1 << (24 + i)));
  apics[0]!.write(R.TPR.at, 4, 0x30);
  apics[1]!.write(R.TPR.at, 4, 0x20);
  apics[2]!.write(R.SVR.at, 4, 0xff); // disabled by software
  apics[3]!.write(R.TPR.at, 4, 0x10);
  ipi(0, 0x0000_0944, 0b0111);
  assertEquals(taken(), [-1, 0x44, -1, -1]);
  ipi(0, 0x0000_0955, 0b1111);
  assertEquals(taken(), [-1, -1, -1, 0x55]);
});

Deno.test("x2APIC: a 32-bit logical destination names a cluster and its members", () => {
  const { apics, taken } = board(18);
  for (const a of apics) a.writeMsr(0x1b, 0xfee00c00, 0);
  apics[0]!.writeMsr(0x830, 0x0000_0866, 0x0001_0003);
  assertEquals(taken().map((v, i) => v > 0 ? i : -1).filter((i) => i >= 0), [16, 17]);
  apics[0]!.writeMsr(0x830, 0x0000_0077, 17);
  assertEquals(taken()[17], 0x77);
});

Deno.test("a message-signalled interrupt: address and data decoded [sdm3 §11.11]", () => {
  const { apics, router, taken } = board(3);
  apics.forEach((a, i) => a.write(R.LDR.at, 4, 1 << (24 + i)));
  router.send(0xfee02000, 0, 0x0041); // physical 2
  assertEquals(taken(), [-1, -1, 0x41]);
  router.send(0xfee03004, 0, 0x0052); // logical 3
  assertEquals(taken(), [0x52, 0x52, -1]);
  router.send(0xfee0700c, 0, 0x0063); // logical 7, with the redirection hint: the readiest, and 0 and 1 serve 52h
  assertEquals(taken(), [-1, -1, 0x63]);
  router.send(0xfeeff000, 0, 0x0074); // all
  assertEquals(taken(), [0x74, 0x74, 0x74]);
  for (const [lo, hi, data] of [[0xfed00000, 0, 0x85], [0xfee00000, 1, 0x85], [0xfee00000, 0, 0x8085]]) {
    router.send(lo!, hi!, data!);
    assertEquals(taken(), [-1, -1, -1]);
  }
});

Deno.test("a level: from wire to vector, through EOI, and again while it is asserted", () => {
  const { router, apics, route, taken } = board(2);
  route(16, 0x8000 | 0x71, 1);
  const a = router.line(16), b = router.line(16);
  a.set(true);
  b.set(true);
  assertEquals(taken(), [-1, 0x71]);
  a.set(false); // b still holds the wire
  assertEquals(taken(), [-1, -1]);
  apics[1]!.write(R.EOI.at, 4, 0);
  assertEquals(taken(), [-1, 0x71]);
  b.set(false);
  apics[1]!.write(R.EOI.at, 4, 0);
  assertEquals(taken(), [-1, -1]);
});

Deno.test("a level refused by everyone is delivered once somebody accepts", () => {
  const { router, apics, ioApic, route, taken } = board(1);
  apics[0]!.write(R.SVR.at, 4, 0xff);
  route(16, 0x8000 | 0x71, 0);
  router.line(16).set(true);
  apics[0]!.write(R.SVR.at, 4, 0x1ff);
  ioApic.settle();
  assertEquals(taken(), [0x71]);
});

Deno.test("ISA interrupts reach the 8259A pair and the I/O APIC; the timer is input 2 there", () => {
  const { router, picPins, route, taken } = board(1);
  route(2, 0x32);
  route(4, 0x44);
  router.isaLine(0).set(true);
  assertEquals([picPins[0]!.level, picPins[2]!.level, taken()[0]], [true, false, 0x32]);
  router.isaLine(4).set(true);
  assertEquals([picPins[4]!.level, taken()[0]], [true, 0x44]);
  router.line(20).set(true);
  assertEquals(picPins.map((p) => p.rises).reduce((x, y) => x + y), 2);
});

Deno.test("the 8259A's INTR reaches input 0, whose entry may say ExtINT", () => {
  const { router, apics, route } = board(2);
  route(0, 0x700, 1);
  router.picIntr.set(true);
  assertEquals(apics.map((a) => a.acknowledge()), [-1, 0x27]);
});

Deno.test("NMI reaches LINT1 of those who listen", () => {
  const { router, apics, logs } = board(2);
  apics[1]!.write(R.LVT_LINT1.at, 4, 0x400);
  router.nmi.set(true);
  assertEquals(logs, [[], ["nmi"]]);
});

Deno.test("a restored board asserts the wires it had", () => {
  const a = board(1), b = board(1);
  const lines = [a, b].map((x) => x.router.isaLine(4));
  lines[0]!.set(true);
  b.arena.restore(a.arena.save());
  b.router.settle();
  assertEquals(b.picPins[4]!.level, true);
  lines[1]!.set(false);
  assertEquals(b.picPins[4]!.level, false);
});

Deno.test("a wire has no more than 32 sources", () => {
  const { router } = board(1);
  for (let i = 0; i < 32; i++) router.line(9);
  assertThrows(() => router.line(9), Bug);
  assertThrows(() => router.line(64), Bug);
});
