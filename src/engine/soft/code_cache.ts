/**
 * Decoded code of one vCPU, in the machine's memory.
 *
 * A directory has one word a page of RAM; a page with code has an info block there: which of its 64-byte lines hold decoded
 * bytes (8 bytes, a bit a line), then for each of the eight decode modes the address of a table of 4096 entry points. Records
 * are laid one behind the other and never reused: stale ones are turned into RESYNC, so that whoever still runs or jumps into
 * them looks their address up again. Tables grow down from the region's end, on pages of their own: a page of code uses few of
 * its entry points, and what was never written costs the host no memory. When the two meet, everything is forgotten at once.
 */
import { Bug } from "../../base/errors.ts";
import type { CodeMap } from "../../base/code_map.ts";
import { FUSED_START, SPECIAL, SPECIAL_JCC } from "../../cpu/x86/specials.ts";
import { CODE_INFO, ENTRY_TABLE, jumpEntry, JUMPS_BYTES, MODE_64, OP, OP_BYTES } from "../../cpu/x86/state.ts";
import type { OpSink } from "../../cpu/x86/trace.ts";
import { CODE_BASE, CODE_BYTES, PAGE_BYTES } from "../../machine/memory.ts";
import type { VcpuParts } from "../engine.ts";

const PAGE = 4096;
const INFO_BYTES = CODE_INFO.BYTES;
const TABLE_BYTES = ENTRY_TABLE.BYTES;

/** Numbers of the targets of a page's indirect jumps. */
const FIRST_TARGET = 2, LAST_TARGET = 41;

interface Page {
  readonly number: number;
  readonly info: number;
  /** Entry tables by mode. */
  readonly tables: number[];
  /** Runs of records: from, to, from, to, … */
  runs: number[];
  /** Entry points as table address + offset × 4. */
  entries: number[];
  /** Records that wait for an entry point: key mode × 4096 + offset. */
  waiting: Map<number, number[]>;
  /** Pages whose last instruction reaches into this one. */
  crossers: Set<Page>;
  /** Times its code was dropped. */
  generation: number;
}

export class CodeCache implements OpSink {
  readonly #u8: Uint8Array;
  readonly #u16: Uint16Array;
  readonly #u32: Uint32Array;
  readonly #pages = new Map<number, Page>();
  readonly #directory: number;
  readonly #limit: number;
  #next: number;
  /** The lowest table. */
  #tables: number;
  /** What lies from #used up to #clean has never been written: the highest #next and the lowest #tables there were. */
  #used: number;
  #clean: number;
  #page: Page | undefined;
  #mode = 0;
  #table = 0;
  #start = 0;
  /** Page offset of a trace that has no record yet, or -1. */
  #opening = -1;
  /** Where a single step's records go instead. */
  #scratch = 0;

  /** Times everything was forgotten; pages invalidated; instructions decoded. */
  flushes = 0;
  /** Goes up with every invalidation. */
  epoch = 0;
  invalidations = 0;

  constructor(
    buffer: ArrayBufferLike,
    region: number,
    regionBytes: number,
    private readonly ramPages: number,
    private readonly map: CodeMap,
    /** Address of the vCPU's JUMPS. */
    private readonly jumps: number,
  ) {
    this.#u8 = new Uint8Array(buffer as ArrayBuffer);
    this.#u16 = new Uint16Array(buffer as ArrayBuffer, 0, Math.floor(buffer.byteLength / 2));
    this.#u32 = new Uint32Array(buffer as ArrayBuffer, 0, Math.floor(buffer.byteLength / 4));
    this.#directory = region;
    this.#limit = region + regionBytes;
    this.#next = this.#used = this.#first();
    this.#tables = this.#clean = this.#limit;
  }

