/**
 * The second tier: which code is compiled, when, and where.
 *
 * A target seen often enough (samples.ts) is compiled with all that direct jumps reach from it within its page. The vCPU's thread
 * only decodes; another one makes the code (compile_worker.ts), and the vCPU takes it up between two slices.
 */
import { receiveMessageOnPort } from "node:worker_threads";
import type { Decoder } from "../../cpu/x86/decode.ts";
import type { CpuExports } from "../../cpu/x86/exports.ts";
import { halveHot, HOT_LIMIT, HOT_SLICES } from "../../cpu/x86/hot.ts";
import type { Interpreter } from "../../cpu/x86/interp.ts";
import { RegionCompiler } from "../../cpu/x86/jit/lower.ts";
import { LOCKED_IMPORTS, REGION_IMPORTS, type RegionHost, type RegionPlaces } from "../../cpu/x86/jit/region_host.ts";
import { eachInstruction, type Instruction, type Region, RegionFinder } from "../../cpu/x86/jit/region.ts";
import { MODE_64 } from "../../cpu/x86/state.ts";
import type { CpuModel } from "../../cpu/x86/system/cpu_model.ts";
import { RAM_BASE } from "../../machine/memory.ts";
import type { SharedCompiler } from "../engine.ts";
import type { CodeCache } from "./code_cache.ts";
import { CompilerThread, NewsReader } from "./compiler_thread.ts";
import type { CpuView } from "./cpu_view.ts";
import { Samples } from "./samples.ts";

/** Samples before a target is compiled. */
const THRESHOLD = 80;
export const LIMITS = { blocks: 64, instructions: 300 } as const;
/** Regions that may be on their way at a time. */
const MAX_PENDING = 32;
/** Handler numbers are 16 bits wide. */
const MAX_HANDLER = 0xffff;

/** What the compiling thread must know once. */
export interface CompilerSetup {
  /** The machine has several vCPUs. */
  readonly several: boolean;
  readonly cpu: number | null;
  readonly pages: number;
  readonly exact: boolean;
  readonly inLoop: number;
  readonly functions: number;
  readonly vectorFuncs: RegionHost["vectorFuncs"];
  readonly shadows: ReadonlyMap<number, number>;
  /** What the guest's processor has; null: all. */
  readonly model: CpuModel | null;
}
/** The page rather than the region, which both threads find in it: a graph of objects takes long to send. */
export interface CompileRequest {
  readonly id: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly offset: number;
  readonly jumps: readonly { readonly offset: number; readonly id: number }[];
  readonly entered: Uint8Array<ArrayBuffer> | null;
  /** Guest-physical address of the first instruction. */
  readonly at: number;
  /** Absent if the code is to be for any vCPU. */
  readonly places: RegionPlaces | null;
}
export interface CompileAnswer {
  readonly id: number;
  /** Absent if the compiler failed: then `error` says why. */
  readonly module?: WebAssembly.Module;
  /** Given if the module was made for another vCPU, where jumps had gone elsewhere: it is of the region found with this. */
  readonly entered?: Uint8Array<ArrayBuffer> | null;
  readonly error?: string;
  readonly ms: number;
}

/** The compiler's view of an interpreter. */
export function regionHost(
  decoder: Decoder,
  of: {
    cpu: number | null;
    pages: number;
    exact: boolean;
    inLoop: number;
    functions: number;
    vectorFuncs: RegionHost["vectorFuncs"];
    shadows: ReadonlyMap<number, number>;
  },
): RegionHost {
  return {
    decoder,
    variants: decoder.variants,
    cpu: of.cpu,
    pages: of.pages,
    exact: of.exact,
    inLoop: of.inLoop,
    firstRegion: of.inLoop + of.functions,
    vectorFuncs: of.vectorFuncs,
    tableEntry: (h) => h >= of.inLoop ? h - of.inLoop : of.shadows.get(h) ?? -1,
  };
}

