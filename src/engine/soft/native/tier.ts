/**
 * The tier of native code: machine code of the host, made on the vCPU's own thread as soon as code is seen twice, since making it
 * takes microseconds.
 *
 * Native code does what it can; for all else it names a record and leaves, and the interpreter goes on there. So each block of a
 * region is laid in the code cache as well, as records that nothing else leads to and that nothing is ever put in place of. Where
 * the interpreter is only to do one instruction, the next record leads back. What leads in are the records at entry points,
 * which are overwritten: linked traces come to native code without a lookup.
 *
 * All these records belong to their page. When that is written to they are gone as any decoded code is (code_cache.ts), and with
 * them all ways into the native code, whose bytes stay until the arena is forgotten. Native code itself never runs on past such
 * a write: a store to a page with decoded code is always done by the interpreter.
 */
import type { CpuExports } from "../../../cpu/x86/exports.ts";
import type { Interpreter } from "../../../cpu/x86/interp.ts";
import { type Instruction, type Region, RegionFinder } from "../../../cpu/x86/jit/region.ts";
import { NativeCompiler as Compiler, type NativeHost } from "../../../cpu/x86/native/compile.ts";
import { MODE_64 } from "../../../cpu/x86/state.ts";
import type { TraceBuilder } from "../../../cpu/x86/trace.ts";
import { messageOf } from "../../../base/errors.ts";
import { PAGE_BYTES, RAM_BASE } from "../../../machine/memory.ts";
import type { CodeCache } from "../code_cache.ts";
import type { CpuView } from "../cpu_view.ts";
import { Samples } from "../samples.ts";
import { LIMITS, SLICE, type Tier } from "../tier.ts";
import { CodeArena } from "./code_arena.ts";
import { hostFeatures } from "./host_features.ts";
import { enterBy, openHandler } from "./entry.ts";

export const ARENA_BYTES = 64 << 20;
/** Samples before a target is compiled; how often compiled code is left for a place before that is. */
const THRESHOLD = 6, HOT = 300;
/** Instructions of a slice after one that was nearly all native: looking at everything between two takes about 2 µs. */
const LONG_SLICE = 100_000;

export interface NativeCompiler {
  /** What all code of the vCPU needs, for host address `at`; its first byte is where libc calls. */
  thunk(at: bigint): Uint8Array;
  /** The interpreter does this instruction, and control comes back behind it. */
  leavesAt(i: Instruction): boolean;
  /**
   * Code for host address `at`. Each instruction's record is the interpreter's. `entries`, by block: where it is entered, as an
   * offset into the code, or -1; `resumes`: where it is come back to behind an instruction that it has left for.
   */
  compile(region: Region, entryTable: number, at: bigint, next?: number): {
    readonly code: Uint8Array;
    readonly entries: Int32Array;
    readonly resumes: ReadonlyMap<Instruction, number>;
  };
}

/** Makes the compiler of a vCPU. */
export type MakeCompiler = (host: NativeHost) => NativeCompiler;

/** Opens the tier of a vCPU. Throws HostError if the host gives no memory for code. */
export type OpenNative = (parts: Omit<NativeTierParts, "make">) => Tier;

/** `make`: for tests. */
export function nativeTier(make: MakeCompiler = (host) => new Compiler(host)): OpenNative {
  return (parts) => new NativeTier({ ...parts, make });
}

export interface NativeTierParts {
  readonly interp: Interpreter;
  readonly exports: CpuExports;
  readonly cache: CodeCache;
  readonly builder: TraceBuilder;
  readonly memory: WebAssembly.Memory;
  readonly cpu: number;
  readonly make: MakeCompiler;
  readonly arenaBytes?: number;
  readonly trace?: ((what: string) => void) | undefined;
}

