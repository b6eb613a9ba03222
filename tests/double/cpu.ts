/**
 * The processor under the model: a software CPU with memory of its own, in which guest RAM and the arena are the process's. It
 * runs until something happens that the hypervisor may want to know of, and says what (STATUS).
 */
import { CodeMap, type NoticeHandler } from "../../src/base/code_map.ts";
import { HOT_LIMIT } from "../../src/cpu/x86/hot.ts";
import { Decoder } from "../../src/cpu/x86/decode.ts";
import type { CpuExports } from "../../src/cpu/x86/exports.ts";
import type { Exits } from "../../src/cpu/x86/exits.ts";
import type { ImportImpls } from "../../src/cpu/x86/imports.ts";
import { generate, type Interpreter } from "../../src/cpu/x86/interp.ts";
import { STATUS } from "../../src/cpu/x86/ops.ts";
import type { Row } from "../../src/cpu/x86/row.ts";
import { JUMPS, reg, S, SCRATCH_OPS, VBASE } from "../../src/cpu/x86/state.ts";
import { MAX_CPU, rowFilter } from "../../src/cpu/x86/system/cpu_model.ts";
import { TraceBuilder } from "../../src/cpu/x86/trace.ts";
import { CodeCache } from "../../src/engine/soft/code_cache.ts";
import { CpuView } from "../../src/engine/soft/cpu_view.ts";
import { RegionTier } from "../../src/engine/soft/tier.ts";
import {
  allocateMachineMemory,
  ARENA_BASE,
  ARENA_BYTES,
  CODE_BASE,
  CODE_BYTES,
  PAGE_BYTES,
  RAM_BASE,
  VCPU_BASE,
} from "../../src/machine/memory.ts";
import { mapShared } from "./host.ts";
import {
  BACKED_BYTES,
  codeMapAt,
  LOW_PAGES,
  MAX_VCPUS,
  memoryMapAt,
  type Process,
  rightsAt,
  WINDOW_PAGES,
} from "./process.ts";

/** Bits of S.exits: instructions before which the processor stops. */
export const STOP = {
  CPUID: 1 << 0,
  HLT: 1 << 1,
  INVLPG: 1 << 2,
  CR: 1 << 3,
  DR: 1 << 4,
  IO: 1 << 5,
  RDTSC: 1 << 6,
  RDTSCP: 1 << 7,
  RDPMC: 1 << 8,
  MSR: 1 << 9,
  CACHES: 1 << 10,
  XSETBV: 1 << 11,
  INVPCID: 1 << 12,
  RDRAND: 1 << 13,
  RDSEED: 1 << 14,
  IRET: 1 << 15,
  /** INT3, INTO, INT1. */
  BREAK: 1 << 16,
} as const;

const BY_NAME: Readonly<Record<string, number>> = {
  ...STOP,
  INVD: STOP.CACHES,
  WBINVD: STOP.CACHES,
  CLTS: STOP.CR,
  LMSW: STOP.CR,
  SMSW: STOP.CR,
  INT3: STOP.BREAK,
  INTO: STOP.BREAK,
  INT1: STOP.BREAK,
  RDMSR: STOP.MSR,
  WRMSR: STOP.MSR,
  IN: STOP.IO,
  OUT: STOP.IO,
  INSB: STOP.IO,
  INS: STOP.IO,
  OUTSB: STOP.IO,
  OUTS: STOP.IO,
};

function stopOf(row: Row): number {
  if (row.name !== "MOV") return BY_NAME[row.name] ?? 0;
  const letters = (row.args ?? "").split(",");
  return letters.includes("C") ? STOP.CR : letters.includes("D") ? STOP.DR : 0;
}

const EXTENSION = 20_000;
/** A number that no vCPU has. */
const NOBODY = 62;

const exits: Exits = { bit: stopOf };

/** Tells of writes to guest RAM by who is no processor: devices of the machine whose vCPUs run here. */
let outside: CodeMap | null = null;
let outsideSeen = 0;

