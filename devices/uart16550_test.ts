import { assertEquals } from "@std/assert";
import { Arena } from "../src/base/arena.ts";
import { TestIrq } from "../src/base/irq.ts";
import { ByteRing } from "../src/base/ring.ts";
import { TestTime, Timers } from "../src/base/timers.ts";
import { UART16550, Uart16550, Uart16550Record } from "./uart16550.ts";

const RBR = 0, THR = 0, IER = 1, IIR = 2, FCR = 2, LCR = 3, MCR = 4, LSR = 5, MSR = 6, SCR = 7;
const RTS = 0x02, OUT2 = 0x08, LOOP = 0x10;
const PAUSE_NS = 200_000;

/** A port at 115200 8N1 with OUT2 set. */
function uart(txCapacity = 64) {
  const arena = Arena.private();
  const timers = new Timers(arena);
  const clock = new TestTime(timers);
  const irq = new TestIrq();
  const tx = ByteRing.private(txCapacity), rx = ByteRing.private(64);
  const timer = timers.timer("uart", () => dev.settle());
  const dev: Uart16550 = new Uart16550(arena.place("uart", Uart16550Record), { clock, timer, irq, tx, rx });
  arena.powerOn();
  const read = (at: number) => dev.region.read(at, 1);
  const write = (at: number, value: number) => dev.region.write(at, 1, value);
  write(LCR, 0x83);
  write(0, 1);
  write(1, 0);
  write(LCR, 0x03);
  write(MCR, OUT2);
  const come = (...bytes: number[]) => {
    rx.write(new Uint8Array(bytes));
    dev.receive();
  };
  return { clock, timers, irq, tx, rx, dev, read, write, come };
}

Deno.test("Registers read as after reset, with a divisor latch behind DLAB", () => {
  const { read, write } = uart();
  assertEquals([IER, IIR, LCR, MCR, LSR, MSR].map(read), [0, 0x01, 0x03, OUT2, 0x60, 0xb0]);
  write(LCR, 0x83);
  write(0, 0x34);
  write(1, 0x12);
  assertEquals([read(0), read(1)], [0x34, 0x12]);
  write(LCR, 0x03);
  write(IER, 0xff);
  write(SCR, 0xa5);
  write(MCR, 0xff);
  assertEquals([read(IER), read(SCR), read(MCR)], [0x0f, 0xa5, 0x1f]);
  assertEquals(Object.keys(UART16550).length, 8);
});

Deno.test("A byte written leaves at once", () => {
  const { tx, read, write } = uart();
  for (const c of "ok") write(THR, c.charCodeAt(0));
  assertEquals([new TextDecoder().decode(tx.read()), read(LSR)], ["ok", 0x60]);
});

Deno.test("THRE interrupts when enabled, again after each byte, and not again once IIR was read", () => {
  const { irq, read, write } = uart();
  write(IER, 0x02);
  assertEquals([irq.level, read(IIR)], [true, 0x02]);
  assertEquals([irq.level, read(IIR)], [false, 0x01]);
  write(THR, 0x41);
  assertEquals([irq.level, irq.rises], [true, 2]);
  write(THR, 0x42);
  assertEquals([irq.level, irq.rises], [true, 3]); // it fell in between
  write(IER, 0);
  assertEquals(irq.level, false);
  write(IER, 0x02);
  assertEquals(read(IIR), 0x02);
});

Deno.test("With no room at the sink THRE and TEMT stay clear, bytes wait, and none is lost", () => {
  const { clock, irq, tx, read, write } = uart(4);
  write(FCR, 0x01);
  for (let i = 0; i < 4; i++) write(THR, i);
  assertEquals(read(LSR), 0x60);
  for (let i = 4; i < 20; i++) write(THR, i); // the whole FIFO
  write(IER, 0x02);
  assertEquals([read(LSR), irq.level], [0x00, false]);
  clock.advance(1e6);
  assertEquals([read(LSR), irq.level], [0x00, false]);
  const seen: number[] = [];
  while (seen.length < 20) {
    assertEquals(irq.level, seen.length >= 16); // the last four fit into the sink
    seen.push(...tx.read());
    clock.advance(100_000);
  }
  assertEquals(seen, Array.from({ length: 20 }, (_, i) => i));
  assertEquals([read(LSR), read(IIR)], [0x60, 0xc2]);
});

