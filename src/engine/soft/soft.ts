/**
 * The software engine: a vCPU that is a generated WebAssembly module over the machine's memory.
 *
 * TypeScript's part is small: decode what has not been decoded yet, pass accesses on to the board, and look at events and time
 * between slices of instructions.
 */
import { HostError, messageOf } from "../../base/errors.ts";
import { Decoder } from "../../cpu/x86/decode.ts";
import type { ImportImpls } from "../../cpu/x86/imports.ts";
import type { CpuExports } from "../../cpu/x86/exports.ts";
import type { Interpreter } from "../../cpu/x86/interp.ts";
import { STATUS } from "../../cpu/x86/ops.ts";
import { JUMPS, MWAIT, RF, TF } from "../../cpu/x86/state.ts";
import { DEFAULT_CPU, limitsOf, rowFilter } from "../../cpu/x86/system/cpu_model.ts";
import { MsrFile } from "../../cpu/x86/system/msr.ts";
import { TraceBuilder } from "../../cpu/x86/trace.ts";
import { RAM_BASE, VCPU_BASE, VCPU_STRIDE } from "../../machine/memory.ts";
import {
  type Engine,
  type ExitReason,
  type InitialState,
  type Vcpu,
  VcpuEvent,
  type VcpuParts,
  type VcpuStats,
} from "../engine.ts";
import { Activity, VcpuRecord, type VcpuState } from "../vcpu_state.ts";
import { boardImports } from "./board_imports.ts";
import { openInterpreter } from "./interpreter.ts";
import { type CodeCache, openCodeCache } from "./code_cache.ts";
import { CodeNotices } from "./code_notices.ts";
import { CpuView } from "./cpu_view.ts";
import type { OpenNative } from "./native/tier.ts";
import { openTier } from "./open_tier.ts";
import { copyEvent, finishDelivery } from "./saved_events.ts";
import { describeRegisters, initState, resetState, setInitialState, startState } from "./registers.ts";
import { checkState, restoreVcpu, saveVcpu } from "./saved_state.ts";
import { SingleStep } from "./single_step.ts";
import { Spinning } from "./spinning.ts";
import { SLICE, type Tier } from "./tier.ts";

/** After so many of them compiled code is left all the same. */
const EXTENSIONS = 25;
/** Guest nanoseconds an instruction stands for when time counts instructions. */
const NS_PER_INSTRUCTION = 1;

export const softEngine: Engine = {
  name: "soft",
  openVcpu: (parts) => new SoftVcpu(parts).compileInBackground(),
};

export class SoftVcpu extends CpuView implements Vcpu {
  lastError: Error | null = null;
  readonly exports: CpuExports;
  readonly takeImage: () => Uint8Array<ArrayBuffer> | null;
  readonly #u8: Uint8Array;
  readonly #parts: VcpuParts;
  readonly #interp: Interpreter;
  readonly #cache: CodeCache;
  readonly #builder: TraceBuilder;
  /** Absent if it is not wanted. */
  readonly #tier: Tier | null;
  readonly #msrs: MsrFile;
  readonly #single: SingleStep;
  readonly #code: CodeNotices;
  readonly #spinning: Spinning | null;
  /** The memory map that translations rest on. */
  #mapSeen = 0;
  #retired = 0;
  /** Guest time minus instructions, when time counts instructions: it grows by what HLT skipped. */
  #icountOffset = 0;
  /** What the present entry was given to run; what compiled code was given more since the reset. */
  #sliceBudget = 0;
  #extended = 0;
  /** When `run` is to return at the latest. */
  #untilNs = 0;
  #halted = false;
  /** Halted by MWAIT: MWAIT's bits. */
  #mwait = 0;
  /** After INIT: nothing but a start-up IPI makes it run. */
  #waitsForSipi = false;
  /** A delivery ended in a triple fault. */
  #shutdown = false;
  /** An event that a restored state was in the middle of. */
  #unfinished: VcpuState | null = null;
  #statuses = { slices: 0, extensions: 0, translations: 0, resyncs: 0, halts: 0 };

