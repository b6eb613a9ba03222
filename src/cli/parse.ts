/** The command line: arguments in, a request out. Nothing here touches the host. */
import { parseArgs } from "@std/cli/parse-args";
import { ConfigError } from "../base/errors.ts";
import { parseCpuModel } from "../engine/soft/models.ts";
import { MAX_RAM_BYTES, PAGE_BYTES } from "../machine/memory.ts";
import {
  BOOT_SOURCES,
  type BootSource,
  type CpuSpec,
  type DiskSpec,
  type EngineName,
  type FirmwareSpec,
  type MachineSpec,
  MAX_DISKS,
  type ModuleSpec,
  type PublishSpec,
  type SerialSpec,
} from "../machine/spec.ts";
import { diskOption } from "./disk_option.ts";
import { netOption, type NetRequest, publishOptions } from "./net_option.ts";
import { type ConfigOptions, type Given, merged } from "./config.ts";
import {
  CONFIG_OPTIONS,
  DEFAULT_TRACE_PATH,
  ENGINES,
  MAX_CPUS,
  MAX_SERIAL_PORTS,
  MIN_RAM_BYTES,
  OPTION_BY_NAME,
  RESUME_OPTIONS,
  RESUME_SHARED,
  TRACE_CATEGORIES,
} from "./options.ts";
import { type Origins, toldFrom } from "./origins.ts";
import {
  countOption,
  engineOption,
  hint,
  list,
  mistake,
  nameOption,
  nearest,
  quoted,
  secondsOption,
  serialOption,
  sizeOption,
  splitAtSingleCommas,
  traceOption,
  uuidOption,
} from "./values.ts";
import { readServices, type Services } from "./service_options.ts";
import { vncOption, type VncRequest } from "./vnc_option.ts";

/** What the user asked of `trike run`, checked as far as text can be. */
export interface RunRequest {
  readonly engine: "auto" | EngineName;
  /** Who is the interrupt controllers, with the engine kvm; null: what the host offers. */
  readonly irqchip: MachineSpec["irqchip"] | null;
  readonly tiers: 1 | 2;
  /** With the engine soft: hot code becomes machine code of the host. */
  readonly native: boolean;
  readonly memoryBytes: number;
  readonly cpus: number;
  /** Null: --cpu was not given. */
  readonly cpu: CpuSpec | null;
  /** Null: the default guest's. */
  readonly kernel: string | null;
  readonly initrd: string | null;
  readonly append: string | null;
  readonly modules?: readonly ModuleSpec[];
  readonly env?: readonly string[];
  readonly firmware: FirmwareSpec | null;
  readonly debugcon: string | null;
  readonly vga: boolean;
  readonly vgaBios: string | null;
  readonly screenshot: string | null;
  readonly vnc: VncRequest | null;
  readonly disks: readonly DiskSpec[];
  /** Shared folders and the like. */
  readonly services: Services;
  /** Null: --net was not given. */
  readonly net: NetRequest | null;
  readonly publish: readonly PublishSpec[];
  readonly serial: readonly SerialSpec[];
  readonly name: string | null;
  readonly uuid: string | null;
  readonly pidFile: string | null;
  readonly noReboot: boolean;
  readonly icount: boolean;
  readonly trace: MachineSpec["trace"];
  readonly timeoutSeconds: number | null;
  readonly stats: string | null;
  /** Where a machine that is stopped from outside goes; null for nowhere. */
  readonly snapshotOnExit: string | null;
  readonly snapshotCompress: boolean;
  readonly quiet: boolean;
}

/** What the user asked of `trike resume`. Null: as the machine was saved. */
export interface ResumeRequest {
  readonly file: string;
  readonly force: boolean;
  readonly engine: RunRequest["engine"] | null;
  readonly disks: readonly DiskSpec[] | null;
  readonly serial: readonly SerialSpec[] | null;
  readonly publish: readonly PublishSpec[] | null;
  /** The rest, as `trike run` reads it. */
  readonly run: RunRequest;
}

export type Command =
  | {
    readonly kind: "run";
    readonly request: RunRequest;
    /** Where options came from that were not on the command line. */
    readonly origins?: Origins;
  }
  | { readonly kind: "config"; readonly given: Given }
  | { readonly kind: "schema" }
  | { readonly kind: "resume"; readonly request: ResumeRequest }
  | { readonly kind: "guest"; readonly quiet: boolean }
  | { readonly kind: "engines" }
  | { readonly kind: "help" }
  | { readonly kind: "version" };

