/** Benches of the process as a whole: how long it takes to boot, what memory it holds, what it costs while idle. */
import { HostError } from "../../src/base/errors.ts";
import type { Boot, Contender } from "./contenders.ts";
import type { Goal, Row, Unit } from "./figures.ts";
import { watch } from "./watch.ts";

const SILENCE_SECONDS = 300;
const SETTLE_SECONDS = 5;
/** What the kernel counts processor time in for /proc: USER_HZ. */
const TICKS_PER_SECOND = 100;

interface Figure {
  readonly name: string;
  readonly about: string;
  readonly unit: Unit;
  readonly goal: Goal;
}

/** What one boot yields: a number for each figure. */
type Measure = (contender: Contender) => Promise<number[]>;

/** Seconds from the start of the process to a line of the guest's. */
export async function secondsToMark(contender: Contender, boot: Boot, mark: string): Promise<number> {
  let found: number | null = null;
  const line = (text: string, seconds: number) => {
    if (text !== `TRIKE-MARK:${mark}`) return;
    found = seconds;
    return "stop" as const;
  };
  const { end, said } = await watch(contender.command(boot), { line }, SILENCE_SECONDS);
  if (found !== null) return found;
  throw new HostError(`${end} before the guest came to TRIKE-MARK:${mark}: ${said}`);
}

/** Seconds from the start of the process to the prompt of `getty`. */
export async function secondsToLogin(contender: Contender, boot: Boot): Promise<number> {
  let found: number | null = null;
  const unfinished = (text: string, seconds: number) => {
    if (!/\blogin: ?$/.test(text)) return;
    found = seconds;
    return "stop" as const;
  };
  const { end, said } = await watch(contender.command(boot), { line: () => {}, unfinished }, SILENCE_SECONDS);
  if (found !== null) return found;
  throw new HostError(`${end} before the guest asked for a login: ${said}`);
}

/** Peak resident memory in MiB at the shell's prompt, and the percentage of a core that the next `seconds` take. */
export async function footprint(contender: Contender, boot: Boot, seconds: number): Promise<[number, number]> {
  let result: [number, number] | null = null;
  const line = async (text: string, _at: number, pid: number) => {
    if (text !== "TRIKE-MARK:prompt") return;
    await sleep(SETTLE_SECONDS);
    const peak = await peakMiB(pid);
    const before = await ticks(pid), start = performance.now();
    await sleep(seconds);
    const used = (await ticks(pid) - before) / TICKS_PER_SECOND;
    result = [peak, used / ((performance.now() - start) / 1000) * 100];
    return "stop" as const;
  };
  const { end, said } = await watch(contender.command(boot), { line }, SILENCE_SECONDS);
  if (result !== null) return result;
  throw new HostError(`${end} before the guest came to TRIKE-MARK:prompt: ${said}`);
}

/** Each contender in turn, `rounds` times. A contender that fails once has failed. */
export async function benchBoots(
  bench: string,
  figures: readonly Figure[],
  contenders: readonly Contender[],
  measure: Measure,
  rounds: number,
  say: (line: string) => void,
): Promise<Row[]> {
  const samples = figures.map(() => ({ trike: [] as number[], qemu: [] as number[] }));
  let failure: string | undefined;
  for (let round = 1; round <= rounds; round++) {
    for (const contender of contenders) {
      if (failure?.startsWith(contender.name)) continue;
      try {
        const numbers = await measure(contender);
        numbers.forEach((number, n) => samples[n]![contender.name].push(number));
        const texts = numbers.map((number, n) => `${figures[n]!.name} ${number.toFixed(2)} ${figures[n]!.unit}`);
        say(`${bench} ${round}/${rounds} ${contender.name}: ${texts.join(", ")}`);
      } catch (error) {
        if (!(error instanceof HostError)) throw error;
        failure ??= `${contender.name}: ${error.message}`;
        say(`${bench} ${round}/${rounds} ${contender.name}: ${error.message}`);
      }
    }
  }
  return figures.map((figure, n) => ({
    bench,
    ...figure,
    ...samples[n]!,
    ...failure === undefined ? {} : { failure },
  }));
}

function sleep(seconds: number): Promise<void> {
  return new Promise((done) => setTimeout(done, seconds * 1000));
}

/** The kernel's own high-water mark of the process. `cat` reads it, as Deno would want every permission for /proc. */
async function peakMiB(pid: number): Promise<number> {
  const text = await proc(pid, "status");
  const kib = /^VmHWM:\s+(\d+) kB$/m.exec(text)?.[1];
  if (kib === undefined) throw new HostError(`Cannot read the memory of process ${pid}: /proc tells no VmHWM`);
  return Number(kib) / 1024;
}

/** utime and stime of all threads. The name of the process, in parentheses, may hold anything. */
async function ticks(pid: number): Promise<number> {
  const text = await proc(pid, "stat");
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return Number(fields[11]) + Number(fields[12]);
}

async function proc(pid: number, file: string): Promise<string> {
  const { stdout, success } = await new Deno.Command("cat", { args: [`/proc/${pid}/${file}`], stderr: "null" })
    .output();
  if (!success) throw new HostError(`Cannot read /proc/${pid}/${file}: the process is gone, or this is not Linux`);
  return new TextDecoder().decode(stdout);
}
