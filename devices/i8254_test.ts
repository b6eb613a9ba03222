import { assertEquals } from "@std/assert";
import { Arena } from "../src/base/arena.ts";
import { nsOfTick } from "../src/base/clock.ts";
import { TestIrq } from "../src/base/irq.ts";
import { TestTime, Timers } from "../src/base/timers.ts";
import { I8254, I8254_HZ, I8254Record } from "./i8254.ts";

function pit() {
  const arena = Arena.private();
  const timers = new Timers(arena);
  const clock = new TestTime(timers);
  const irq = new TestIrq();
  const timer = timers.timer("pit", () => dev.settle());
  const dev: I8254 = new I8254(arena.place("pit", I8254Record), { clock, timer, irq });
  arena.powerOn();
  let tick = 0;
  return {
    clock,
    irq,
    dev,
    timers,
    ticks: (n: number) => clock.advance(nsOfTick(tick += n, I8254_HZ) - clock.nowNs()),
    command: (value: number) => dev.region.write(3, 1, value),
    count: (ch: number, ...bytes: number[]) => bytes.forEach((b) => dev.region.write(ch, 1, b)),
    read: (ch: number) => dev.region.read(ch, 1),
    read16: (ch: number) => dev.region.read(ch, 1) | (dev.region.read(ch, 1) << 8),
    status: (ch: number) => (dev.region.write(3, 1, 0xe0 | (2 << ch)), dev.region.read(ch, 1)),
    gate: (on: boolean) => dev.port61.write(0, 1, on ? 1 : 0),
    out2: () => (dev.port61.read(0, 1) >> 5) & 1,
  };
}

Deno.test("Mode 0 raises OUT N + 1 clocks after the count and then counts on from FFFFh", () => {
  const { command, count, ticks, irq, read16 } = pit();
  command(0x30);
  count(0, 4, 0);
  assertEquals(irq.level, false);
  ticks(4);
  assertEquals([irq.level, read16(0)], [false, 1]);
  ticks(1);
  assertEquals([irq.level, irq.rises, read16(0)], [true, 1, 0]);
  ticks(2);
  assertEquals(read16(0), 0xfffe);
  count(0, 9); // the first byte of a new count stops the old one and clears OUT
  ticks(50);
  assertEquals([irq.level, read16(0)], [false, 0xfffe]);
  count(0, 0);
  ticks(10);
  assertEquals([irq.level, irq.rises], [true, 2]);
});

Deno.test("Mode 0 is held by the gate and goes on where it was", () => {
  const { command, count, ticks, gate, out2, read } = pit();
  gate(true);
  command(0x90); // channel 2, LSB
  count(2, 10);
  ticks(4);
  assertEquals(read(2), 7);
  gate(false);
  ticks(100);
  assertEquals([read(2), out2()], [7, 0]);
  gate(true);
  ticks(6);
  assertEquals(out2(), 0);
  ticks(1);
  assertEquals([read(2), out2()], [0, 1]);
});

Deno.test("Mode 1 makes one pulse of N clocks for each rise of the gate, and starts over when retriggered", () => {
  const { command, count, ticks, gate, out2 } = pit();
  command(0x92);
  count(2, 5);
  ticks(20);
  assertEquals(out2(), 1);
  gate(true);
  ticks(1);
  assertEquals(out2(), 0);
  ticks(4);
  assertEquals(out2(), 0);
  gate(false);
  gate(true);
  ticks(5);
  assertEquals(out2(), 0);
  ticks(1);
  assertEquals(out2(), 1);
});

Deno.test("Mode 2 divides: a rise every N clocks, counts N to 1, OUT low at 1", () => {
  const { command, count, ticks, irq, read, gate, out2 } = pit();
  command(0x14);
  count(0, 100);
  ticks(1000);
  assertEquals(irq.rises - 1, 9); // one rise when the control word set OUT; then at 101, 201, …
  ticks(1);
  assertEquals(irq.rises - 1, 10);

  command(0x94);
  gate(true);
  count(2, 3);
  ticks(1);
  const seen = [];
  for (let i = 0; i < 6; i++, ticks(1)) seen.push([read(2), out2()]);
  assertEquals(seen, [[3, 1], [2, 1], [1, 0], [3, 1], [2, 1], [1, 0]]);
});

Deno.test("Mode 2 takes a new count at the end of the cycle, and has NULL COUNT set until then", () => {
  const { command, count, ticks, read, status, gate } = pit();
  gate(true);
  command(0x94);
  assertEquals(status(2), 0xd4); // OUT, NULL COUNT, LSB, mode 2
  count(2, 10);
  assertEquals(status(2), 0xd4);
  ticks(1);
  assertEquals(status(2), 0x94);
  ticks(3);
  count(2, 20);
  assertEquals([read(2), status(2)], [7, 0xd4]);
  ticks(6);
  assertEquals(read(2), 1);
  ticks(1);
  assertEquals([read(2), status(2)], [20, 0x94]);
});

