/**
 * `deno task bench [NAME…] [OPTIONS]`: trike beside QEMU's own software CPU, on the same files. A name is a bench or one of its
 * programs; without one, everything but the disk is measured. One after the other in turn, so that a busy host slows both; medians, as a
 * host's hiccup is no property of either.
 */
import { parseArgs } from "@std/cli/parse-args";
import { ConfigError, HostError, messageOf } from "../src/base/errors.ts";
import { debianGuest, type Guest } from "../src/guest/default_guest.ts";
import { EXT4_ROOT_APPEND, ext4Root } from "../src/guest/ext4_root.ts";
import { stderrProgress } from "../src/guest/progress.ts";
import { benchBoots, footprint, secondsToLogin, secondsToMark } from "./bench/boots.ts";
import { chart } from "./bench/chart.ts";
import { type Contender, contenders } from "./bench/contenders.ts";
import { type Mean, type Row, table } from "./bench/figures.ts";
import { benchAppend, benchInitrd } from "./bench/guest.ts";
import { facts, mainBlock, partOf, reportJson, withFigures } from "./bench/host.ts";
import { benchDisk, SETUPS } from "./bench/disk.ts";
import { benchNet } from "./bench/net.ts";
import { benchGroup } from "./bench/programs.ts";
import { benchResume } from "./bench/resume.ts";
import { benchSmp } from "./bench/smp.ts";
import { SYSTEMD_APPEND, systemdRoot } from "./bench/systemd_root.ts";
import { BOOT_GOAL, GROUPS, IDLE_GOAL, MEMORY_GOAL } from "./bench/suite.ts";

const PROCESS_BENCHES = ["boot", "root", "login", "footprint", "smp", "resume", "net", "disk"] as const;

interface Options {
  /** All, if none is named. */
  readonly names: ReadonlySet<string>;
  readonly rounds: number;
  readonly engine: string;
  readonly idleSeconds: number;
  readonly json: string | null;
  readonly svg: string | null;
  /** Put the figures into docs/performance.md. */
  readonly docs: boolean;
  /** In place of Debian's cloud kernel and the default initial file system. */
  readonly guest: Guest | null;
}

function parse(words: readonly string[]): Options {
  const args = parseArgs([...words], {
    string: ["rounds", "engine", "idle-seconds", "json", "svg", "kernel", "initrd"],
    boolean: ["docs"],
    unknown: (word: string, key?: string) => {
      if (key === undefined) return;
      const known =
        "--rounds N, --engine NAME, --idle-seconds N, --json FILE, --svg FILE, --kernel FILE or --initrd FILE";
      throw new ConfigError(`${word}: expected ${known}`);
    },
  }) as Record<string, string | undefined> & { _: (string | number)[]; docs: boolean };
  const names = new Set(args._.map(String));
  const known = [
    ...PROCESS_BENCHES,
    ...SETUPS.map(({ name }) => name),
    ...GROUPS.flatMap(({ name, programs }) => [name, ...programs.map((program) => program.name)]),
  ];
  for (const name of names) {
    if (!known.includes(name)) throw new ConfigError(`Cannot measure "${name}": expected one of ${known.join(", ")}`);
  }
  const count = (flag: string, text: string) => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < 1 || value > 1000) {
      throw new ConfigError(`--${flag} ${text}: expected a number from 1 to 1000`);
    }
    return value;
  };
  const { kernel, initrd } = args;
  if (!kernel !== !initrd) throw new ConfigError("--kernel and --initrd: expected both or neither");
  return {
    names,
    rounds: count("rounds", args.rounds ?? "5"),
    engine: args.engine ?? "soft",
    idleSeconds: count("idle-seconds", args["idle-seconds"] ?? "30"),
    json: args.json ?? null,
    svg: args.svg ?? null,
    docs: args.docs,
    guest: kernel && initrd ? { kernel, initrd, append: "console=ttyS0 quiet" } : null,
  };
}