const COMMANDS = ["run", "resume", "config", "guest", "engines"] as const;
/** Those that read their own arguments, about machines with names. */
export const MACHINE_COMMANDS = [
  "list",
  "stop",
  "kill",
  "console",
  "ip",
  "snapshot",
  "screenshot",
  "medium",
  "link",
  "publish",
  "balloon",
] as const;
const NAMES: readonly string[] = [...COMMANDS, "disk", "xhyve", ...MACHINE_COMMANDS];
const RUN_ALLOWED = Object.keys(OPTION_BY_NAME).filter((name) => !(name in RESUME_OPTIONS || name in CONFIG_OPTIONS));
const ALLOWED: Readonly<Record<typeof COMMANDS[number], readonly string[]>> = {
  run: RUN_ALLOWED,
  config: [...RUN_ALLOWED, ...Object.keys(CONFIG_OPTIONS)],
  resume: [...RESUME_SHARED, ...Object.keys(RESUME_OPTIONS)],
  guest: ["quiet", "help"],
  engines: ["help"],
};

/** Reads the file of --config. */
export type ReadConfig = (path: string) => ConfigOptions;

export function parseCommandLine(args: readonly string[], readConfig: ReadConfig = noFiles): Command {
  const [first, ...rest] = args;
  if (first === undefined) throw new ConfigError(`Expected a command, ${list(NAMES)}; 'trike --help' says more`);
  if (first === "--help" || first === "-h" || first === "help") return { kind: "help" };
  if (first === "--version" || first === "-V") return { kind: "version" };
  if (NAMES.includes(first) && rest.includes("--help")) return { kind: "help" };
  const command = COMMANDS.find((c) => c === first);
  if (command === undefined) {
    const isOption = first.startsWith("-");
    const what = isOption ? `Found the option ${quoted(first)} before a command` : `Unknown command ${quoted(first)}`;
    const near = isOption ? "" : hint(first, NAMES);
    throw new ConfigError(`${what}: expected ${list(NAMES)}${near}; 'trike --help' says more`);
  }
  const named = command === "resume" && rest[0] !== undefined && !rest[0].startsWith("-") ? rest.shift() : undefined;
  const given = readOptions(command, rest, ALLOWED[command]);
  if (given.has("help")) return { kind: "help" };
  if (given.has("version")) return { kind: "version" };
  if (command === "resume") return { kind: "resume", request: readResume(named, given) };
  if (command === "engines") return { kind: "engines" };
  if (command === "guest") return { kind: "guest", quiet: given.has("quiet") };
  if (given.has("schema")) return { kind: "schema" };
  const file = given.get("config")?.[0];
  const { given: all, origins } = file === undefined
    ? { given, origins: null }
    : merged(readConfig(file), new Map([...given].filter(([name]) => name !== "config")));
  const request = toldFrom(origins ?? new Map(), () => readRequest(all));
  if (command === "config") return { kind: "config", given: all };
  return { kind: "run", request, ...(origins ? { origins } : {}) };
}

function noFiles(path: string): never {
  throw mistake("--config", path, "none where no file may be read");
}

/** The options by name, each with the values it was given; a switch has none. */
function readOptions(command: string, args: readonly string[], allowed: readonly string[]): Map<string, string[]> {
  const isSwitch = (name: string) => OPTION_BY_NAME[name]?.value === undefined;
  const switches = allowed.filter(isSwitch);
  const valued = allowed.filter((name) => !isSwitch(name));
  const alias = Object.fromEntries(switches.flatMap((name) => {
    const short = OPTION_BY_NAME[name]!.short;
    return short === undefined ? [] : [[name, short]];
  }));
  const parsed: Record<string, unknown> = parseArgs(joinValues(command, args, valued, switches), {
    string: valued,
    boolean: switches,
    collect: valued,
    alias,
    unknown: (arg: string, key?: string) => {
      throw key === undefined
        ? new ConfigError(`Unexpected ${quoted(arg)}: 'trike ${command}' takes only options`)
        : unknownOption(arg.split("=")[0]!, allowed);
    },
  });
  const given = new Map<string, string[]>();
  for (const name of switches) if (parsed[name] === true) given.set(name, []);
  for (const name of valued) {
    const values = parsed[name] as string[];
    if (values.length > 1 && !OPTION_BY_NAME[name]!.repeat) {
      throw mistake(`--${name}`, values.at(-1)!, `it once, and found it ${values.length} times`);
    }
    if (values.length > 0) given.set(name, values);
  }
  return given;
}