  #first(): number {
    return Math.ceil((this.#directory + this.ramPages * 4) / 64) * 64;
  }

  /** Address of the directory, for S.codeDir. */
  get directory(): number {
    return this.#directory;
  }
  get usedBytes(): number {
    return this.#next - this.#directory + this.#limit - this.#tables;
  }

  /** For --stats. */
  stats(): Record<string, number> {
    return { codeBytes: this.usedBytes, codeFlushes: this.flushes, codeInvalidations: this.invalidations };
  }

  /** Whether another trace fits; if not, `flush` first. */
  hasRoom(): boolean {
    return this.#next + INFO_BYTES + 64 * 1024 < this.#tables - TABLE_BYTES;
  }

  /** Forgets everything. The instruction TLBs must be flushed with it. */
  flush(): void {
    for (const page of this.#pages.values()) {
      this.#u32[(this.#directory >> 2) + page.number] = 0;
      this.#release(page);
    }
    this.#pages.clear();
    this.#u8.fill(0, this.jumps, this.jumps + JUMPS_BYTES);
    this.#used = Math.max(this.#used, this.#next);
    this.#next = this.#first();
    this.#tables = this.#limit;
    this.flushes++;
    this.epoch++;
  }

  /**
   * Forgets what every page holds, but lays nothing in its place: records that are being run stay where they are. Nobody
   * is told that the pages are no longer held.
   */
  invalidateAll(): void {
    for (const number of this.#pages.keys()) this.invalidate(number, true);
  }

  /** Whether this vCPU counts as a holder of decoded code of the page; if not, it must claim it before it decodes. */
  holds(number: number): boolean {
    const page = this.#pages.get(number);
    return page !== undefined && this.#u32[(page.info + CODE_INFO.HELD) >> 2] !== 0;
  }
  /** The page has been claimed. */
  hold(number: number): void {
    this.#u32[(this.#pageOf(number).info + CODE_INFO.HELD) >> 2] = 1;
  }
  #release(page: Page): void {
    const at = (page.info + CODE_INFO.HELD) >> 2;
    if (this.#u32[at] === 0) return;
    this.#u32[at] = 0;
    this.map.release(page.number);
  }

  #pageOf(number: number): Page {
    const known = this.#pages.get(number);
    if (known) return known;
    const info = this.#alloc(INFO_BYTES);
    const page: Page = {
      number,
      info,
      tables: [],
      runs: [],
      entries: [],
      waiting: new Map(),
      crossers: new Set(),
      generation: 0,
    };
    this.#u8.fill(0, info, info + INFO_BYTES);
    this.#u32[(this.#directory >> 2) + number] = info;
    this.#pages.set(number, page);
    return page;
  }

  /** Starts a trace at `offset` of RAM page `number`, which this vCPU holds. */
  begin(number: number, mode: number, offset: number): void {
    const page = this.#pageOf(number);
    let table = page.tables[mode] ?? 0;
    if (table === 0) {
      table = this.#newTable();
      page.tables[mode] = table;
      this.#u32[(page.info + CODE_INFO.TABLES + mode * 4) >> 2] = table;
    }
    this.#page = page;
    this.#mode = mode;
    this.#table = table;
    this.#opening = offset;
  }

  /** Before its first record: where that lies, the trace starts. */
  #open(): void {
    const offset = this.#opening;
    this.#opening = -1;
    this.#start = this.#next;
    this.#setEntry(offset, this.#next);
  }

  /** There is no trace after all: nothing has been laid. */
  abandon(): void {
    this.#opening = -1;
    this.#page = undefined;
  }

