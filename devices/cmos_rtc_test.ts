import { assert, assertEquals } from "@std/assert";
import { Arena } from "../src/base/arena.ts";
import { TestIrq } from "../src/base/irq.ts";
import { TestTime, Timers } from "../src/base/timers.ts";
import { dateOf, daysOf, weekdayOf } from "./calendar.ts";
import { CmosRtc, CmosRtcRecord } from "./cmos_rtc.ts";

const SECOND = 1e9;

function rtc(wallMs = Date.UTC(2024, 1, 28, 23, 59, 58)) {
  const arena = Arena.private();
  const timers = new Timers(arena);
  const clock = new TestTime(timers);
  const irq = new TestIrq();
  const timer = timers.timer("rtc", () => dev.settle());
  const view = arena.place("rtc", CmosRtcRecord);
  const told = { interrupts: 0 };
  const onInterrupt = () => void told.interrupts++;
  const dev: CmosRtc = new CmosRtc(view, { clock, timer, irq, onInterrupt, wallTimeAtPowerOnMs: () => wallMs });
  arena.powerOn();
  dev.powerOn();
  const read = (index: number) => (dev.region.write(0, 1, index), dev.region.read(1, 1));
  const write = (index: number, value: number) => {
    dev.region.write(0, 1, index);
    dev.region.write(1, 1, value);
  };
  /** Century, year, month, date, hours, minutes, seconds as they read. */
  const time = () => [0x32, 9, 8, 7, 4, 2, 0].map((i) => read(i).toString(16).padStart(2, "0")).join(" ");
  return { clock, irq, told, dev, timers, read, write, time };
}

Deno.test("calendar agrees with Date on every tenth day of 800 years", () => {
  for (let days = daysOf({ year: 1600, month: 1, day: 1 }); days < 200_000; days += 10) {
    const d = new Date(days * 86_400_000);
    const date = { year: d.getUTCFullYear(), month: d.getUTCMonth() + 1, day: d.getUTCDate() };
    assertEquals(dateOf(days), date);
    assertEquals([daysOf(date), weekdayOf(days)], [days, d.getUTCDay()]);
  }
});

Deno.test("The RTC carries through a leap day, in BCD and 24 hours", () => {
  const { clock, time, read } = rtc();
  assertEquals([time(), read(6)], ["20 24 02 28 23 59 58", 4]);
  clock.advance(2 * SECOND);
  assertEquals([time(), read(6)], ["20 24 02 29 00 00 00", 5]);
  clock.advance(86_400 * SECOND);
  assertEquals(time(), "20 24 03 01 00 00 00");
});

Deno.test("The RTC carries into a new century", () => {
  const { clock, time } = rtc(Date.UTC(1999, 11, 31, 23, 59, 59));
  clock.advance(SECOND);
  assertEquals(time(), "20 00 01 01 00 00 00");
});

Deno.test("The RTC is set forward as by hand: no flag, no alarm, and the fraction of a second counts", () => {
  const { clock, time, read, write, dev, irq } = rtc();
  write(0x01, 0x59); // an alarm in the second that is skipped
  write(0x03, 0x59);
  write(0x05, 0x23);
  write(0x0b, 0x22); // AIE, 24 hours
  dev.skip(2500);
  assertEquals([time(), read(6)], ["20 24 02 29 00 00 00", 5]);
  assertEquals([read(0x0c), irq.level], [0, false]);
  clock.advance(0.6 * SECOND);
  assertEquals(time(), "20 24 02 29 00 00 01");
  dev.skip(366 * 86_400_000);
  assertEquals(time(), "20 25 03 01 00 00 01");
  // Somebody is setting it, or time runs backwards on the host.
  write(0x0b, 0x82);
  dev.skip(5000);
  write(0x0b, 0x02);
  dev.skip(-5000);
  assertEquals(time(), "20 25 03 01 00 00 01");
});

Deno.test("The RTC's second ends when the wall's does", () => {
  const { clock, read } = rtc(Date.UTC(2024, 0, 1, 0, 0, 5, 400));
  clock.advance(0.599 * SECOND);
  assertEquals(read(0), 0x05);
  clock.advance(0.002 * SECOND);
  assertEquals(read(0), 0x06);
});

Deno.test("12-hour mode has 12 at midnight and bit 7 after noon; DM reads binary", () => {
  const { clock, read, write } = rtc(Date.UTC(2024, 0, 1));
  write(0x0b, 0x80);
  for (const [index, value] of [[4, 0x91], [2, 0x59], [0, 0x59]] as const) write(index, value); // 11:59:59 PM
  write(0x0b, 0x00);
  clock.advance(SECOND);
  assertEquals([read(4), read(7)], [0x12, 0x02]);
  write(0x0b, 0x84);
  for (const [index, value] of [[4, 11], [2, 59], [0, 59]] as const) write(index, value);
  write(0x0b, 0x04);
  clock.advance(SECOND);
  assertEquals([read(4), read(2), read(0)], [0x8c, 0, 0]);
});

Deno.test("SET stops updates, and what was written is where time goes on", () => {
  const { clock, read, write, time } = rtc();
  write(0x0b, 0x82);
  write(0, 0x30);
  write(2, 0x15);
  clock.advance(10 * SECOND);
  assertEquals(time(), "20 24 02 28 23 15 30");
  write(0x0b, 0x02);
  clock.advance(3 * SECOND);
  assertEquals(read(0), 0x33);
});

Deno.test("The first update comes half a second after the divider leaves reset", () => {
  const { clock, read, write } = rtc();
  clock.advance(0.3 * SECOND);
  write(0x0a, 0x70);
  clock.advance(5 * SECOND);
  assertEquals(read(0), 0x58);
  write(0x0a, 0x26);
  clock.advance(0.499 * SECOND);
  assertEquals(read(0), 0x58);
  clock.advance(0.002 * SECOND);
  assertEquals(read(0), 0x59);
});