/**
 * `--name value` as `--name=value`: so that a value may be empty or start with a dash. What starts with two dashes is the
 * next option, unless it is a kernel command line.
 */
function joinValues(
  command: string,
  args: readonly string[],
  valued: readonly string[],
  switches: readonly string[],
): string[] {
  const joined: string[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (!arg.startsWith("--")) {
      if (/^-./.test(arg) && arg.length !== 2) throw unknownOption(arg, [...valued, ...switches]);
      joined.push(arg);
      continue;
    }
    const equals = arg.indexOf("=");
    const name = equals < 0 ? arg.slice(2) : arg.slice(2, equals);
    if (switches.includes(name) && equals >= 0) throw mistake(`--${name}`, arg.slice(equals + 1), "no value");
    if (!valued.includes(name) || equals >= 0) {
      // parseArgs takes "--" as the end of options, and then silently keeps what follows.
      if (arg === "--") throw new ConfigError(`Unexpected "--": 'trike ${command}' takes only options`);
      joined.push(arg);
      continue;
    }
    const value = args[i + 1];
    if (value === undefined || (value.startsWith("--") && name !== "append")) {
      throw new ConfigError(`--${name} needs a value: expected --${name} ${OPTION_BY_NAME[name]!.value}`);
    }
    joined.push(`${arg}=${value}`);
    i++;
  }
  return joined;
}

function unknownOption(option: string, allowed: readonly string[]): ConfigError {
  const near = nearest(option.replace(/^-+/, ""), allowed);
  const tail = near === undefined ? "" : `; did you mean --${near}?`;
  return new ConfigError(`Unknown option ${quoted(option)}: 'trike --help' lists those there are${tail}`);
}

/** What the options of `trike run` ask for. Throws ConfigError. */
export function readRequest(given: Given): RunRequest {
  const one = (name: string) => given.get(name)?.[0];
  const orDefault = (name: string) => one(name) ?? OPTION_BY_NAME[name]!.default!;
  const file = (name: string) => {
    const path = one(name);
    if (path === "") throw mistake(`--${name}`, path, "a file");
    return path ?? null;
  };
  const engine = engineOption("--engine", orDefault("engine"), ENGINES);
  const limits = { min: MIN_RAM_BYTES, max: MAX_RAM_BYTES, multipleOf: PAGE_BYTES };
  const memoryBytes = sizeOption("--memory", orDefault("memory"), limits);
  const cpu = one("cpu");
  const name = one("name");
  const uuid = one("uuid");
  const net = one("net");
  const trace = one("trace");
  const timeout = one("timeout");
  const append = one("append") ?? null;
  if (append !== null && append.includes("\0")) throw mistake("--append", append, "text without NUL");
  return {
    engine: engine.engine,
    irqchip: engine.irqchip,
    tiers: engine.tiers,
    native: engine.native,
    memoryBytes,
    cpus: countOption("--cpus", orDefault("cpus"), 1, MAX_CPUS),
    cpu: cpu === undefined ? null : parseCpuModel(cpu),
    kernel: file("kernel"),
    initrd: file("initrd"),
    append,
    ...readFreeBsd(given),
    firmware: readFirmware(file("firmware"), file("firmware-vars"), given),
    debugcon: file("debugcon"),
    ...readDisplay(file, given),
    disks: readDisks(given.get("disk") ?? []),
    services: readServices(given, memoryBytes),
    net: net === undefined ? null : netOption("--net", net),
    publish: publishOptions("--publish", given.get("publish") ?? []),
    serial: readSerial(given.get("serial") ?? [orDefault("serial")]),
    name: name === undefined ? null : nameOption("--name", name),
    uuid: uuid === undefined ? null : uuidOption("--uuid", uuid),
    pidFile: file("pid-file"),
    noReboot: given.has("no-reboot"),
    icount: given.has("icount"),
    trace: trace === undefined ? null : traceOption("--trace", trace, TRACE_CATEGORIES, DEFAULT_TRACE_PATH),
    timeoutSeconds: timeout === undefined ? null : secondsOption("--timeout", timeout),
    stats: file("stats"),
    snapshotOnExit: file("snapshot-on-exit"),
    snapshotCompress: given.has("snapshot-compress"),
    quiet: given.has("quiet"),
  };
}