Deno.test("Mode 2 goes high when its gate falls and reloads when it rises", () => {
  const { command, count, ticks, read, gate, out2 } = pit();
  gate(true);
  command(0x94);
  count(2, 4);
  ticks(4);
  assertEquals([read(2), out2()], [1, 0]);
  gate(false);
  ticks(9);
  assertEquals(out2(), 1);
  gate(true);
  ticks(1);
  assertEquals(read(2), 4);
});

Deno.test("Mode 3 counts by two in halves, the odd clock in the high one", () => {
  const { command, count, ticks, read, gate, out2 } = pit();
  gate(true);
  for (const n of [2, 3, 4, 5, 6, 7]) {
    command(0x96);
    count(2, n);
    ticks(1);
    // The chip's own words: load an even number, subtract two each clock, toggle and reload when it has run out (an odd
    // count gets one clock more in the high half).
    let out = 1, left = n - (n % 2);
    for (let i = 0; i < 3 * n; i++, ticks(1)) {
      assertEquals([n, i, read(2), out2()], [n, i, left, out]);
      left -= 2;
      if (left < 0 || (left === 0 && !(out === 1 && n % 2 === 1))) {
        out = 1 - out;
        left = n - (n % 2);
      }
    }
  }
});

Deno.test("Mode 3 takes a new count at the end of the half", () => {
  const { command, count, ticks, gate, out2 } = pit();
  gate(true);
  command(0x96);
  count(2, 10);
  ticks(3);
  count(2, 4);
  const wave = [];
  for (let i = 0; i < 10; i++, ticks(1)) wave.push(out2());
  assertEquals(wave, [1, 1, 1, 0, 0, 1, 1, 0, 0, 1]);
});

Deno.test("Modes 4 and 5 strobe low for one clock", () => {
  const { command, count, ticks, gate, out2 } = pit();
  gate(true);
  for (const mode of [4, 5]) {
    command(0x90 | (mode << 1));
    count(2, 3);
    if (mode === 5) {
      ticks(9);
      assertEquals(out2(), 1);
      gate(false);
      gate(true);
    }
    const wave = [];
    for (let i = 0; i < 6; i++) {
      ticks(1);
      wave.push(out2());
    }
    assertEquals(wave, [1, 1, 1, 0, 1, 1]);
  }
});

Deno.test("BCD counts in decimal, from 10000 for 0", () => {
  const { command, count, ticks, read16 } = pit();
  command(0x35);
  count(0, 0x00, 0x10);
  ticks(1);
  assertEquals(read16(0), 0x1000);
  ticks(1);
  assertEquals(read16(0), 0x0999);
  command(0x31);
  count(0, 0, 0);
  ticks(2);
  assertEquals(read16(0), 0x9999);
});

Deno.test("Counter latch holds the count until both bytes are read", () => {
  const { command, count, ticks, read } = pit();
  command(0x34);
  count(0, 0x00, 0x20);
  ticks(1 + 0x234);
  command(0x00);
  ticks(77);
  command(0x00); // ignored: already latched
  assertEquals([read(0), read(0)], [0xcc, 0x1d]);
  assertEquals(read(0), 0xcc - 77);
});

Deno.test("Read-back latches status and count of several channels, status first", () => {
  const { command, count, ticks, read, gate } = pit();
  gate(true);
  command(0x34);
  count(0, 0x34, 0x12);
  command(0xb0);
  count(2, 0x10, 0x00);
  ticks(1);
  command(0xca); // count and status of 0 and 2
  ticks(9);
  assertEquals([read(0), read(0), read(0)], [0xb4, 0x34, 0x12]);
  assertEquals([read(2), read(2), read(2)], [0x30, 0x10, 0x00]);
});

Deno.test("A late timer makes one edge of many periods and keeps the phase", () => {
  const { clock, command, count, timers, irq, ticks } = pit();
  command(0x34);
  count(0, 0xe8, 0x03);
  const before = irq.rises;
  clock.jump(nsOfTick(5500, I8254_HZ));
  timers.runDue(clock.nowNs());
  assertEquals(irq.rises - before, 1);
  ticks(6000);
  assertEquals(irq.rises - before, 1); // the next is at 6001
  ticks(1);
  assertEquals(irq.rises - before, 2);
});

Deno.test("Port 61h toggles its refresh bit every 15 µs and keeps the low four bits", () => {
  const { dev, clock } = pit();
  dev.port61.write(0, 1, 0xff);
  const first = dev.port61.read(0, 1);
  assertEquals(first & 0xcf, 0x0f);
  clock.advance(15_085);
  assertEquals((dev.port61.read(0, 1) ^ first) & 0x10, 0x10);
});
