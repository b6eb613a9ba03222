/**
 * `deno task profile [PROGRAM…] [OPTIONS]`: where the guest's time goes while it boots and runs programs of the bench, as a
 * list of functions and a flame graph. The vCPU is looked at each half a millisecond (`--trace samples`); no frames are unwound.
 */
import { parseArgs } from "@std/cli/parse-args";
import { ConfigError, HostError, messageOf } from "../src/base/errors.ts";
import { cacheRoot, isFile, writeWhole } from "../src/guest/cache.ts";
import { debianGuest, type Guest } from "../src/guest/default_guest.ts";
import { stderrProgress } from "../src/guest/progress.ts";
import { trike } from "./bench/contenders.ts";
import { flameGraph } from "./bench/flame.ts";
import { benchInitrd, programOf } from "./bench/guest.ts";
import { hottest, stacksOf } from "./bench/samples.ts";
import { GROUPS, PARALLEL } from "./bench/suite.ts";
import { elfSymbols, isElf, mapSymbols, type Symbols } from "./bench/symbols.ts";
import { watch } from "./bench/watch.ts";

const SILENCE_SECONDS = 300;
const PROGRAM_SECONDS = 200;
const LISTED = 25;
/** Between these lines the guest prints its kernel's symbols. */
const BEGIN = "SYMBOLS-BEGIN", END = "SYMBOLS-END";

interface Options {
  readonly programs: readonly string[];
  readonly script: string | null;
  readonly boot: boolean;
  readonly engine: string;
  readonly symbols: string | null;
  readonly output: string;
}

function parse(words: readonly string[]): Options {
  const args = parseArgs([...words], {
    string: ["engine", "symbols", "output", "script"],
    boolean: ["boot"],
    unknown: (word: string, key?: string) => {
      if (key === undefined) return;
      throw new ConfigError(`${word}: expected --script TEXT, --boot, --engine NAME, --symbols FILE or --output FILE`);
    },
  }) as Record<string, string | undefined> & { _: (string | number)[]; boot: boolean };
  const programs = args._.map(String);
  const known = [...GROUPS.flatMap((group) => group.programs), PARALLEL].map(({ name }) => name);
  for (const name of programs) {
    if (!known.includes(name)) throw new ConfigError(`Cannot profile "${name}": expected one of ${known.join(", ")}`);
  }
  return {
    programs,
    script: args.script ?? null,
    boot: args.boot || (programs.length === 0 && args.script === undefined),
    engine: args.engine ?? "soft",
    symbols: args.symbols ?? null,
    output: args.output ?? "profile.svg",
  };
}

/** Boots, and returns the samples of `script`, or of everything with `boot`. */
async function sample(boot: Guest, options: Options, script: string): Promise<string> {
  const trace = await Deno.makeTempFile({ prefix: "trike-profile-" });
  try {
    // where the kernel is must not change from boot to boot
    const append = `${boot.append} nokaslr trike.exec=${btoa(`echo PROFILE-BEGIN; ${script}`)}`;
    const command = trike(options.engine).command({ ...boot, append });
    const main = command.findIndex((word) => word.endsWith("main.ts"));
    command.splice(main, 0, `--allow-write=${trace}`);
    command.push("--trace", `samples:${trace}`);
    let bootBytes = 0;
    const line = async (text: string) => {
      if (text === "PROFILE-BEGIN" && !options.boot) bootBytes = (await Deno.stat(trace)).size;
      if (text !== "") console.log(text);
    };
    const { end, said } = await watch(command, { line }, SILENCE_SECONDS);
    if (end !== "ended") throw new HostError(`The guest was silent for ${SILENCE_SECONDS} s; it said last: ${said}`);
    return new TextDecoder().decode((await Deno.readFile(trace)).subarray(bootBytes));
  } finally {
    await Deno.remove(trace);
  }
}

/** The symbols of the guest's kernel, by its own account: asked for once. */
async function kernelSymbols(guest: Guest): Promise<Symbols> {
  const kept = `${cacheRoot()}/bench/${guest.kernel.split("/").at(-2) ?? "kernel"}.kallsyms`;
  if (await isFile(kept)) return mapSymbols(await Deno.readTextFile(kept));
  console.error("asking the guest for its kernel's symbols");
  const script = `echo ${BEGIN}; grep -i ' [tw] ' /proc/kallsyms | gzip | base64; echo ${END}`;
  const append = `${guest.append} nokaslr trike.exec=${btoa(script)}`;
  let base64: string[] | null = null, whole = false;
  const line = (text: string) => {
    if (text === BEGIN) base64 = [];
    else if (text === END) whole = true;
    else if (!whole) base64?.push(text);
    return whole ? "stop" as const : undefined;
  };
  const { said } = await watch(trike("soft").command({ ...guest, append }), { line }, SILENCE_SECONDS);
  if (!whole) throw new HostError(`Cannot read the symbols of the guest's kernel: it ended: ${said}`);
  const zipped = new Blob([Uint8Array.fromBase64(base64!.join(""))]).stream();
  const text = await new Response(zipped.pipeThrough(new DecompressionStream("gzip"))).text();
  await Deno.mkdir(`${cacheRoot()}/bench`, { recursive: true });
  await writeWhole(kept, text);
  return mapSymbols(text);
}

async function main(): Promise<void> {
  const options = parse(Deno.args);
  const progress = stderrProgress();
  const guest = await debianGuest("cloud", progress);
  const tools = GROUPS.some((group) =>
    group.packages && group.programs.some(({ name }) => options.programs.includes(name))
  );
  const initrd = await benchInitrd(guest, tools, progress);
  const names = { kernel: await kernelSymbols(guest), program: elfSymbols(await Deno.readFile(programOf(initrd))) };
  if (options.symbols !== null) {
    const bytes = await Deno.readFile(options.symbols);
    if (isElf(bytes)) names.program = elfSymbols(bytes);
    else names.kernel = mapSymbols(new TextDecoder().decode(bytes));
  }
  const run = options.programs.length > 0 ? `sh /bench/run ${PROGRAM_SECONDS} ${options.programs.join(" ")}` : "true";
  const stacks = stacksOf(await sample({ ...guest, initrd }, options, options.script ?? run), names);
  if (stacks.size === 0) throw new HostError("The trace has no samples: the guest ended too soon");
  for (const [name, share] of hottest(stacks, LISTED)) {
    console.log(`${(100 * share).toFixed(1).padStart(5)} %  ${name}`);
  }
  const what = options.script ?? (options.programs.join(" ") || "boot");
  const graph = flameGraph([...stacks.values()].map(({ frames, count }) => [frames, count] as const), `trike: ${what}`);
  await Deno.writeTextFile(options.output, graph);
  console.log(`written: ${options.output}`);
}

try {
  await main();
} catch (error) {
  console.error(messageOf(error));
  Deno.exit(error instanceof ConfigError ? 2 : error instanceof HostError ? 1 : 70);
}
