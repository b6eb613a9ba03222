import { assertEquals } from "@std/assert";
import { TestIrq } from "../src/base/irq.ts";
import { I8259, I8259Record } from "./i8259.ts";

/** A pair initialised as a PC's: vectors 20h and 28h, nothing masked, and `icw4` in both. */
function pair(icw4 = 0x01) {
  const s = I8259Record.create();
  const intr = new TestIrq();
  const pic = new I8259(s, { intr });
  for (const [port, base, icw3] of [[pic.master, 0x20, 4], [pic.slave, 0x28, 2]] as const) {
    port.write(0, 1, 0x11);
    port.write(1, 1, base);
    port.write(1, 1, icw3);
    port.write(1, 1, icw4);
    port.write(1, 1, 0);
  }
  const irr = (port = pic.master) => (port.write(0, 1, 0x0a), port.read(0, 1));
  const isr = (port = pic.master) => (port.write(0, 1, 0x0b), port.read(0, 1));
  const pulse = (n: number) => (pic.line(n).set(false), pic.line(n).set(true));
  return { s, pic, intr, irr, isr, pulse };
}

Deno.test("I8259 serves an edge once, until the line falls and rises again", () => {
  const { pic, intr, irr, isr } = pair();
  pic.line(4).set(true);
  assertEquals([intr.level, irr(), isr()], [true, 0x10, 0]);
  assertEquals(pic.acknowledge(), 0x24);
  assertEquals([intr.level, irr(), isr()], [false, 0, 0x10]);
  pic.master.write(0, 1, 0x20);
  assertEquals([intr.level, isr()], [false, 0]);
  pic.line(4).set(false);
  pic.line(4).set(true);
  assertEquals(intr.level, true);
});

Deno.test("I8259 asks again after EOI while an ELCR input stays high", () => {
  const { pic, intr } = pair();
  pic.elcr.write(0, 2, 0x0220);
  assertEquals(pic.elcr.read(0, 2), 0x0220);
  for (const [n, vector] of [[5, 0x25], [9, 0x29]] as const) {
    pic.line(n).set(true);
    assertEquals(pic.acknowledge(), vector);
    assertEquals(intr.level, false);
    if (n === 9) pic.slave.write(0, 1, 0x20);
    pic.master.write(0, 1, 0x20);
    assertEquals(intr.level, true);
    pic.line(n).set(false);
    assertEquals(intr.level, false);
  }
});

Deno.test("ELCR keeps IRQ 0, 1, 2, 8 and 13 edge-triggered", () => {
  const { pic } = pair();
  pic.elcr.write(0, 2, 0xffff);
  assertEquals(pic.elcr.read(0, 2), 0xdef8);
});

Deno.test("I8259 nests: only a more urgent input interrupts one in service", () => {
  const { pic, intr, pulse } = pair();
  pulse(3);
  assertEquals(pic.acknowledge(), 0x23);
  pulse(6);
  assertEquals(intr.level, false);
  pulse(1);
  assertEquals(pic.acknowledge(), 0x21);
  pic.master.write(0, 1, 0x20); // ends 1
  assertEquals(intr.level, false);
  pic.master.write(0, 1, 0x63); // specific EOI of 3
  assertEquals(pic.acknowledge(), 0x26);
});

Deno.test("I8259 cascades, and a second slave request makes its own edge", () => {
  const { pic, intr, isr, pulse } = pair();
  pulse(12);
  pulse(8);
  assertEquals(pic.acknowledge(), 0x28);
  assertEquals([isr(), isr(pic.slave)], [0x04, 0x01]);
  pic.slave.write(0, 1, 0x20);
  assertEquals(intr.level, false); // the master has the cascade in service
  pic.master.write(0, 1, 0x20);
  assertEquals(pic.acknowledge(), 0x2c);
});

Deno.test("I8259 gives the spurious vector 7 with nothing in service when a request is gone", () => {
  const { pic, isr, pulse } = pair();
  pulse(4);
  pic.line(4).set(false);
  assertEquals(pic.acknowledge(), 0x27);
  assertEquals(isr(), 0);
});

Deno.test("I8259 gives the slave's spurious vector when its request goes between the INTA cycles", () => {
  const { s, pic, isr, pulse } = pair();
  pulse(10);
  s.lines[1] = 0; // the wire falls after the master has answered: no call from a device can be in between
  s.latched[1] = 0;
  assertEquals(pic.acknowledge(), 0x2f);
  assertEquals([isr(), isr(pic.slave)], [0x04, 0]);
});

