/**
 * The second tier beside the first, until told to stop: `deno task fuzz:tiers [--seed N] [--seconds S] [--programs N] [--native] [--several]`.
 * Exit status 1 if they disagree; each line names the seed, with which `--programs 1` repeats it. With `--native` it is native code
 * that is beside the interpreter; with `--several` the compiled code is such as several vCPUs share.
 */
import { parseArgs } from "@std/cli/parse-args";
import { nativeRefusal } from "../../src/engine/soft/native/available.ts";
import { Duel, mannerOf } from "./duel.ts";
import { makeProgram } from "./program.ts";

const REPORT_MS = 10_000;
const flags = parseArgs(Deno.args, { string: ["seed", "seconds", "programs"], boolean: ["native", "several"] });
const refusal = flags.native ? nativeRefusal() : null;
if (refusal) {
  console.log(`skipped: native code: ${refusal.why}`);
  Deno.exit(0);
}
const number = (flag: "seed" | "seconds" | "programs", otherwise: number) => {
  const text = flags[flag], value = text === undefined ? otherwise : Number(text);
  if (!Number.isNaN(value) && text !== "") return value;
  console.error(`--${flag} ${text}: a number is expected`);
  Deno.exit(2);
};
const seed = number("seed", Date.now() % 2 ** 31),
  seconds = number("seconds", Infinity),
  most = number("programs", Infinity);
const duel = new Duel(flags.native, undefined, flags.several ? 2 : 1), start = performance.now();
const sum = {
  programs: 0,
  instructions: 0,
  stops: 0,
  interrupts: 0,
  regions: 0,
  compiled: 0,
  exceptions: 0,
  disagreements: 0,
};
let reported = start;
const took = () => (performance.now() - start) / 1000;
const said = () => Object.entries(sum).map(([name, n]) => `${n} ${name}`).join(", ") + ` in ${took().toFixed(0)} s`;
console.log(`seed ${seed}`);
for (let n = 0; n < most && took() < seconds; n++) {
  const outcome = duel.run(seed + n);
  sum.programs++;
  for (const key of ["instructions", "stops", "interrupts", "regions", "compiled", "exceptions"] as const) {
    sum[key] += outcome[key];
  }
  if (outcome.differences.length > 0) {
    sum.disagreements++;
    const program = makeProgram(seed + n), manner = mannerOf(seed + n);
    const who = `${program.user ? "user" : "supervisor"} at ${program.base.toString(16)}: ${program.pieces.join("; ")}`;
    console.log(`seed ${seed + n}: ${JSON.stringify(manner)} ${who}`);
    console.log(`  after ${outcome.instructions} instructions: ${outcome.differences.slice(0, 8).join("; ")}`);
  }
  if (performance.now() - reported > REPORT_MS) {
    reported = performance.now();
    console.log(said());
  }
}
console.log(said());
Deno.exit(sum.disagreements > 0 ? 1 : 0);
