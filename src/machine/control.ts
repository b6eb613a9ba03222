/**
 * The words by which the threads of a machine steer each other: run state, events of each vCPU, disk doorbells, the end.
 *
 * No snapshot holds them. Every word may be touched without the machine lock.
 */
import type { Arena } from "../base/arena.ts";
import { VcpuEvent } from "../engine/engine.ts";
import { MAX_DISKS } from "./spec.ts";

/** What vCPUs are to do. */
export const RunState = { LEAVE: 0, RUN: 1, PAUSE: 2, SAVE: 3 } as const;

/** Why a machine came to its end: the first cause counts. */
export const EndCause = {
  NONE: 0,
  POWEROFF: 1,
  RESET: 2,
  STOPPED: 3,
  SHUTDOWN: 4,
  PANIC: 5,
  DEBUG_EXIT: 6,
  HOST_ERROR: 7,
} as const;
export type EndCause = typeof EndCause[keyof typeof EndCause];

/** What the network's worker is to look at; TRANSMIT is that of the first pair of queues, the others' follow. */
export const NetBell = { RECEIVE: 1 << 0, CONTROL: 1 << 1, RESET: 1 << 2, TRANSMIT: 1 << 8 } as const;
const ALL_TRANSMIT = 0xff * NetBell.TRANSMIT;

/** What the disks' Worker may be asked for beside requests of the guest's. */
export const DiskTask = { MEDIUM: 1, OVERLAY: 2 } as const;
export type DiskTask = typeof DiskTask[keyof typeof DiskTask];

const STATE = 0;
const END_CAUSE = 1;
const END_CODE = 2;
const PARKED = 3;
const SAVED = 4;
const DISK_DOORBELL = 16; // a cache line of its own: the disk worker waits here
const DISK_DONE = 17; // the doorbell count up to which every request has completed
const DISK_QUIT = 18;
const DISK_TASK = 19; // a DiskTask
const DISK_TASK_DISK = 20; // the disk it is about
const DISK_TASK_BYTES = 21; // of the name of a file; 0 for none
const DISK_TASK_DONE = 22; // 1 once it has been carried out, 2 if the host refused
const DISK_PENDING = 32; // one word a disk, a bit a queue
const NET_DOORBELL = DISK_PENDING + MAX_DISKS; // a cache line of its own: the network's worker waits here
const NET_PENDING = NET_DOORBELL + 1; // NetBell bits
const NET_HOLD = NET_DOORBELL + 2;
const NET_HELD = NET_DOORBELL + 3;
const NET_QUIT = NET_DOORBELL + 4;
const CONTROL_WORDS = NET_DOORBELL + 16;
/** Of a path, in bytes. */
const MAX_TASK_NAME = 4096;
/** Each vCPU's event word has a cache line of its own, with the count of its rises beside it. */
const EVENT_STRIDE = 16;
const RISES = 1;

export class Control {
  readonly #words: Int32Array;
  /** vCPU i's event word is `events[eventsIndex(i)]`. */
  readonly events: Int32Array;
  /** The name of a file that a task is about. */
  readonly #taskName: Uint8Array;
  #lastTask: Promise<unknown> = Promise.resolve();
  /** [0]: guest time at which vCPU 0 will look at the timers of its own accord. */
  readonly #untilNs: Float64Array;

  /** Called in the thread that has raised an event of a vCPU, after that. */
  onRise: (vcpu: number) => void = () => {};

  /** Called in the thread that has rung the disks' doorbell, after that. */
  onDiskRing: () => void = () => {};

  constructor(arena: Arena, readonly cpus: number) {
    this.#words = new Int32Array(arena.buffer, arena.raw(CONTROL_WORDS * 4), CONTROL_WORDS);
    this.events = new Int32Array(arena.buffer, arena.raw(cpus * EVENT_STRIDE * 4), cpus * EVENT_STRIDE);
    this.#untilNs = new Float64Array(arena.buffer, arena.raw(8), 1);
    this.#taskName = new Uint8Array(arena.buffer, arena.raw(MAX_TASK_NAME), MAX_TASK_NAME);
  }