function readResume(file: string | undefined, given: Map<string, string[]>): ResumeRequest {
  if (file === undefined || file === "") {
    throw new ConfigError("'trike resume' needs a file: expected trike resume FILE [OPTION]...");
  }
  const run = readRequest(given);
  const ifGiven = <T>(name: string, value: T): T | null => given.has(name) ? value : null;
  return {
    file,
    force: given.has("force"),
    engine: ifGiven("engine", run.engine),
    disks: ifGiven("disk", run.disks),
    serial: ifGiven("serial", run.serial),
    publish: ifGiven("publish", run.publish),
    run,
  };
}

function readFreeBsd(given: Given): Pick<RunRequest, "modules" | "env"> {
  for (const name of ["module", "env"]) {
    const value = given.get(name)?.[0];
    if (value !== undefined && !given.has("kernel")) throw mistake(`--${name}`, value, "it with --kernel");
  }
  const modules = given.get("module")?.map((text): ModuleSpec => {
    const [path = "", word = "type=md_image", ...rest] = splitAtSingleCommas(text);
    const type = /^type=([\w. -]{1,63})$/.exec(word)?.[1];
    if (path === "" || type === undefined || rest.length > 0) throw mistake("--module", text, "FILE[,type=TYPE]");
    return { path, type };
  });
  const env = given.get("env");
  return { ...(modules ? { modules } : {}), ...(env ? { env } : {}) };
}

function readFirmware(
  path: string | null,
  vars: string | null,
  given: Given,
): FirmwareSpec | null {
  const boot = given.get("boot")?.[0];
  if (path === null) {
    if (vars !== null) throw mistake("--firmware-vars", vars, "it with --firmware");
    if (boot !== undefined) throw mistake("--boot", boot, "it with --firmware");
    return null;
  }
  for (const name of ["kernel", "initrd", "append"]) {
    const value = given.get(name)?.[0];
    if (value !== undefined) {
      throw mistake(`--${name}`, value, "none with --firmware, which finds a system by itself");
    }
  }
  return { path, vars, ...(boot === undefined ? {} : { boot: bootOption("--boot", boot) }) };
}

function bootOption(flag: string, text: string): BootSource[] {
  const sources = text.split(",").map((word) => {
    const source = BOOT_SOURCES.find((name) => name === word);
    if (!source) throw mistake(flag, text, `${list(BOOT_SOURCES)}, with commas between${hint(word, BOOT_SOURCES)}`);
    return source;
  });
  if (new Set(sources).size < sources.length) throw mistake(flag, text, "each once");
  return sources;
}

function readDisplay(file: (name: string) => string | null, given: Given) {
  const vnc = given.get("vnc")?.[0];
  const vga = given.has("vga") || vnc !== undefined;
  for (const name of ["vga-bios", "screenshot"]) {
    if (given.has(name) && !vga) throw mistake(`--${name}`, given.get(name)![0]!, "it with --vga");
  }
  return {
    vga,
    vgaBios: file("vga-bios"),
    screenshot: file("screenshot"),
    vnc: vnc === undefined ? null : vncOption("--vnc", vnc),
  };
}

function readDisks(values: readonly string[]): DiskSpec[] {
  if (values.length > MAX_DISKS) {
    throw mistake("--disk", values[MAX_DISKS]!, `at most ${MAX_DISKS} disks, and found ${values.length}`);
  }
  return values.map((value) => diskOption("--disk", value));
}

function readSerial(values: readonly string[]): SerialSpec[] {
  if (values.length > MAX_SERIAL_PORTS) {
    throw mistake(
      "--serial",
      values[MAX_SERIAL_PORTS]!,
      `at most ${MAX_SERIAL_PORTS} ports, and found ${values.length}`,
    );
  }
  const ports = values.map((value) => serialOption("--serial", value));
  if (ports.filter((port) => port.kind === "stdio").length > 1) {
    throw mistake("--serial", "stdio", "stdio for one port only");
  }
  return ports;
}