/** From now on code that devices write to is decoded anew, as caches of processors are coherent with DMA. */
export function followWrites(map: CodeMap): void {
  outside = map;
  outsideSeen = map.count;
}

let making = false;
/** Whether the memory being made is a software CPU's own. */
export const isMakingCpu = (): boolean => making;

/** Made once a thread: every vCPU's state lies at the same place of its memory. */
let interpreter: Interpreter | undefined;
let compiled: WebAssembly.Module | undefined;
let builder: TraceBuilder | undefined;

/** What the guest reaches that is not memory. */
export type CpuImports = Pick<
  ImportImpls,
  "ioRead" | "ioWrite" | "cpuid" | "readMsr" | "writeMsr" | "readTpr" | "writeTpr" | "readTsc"
>;

export class Cpu extends CpuView {
  readonly exports: CpuExports;
  readonly memory: WebAssembly.Memory;
  readonly builder: TraceBuilder;
  readonly u8: Uint8Array;
  readonly #cache: CodeCache;
  readonly #codeMap: CodeMap;
  readonly #tier: RegionTier | null;
  readonly #cross = new Uint8Array(2 * PAGE_BYTES);
  #seen: number;
  /** Whether compiled code that has used up its budget may go on without being left. */
  goesOn: () => boolean = () => false;
  readonly #notices: NoticeHandler = {
    stale: (page) => this.#cache.invalidate(page),
    evicted: (page) => this.#cache.invalidate(page, true),
    claimed: (page) => this.exports.dropWriteTags(this.base, page),
    everything: () => {
      this.#cache.invalidateAll();
      this.exports.flushTlb(this.base);
    },
  };

  /** `compiles`: hot code is compiled, by another thread. */
  constructor(process: Process, readonly id: number, imports: CpuImports, compiles: boolean) {
    making = true;
    const memory = allocateMachineMemory(BACKED_BYTES);
    making = false;
    super(memory.buffer, VCPU_BASE);
    this.memory = memory;
    this.u8 = new Uint8Array(memory.buffer);
    mapShared(process.fd, 0, ARENA_BYTES, this.address + BigInt(ARENA_BASE));
    const made = interpreter ??= generate(1, 65536, VCPU_BASE, true, exits);
    this.#codeMap = new CodeMap(memory.buffer, ARENA_BASE + codeMapAt, BACKED_BYTES);
    this.#cache = new CodeCache(
      memory.buffer,
      CODE_BASE,
      CODE_BYTES,
      LOW_PAGES + WINDOW_PAGES,
      this.#codeMap,
      VCPU_BASE + JUMPS,
    );
    this.builder = builder ??= new TraceBuilder(
      new Decoder(made.variants.rows, made.variants, rowFilter(MAX_CPU)),
      made.variants,
    );
    const answer = (lo: number, hi: number) => {
      this.put("answer", lo);
      this.put("answer", hi, 1);
    };
    const random = new Uint32Array(2);
    const env: ImportImpls = {
      ...imports,
      // Nothing but what is mapped is ever reached.
      mmioRead: () => 0,
      mmioWrite: () => {},
      random: () => {
        crypto.getRandomValues(random);
        answer(random[0]!, random[1]!);
      },
      codeWrite: (page) => {
        this.#cache.invalidate(page!);
        this.put("codeEpoch", this.#cache.epoch);
      },
      monitor: () => {},
      codeEvict: (first, second) => {
        this.#codeMap.evict(first!, second!, id, MAX_VCPUS, this.#obey, (page) => this.#cache.holds(page));
      },
    };
    const module = compiled ??= new WebAssembly.Module(made.module);
    this.exports = new WebAssembly.Instance(module, { env: { memory, ...env } }).exports as unknown as CpuExports;
    this.#seen = this.#codeMap.count;
    this.#tier = compiles
      ? new RegionTier(
        made,
        this.exports,
        this.#cache,
        this.builder.decoder,
        memory,
        this.base,
        this.u8,
        this.#extend,
        false,
      )
      : null;
    this.#tier?.useWorker(MAX_CPU);
    this.put("codePages", this.#codeMap.pagesAt);
    this.put("ramPages", LOW_PAGES + WINDOW_PAGES);
    this.put("memoryMap", ARENA_BASE + memoryMapAt);
    this.put("ramBase", RAM_BASE);
    this.put("codeDir", this.#cache.directory);
    this.put("hotLimit", HOT_LIMIT);
    this.put("splitLock", this.#codeMap.splitLockAt);
    this.put("events", this.base + S.misc);
    this.put("excError", -1);
    this.space = 0;
    this.#cache.flush();
    this.flush();
  }

  /** Where the memory is in the process. */
  get address(): bigint {
    return BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(new Uint8Array(this.memory.buffer))));
  }

  /** Whose rights and pages are in force. */
  set space(space: number) {
    this.put("rights", ARENA_BASE + rightsAt(space));
  }

  /** Not 0: whatever may have opened a window for an interrupt stops. */
  set watchWindow(watch: boolean) {
    this.put("misc", watch ? 1 : 0);
  }

  flush(): void {
    this.exports.flushTlb(this.base);
    this.exports.updateMode(this.base);
  }
  /** After pages have moved. */
  forgetCode(): void {
    this.#cache.invalidateAll();
    this.put("codeEpoch", this.#cache.epoch);
    this.flush();
  }
  /** Others wait for this processor to obey them from now on, or do not any more. */
  set running(running: boolean) {
    this.#codeMap.report(this.id, this.#seen, running);
    if (running) this.#obey();
  }

  readonly #devices: NoticeHandler = {
    stale: (page) => this.#cache.invalidate(page),
    evicted: () => {},
    claimed: () => {},
    everything: () => this.#cache.invalidateAll(),
  };

  readonly #obey = () => {
    if (outside && outside.count !== outsideSeen) {
      outsideSeen = outside.drain(outsideSeen, NOBODY, this.#devices);
      this.put("codeEpoch", this.#cache.epoch);
    }
    if (this.#codeMap.count === this.#seen) return;
    this.#seen = this.#codeMap.drain(this.#seen, this.id, this.#notices);
    this.#codeMap.report(this.id, this.#seen, true);
    this.put("codeEpoch", this.#cache.epoch);
  };

  /** Runs up to about `budget` instructions; a STATUS from SLICE on, or FAULT. Never TRANSLATE. */
  run(budget: number): number {
    this.#obey();
    for (;;) {
      const status = this.exports.run(this.base, 0, budget);
      budget = this.get("budget");
      if (status === STATUS.SLICE) this.#tier?.sample(this);
      if (status !== STATUS.TRANSLATE) return status;
      const translated = this.#translate();
      if (translated !== 0) return translated;
    }
  }

  /** Executes exactly one instruction, or says why not. */
  step(): number {
    this.#obey();
    for (;;) {
      const status = this.#single();
      if (status !== STATUS.TRANSLATE && status !== STATUS.JUMP) return status;
    }
  }

  #single(): number {
    const linear = this.linearRip();
    const fetched = this.exports.fetchAt(this.base, linear.lo, linear.hi);
    if (fetched !== 0) return fetched;
    const offset = linear.lo & 0xfff, page = this.get("physLo") >>> 12, mode = this.get("mode") & 7;
    this.#cache.beginScratch(this.base + SCRATCH_OPS);
    const cut = this.builder.build(this.u8, RAM_BASE + page * PAGE_BYTES, offset, 4096, mode, -1, true, this.#cache);
    this.#cache.endScratch();
    if (cut) {
      const next = this.#nextPage(linear);
      if (next < 0) return STATUS.FAULT;
      this.#copyBoth(page, next);
      this.#cache.beginScratch(this.base + SCRATCH_OPS);
      this.builder.build(this.#cross, 0, offset, 8192, mode, -1, true, this.#cache);
      this.#cache.endScratch();
    }
    this.dv.setUint32(this.base + reg(VBASE), (linear.lo & ~0xfff) >>> 0, true);
    this.dv.setUint32(this.base + reg(VBASE) + 4, linear.hi >>> 0, true);
    return this.exports.run(this.base, this.base + SCRATCH_OPS, 0);
  }

  /** The bytes of the instruction at RIP, as many as are mapped, up to 15; empty if it cannot be fetched. */
  fetchBytes(): Uint8Array {
    const linear = this.linearRip();
    if (this.exports.fetchAt(this.base, linear.lo, linear.hi) !== 0) return new Uint8Array(0);
    const offset = linear.lo & 0xfff, page = this.get("physLo") >>> 12, at = RAM_BASE + page * PAGE_BYTES;
    const first = this.u8.slice(at + offset, at + Math.min(4096, offset + 15));
    if (first.length === 15) return first;
    const next = this.#nextPage(linear);
    if (next < 0) return first;
    const all = new Uint8Array(15);
    all.set(first);
    all.set(
      this.u8.subarray(RAM_BASE + next * PAGE_BYTES, RAM_BASE + next * PAGE_BYTES + 15 - first.length),
      first.length,
    );
    return all;
  }

  readonly #extend = (budget: number): number => {
    if (this.get("misc") !== 0 || this.#codeMap.count !== this.#seen || !this.goesOn()) return budget;
    if (outside && outside.count !== outsideSeen) return budget;
    this.#tier!.poll();
    return budget + EXTENSION;
  };

  /** Physical page after `linear`'s, or -1: a fault is described. */
  #nextPage(linear: { lo: number; hi: number }): number {
    const lo = ((linear.lo & ~0xfff) + 0x1000) | 0;
    const hi = lo === 0 ? (linear.hi + 1) | 0 : linear.hi;
    if (this.exports.fetchAt(this.base, lo, (this.get("mode") & 3) === 2 ? hi : 0) !== 0) return -1;
    return this.get("physLo") >>> 12;
  }

  #copyBoth(first: number, second: number): void {
    const page = (n: number) => this.u8.subarray(RAM_BASE + n * PAGE_BYTES, RAM_BASE + (n + 1) * PAGE_BYTES);
    this.#cross.set(page(first));
    this.#cross.set(page(second), PAGE_BYTES);
  }

  /** Decodes a trace at RIP; 0, or FAULT if it cannot be fetched. */
  #translate(): number {
    const linear = this.linearRip();
    if (this.exports.fetchAt(this.base, linear.lo, linear.hi) !== 0) return STATUS.FAULT;
    const page = this.get("physLo") >>> 12, offset = linear.lo & 0xfff, mode = this.get("mode") & 7;
    if (!this.#cache.hasRoom()) {
      this.#cache.flush();
      this.exports.flushTlb(this.base);
    }
    this.#hold(page);
    this.#cache.begin(page, mode, offset);
    const at = RAM_BASE + page * PAGE_BYTES;
    if (!this.builder.build(this.u8, at, offset, 4096, mode, -1, false, this.#cache)) {
      this.#cache.finish(offset, this.builder.end, -1);
      return 0;
    }
    const next = this.#nextPage(linear);
    if (next >= 0) this.#hold(next);
    if (next < 0 || !this.#cache.holds(page)) {
      this.#cache.abandon();
      return next < 0 ? STATUS.FAULT : 0;
    }
    this.#copyBoth(page, next);
    this.builder.build(this.#cross, 0, offset, 8192, mode, next, false, this.#cache);
    this.#cache.finish(offset, this.builder.end, next);
    return 0;
  }

  #hold(page: number): void {
    if (this.#cache.holds(page)) return;
    this.#codeMap.claim(page, this.id, MAX_VCPUS, this.#obey);
    this.#cache.hold(page);
    // For good: whoever writes there posts a notice.
    if (outside && page < outside.pages.length) Atomics.compareExchange(outside.pages, page, 0, 1);
    this.exports.dropWriteTags(this.base, page);
  }
}
