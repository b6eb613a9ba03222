/** The main thread's ends of the Workers that serve shared folders, vsock and the balloon. */
import { ConfigError } from "../base/errors.ts";
import type { Pc, PcOptions } from "./pc.ts";
import type { ServiceBell } from "./service_bell.ts";
import { type MachineSpec, MAX_SHARES } from "./spec.ts";
import { BackEndWorker } from "./workers.ts";

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

export class Services {
  readonly workers: BackEndWorker[] = [];
  readonly #bells: ServiceBell[] = [];

  constructor(parts: PcOptions, pc: Pc, onTrouble: (sentence: string) => void) {
    const start = (name: string, title: string, module: URL, bell: ServiceBell | null) => {
      if (!bell) return;
      this.#bells.push(bell);
      this.workers.push(new BackEndWorker(parts, { name, title, module, quit: () => bell.quit() }, onTrouble));
    };
    const { shareBell, vsockBell } = pc.services;
    start("shares", "Shared folders' worker", new URL("./share_worker.ts", import.meta.url), shareBell);
    start("vsock", "vsock's worker", new URL("./vsock_worker.ts", import.meta.url), vsockBell);
  }

  /** Rejects with HostError if one of them cannot serve. */
  get ready(): Promise<unknown> {
    return Promise.all(this.workers.map((worker) => worker.ready));
  }

  /** Nothing of the guest's is touched until `release`. A Worker that has failed holds still anyway. */
  async hold(): Promise<void> {
    await Promise.all(this.#bells.map((bell, i) => Promise.race([bell.hold(), this.workers[i]!.failed])));
  }

  release(reset: boolean): void {
    for (const bell of this.#bells) bell.release(reset);
  }
}
