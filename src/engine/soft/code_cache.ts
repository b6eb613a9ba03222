/**
 * Decoded code of one vCPU, in the machine's memory.
 *
 * A directory has one word a page of RAM; a page with code has an info block there: which of its 64-byte lines hold decoded
 * bytes (8 bytes, a bit a line), then for each of the eight decode modes the address of a table of 4096 entry points. Records
 * are laid one behind the other and never reused: stale ones are turned into RESYNC, so that whoever still runs or jumps into
 * them looks their address up again. When the region is full, everything is forgotten at once.
 */
import { Bug } from "../../base/errors.ts";
import type { CodeMap } from "../../base/code_map.ts";
import { SPECIAL } from "../../cpu/x86/specials.ts";
import { OP, OP_BYTES } from "../../cpu/x86/state.ts";
import type { OpSink } from "../../cpu/x86/trace.ts";

const PAGE = 4096;
const INFO_BYTES = 8 + 8 * 4;
const TABLE_BYTES = PAGE * 4;

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
  #page: Page | undefined;
  #mode = 0;
  #table = 0;
  #start = 0;
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
  ) {
    this.#u8 = new Uint8Array(buffer as ArrayBuffer);
    this.#u16 = new Uint16Array(buffer as ArrayBuffer, 0, Math.floor(buffer.byteLength / 2));
    this.#u32 = new Uint32Array(buffer as ArrayBuffer, 0, Math.floor(buffer.byteLength / 4));
    this.#directory = region;
    this.#limit = region + regionBytes;
    this.#next = this.#first();
  }

  #first(): number {
    return Math.ceil((this.#directory + this.ramPages * 4) / 64) * 64;
  }

  /** Address of the directory, for S.codeDir. */
  get directory(): number {
    return this.#directory;
  }
  get usedBytes(): number {
    return this.#next - this.#directory;
  }

  /** Whether another trace fits; if not, `flush` first. */
  hasRoom(): boolean {
    return this.#next + INFO_BYTES + TABLE_BYTES + 64 * 1024 < this.#limit;
  }

  /** Forgets everything. The instruction TLBs must be flushed with it. */
  flush(): void {
    for (const page of this.#pages.values()) {
      this.#u32[(this.#directory >> 2) + page.number] = 0;
      this.map.pages[page.number] = 0;
    }
    this.#pages.clear();
    this.#next = this.#first();
    this.flushes++;
    this.epoch++;
  }

  /** Starts a trace at `offset` of RAM page `number`. Returns true if the page had no decoded code before. */
  begin(number: number, mode: number, offset: number): boolean {
    let page = this.#pages.get(number), first = false;
    if (!page) {
      page = {
        number,
        info: this.#alloc(INFO_BYTES),
        tables: [],
        runs: [],
        entries: [],
        waiting: new Map(),
        crossers: new Set(),
        generation: 0,
      };
      this.#u8.fill(0, page.info, page.info + INFO_BYTES);
      this.#u32[(this.#directory >> 2) + number] = page.info;
      this.#pages.set(number, page);
    }
    if (this.map.pages[number] === 0) {
      this.map.pages[number] = 1;
      first = true;
    }
    let table = page.tables[mode] ?? 0;
    if (table === 0) {
      table = this.#alloc(TABLE_BYTES);
      this.#u8.fill(0, table, table + TABLE_BYTES);
      page.tables[mode] = table;
      this.#u32[(page.info + 8 + mode * 4) >> 2] = table;
    }
    this.#page = page;
    this.#mode = mode;
    this.#table = table;
    this.#start = this.#next;
    this.#setEntry(offset, this.#next);
    return first;
  }

  /** Ends the trace: bytes [from, to) of the page are decoded now, and `to` may reach into page `second`. */
  finish(from: number, to: number, second: number): boolean {
    const page = this.#page!;
    page.runs.push(this.#start, this.#next);
    this.#mark(page, from, Math.min(to, PAGE));
    let first = false;
    if (to > PAGE && second >= 0) {
      let other = this.#pages.get(second);
      if (!other) {
        const info = this.#alloc(INFO_BYTES);
        this.#u8.fill(0, info, info + INFO_BYTES);
        other = { number: second, info, tables: [], runs: [], entries: [], waiting: new Map(), crossers: new Set(), generation: 0 };
        this.#u32[(this.#directory >> 2) + second] = info;
        this.#pages.set(second, other);
      }
      if (this.map.pages[second] === 0) {
        this.map.pages[second] = 1;
        first = true;
      }
      other.crossers.add(page);
      this.#mark(other, 0, to - PAGE);
    }
    this.#page = undefined;
    return first;
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
  handlerAt(at: number): number {
    return this.#u16[at >> 1]!;
  }

  /** Starts laying the records of a compiled region of a page that has decoded code already. */
  beginRegion(number: number): void {
    this.#page = this.#pages.get(number);
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

  #mark(page: Page, from: number, to: number): void {
    for (let line = from >> 6; line <= (to - 1) >> 6; line++) {
      this.#u8[page.info + (line >> 3)]! |= 1 << (line & 7);
    }
  }

  #setEntry(offset: number, at: number): void {
    const slot = this.#table + offset * 4;
    this.#u32[slot >> 2] = at;
    const page = this.#page!;
    page.entries.push(slot);
    const key = this.#mode * PAGE + offset;
    const waiting = page.waiting.get(key);
    if (waiting) {
      for (const w of waiting) this.#u32[(w + OP.imm) >> 2] = at;
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
    const waiting = page.waiting.get(key);
    if (waiting) waiting.push(at);
    else page.waiting.set(key, [at]);
  }

  /** Somebody wrote to the page: its decoded code is stale. */
  invalidate(number: number): void {
    const page = this.#pages.get(number);
    this.map.pages[number] = 0;
    if (!page) return;
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
    for (const slot of entries) this.#u32[slot >> 2] = 0;
    this.#u8.fill(0, page.info, page.info + 8);
  }

  #alloc(bytes: number): number {
    const at = Math.ceil(this.#next / 64) * 64;
    if (at + bytes > this.#limit) throw new Bug("Code region overrun");
    this.#next = at + bytes;
    return at;
  }
}