  /** Ends the trace: bytes [from, to) of the page are decoded now, and `to` may reach into page `second`, held as well. */
  finish(from: number, to: number, second: number): void {
    const page = this.#page!;
    page.runs.push(this.#start, this.#next);
    this.#mark(page, from, Math.min(to, PAGE));
    if (to > PAGE && second >= 0) {
      const other = this.#pageOf(second);
      other.crossers.add(page);
      this.#mark(other, 0, to - PAGE);
    }
    this.#page = undefined;
  }

  /** The record at an entry point of a page, or 0. */
  entryOf(number: number, mode: number, offset: number): number {
    const table = this.#pages.get(number)?.tables[mode];
    return table ? this.#u32[(table + offset * 4) >> 2]! : 0;
  }
  /** Address of a page's entry points in a mode. */
  tableOf(number: number, mode: number): number {
    return this.#pages.get(number)!.tables[mode]!;
  }
  /** Offsets that indirect jumps of the page's 64-bit code have gone to, by the numbers they have there from now on. */
  indirectTargets(number: number, mode: number): { offset: number; id: number }[] {
    const targets: { offset: number; id: number }[] = [];
    const at = this.tableOf(number, mode) + ENTRY_TABLE.TARGETS;
    let last = FIRST_TARGET - 1;
    for (let offset = 0; offset < PAGE; offset++) last = Math.max(last, this.#u8[at + offset]!);
    for (let offset = 0; offset < PAGE; offset++) {
      if (this.#u8[at + offset] === 1 && last < LAST_TARGET) this.#u8[at + offset] = ++last;
      const id = this.#u8[at + offset]!;
      if (id >= FIRST_TARGET) targets.push({ offset, id });
    }
    return targets;
  }
  /** Where jumps have gone in a page: a bit for each offset. With `handler`, only where that is. */
  entered(number: number, mode: number, handler = -1): Uint8Array<ArrayBuffer> {
    const from = this.tableOf(number, mode) >> 2, bits = new Uint8Array(PAGE / 8);
    for (let offset = 0; offset < PAGE; offset++) {
      const at = this.#u32[from + offset]!;
      if (at !== 0 && (handler < 0 || this.#u16[at >> 1] === handler)) bits[offset >> 3]! |= 1 << (offset & 7);
    }
    return bits;
  }
  handlerAt(at: number): number {
    return this.#u16[at >> 1]!;
  }

  /** The page that the instruction of the record reaches into, or -1. */
  crossedAt(at: number): number {
    return this.handlerAt(at) === SPECIAL.XPAGE ? this.#u32[(at + OP.imm) >> 2]! : -1;
  }

  /** Starts laying the records of a compiled region of a page that has decoded 64-bit code already. */
  beginRegion(number: number): void {
    this.#page = this.#pages.get(number);
    this.#mode = MODE_64;
    this.#table = this.tableOf(number, MODE_64);
    this.#start = this.#next;
  }
  /** Ends laying them: bytes [from, to) are relied upon. Gives the page's generation, for `isCurrent`. */
  finishRegion(from: number, to: number): number {
    const page = this.#page!;
    page.runs.push(this.#start, this.#next);
    this.#mark(page, from, to);
    this.#page = undefined;
    return page.generation;
  }
  /** Whether the page's code is still that of `generation`. */
  isCurrent(number: number, generation: number): boolean {
    return this.#pages.get(number)?.generation === generation;
  }
  /** The operation at `at` becomes handler `h`. */
  enter(at: number, h: number): void {
    this.#u16[at >> 1] = h;
  }
  /** While a region is laid: what begins at `offset` is native code at a host address, by handler `h`. */
  enterNative(offset: number, h: number, address: bigint): void {
    let at = this.entry(offset);
    if (at === 0) {
      at = this.#next;
      this.emit(h, offset, 0, 0, 0, 0, 0, 0, 0);
      this.#setEntry(offset, at);
    }
    this.enter(at, h);
    this.setNative(at, address);
  }
  /** A record of native code between two others does nothing: what follows it is next. */
  makeNext(at: number): void {
    this.enter(at, SPECIAL.GOTO);
    this.#u32[(at + OP.imm) >> 2] = at + OP_BYTES;
    this.#u32[(at + OP.disp) >> 2] = this.#u16[(at + OP.ip) >> 1]! & 0xfff;
  }
  /** The host address of a record of native code. */
  setNative(at: number, address: bigint): void {
    this.#u32[(at + OP.imm) >> 2] = Number(address & 0xffff_ffffn);
    this.#u32[(at + OP.disp) >> 2] = Number(address >> 32n);
  }

  #mark(page: Page, from: number, to: number): void {
    for (let line = from >> 6; line <= (to - 1) >> 6; line++) {
      this.#u8[page.info + (line >> 3)]! |= 1 << (line & 7);
    }
  }

  #setEntry(offset: number, at: number): void {
    const slot = this.#table + offset * 4;
    this.#u32[slot >> 2] = at;
    this.#u32[(this.jumps + jumpEntry(slot)) >> 2] = 0;
    const page = this.#page!;
    page.entries.push(slot);
    const key = this.#mode * PAGE + offset;
    const waiting = page.waiting.get(key);
    if (waiting) {
      // One that was an entry point may have become native code, which waits for nothing.
      for (const w of waiting) if (holdsLink(this.#u16[w >> 1]!)) this.#u32[(w + OP.imm) >> 2] = at;
      page.waiting.delete(key);
    }
  }

  /** Records for one step go to `at` until `endScratch`. */
  beginScratch(at: number): void {
    this.#scratch = at;
    this.#start = this.#next;
    this.#next = at;
  }
  endScratch(): void {
    this.#scratch = 0;
    this.#next = this.#start;
  }

  get at(): number {
    return this.#next;
  }

  emit(
    h: number,
    ip: number,
    length: number,
    d: number,
    s: number,
    b: number,
    x: number,
    imm: number,
    disp: number,
  ): void {
    if (this.#opening >= 0) this.#open();
    const at = this.#next, u8 = this.#u8;
    this.#u16[at >> 1] = h;
    this.#u16[(at + OP.ip) >> 1] = (ip & 0xfff) | (length << 12);
    u8[at + OP.d] = d;
    u8[at + OP.s] = s;
    u8[at + OP.b] = b;
    u8[at + OP.x] = x;
    this.#u32[(at + OP.imm) >> 2] = imm;
    this.#u32[(at + OP.disp) >> 2] = disp;
    this.#next = at + OP_BYTES;
  }

  entry(offset: number): number {
    return this.#scratch ? 0 : this.#u32[(this.#table + offset * 4) >> 2]!;
  }

  link(at: number, offset: number): void {
    if (this.#scratch || this.#u32[(at + OP.imm) >> 2] !== 0) return;
    const page = this.#page!, key = this.#mode * PAGE + offset;
    const known = this.entry(offset); // the record itself, if it jumps there and is the first
    if (known !== 0) {
      this.#u32[(at + OP.imm) >> 2] = known;
      return;
    }
    const waiting = page.waiting.get(key);
    if (waiting) waiting.push(at);
    else page.waiting.set(key, [at]);
  }

  /** Somebody wrote to the page: its decoded code is stale. `released`: this vCPU no longer counts as its holder. */
  invalidate(number: number, released = false): void {
    const page = this.#pages.get(number);
    if (!page) return;
    if (released) this.#u32[(page.info + CODE_INFO.HELD) >> 2] = 0;
    else this.#release(page);
    this.invalidations++;
    this.epoch++;
    this.#drop(page);
    const crossers = [...page.crossers];
    page.crossers.clear();
    for (const c of crossers) this.#drop(c);
  }

  #drop(page: Page): void {
    page.generation++;
    const { runs, entries } = page;
    page.runs = [];
    page.entries = [];
    page.waiting.clear();
    for (let i = 0; i < runs.length; i += 2) {
      for (let at = runs[i]!; at < runs[i + 1]!; at += OP_BYTES) {
        // A GOTO finds its way by itself, and its place may lie in the next page.
        if (this.#u16[at >> 1] !== SPECIAL.GOTO) this.#u16[at >> 1] = SPECIAL.RESYNC;
        else this.#u32[(at + OP.imm) >> 2] = 0;
      }
    }
    for (const slot of entries) {
      this.#u32[slot >> 2] = 0;
      this.#u32[(this.jumps + jumpEntry(slot)) >> 2] = 0;
    }
    for (const table of page.tables) {
      if (table) this.#clear(table + ENTRY_TABLE.TARGETS, table + ENTRY_TABLE.BYTES);
    }
    this.#u8.fill(0, page.info, page.info + 8);
  }

  #alloc(bytes: number): number {
    const at = Math.ceil(this.#next / 64) * 64;
    if (at + bytes > this.#tables) throw new Bug("Code region overrun");
    this.#next = at + bytes;
    return at;
  }

  /** A table of zeros. */
  #newTable(): number {
    const table = this.#tables - TABLE_BYTES;
    if (table < this.#next) throw new Bug("Code region overrun");
    if (table < this.#used || table >= this.#clean) this.#u8.fill(0, table, table + TABLE_BYTES);
    this.#tables = table;
    this.#clean = Math.min(this.#clean, table);
    return table;
  }

  /** Makes zeros of what is none: reading leaves the host's page out of memory if it is. */
  #clear(from: number, to: number): void {
    for (let at = from >> 2; at < to >> 2; at++) {
      if (this.#u32[at] !== 0) return void this.#u8.fill(0, from, to);
    }
  }
}

/** The cache of one vCPU of a machine; `jumps` is the address of its JUMPS. */
export function openCodeCache(
  { memory, ram, index, vcpus = 1, codeMap, codeBytes = CODE_BYTES }: Pick<
    VcpuParts,
    "memory" | "ram" | "index" | "vcpus" | "codeMap" | "codeBytes"
  >,
  jumps: number,
): CodeCache {
  const bytes = Math.floor(codeBytes / vcpus / PAGE_BYTES) * PAGE_BYTES, ramPages = Math.floor(ram.backedBytes / PAGE);
  return new CodeCache(memory.buffer, CODE_BASE + index * bytes, bytes, ramPages, codeMap, jumps);
}

/** Whether records of a handler have the address of another in their immediate. */
function holdsLink(h: number): boolean {
  return h === SPECIAL.GOTO || h === SPECIAL.JMP || h === SPECIAL.CALL || (h >= SPECIAL_JCC && h < FUSED_START);
}
