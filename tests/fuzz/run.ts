/**
 * Fuzzes the software CPU against the host's processor: `deno task fuzz [--seed N] [--seconds S] [--rows REGEX]`.
 *
 * Disagreements are shrunk, printed, and kept in tests/fuzz/corpus/x86/, which the tests replay. Exit status 1 if there are any.
 */
import { parseArgs } from "@std/cli/parse-args";
import { Fuzz } from "../diff/fuzz.ts";
import { Harness } from "../diff/harness.ts";
import { nativeUnavailable } from "../diff/native.ts";

const CORPUS = new URL("./corpus/x86/", import.meta.url);
/** Of one row, so many are enough. */
const PER_ROW = 2;
const REPORT_MS = 10_000;

const flags = parseArgs(Deno.args, { string: ["seed", "seconds", "rows"], boolean: ["list"] });
const reason = nativeUnavailable();
if (reason) {
  console.error(`There is nothing to compare with: ${reason}.`);
  Deno.exit(2);
}
const seed = Number(flags.seed ?? Date.now() % 2 ** 31);
const seconds = Number(flags.seconds ?? Infinity);
for (const [flag, value] of [["seed", seed], ["seconds", seconds]] as const) {
  if (Number.isNaN(value)) {
    console.error(`--${flag} ${flags[flag]}: a number is expected`);
    Deno.exit(2);
  }
}
const harness = new Harness();
const fuzz = new Fuzz(harness, seed, flags.rows ? new RegExp(flags.rows) : undefined);
const [rows, legacyRows] = fuzz.rows;
if (rows + legacyRows === 0) {
  console.error(`--rows ${flags.rows}: no such row`);
  Deno.exit(2);
}
if (flags.list) { for (const [row, why] of harness.skipped) console.log(`not compared: ${row}: ${why}`); }
console.log(`seed ${seed}, ${rows} rows, ${legacyRows} as 32-bit code, ${harness.skipped.length} not compared`);

const kept = new Map<string, number>();
const start = performance.now();
let reported = start, bad = 0;
while (performance.now() - start < seconds * 1000) {
  for (const m of fuzz.batch()) {
    bad++;
    const n = kept.get(m.case.name) ?? 0;
    kept.set(m.case.name, n + 1);
    if (n >= PER_ROW) continue;
    console.log(harness.describe(m));
    Deno.mkdirSync(CORPUS, { recursive: true });
    const name = `${m.case.name.toLowerCase().replace(/[^a-z0-9]+/g, "-")}-${m.seed.toString(16)}-${m.place}.json`;
    Deno.writeTextFileSync(new URL(name, CORPUS), JSON.stringify(m, null, 1) + "\n");
  }
  const now = performance.now();
  if (now - reported > REPORT_MS) {
    reported = now;
    console.log(`${harness.cases} cases in ${((now - start) / 1000).toFixed(0)} s, ${bad} disagreements`);
  }
}
const took = (performance.now() - start) / 1000;
console.log(
  `${harness.cases} cases in ${took.toFixed(1)} s (${(harness.cases / took).toFixed(0)}/s), ${bad} disagreements`,
);
harness.close();
Deno.exit(bad > 0 ? 1 : 0);
