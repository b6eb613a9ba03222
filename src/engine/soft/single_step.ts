/**
 * One instruction at a time: for single steps, behind STI and MOV SS, and where breakpoints are near.
 *
 * Debug exceptions are as [sdm3 §18.3.1] has them: an instruction breakpoint is a fault before its instruction, unless RF is set;
 * data and I/O breakpoints and single steps are one trap behind it. MOV SS and POP SS hold all of them back for one instruction.
 */
import type { CpuExports } from "../../cpu/x86/exports.ts";
import { STATUS } from "../../cpu/x86/ops.ts";
import { DR6, DR7, EXC, INHIBIT, reg, RF, SCRATCH_OPS, TF, VBASE } from "../../cpu/x86/state.ts";
import { BREAK, ON } from "../../cpu/x86/system/breakpoints.ts";
import type { TraceBuilder } from "../../cpu/x86/trace.ts";
import { PAGE_BYTES, RAM_BASE } from "../../machine/memory.ts";
import type { CodeCache } from "./code_cache.ts";
import type { CpuView } from "./cpu_view.ts";

type Cpu = CpuView & { readonly exports: CpuExports };

export class SingleStep {
  count = 0;
  /** Two pages, of an instruction that begins in one and ends in the other. */
  readonly cross = new Uint8Array(2 * PAGE_BYTES);

  constructor(
    private readonly v: Cpu,
    private readonly u8: Uint8Array,
    private readonly cache: CodeCache,
    private readonly builder: TraceBuilder,
    /** Runs from a record with a budget, and counts what retires. */
    private readonly enter: (op: number, budget: number) => number,
  ) {}

  /** Executes exactly one instruction, or takes one exception; two behind a MOV SS that has met a breakpoint. Returns a STATUS. */
  run(): number {
    const { v } = this;
    // Of DR6: what MOV SS has met.
    let held = 0;
    for (;;) {
      this.count++;
      v.put("watchFault", 0);
      const flags = v.get("eflags"), armed = v.get("breakpoints") !== 0;
      if (armed && (v.get("breakpoints") & BREAK.INSTRUCTION) !== 0 && v.get("inhibit") !== INHIBIT.MOV_SS) {
        const hits = (flags & RF) === 0 ? this.#instructionBreakpoints() : 0;
        if (hits !== 0) return this.#fault(hits);
      }
      v.put("inhibit", 0);
      v.put("resumes", 0);
      v.put("watching", armed ? 1 : 0);
      v.put("watchHits", 0);
      const exceptions = v.get("exceptions"), rip = v.get64("rip");
      let status = this.#execute();
      v.put("watching", 0);
      if (status === STATUS.SHUTDOWN) return status;

      const faulted = v.get("exceptions") !== exceptions;
      if (!faulted) this.#keepResumeFlag(status === STATUS.RESYNC && v.get64("rip") === rip);
      // Of a fault, what its frame has met.
      let bits = v.get("watchHits");
      if (v.get("inhibit") === INHIBIT.MOV_SS) {
        if (bits === 0) return status;
        held |= bits;
        continue;
      }
      // INT n and its kin clear TF on their way, and so does an exception's delivery.
      if ((flags & TF) !== 0 && !faulted && !this.builder.firstName.startsWith("INT")) bits |= DR6.BS;
      bits |= held;
      if (bits !== 0) {
        // Its handler is what goes on behind HLT.
        if (status === STATUS.HALT) status = STATUS.SLICE;
        if (v.exports.trapDb(v.base, bits) === STATUS.SHUTDOWN) return STATUS.SHUTDOWN;
      }
      return status;
    }
  }

  /** Where there are breakpoints RF is set before the rest of a repeated instruction, and clear behind any that has not loaded it. */
  #keepResumeFlag(repeats: boolean): void {
    const { v } = this, flags = v.get("eflags");
    if (repeats && v.get("breakpoints") !== 0) v.put("eflags", flags | RF);
    else if (v.get("resumes") === 0) v.put("eflags", flags & ~RF);
  }

  /** A bit for each breakpoint at the instruction. */
  #instructionBreakpoints(): number {
    const { v } = this, { lo, hi } = v.linearRip(), control = v.get("dr", 2 * 7);
    let hits = 0;
    for (let n = 0; n < 4; n++) {
      const enabled = (control >>> (2 * n) & 3) !== 0, on = control >>> (16 + 4 * n) & 3;
      if (enabled && on === ON.EXECUTE && v.get("dr", 2 * n) === lo && v.get("dr", 2 * n + 1) === hi) hits |= 1 << n;
    }
    return hits;
  }

  /** #DB before the instruction. */
  #fault(hits: number): number {
    const { v } = this;
    v.put("dr", (v.get("dr", 2 * 6) & ~DR6.B) | hits, 2 * 6);
    v.put("dr", v.get("dr", 2 * 7) & ~DR7.GD, 2 * 7);
    v.put("excVector", EXC.DB);
    v.put("excError", -1);
    v.put("inhibit", 0);
    return v.exports.deliver(v.base) === STATUS.SHUTDOWN ? STATUS.SHUTDOWN : STATUS.SLICE;
  }

  #execute(): number {
    const { v, cache, builder } = this, linear = v.linearRip();
    if (v.exports.fetchAt(v.base, linear.lo, linear.hi) !== 0) return this.#deliver();
    const offset = linear.lo & 0xfff, page = v.get("physLo") >>> 12, mode = v.get("mode");
    cache.beginScratch(v.base + SCRATCH_OPS);
    const cut = builder.build(this.u8, RAM_BASE + page * 4096, offset, 4096, mode, -1, true, cache);
    cache.endScratch();
    if (cut) {
      const next = this.nextPage(linear);
      if (next < 0) return this.#deliver();
      this.copyBoth(page, next);
      cache.beginScratch(v.base + SCRATCH_OPS);
      builder.build(this.cross, 0, offset, 8192, mode, -1, true, cache);
      cache.endScratch();
    }
    v.dv.setUint32(v.base + reg(VBASE), (linear.lo & ~0xfff) >>> 0, true);
    v.dv.setUint32(v.base + reg(VBASE) + 4, linear.hi >>> 0, true);
    // Used up even where an exception takes the instruction's place, so that its handler's first one waits.
    return this.enter(v.base + SCRATCH_OPS, -1);
  }

  #deliver(): number {
    return this.v.exports.deliver(this.v.base) === STATUS.SHUTDOWN ? STATUS.SHUTDOWN : STATUS.SLICE;
  }

  /** Physical page of the page after `linear`'s; -1 if there is a fault to deliver. */
  nextPage(linear: { lo: number; hi: number }): number {
    const { v } = this, lo = ((linear.lo & ~0xfff) + 0x1000) | 0;
    const hi = lo === 0 ? (linear.hi + 1) | 0 : linear.hi;
    if (v.exports.fetchAt(v.base, lo, (v.get("mode") & 3) === 2 ? hi : 0) !== 0) return -1;
    return v.get("physLo") >>> 12;
  }

  /** Into `cross`. */
  copyBoth(first: number, second: number): void {
    this.cross.set(this.u8.subarray(RAM_BASE + first * 4096, RAM_BASE + first * 4096 + 4096));
    this.cross.set(this.u8.subarray(RAM_BASE + second * 4096, RAM_BASE + second * 4096 + 4096), 4096);
  }
}
