/**
 * A machine as the command line sees it: starts the Workers, watches over them, restarts the guest when it resets itself, and
 * says how it all ended.
 */
import { Bug, ConfigError, HostError, messageOf } from "../base/errors.ts";
import type { ByteRing } from "../base/ring.ts";
import type { HostChips, InitialState } from "../engine/engine.ts";
import { CompilerThread } from "../engine/soft/compiler_thread.ts";
import { lookForFileCalls } from "../host/disk/open.ts";
import type { Screen } from "../host/screen.ts";
import { bootPc } from "./boot.ts";
import { EndCause, NetBell, RunState } from "./control.ts";
import { checkDisks, lockDisks } from "./disks.ts";
import type { EngineImages } from "./engine_images.ts";
import { attachHostChips } from "./host_chips.ts";
import type { MachineEnd, MachineHandle, SnapshotOptions } from "./handle.ts";
import { Lifecycle, type LifeState, type MachineSnapshot, restoreMachine, saveMachine } from "./lifecycle.ts";
import { Media } from "./media.ts";
import { allocateMachineMemory, MAX_RAM_BYTES } from "./memory.ts";
import { assemblePc, type Pc, type PcOptions } from "./pc.ts";
import { readRoms } from "./roms.ts";
import type { Snapshot, SnapshotFacts } from "./snapshot.ts";
import type { MachineSpec, PublishSpec } from "./spec.ts";
import { prepareTrace } from "./trace.ts";
import { VarsKeeper } from "./vars_keeper.ts";
import { SnapshotLayers } from "./snapshot_layers.ts";
import { type Balloon, checkServices, serviceNotes, Services } from "./services.ts";
import { screenOf } from "./video.ts";
import { keepImages, openVcpus } from "./vcpu_images.ts";
import { BackEndWorker, type PublishRequest, VcpuWorker, within, type WorkerEnd } from "./workers.ts";

export interface StartOptions {
  /** The module of the vCPU's Worker, if it is not trike's own: it calls `serveVcpu`. */
  readonly vcpuWorker?: URL;
  /** Puts the guest into RAM, at start and after each reset; `bootPc` if it is not given. */
  readonly boot?: (pc: Pc, spec: MachineSpec) => InitialState;
  /** Where images of engines are kept; without it, each start makes them. */
  readonly images?: EngineImages | null;
  /** What the machine goes on from, instead of starting; it is closed when it has been read. */
  readonly snapshot?: Snapshot;
}

/** How long a vCPU or a disk may take to come to rest before its Worker is terminated. */
const REST_MS = 5000;

/** Starts a machine; resolves once the guest runs. Rejects with ConfigError or HostError if it cannot. */
export async function startMachine(spec: MachineSpec, options: StartOptions = {}): Promise<Machine> {
  await lookForFileCalls();
  const machine = new Machine(spec, options);
  await machine.start();
  return machine;
}

export class Machine implements MachineHandle {
  readonly serial: { tx: ByteRing; rx: ByteRing; notifyInput(): void }[];
  readonly ended: Promise<MachineEnd>;
  readonly notes: readonly string[];
  readonly console: MachineHandle["console"];
  onTrouble: (sentence: string) => void = () => {};
  readonly pc: Pc;
  readonly media: Media;

  readonly #spec: MachineSpec;
  readonly #boot: (pc: Pc, spec: MachineSpec) => InitialState;
  readonly #snapshot: Snapshot | null;
  readonly #life = new Lifecycle();
  readonly #vcpus: VcpuWorker[] = [];
  readonly #memory: WebAssembly.Memory;
  readonly #parts: PcOptions;
  readonly #images: EngineImages | null;
  /** Compiles for all vCPUs of the software CPU, if there are several. */
  #compiler: CompilerThread | null = null;
  #kept: Promise<unknown> = Promise.resolve();
  #chips: HostChips | null = null;
  #disks: BackEndWorker | null = null;
  /** Nobody else writes to the disks' files while the machine lives. */
  #locks: ({ release(): void } | null)[] = [];
  #net: BackEndWorker | null = null;
  #services: Services | null = null;
  #vars: VarsKeeper | null = null;
  #resolveEnded!: (end: MachineEnd) => void;
  #startedMs = performance.now();
  #reboots = 0;
  #stopAsked = false;
  #wallSeconds: number | null = null;

