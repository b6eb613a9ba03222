/** Benches of what runs in a guest: a boot runs all programs, each of which takes its own time. */
import type { Boot, Contender } from "./contenders.ts";
import type { Mean, Row } from "./figures.ts";
import { meanOf } from "./figures.ts";
import type { Group, Program } from "./suite.ts";
import { watch } from "./watch.ts";

/** How long one program may run in the guest; a contender that is silent for longer has failed. */
const PROGRAM_SECONDS = 120;
/** As much of a failure as a table's line bears. */
const FAILURE_LENGTH = 160;
const SILENCE_SECONDS = PROGRAM_SECONDS + 30;
/** The guest's clock is compared with the host's: a start of a process and a line of the console lie between the two. */
const CLOCK_SLACK_SECONDS = 0.5;

export type Outcome = { readonly seconds: number; readonly checksum: string } | { readonly failure: string };

/** What the console says of the programs, line by line. */
export class Results {
  readonly outcomes = new Map<string, Outcome>();
  /** The program that runs, since when, and what it said. */
  running: string | null = null;
  #since = 0;
  #said: string[] = [];

  /** `hostSeconds`: when the line came. */
  line(text: string, hostSeconds: number): void {
    const started = /^BENCH-RUN (\S+)$/.exec(text);
    const done = /^BENCH (\S+) (\d+\.\d+) ([0-9a-f]{16})$/.exec(text);
    const failed = /^BENCH-FAIL (\S+) (.*)$/.exec(text);
    if (started) {
      this.running = started[1]!;
      this.#since = hostSeconds;
      this.#said = [];
    } else if (done && done[1] === this.running) {
      const seconds = Number(done[2]), host = hostSeconds - this.#since;
      this.outcomes.set(
        this.running!,
        Math.abs(host - seconds) > CLOCK_SLACK_SECONDS + 0.1 * host
          ? { failure: `the guest's clock says ${seconds.toFixed(2)} s, the host's ${host.toFixed(2)} s` }
          : { seconds, checksum: done[3]! },
      );
    } else if (failed && failed[1] === this.running) {
      this.fail([failed[2]!, ...this.#said].join("; "));
    } else if (this.running !== null && this.#said.length < 5) {
      this.#said.push(text.trim());
    }
  }

  fail(why: string): void {
    if (this.running !== null) this.outcomes.set(this.running, { failure: why.slice(0, FAILURE_LENGTH) });
    this.running = null;
  }
}

/** Runs the programs, again from the next one where a guest dies of one. */
export async function runPrograms(
  contender: Contender,
  boot: (limit: number, names: readonly string[]) => Boot,
  programs: readonly Program[],
): Promise<Map<string, Outcome>> {
  const outcomes = new Map<string, Outcome>();
  let left = programs.map(({ name }) => name);
  while (left.length > 0) {
    const results = new Results();
    const command = contender.command(boot(PROGRAM_SECONDS, left));
    const { end, said } = await watch(command, { line: (text, at) => results.line(text, at) }, SILENCE_SECONDS);
    const why = end === "silent" ? `silent for ${SILENCE_SECONDS} s; it said last: ${said}` : `ended: ${said}`;
    for (const [name, outcome] of results.outcomes) outcomes.set(name, outcome);
    const stuck = left.find((name) => !outcomes.has(name));
    if (stuck !== undefined) {
      outcomes.set(stuck, { failure: why });
      // a guest that does not get as far as its first program will not do so for the second
      if (results.running === null && results.outcomes.size === 0) {
        for (const name of left) outcomes.set(name, { failure: why });
      }
    }
    left = left.filter((name) => !outcomes.has(name));
  }
  return outcomes;
}

/** Collects the rounds' outcomes of one program. */
export class Samples {
  readonly trike: number[] = [];
  readonly qemu: number[] = [];
  #failure: string | undefined;
  readonly #checksums = new Map<string, string>();

  add(contender: "trike" | "qemu", outcome: Outcome | undefined): void {
    if (outcome === undefined) this.#failure ??= `${contender}: not run`;
    else if ("failure" in outcome) this.#failure ??= `${contender}: ${outcome.failure}`;
    else {
      this[contender].push(outcome.seconds);
      this.#checksums.set(outcome.checksum, contender);
      if (this.#checksums.size > 1) {
        const all = [...this.#checksums].map(([sum, who]) => `${who} ${sum}`);
        this.#failure ??= `the checksums differ: ${all.join(", ")}`;
      }
    }
  }

  row(bench: string, program: Program, goal?: Row["goal"]): Row {
    const { name, about } = program;
    const row = { bench, name, about, unit: "s" as const, trike: this.trike, qemu: this.qemu };
    return { ...row, ...this.#failure === undefined ? {} : { failure: this.#failure }, ...goal ? { goal } : {} };
  }
}

export async function benchGroup(
  group: Group,
  wanted: readonly Program[],
  contenders: readonly Contender[],
  boot: (limit: number, names: readonly string[]) => Boot,
  rounds: number,
  say: (line: string) => void,
): Promise<{ rows: Row[]; mean: Mean | null }> {
  const samples = new Map(wanted.map((program) => [program.name, new Samples()]));
  for (let round = 1; round <= rounds; round++) {
    for (const contender of contenders) {
      const outcomes = await runPrograms(contender, boot, wanted);
      for (const [name, sample] of samples) sample.add(contender.name, outcomes.get(name));
      const texts = [...outcomes].map(([name, outcome]) =>
        `${name} ${"failure" in outcome ? "FAILED" : outcome.seconds.toFixed(3)}`
      );
      say(`${group.name} ${round}/${rounds} ${contender.name}: ${texts.join(", ")}`);
    }
  }
  const goal = { of: "ratio", atMost: group.goal } as const;
  const each = group.goalOf === "each" ? goal : undefined;
  const rows = wanted.map((program) => samples.get(program.name)!.row(group.name, program, each));
  const whole = group.goalOf === "mean" && wanted.length === group.programs.length;
  return { rows, mean: whole ? { bench: group.name, title: group.title, ratio: meanOf(rows), goal } : null };
}
