/** What `--name` adds to a run: the name, held while it lasts, and the control socket by which others find it. */
import { HostError, messageOf } from "../base/errors.ts";
import { formatIp4 } from "../host/net/address.ts";
import { NETWORK } from "../host/net/network.ts";
import { encodeScreen } from "../host/png.ts";
import { ConsoleHub } from "../machine/console_hub.ts";
import { type Controlled, ControlServer } from "../machine/control_socket.ts";
import type { MachineEnd, MachineHandle } from "../machine/handle.ts";
import { machineFolder, Registration } from "../machine/registry.ts";
import type { MachineSpec, NetSpec } from "../machine/spec.ts";

/** The run, as those who ask at the socket reach it. */
export interface NamedRun {
  /** Null before the machine has started. */
  readonly handle: MachineHandle | null;
  readonly ended: Promise<MachineEnd>;
  pressPowerButton(): void;
  kill(): void;
}

export class NamedMachine {
  readonly console = new ConsoleHub();
  #server: ControlServer | null = null;

  private constructor(private readonly registration: Registration) {}

  /** Throws ConfigError if another machine has the name, HostError if there is no place for it. */
  static async take(name: string): Promise<NamedMachine> {
    return new NamedMachine(await Registration.take(machineFolder(), name));
  }

  serve(spec: MachineSpec, run: NamedRun): void {
    const { name, socketPath } = this.registration;
    this.#server = ControlServer.listen(socketPath, name, controlled(name, spec, run, this.console));
  }

  /** Lets everybody go, and the name with them. */
  async close(): Promise<void> {
    await this.#server?.close();
    this.registration.release();
  }
}

function controlled(name: string, spec: MachineSpec, run: NamedRun, console: ConsoleHub): Controlled {
  const started = (): MachineHandle => {
    if (run.handle === null) throw new HostError(`The machine "${name}" has not started yet`);
    return run.handle;
  };
  const publish = async (...args: Parameters<NonNullable<MachineHandle["publish"]>>) => {
    const handle = started();
    if (!handle.publish) throw new HostError("This machine publishes no ports");
    return await handle.publish(...args);
  };
  return {
    console,
    status: () => ({
      name,
      pid: Deno.pid,
      state: run.handle === null ? "starting" : run.handle.state ?? "running",
      engine: spec.engine,
      cpus: spec.cpus,
      memoryBytes: spec.memoryBytes,
      uptimeSeconds: performance.now() / 1000,
      network: spec.net ? describeNet(spec.net) : null,
      address: spec.net?.kind === "user" ? formatIp4(NETWORK.guest) : null,
    }),
    pressPowerButton: () => run.pressPowerButton(),
    kill: () => run.kill(),
    ended: run.ended.then(describeEnd),
    snapshot: async (path, compress) => {
      const handle = started();
      if (!handle.snapshot) throw new HostError("This machine cannot be saved");
      return await handle.snapshot(path, { compress, stop: false });
    },
    screenshot: async (path) => {
      const { screen } = started();
      if (!screen) {
        throw new HostError(`The machine "${name}" has no display: expected one started with --vga or --vnc`);
      }
      const { width, height, png } = encodeScreen(screen);
      try {
        await Deno.writeFile(path, png);
      } catch (error) {
        throw new HostError(`Cannot write the picture "${path}": ${messageOf(error)}`, { cause: error });
      }
      return { path, bytes: png.length, width, height };
    },
    media: () => started().media?.list() ?? [],
    changeMedium: async (drive, path, force) => {
      const { media } = started();
      if (!media) throw new HostError(`The machine "${name}" has no drives`);
      await media.change(drive, path, force);
    },
    link: async (up) => {
      const handle = started();
      if (!handle.link) throw new HostError(`The machine "${name}" has no network`);
      return await handle.link(up);
    },
    published: () => publish({ action: "list" }),
    publish: async (port) => void await publish({ action: "add", port }),
    unpublish: async (port) => void await publish({ action: "remove", port }),
    balloon: async (sizeBytes) => {
      const { balloon } = started();
      if (!balloon) throw new HostError(`The machine "${name}" has no balloon: expected one started with --balloon`);
      if (sizeBytes !== undefined) balloon.set(sizeBytes);
      return await balloon.state();
    },
  };
}

function describeNet(net: NetSpec): string {
  switch (net.kind) {
    case "user":
      return "user";
    case "vmnet":
      return `vmnet:${net.mode}`;
    case "switch":
    case "tap":
      return `${net.kind}:${net.name}`;
    case "stream":
    case "dgram":
      return `${net.kind}:${net.path}`;
  }
}

function describeEnd(end: MachineEnd): string {
  switch (end.kind) {
    case "poweroff":
      return "powered off";
    case "reset":
      return "ended with a restart";
    case "stopped":
      return "stopped";
    case "died":
      return `died: ${end.message}`;
    case "debug-exit":
      return `ended with ${end.code} at the debug-exit port`;
    case "host-error":
      return `ended: ${end.error.message}`;
  }
}
