import { assertEquals } from "@std/assert";
import { Arena } from "../src/base/arena.ts";
import { TestTime, Timers } from "../src/base/timers.ts";
import { LocalApicRecord } from "./local_apic_registers.ts";
import { LocalApicTimer } from "./local_apic_timer.ts";

const PERIODIC = 1 << 17, TSC_DEADLINE = 2 << 17;

function fixture() {
  const arena = Arena.private();
  const timers = new Timers(arena);
  const time = new TestTime(timers);
  const fired: number[] = [];
  const s = arena.place("apic", LocalApicRecord);
  const slot = timers.timer("apic", () => timer.settle());
  const timer: LocalApicTimer = new LocalApicTimer(s, { clock: time, timer: slot }, () => fired.push(time.nowNs()));
  arena.powerOn();
  return { time, timers, timer, fired, s };
}

Deno.test("DCR divides by 2 to 128, and by 1 for 111b [sdm3 §11.5.4, Figure 11-10]", () => {
  const dividers = [[0x0, 2], [0x1, 4], [0x2, 8], [0x3, 16], [0x8, 32], [0x9, 64], [0xa, 128], [0xb, 1]] as const;
  for (const [dcr, divider] of dividers) {
    const { timer, time, fired } = fixture();
    timer.divide(dcr);
    timer.start(1000);
    time.advance(divider * 400);
    assertEquals(timer.count(), 600);
    time.advance(divider * 600 - 1);
    assertEquals([timer.count(), fired.length], [1, 0]);
    time.advance(1);
    assertEquals([timer.count(), fired], [0, [divider * 1000]]);
  }
});

Deno.test("one-shot counts down once; writing the initial count starts it again; zero stops it", () => {
  const { timer, time, fired } = fixture();
  timer.divide(0xb);
  timer.start(50);
  time.advance(200);
  assertEquals(fired, [50]);
  timer.start(50);
  time.advance(20);
  timer.start(50);
  time.advance(40);
  assertEquals(fired, [50]);
  timer.start(0);
  time.advance(1000);
  assertEquals([fired, timer.count()], [[50], 0]);
});

Deno.test("periodic reloads the initial count at zero", () => {
  const { timer, time, fired } = fixture();
  timer.divide(0xb);
  timer.writeLvt(PERIODIC);
  timer.start(100_000);
  time.advance(350_000);
  assertEquals(fired, [100_000, 200_000, 300_000]);
  assertEquals(timer.count(), 50_000);
});

Deno.test("periodic after a stall: one expiry for all that were missed, and the phase is kept", () => {
  const { timer, time, fired } = fixture();
  timer.divide(0xb);
  timer.writeLvt(PERIODIC);
  timer.start(100_000);
  time.jump(555_000);
  assertEquals(timer.count(), 45_000);
  assertEquals(fired, [555_000]);
  time.advance(45_000);
  assertEquals(fired, [555_000, 600_000]);
});

Deno.test("a period of one nanosecond does not keep the host from its work", () => {
  const { timer, time, fired } = fixture();
  timer.divide(0xb);
  timer.writeLvt(PERIODIC);
  timer.start(1);
  time.advance(1_000_000);
  assertEquals(fired.length, 50);
});

Deno.test("a new divider keeps the count and changes its pace", () => {
  const { timer, time, fired } = fixture();
  timer.divide(0xb);
  timer.start(100);
  time.advance(40);
  timer.divide(0x0);
  assertEquals(timer.count(), 60);
  time.advance(119);
  assertEquals(fired, []);
  time.advance(1);
  assertEquals(fired, [160]);
});

Deno.test("the longest count is exact", () => {
  const { timer, time, fired } = fixture();
  timer.divide(0xa);
  timer.start(0xffffffff);
  assertEquals(timer.count(), 0xffffffff);
  time.advance(0xffffffff * 128 - 1);
  assertEquals(fired.length, 0);
  time.advance(1);
  assertEquals(fired.length, 1);
});

Deno.test("TSC-deadline: fires when the TSC gets there, and the MSR then reads zero [sdm3 §11.5.4.1]", () => {
  const { timer, time, fired, s } = fixture();
  timer.writeDeadline(500, 0); // not in this mode: ignored
  assertEquals(s.deadlineLo, 0);
  timer.writeLvt(TSC_DEADLINE);
  timer.start(100); // ignored, too
  timer.writeDeadline(500, 0);
  time.advance(499);
  assertEquals([fired, s.deadlineLo], [[], 500]);
  time.advance(1);
  assertEquals([fired, s.deadlineLo, timer.count()], [[500], 0, 0]);
  timer.writeDeadline(400, 0); // past: at once
  assertEquals(fired, [500, 500]);
  timer.writeDeadline(900, 0);
  timer.writeDeadline(0, 0); // disarmed
  time.advance(1000);
  assertEquals(fired, [500, 500]);
});

Deno.test("TSC-deadline compares 64 bits, with the offset of the guest's TSC", () => {
  const { timer, time, fired } = fixture();
  timer.writeLvt(TSC_DEADLINE);
  timer.setTscOffset(0xffffff00, 0x7fffffff); // the TSC stands at 7FFF_FFFF_FFFF_FF00h
  timer.writeDeadline(0x10, 0x80000000);
  time.advance(0x10f);
  assertEquals(fired, []);
  time.advance(1);
  assertEquals(fired, [0x110]);
  timer.setTscOffset(0xfffffff0, 0xffffffff); // the TSC is guest time minus 16: it has wrapped
  timer.writeDeadline(0x200, 0);
  time.advance(0xff);
  assertEquals(fired.length, 1);
  time.advance(1);
  assertEquals(fired.length, 2);
});

Deno.test("TSC-deadline at the end of time waits without firing or spinning", () => {
  const { timer, time, timers, fired } = fixture();
  timer.writeLvt(TSC_DEADLINE);
  timer.writeDeadline(0xffffffff, 0xffffffff);
  time.advance(1e12);
  assertEquals(fired, []);
  assertEquals(timers.nextDeadlineNs() > 1e18, true);
});

Deno.test("to or from TSC-deadline mode, the timer is disarmed", () => {
  const { timer, time, fired, s } = fixture();
  timer.divide(0xb);
  timer.start(100);
  timer.writeLvt(TSC_DEADLINE);
  time.advance(200);
  timer.writeDeadline(1000, 0);
  timer.writeLvt(PERIODIC);
  time.advance(2000);
  assertEquals([fired, s.initialCount, s.deadlineLo], [[], 0, 0]);
});