  constructor(spec: MachineSpec, options: StartOptions) {
    this.#spec = spec;
    this.#boot = options.boot ?? bootPc;
    this.#snapshot = options.snapshot ?? null;
    this.#images = options.images ?? null;
    this.ended = new Promise((resolve) => this.#resolveEnded = resolve);
    if (!(spec.memoryBytes > 0 && spec.memoryBytes <= MAX_RAM_BYTES)) {
      throw new ConfigError(
        `Cannot give a machine ${spec.memoryBytes} bytes of memory: expected 1 to ${MAX_RAM_BYTES}`,
      );
    }
    if (spec.icount && spec.cpus > 1) {
      throw new ConfigError(`Cannot count instructions (--icount) on ${spec.cpus} processors: expected --cpus 1`);
    }
    if (spec.icount && spec.net) {
      throw new ConfigError("Cannot count instructions (--icount) with --net: expected none");
    }
    checkServices(spec);
    // Workers first: their modules load, and the engine makes its code, while this thread does the rest.
    const onTrouble = (sentence: string) => this.onTrouble(sentence);
    const url = options.vcpuWorker ?? new URL("./vcpu_worker.ts", import.meta.url);
    try {
      for (let i = 0; i < spec.cpus; i++) this.#vcpus.push(new VcpuWorker(url, i, onTrouble));
      const compiles = spec.engine === "soft" && spec.tiers !== 1 && !spec.native;
      if (compiles && spec.cpus > 1) this.#compiler = new CompilerThread(onTrouble);
      const disks = checkDisks(spec.disks);
      this.#locks = lockDisks(spec.disks);
      this.notes = [...disks.flatMap(({ note }) => note ?? []), ...serviceNotes(spec)];
      prepareTrace(spec);
      const roms = readRoms(spec);
      const memory = this.#memory = allocate(spec.memoryBytes, roms.extraBytes);
      const parts: PcOptions = this.#parts = { memory, spec, disks, ...roms.options };
      this.pc = assemblePc(parts);
      roms.load(this.pc);
      const kept = spec.firmware?.vars ? this.pc.firmware?.vars : null;
      if (kept) this.#vars = new VarsKeeper(spec.firmware!.vars!, kept.bytes, kept.changes, onTrouble);
      this.pc.powerOn();
      const { control } = this.pc;
      const backEnd = (name: string, title: string, module: URL, quit: () => void) =>
        new BackEndWorker(parts, { name, title, module, quit }, onTrouble);
      if (disks.length > 0 && !spec.icount) {
        const module = new URL("./disk_worker.ts", import.meta.url);
        this.#disks = backEnd("disks", "Disk worker", module, () => control.quitDisks());
      }
      if (spec.net) {
        const module = new URL("./net_worker.ts", import.meta.url);
        this.#net = backEnd("net", "Network worker", module, () => control.quitNet());
      }
      this.media = new Media(
        {
          pc: this.pc,
          withDevices: (body) => this.#withDevices(body),
          exchanges: this.#disks !== null,
          release: (disk) => this.#locks.splice(disk, 1, null)[0]?.release(),
        },
        spec.disks,
        disks,
      );
      const savedShares = options.snapshot?.machine.shares;
      this.#services = new Services(
        { ...parts, ...savedShares ? { savedShares } : {} },
        this.pc,
        onTrouble,
        (body) => this.#withDevices(body),
      );
    } catch (error) {
      this.#terminate();
      throw error;
    }
    this.serial = this.pc.serial.map(({ uart, tx, rx }) => ({
      tx,
      rx,
      notifyInput: () => this.#withDevices(() => uart.receive()),
    }));
    const { device, tx, rx, attach } = this.pc.console;
    this.console = {
      tx,
      rx,
      attach,
      notifyInput: () => this.#withDevices(() => device.process()),
      resize: (columns, rows) => this.#withDevices(() => device.resize(columns, rows)),
    };
  }

