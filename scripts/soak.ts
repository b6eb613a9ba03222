/**
 * `deno task soak [--minutes N] [--cpus N] [--memory MIB] [--code MIB] [--native] [--folder DIR]`: a guest that compiles and runs
 * programs for ever.
 * docs/soak.md says what is looked at and what the verdict means.
 */
import { join } from "@std/path";
import { parseArgs } from "@std/cli/parse-args";
import { ConfigError, messageOf } from "../src/base/errors.ts";
import { stderrProgress } from "../src/guest/progress.ts";
import type { MachineEnd } from "../src/machine/handle.ts";
import { type Machine, startMachine } from "../src/machine/machine.ts";
import { CODE_BYTES } from "../src/machine/memory.ts";
import { soakGuest } from "../tests/soak/guest.ts";
import { Ledger, type Sample } from "../tests/soak/ledger.ts";
import { reportPath, type VcpuReport } from "../tests/soak/vcpu.ts";

const MIB = 1 << 20;
/** A guest that says nothing for so long hangs: it tells its clock each ten seconds, and the host may be busy. */
const SILENCE_SECONDS = 240;
const SAMPLE_SECONDS = 60;

interface Options {
  readonly minutes: number;
  readonly cpus: number;
  readonly memoryMib: number;
  /** For decoded code, of all vCPUs together: little, so that it fills and is emptied many times. */
  readonly codeMib: number;
  /** Hot code becomes machine code of the host. */
  readonly native: boolean;
  readonly folder: string;
}

function parse(words: readonly string[]): Options {
  const known = "--minutes N, --cpus N, --memory MIB, --code MIB, --native or --folder DIR";
  const args = parseArgs([...words], {
    string: ["minutes", "cpus", "memory", "code", "folder"],
    boolean: ["native"],
    unknown: (word: string) => {
      throw new ConfigError(`${word}: expected ${known}`);
    },
  }) as Record<string, string | undefined> & { native: boolean };
  const count = (flag: string, value: number, least: number, most: number) => {
    const text = args[flag];
    if (text === undefined) return value;
    const n = Number(text);
    if (Number.isInteger(n) && n >= least && n <= most) return n;
    throw new ConfigError(`--${flag} ${text}: expected a number from ${least} to ${most}`);
  };
  return {
    minutes: count("minutes", 60, 1, 10_000),
    cpus: count("cpus", 2, 1, 8),
    memoryMib: count("memory", 512, 256, 3072),
    codeMib: count("code", 48, 16, CODE_BYTES / MIB),
    native: args.native,
    folder: args.folder ?? Deno.makeTempDirSync({ prefix: "trike-soak-" }),
  };
}

class Soak {
  readonly #ledger: Ledger;
  readonly #log: Deno.FsFile;
  #machine: Machine | null = null;
  #startMs = 0;
  #heardMs = 0;
  #rest = "";
  readonly #utf8 = new TextDecoder();

  constructor(private readonly options: Options, private readonly guest: Awaited<ReturnType<typeof soakGuest>>) {
    this.#ledger = new Ledger(guest.expected);
    this.#log = Deno.openSync(join(options.folder, "console.log"), { write: true, create: true, truncate: true });
  }

