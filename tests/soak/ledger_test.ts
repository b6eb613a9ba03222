/** What a soak concludes from what its guest has said. */
import { assert, assertEquals } from "@std/assert";
import { Ledger, type Sample } from "./ledger.ts";

const expected = new Map([["run.0", "aa"]]);
const wrong = (ledger: Ledger) => ledger.verdict().sentences.filter((s) => s.startsWith("NOT OK"));

/** Lines of a guest of `minutes`, whose clock and ticks go by these factors. */
function soak(minutes: number, clock = 1, ticks = 1): Ledger {
  const ledger = new Ledger(expected);
  for (let second = 0; second <= 60 * minutes; second += 10) {
    const guest = 5 + second * clock;
    const jiffies = 4294900000 + Math.round(second * clock * ticks * 250);
    ledger.line(`SOAK-CLOCK ${Math.round(guest * 1e9)} ${jiffies} 400000 410000 20000`, second, second);
    ledger.line("SOAK 0 3 run.0 aa", second, second);
    ledger.line("SOAK 1 2 perl 1234", second, second);
  }
  return ledger;
}

function remember(ledger: Ledger, rssMib: (minute: number) => number): void {
  for (let minute = 0; minute < 20; minute++) {
    const sample: Sample = {
      seconds: 60 * minute,
      rssBytes: rssMib(minute) << 20,
      heapBytes: 0,
      codeBytes: (minute % 5) << 20,
      stats: { regions: minute * 1000 },
    };
    (ledger.samples as Sample[]).push(sample);
  }
}

Deno.test("a guest whose results and clocks are right passes", () => {
  const ledger = soak(20);
  remember(ledger, () => 900);
  assertEquals(wrong(ledger), []);
  assert(ledger.verdict().ok);
  assertEquals(ledger.rounds, 4 + 3);
});

Deno.test("a result that differs from the host's, or from the first one, fails", () => {
  const ledger = soak(1);
  assertEquals(ledger.line("SOAK 0 4 run.0 ab", 70, 70), "SOAK 0 4 run.0 ab: expected aa");
  assertEquals(ledger.line("SOAK 1 3 perl 1235", 70, 70), "SOAK 1 3 perl 1235: expected 1234");
  assertEquals(ledger.differences, 2);
  assert(wrong(ledger).some((s) => s.includes("2 differ")), wrong(ledger).join());
});

Deno.test("a result that is missing fails", () => {
  const ledger = soak(1);
  assert(ledger.line("SOAK 1 3 gzip ", 70, 70) !== null);
  assert(!ledger.verdict().ok);
});

Deno.test("what the kernel complains about fails", () => {
  for (
    const text of [
      "[ 9.1] BUG: soft lockup - CPU#1 stuck",
      "[ 2.0] p[99]: segfault at 0 ip 1",
      "SOAK-FAIL 0 2 tcc status 1",
    ]
  ) {
    const ledger = soak(1);
    assertEquals(ledger.line(text, 70, 70), text);
    assertEquals(wrong(ledger).length, 1);
  }
});

Deno.test("a clock that is slow by a thousandth fails, and a late line does not", () => {
  assertEquals(wrong(soak(60, 0.999)).length, 1);
  const late = soak(20);
  late.line("SOAK-CLOCK 1215000000000 4295202500 400000 410000 20000", 1217, 1217);
  assertEquals(wrong(late), []);
});

Deno.test("lost ticks fail", () => {
  assertEquals(wrong(soak(60, 1, 0.999)).length, 1);
});

Deno.test("memory that grows beside decoded code fails", () => {
  const ledger = soak(20);
  remember(ledger, (minute) => 900 + 8 * minute);
  assertEquals(wrong(ledger).length, 1);
});
