import { assertEquals } from "@std/assert";
import { Arena } from "../src/base/arena.ts";
import { nsOfTick } from "../src/base/clock.ts";
import { TestIrq } from "../src/base/irq.ts";
import { TestTime, Timers } from "../src/base/timers.ts";
import { ACPI_DISABLE, ACPI_ENABLE, AcpiPm, AcpiPmRecord } from "./acpi_pm.ts";

function pm() {
  const arena = Arena.private();
  const timers = new Timers(arena);
  const clock = new TestTime(timers);
  const sci = new TestIrq();
  const sleeps: number[] = [];
  const timer = timers.timer("pm", () => dev.settle());
  const onSleep = (type: number) => void sleeps.push(type);
  const dev: AcpiPm = new AcpiPm(arena.place("pm", AcpiPmRecord), { clock, timer, sci, onSleep });
  arena.powerOn();
  dev.smiCmd.write(0, 1, ACPI_ENABLE);
  return { clock, timers, sci, dev, sleeps };
}
const TOP_BIT_NS = nsOfTick(2 ** 23, 3_579_545);

Deno.test("PM_TMR counts at 3.579545 MHz in 24 bits", () => {
  const { clock, dev } = pm();
  clock.advance(1e9);
  assertEquals(dev.region.read(8, 4), 3_579_545);
  clock.advance(4e9);
  assertEquals(dev.region.read(8, 4), 5 * 3_579_545 - 2 ** 24);
  dev.region.write(8, 4, 0);
  assertEquals(dev.region.read(8, 4), 5 * 3_579_545 - 2 ** 24);
});

Deno.test("TMR_STS raises SCI when the top bit toggles and falls when a one is written", () => {
  const { clock, sci, dev } = pm();
  dev.region.write(2, 2, 0xffff);
  assertEquals(dev.region.read(2, 2), 0x0521);
  clock.advance(TOP_BIT_NS - 1);
  assertEquals(sci.level, false);
  clock.advance(1);
  assertEquals([sci.level, dev.region.read(0, 2)], [true, 1]);
  dev.region.write(0, 2, 0x0001);
  assertEquals([sci.level, dev.region.read(0, 2)], [false, 0]);
  clock.advance(TOP_BIT_NS);
  assertEquals(sci.rises, 2);
});

Deno.test("TMR_STS is latched without TMR_EN, and no timer runs for it", () => {
  const { clock, timers, sci, dev } = pm();
  assertEquals(timers.nextDeadlineNs(), Infinity);
  clock.jump(TOP_BIT_NS);
  assertEquals([dev.region.read(0, 2), sci.level], [1, false]);
  dev.region.write(2, 2, 1);
  assertEquals(sci.level, true);
});

Deno.test("PWRBTN_STS raises SCI only when enabled and in ACPI mode", () => {
  const { sci, dev } = pm();
  dev.pressPowerButton();
  assertEquals([sci.level, dev.region.read(0, 2)], [false, 0x0100]);
  dev.region.write(2, 2, 0x0100);
  assertEquals(sci.level, true);
  dev.smiCmd.write(0, 1, ACPI_DISABLE);
  assertEquals([sci.level, dev.region.read(4, 2) & 1], [false, 0]);
  dev.smiCmd.write(0, 1, ACPI_ENABLE);
  assertEquals([sci.level, dev.region.read(4, 2) & 1], [true, 1]);
  dev.region.write(1, 1, 0x01); // a byte of PM1_STS
  assertEquals([sci.level, dev.region.read(0, 2)], [false, 0]);
});

Deno.test("RTC_STS is set by the RTC's interrupt and raises SCI when enabled", () => {
  const { sci, dev } = pm();
  dev.rtcInterrupt();
  assertEquals([sci.level, dev.region.read(0, 2)], [false, 0x0400]);
  dev.region.write(2, 2, 0x0400);
  assertEquals([sci.level, dev.region.read(2, 2)], [true, 0x0400]);
  dev.region.write(0, 2, 0x0400);
  assertEquals([sci.level, dev.region.read(0, 2)], [false, 0]);
});

Deno.test("SLP_EN orders the sleep of SLP_TYP and reads as 0; SCI_EN is not the guest's to clear", () => {
  const { dev, sleeps } = pm();
  dev.region.write(4, 2, 5 << 10);
  assertEquals(sleeps, []);
  dev.region.write(4, 2, (5 << 10) | (1 << 13));
  assertEquals([sleeps, dev.region.read(4, 2)], [[5], (5 << 10) | 1]);
  dev.wake();
  assertEquals(dev.region.read(0, 2), 0x8000);
});

Deno.test("APM_STS is a scratch byte", () => {
  const { dev } = pm();
  dev.smiCmd.write(0, 2, 0x5a77);
  assertEquals(dev.smiCmd.read(0, 2), 0x5a77);
});
