/** The main thread's ends of the Workers that serve shared folders, vsock and the balloon; and the watch over the time of day. */
import { BALLOON_PAGE_BYTES, type VirtioBalloon } from "../../devices/virtio/balloon.ts";
import { ConfigError } from "../base/errors.ts";
import { whyNotReturned } from "../host/balloon.ts";
import type { SavedShare } from "../host/share/saved.ts";
import type { Pc } from "./pc.ts";
import { BALLOON_BELL } from "./service_board.ts";
import type { ServiceBell } from "./service_bell.ts";
import { type MachineSpec, MAX_SHARES } from "./spec.ts";
import { WallWatch } from "./wall_watch.ts";
import { BackEndWorker, type ToBackEnd } from "./workers.ts";

/** Throws ConfigError for what a machine cannot have. */
export function checkServices(spec: MachineSpec): void {
  const shares = spec.shares ?? [];
  if (shares.length > MAX_SHARES) {
    throw new ConfigError(`Cannot share ${shares.length} folders: expected at most ${MAX_SHARES}`);
  }
  for (const [i, { tag }] of shares.entries()) {
    if (shares.findIndex((other) => other.tag === tag) < i) {
      throw new ConfigError(`Cannot share two folders as "${tag}": expected a tag for each`);
    }
  }
  const outside = shares.length > 0 ? "--share" : spec.vsock ? "--vsock" : spec.balloon ? "--balloon" : null;
  if (spec.icount && outside !== null) {
    throw new ConfigError(`Cannot count instructions (--icount) with ${outside}: expected none`);
  }
}

/** What the user should know about them, a sentence each. */
export function serviceNotes(spec: MachineSpec): string[] {
  const why = spec.balloon ? whyNotReturned() : null;
  return why === null
    ? []
    : [`--balloon: the guest gives memory away, but ${why} trike cannot give it back to the host`];
}

/** How much memory the guest does without, and what it says of the rest. */
export interface BalloonState {
  readonly wantedBytes: number;
  readonly actualBytes: number;
  /** What went back to the host, ever; the guest may have taken it again. */
  readonly returnedBytes: number;
  readonly stats: VirtioBalloon["stats"];
}

/** How long a guest may take to tell its statistics. */
const STATS_MS = 1000;

export class Balloon {
  readonly #device: VirtioBalloon;

  constructor(
    private readonly pc: Pc,
    private readonly memoryBytes: number,
    /** Runs its argument under the machine lock, unless the machine has ended. */
    private readonly withDevices: (body: () => void) => void,
  ) {
    this.#device = pc.services.balloon!;
  }

  /** Asks the guest to do without so much memory, in bytes; what it cannot do without it keeps. Throws ConfigError. */
  set(sizeBytes: number): void {
    if (!(sizeBytes >= 0 && sizeBytes <= this.memoryBytes)) {
      throw new ConfigError(`Cannot take ${sizeBytes} bytes of the guest's memory: expected 0 to ${this.memoryBytes}`);
    }
    this.withDevices(() => this.#device.want(Math.floor(sizeBytes / BALLOON_PAGE_BYTES)));
  }

  /** With statistics as they are now, or as they were if the guest does not answer. */
  async state(): Promise<BalloonState> {
    const dev = this.#device, told = Atomics.load(dev.told, 0);
    this.pc.services.balloonBell!.ring(BALLOON_BELL.STATS);
    await Atomics.waitAsync(dev.told, 0, told, STATS_MS).value;
    return {
      wantedBytes: dev.wantedPages * BALLOON_PAGE_BYTES,
      actualBytes: dev.actualPages * BALLOON_PAGE_BYTES,
      returnedBytes: dev.returnedBytes,
      stats: dev.stats,
    };
  }
}

export class Services {
  readonly workers: BackEndWorker[] = [];
  /** Null if the machine has none. */
  readonly balloon: Balloon | null = null;
  readonly #bells: ServiceBell[] = [];
  #shares: { readonly worker: BackEndWorker; readonly bell: ServiceBell } | null = null;
  readonly #wallWatch: WallWatch | null;

  constructor(
    parts: ToBackEnd,
    pc: Pc,
    onTrouble: (sentence: string) => void,
    withDevices: (body: () => void) => void,
  ) {
    const start = (name: string, title: string, module: URL, bell: ServiceBell | null) => {
      if (!bell) return null;
      const worker = new BackEndWorker(parts, { name, title, module, quit: () => bell.quit() }, onTrouble);
      this.#bells.push(bell);
      this.workers.push(worker);
      return { worker, bell };
    };
    // Time that instructions make is nobody else's.
    this.#wallWatch = parts.spec.icount ? null : new WallWatch({
      wallMs: () => Date.now(),
      monotonicMs: () => performance.now(),
      skip: (ms) => withDevices(() => pc.skipWallTime(ms)),
    });
    const { shareBell, vsockBell, balloonBell } = pc.services;
    this.#shares = start("shares", "Shared folders' worker", new URL("./share_worker.ts", import.meta.url), shareBell);
    start("vsock", "vsock's worker", new URL("./vsock_worker.ts", import.meta.url), vsockBell);
    start("balloon", "Balloon's worker", new URL("./balloon_worker.ts", import.meta.url), balloonBell);
    if (pc.services.balloon) this.balloon = new Balloon(pc, parts.spec.memoryBytes, withDevices);
  }

  /** Rejects with HostError if one of them cannot serve. */
  get ready(): Promise<unknown> {
    return Promise.all(this.workers.map((worker) => worker.ready));
  }

  /** Nothing of the guest's is touched until `release`. A Worker that has failed holds still anyway. */
  async hold(): Promise<void> {
    await Promise.all(this.#bells.map((bell, i) => Promise.race([bell.hold(), this.workers[i]!.failed])));
  }

  /** What a snapshot has to keep of the shared folders; nothing moves. Rejects with HostError. */
  async saveShares(): Promise<readonly SavedShare[]> {
    const shares = this.#shares;
    return shares ? await shares.worker.state(() => shares.bell.ask()) : [];
  }

  release(reset: boolean): void {
    for (const bell of this.#bells) bell.release(reset);
  }

  /** Nothing of it moves by itself any more. */
  close(): void {
    this.#wallWatch?.close();
  }
}