/** What finds code that is worth compiling, and compiles it. */
/** Instructions between looks at events and the clock: of the interpreter's about 100 µs. */
export const SLICE = 20_000;

export interface Tier {
  /** For S.hotLimit. */
  readonly hotLimit: number;
  readonly stats: Readonly<Record<string, number>> & { readonly regions: number };
  /** The vCPU starts anew. */
  forget(): void;
  /** From now on another thread compiles, if that is how it is done. */
  useWorker(model: CpuModel | null, compiler?: SharedCompiler): void;
  /** Instructions that the slice to come may have. */
  slice(cpu: CpuView): number;
  /** A slice has ended at a jump's target. */
  sample(cpu: CpuView): void;
  /** Takes up what another thread has finished. */
  poll(): void;
  /**
   * Compiles, or has compiled, what starts at `offset` of RAM page `page`, whose bytes are at `base` of the memory. With `all`
   * also what has never been run of that.
   */
  compile(page: number, base: number, offset: number, all?: boolean): void;
}

/** A region on its way. */
interface Pending {
  readonly page: number;
  readonly generation: number;
  readonly flushes: number;
  /** Record of its entry point. */
  readonly at: number;
  readonly places: RegionPlaces;
  readonly instructions: number;
  /** What has been asked for; its bytes are a copy, and there only if the code may be another vCPU's. */
  readonly asked: Pick<CompileRequest, "offset" | "jumps"> & { readonly bytes: Uint8Array | null };
  /** Guest-physical, in hexadecimal. */
  readonly name: string;
}

export class RegionTier implements Tier {
  readonly hotLimit = HOT_LIMIT;
  readonly #finder: RegionFinder;
  readonly #compiler: RegionCompiler;
  readonly #samples: Samples;
  readonly #pending = new Map<number, Pending>();
  readonly #env: WebAssembly.ModuleImports;
  readonly #firstRegion: number;
  readonly #pages: number;
  readonly #words: Int32Array;
  /** Base of the vCPU's state, as a constant of its code; null: its code may be other vCPUs' as well. */
  readonly #base: number | null;
  /** By handler number less #firstRegion. */
  readonly #regions: WebAssembly.Table;
  #port: MessagePort | undefined;
  #news: NewsReader | undefined;
  #next: number;
  #flushes = 0;
  #polls = 0;
  #ids = 0;

  /**
   * Regions entered, instructions in them, targets refused, regions stale on arrival, compilations that failed, regions that had
   * been compiled for another vCPU, milliseconds of compilation.
   */
  readonly stats = {
    regions: 0,
    regionInstructions: 0,
    regionsRefused: 0,
    regionsStale: 0,
    regionsFailed: 0,
    regionsShared: 0,
    compileMs: 0,
  };