Deno.test("OCW1 masks without losing a request", () => {
  const { pic, intr, pulse } = pair();
  pic.master.write(1, 1, 0x08);
  pulse(3);
  assertEquals([intr.level, pic.master.read(1, 1)], [false, 0x08]);
  pic.master.write(1, 1, 0);
  assertEquals(pic.acknowledge(), 0x23);
});

Deno.test("Rotation on a non-specific EOI makes the level served the least urgent", () => {
  const { pic, pulse } = pair();
  pulse(4);
  pic.acknowledge();
  pic.master.write(0, 1, 0xa0);
  pulse(4);
  pulse(5);
  assertEquals(pic.acknowledge(), 0x25);
  assertEquals(pic.acknowledge(), 0x27); // 4 waits below 5: spurious
});

Deno.test("Set priority makes the next level the most urgent", () => {
  const { pic, pulse } = pair();
  pic.master.write(0, 1, 0xc5); // 5 lowest
  pulse(0);
  pulse(6);
  assertEquals(pic.acknowledge(), 0x26);
});

Deno.test("Automatic EOI leaves nothing in service, and rotates when told", () => {
  const { pic, isr, pulse } = pair(0x03);
  pic.master.write(0, 1, 0x80);
  pulse(3);
  assertEquals([pic.acknowledge(), isr()], [0x23, 0]);
  pulse(3);
  pulse(4);
  assertEquals([pic.acknowledge(), pic.acknowledge()], [0x24, 0x23]);
});

Deno.test("A slave request that waits behind an automatic EOI makes its own edge at the master", () => {
  const { pic, pulse } = pair(0x03);
  pulse(8);
  pulse(9);
  assertEquals([pic.acknowledge(), pic.acknowledge(), pic.pending()], [0x28, 0x29, false]);
});

Deno.test("Special mask mode lets lower levels in when the level in service is masked", () => {
  const { pic, intr, isr, pulse } = pair();
  pulse(3);
  pic.acknowledge();
  pulse(6);
  pic.master.write(1, 1, 0x08);
  assertEquals(intr.level, false);
  pic.master.write(0, 1, 0x68);
  assertEquals(pic.acknowledge(), 0x26);
  pic.master.write(0, 1, 0x20); // passes over the masked 3
  assertEquals(isr(), 0x08);
  pic.master.write(0, 1, 0x48);
});

Deno.test("Special fully nested mode lets the slave in service ask for something more urgent", () => {
  for (const [icw4, again] of [[0x11, true], [0x01, false]] as const) {
    const { pic, intr, pulse } = pair(icw4);
    pulse(14);
    pic.acknowledge();
    pulse(9);
    assertEquals(intr.level, again);
    if (again) assertEquals(pic.acknowledge(), 0x29);
  }
});

Deno.test("Poll acknowledges by a read", () => {
  const { pic, isr, pulse } = pair();
  pic.master.write(0, 1, 0x0c);
  assertEquals(pic.master.read(0, 1), 0);
  pulse(5);
  pic.master.write(0, 1, 0x0c);
  assertEquals(pic.master.read(0, 1), 0x85);
  assertEquals(isr(), 0x20);
});

Deno.test("ICW1 forgets edges, masks and services, and nothing is asked until the last ICW", () => {
  const { pic, intr, pulse, irr, isr } = pair();
  pulse(3);
  pic.master.write(1, 1, 0xf0);
  pic.master.write(0, 1, 0x11);
  assertEquals([intr.level, pic.master.read(1, 1), irr(), isr()], [false, 0, 0, 0]);
  pulse(3);
  for (const icw of [0x40, 0x04, 0x01]) {
    assertEquals(intr.level, false);
    pic.master.write(1, 1, icw);
  }
  assertEquals(pic.acknowledge(), 0x43);
});

Deno.test("ICW1 with SNGL and without IC4 takes one more word", () => {
  const { pic } = pair();
  pic.master.write(0, 1, 0x12);
  pic.master.write(1, 1, 0x48);
  pic.master.write(1, 1, 0xa5);
  assertEquals(pic.master.read(1, 1), 0xa5);
});