  constructor(parts: VcpuParts, openNative?: OpenNative) {
    const buffer = parts.memory.buffer;
    super(buffer, VCPU_BASE + parts.index * VCPU_STRIDE);
    this.#parts = parts;
    this.#u8 = new Uint8Array(buffer);
    const vcpus = parts.vcpus ?? 1, model = parts.cpu ?? DEFAULT_CPU;
    ({ interpreter: this.#interp, takeImage: this.takeImage } = openInterpreter(parts, this.base, limitsOf(model)));
    this.#cache = openCodeCache(parts, this.base + JUMPS);
    this.#code = new CodeNotices(this, this.#cache, parts, vcpus);
    this.#spinning = Spinning.of(this, parts, this.#code);
    this.#builder = new TraceBuilder(
      new Decoder(this.#interp.variants.rows, this.#interp.variants, rowFilter(model)),
      this.#interp.variants,
    );
    this.#single = new SingleStep(this, this.#u8, this.#cache, this.#builder, (op, budget) => this.#enter(op, budget));
    this.#msrs = new MsrFile(parts.board, parts.index);
    this.#msrs.monitor = model.features.includes("MONITOR");
    this.#msrs.reset();
    const module = new WebAssembly.Module(this.#interp.module);
    const env: WebAssembly.ModuleImports = { memory: parts.memory, ...this.#imports() };
    this.exports = new WebAssembly.Instance(module, { env }).exports as unknown as CpuExports;
    this.#tier = openTier({
      parts,
      interp: this.#interp,
      exports: this.exports,
      cache: this.#cache,
      builder: this.#builder,
      extend: this.#extend,
      ...(openNative ? { openNative } : {}),
    });
    this.reset();
  }

  reset(): void {
    resetState(this);
    this.#extended = 0;
    this.#waitsForSipi = this.#parts.index !== 0;
    this.#afterReset();
  }

  /** INIT: [sdm3 §10.4, table 10-1]. The bootstrap processor runs from the reset vector, the others wait for a start-up IPI. */
  #initialize(): void {
    initState(this);
    this.#waitsForSipi = this.#parts.index !== 0;
    this.#afterReset();
  }

  #afterReset(): void {
    this.put("events", this.#parts.events.byteOffset + this.#parts.eventsIndex * 4);
    this.put("codePages", this.#parts.codeMap.pagesAt);
    this.put("ramPages", Math.floor(this.#parts.ram.backedBytes / 4096));
    this.put("memoryMap", this.#parts.memoryMap?.at ?? 0);
    this.put("ramBase", RAM_BASE);
    this.put("codeDir", this.#cache.directory);
    this.put("hotLimit", this.#tier?.hotLimit ?? 0);
    this.put("splitLock", this.#parts.codeMap.splitLockAt);
    this.#halted = this.#shutdown = false;
    this.#endWait();
    this.#unfinished = null;
    this.#cache.flush();
    this.#tier?.forget();
    this.#mapSeen = this.#parts.memoryMap?.generation ?? 0;
    this.exports.flushTlb(this.base);
    this.exports.updateMode(this.base);
  }

  /** The memory map has changed: what was translated or decoded may be elsewhere now. Also in the middle of an instruction. */
  #remap(): void {
    this.#mapSeen = this.#parts.memoryMap!.generation;
    const { pages } = this.#parts.codeMap;
    for (let page = 0; page < pages.length; page++) if (pages[page] !== 0) this.#cache.invalidate(page);
    this.put("codeEpoch", this.#cache.epoch);
    this.exports.flushTlb(this.base);
  }

  /** To call after each access that the board has answered. */
  readonly #lookAtMap = () => {
    if (this.#parts.memoryMap!.generation !== this.#mapSeen) this.#remap();
  };

  setState(state: InitialState): void {
    this.reset();
    setInitialState(this, state);
    this.#waitsForSipi = false;
    this.exports.flushTlb(this.base);
    this.exports.updateMode(this.base);
  }

  save(state: VcpuState): void {
    this.#settle();
    saveVcpu(this, this.#parts, this.#msrs, state);
    state.activity = this.#waitsForSipi
      ? Activity.WAIT_FOR_SIPI
      : this.#halted && this.#mwait === 0
      ? Activity.HALTED
      : Activity.RUNNING;
    if (this.#unfinished) copyEvent(this.#unfinished, state);
    state.instructions = this.#retired;
  }

  restore(state: VcpuState): void {
    checkState(state);
    this.reset();
    restoreVcpu(this, this.#parts, this.#msrs, state);
    this.#waitsForSipi = state.activity === Activity.WAIT_FOR_SIPI;
    this.#halted = state.activity === Activity.HALTED;
    this.#unfinished = state.eventValid ? copyEvent(state, VcpuRecord.create()) : null;
    this.#retired = state.instructions;
  }

  run(untilNs: number): ExitReason {
    try {
      return this.#run(untilNs);
    } catch (error) {
      this.lastError = new HostError(`The software CPU failed: ${messageOf(error)}`, { cause: error });
      return "error";
    } finally {
      this.#code.report(false);
    }
  }

  #run(untilNs: number): ExitReason {
    const { events, eventsIndex, clock, icount } = this.#parts;
    this.#untilNs = untilNs;
    if (icount) this.#icountOffset = clock.nowNs() - this.#retired * NS_PER_INSTRUCTION;
    // From here on others wait for this vCPU to obey them, and it looks what they have asked before.
    this.#code.report(true);
    if (this.#unfinished) {
      this.#shutdown = finishDelivery(this, this.#unfinished) === STATUS.SHUTDOWN;
      this.#unfinished = null;
      if (this.#shutdown) return "shutdown";
    }
    for (;;) {
      // Events first: whoever wrote code and then sends an interrupt has posted the one before the other.
      this.#spinning?.look();
      const pending = Atomics.load(events, eventsIndex);
      this.#code.obey();
      if (this.#parts.memoryMap) this.#lookAtMap();
      if (pending & VcpuEvent.KICK) {
        Atomics.and(events, eventsIndex, ~VcpuEvent.KICK);
        return "kick";
      }
      if (pending !== 0 && this.#takeEvents(pending)) {
        if (this.#shutdown) return "shutdown";
        continue;
      }
      if (this.#waitsForSipi) return "halt";
      if (this.#halted) {
        const wakes = (this.interruptible() ? VcpuEvent.INTR : 0) | (this.get("nmiBlocked") === 0 ? VcpuEvent.NMI : 0);
        if (pending & wakes) continue;
        if (this.#mwait !== 0 && !this.#waitOn(pending)) continue;
        return "halt";
      }
      const now = clock.nowNs();
      if (now >= untilNs) return "slice";
      this.#settle();
      const slow = (this.get("eflags") & (TF | RF)) !== 0 || this.get("inhibit") !== 0 || this.get("watchFault") !== 0;
      let status: number;
      if (slow) status = this.#single.run();
      else {
        let budget = this.#parts.sliceInstructions ?? this.#tier?.slice(this) ?? SLICE;
        if (icount) budget = Math.max(1, Math.min(SLICE, Math.ceil((untilNs - now) / NS_PER_INSTRUCTION)));
        const end = this.#retired + budget;
        status = this.#enter(0, budget);
        // Where instructions make the time, their number alone decides when somebody looks: not what had to be decoded.
        while (icount && status === STATUS.TRANSLATE) {
          this.#translate();
          if (this.#shutdown) return "shutdown";
          status = this.#enter(0, end - this.#retired);
        }
      }
      switch (status) {
        case STATUS.SLICE:
          this.#statuses.slices++;
          if (!slow) this.#tier?.sample(this); // one instruction by itself ends where nobody has jumped to
          this.#spinning?.rest(untilNs);
          break;
        case STATUS.TRANSLATE:
          this.#translate();
          if (this.#shutdown) return "shutdown";
          break;
        case STATUS.HALT:
          this.#statuses.halts++;
          this.#halted = true;
          this.#mwait = this.get("mwait");
          this.put("mwait", 0);
          this.put("inhibit", 0); // HLT may have been the one instruction after STI
          break;
        case STATUS.SHUTDOWN:
          return "shutdown";
        default:
          this.#statuses.resyncs++;
      }
    }
  }

  /**
   * Compiled code has used up its budget: gives it more, as long as nothing has to be done that it must be left for. What it
   * has called is not left then, and need not be found again.
   */
  readonly #extend = (budget: number): number => {
    const { events, eventsIndex, clock, icount, memoryMap } = this.#parts;
    this.#spinning?.rest(this.#untilNs);
    if (icount || Atomics.load(events, eventsIndex) !== 0 || this.#code.pending) return budget;
    if (memoryMap && memoryMap.generation !== this.#mapSeen) return budget;
    if (clock.nowNs() >= this.#untilNs) return budget;
    // V8's better code for a loop is taken up only when the loop is entered again.
    if (++this.#statuses.extensions % EXTENSIONS === 0) return budget;
    this.#tier!.poll();
    const slice = this.#parts.sliceInstructions ?? SLICE;
    this.#sliceBudget += slice;
    this.#extended += slice;
    this.put("tscKnown", 0);
    return budget + slice;
  };

  /** Runs from S.rip (or a record) and counts what retired. */
  #enter(op: number, budget: number): number {
    this.#sliceBudget = budget;
    this.put("budget", budget);
    this.put("tscKnown", 0);
    const status = this.exports.run(this.base, op, budget);
    this.#retired += this.#sliceBudget - this.get("budget");
    this.#sliceBudget = 0;
    this.put("budget", 0);
    if (this.#parts.icount) this.#parts.icount.setNs(this.#icountOffset + this.#retired * NS_PER_INSTRUCTION);
    return status;
  }

  /** Halted by MWAIT: false if that is over. An interrupt that is taken has ended it already. */
  #waitOn(pending: number): boolean {
    const breaks = (this.#mwait & MWAIT.BREAKS) !== 0 && (pending & VcpuEvent.INTR) !== 0;
    if (!breaks && this.#code.monitors) return this.#code.sleep();
    this.#endWait();
    this.#halted = false;
    return false;
  }

  #endWait(): void {
    this.#mwait = 0;
    this.#code.wake();
  }

  /** Instructions retired, also while a handler runs. */
  get retired(): number {
    return this.#retired + this.#sliceBudget - this.get("budget");
  }

  /** Handles NMI and interrupts; true if something was taken. */
  #takeEvents(pending: number): boolean {
    const { events, eventsIndex, board, index } = this.#parts;
    if (pending & VcpuEvent.INIT) {
      Atomics.and(events, eventsIndex, ~VcpuEvent.INIT);
      this.#initialize();
      return true;
    }
    if (pending & VcpuEvent.SIPI) {
      Atomics.and(events, eventsIndex, ~(VcpuEvent.SIPI | VcpuEvent.SIPI_VECTOR));
      // Whoever does not wait for one takes no notice.
      if (!this.#waitsForSipi) return true;
      this.#waitsForSipi = false;
      startState(this, (pending >>> 8) & 0xff);
      this.exports.updateMode(this.base);
      return true;
    }
    if (this.#waitsForSipi) return false;
    this.#settle();
    if (pending & VcpuEvent.NMI && this.get("inhibit") === 0 && this.get("nmiBlocked") === 0) {
      Atomics.and(events, eventsIndex, ~VcpuEvent.NMI);
      this.#halted = false;
      this.#shutdown = this.#deliverEvent(-1);
      return true;
    }
    if (pending & VcpuEvent.INTR && this.interruptible()) {
      const vector = board.acknowledge(index);
      if (vector >= 0) {
        this.#halted = false;
        this.#shutdown = this.#deliverEvent(vector);
        return true;
      }
    }
    return false;
  }

  /**
   * Delivers an interrupt, or an NMI if there is no vector; what breakpoints its frame meets is a trap behind it. True: a triple
   * fault.
   */
  #deliverEvent(vector: number): boolean {
    if (this.#mwait !== 0) this.#endWait();
    const armed = this.get("breakpoints") !== 0;
    if (armed) this.put("watching", 1);
    this.put("watchHits", 0);
    let status = vector < 0 ? this.exports.nmi(this.base) : this.exports.interrupt(this.base, vector);
    this.put("watching", 0);
    const hits = this.get("watchHits");
    if (armed && hits !== 0 && status !== STATUS.SHUTDOWN) status = this.exports.trapDb(this.base, hits);
    return status === STATUS.SHUTDOWN;
  }

  /**
   * Forgets the shadow of STI or MOV SS unless it is for the instruction at RIP: code that runs at full speed leaves it behind.
   */
  #settle(): void {
    if (this.get("inhibit") !== 0 && this.get64("inhibitRip") !== this.get64("rip")) this.put("inhibit", 0);
  }

  /** Executes exactly one instruction (or takes one exception). Returns a STATUS. */
  step(): number {
    for (;;) {
      const status = this.#single.run();
      if (status === STATUS.SLICE || status === STATUS.HALT || status === STATUS.SHUTDOWN || status === STATUS.RESYNC) {
        return status;
      }
    }
  }

  /** From now on regions are compiled by another thread. */
  compileInBackground(): this {
    this.#tier?.useWorker(this.#parts.cpu ?? DEFAULT_CPU, this.#parts.compiler);
    return this;
  }

  /** Compiles what starts at rip now, `all` or what has been run of it: for tests of the second tier. False if it is refused. */
  compileHere(all = true): boolean {
    if (!this.#tier) return false;
    this.#code.obey();
    this.#translate();
    const lo = this.get("rip") >>> 0;
    if (this.exports.fetchAt(this.base, lo, this.get("rip", 1)) !== 0) return false;
    const page = this.get("physLo") >>> 12, before = this.#tier.stats.regions;
    this.#tier.compile(page, RAM_BASE + page * 4096, lo & 0xfff, all);
    return this.#tier.stats.regions !== before;
  }

  #deliver(): void {
    this.#shutdown = this.exports.deliver(this.base) === STATUS.SHUTDOWN;
  }

  /** Decodes a trace at S.rip. Faults of the fetch are delivered. */
  #translate(): void {
    this.#statuses.translations++;
    const linear = this.linearRip();
    if (this.exports.fetchAt(this.base, linear.lo, linear.hi) !== 0) {
      this.#deliver();
      return;
    }
    const page = this.get("physLo") >>> 12, offset = linear.lo & 0xfff, mode = this.get("mode");
    if (!this.#cache.hasRoom()) {
      this.#cache.flush();
      this.exports.flushTlb(this.base);
    }
    this.#code.hold(page);
    this.#cache.begin(page, mode & 7, offset);
    const at = RAM_BASE + page * 4096;
    if (!this.#builder.build(this.#u8, at, offset, 4096, mode, -1, false, this.#cache)) {
      this.#cache.finish(offset, this.#builder.end, -1);
      return;
    }
    // The first instruction reaches into the next page.
    const next = this.#single.nextPage(linear);
    if (next < 0) this.#deliver();
    if (next >= 0) this.#code.hold(next);
    if (next < 0 || !this.#cache.holds(page)) {
      // Without that page, or if another vCPU has written to this one meanwhile, there is nothing to decode now.
      this.#cache.abandon();
      return;
    }
    this.#single.copyBoth(page, next);
    this.#builder.build(this.#single.cross, 0, offset, 8192, mode, next, false, this.#cache);
    this.#cache.finish(offset, this.#builder.end, next);
  }

  #imports(): ImportImpls {
    const { icount } = this.#parts;
    return {
      ...boardImports({
        vcpu: this,
        parts: this.#parts,
        vcpus: this.#parts.vcpus ?? 1,
        msrs: this.#msrs,
        written: this.#parts.memoryMap ? this.#lookAtMap : null,
        settle: () => {
          if (icount) icount.setNs(this.#icountOffset + this.retired * NS_PER_INSTRUCTION);
        },
      }),
      codeWrite: (page) => this.#code.wrote(page),
      codeEvict: (first, second) => this.#code.evict(first, second),
      monitor: (lo, hi) => this.#code.monitor(lo, hi),
    };
  }

  stats(): VcpuStats {
    const code = { ...this.#cache.stats(), ...this.#code.stats, ...this.#tier?.stats };
    return {
      instructions: this.retired,
      ...this.counters(this.#extended),
      ...code,
      ...this.#statuses,
      steps: this.#single.count,
      rests: this.#spinning?.rests ?? 0,
    };
  }

  describe(): string {
    return describeRegisters(this);
  }
}
