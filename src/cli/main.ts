/** From the arguments to the exit status. */
import { join } from "@std/path";
import { ConfigError, HostError, messageOf, RestoreError } from "../base/errors.ts";
import { cacheRoot } from "../guest/cache.ts";
import type { Guest, GuestKind } from "../guest/default_guest.ts";
import type { MachineHandle } from "../machine/handle.ts";
import type { MachineSpec } from "../machine/spec.ts";
import { type EngineImages, programImages } from "../machine/engine_images.ts";
import { configText } from "./config.ts";
import { readConfigFile } from "./config_file.ts";
import { engines, enginesPage } from "./engines.ts";
import { helpPage } from "./help.ts";
import { inTheirWords } from "./origins.ts";
import { type Command, MACHINE_COMMANDS, parseCommandLine } from "./parse.ts";
import { runMachine, Status } from "./run.ts";

export const VERSION = "0.1.0";

export interface MainParts {
  start(spec: MachineSpec): Promise<MachineHandle>;
}

// Both are imported when they are needed: --help is to be quick, and a mistake is found before anything is loaded.
const OWN: MainParts = {
  start: async (spec) => {
    const { startMachine } = await import("../machine/machine.ts");
    return startMachine(spec, { images: images() });
  },
};

/** What engines have made before; in the user's cache, if this process may know where that is. */
function images(): EngineImages | null {
  const known = ["XDG_CACHE_HOME", "HOME"].every((variable) =>
    Deno.permissions.querySync({ name: "env", variable }).state === "granted"
  );
  return programImages(known ? imageFolder() : null);
}

function imageFolder(): string | null {
  try {
    return join(cacheRoot(), "images");
  } catch {
    return null; // no home
  }
}

async function defaultGuest(quiet: boolean, kind: GuestKind = "cloud"): Promise<Guest> {
  const { debianGuest } = await import("../guest/default_guest.ts");
  const { stderrProgress } = await import("../guest/progress.ts");
  return await debianGuest(kind, quiet ? () => {} : stderrProgress());
}

/** Runs a command line; resolves with the exit status. */
export async function main(args: readonly string[], parts: MainParts = OWN): Promise<number> {
  try {
    if (args[0] === "disk") return (await import("./disk.ts")).diskCommand(args.slice(1), print);
    if ((MACHINE_COMMANDS as readonly string[]).includes(args[0] ?? "") && !args.includes("--help")) {
      return await (await import("./machines.ts")).machineCommand(args, print);
    }
    if (args[0] === "xhyve") {
      const { xhyveCommand } = await import("./xhyve/command.ts");
      return await xhyveCommand(args.slice(1), { start: parts.start, defaultGuest, say, print, version: VERSION });
    }
    if (args[0] === "config" && args[1] === "xhyve") {
      print((await import("./xhyve/command.ts")).xhyveConfig(args.slice(2), say));
      return Status.OK;
    }
    return await dispatch(parseCommandLine(args, readConfigFile), parts);
  } catch (error) {
    if (error instanceof ConfigError || error instanceof RestoreError) {
      say(error.message);
      return Status.CONFIG;
    }
    if (error instanceof HostError || error instanceof Deno.errors.NotCapable) {
      say(messageOf(error));
      return Status.HOST;
    }
    throw error;
  }
}

async function dispatch(command: Command, parts: MainParts): Promise<number> {
  switch (command.kind) {
    case "help":
      print(helpPage());
      return Status.OK;
    case "version":
      print(`trike ${VERSION}\n`);
      return Status.OK;
    case "engines":
      print(enginesPage(await engines()));
      return Status.OK;
    case "guest": {
      const guest = await defaultGuest(command.quiet);
      print(`kernel ${guest.kernel}\ninitrd ${guest.initrd}\nappend ${guest.append}\n`);
      return Status.OK;
    }
    case "run":
      return await runMachine(command.request, { start: parts.start, defaultGuest, say }).catch((error) => {
        throw inTheirWords(error, command.origins ?? new Map());
      });
    case "config":
      print(configText(command.given));
      return Status.OK;
    case "schema":
      print(JSON.stringify((await import("./config_schema.ts")).configSchema(), null, 2) + "\n");
      return Status.OK;
    case "resume": {
      const { resumeMachine } = await import("./resume.ts");
      return await resumeMachine(command.request, { defaultGuest, say }, images());
    }
  }
}

/** Says one line on stderr. Never throws: whoever closed stderr does not want to know. */
export function say(line: string): void {
  write(Deno.stderr, `trike: ${line}\n`);
}

function print(text: string): void {
  write(Deno.stdout, text);
}

function write(to: { writeSync(bytes: Uint8Array): number }, text: string): void {
  const bytes = new TextEncoder().encode(text);
  try {
    for (let at = 0; at < bytes.length;) at += to.writeSync(bytes.subarray(at));
  } catch {
    // The reader has left.
  }
}

/** Makes a defect end the process with its own status and a report, after the terminal was put back by its "unload" listener. */
export function reportDefects(): void {
  const defect = (error: unknown) => {
    say(`a defect in trike: ${error instanceof Error ? error.stack ?? error.message : String(error)}`);
    Deno.exit(Status.BUG);
  };
  globalThis.addEventListener("error", (event) => {
    event.preventDefault();
    defect(event.error ?? event.message);
  });
  globalThis.addEventListener("unhandledrejection", (event) => {
    event.preventDefault();
    defect(event.reason);
  });
}
