/** `trike run`: one machine in the foreground, from the request to the exit status. */
import { dirname, join } from "@std/path";
import { ConfigError, HostError, messageOf } from "../base/errors.ts";
import type { ByteRing } from "../base/ring.ts";
import type { Guest, GuestKind } from "../guest/default_guest.ts";
import { encodeScreen } from "../host/png.ts";
import { NoSerial, openSerial, type SerialBackEnd } from "../host/serial.ts";
import { Terminal } from "../host/terminal.ts";
import type { MachineEnd, MachineHandle } from "../machine/handle.ts";
import type { MachineSpec } from "../machine/spec.ts";
import { withBootRom } from "./boot_rom.ts";
import { checkFiles } from "./check.ts";
import { chooseEngine, type EngineInfo, engines, nativeCode } from "./engines.ts";
import type { VncServer } from "../host/vnc/server.ts";
import { NamedMachine } from "./named.ts";
import { chooseNet } from "./net_option.ts";
import { DEFAULT_APPEND } from "./options.ts";
import type { RunRequest } from "./parse.ts";
import { ConsoleWatch, statsJson } from "./stats.ts";
import { openVnc } from "./vnc_option.ts";

export interface RunParts {
  start(spec: MachineSpec): Promise<MachineHandle>;
  /** The guest for those who name no kernel. */
  defaultGuest(quiet: boolean, kind?: GuestKind): Promise<Guest>;
  /** Whether the network may be used; asks Deno if it is not given. */
  networkAllowed?(): boolean;
  /** Says one line to the user. */
  say(line: string): void;
  /** The engines this host has, if not found out by trying. */
  engines?(asked: string): Promise<readonly EngineInfo[]>;
}

/** Exit statuses, as the help page explains them. */
export const Status = {
  OK: 0,
  HOST: 1,
  CONFIG: 2,
  DIED: 3,
  BUG: 70,
  TIMEOUT: 124,
  KILLED: 137,
  SIGHUP: 129,
  SIGINT: 130,
  SIGQUIT: 131,
  SIGTERM: 143,
} as const;

/** How long a guest may take to power off after the button was pressed. */
const POWER_OFF_MS = 30_000;
/** How long a machine may take to stop when told to, and its last output to reach a reader who may not read. */
const STOP_MS = 6_000;
const DRAIN_MS = 2_000;
/** Where Ctrl-A s saves a machine that has no --snapshot-on-exit. */
const DEFAULT_SNAPSHOT = "trike.snapshot";

export async function runMachine(request: RunRequest, parts: RunParts): Promise<number> {
  checkFiles(request);
  const engine = await findEngine(request, parts);
  const spec = { ...await makeSpec(request, engine, parts), ...displayOf(request) };
  return await runSpec(spec, request, parts);
}

export async function findEngine(request: RunRequest, parts: RunParts): Promise<MachineSpec["engine"]> {
  const known = await (parts.engines ?? engines)(request.engine);
  return chooseEngine(known, request, request.quiet ? () => {} : parts.say);
}

/** Runs a machine whose parts are known to its end. */
export async function runSpec(spec: MachineSpec, request: RunRequest, parts: RunParts): Promise<number> {
  const named = request.name === null ? null : await NamedMachine.take(request.name);
  try {
    return await runNamed(spec, request, parts, named);
  } finally {
    await named?.close();
  }
}

