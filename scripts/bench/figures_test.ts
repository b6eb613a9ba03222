import { assertAlmostEquals, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { chart } from "./chart.ts";
import { geometricMean, meanOf, median, ratio, type Row, rowMet, table, valueText } from "./figures.ts";
import { partOf, reportJson, withFigures } from "./host.ts";

const ROW: Row = { bench: "integer", name: "fib", about: "calls", unit: "s", trike: [3, 1, 2], qemu: [4] };

Deno.test("a median is the middle, or the mean of the two in the middle", () => {
  assertEquals([median([5, 1, 9]), median([4, 1, 2, 100]), median([])], [5, 3, null]);
});

Deno.test("a ratio is of medians, and there is none of a row that failed", () => {
  assertEquals(ratio(ROW), 0.5);
  assertEquals(ratio({ ...ROW, failure: "the checksums differ" }), null);
  assertEquals(ratio({ ...ROW, qemu: [] }), null);
});

Deno.test("a geometric mean treats twice as fast and twice as slow alike", () => {
  assertAlmostEquals(geometricMean([0.5, 2])!, 1);
  assertAlmostEquals(meanOf([ROW, { ...ROW, trike: [8] }])!, 1);
});

Deno.test("a mean does not leave out the row that failed", () => {
  assertEquals(meanOf([ROW, { ...ROW, failure: "trike: status 139" }]), null);
});

Deno.test("a goal is met from either side, and never by a row that failed", () => {
  const of = (goal: Row["goal"], failure?: string) => rowMet({ ...ROW, goal: goal!, ...failure ? { failure } : {} });
  assertEquals(of({ of: "ratio", atMost: 0.5 }), true);
  assertEquals(of({ of: "ratio", atMost: 0.49 }), false);
  assertEquals(of({ of: "trike", atLeast: 2 }), true);
  assertEquals(of({ of: "trike", atLeast: 2.1 }), false);
  assertEquals(of({ of: "ratio", atMost: 9 }, "qemu: silent"), false);
  assertEquals(rowMet(ROW), null);
});

Deno.test("the table shows each row once, with what failed said in its line", () => {
  const failed = { ...ROW, name: "qsort", failure: "a | b" };
  const mean = { bench: "integer", title: "Integer", ratio: null, goal: { of: "ratio", atMost: 0.7 } as const };
  const lines = table({ rows: [ROW, failed], means: [mean] });
  assertEquals(lines.length, 5);
  assertStringIncludes(lines[2]!, "| 2.00 s | 4.00 s |  0.50 |");
  assertStringIncludes(lines[3]!, "FAILED: a / b");
  for (const line of lines) assertEquals(line.replaceAll(/[^|]/g, "").length, 8);
});

Deno.test("values come with the unit that suits them", () => {
  assertEquals([valueText(0.0123, "s"), valueText(12.3, "MiB"), valueText(null, "s")], ["12.3 ms", "12 MiB", "–"]);
});

Deno.test("the JSON holds every sample beside what was made of them", () => {
  const report = JSON.parse(reportJson({ rows: [ROW], means: [] }, { deno: "2" }, 3));
  assertEquals([report.deno, report.rounds, report.rows[0].trike, report.rows[0].ratio], ["2", 3, [3, 1, 2], 0.5]);
  assertEquals(report.geometricMeanOfTimes, 0.5);
});

Deno.test("the chart draws a faster row to the left of QEMU's line, a slower one to the right, and no bar without a figure", () => {
  const at = (rows: Row[]) => {
    const svg = chart({ rows, means: [] }, {});
    const even = Number(/class="even" x1="([\d.]+)"/.exec(svg)![1]);
    const bar = /<rect class="(\w+)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"/.exec(svg);
    return bar && { kind: bar[1], from: Number(bar[2]) - even, to: Number(bar[2]) + Number(bar[3]) - even };
  };
  const faster = at([ROW])!, slower = at([{ ...ROW, trike: [8] }])!;
  assertEquals([faster.kind, slower.kind], ["faster", "slower"]);
  assertAlmostEquals(faster.to, 0, 0.2);
  assertAlmostEquals(slower.from, 0, 0.2);
  assertAlmostEquals(-faster.from, slower.to, 0.2);
  assertEquals(at([{ ...ROW, failure: "trike: gone" }]), null);
});

Deno.test("figures take the place of older ones in a document, and nothing else changes", () => {
  const page = "before\n<!-- figures: deno task bench --docs -->\nold\n<!-- end of figures -->\nafter\n";
  const once = withFigures(page, { rows: [ROW], means: [] }, { deno: "2" }, 3);
  assertStringIncludes(once, "| fib");
  assertStringIncludes(once, "- deno: 2\n- rounds: 3\n");
  assertEquals([once.startsWith("before\n<!--"), once.endsWith("-->\nafter\n"), once.includes("old")], [
    true,
    true,
    false,
  ]);
  assertEquals(withFigures(once, { rows: [ROW], means: [] }, { deno: "2" }, 3), once);
  assertThrows(() => withFigures("no comments", { rows: [], means: [] }, {}, 1));
});

Deno.test("the disk's figures have a place of their own in the document", () => {
  const disk: Row = { ...ROW, bench: "disk", name: "virtio, raw: randread", unit: "s/op" };
  const report = { rows: [ROW, disk], means: [] };
  assertEquals([partOf(report, "all").rows, partOf(report, "disk").rows], [[ROW], [disk]]);
  const page = "<!-- figures: deno task bench --docs -->\nold\n<!-- end of figures -->\n" +
    "<!-- disk: deno task bench disk --docs -->\n<!-- end of disk -->\n";
  const text = withFigures(page, partOf(report, "disk"), {}, 1, "disk");
  assertEquals([text.includes("old"), text.includes("| fib"), text.includes("randread")], [true, false, true]);
});
