/**
 * The second tier: which code is compiled, and when.
 *
 * Samples cost nothing: at the end of each slice the instruction pointer is at the target of a jump, most often of a hot one. A
 * target seen often enough is compiled with all that direct jumps reach from it within its page.
 */
import type { Decoder } from "../../cpu/x86/decode.ts";
import type { CpuExports, Interpreter } from "../../cpu/x86/interp.ts";
import { REGION_IMPORTS, RegionCompiler, type RegionHost } from "../../cpu/x86/jit/lower.ts";
import { type Instruction, RegionFinder } from "../../cpu/x86/jit/region.ts";
import { MODE_64 } from "../../cpu/x86/state.ts";
import type { CodeCache } from "./code_cache.ts";

/** Samples before a target is compiled; the table of counts is emptied when it holds this many. */
const THRESHOLD = 24, MAX_COUNTS = 8192;
const LIMITS = { blocks: 64, instructions: 400 } as const;
/** Handler numbers are 16 bits wide. */
const MAX_HANDLER = 0xffff;

export class RegionTier {
  readonly #finder: RegionFinder;
  readonly #compiler: RegionCompiler;
  readonly #host: RegionHost;
  readonly #counts = new Map<number, number>();
  readonly #env: WebAssembly.ModuleImports;
  #next: number;
  #flushes = 0;

  /** Regions compiled, instructions in them, targets refused, milliseconds spent. */
  readonly stats = { regions: 0, regionInstructions: 0, regionsRefused: 0, compileMs: 0 };

  constructor(
    private readonly interp: Interpreter,
    private readonly exports: CpuExports,
    private readonly cache: CodeCache,
    decoder: Decoder,
    memory: WebAssembly.Memory,
    cpu: number,
    private readonly u8: Uint8Array,
  ) {
    this.#finder = new RegionFinder(decoder);
    this.#host = {
      inLoop: interp.inLoop,
      firstRegion: interp.inLoop + interp.functions,
      entryTable: 0,
      vectorFuncs: interp.vectorFuncs,
      decoder,
      variants: interp.variants,
      cpu,
      tableEntry: (h) => h >= interp.inLoop ? h - interp.inLoop : interp.shadows.get(h) ?? -1,
      record: (i) => this.#record(i),
    };
    this.#compiler = new RegionCompiler(this.#host);
    const all = exports as unknown as Record<string, WebAssembly.ExportValue>;
    this.#env = {
      memory,
      table: exports.table,
      ...Object.fromEntries([...REGION_IMPORTS, ...interp.vectorFuncs.map((f) => f.name)].map((n) => [n, all[n]!])),
    };
    this.#next = interp.functions;
  }

  #record(i: Instruction): number {
    const at = this.cache.at;
    const row = this.interp.variants.rows[i.row]!;
    if (row.string) {
      this.cache.emit(0, i.at, i.length, 0, 0, i.segment < 0 ? 3 : i.segment, i.addressBits >> 3, i.repeat, 0);
    } else this.cache.emit(0, i.at, i.length, i.d, i.s, 0, i.x, i.imm, i.immHigh);
    return at;
  }

  /** Counts a sample; true if the target should be compiled now. `key` is the low 48 bits of the address. */
  sample(key: number): boolean {
    const count = (this.#counts.get(key) ?? 0) + 1;
    if (this.#counts.size >= MAX_COUNTS) this.#counts.clear();
    this.#counts.set(key, count);
    return count === THRESHOLD;
  }

  /** Compiles what starts at `offset` of RAM page `page`, whose bytes are at `base` of the memory. */
  compile(page: number, base: number, offset: number): void {
    if (this.#flushes !== this.cache.flushes) {
      // Everything decoded was forgotten, and every region with it: their places in the table are free again.
      this.#flushes = this.cache.flushes;
      this.#next = this.interp.functions;
    }
    const at = this.cache.entryOf(page, MODE_64, offset);
    if (at === 0 || this.cache.handlerAt(at) >= this.interp.inLoop + this.interp.functions) return;
    const h = this.interp.inLoop + this.#next;
    const began = performance.now();
    const region = h <= MAX_HANDLER && this.cache.hasRoom() ? this.#finder.find(this.u8, base, offset, LIMITS) : null;
    if (!region || region.instructions < 3) {
      this.stats.regionsRefused++;
      return;
    }
    this.#host.entryTable = this.cache.tableOf(page, MODE_64);
    this.cache.beginRegion(page);
    const bytes = this.#compiler.compile(region);
    const instance = new WebAssembly.Instance(new WebAssembly.Module(bytes), { env: this.#env });
    const table = this.exports.table;
    if (this.#next >= table.length) table.grow(Math.max(256, this.#next - table.length + 1));
    table.set(this.#next++, instance.exports.region as WebAssembly.ExportValue & (() => number));
    this.cache.finishRegion(region.from, region.to, at, h);
    this.stats.regions++;
    this.stats.regionInstructions += region.instructions;
    this.stats.compileMs += performance.now() - began;
  }
}