  /** True if nothing was wrong. */
  async run(): Promise<boolean> {
    const { minutes, cpus, memoryMib, folder } = this.options;
    const { kernel, initrd, append } = this.guest;
    const module = new URL("../tests/soak/vcpu.ts", import.meta.url);
    module.searchParams.set("folder", folder);
    if (this.options.native) module.searchParams.set("native", "");
    module.searchParams.set("code", String(this.options.codeMib * MIB));
    const machine = this.#machine = await startMachine({
      engine: "soft",
      ...(this.options.native ? { native: true } : {}),
      memoryBytes: memoryMib * MIB,
      cpus,
      kernel,
      initrd,
      append,
      disks: [],
      serial: [{ kind: "none" }],
      noReboot: true,
      icount: false,
      trace: null,
    }, { vcpuWorker: module });
    // Guest RAM becomes resident when it is touched; once all of it is, what grows is ours.
    const ram = machine.pc.ram.bytes(0, memoryMib * MIB)!;
    for (let at = 0; at < ram.length; at += 4096) Atomics.or(ram, at, 0);
    this.#startMs = this.#heardMs = performance.now();
    let end: MachineEnd | null = null;
    machine.ended.then((value) => end = value);
    const console_ = this.#listen(machine);
    let dueMs = this.#startMs + SAMPLE_SECONDS * 1000, trouble: string | null = null;
    while (trouble === null && performance.now() < this.#startMs + minutes * 60_000) {
      await new Promise((resolve) => setTimeout(resolve, 500));
      if (end) trouble = `the machine ended: ${describeEnd(end)}`;
      else if (performance.now() - this.#heardMs > SILENCE_SECONDS * 1000) trouble = await this.#silent(machine);
      if (performance.now() < dueMs) continue;
      dueMs += SAMPLE_SECONDS * 1000;
      this.#sample();
    }
    machine.stop();
    await machine.ended;
    await Promise.race([console_, new Promise((resolve) => setTimeout(resolve, 2000))]);
    this.#log.close();
    return this.#report(trouble);
  }

  async #listen(machine: Machine): Promise<void> {
    const { tx } = machine.serial[0]!;
    for (;;) {
      await tx.whenReadable();
      if (tx.available === 0 && tx.closed) return;
      const bytes = tx.read();
      this.#log.writeSync(bytes);
      const lines = (this.#rest + this.#utf8.decode(bytes, { stream: true })).split("\n");
      this.#rest = lines.pop()!.slice(-4096);
      for (const line of lines) {
        this.#heardMs = performance.now();
        const trouble = this.#ledger.line(line.trimEnd(), this.#seconds(), machine.pc.clock.nowNs() / 1e9);
        if (trouble !== null) console.log(`${this.#minute()} NOT OK: ${trouble}`);
      }
    }
  }

  /** Keeps what describes a machine that hangs. */
  async #silent(machine: Machine): Promise<string> {
    const said = `the guest has said nothing for ${SILENCE_SECONDS} s`;
    console.log(`${this.#minute()} NOT OK: ${said}`);
    for (const { where } of this.#vcpus()) console.log(where);
    const path = join(this.options.folder, "hung.snapshot");
    try {
      await machine.snapshot(path, { compress: true, stop: false });
      return `${said}; saved to ${path}`;
    } catch (error) {
      return `${said}; ${messageOf(error)}`;
    }
  }

  #vcpus(): VcpuReport[] {
    return Array.from({ length: this.options.cpus }, (_, n) => {
      try {
        return JSON.parse(Deno.readTextFileSync(reportPath(this.options.folder, n)));
      } catch {
        return { stats: {}, heapBytes: 0, where: "no report" }; // none yet
      }
    });
  }

  #sample(): void {
    const stats: Record<string, number> = {};
    let heapBytes = 0;
    for (const vcpu of this.#vcpus()) {
      for (const [name, n] of Object.entries(vcpu.stats)) stats[name] = (stats[name] ?? 0) + n;
      heapBytes += vcpu.heapBytes;
    }
    const rssBytes = Deno.memoryUsage().rss;
    const sample: Sample = { seconds: this.#seconds(), rssBytes, heapBytes, codeBytes: stats.codeBytes ?? 0, stats };
    const ledger = this.#ledger, before = ledger.samples.at(-1);
    ledger.samples.push(sample);
    const clock = ledger.clocks.at(-1);
    const rate = (name: string) => `${name} ${stats[name] ?? 0} (+${(stats[name] ?? 0) - (before?.stats[name] ?? 0)})`;
    const mib = (bytes: number) => `${(bytes / MIB).toFixed(0)} MiB`;
    console.log([
      this.#minute(),
      `rounds ${ledger.rounds} results ${ledger.results} differ ${ledger.differences} complaints ${ledger.complaints.length}`,
      `rss ${mib(rssBytes)} code ${mib(sample.codeBytes)} heaps ${mib(heapBytes)}`,
      `instructions ${((stats.instructions ?? 0) / 1e9).toFixed(1)}e9`,
      ...["regions", "regionsStale", "regionsRefused", "codeFlushes", "codeInvalidations", "evictions"].map(rate),
      `compile ${(stats.compileMs ?? 0).toFixed(0)} ms`,
      clock
        ? `guest off by ${((clock.monotonicSeconds - clock.hostSeconds) - this.#offset()).toFixed(3)} s ` +
          `free ${(clock.freeKib / 1024).toFixed(0)} MiB available ${(clock.availableKib / 1024).toFixed(0)} MiB`
        : "no clock yet",
    ].join(", "));
  }

  /** What CLOCK_MONOTONIC was off the host's at first: the machine started before the kernel's clock did. */
  #offset(): number {
    const first = this.#ledger.clocks[0]!;
    return first.monotonicSeconds - first.hostSeconds;
  }

  #report(trouble: string | null): boolean {
    const ledger = this.#ledger, { ok, sentences } = ledger.verdict();
    const all = trouble === null ? sentences : [`NOT OK: ${trouble}`, ...sentences];
    for (const sentence of all) console.log(sentence);
    const { complaints, clocks, samples, results, rounds, differences } = ledger;
    const report = {
      ok: ok && trouble === null,
      sentences: all,
      results,
      rounds,
      differences,
      complaints,
      samples,
      clocks,
    };
    const path = join(this.options.folder, "soak.json");
    Deno.writeTextFileSync(path, JSON.stringify(report, null, 1) + "\n");
    console.log(`${report.ok ? "ok" : "NOT OK"}: ${path}`);
    return report.ok;
  }

  #seconds(): number {
    return (performance.now() - this.#startMs) / 1000;
  }
  #minute(): string {
    return `${(this.#seconds() / 60).toFixed(1)} min`;
  }
}

function describeEnd(end: MachineEnd): string {
  if (end.kind === "died") return end.message;
  return end.kind === "host-error" ? messageOf(end.error) : end.kind;
}

if (import.meta.main) {
  try {
    const options = parse(Deno.args);
    Deno.mkdirSync(options.folder, { recursive: true });
    const guest = await soakGuest(options.folder, options.cpus, stderrProgress());
    console.log(`files in ${options.folder}`);
    Deno.exit(await new Soak(options, guest).run() ? 0 : 1);
  } catch (error) {
    console.error(messageOf(error));
    Deno.exit(error instanceof ConfigError ? 2 : 1);
  }
}