async function runNamed(
  spec: MachineSpec,
  request: RunRequest,
  parts: RunParts,
  named: NamedMachine | null,
): Promise<number> {
  const stats = request.stats === null ? null : openOutput("--stats", request.stats);
  const screenshot = request.screenshot === null ? null : openOutput("--screenshot", request.screenshot);
  const debugcon = request.debugcon === null ? null : openOutput("--debugcon", request.debugcon);
  const vnc = request.vnc === null ? null : openVnc(request.vnc);
  if (request.pidFile !== null) writeText("--pid-file", request.pidFile, `${Deno.pid}\n`);
  const run = new Run(spec, request, parts, debugcon, vnc, named);
  try {
    const status = await run.toEnd();
    if (stats && run.handle) writeOutput(stats, "--stats", request.stats!, json(run));
    if (screenshot && run.handle?.screen) {
      writeOutput(screenshot, "--screenshot", request.screenshot!, encodeScreen(run.handle.screen).png);
    }
    return status;
  } finally {
    run.abandon();
    vnc?.close();
    if (request.pidFile !== null) removeIfThere(request.pidFile);
    stats?.close();
    screenshot?.close();
    debugcon?.close();
  }
}

async function makeSpec(request: RunRequest, engine: MachineSpec["engine"], parts: RunParts): Promise<MachineSpec> {
  const { memoryBytes, cpus, cpu, disks, serial, noReboot, icount, trace, irqchip, tiers, uuid } = request;
  const { net: chosen, note } = chooseNet({
    net: request.net,
    publish: request.publish,
    icount,
    name: identity(request),
    allowed: (parts.networkAllowed ?? networkAllowed)(),
  });
  if (note !== null && !request.quiet) parts.say(note);
  const net = withBootRom(request.firmware, chosen, isFile);
  const optional = {
    ...(irqchip ? { irqchip } : {}),
    ...(tiers === 1 ? { tiers } : {}),
    ...nativeCode(request, engine, parts.say),
    ...(cpu ? { cpu } : {}),
    ...(uuid ? { uuid } : {}),
    ...(request.modules ? { modules: request.modules } : {}),
    ...(request.env ? { env: request.env } : {}),
    ...(net ? { net } : {}),
    ...displayOf(request),
    ...request.services,
  };
  const rest = { engine, memoryBytes, cpus, disks, ...optional, serial, noReboot, icount, trace };
  if (request.firmware !== null) return { ...rest, firmware: request.firmware, kernel: "", initrd: null, append: "" };
  if (request.kernel !== null) {
    return { ...rest, kernel: request.kernel, initrd: request.initrd, append: request.append ?? DEFAULT_APPEND };
  }
  // The small kernel cannot mount shared folders.
  const guest = await parts.defaultGuest(request.quiet, request.services.shares ? "generic" : "cloud");
  const append = [guest.append, ...terminalSize(request), ...(request.append ? [request.append] : [])].join(" ");
  return { ...rest, kernel: guest.kernel, initrd: request.initrd ?? guest.initrd, append };
}

/** What tells this machine from others. */
export function identity({ uuid, name, disks, kernel }: RunRequest): string {
  return uuid ?? name ?? (disks[0]?.path || kernel) ?? "";
}

