/**
 * Which code is worth compiling.
 *
 * Samples cost nothing: at the end of each slice the instruction pointer is at the target of a jump, most often of a hot one.
 * Beside them there are the places that compiled code is often left for (hot.ts).
 */
import type { CpuExports } from "../../cpu/x86/exports.ts";
import { MODE_64 } from "../../cpu/x86/state.ts";
import type { CodeCache } from "./code_cache.ts";
import type { CpuView } from "./cpu_view.ts";

/** The table of counts is emptied when it holds this many. */
const MAX_COUNTS = 16384;
/** So many samples are enough for what another vCPU has had compiled. */
const EXPECTED = 4;

export interface SamplesParts {
  readonly exports: CpuExports;
  readonly cache: CodeCache;
  /** Records of this handler and higher ones are compiled. */
  readonly compiledFrom: number;
  /** Samples before a target is compiled. */
  readonly threshold: number;
  /** Something could be compiled now. */
  ready(): boolean;
  /** What starts at `offset` of a page of RAM is to be compiled. */
  wanted(page: number, offset: number): void;
}

export class Samples {
  readonly #counts = new Map<number, number>();

  constructor(private readonly parts: SamplesParts) {}

  /** The vCPU starts anew: what was counted says nothing of what comes, and equal runs stay equal. */
  forget(): void {
    this.#counts.clear();
  }

  /** Another vCPU has had this compiled: then it costs little. */
  expect(gpa: number): void {
    const count = this.parts.threshold - EXPECTED;
    if ((this.#counts.get(gpa) ?? 0) < count) this.#counts.set(gpa, count);
  }

  /** A slice has ended at a jump's target; where that is compiled, what has led there is to blame. */
  take(cpu: CpuView): void {
    this.#takeHot(cpu);
    const rip = cpu.get("rip");
    if ((cpu.get("mode") & 3) === MODE_64 && this.parts.exports.look(cpu.base, rip, cpu.get("rip", 1)) === 0) {
      if (this.#count(cpu.get("physLo") >>> 12, rip & 0xfff)) return;
    }
    const looked = cpu.get("lookedOffset");
    if (((looked >> 12) & 3) === MODE_64) this.#count(cpu.get("lookedPage"), looked & 0xfff);
  }

  /** Counts a sample, and has the code compiled if there are enough. False if it is compiled already. */
  #count(page: number, offset: number): boolean {
    const { cache, compiledFrom, threshold } = this.parts, at = cache.entryOf(page, MODE_64, offset);
    if (at !== 0 && cache.handlerAt(at) >= compiledFrom) return false;
    const key = page * 4096 + offset, count = (this.#counts.get(key) ?? 0) + 1;
    if (this.#counts.size >= MAX_COUNTS) this.#counts.clear();
    const enough = count >= threshold && this.parts.ready();
    // From the start again: what is compiled now may be lost with its page.
    this.#counts.set(key, enough ? 0 : count);
    if (enough) this.parts.wanted(page, offset);
    return true;
  }

  /** What compiled code is often left for. */
  #takeHot(cpu: CpuView): void {
    let places = cpu.get("hotPlaces");
    // The last one first; where there is no room for it the others wait with it.
    for (; places > 0 && this.parts.ready(); cpu.put("hotPlaces", --places)) {
      const page = cpu.get("hot", 2 * places - 2), looked = cpu.get("hot", 2 * places - 1);
      if (((looked >> 12) & 3) === MODE_64) this.parts.wanted(page, looked & 0xfff);
    }
  }
}
