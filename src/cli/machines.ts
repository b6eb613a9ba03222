/** `trike list`, and the commands that a machine with a name is told: stop, kill, console, ip and so on. */
import { resolve } from "@std/path";
import { ConfigError, HostError } from "../base/errors.ts";
import { describeSize, formatSize } from "../base/size.ts";
import { ControlClient, SilentMachine } from "../machine/control_socket_client.ts";
import { type MachineStatus, parseStatus } from "../machine/control_socket_protocol.ts";
import { machineFolder, machineNames, ownerOf } from "../machine/registry.ts";
import type { DriveState } from "../machine/media.ts";
import type { PublishSpec } from "../machine/spec.ts";
import { watchConsole } from "./console.ts";
import { readWords, type WordSpec } from "./machine_words.ts";
import { publishOptions } from "./net_option.ts";
import type { MACHINE_COMMANDS } from "./parse.ts";
import { balloonSize } from "./service_options.ts";
import { hint, list, mistake, quoted, secondsOption } from "./values.ts";

interface Verb extends WordSpec {
  run(words: { operands: readonly string[]; given: ReadonlyMap<string, string> }, print: Print): Promise<number>;
}
type Print = (text: string) => void;

const DEFAULT_STOP_SECONDS = "30";
/** How long a machine may take to end once it was told to. */
const KILL_MS = 10_000;
/** A list is not held up for long by a machine that is stuck. */
const LIST_MS = 2000;

