/** One vCPU's part in the code map: what others ask of its decoded code, and what it asks of theirs. */
import type { NoticeHandler } from "../../base/code_map.ts";
import type { CpuExports } from "../../cpu/x86/exports.ts";
import type { VcpuParts } from "../engine.ts";
import type { CodeCache } from "./code_cache.ts";
import type { CpuView } from "./cpu_view.ts";

type Cpu = CpuView & { readonly exports: CpuExports };

export class CodeNotices {
  readonly stats = { pagesClaimed: 0, evictions: 0 };
  /** The page that MONITOR has named, or -1. */
  #monitored = -1;
  /** Notices that have been obeyed. */
  #seen: number;
  readonly #handler: NoticeHandler = {
    stale: (page) => this.cache.invalidate(page),
    evicted: (page) => this.cache.invalidate(page, true),
    claimed: (page) => this.cpu.exports.dropWriteTags(this.cpu.base, page),
    everything: () => {
      this.cache.invalidateAll();
      this.cpu.exports.flushTlb(this.cpu.base);
    },
  };

  constructor(
    private readonly cpu: Cpu,
    private readonly cache: CodeCache,
    private readonly parts: VcpuParts,
    private readonly vcpus: number,
  ) {
    this.#seen = parts.codeMap.count;
  }

  /** There is something to obey. */
  get pending(): boolean {
    return this.parts.codeMap.count !== this.#seen;
  }

  /** Tells the others whether this vCPU runs guest code: then they wait for it to obey. */
  report(running: boolean): void {
    this.parts.codeMap.report(this.parts.index, this.#seen, running);
  }

  /** Does what others have asked: before guest code runs, and while this vCPU waits for them. Only a vCPU that runs does. */
  readonly obey = (): void => {
    const { codeMap, index } = this.parts;
    if (codeMap.count === this.#seen) return;
    this.#seen = codeMap.drain(this.#seen, index, this.#handler);
    codeMap.report(index, this.#seen, true);
    this.cpu.put("codeEpoch", this.cache.epoch);
  };

  /** Claims a page before it is decoded, so that every write to it is noticed from now on. */
  hold(page: number): void {
    if (this.cache.holds(page)) return;
    this.stats.pagesClaimed++;
    this.parts.codeMap.claim(page, this.parts.index, this.vcpus, this.obey);
    this.cache.hold(page);
    this.cpu.exports.dropWriteTags(this.cpu.base, page);
  }

  /** MONITOR of a linear address: the next write by anybody else to its page, if that is RAM, ends MWAIT. */
  monitor(lo: number, hi: number): void {
    const { cpu } = this, found = cpu.exports.look(cpu.base, lo, hi) === 0, page = cpu.get("physLo") >>> 12;
    const isRam = found && cpu.get("physHi") === 0 && page < cpu.get("ramPages");
    this.#monitored = isRam && this.cache.hasRoom() ? page : -1;
    // As if it were about to be decoded: then all others tell before they write.
    if (this.#monitored >= 0) this.hold(page);
  }

  /** Whether what MONITOR has named has not been written to. */
  get monitors(): boolean {
    return this.#monitored >= 0 && this.cache.holds(this.#monitored);
  }

  /** This vCPU goes to sleep, and a write to that page wakes it. False if there is a notice already. */
  sleep(): boolean {
    this.parts.codeMap.wait(this.parts.index, this.#monitored);
    if (!this.pending) return true;
    this.wake();
    return false;
  }
  wake(): void {
    this.parts.codeMap.wait(this.parts.index, -1);
    this.#monitored = -1;
  }

  /** This vCPU writes to a page it has decoded. */
  wrote(page: number): void {
    this.cache.invalidate(page);
    this.cpu.put("codeEpoch", this.cache.epoch);
  }

  /** This vCPU is about to write to pages that others have decoded. */
  evict(first: number, second: number): void {
    this.stats.evictions++;
    this.parts.codeMap.evict(first, second, this.parts.index, this.vcpus, this.obey, this.#holds);
  }

  readonly #holds = (page: number): boolean => this.cache.holds(page);
}