export class NativeTier implements Tier {
  readonly hotLimit = HOT;
  readonly #parts: NativeTierParts;
  readonly #u8: Uint8Array;
  readonly #finder: RegionFinder;
  readonly #compiler: NativeCompiler;
  readonly #arena: CodeArena;
  readonly #samples: Samples;
  /** Handler number of NATIVE records: the first that is not the interpreter's own. */
  readonly #native: number;
  #flushes = 0;
  /** What the last slice may have had; instructions that native code had run before it. */
  #slice = SLICE;
  #counted = 0;

  /**
   * Regions made, instructions in them, targets refused, compilations that failed, milliseconds of compilation, bytes of native
   * code there are.
   */
  readonly stats = {
    regions: 0,
    regionInstructions: 0,
    regionsRefused: 0,
    regionsFailed: 0,
    compileMs: 0,
    nativeBytes: 0,
  };

  /** Throws HostError if the host gives no memory for code. */
  constructor(parts: NativeTierParts) {
    const { interp, exports, cache, builder, memory, cpu, make } = this.#parts = parts;
    const native = this.#native = interp.inLoop + interp.functions;
    this.#u8 = new Uint8Array(memory.buffer);
    this.#finder = new RegionFinder(builder.decoder, false);
    this.#arena = CodeArena.open(parts.arenaBytes ?? ARENA_BYTES);
    const { variants } = interp, features = hostFeatures(this.#arena);
    this.#compiler = make({ decoder: builder.decoder, variants, cpu, native, features });
    this.#arena.add(this.#compiler.thunk(this.#arena.base));
    this.#arena.keep();
    const handler = openHandler(memory, cpu, exports, enterBy(memory, cpu, this.#arena.base));
    const { table } = exports;
    if (interp.functions >= table.length) table.grow(interp.functions - table.length + 1);
    table.set(interp.functions, handler);
    this.#samples = new Samples({
      exports,
      cache,
      compiledFrom: native,
      threshold: THRESHOLD,
      ready: () => true,
      wanted: (page, offset) => this.compile(page, RAM_BASE + page * PAGE_BYTES, offset),
    });
  }

  forget(): void {
    this.#samples.forget();
  }

  /** There is no other thread. */
  useWorker(): void {}
  poll(): void {}

  slice(cpu: CpuView): number {
    // Of a count that grows for ever, the low half.
    const count = cpu.get("tierRetired"), ran = (count - this.#counted) | 0;
    this.#counted = count;
    return this.#slice = ran > 0.9 * this.#slice ? LONG_SLICE : SLICE;
  }

  sample(cpu: CpuView): void {
    this.#samples.take(cpu);
  }

  compile(page: number, base: number, offset: number, all = false): void {
    const { cache, trace } = this.#parts;
    if (this.#flushes !== cache.flushes) this.#forgetCode();
    const at = cache.entryOf(page, MODE_64, offset);
    if (at === 0 || cache.handlerAt(at) === this.#native) return;
    if (!cache.hasRoom()) return this.#forgetAll();
    const began = performance.now(), name = (page * PAGE_BYTES + offset).toString(16);
    // A device may write to the page meanwhile. That is told later, and makes all of this stale.
    const bytes = this.#u8.slice(base, base + PAGE_BYTES);
    const jumps = cache.indirectTargets(page, MODE_64), entered = all ? null : cache.entered(page, MODE_64);
    const region = this.#finder.find(
      bytes,
      0,
      offset,
      LIMITS,
      jumps,
      entered,
      cache.entered(page, MODE_64, this.#native),
    );
    const next = cache.crossedAt(at), crossing = next < 0 ? null : this.#crossing(bytes, next, offset);
    if (!crossing && (!region || region.instructions === 0)) {
      this.stats.regionsRefused++;
      trace?.(`${name} refused`);
      return;
    }
    try {
      if (crossing) this.#layCrossing(page, crossing, next, name);
      else this.#lay(page, bytes, region!, name);
    } catch (error) {
      // A defect of ours, but no reason for the guest to die: the interpreter runs it.
      cache.finishRegion(0, PAGE_BYTES);
      this.stats.regionsFailed++;
      trace?.(`${name} failed: ${messageOf(error)}`);
    }
    this.stats.compileMs += performance.now() - began;
  }

  /** Its instruction at `offset`, which ends in RAM page `next`, unless it is the interpreter's. */
  #crossing(bytes: Uint8Array, next: number, offset: number): { region: Region; both: Uint8Array } | null {
    const both = new Uint8Array(2 * PAGE_BYTES), at = RAM_BASE + next * PAGE_BYTES;
    both.set(bytes);
    both.set(this.#u8.subarray(at, at + PAGE_BYTES), PAGE_BYTES);
    const region = this.#finder.findCrossing(both, offset);
    return region && !this.#compiler.leavesAt(region.blocks[0]!.instructions[0]!) ? { region, both } : null;
  }
  /** In place of a record that the cache gives up when either page is written to: so it does with what is laid here. */
  #layCrossing(page: number, { region, both }: { region: Region; both: Uint8Array }, next: number, name: string): void {
    const { cache, builder, trace } = this.#parts, arena = this.#arena, { at, instructions } = region.blocks[0]!;
    cache.beginRegion(page);
    instructions[0]!.record = cache.at;
    builder.build(both, 0, at, 2 * PAGE_BYTES, MODE_64, next, false, cache);
    const { code, entries } = this.#compiler.compile(region, cache.tableOf(page, MODE_64), arena.at, next);
    if (!arena.fits(code.length)) return this.#forgetAll();
    cache.enterNative(at, this.#native, arena.at + BigInt(entries[0]!));
    cache.finishRegion(at, PAGE_BYTES);
    arena.add(code);
    this.stats.regions++;
    this.stats.regionInstructions++;
    this.stats.nativeBytes = arena.usedBytes;
    trace?.(`${name} native, an instruction that ends in page ${next.toString(16)}, ${code.length} bytes`);
  }

  #lay(page: number, bytes: Uint8Array, region: Region, name: string): void {
    const { cache, builder, trace } = this.#parts, compiler = this.#compiler, arena = this.#arena;
    const returns = (i: Instruction) => compiler.leavesAt(i), behind: [Instruction, number][] = [];
    cache.beginRegion(page);
    for (const { instructions } of region.blocks) {
      behind.push(...builder.layBlock(bytes, 0, instructions, returns, this.#native, cache));
    }
    const base = arena.at;
    const { code, entries, resumes } = compiler.compile(region, cache.tableOf(page, MODE_64), base);
    if (!arena.fits(code.length)) return this.#forgetAll();
    for (const [instruction, record] of behind) {
      const resume = resumes.get(instruction);
      if (resume === undefined) cache.makeNext(record);
      else cache.setNative(record, base + BigInt(resume));
    }
    region.blocks.forEach((block, n) => {
      const entry = entries[n]!;
      // What is native already stays so: that is as good, and may be running.
      if (entry < 0 || cache.handlerAt(cache.entry(block.at)) === this.#native) return;
      cache.enterNative(block.at, this.#native, base + BigInt(entry));
    });
    cache.finishRegion(region.from, region.to);
    arena.add(code);
    this.stats.regions++;
    this.stats.regionInstructions += region.instructions;
    this.stats.nativeBytes = arena.usedBytes;
    trace?.(
      `${name} native, ${region.instructions} instructions in ${region.blocks.length} blocks, ${code.length} bytes`,
    );
  }

  /** Everything is decoded and compiled anew from now on. */
  #forgetAll(): void {
    const { cache, exports, cpu } = this.#parts;
    cache.flush();
    exports.flushTlb(cpu);
    this.#forgetCode();
  }

  /** Nothing leads to native code any more. */
  #forgetCode(): void {
    this.#flushes = this.#parts.cache.flushes;
    this.#arena.forget();
    this.stats.nativeBytes = this.#arena.usedBytes;
    this.#parts.trace?.("all code forgotten");
  }
}