Deno.test("No timer runs while nothing waits", () => {
  const { timers, write, come, read } = uart();
  write(FCR, 0x01);
  write(IER, 0x0f);
  write(THR, 1);
  come(1);
  read(RBR);
  assertEquals(timers.nextDeadlineNs(), Infinity);
});

Deno.test("Without FIFOs one byte is taken from the source at a time", () => {
  const { irq, rx, read, write, come } = uart();
  write(IER, 0x01);
  come(0x61, 0x62);
  assertEquals([irq.level, rx.available, read(IIR), read(LSR)], [true, 1, 0x04, 0x61]);
  assertEquals([read(RBR), read(RBR)], [0x61, 0x62]);
  assertEquals([irq.level, read(IIR), read(LSR), read(RBR)], [false, 0x01, 0x60, 0]);
});

Deno.test("The FIFO interrupts at its trigger level and stops below it", () => {
  for (const [fcr, trigger] of [[0x01, 1], [0x41, 4], [0x81, 8], [0xc1, 14]] as const) {
    const { irq, read, write, come } = uart();
    write(FCR, fcr);
    write(IER, 0x01);
    for (let i = 1; i < trigger; i++) come(i);
    assertEquals(irq.level, false);
    come(0xff);
    assertEquals([irq.level, read(IIR)], [true, 0xc4]);
    read(RBR);
    assertEquals(irq.level, false);
  }
});

Deno.test("Bytes below the trigger interrupt four characters' time after the last", () => {
  const { clock, irq, read, write, come } = uart();
  write(FCR, 0x81);
  write(IER, 0x01);
  come(1, 2);
  clock.advance(300_000);
  come(3); // starts the time over: 4 × 10 bits at 115200 are 347.2 µs
  clock.advance(347_000);
  assertEquals(irq.level, false);
  clock.advance(1000);
  assertEquals([irq.level, read(IIR)], [true, 0xcc]);
  assertEquals(read(RBR), 1);
  assertEquals([irq.level, read(IIR)], [false, 0xc1]);
  clock.advance(348_000);
  assertEquals(read(IIR), 0xcc);
  assertEquals([read(RBR), read(RBR)], [2, 3]);
  clock.advance(1e9);
  assertEquals(read(IIR), 0xc1);
});

Deno.test("The source keeps what the FIFO has no room for, and nothing overruns", () => {
  const { clock, rx, read, write, come } = uart();
  write(FCR, 0x01);
  come(...Array.from({ length: 40 }, (_, i) => i));
  assertEquals([rx.available, read(LSR)], [24, 0x61]);
  clock.advance(1e9);
  assertEquals([rx.available, read(LSR)], [24, 0x61]);
  const seen: number[] = [];
  for (let burst = 0; burst < 3; burst++) {
    while (read(LSR) & 0x01) seen.push(read(RBR));
    clock.advance(PAUSE_NS);
  }
  assertEquals(seen, Array.from({ length: 40 }, (_, i) => i));
  assertEquals(read(LSR), 0x60);
});

