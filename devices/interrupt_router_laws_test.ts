/** Laws of the interrupt fabric as a whole, under a guest that does anything: registers, MSRs, wires, messages, time. */
import { assert, assertEquals } from "@std/assert";
import { Arena } from "../src/base/arena.ts";
import { TestTime, Timers } from "../src/base/timers.ts";
import { InterruptRouter, InterruptRouterRecord } from "./interrupt_router.ts";
import { IO_APIC, IoApic, IoApicRecord } from "./io_apic.ts";
import { I8259, I8259Record } from "./i8259.ts";
import { LocalApic } from "./local_apic.ts";
import { LOCAL_APIC, LocalApicRecord } from "./local_apic_registers.ts";

const CPUS = 3;
const WIRES = [0, 3, 4, 9, 16, 23];

/** xorshift32. */
function random(seed: number): (below: number) => number {
  let x = seed;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

function fabric() {
  const arena = Arena.private();
  const timers = new Timers(arena);
  const time = new TestTime(timers);
  const trace: string[] = [];
  const router = new InterruptRouter(arena.place("router", InterruptRouterRecord));
  const pic = new I8259(arena.place("pic", I8259Record), { intr: router.picIntr });
  const ioApic = new IoApic(arena.place("ioapic", IoApicRecord), { pins: 24, bus: router });
  const intr = new Array<boolean>(CPUS).fill(false);
  const apics = Array.from({ length: CPUS }, (_, id) => {
    const apic: LocalApic = new LocalApic(arena.place(`apic${id}`, LocalApicRecord), {
      id,
      bsp: id === 0,
      clock: time,
      timer: timers.timer(`apic${id}`, () => apic.settle()),
      bus: router,
      pic,
      physicalAddressBits: 40,
      setIntr: (level) => void (intr[id] = level),
      nmi: () => void trace.push(`${id} nmi`),
      init: () => void trace.push(`${id} init`),
      sipi: (vector) => void trace.push(`${id} sipi ${vector}`),
    });
    router.addLocalApic(apic);
    return apic;
  });
  router.addIoApic(ioApic);
  router.addPic(pic);
  const lines = WIRES.map((n) => router.line(n));
  const settle = () => {
    router.settle();
    pic.settle();
    ioApic.settle();
    for (const apic of apics) apic.settle();
  };

  const registers = Object.values(LOCAL_APIC).map((r) => r.at);
  /** Does something at random and notes what came of it. */
  const step = (rnd: (below: number) => number) => {
    const value = () =>
      [rnd(0x1_0000_0000), rnd(0x1_0000_0000) & 0x000f_ffff, rnd(256), 0x1ff, 0, 1 << rnd(32)][rnd(6)]! >>> 0;
    const apic = apics[rnd(CPUS)]!;
    const offset = rnd(4) === 0 ? rnd(4096) : registers[rnd(registers.length)]! + 16 * rnd(2);
    const size = [4, 4, 4, 2, 1][rnd(5)]!;
    const note = (what: string, got: number, width = 4) => {
      assert(Number.isInteger(got) && got >= 0 && got < 256 ** width, `${what} gave ${got}`);
      trace.push(`${what} ${got}`);
    };
    switch (rnd(12)) {
      case 0:
      case 1:
        return apic.write(offset, size, value());
      case 2:
        return note("page", apic.read(offset, size), size);
      case 3: {
        const msr = [0x1b, 0x6e0, 0x800 + rnd(0x40)][rnd(3)]!;
        const [lo, hi] = msr === 0x1b ? [0xfee00000 + rnd(4) * 0x400, 0] : [value(), rnd(4) === 0 ? value() : 0];
        trace.push(`wrmsr ${apic.writeMsr(msr, lo, hi)}`);
        return;
      }
      case 4:
        if (apic.readMsr([0x1b, 0x6e0, 0x800 + rnd(0x40)][rnd(3)]!)) {
          note("lo", apic.msrLo);
          note("hi", apic.msrHi);
        }
        return;
      case 5:
        ioApic.mmio.write(IO_APIC.IOREGSEL.at, 4, rnd(0x48));
        return ioApic.mmio.write(IO_APIC.IOWIN.at, 4, rnd(2) ? value() : 0x8000 | rnd(256));
      case 6:
        return note("ioapic", ioApic.mmio.read(rnd(0x50), size), size);
      case 7:
        return lines[rnd(lines.length)]!.set(rnd(2) === 1);
      case 8:
        return router.send(0xfee00000 | (rnd(256) << 12) | rnd(16), 0, value());
      case 9:
        time.advance(rnd(2) ? rnd(1000) : rnd(1_000_000));
        trace.push(intr.join());
        return;
      case 10: {
        const asked = intr[apic.id];
        const vector = apic.acknowledge();
        assertEquals(vector >= 0, asked, "INTR says what INTA will find");
        trace.push(`inta ${vector}`);
        return;
      }
      case 11:
        if (rnd(4) === 0) apic.writeTpr(rnd(16));
        else if (rnd(2)) pic.master.write(rnd(2), 1, rnd(256));
        else {
          apic.write(LOCAL_APIC.SVR.at, 4, 0x1ff);
          apic.write(LOCAL_APIC.EOI.at, 4, 0);
        }
    }
  };
  return { arena, time, trace, step, settle };
}

const STEPS = 4000;

Deno.test("whatever the guest does: nothing throws, reads fit, INTR agrees with INTA, equal seeds give equal traces", () => {
  for (let seed = 1; seed <= 5; seed++) {
    const traces = [fabric(), fabric()].map((f) => {
      const rnd = random(seed * 7919);
      f.arena.powerOn();
      for (let i = 0; i < STEPS; i++) f.step(rnd);
      return f.trace;
    });
    assertEquals(traces[0], traces[1]);
    assert(traces[0]!.some((line) => /^inta \d/.test(line)), "the trace takes interrupts");
  }
});

Deno.test("a fabric restored from a snapshot goes on as the original does", () => {
  for (let seed = 11; seed <= 15; seed++) {
    const rnd = random(seed * 7919);
    const a = fabric(), b = fabric();
    a.arena.powerOn();
    for (let i = 0; i < STEPS / 2; i++) a.step(rnd);
    b.arena.restore(a.arena.save());
    b.time.jump(a.time.nowNs());
    a.settle();
    b.settle();
    a.trace.length = b.trace.length = 0;
    const tail = rnd(0xffffffff) || 1;
    for (const f of [a, b]) {
      const again = random(tail);
      for (let i = 0; i < STEPS / 2; i++) f.step(again);
    }
    assertEquals(b.trace, a.trace);
  }
});