  /** For the thread that powers the machine on, while no vCPU runs. */
  powerOn(): void {
    this.#words.fill(0, 0, DISK_DOORBELL);
    this.events.fill(0);
    this.#untilNs[0] = 0;
  }

  eventsIndex(vcpu: number): number {
    return vcpu * EVENT_STRIDE;
  }

  /** Sets event bits of a vCPU and wakes it if it waits. */
  raise(vcpu: number, bits: number): void {
    const i = vcpu * EVENT_STRIDE;
    const old = Atomics.or(this.events, i, bits);
    // What is set already, the vCPU has yet to see, or it has seen it and masks it.
    if ((old & bits) !== bits) this.#rise(i);
  }

  #rise(i: number): void {
    Atomics.add(this.events, i + RISES, 1);
    Atomics.notify(this.events, i + RISES);
    this.onRise(i / EVENT_STRIDE);
  }

  /** How often an event of a vCPU has risen. The word alone cannot tell one interrupt from the next. */
  rises(vcpu: number): number {
    return Atomics.load(this.events, vcpu * EVENT_STRIDE + RISES);
  }

  /** Blocks a vCPU until an event has risen after `rises` were counted, or `ms` have passed. True: an event. */
  waitEvent(vcpu: number, rises: number, ms = Infinity): boolean {
    return Atomics.wait(this.events, vcpu * EVENT_STRIDE + RISES, rises, ms) !== "timed-out";
  }

  lower(vcpu: number, bits: number): void {
    const i = vcpu * EVENT_STRIDE;
    // A change of the word is what a waiter looks for, so one that takes bits away need not wake it.
    if ((Atomics.load(this.events, i) & bits) !== 0) Atomics.and(this.events, i, ~bits);
  }

  /** INIT: a start-up IPI that has not been taken by then is lost. */
  initialize(vcpu: number): void {
    this.lower(vcpu, VcpuEvent.SIPI | VcpuEvent.SIPI_VECTOR);
    this.raise(vcpu, VcpuEvent.INIT);
  }

  /** A start-up IPI: its vector is in bits 8..15, and appears together with the bit that announces it. */
  startUp(vcpu: number, vector: number): void {
    const i = vcpu * EVENT_STRIDE;
    for (;;) {
      const old = Atomics.load(this.events, i);
      const next = (old & ~VcpuEvent.SIPI_VECTOR) | ((vector & 0xff) << 8) | VcpuEvent.SIPI;
      if (Atomics.compareExchange(this.events, i, old, next) === old) break;
    }
    this.#rise(i);
  }

  kickAll(): void {
    for (let i = 0; i < this.cpus; i++) this.raise(i, VcpuEvent.KICK);
  }

  get state(): number {
    return Atomics.load(this.#words, STATE);
  }

  /** Changes the state if it is still `from`: an end that came in between stands. */
  change(from: number, to: number): boolean {
    if (Atomics.compareExchange(this.#words, STATE, from, to) !== from) return false;
    Atomics.notify(this.#words, STATE);
    this.kickAll();
    return true;
  }

  /** Asks for the end of the machine; vCPUs leave. False if it is ending already. */
  end(cause: EndCause, code = 0): boolean {
    if (Atomics.compareExchange(this.#words, END_CAUSE, EndCause.NONE, cause) !== EndCause.NONE) return false;
    Atomics.store(this.#words, END_CODE, code | 0);
    Atomics.store(this.#words, STATE, RunState.LEAVE);
    Atomics.notify(this.#words, STATE);
    Atomics.notify(this.#words, PARKED); // whoever waits for a pause that will not come
    this.kickAll();
    return true;
  }

  get endCause(): EndCause {
    return Atomics.load(this.#words, END_CAUSE) as EndCause;
  }

  get endCode(): number {
    return Atomics.load(this.#words, END_CODE);
  }

  /** Blocks a vCPU while the machine is paused; `save` copies its state out, each time that is asked for meanwhile. */
  park(save: () => void = () => {}): void {
    Atomics.add(this.#words, PARKED, 1);
    Atomics.notify(this.#words, PARKED);
    for (let state = this.state; state === RunState.PAUSE || state === RunState.SAVE; state = this.state) {
      if (state === RunState.SAVE) {
        save();
        Atomics.add(this.#words, SAVED, 1);
        Atomics.notify(this.#words, SAVED);
      }
      Atomics.wait(this.#words, STATE, state);
    }
    Atomics.sub(this.#words, PARKED, 1);
    Atomics.notify(this.#words, PARKED);
  }

  /** Lets every vCPU of a paused machine save its state. False if the machine has ended instead. */
  async saveVcpus(): Promise<boolean> {
    Atomics.store(this.#words, SAVED, 0);
    if (!this.change(RunState.PAUSE, RunState.SAVE)) return false;
    for (;;) {
      const saved = Atomics.load(this.#words, SAVED);
      if (saved >= this.cpus || this.state !== RunState.SAVE) break;
      await Atomics.waitAsync(this.#words, SAVED, saved, 100).value;
    }
    return this.change(RunState.SAVE, RunState.PAUSE);
  }

  /** Resolves once every vCPU is parked, or the machine is no longer to pause. */
  async whenParked(): Promise<void> {
    for (;;) {
      const parked = Atomics.load(this.#words, PARKED);
      if (parked === this.cpus || this.state !== RunState.PAUSE) return;
      await Atomics.waitAsync(this.#words, PARKED, parked, 100).value;
    }
  }

  /** vCPU 0 says until when it will not look at the timers. */
  set untilNs(ns: number) {
    this.#untilNs[0] = ns;
  }
  get untilNs(): number {
    return this.#untilNs[0]!;
  }

  /** A disk's queue has requests. */
  ringDisk(disk: number, queue: number): void {
    Atomics.or(this.#words, DISK_PENDING + disk, 1 << queue);
    this.#ringDisks();
  }

  #ringDisks(): void {
    Atomics.add(this.#words, DISK_DOORBELL, 1);
    Atomics.notify(this.#words, DISK_DOORBELL);
    this.onDiskRing();
  }

  /** Takes the queues of a disk that have rung, as bits. */
  takeDisk(disk: number): number {
    return Atomics.exchange(this.#words, DISK_PENDING + disk, 0);
  }

  get diskDoorbell(): number {
    return Atomics.load(this.#words, DISK_DOORBELL);
  }

  /** The disk worker has completed everything asked for up to `doorbell`. */
  diskDone(doorbell: number): void {
    Atomics.store(this.#words, DISK_DONE, doorbell);
    Atomics.notify(this.#words, DISK_DONE);
  }

  get diskServed(): number {
    return Atomics.load(this.#words, DISK_DONE);
  }

  /** Blocks the disk worker until a doorbell rings. */
  waitDisk(doorbell: number): void {
    Atomics.wait(this.#words, DISK_DOORBELL, doorbell);
  }

  /** Resolves once the disk worker has nothing left to do, and nothing in memory that belongs in files; vCPUs no longer run. */
  async whenDisksIdle(): Promise<void> {
    this.#ringDisks();
    for (;;) {
      const done = Atomics.load(this.#words, DISK_DONE);
      if (done === this.diskDoorbell) return;
      await Atomics.waitAsync(this.#words, DISK_DONE, done, 100).value;
    }
  }

  /**
   * Has the disk worker put another medium into a drive, or none; resolves with whether the host let it. The guest must not be
   * reading.
   */
  exchangeMedium(disk: number, path: string | null): Promise<boolean> {
    return this.#askDisks(DiskTask.MEDIUM, disk, path);
  }

  /** Has the disk worker write what a disk's overlay holds into a file; resolves with whether the host let it. */
  saveOverlay(disk: number, path: string): Promise<boolean> {
    return this.#askDisks(DiskTask.OVERLAY, disk, path);
  }

  /** One after the other. */
  #askDisks(task: DiskTask, disk: number, path: string | null): Promise<boolean> {
    const asked = this.#lastTask.then(() => this.#askNow(task, disk, path));
    this.#lastTask = asked;
    return asked;
  }

  async #askNow(task: DiskTask, disk: number, path: string | null): Promise<boolean> {
    const w = this.#words, name = new TextEncoder().encode(path ?? "");
    if (name.length > MAX_TASK_NAME) return false;
    this.#taskName.set(name);
    Atomics.store(w, DISK_TASK_DISK, disk);
    Atomics.store(w, DISK_TASK_BYTES, name.length);
    Atomics.store(w, DISK_TASK_DONE, 0);
    Atomics.store(w, DISK_TASK, task);
    this.#ringDisks();
    while (Atomics.load(w, DISK_TASK_DONE) === 0) {
      if (this.diskQuit) return false; // nobody is there to do it
      await Atomics.waitAsync(w, DISK_TASK_DONE, 0, 100).value;
    }
    return Atomics.load(w, DISK_TASK_DONE) === 1;
  }

  /** The disk worker asks for such a task, and carries it out by `perform`. */
  serveTask(perform: (task: DiskTask, disk: number, path: string | null) => boolean): void {
    const w = this.#words, task = Atomics.exchange(w, DISK_TASK, 0);
    if (task === 0) return;
    const bytes = this.#taskName.slice(0, Atomics.load(w, DISK_TASK_BYTES));
    const path = bytes.length === 0 ? null : new TextDecoder().decode(bytes);
    Atomics.store(w, DISK_TASK_DONE, perform(task as DiskTask, Atomics.load(w, DISK_TASK_DISK), path) ? 1 : 2);
    Atomics.notify(w, DISK_TASK_DONE);
  }

  get diskQuit(): boolean {
    return Atomics.load(this.#words, DISK_QUIT) !== 0;
  }

  quitDisks(): void {
    Atomics.store(this.#words, DISK_QUIT, 1);
    this.#ringDisks();
  }

  /** The network's worker is to look at `bits`, out of NetBell. */
  ringNet(bits: number): void {
    Atomics.or(this.#words, NET_PENDING, bits);
    Atomics.add(this.#words, NET_DOORBELL, 1);
    Atomics.notify(this.#words, NET_DOORBELL);
  }

  takeNet(): number {
    return Atomics.exchange(this.#words, NET_PENDING, 0);
  }

  get netDoorbell(): number {
    return Atomics.load(this.#words, NET_DOORBELL);
  }

  /** Resolves once the doorbell has rung; null if it has already. */
  waitNet(doorbell: number): Promise<unknown> | null {
    const wait = Atomics.waitAsync(this.#words, NET_DOORBELL, doorbell);
    return wait.async ? wait.value : null;
  }

  /** The network's worker is to leave the guest's memory alone; resolves once it does. */
  async holdNet(): Promise<void> {
    Atomics.store(this.#words, NET_HOLD, 1);
    this.ringNet(0);
    while (Atomics.load(this.#words, NET_HELD) === 0) await Atomics.waitAsync(this.#words, NET_HELD, 0, 100).value;
  }

  /** It may go on. */
  releaseNet(): void {
    Atomics.store(this.#words, NET_HELD, 0);
    Atomics.store(this.#words, NET_HOLD, 0);
    this.ringNet(NetBell.RECEIVE | ALL_TRANSMIT | NetBell.CONTROL);
  }

  get netHold(): boolean {
    return Atomics.load(this.#words, NET_HOLD) !== 0;
  }

  /** The worker says that it holds still. */
  netHeld(): void {
    Atomics.store(this.#words, NET_HELD, 1);
    Atomics.notify(this.#words, NET_HELD);
  }

  get netQuit(): boolean {
    return Atomics.load(this.#words, NET_QUIT) !== 0;
  }

  quitNet(): void {
    Atomics.store(this.#words, NET_QUIT, 1);
    this.ringNet(0);
  }
}