class Bench {
  readonly rows: Row[] = [];
  readonly means: Mean[] = [];
  readonly #progress = stderrProgress();
  readonly #say = (line: string) => console.log(line);
  readonly #initrds = new Map<boolean, string>();

  constructor(
    private readonly options: Options,
    private readonly guest: Guest,
    private readonly contenders: readonly Contender[],
  ) {}

  async run(): Promise<void> {
    for (const group of GROUPS) {
      const wanted = group.programs.filter(({ name }) => this.#wants(group.name) || this.options.names.has(name));
      if (wanted.length === 0) continue;
      const boot = await this.#boot(group.packages ?? false);
      const { rounds } = this.options;
      const { rows, mean } = await benchGroup(group, wanted, this.contenders, boot, rounds, this.#say);
      this.rows.push(...rows);
      if (mean) this.means.push(mean);
    }
    if (this.#wants("smp")) {
      this.rows.push(await benchSmp(this.contenders, await this.#boot(false), this.options.rounds, this.#say));
    }
    if (this.#wants("boot")) await this.#bootToInit();
    if (this.#wants("root")) await this.#bootToShell();
    if (this.#wants("login")) await this.#bootToLogin();
    if (this.#wants("footprint")) await this.#footprint();
    if (this.#wants("net")) {
      this.rows.push(...await benchNet(this.contenders, this.guest, this.options.rounds, this.#say));
    }
    const disks = SETUPS.filter(({ name }) => this.options.names.has("disk") || this.options.names.has(name));
    if (disks.length > 0) {
      const { rounds } = this.options;
      const found = await benchDisk(disks, this.contenders, this.#diskGuest, rounds, this.#progress, this.#say);
      this.rows.push(...found.rows);
      this.means.push(...found.means);
    }
    if (this.#wants("resume")) {
      this.rows.push(await benchResume(this.guest, this.options.engine, this.options.rounds, this.#say));
    }
  }

  #wants(name: string): boolean {
    return this.options.names.size === 0 || this.options.names.has(name);
  }

  async #boot(tools: boolean) {
    const { kernel } = this.guest;
    const initrd = this.#initrds.get(tools) ?? await benchInitrd(this.guest, tools, this.#progress);
    this.#initrds.set(tools, initrd);
    return (limit: number, names: readonly string[]) => ({
      kernel,
      initrd,
      append: benchAppend(this.guest, limit, names),
    });
  }

  /** Debian's cloud kernel has no driver of AHCI. */
  readonly #diskGuest = async (controller: string): Promise<Guest> =>
    controller === "ahci" && !this.options.guest ? await debianGuest("generic", this.#progress) : this.guest;

  async #bootToInit(): Promise<void> {
    const boot = { ...this.guest, append: `${this.guest.append} trike.marks` };
    const about = "from the start of the process to /init, cloud kernel";
    const figure = { name: "boot", about, unit: "s", goal: { of: "ratio", atMost: BOOT_GOAL } } as const;
    const measure = async (contender: Contender) => [await secondsToMark(contender, boot, "init")];
    this.rows.push(...await benchBoots("boot", [figure], this.contenders, measure, this.options.rounds, this.#say));
  }

  async #bootToShell(): Promise<void> {
    const guest = await debianGuest("generic", this.#progress);
    const image = await ext4Root(this.#progress);
    const append = `${guest.append} ${EXT4_ROOT_APPEND} trike.marks`;
    const about = "generic kernel, ext4 on a virtio disk, to the shell";
    const figure = { name: "root", about, unit: "s", goal: { of: "ratio", atMost: BOOT_GOAL } } as const;
    const measure = (contender: Contender) =>
      withCopy(
        image,
        async (disk) => [await secondsToMark(contender, { ...guest, append, disk: { path: disk } }, "prompt")],
      );
    this.rows.push(...await benchBoots("root", [figure], this.contenders, measure, this.options.rounds, this.#say));
  }

  async #bootToLogin(): Promise<void> {
    const guest = await debianGuest("generic", this.#progress);
    const image = await systemdRoot(this.#progress);
    const append = `${guest.append} ${SYSTEMD_APPEND}`;
    const about = "generic kernel, Debian with systemd on ext4, to login:";
    const figure = { name: "login", about, unit: "s", goal: { of: "ratio", atMost: BOOT_GOAL } } as const;
    const measure = (contender: Contender) =>
      withCopy(image, async (disk) => [await secondsToLogin(contender, { ...guest, append, disk: { path: disk } })]);
    this.rows.push(...await benchBoots("login", [figure], this.contenders, measure, this.options.rounds, this.#say));
  }

  async #footprint(): Promise<void> {
    const boot = { ...this.guest, append: `${this.guest.append} trike.marks` };
    const { idleSeconds } = this.options;
    const figures = [
      { name: "memory", about: "peak of the process, 512 MiB guest at the shell", unit: "MiB", goal: MEMORY_GOAL },
      { name: "idle", about: `of a core at the shell, over ${idleSeconds} s`, unit: "%", goal: IDLE_GOAL },
    ] as const;
    const goals = figures.map((figure) => ({
      ...figure,
      goal: { of: figure.unit === "%" ? "trike" as const : "ratio" as const, atMost: figure.goal },
    }));
    const measure = (contender: Contender) => footprint(contender, boot, idleSeconds);
    this.rows.push(...await benchBoots("footprint", goals, this.contenders, measure, this.options.rounds, this.#say));
  }
}

/** Each boot has a disk of its own, as it writes to it. */
async function withCopy<T>(image: string, work: (disk: string) => Promise<T>): Promise<T> {
  const disk = await Deno.makeTempFile({ prefix: "trike-bench-", suffix: ".ext4" });
  try {
    await Deno.copyFile(image, disk);
    await Deno.chmod(disk, 0o600);
    return await work(disk);
  } finally {
    await Deno.remove(disk);
  }
}

/** What an exit costs beside C: in a process that may call the host's libraries. */
async function benchExits(): Promise<void> {
  const flags = [
    "--v8-flags=--expose-gc",
    "--no-prompt",
    "--allow-read",
    "--allow-write",
    "--allow-run",
    "--allow-ffi",
  ];
  const args = ["run", ...flags, new URL("./bench/exits.ts", import.meta.url).pathname];
  const { success } = await new Deno.Command(Deno.execPath(), { args, stdout: "inherit", stderr: "inherit" }).output();
  if (!success) throw new HostError("The bench of exits failed");
}

async function main(): Promise<void> {
  if (Deno.args.length === 1 && Deno.args[0] === "exits") return await benchExits();
  const options = parse(Deno.args);
  const guest = options.guest ?? await debianGuest("cloud", stderrProgress());
  const bench = new Bench(options, guest, await contenders(options.engine));
  await bench.run();
  const report = { rows: bench.rows, means: bench.means };
  console.log(`\n${table(report).join("\n")}`);
  const machine = await facts(options.engine, guest.kernel);
  console.log(`\n${Object.entries(machine).map(([name, value]) => `${name}: ${value}`).join("\n")}`);
  if (options.json !== null) await Deno.writeTextFile(options.json, reportJson(report, machine, options.rounds));
  if (options.svg !== null) await Deno.writeTextFile(options.svg, chart(report, machine));
  if (options.docs) {
    const docs = new URL("../docs/", import.meta.url);
    const page = new URL("performance.md", docs);
    for (const block of [mainBlock(options.engine), "disk"] as const) {
      const part = partOf(report, block);
      if (part.rows.length === 0) continue;
      const text = withFigures(await Deno.readTextFile(page), part, machine, options.rounds, block);
      await Deno.writeTextFile(page, text);
      if (block === "all") await Deno.writeTextFile(new URL("performance.svg", docs), chart(part, machine));
    }
  }
}

try {
  await main();
} catch (error) {
  console.error(messageOf(error));
  Deno.exit(error instanceof ConfigError ? 2 : error instanceof HostError ? 1 : 70);
}