Deno.test("After a FIFO's worth of bytes the line pauses, then interrupts; a byte on its own comes at once", () => {
  const { clock, timers, irq, read, write, come } = uart();
  write(FCR, 0x81); // trigger 8
  write(IER, 0x01);
  come(...Array.from({ length: 40 }, (_, i) => i));
  for (let i = 0; i < 16; i++) {
    assertEquals(read(LSR) & 0x01, 0x01);
    read(RBR);
  }
  assertEquals([irq.level, read(LSR)], [false, 0x60]);
  clock.advance(PAUSE_NS - 1);
  assertEquals([irq.level, read(LSR)], [false, 0x60]);
  clock.advance(1);
  assertEquals([irq.level, read(IIR)], [true, 0xc4]);
  while (read(LSR) & 0x01) read(RBR);
  clock.advance(PAUSE_NS);
  while (read(LSR) & 0x01) read(RBR);
  assertEquals(timers.nextDeadlineNs(), Infinity);
  clock.advance(PAUSE_NS);
  come(1);
  assertEquals(read(RBR), 1);
  come(2);
  assertEquals(read(RBR), 2);
});

Deno.test("RTS holds the source up once the guest has used it, and no timer runs meanwhile", () => {
  const { timers, rx, read, write, come } = uart();
  write(FCR, 0x01);
  come(1); // never raised: a guest that ignores modem lines hears all the same
  write(MCR, OUT2 | RTS);
  come(2);
  write(MCR, OUT2);
  come(3, 4);
  assertEquals([read(RBR), read(RBR), read(LSR), rx.available], [1, 2, 0x60, 2]);
  assertEquals(timers.nextDeadlineNs(), Infinity);
  write(MCR, OUT2 | RTS);
  assertEquals([read(RBR), read(RBR), read(LSR)], [3, 4, 0x60]);
});

Deno.test("FCR clears the FIFOs, and counts only with its enable", () => {
  const { read, write, come } = uart();
  write(FCR, 0x01);
  come(1, 2, 3);
  write(FCR, 0x03);
  assertEquals([read(LSR), read(IIR)], [0x60, 0xc1]);
  come(1);
  write(FCR, 0xc0);
  assertEquals([read(LSR), read(IIR)], [0x60, 0x01]);
});

Deno.test("Loopback ties outputs to inputs and the transmitter to the receiver, and closes the interrupt pin", () => {
  const { tx, rx, irq, read, write, come } = uart();
  write(MCR, LOOP | 0x0a);
  assertEquals(read(MSR) & 0xf0, 0x90);
  write(MCR, LOOP | 0x05);
  assertEquals(read(MSR), 0x6b); // RI and DSR up; CTS, DSR and DCD changed
  write(MCR, LOOP);
  assertEquals(read(MSR), 0x06); // DSR fell, RI ended
  write(IER, 0x01);
  come(0x55);
  write(THR, 0xaa);
  assertEquals([read(RBR), tx.available, rx.available, irq.level], [0xaa, 0, 1, false]);
  write(MCR, OUT2);
  assertEquals([irq.level, read(RBR)], [true, 0x55]);
});

Deno.test("Overrun, in loopback, is the most urgent interrupt and ends by reading LSR", () => {
  const { read, write } = uart();
  write(IER, 0x0f);
  read(MSR);
  write(MCR, LOOP | OUT2);
  write(THR, 1);
  write(THR, 2);
  assertEquals(read(IIR), 0x06);
  assertEquals(read(LSR), 0x63);
  assertEquals(read(IIR), 0x04);
  assertEquals([read(RBR), read(IIR)], [2, 0x02]);
  assertEquals(read(IIR), 0x00);
  read(MSR);
  assertEquals(read(IIR), 0x01);

  write(FCR, 0x01);
  for (let i = 0; i < 17; i++) write(THR, i);
  assertEquals(read(LSR), 0x63);
  assertEquals(Array.from({ length: 16 }, () => read(RBR)), Array.from({ length: 16 }, (_, i) => i));
});

Deno.test("OUT2 gates the interrupt", () => {
  const { irq, write, come } = uart();
  write(MCR, 0);
  write(IER, 0x01);
  come(1);
  assertEquals(irq.level, false);
  write(MCR, OUT2);
  assertEquals(irq.level, true);
});