  constructor(
    private readonly interp: Interpreter,
    private readonly exports: CpuExports,
    private readonly cache: CodeCache,
    decoder: Decoder,
    memory: WebAssembly.Memory,
    private readonly cpu: number,
    private readonly u8: Uint8Array,
    /** What a region calls that has used up its budget: gives a new one, negative if it is to be left. */
    extend: (budget: number) => number,
    private readonly exact: boolean,
    /** Hears of each region asked for, ready, stale and refused. */
    private readonly trace?: (what: string) => void,
  ) {
    this.#words = new Int32Array(memory.buffer, 0, Math.floor(memory.buffer.byteLength / 4));
    this.#pages = Math.floor(memory.buffer.byteLength / 65536);
    this.#base = interp.several ? null : cpu;
    this.#finder = new RegionFinder(decoder);
    this.#compiler = new RegionCompiler(regionHost(decoder, { ...interp, cpu: this.#base, pages: this.#pages, exact }));
    this.#firstRegion = interp.inLoop + interp.functions;
    const all = exports as unknown as Record<string, WebAssembly.ExportValue>;
    const locked = interp.several ? LOCKED_IMPORTS : [];
    const names = [...REGION_IMPORTS, ...locked, ...interp.vectorFuncs.map((f) => f.name)];
    this.#regions = new WebAssembly.Table({ element: "anyfunc", initial: 256 });
    this.#env = {
      ...Object.fromEntries(names.map((n) => [n, all[n]!])),
      memory,
      extend,
      handlers: exports.table,
      regions: this.#regions,
    };
    this.#next = interp.functions;
    this.#samples = new Samples({
      exports,
      cache,
      compiledFrom: this.#firstRegion,
      threshold: THRESHOLD,
      ready: () => this.#pending.size < MAX_PENDING,
      wanted: (page, offset) => {
        const at = cache.entryOf(page, MODE_64, offset);
        if (at !== 0 && !this.#isPending(at)) this.compile(page, RAM_BASE + page * 4096, offset);
      },
    });
  }

  forget(): void {
    this.#samples.forget();
  }

  /** From now on another thread compiles. */
  useWorker(model: CpuModel | null, compiler: SharedCompiler = new CompilerThread().link()): void {
    const { several, inLoop, functions, vectorFuncs, shadows } = this.interp;
    const setup: CompilerSetup = {
      several,
      cpu: this.#base,
      pages: this.#pages,
      exact: this.exact,
      inLoop,
      functions,
      vectorFuncs,
      shadows,
      model,
    };
    this.#port = compiler.port;
    this.#port.postMessage(setup);
    if (this.#base === null) this.#news = new NewsReader(compiler.news);
  }

  slice(): number {
    return SLICE;
  }

  sample(cpu: CpuView): void {
    this.poll();
    this.#samples.take(cpu);
  }

  /** Another vCPU has had this compiled. */
  readonly #isKnown = (gpa: number): void => this.#samples.expect(gpa);

  #isPending(at: number): boolean {
    for (const p of this.#pending.values()) if (p.at === at) return true;
    return false;
  }

  compile(page: number, base: number, offset: number, all = false): void {
    if (this.#flushes !== this.cache.flushes) {
      // Everything decoded was forgotten, and every region with it: their places in the table are free again.
      this.#flushes = this.cache.flushes;
      this.#next = this.interp.functions;
      this.trace?.("all code forgotten");
    }
    const at = this.cache.entryOf(page, MODE_64, offset);
    if (at === 0 || this.cache.handlerAt(at) >= this.#firstRegion) return;
    const room = this.interp.inLoop + this.#next + this.#pending.size <= MAX_HANDLER && this.cache.hasRoom();
    const jumps = this.cache.indirectTargets(page, MODE_64);
    const entered = all ? null : this.cache.entered(page, MODE_64);
    const region = room ? this.#finder.find(this.u8, base, offset, LIMITS, jumps, entered) : null;
    const name = (page * 4096 + offset).toString(16);
    if (!region || region.instructions === 0) {
      this.stats.regionsRefused++;
      this.trace?.(`${name} refused`);
      return;
    }
    const { generation, places } = this.#lay(page, region), { instructions } = region, { flushes } = this.cache;
    const bytes = this.#port ? this.u8.slice(base, base + 4096) : null;
    const own = this.#base === null ? null : places, gpa = page * 4096 + offset;
    const asked = { offset, jumps, bytes: bytes && !own ? bytes.slice() : null };
    const pending = { page, generation, flushes, at, instructions, places, asked, name };
    this.trace?.(`${name} compiling, ${instructions} instructions in ${region.blocks.length} blocks`);
    if (this.#port && bytes) {
      const request: CompileRequest = { id: this.#ids, bytes, offset, jumps, entered, at: gpa, places: own };
      this.#pending.set(this.#ids++, pending);
      this.#port.postMessage(request, [bytes.buffer]);
    } else {
      const began = performance.now();
      const module = new WebAssembly.Module(this.#compiler.compile(region, gpa, own));
      this.#install(pending, module);
      this.stats.compileMs += performance.now() - began;
    }
  }

  /** Lays the records of a region's instructions, and relies upon its bytes from now on. */
  #lay(page: number, region: Region): { generation: number; places: RegionPlaces } {
    this.cache.beginRegion(page);
    const records = this.cache.at;
    eachInstruction(region, (i) => i.record = this.#record(i) - records);
    const generation = this.cache.finishRegion(region.from, region.to);
    return { generation, places: { records, entryTable: this.cache.tableOf(page, MODE_64) } };
  }

  /** The places for code that was made for another vCPU; undefined if the page is no longer what it was made of. */
  #layAgain({ page, asked: { bytes, offset, jumps } }: Pending, entered: Uint8Array | null): RegionPlaces | undefined {
    const base = RAM_BASE + page * 4096;
    const region = this.cache.hasRoom() ? this.#finder.find(this.u8, base, offset, LIMITS, jumps, entered) : null;
    if (!region) return undefined;
    const { places } = this.#lay(page, region);
    // From here on every write to it is noticed.
    return bytes?.every((byte, at) => byte === this.u8[base + at]) ? places : undefined;
  }

  /** Takes up what the other thread has finished. */
  poll(): void {
    if (++this.#polls % HOT_SLICES === 0) halveHot(this.#words, this.cpu);
    this.#news?.read(this.#isKnown);
    if (this.#pending.size === 0) return;
    for (;;) {
      const message = receiveMessageOnPort(this.#port as unknown as Parameters<typeof receiveMessageOnPort>[0]);
      if (!message) return;
      const { id, module, entered, error, ms } = message.message as CompileAnswer;
      const pending = this.#pending.get(id)!;
      this.#pending.delete(id);
      this.stats.compileMs += ms;
      this.trace?.(`${pending.name} compiled in ${ms.toFixed(2)} ms`);
      if (entered !== undefined) this.stats.regionsShared++;
      if (module) this.#install(pending, module, entered);
      else {
        // A defect of ours, but no reason for the guest to die: the interpreter runs it.
        this.stats.regionsFailed++;
        this.trace?.(`${pending.name} failed: ${error}`);
      }
    }
  }

  #install(p: Pending, module: WebAssembly.Module, entered?: Uint8Array | null): void {
    const isCurrent = p.flushes === this.cache.flushes && this.cache.isCurrent(p.page, p.generation);
    const places = isCurrent ? entered === undefined ? p.places : this.#layAgain(p, entered) : undefined;
    if (!places) {
      this.stats.regionsStale++;
      this.trace?.(`${p.name} stale`);
      return;
    }
    const instance = new WebAssembly.Instance(module, { env: { ...this.#env, ...places } });
    const table = this.exports.table;
    const { handler, region } = instance.exports as Record<string, WebAssembly.ExportValue & (() => number)>;
    const number = this.#next - this.interp.functions;
    if (this.#next >= table.length) table.grow(Math.max(256, this.#next - table.length + 1));
    if (number >= this.#regions.length) this.#regions.grow(this.#regions.length);
    table.set(this.#next, handler!);
    this.#regions.set(number, region!);
    this.cache.enter(p.at, this.interp.inLoop + this.#next++);
    this.trace?.(`${p.name} ready`);
    this.stats.regions++;
    this.stats.regionInstructions += p.instructions;
  }

  #record(i: Instruction): number {
    const at = this.cache.at;
    const row = this.interp.variants.rows[i.row]!;
    if (row.string) {
      const imm = row.args?.startsWith("J") ? i.imm : i.repeat;
      this.cache.emit(0, i.at, i.length, i.d, i.s, i.segment < 0 ? 3 : i.segment, i.addressBits >> 3, imm, 0);
    } else this.cache.emit(0, i.at, i.length, i.d, i.s, 0, i.x, i.imm, i.immHigh);
    return at;
  }
}