const VERBS: Readonly<Record<typeof MACHINE_COMMANDS[number], Verb>> = {
  list: {
    operands: "",
    count: [0, 0],
    help: "the machines with names that run now",
    options: { json: { help: "as JSON" } },
    run: async ({ given }, print) => {
      const folder = machineFolder();
      const rows = (await Promise.all(machineNames(folder).map((name) => rowOf(folder, name)))).filter((r) =>
        r !== null
      );
      print(given.has("json") ? JSON.stringify(rows, null, 2) + "\n" : table(rows));
      return 0;
    },
  },
  stop: {
    operands: "NAME",
    count: [1, 1],
    help: "press the power button, and wait for the guest to power off",
    options: { timeout: { value: "SECONDS", help: `how long to wait [${DEFAULT_STOP_SECONDS}]` } },
    run: async ({ operands: [name], given }, print) => {
      const seconds = secondsOption("--timeout", given.get("timeout") ?? DEFAULT_STOP_SECONDS);
      return await withMachine("stop", name!, async (client) => {
        await client.ask({ do: "stop" });
        const end = await endOf(client, seconds * 1000);
        if (end === null) {
          const next = `'trike kill ${name}' stops it at once`;
          throw new HostError(`The machine "${name}" did not power off within ${seconds} s; ${next}`);
        }
        print(`${name}: ${end}\n`);
        return 0;
      });
    },
  },
  kill: {
    operands: "NAME",
    count: [1, 1],
    help: "stop a machine at once, as a pulled plug does",
    options: {},
    run: async ({ operands: [name] }, print) =>
      await withMachine("kill", name!, async (client) => {
        await client.ask({ do: "kill" });
        print(`${name}: ${await endOf(client, KILL_MS) ?? "told to stop"}\n`);
        return 0;
      }),
  },
  console: {
    operands: "NAME",
    count: [1, 1],
    help: "see and use its first serial port; Ctrl-A x leaves, and the machine goes on",
    options: {},
    run: async ({ operands: [name] }) =>
      await withMachine("console", name!, async (client) => {
        await client.ask({ do: "console" });
        await watchConsole(client);
        return 0;
      }),
  },
  ip: {
    operands: "NAME",
    count: [1, 1],
    help: "the guest's address",
    options: {},
    run: async ({ operands: [name] }, print) =>
      await withMachine("ip", name!, async (client) => {
        const { network, address } = await statusOf(client);
        if (network === null) throw new HostError(`The machine "${name}" has no network`);
        if (address === null) {
          throw new HostError(`The address of "${name}" is not trike's to give: its network is ${quoted(network)}`);
        }
        print(`${printable(address)}\n`);
        return 0;
      }),
  },
  snapshot: {
    operands: "NAME FILE",
    count: [2, 2],
    help: "save a machine, which goes on; 'trike resume FILE' starts it from there",
    options: { compress: { help: "smaller, and slower to save and to resume" } },
    run: async ({ operands: [name, file], given }, print) =>
      await withMachine("snapshot", name!, async (client) => {
        const request = { do: "snapshot", path: resolve(file!), compress: given.has("compress") } as const;
        const { bytes } = await client.ask(request, Infinity) as { bytes?: unknown };
        print(`${name}: saved, ${describeSize(Number(bytes))}\n`);
        return 0;
      }),
  },
  screenshot: {
    operands: "NAME [FILE]",
    count: [1, 2],
    help: "its display as a PNG, in FILE or NAME.png",
    options: {},
    run: async ({ operands: [name, file = `${name}.png`] }, print) =>
      await withMachine("screenshot", name!, async (client) => {
        const { width, height } = await client.ask({ do: "screenshot", path: resolve(file) }) as Record<
          string,
          unknown
        >;
        print(`${name}: ${Number(width)} × ${Number(height)} pixels in ${quoted(file)}\n`);
        return 0;
      }),
  },
  medium: {
    operands: "NAME [DRIVE] [FILE]",
    count: [1, 3],
    help: "put another disc into a CD-ROM drive; without FILE, list the drives",
    options: {
      eject: { help: "take the disc out" },
      force: { help: "though the guest has locked the tray" },
    },
    run: async ({ operands: [name, ...words], given }, print) => {
      const eject = given.has("eject"), force = given.has("force");
      if (words.length > (eject ? 1 : 2)) {
        throw new ConfigError("trike medium --eject: expected NAME [DRIVE] before it");
      }
      const named = eject ? words[0] : words.length === 2 ? words[0] : undefined;
      const file = eject ? undefined : words.at(-1);
      if (!eject && file === undefined && force) {
        throw new ConfigError("trike medium --force: expected FILE or --eject");
      }
      return await withMachine("medium", name!, async (client) => {
        const drives = await client.ask({ do: "media" }) as DriveState[];
        if (!eject && file === undefined) {
          for (const one of drives) print(`${printable(describeDrive(one))}\n`);
          return 0;
        }
        const drive = chooseDrive(name!, drives.map((one) => String(one.name)), named);
        const path = file === undefined ? null : resolve(file);
        await client.ask({ do: "medium", drive, path, force });
        return 0;
      });
    },
  },
  link: {
    operands: "NAME [up|down]",
    count: [1, 2],
    help: "pull the cable of its network card, or put it back; or tell",
    options: {},
    run: async ({ operands: [name, state] }, print) => {
      if (state !== undefined && state !== "up" && state !== "down") throw mistake("trike link", state, "up or down");
      return await withMachine("link", name!, async (client) => {
        const answer = await client.ask({ do: "link", ...state === undefined ? {} : { up: state === "up" } });
        if (state === undefined) print((answer as { up?: unknown }).up === true ? "up\n" : "down\n");
        return 0;
      });
    },
  },
  publish: {
    operands: "NAME [[ADDR:]PORT:GUESTPORT[/udp]]...",
    count: [1, 64],
    help: "let clients of a port of this host in; without ports, list them",
    options: { remove: { help: "let no more of them in" } },
    run: async ({ operands: [name, ...ports], given }, print) => {
      const forwards = publishOptions("publish", ports);
      if (given.has("remove") && ports.length === 0) {
        throw new ConfigError("trike publish --remove: expected a port behind the name");
      }
      return await withMachine("publish", name!, async (client) => {
        const what = given.has("remove") ? "unpublish" : "publish";
        for (const forward of forwards) await client.ask({ do: what, forward });
        if (ports.length === 0) { for (const one of await publishedOf(client)) print(`${one}\n`); }
        return 0;
      });
    },
  },
  balloon: {
    operands: "NAME [MIB]",
    count: [1, 2],
    help: "how much memory the guest does without; with MIB, ask it to do without so much",
    options: {},
    run: async ({ operands: [name, size] }, print) => {
      const sizeBytes = size === undefined ? {} : { sizeBytes: balloonSize("trike balloon", size) };
      return await withMachine("balloon", name!, async (client) => {
        const state = await client.ask({ do: "balloon", ...sizeBytes });
        print(`${printable(JSON.stringify(state))}\n`);
        return 0;
      });
    },
  },
};

/** Runs a command about machines; resolves with the exit status. Throws ConfigError or HostError. */
export async function machineCommand(args: readonly string[], print: Print): Promise<number> {
  const [name = "", ...words] = args;
  const verb = VERBS[name as keyof typeof VERBS];
  return await verb.run(readWords(`trike ${name}`, verb, words), print);
}

