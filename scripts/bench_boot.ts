/**
 * `deno task bench boot`: how long from the start of the process to the first line of the guest's user land, trike beside
 * QEMU's own software CPU, on the same kernel and initial file system. One after the other in turn, so that a busy host slows
 * both; medians, as a host's hiccup is no property of either.
 */
import { parseArgs } from "@std/cli/parse-args";
import { ConfigError, HostError } from "../src/base/errors.ts";
import { debianGuest, type Guest } from "../src/guest/default_guest.ts";
import { stderrProgress } from "../src/guest/progress.ts";

const MARK = "TRIKE-MARK:init";
const MEMORY_MIB = 512;
const ROUND_SECONDS = 300;

interface Contender {
  readonly name: string;
  readonly command: readonly string[];
  readonly seconds: number[];
}

/** `words`: [--rounds N] [--engine soft|kvm|hvf] [--kernel FILE --initrd FILE]. */
export async function benchBoot(words: readonly string[]): Promise<void> {
  const options = parse(words);
  const guest: Guest = options.kernel && options.initrd
    ? { kernel: options.kernel, initrd: options.initrd, append: "console=ttyS0 quiet" }
    : await debianGuest("cloud", stderrProgress());
  const append = `${guest.append} trike.marks`;

  const contenders: Contender[] = [{ name: "trike", command: trike(guest, append, options.engine), seconds: [] }];
  if (await runs("qemu-system-x86_64")) contenders.push({ name: "qemu", command: qemu(guest, append), seconds: [] });
  else console.log("qemu: not installed (Debian's package qemu-system-x86); trike is measured alone");

  for (let round = 1; round <= options.rounds; round++) {
    for (const contender of contenders) contender.seconds.push(await secondsToMark(contender));
    const times = contenders.map(({ name, seconds }) => `${name} ${seconds.at(-1)!.toFixed(2)} s`);
    console.log(`round ${round}: ${times.join(", ")}`);
  }
  for (const { name, seconds } of contenders) console.log(`${name}: median ${median(seconds).toFixed(2)} s`);
  const [ours, theirs] = contenders;
  if (ours && theirs) console.log(`trike / qemu: ${(median(ours.seconds) / median(theirs.seconds)).toFixed(2)}`);
}

interface Options {
  readonly rounds: number;
  readonly engine: string;
  readonly kernel: string | undefined;
  readonly initrd: string | undefined;
}

function parse(words: readonly string[]): Options {
  const args = parseArgs([...words], {
    string: ["rounds", "engine", "kernel", "initrd"],
    unknown: (word: string) => {
      throw new ConfigError(`${word}: expected --rounds N, --engine NAME, --kernel FILE or --initrd FILE`);
    },
  }) as { rounds?: string; engine?: string; kernel?: string; initrd?: string };
  const rounds = Number(args.rounds ?? "5");
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000) {
    throw new ConfigError(`--rounds ${args.rounds}: expected a number from 1 to 1000`);
  }
  if (!args.kernel !== !args.initrd) throw new ConfigError("--kernel and --initrd: expected both or neither");
  return { rounds, engine: args.engine ?? "soft", kernel: args.kernel, initrd: args.initrd };
}

function trike(guest: Guest, append: string, engine: string): string[] {
  const main = new URL("../src/main.ts", import.meta.url).pathname;
  // what the software CPU needs and no more; the others reach the host by FFI
  const permissions = ["--no-prompt", "--allow-read", ...engine === "soft" ? [] : ["--allow-ffi"]];
  const files = ["--kernel", guest.kernel, "--initrd", guest.initrd, "--append", append];
  return [
    Deno.execPath(),
    "run",
    ...permissions,
    main,
    "run",
    "--engine",
    engine,
    "--memory",
    `${MEMORY_MIB}M`,
    ...files,
  ];
}

function qemu(guest: Guest, append: string): string[] {
  const machine = ["-accel", "tcg", "-cpu", "max", "-m", `${MEMORY_MIB}`, "-nodefaults", "-display", "none"];
  const files = ["-kernel", guest.kernel, "-initrd", guest.initrd, "-append", append];
  return ["qemu-system-x86_64", ...machine, "-no-reboot", "-serial", "stdio", ...files];
}

async function runs(program: string): Promise<boolean> {
  try {
    return (await new Deno.Command(program, { args: ["--version"], stdout: "null", stderr: "null" }).output()).success;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/** Starts it, waits for the mark, ends it. */
async function secondsToMark({ name, command }: Contender): Promise<number> {
  const [program, ...args] = command;
  const start = performance.now();
  const child = new Deno.Command(program!, { args, stdin: "null", stdout: "piped", stderr: "piped" }).spawn();
  const complaint = new Response(child.stderr).text();
  const timer = setTimeout(() => child.kill("SIGKILL"), ROUND_SECONDS * 1000);
  const utf8 = new TextDecoder();
  let output = "";
  try {
    for await (const chunk of child.stdout) {
      output += utf8.decode(chunk, { stream: true });
      if (output.includes(MARK)) return (performance.now() - start) / 1000;
    }
  } finally {
    clearTimeout(timer);
    try {
      child.kill("SIGKILL");
    } catch {
      // it ended by itself
    }
    await child.status;
  }
  const said = (await complaint).trim() || output.slice(-500);
  throw new HostError(`${name} ended before it came to ${MARK} (it has ${ROUND_SECONDS} s); it said: ${said}`);
}

function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}
