/**
 * `deno task test [--verbose] [FOLDER…]`: every test of the tree, or those of the folders named, each group in a process with
 * the permissions that scripts/test_groups.ts gives it; as many groups at a time as there are processors, at most three. The
 * last line is the sum; the exit status is 0 if nothing failed.
 *
 * A test is skipped if it is ignored, or if it prints a line `skipped: why` and then passes without a step of it.
 */
import { parseArgs } from "@std/cli/parse-args";
import { ConfigError, messageOf } from "../src/base/errors.ts";
import { discover, type Group } from "./test_groups.ts";
import { prepareKernels } from "./test_kernels.ts";
import { TestReport } from "./test_report.ts";

const ROOT = new URL("../", import.meta.url).pathname;
/** A group that takes longer hangs; so does a run. */
const GROUP_SECONDS = 600;
const RUN_SECONDS = 900;
const HEARTBEAT_SECONDS = 30;

interface Outcome {
  readonly group: Group;
  readonly report: TestReport;
  readonly seconds: number;
  /** Why the group did not come to its own end, or null. */
  readonly broken: string | null;
}

async function main(words: readonly string[]): Promise<boolean> {
  const args = parseArgs([...words], {
    boolean: ["verbose"],
    unknown: (word: string, key?: string) => {
      if (key !== undefined) throw new ConfigError(`${word}: unknown option, expected --verbose`);
    },
  });
  const groups = await discover(ROOT, args._.map(String));

  const started = performance.now();
  using kernels = await prepareKernels(groups.some((group) => group.kernels));
  const waiting = [...groups];
  const outcomes: Outcome[] = [];
  const lane = async () => {
    for (let group = waiting.shift(); group !== undefined; group = waiting.shift()) {
      const seconds = Math.max(1, Math.min(GROUP_SECONDS, RUN_SECONDS - (performance.now() - started) / 1000));
      const outcome = await run(group, { verbose: args.verbose, seconds, env: kernels.env });
      outcomes.push(outcome);
      console.log(lineOf(outcome));
    }
  };
  const lanes = Math.min(3, Math.max(1, navigator.hardwareConcurrency));
  await Promise.all(Array.from({ length: lanes }, lane));
  return sumUp(outcomes, (performance.now() - started) / 1000);
}

async function run(
  group: Group,
  how: { verbose: boolean; seconds: number; env: Record<string, string> },
): Promise<Outcome> {
  const started = performance.now();
  const child = new Deno.Command(Deno.execPath(), {
    args: ["test", "--no-prompt", ...group.permissions, ...group.files],
    cwd: ROOT,
    env: { NO_COLOR: "1", ...how.env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  let late = false;
  const deadline = setTimeout(() => {
    late = true;
    child.kill("SIGKILL");
  }, how.seconds * 1000);

  const report = new TestReport(how.verbose ? (line) => console.log(line) : null, group.name);
  const heartbeat = setInterval(() => {
    console.log(`… ${group.name}: ${report.running} (${((performance.now() - started) / 1000).toFixed(0)} s)`);
  }, HEARTBEAT_SECONDS * 1000);
  const [complaint] = await Promise.all([new Response(child.stderr).text(), report.read(child.stdout)]);
  const status = await child.status;
  clearTimeout(deadline);
  clearInterval(heartbeat);

  let broken: string | null = null;
  if (late) broken = `killed after ${how.seconds.toFixed(0)} s while it ran ${report.running}`;
  else if (!report.finished || status.success !== (report.failed === 0)) {
    broken = `deno test ended with status ${status.code} while it ran ${report.running}: ${complaint.trim()}`;
  }
  return { group, report, seconds: (performance.now() - started) / 1000, broken };
}

function lineOf({ group, report, seconds, broken }: Outcome): string {
  const bad = broken !== null || report.failed > 0;
  const skipped = report.skipped > 0 ? `, ${report.skipped} skipped` : "";
  const count = `${report.passed} passed, ${report.failed} failed${skipped}`;
  const text = `${bad ? "FAILED" : "ok    "} ${group.name.padEnd(20)} ${count} (${seconds.toFixed(1)} s)`;
  return [text, ...bad ? [report.errors] : [], ...broken === null ? [] : [broken]].join("\n");
}

function sumUp(outcomes: readonly Outcome[], seconds: number): boolean {
  const skips = outcomes.flatMap(({ report }) => report.skips());
  if (skips.length > 0) console.log(["", "Skipped:", ...skips.map((line) => `  ${line}`)].join("\n"));
  const failures = outcomes.flatMap(({ group, report, broken }) => [
    ...report.failures,
    ...report.failed > report.failures.length ? [`${group.name}: outside of its tests, see above`] : [],
    ...broken === null ? [] : [`${group.name}: did not finish`],
  ]);
  if (failures.length > 0) console.log(["", "Failed:", ...failures.map((line) => `  ${line}`)].join("\n"));

  const total = (of: (report: TestReport) => number) => outcomes.reduce((sum, { report }) => sum + of(report), 0);
  const failed = total((report) => report.failed) + outcomes.filter(({ broken }) => broken !== null).length;
  const skipped = total((report) => report.skipped);
  console.log(`\n${outcomes.length} groups in ${seconds.toFixed(1)} s`);
  console.log(
    `${total((report) => report.passed)} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`,
  );
  return failed === 0;
}

try {
  if (!await main(Deno.args)) Deno.exitCode = 1;
} catch (error) {
  console.error(messageOf(error));
  Deno.exit(error instanceof ConfigError ? 2 : 1);
}