async function withMachine(
  command: string,
  name: string,
  body: (client: ControlClient) => Promise<number>,
): Promise<number> {
  const folder = machineFolder(), names = machineNames(folder);
  if (!names.includes(name)) {
    const there = names.length === 0 ? "a machine that runs with --name, and there is none" : list(names);
    throw new ConfigError(`trike ${command} ${quoted(name)}: expected ${there}${hint(name, names)}`);
  }
  const pid = ownerOf(folder, name);
  let client: ControlClient | null = null;
  try {
    client = await ControlClient.connect(folder, name);
    return await body(client);
  } catch (error) {
    if (!(error instanceof SilentMachine) || pid === null) throw error;
    throw new HostError(`${error.message}; 'kill -KILL ${pid}' ends it`, { cause: error });
  } finally {
    client?.close();
  }
}

/** How the machine ended; null if it has not within `ms`. */
async function endOf(client: ControlClient, ms: number): Promise<string | null> {
  try {
    return printable(String(await client.ask({ do: "wait" }, ms)));
  } catch (error) {
    if (error instanceof SilentMachine) return null;
    return "ended"; // it hung up before it could say more
  }
}

async function statusOf(client: ControlClient, answerMs?: number): Promise<MachineStatus> {
  const status = parseStatus(await client.ask({ do: "status" }, answerMs));
  if (status === null) {
    throw new HostError(`Cannot understand the machine "${client.name}": its status has other fields`);
  }
  return status;
}

async function publishedOf(client: ControlClient): Promise<string[]> {
  const ports = await client.ask({ do: "published" }) as PublishSpec[];
  return ports.map(({ address, port, guestPort, protocol }) =>
    printable(`${address}:${port}:${guestPort}${protocol === "udp" ? "/udp" : ""}`)
  );
}

function describeDrive({ name, path, locked, open }: DriveState): string {
  const tray = open ? ", the tray is open" : locked ? ", locked by the guest" : "";
  return `${name}  ${path === null ? "empty" : quoted(String(path))}${tray}`;
}

/** The drive that is meant; the only one, if none is named. */
function chooseDrive(machine: string, drives: readonly string[], named: string | undefined): string {
  if (drives.length === 0) {
    throw new ConfigError(`trike medium ${quoted(machine)}: expected a machine with a CD-ROM drive, controller=cdrom`);
  }
  const drive = named ?? (drives.length === 1 ? drives[0]! : "");
  if (drives.includes(drive)) return drive;
  if (named !== undefined) throw mistake("trike medium", named, `${list(drives)} for a drive`);
  throw new ConfigError(`trike medium ${quoted(machine)}: expected ${list(drives)} before the file`);
}

type Row = MachineStatus | { readonly name: string; readonly pid: number | null; readonly state: string };

/** Null if it has ended meanwhile. */
async function rowOf(folder: string, name: string): Promise<Row | null> {
  const pid = ownerOf(folder, name);
  let client: ControlClient | null = null;
  try {
    client = await ControlClient.connect(folder, name, LIST_MS);
    return { ...await statusOf(client, LIST_MS), name };
  } catch (error) {
    if (!machineNames(folder).includes(name)) return null;
    return { name, pid, state: error instanceof SilentMachine ? "silent" : "unreachable" };
  } finally {
    client?.close();
  }
}

function table(rows: readonly Row[]): string {
  const cells = rows.map((row) => {
    const { name, pid, state } = row;
    const known = "cpus" in row
      ? [`${row.cpus}`, formatSize(row.memoryBytes), row.address ?? "-", duration(row.uptimeSeconds)]
      : ["-", "-", "-", "-"];
    return [name, `${pid ?? "-"}`, state, ...known].map(printable);
  });
  const lines = [["NAME", "PID", "STATE", "CPUS", "MEMORY", "IP", "UPTIME"], ...cells];
  const widths = lines[0]!.map((_, i) => Math.max(...lines.map((line) => line[i]!.length)));
  return lines.map((line) => line.map((cell, i) => cell.padEnd(widths[i]!)).join("  ").trimEnd() + "\n").join("");
}

function duration(seconds: number): string {
  const s = Math.floor(seconds), two = (n: number) => String(n).padStart(2, "0");
  const days = Math.floor(s / 86400);
  return `${days > 0 ? `${days}d ` : ""}${two(Math.floor(s / 3600) % 24)}:${two(Math.floor(s / 60) % 60)}:${
    two(s % 60)
  }`;
}

/** Text from the other side of a socket, without the power to move a cursor. */
function printable(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x00-\x1f\x7f-\x9f]+/g, " ").slice(0, 1000);
}