/** The display, and the video BIOS that Debian's SeaBIOS has for it. */
function displayOf({ vga, vgaBios, firmware }: RunRequest): Pick<MachineSpec, "vga"> {
  if (!vga) return {};
  if (vgaBios !== null || firmware === null) return { vga: { bios: vgaBios } };
  const beside = join(dirname(firmware.path), "vgabios-stdvga.bin");
  return { vga: { bios: isFile(beside) ? beside : null } };
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

function networkAllowed(): boolean {
  return Deno.permissions.querySync({ name: "net" }).state === "granted";
}

/** The word that tells the default guest its console's size. Runs that repeat exactly do so on every terminal. */
function terminalSize({ serial, icount }: RunRequest): string[] {
  if (icount || serial[0]?.kind !== "stdio" || !Deno.stdin.isTerminal()) return [];
  try {
    const { columns, rows } = Deno.consoleSize();
    return columns > 0 && rows > 0 ? [`trike.size=${columns}x${rows}`] : [];
  } catch {
    return []; // nothing of ours is a terminal that knows its size
  }
}

/** Why a machine was stopped from outside, with the status that gives. */
interface Reason {
  readonly status: number;
  readonly text: string | null;
}

class Run {
  handle: MachineHandle | null = null;
  readonly watch = new ConsoleWatch(() => performance.now() / 1000);
  readonly #backEnds: SerialBackEnd[] = [];
  #debugCopied: Promise<void> = Promise.resolve();
  #terminal: Terminal | null = null;
  #reason: Reason | null = null;
  #button: "untouched" | "pressed" = "untouched";
  #end: MachineEnd | null = null;
  readonly #over = Promise.withResolvers<MachineEnd>();
  readonly #finished = Promise.withResolvers<MachineEnd>();
  readonly #timers: ReturnType<typeof setTimeout>[] = [];
  readonly #signals: [Deno.Signal, () => void][] = [];

  constructor(
    private readonly spec: MachineSpec,
    private readonly request: RunRequest,
    private readonly parts: RunParts,
    private readonly debugcon: Deno.FsFile | null = null,
    private readonly vnc: VncServer | null = null,
    private readonly named: NamedMachine | null = null,
  ) {}

  /** How it ended. */
  get ended(): Promise<MachineEnd> {
    return this.#over.promise;
  }

  /** For who asks from elsewhere: the button, and nothing after it. */
  pressPowerButton(): void {
    if (this.handle === null) this.#stop({ status: Status.OK, text: null });
    else this.handle.pressPowerButton();
  }

  /** Stops the machine at once; it is not saved. */
  kill(): void {
    this.#reason ??= { status: Status.KILLED, text: "killed from elsewhere" };
    if (this.#onStop) return this.#onStop();
    if (this.handle === null) return this.#finished.resolve({ kind: "stopped" });
    this.handle.stop();
    this.#after(STOP_MS, () => this.#finished.resolve({ kind: "stopped" }));
  }

  async toEnd(): Promise<number> {
    // Waiting for a ring alone would not keep the process alive.
    this.#timers.push(setInterval(() => {}, 1 << 30));
    this.#onSignal("SIGTERM", () => this.#signalled(Status.SIGTERM, "SIGTERM"));
    this.#onSignal("SIGINT", () => this.#signalled(Status.SIGINT, "SIGINT"));
    this.#onSignal("SIGUSR2", () => this.#save(false));
    this.#onSignal("SIGHUP", () => this.#stop({ status: Status.SIGHUP, text: null }));
    this.#onSignal("SIGQUIT", () => this.#stop({ status: Status.SIGQUIT, text: null }));
    const seconds = this.request.timeoutSeconds;
    if (seconds !== null) {
      const reason = { status: Status.TIMEOUT, text: `stopped after ${seconds} s (--timeout)` };
      this.#after(seconds * 1000, () => this.#stop(reason));
    }
    this.named?.serve(this.spec, this);
    await this.#openPorts();
    const starting = this.parts.start(this.spec);
    const started = await Promise.race([starting, this.#finished.promise.then(() => null)]);
    if (started === null) {
      // Stopped before it ran. Should it still start, it has to stop at once.
      starting.then((handle) => handle.stop()).catch(() => {});
      return this.#result({ kind: "stopped" });
    }
    this.handle = started;
    started.onTrouble = (sentence) => this.#say(sentence);
    if (!this.request.quiet) { for (const note of started.notes) this.#say(note); }
    if (this.#reason) started.stop();
    this.#attachPorts(started);
    started.ended.then(
      (end) => this.#finished.resolve(end),
      (error) =>
        this.#finished.resolve({
          kind: "host-error",
          error: error instanceof Error ? error : new Error(String(error)),
        }),
    );
    const end = await this.#finished.promise;
    await this.#closePorts();
    await this.#debugCopied;
    return this.#result(end);
  }

  facts(): { engine: string; wallSeconds: number; end: string } {
    return { engine: this.spec.engine, wallSeconds: performance.now() / 1000, end: this.#end?.kind ?? "stopped" };
  }

  /** Lets go of everything at once, above all of the terminal's mode. */
  abandon(): void {
    for (const timer of this.#timers.splice(0)) clearTimeout(timer);
    for (const [signal, listener] of this.#signals.splice(0)) Deno.removeSignalListener(signal, listener);
    for (const backEnd of this.#backEnds.splice(0)) backEnd.abandon();
  }

  async #openPorts(): Promise<void> {
    for (const [index, serial] of this.spec.serial.entries()) {
      if (serial.kind === "stdio") {
        this.#terminal = new Terminal({
          onLeave: () => this.#stop({ status: Status.OK, text: null }),
          onSave: () => this.#save(false),
          onLost: (error) => this.#stop({ status: Status.HOST, text: error.message }),
          // A serial line cannot tell a size, so the guest is told by way of its virtio console.
          onResize: (columns, rows) => this.handle?.console.resize(columns, rows),
        });
      }
      const parts = { terminal: this.#terminal, say: (line: string) => this.#say(line) };
      this.#backEnds.push(await openSerial(serial, index + 1, parts));
    }
  }

  #attachPorts(handle: MachineHandle): void {
    if (this.vnc && handle.screen) {
      this.vnc.serve(handle.screen, "trike");
      if (!this.request.quiet) this.#say(`VNC at ${this.request.vnc!.address} port ${this.vnc.port}`);
    }
    if (this.debugcon && handle.debug) {
      this.#debugCopied = this.#copyDebug(handle.debug, this.debugcon).catch((error) => this.#say(messageOf(error)));
    }
    for (const [index, port] of handle.serial.entries()) {
      const { tx, rx } = port;
      const ends = { tx, rx, notifyInput: () => port.notifyInput() };
      this.#backEnds[index] ??= new NoSerial();
      this.#backEnds[index].attach(index === 0 ? { ...ends, onOutput: (bytes) => this.#seeOutput(bytes) } : ends);
      if (index === 0) this.named?.console.attach(ends);
    }
  }

  #seeOutput(bytes: Uint8Array): void {
    this.watch.see(bytes);
    this.named?.console.see(bytes);
  }

  /** Copies the debug console into its file, to the end. */
  async #copyDebug(ring: ByteRing, file: Deno.FsFile): Promise<void> {
    for (;;) {
      await ring.whenReadable();
      if (ring.available === 0 && ring.closed) return;
      writeOutput(file, "--debugcon", this.request.debugcon!, ring.read());
    }
  }

  /** Lets the last output out: all of it if the guest ended by itself, else as much as flows within DRAIN_MS. */
  async #closePorts(): Promise<void> {
    const closing = Promise.all(this.#backEnds.map((backEnd) => backEnd.close()));
    const forced = Promise.withResolvers<void>();
    if (this.#reason) this.#after(DRAIN_MS, forced.resolve);
    else this.#onStop = forced.resolve;
    await Promise.race([closing, forced.promise]);
    for (const backEnd of this.#backEnds) backEnd.abandon();
  }

  /** Set while the only thing left to stop is the output. */
  #onStop: (() => void) | null = null;

  #signalled(status: number, name: string): void {
    const reason = { status, text: null };
    if (this.request.snapshotOnExit !== null) return this.#stop(reason);
    if (this.#onStop || this.handle === null || this.#button === "pressed") return this.#stop(reason);
    this.#button = "pressed";
    this.#say(`${name}: pressed the power button; again to stop the machine at once`);
    this.handle.pressPowerButton();
    this.#after(
      POWER_OFF_MS,
      () => this.#stop({ status, text: `the guest did not power off within ${POWER_OFF_MS / 1000} s` }),
    );
  }

  #stop(reason: Reason): void {
    const first = this.#reason === null;
    this.#reason ??= reason;
    if (this.#onStop) return this.#onStop();
    if (this.handle === null) return this.#finished.resolve({ kind: "stopped" });
    // Asked a second time, it stops at once.
    if (first && this.request.snapshotOnExit !== null && this.handle.snapshot) return this.#save(true);
    this.handle.stop();
    this.#after(STOP_MS, () => this.#finished.resolve({ kind: "stopped" }));
  }

  /** Saves the machine; it goes on, or stops whether that went well or not. */
  #save(stop: boolean): void {
    const { snapshotOnExit, snapshotCompress: compress } = this.request;
    const path = snapshotOnExit ?? DEFAULT_SNAPSHOT, handle = this.handle;
    if (!handle?.snapshot) return this.#say("this machine cannot be saved");
    handle.snapshot(path, { compress, stop }).then(
      ({ bytes }) => {
        const size = `${(bytes / (1 << 20)).toFixed(1)} MiB`;
        const disks = !stop && this.spec.disks.some((disk) => !disk.readonly && !disk.overlay);
        const but = disks ? "; it fits no disk that the guest writes to from now on" : "";
        this.#say(`saved to "${path}", ${size}${but}; go on with: trike resume ${path}`);
      },
      (error) => {
        this.#say(messageOf(error));
        if (stop) this.#reason = { status: Status.HOST, text: null };
      },
    ).finally(() => {
      if (!stop) return;
      handle.stop();
      this.#after(STOP_MS, () => this.#finished.resolve({ kind: "stopped" }));
    });
  }

  #result(end: MachineEnd): number {
    this.#end = end;
    this.#over.resolve(end);
    if (end.kind === "stopped") {
      const reason = this.#reason ?? { status: Status.OK, text: null };
      if (reason.text !== null) this.#say(reason.text);
      else if (this.#terminal?.midLine) this.#newLine();
      return reason.status;
    }
    switch (end.kind) {
      case "poweroff":
      case "reset":
        if (this.#terminal?.midLine) this.#newLine();
        return Status.OK;
      case "died":
        this.#say(`the guest died: ${oneLine(end.message)}`);
        return Status.DIED;
      case "debug-exit":
        return ((end.code << 1) | 1) & 255;
      case "host-error":
        this.#say(oneLine(messageOf(end.error)));
        return end.error instanceof ConfigError ? Status.CONFIG : Status.HOST;
    }
  }

  #newLine(): void {
    Deno.stderr.writeSync(new TextEncoder().encode("\n"));
  }

  #say(line: string): void {
    if (this.#terminal?.midLine) this.#newLine();
    this.parts.say(line);
  }

  #after(ms: number, run: () => void): void {
    this.#timers.push(setTimeout(run, ms));
  }

  #onSignal(signal: Deno.Signal, listener: () => void): void {
    Deno.addSignalListener(signal, listener);
    this.#signals.push([signal, listener]);
  }
}

/** Text from the guest's side as one line that cannot move the cursor. */
function oneLine(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replace(/[\s\x00-\x1f\x7f-\x9f]+/g, " ").trim();
}

function json(run: Run): Uint8Array {
  return new TextEncoder().encode(statsJson(run.handle!, run.watch, run.facts()));
}

function openOutput(flag: string, path: string): Deno.FsFile {
  try {
    return Deno.openSync(path, { write: true, create: true, truncate: true });
  } catch (error) {
    throw new HostError(`Cannot open ${flag} "${path}": ${messageOf(error)}`, { cause: error });
  }
}

function writeText(flag: string, path: string, text: string): void {
  const file = openOutput(flag, path);
  try {
    writeOutput(file, flag, path, new TextEncoder().encode(text));
  } finally {
    file.close();
  }
}

function removeIfThere(path: string): void {
  try {
    Deno.removeSync(path);
  } catch {
    // Somebody removed it for us.
  }
}

function writeOutput(file: Deno.FsFile, flag: string, path: string, bytes: Uint8Array): void {
  try {
    for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
  } catch (error) {
    throw new HostError(`Cannot write ${flag} "${path}": ${messageOf(error)}`, { cause: error });
  }
}