  /** Loads the guest and lets it run. Once. */
  async start(): Promise<void> {
    try {
      await openVcpus(this.#vcpus, this.#parts, this.#images, this.#compiler);
      this.#chips = await attachHostChips(this.pc, this.#spec, this.#memory);
      // Read while the Workers get ready; nothing runs yet that could want the lock.
      const state = this.#snapshot ? this.#load(this.#snapshot) : this.#boot(this.pc, this.#spec);
      await Promise.all([
        ...this.#vcpus.map((v) => v.ready),
        this.#disks?.ready,
        this.#net?.ready,
        this.#services?.ready,
      ]);
      if (state === "restored") await this.#restoreVcpus();
      this.#go(state);
      this.#kept = keepImages(this.#vcpus, this.#parts.spec, this.#images);
    } catch (error) {
      this.#terminate();
      throw error;
    }
  }

  get screen(): Screen | null {
    return screenOf(this.pc, (body) => this.#withDevices(body));
  }

  get balloon(): Balloon | null {
    return this.#services?.balloon ?? null;
  }

  get debug(): ByteRing {
    return this.pc.debugTx;
  }

  get state(): LifeState {
    return this.#life.state;
  }

  pressPowerButton(): void {
    this.#withDevices(() => this.pc.acpiPm.pressPowerButton());
  }

  /** Runs `body` under the machine lock, unless the machine has ended: a Worker that was terminated may have held it. */
  #withDevices(body: () => void): void {
    if (this.#life.state !== "ended") this.pc.lock.with(body);
  }

  async publish(request: PublishRequest): Promise<readonly PublishSpec[]> {
    if (this.#spec.net?.kind !== "user" || !this.#net) {
      throw new HostError("Cannot publish ports of this machine: expected one with --net user");
    }
    return (await this.#net.askNet(request)).published;
  }

  async link(up?: boolean): Promise<boolean> {
    if (!this.#net) throw new HostError("This machine has no network card: expected one with --net");
    return (await this.#net.askNet({ action: "link", ...up === undefined ? {} : { up } })).linkUp;
  }

  stop(): void {
    this.#stopAsked = true;
    this.pc.control.end(EndCause.STOPPED);
  }

  /** Stops time and everything that moves by itself. False if the machine ended instead. */
  async pause(): Promise<boolean> {
    if (!this.#life.may("paused")) return false;
    const { control, clock } = this.pc;
    if (!control.change(RunState.RUN, RunState.PAUSE)) return false;
    await control.whenParked();
    await this.#whenBackEndsIdle();
    if (control.state !== RunState.PAUSE) return false;
    // The kernel's timers go on for as long as guest time does: then nothing is lost or gained between them.
    this.#withDevices(() => this.#chips?.store());
    clock.stop();
    this.#life.to("paused");
    return true;
  }

  resume(): boolean {
    if (this.#life.state !== "paused") return false;
    this.pc.clock.start();
    this.pc.lock.with(() => {
      this.#chips?.load();
      this.pc.renotify();
    });
    if (this.#net) this.pc.control.releaseNet();
    this.#services?.release(false);
    this.#life.to("running");
    return this.pc.control.change(RunState.PAUSE, RunState.RUN);
  }

  async snapshot(path: string, { compress, stop }: SnapshotOptions): Promise<SnapshotFacts> {
    const { control } = this.pc;
    const cannot = (why: string) => new HostError(`Cannot write the snapshot "${path}": ${why}`);
    if (!this.#vcpus.every((v) => v.saves)) throw cannot(`the engine ${this.#spec.engine} cannot save a vCPU`);
    const overlay = this.#spec.disks.find((disk) => disk.overlay);
    if (overlay && !this.#disks) throw cannot(`what was written to "${overlay.path}" is lost with --icount`);
    const { writeSnapshot } = await import("./snapshot.ts");
    if (!(await this.pause())) throw cannot("the machine has ended, or is being saved already");
    const pausedMs = performance.now();
    let layers: SnapshotLayers | null = null;
    try {
      if (!(await control.saveVcpus())) throw cannot("the machine has ended");
      const shares = await this.#services!.saveShares();
      layers = await SnapshotLayers.save(path, control, this.media.applyTo(this.#spec));
      // What an image remembers until it is closed goes into its file before that is looked at.
      if (stop) await within(REST_MS, this.#disks?.close() ?? Promise.resolve());
      const facts = writeSnapshot(path, this.pc, layers.spec, { compress, disks: layers.identities, shares });
      layers.finish();
      return facts;
    } finally {
      layers?.abandon();
      if (stop) this.stop();
      else this.#afterPause(performance.now() - pausedMs);
    }
  }

  #afterPause(ms: number): void {
    if (!this.#spec.icount) this.#withDevices(() => this.pc.skipWallTime(ms));
    this.resume();
  }

  #load(snapshot: Snapshot): "restored" {
    try {
      snapshot.load(this.pc);
    } finally {
      snapshot.close();
    }
    return "restored";
  }

  async #restoreVcpus(): Promise<void> {
    if (!this.#vcpus.every((v) => v.saves)) {
      throw new HostError(`Cannot resume the machine: the engine ${this.#spec.engine} cannot restore a vCPU`);
    }
    await Promise.all(this.#vcpus.map((v) => v.restore()));
  }

  /** Copies the devices and the memory of a paused machine. */
  save(): MachineSnapshot {
    this.#mustBePaused();
    return this.pc.lock.with(() => saveMachine(this.pc));
  }

  /** Gives a paused machine the devices and the memory of a snapshot. Throws RestoreError. */
  restore(snapshot: MachineSnapshot): void {
    this.#mustBePaused();
    this.pc.lock.with(() => restoreMachine(this.pc, snapshot));
    this.pc.control.ringNet(NetBell.RESET);
  }

  stats(): Record<string, unknown> {
    const { counters, clock } = this.pc;
    const vcpus = this.#vcpus.map((v) => v.stats);
    return {
      engine: this.#spec.engine,
      wallSeconds: this.#wallSeconds ?? (performance.now() - this.#startedMs) / 1000,
      guestSeconds: clock.nowNs() / 1e9,
      instructions: vcpus.reduce((n, s) => n + (s.instructions ?? 0), 0),
      exits: counters.exits(),
      interrupts: counters.interrupts(),
      reboots: this.#reboots,
      vcpus,
    };
  }

  #mustBePaused(): void {
    if (this.#life.state !== "paused") throw new Bug(`A machine that is ${this.#life.state} has no state to copy`);
  }

  #go(state: InitialState | "restored"): void {
    const { control, clock } = this.pc;
    if (this.#stopAsked) control.end(EndCause.STOPPED);
    this.#life.to("running");
    this.pc.lock.with(() => this.#wake(state));
    clock.start();
    this.pc.lock.with(() => this.#chips?.load());
    if (this.#net) control.releaseNet();
    this.#services?.release(state !== "restored");
    // An end that was asked for already leaves the state as it is, and the vCPUs leave as soon as they come.
    if (control.endCause === EndCause.NONE) control.change(RunState.LEAVE, RunState.RUN);
    const left = this.#vcpus.map((v, i) => v.run(i === 0 || state === "restored" ? state : null));
    this.#watch(left).catch((error) => this.#finish({ kind: "host-error", error: asError(error) }));
  }

  /** What a machine is told first, under the machine lock: the time, or what waited when it was saved. */
  #wake(state: InitialState | "restored"): void {
    this.media.settle();
    if (state === "restored") this.pc.renotify();
    else this.pc.setWallTime();
  }

  /** Waits for the guest's end and acts on it. */
  async #watch(left: Promise<WorkerEnd>[]): Promise<void> {
    const { control } = this.pc;
    // Any of them ends the machine; then the others are to leave soon.
    const first = await Promise.race([...left, ...this.#backEnds.map((b) => b.failed)]);
    control.end(EndCause.HOST_ERROR);
    const all = await within(REST_MS, Promise.all(left));
    if (all === null) {
      const error = new HostError(`A vCPU did not stop within ${REST_MS / 1000} s`);
      return this.#finish(control.endCause === EndCause.STOPPED ? { kind: "stopped" } : { kind: "host-error", error });
    }
    const failed = [first, ...all].find((e) => e.failed !== null)?.failed;
    if (failed) return this.#finish({ kind: "host-error", error: new HostError(failed) });
    const died = all.find((e) => e.died !== null)?.died;
    await this.#whenBackEndsIdle();
    switch (control.endCause) {
      case EndCause.POWEROFF:
        return this.#finish({ kind: "poweroff" });
      case EndCause.RESET:
        return this.#spec.noReboot ? this.#finish({ kind: "reset" }) : this.#reboot();
      case EndCause.SHUTDOWN:
        return this.#finish({ kind: "died", message: died ?? "triple fault" });
      case EndCause.PANIC:
        return this.#finish({ kind: "died", message: `guest panic, vCPU 0 at ${all[0]!.where}` });
      case EndCause.DEBUG_EXIT:
        return this.#finish({ kind: "debug-exit", code: control.endCode });
      case EndCause.HOST_ERROR:
        return this.#finish({ kind: "host-error", error: new HostError(died ?? "A Worker stopped") });
      default:
        return this.#finish({ kind: "stopped" });
    }
  }

  /** Host I/O ends in its own time. Where vCPUs serve the disks, it has. */
  async #whenBackEndsIdle(): Promise<void> {
    if (this.#disks) await Promise.race([this.pc.control.whenDisksIdle(), this.#disks.failed]);
    if (this.#net) await Promise.race([this.pc.control.holdNet(), this.#net.failed]);
    await this.#services?.hold();
  }

  get #backEnds(): BackEndWorker[] {
    return [this.#disks, this.#net, ...this.#services?.workers ?? []].filter((b) => b !== null);
  }

  #reboot(): Promise<void> | void {
    if (this.#stopAsked) return this.#finish({ kind: "stopped" });
    this.#life.to("resetting");
    const { clock, lock } = this.pc;
    this.#reboots++;
    clock.stop();
    lock.with(() => {
      this.#chips?.store();
      this.pc.powerOn();
    });
    this.pc.control.ringNet(NetBell.RESET);
    this.#go(this.#boot(this.pc, this.#spec));
  }

  async #finish(end: MachineEnd): Promise<void> {
    if (this.#life.state === "ended") return;
    this.#life.to("ended");
    this.pc.clock.stop();
    this.#wallSeconds = (performance.now() - this.#startedMs) / 1000;
    await within(REST_MS, Promise.all([this.#kept, ...this.#backEnds.map((b) => b.close())]));
    this.#terminate();
    for (const { tx, rx } of this.serial) {
      tx.close();
      rx.close();
    }
    this.pc.debugTx.close();
    this.#resolveEnded(end);
  }

  #terminate(): void {
    this.#vars?.close();
    this.#services?.close();
    for (const v of this.#vcpus) v.terminate();
    this.#compiler?.terminate();
    for (const b of this.#backEnds) b.terminate();
    for (const lock of this.#locks.splice(0)) lock?.release();
    this.media?.close();
  }
}

function allocate(bytes: number, extraBytes: number): WebAssembly.Memory {
  try {
    return allocateMachineMemory(bytes, extraBytes);
  } catch (error) {
    throw new HostError(`Cannot allocate ${bytes} bytes of guest memory: ${messageOf(error)}`, { cause: error });
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(messageOf(error));
}