Deno.test("UIP is up for 2228 µs before the registers change", () => {
  const { clock, read, write } = rtc();
  clock.advance(SECOND - 2_300_000);
  assertEquals(read(0x0a), 0x26);
  clock.advance(100_000);
  assertEquals([read(0x0a), read(0)], [0xa6, 0x58]);
  clock.advance(2_199_999);
  assertEquals([read(0x0a), read(0)], [0xa6, 0x58]);
  clock.advance(1);
  assertEquals([read(0x0a), read(0)], [0x26, 0x59]);
  clock.advance(SECOND - 1000);
  write(0x0b, 0x82);
  assertEquals(read(0x0a), 0x26);
});

Deno.test("The update-ended interrupt rises each second once register C is read", () => {
  const { clock, read, write, irq } = rtc(Date.UTC(2024, 0, 1, 5));
  clock.advance(SECOND / 2);
  read(0x0c);
  write(0x0b, 0x12);
  clock.advance(3 * SECOND);
  assertEquals([irq.level, irq.rises], [true, 1]);
  assertEquals(read(0x0c), 0xd0); // UF, and PF, which needs no PIE
  assertEquals([irq.level, read(0x0c)], [false, 0]);
  clock.advance(SECOND);
  assertEquals(irq.rises, 2);
});

Deno.test("Periodic rates are those of the data sheet", () => {
  for (const [rs, hz] of [[1, 256], [2, 128], [3, 8192], [6, 1024], [9, 128], [15, 2]] as const) {
    const { clock, read, write, irq } = rtc();
    write(0x0a, 0x20 | rs);
    read(0x0c);
    write(0x0b, 0x42);
    for (let i = 0; i < 2 * hz; i++) {
      clock.advance(SECOND / hz);
      assertEquals(read(0x0c) & 0xc0, 0xc0, `rate ${rs}, period ${i}`);
    }
    assertEquals(irq.rises, 2 * hz);
  }
  const { clock, read, write, irq } = rtc();
  write(0x0a, 0x20);
  write(0x0b, 0x42);
  clock.advance(SECOND / 2);
  assertEquals([irq.rises, read(0x0c)], [0, 0]);
});

Deno.test("The alarm matches the three bytes, C0h and above match anything", () => {
  const cases = [
    { alarm: [0x00, 0x00, 0x00], after: 2 }, // seconds, minutes, hours
    { alarm: [0x30, 0xff, 0xff], after: 32 },
    { alarm: [0xff, 0xff, 0xc0], after: 1 },
    { alarm: [0x05, 0x01, 0x00], after: 67 },
    { alarm: [0x58, 0x59, 0x23], after: 86_400 },
    { alarm: [0x00, 0xff, 0x23], after: 82_802 },
  ];
  for (const { alarm, after } of cases) {
    const { clock, read, write, irq } = rtc();
    alarm.forEach((byte, i) => write(1 + 2 * i, byte));
    write(0x0b, 0x22);
    clock.advance(after * SECOND - 1000);
    assertEquals(irq.level, false, `${alarm}`);
    clock.advance(1000);
    assertEquals([irq.level, read(0x0c) & 0xa0], [true, 0xa0], `${alarm}`);
  }
});

Deno.test("An alarm that no time matches never rings and arms no timer", () => {
  const { write, timers } = rtc();
  write(3, 0x75);
  write(0x0b, 0x22);
  assertEquals(timers.nextDeadlineNs(), Infinity);
});

Deno.test("An alarm and an update missed while nobody looked are found when register C is read", () => {
  const { clock, read, write } = rtc();
  [0x10, 0x00, 0x00].forEach((byte, i) => write(1 + 2 * i, byte));
  read(0x0c);
  clock.jump(3600 * SECOND);
  assertEquals(read(0x0c), 0x70);
});

Deno.test("Memory bytes keep what they are given, in both banks; D reads VRT; port 70h holds the NMI mask", () => {
  const { dev, read, write } = rtc();
  write(0x40, 0x5a);
  dev.region.write(2, 1, 0x40);
  dev.region.write(3, 1, 0xa5);
  assertEquals([read(0x40), dev.region.read(3, 1), read(0x0d)], [0x5a, 0xa5, 0x80]);
  write(0x0d, 0);
  assertEquals(read(0x0d), 0x80);
  assert(!dev.nmiDisabled);
  dev.region.write(0, 1, 0x8f);
  assert(dev.nmiDisabled);
});

Deno.test("setMemorySize tells of RAM in the units firmware knows", () => {
  const { dev, read } = rtc();
  dev.setMemorySize(0xc000_0000, 0x1_4000_0000);
  assertEquals([0x15, 0x16, 0x17, 0x18, 0x30, 0x31].map(read), [0x80, 0x02, 0xff, 0xff, 0xff, 0xff]);
  assertEquals([0x34, 0x35, 0x5b, 0x5c, 0x5d].map(read), [0x00, 0xbf, 0x00, 0x40, 0x01]);
  dev.setMemorySize(8 << 20);
  assertEquals([0x17, 0x18, 0x34, 0x35].map(read), [0x00, 0x1c, 0, 0]);
});

Deno.test("onInterrupt is told of each rise of IRQ 8, once, settled as often as may be", () => {
  const { clock, irq, told, dev, read, write } = rtc();
  write(0x0b, 0x12); // 24 hours, UIE
  clock.advance(3 * SECOND);
  dev.settle();
  assertEquals([irq.level, told.interrupts], [true, 1]);
  read(0x0c);
  clock.advance(SECOND);
  assertEquals([irq.rises, told.interrupts], [2, 2]);
});
