import { assertEquals } from "@std/assert";
import { Arena } from "../src/base/arena.ts";
import { TestTime, Timers } from "../src/base/timers.ts";
import { HPET, Hpet, HPET_CONF as C, HPET_GSIS, HPET_TIMERS, HpetRecord } from "./hpet.ts";

/** Counts what its wires did: rising edges by name, and which are up. */
function chip() {
  const arena = Arena.private(), timers = new Timers(arena), time = new TestTime(timers);
  const edges: Record<string, number> = {}, up = new Set<string>();
  const line = (name: string) => ({
    set(level: boolean) {
      if (level && !up.has(name)) edges[name] = (edges[name] ?? 0) + 1;
      if (level) up.add(name);
      else up.delete(name);
    },
  });
  let legacyChanges = 0;
  const dev: Hpet = new Hpet(arena.place("hpet", HpetRecord), {
    clock: time,
    timer: timers.timer("hpet", () => dev.settle()),
    gsi: Array.from(
      { length: HPET_TIMERS },
      (_, n) => Array.from({ length: HPET_GSIS }, (_, i) => line(`${n}:${20 + i}`)),
    ),
    legacy: [line("irq0"), line("irq8")],
    onLegacy: () => legacyChanges++,
  });
  arena.powerOn();
  const read = (name: keyof typeof HPET) => dev.mmio.read(HPET[name].at, 4);
  const write = (name: keyof typeof HPET, value: number) => dev.mmio.write(HPET[name].at, 4, value);
  return { dev, time, edges, up, read, write, legacyChanges: () => legacyChanges };
}
const route = (gsi: number) => gsi << 9;

Deno.test("HPET: it tells three timers of 64 bits, the legacy route, and a period of 10 ns", () => {
  const { read } = chip();
  const id = read("GCAP_ID");
  assertEquals([(id >> 8) & 0x1f, (id >> 13) & 1, (id >> 15) & 1], [2, 1, 1]);
  assertEquals(read("COUNTER_CLK_PER"), 10_000_000);
  assertEquals([read("TIM0_CONF_LO") & C.PER_INT_CAP, read("TIM1_CONF_LO") & C.PER_INT_CAP], [C.PER_INT_CAP, 0]);
});

Deno.test("HPET: the counter runs while it is enabled, stands still while it is not, and can then be set", () => {
  const { read, write, time } = chip();
  time.advance(1000);
  assertEquals(read("MAIN_CNT_LO"), 0);
  write("GEN_CONF", 1);
  time.advance(1000);
  assertEquals(read("MAIN_CNT_LO"), 100);
  write("MAIN_CNT_LO", 7); // ignored
  assertEquals(read("MAIN_CNT_LO"), 100);
  write("GEN_CONF", 0);
  write("MAIN_CNT_LO", 0xfffffff0);
  write("MAIN_CNT_HI", 4);
  time.advance(1e6);
  write("GEN_CONF", 1);
  time.advance(200);
  assertEquals([read("MAIN_CNT_LO"), read("MAIN_CNT_HI")], [4, 5]);
});

Deno.test("HPET: a one-shot timer makes one edge at its comparator, at its input", () => {
  const { write, time, edges } = chip();
  write("TIM1_COMP_LO", 500);
  write("TIM1_COMP_HI", 0);
  write("TIM1_CONF_LO", C.INT_ENB | route(21));
  write("GEN_CONF", 1);
  time.advance(4999);
  assertEquals(edges, {});
  time.advance(1);
  assertEquals(edges, { "1:21": 1 });
  time.advance(1e9);
  assertEquals(edges, { "1:21": 1 });
});

Deno.test("HPET: a timer of 32 bits matches each time the low half comes round", () => {
  const { write, time, edges } = chip();
  write("TIM2_CONF_LO", C.INT_ENB | C.MODE32 | route(22));
  write("TIM2_COMP_LO", 1000);
  write("GEN_CONF", 1);
  time.advance(10_000);
  time.advance(2 ** 32 * 10);
  assertEquals(edges, { "2:22": 2 });
});

Deno.test("HPET: VAL_SET sets a periodic timer's first match, the next write its period", () => {
  const { write, time, edges } = chip();
  write("TIM0_CONF_LO", C.INT_ENB | C.PERIODIC | C.VAL_SET | C.MODE32 | route(20));
  write("TIM0_COMP_LO", 1000);
  write("TIM0_COMP_LO", 100);
  write("GEN_CONF", 1);
  time.advance(9_990);
  assertEquals(edges, {});
  time.advance(10 + 5 * 1000);
  assertEquals(edges, { "0:20": 6 });
});

Deno.test("HPET: 64-bit values written in halves go to the comparator, then to the period", () => {
  const { write, time, read, edges } = chip();
  write("TIM0_CONF_LO", C.INT_ENB | C.PERIODIC | C.VAL_SET | route(20));
  write("TIM0_COMP_LO", 0);
  write("TIM0_COMP_HI", 1);
  write("TIM0_COMP_LO", 50);
  write("TIM0_COMP_HI", 0);
  assertEquals([read("TIM0_COMP_LO"), read("TIM0_COMP_HI")], [0, 1]);
  write("GEN_CONF", 1);
  time.advance(2 ** 32 * 10 + 500);
  assertEquals(edges, { "0:20": 2 });
});

Deno.test("HPET: a level stays up until its status bit is cleared", () => {
  const { write, read, time, up } = chip();
  write("TIM1_COMP_LO", 10);
  write("TIM1_COMP_HI", 0);
  write("TIM1_CONF_LO", C.INT_ENB | C.LEVEL | route(23));
  write("GEN_CONF", 1);
  time.advance(200);
  assertEquals([[...up], read("GINTR_STA")], [["1:23"], 2]);
  write("GINTR_STA", 2);
  assertEquals([[...up], read("GINTR_STA")], [[], 0]);
});

Deno.test("HPET: with the legacy route timers 0 and 1 are IRQ 0 and IRQ 8, and the board is told", () => {
  const { write, time, edges, dev, legacyChanges } = chip();
  write("TIM0_COMP_LO", 10);
  write("TIM0_COMP_HI", 0);
  write("TIM1_COMP_LO", 20);
  write("TIM1_COMP_HI", 0);
  for (const t of ["TIM0_CONF_LO", "TIM1_CONF_LO"] as const) write(t, C.INT_ENB | route(20));
  write("GEN_CONF", 3);
  assertEquals([dev.legacy, legacyChanges()], [true, 1]);
  time.advance(1000);
  assertEquals(edges, { irq0: 1, irq8: 1 });
});

Deno.test("HPET: a host that was late loses no period's count, and delivers one edge for them", () => {
  const { write, read, time, dev, edges } = chip();
  write("TIM0_CONF_LO", C.INT_ENB | C.PERIODIC | C.VAL_SET | C.MODE32 | route(20));
  write("TIM0_COMP_LO", 100);
  write("TIM0_COMP_LO", 100);
  write("GEN_CONF", 1);
  time.jump(10_500);
  dev.settle();
  assertEquals([edges, read("TIM0_COMP_LO")], [{ "0:20": 1 }, 1100]);
});
