/**
 * Litmus shapes by the million: `deno task litmus [--millions N] [--shape TEXT]`. A line for each shape and tier: how often each
 * outcome came. Exit status 1 if one of them is forbidden.
 */
import { parseArgs } from "@std/cli/parse-args";
import { MAX_CELLS, outcomes, SHAPES, STORE_BUFFERING } from "./shapes.ts";

const flags = parseArgs(Deno.args, { string: ["millions", "shape"] });
const millions = Number(flags.millions ?? "1");
if (!(millions > 0)) {
  console.error(`--millions ${flags.millions}: expected a number above 0`);
  Deno.exit(2);
}
const shapes = [STORE_BUFFERING, ...SHAPES].filter(({ name }) => name.includes(flags.shape ?? ""));
if (shapes.length === 0) {
  console.error(`--shape ${flags.shape}: expected part of one of: ${SHAPES.map(({ name }) => name).join("; ")}`);
  Deno.exit(2);
}
let bad = 0;
for (const shape of shapes) {
  for (const compiled of [true, false]) {
    const sum = new Map<string, number>();
    let cells = 0;
    for (; cells < millions * 1e6; cells += MAX_CELLS) {
      for (const [key, n] of await outcomes(shape, MAX_CELLS, compiled)) sum.set(key, (sum.get(key) ?? 0) + n);
    }
    const forbidden = shape.forbidden.reduce((n, key) => n + (sum.get(key) ?? 0), 0);
    bad += forbidden;
    const seen = [...sum].sort().map(([key, n]) => `${key}: ${n}`).join(", ");
    const verdict = shape.forbidden.length === 0 ? "" : `; forbidden ${shape.forbidden.join(", ")}: ${forbidden}`;
    console.log(`${shape.name}, ${compiled ? "compiled" : "interpreted first"}, ${cells} cells: ${seen}${verdict}`);
  }
}
Deno.exit(bad > 0 ? 1 : 0);
