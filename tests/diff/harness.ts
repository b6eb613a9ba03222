/** Batches of cases on both processors, and what to do with a disagreement: shrink it, describe it, replay it. */
import { ROWS } from "../../src/cpu/x86/isa/index.ts";
import {
  CASES,
  CODE,
  CODE_BYTES,
  DATA,
  DATA_BYTES,
  EDGE,
  GUEST_PAGES,
  IN,
  OUT,
  PAGE,
  R,
  RECORD,
  WINDOW,
} from "./arena.ts";
import { describeState, differences } from "./compare.ts";
import { type Case, Generator } from "./generate.ts";
import { Native } from "./native.ts";
import { Random } from "./random.ts";
import { Soft } from "./soft.ts";
import { type Subject, subjects } from "./which.ts";

/** A case that the two processors disagree about, as it is kept. */
export interface Mismatch {
  readonly seed: number;
  /** Place in its batch, and the arena's address: both are part of the operands. */
  readonly place: number;
  readonly arena: number;
  readonly case: Case;
  readonly differences: readonly string[];
  /** Record and window before, hex. */
  readonly record: string;
  readonly window: string;
}

/** Regions have numbers of 16 bits, handlers too. */
const MOST_COMPILED = 40_000;
const UD2 = [0x0f, 0x0b];
const EDGE_PAGES = [EDGE.RW, EDGE.RW_AFTER_RO, EDGE.NX];

export class Harness {
  readonly native: Native;
  /** The one in use. */
  soft: Soft;
  readonly #interpreted: Soft;
  #compiled: Soft | undefined;
  readonly tested: readonly Subject[];
  /** As 32-bit code; none if the host cannot enter it. */
  readonly testedLegacy: readonly Subject[];
  readonly skipped: readonly [string, string][];
  readonly #softOut = new Uint32Array((CASES * RECORD) / 4);
  readonly #initial = new Uint8Array(DATA_BYTES);
  readonly #edges = new Uint8Array(PAGE);
  /** Cases run. */
  cases = 0;

  constructor() {
    this.native = Native.open();
    const { tested, skipped } = subjects(ROWS, this.native);
    this.tested = tested;
    this.testedLegacy = this.native.legacy ? subjects(ROWS, this.native, true).tested : [];
    this.skipped = skipped;
    this.soft = this.#interpreted = new Soft(this.native.base);
    const words = new Uint32Array(this.#edges.buffer), random = new Random(1);
    for (let i = 0; i < words.length; i++) words[i] = random.next();
    this.native.patch(EDGE.RO, this.#edges, { write: false, execute: false });
    this.soft.copyIn(EDGE.RO, this.#edges);
  }

  /** Uses the software CPU with the second tier for compiled cases, the other one for the rest. */
  #choose(c: Case): void {
    if (c.manner !== "compile") {
      this.soft = this.#interpreted;
      return;
    }
    if (!this.#compiled || this.#compiled.compiled > MOST_COMPILED) {
      this.#compiled = new Soft(this.native.base, true);
      this.#compiled.copyIn(EDGE.RO, this.#edges);
    }
    this.soft = this.#compiled;
  }

  close(): void {
    this.native.close();
  }

  /** One batch of cases, all compiled or none. */
  batch(
    seed: number,
    make: (generator: Generator, i: number) => Case,
    count = CASES,
    legacy = false,
  ): Mismatch[] {
    const random = new Random(seed), { native } = this;
    const first = DATA >> 2;
    for (let i = 0; i < DATA_BYTES / 4; i++) native.u32[first + i] = random.next();
    const generator = new Generator(native, random);
    generator.builder.legacy = legacy;
    const cases: Case[] = [];
    for (let i = 0; i < count; i++) cases.push(make(generator, i));
    this.#choose(cases[0]!);
    this.#initial.set(native.u8.subarray(DATA, DATA + DATA_BYTES));
    this.#toGuest(cases);
    native.run(count, cases[0]!.legacy);
    const bad = new Set<number>();
    cases.forEach((c, i) => {
      this.#runSoft(c, i);
      this.#agreeOnVague(c);
      if (this.#compare(c, i).length > 0) bad.add(i);
    });
    this.#compareMemory(count, bad);
    this.cases += count;
    return [...bad].map((i) => this.#mismatch(seed, i, cases[i]!));
  }

  #toGuest(cases: readonly Case[]): void {
    const { native, soft } = this;
    for (const page of EDGE_PAGES) {
      native.u8.set(this.#edges, page);
      soft.copyIn(page, this.#edges);
    }
    soft.copyIn(DATA, this.#initial);
    soft.copyIn(CODE, native.u8.subarray(CODE, CODE + CODE_BYTES));
    for (const c of cases) {
      const code = soft.bytes(CODE, CODE_BYTES);
      code.set(UD2, c.exit);
      code.set(UD2, c.taken);
    }
  }

  /** Runs one case from record 0; its code is already where it starts, on both sides. */
  direct(c: Case): string[] {
    this.#choose(c);
    this.#initial.set(this.native.u8.subarray(DATA, DATA + DATA_BYTES));
    this.#toGuest([c]);
    this.native.run(1);
    this.#runSoft(c, 0);
    this.cases++;
    return this.#differencesWithMemory(c, 0);
  }

  /** Bytes of an edge page, on both sides. */
  patch(at: number, bytes: Uint8Array): void {
    const page = GUEST_PAGES.find((p) => at >= p.at && at < p.at + p.bytes)!;
    this.native.patch(at, bytes, page);
    this.soft.copyIn(at, bytes);
  }

  #runSoft(c: Case, i: number): void {
    this.soft.execute(
      this.native.u32,
      (IN + i * RECORD) >> 2,
      this.#softOut,
      (i * RECORD) >> 2,
      c.exit,
      c.taken,
      c.manner,
      c.limit,
      c.legacy ?? false,
    );
  }

  #compare(c: Case, i: number): string[] {
    return differences(c, this.native.u32, (OUT + i * RECORD) >> 2, this.#softOut, (i * RECORD) >> 2);
  }

  /** Memory that is not compared becomes equal. */
  #agreeOnVague(c: Case): void {
    const [at, length] = c.vague;
    const { native } = this;
    if (length > 0 && at >= DATA && at + length <= DATA + DATA_BYTES) {
      this.soft.bytes(at, length).set(native.u8.subarray(at, at + length));
    }
  }

  /** Adds the cases whose windows differ, and, if an edge page does, those that may have written there. */
  #compareMemory(count: number, bad: Set<number>): void {
    const guest = this.soft.bytes(DATA, DATA_BYTES);
    const theirs = new Uint32Array(guest.buffer, guest.byteOffset, DATA_BYTES / 4), first = DATA >> 2;
    for (let i = 0; i < (count * WINDOW) / 4; i++) {
      if (theirs[i] !== this.native.u32[first + i]) bad.add(Math.floor((i * 4) / WINDOW));
    }
    for (const page of EDGE_PAGES) {
      const bytes = this.soft.bytes(page, PAGE);
      for (let i = 0; i < PAGE; i++) {
        // Whoever it was: the last case stands for it, unless another one is already known.
        if (bytes[i] !== this.native.u8[page + i] && bad.size === 0) bad.add(count - 1);
      }
    }
  }

  #mismatch(seed: number, i: number, c: Case): Mismatch {
    const hex = (b: Uint8Array) => [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
    const record = this.native.u8.slice(IN + i * RECORD, IN + (i + 1) * RECORD);
    const window = this.#initial.slice(i * WINDOW, (i + 1) * WINDOW);
    return {
      seed,
      place: i,
      arena: this.native.base,
      case: c,
      differences: this.#differencesWithMemory(c, i),
      record: hex(record),
      window: hex(window),
    };
  }

  #differencesWithMemory(c: Case, i: number): string[] {
    const list = this.#compare(c, i);
    const at = DATA + i * WINDOW, guest = this.soft.bytes(at, WINDOW);
    for (let k = 0; k < WINDOW && list.length < 12; k++) {
      const x = this.native.u8[at + k]!, y = guest[k]!;
      if (x !== y) {
        list.push(`memory ${(this.native.base + at + k).toString(16)}: host ${x.toString(16)}, soft ${y.toString(16)}`);
      }
    }
    return list;
  }

  /** Runs a kept case alone; returns what differs now, or null if the arena is not where it was. */
  replay(m: Mismatch): string[] | null {
    if (m.arena !== this.native.base) return null;
    return this.#alone(m.place, m.case, fromHex(m.record), fromHex(m.window));
  }

  #alone(i: number, c: Case, record: Uint8Array, window: Uint8Array): string[] {
    this.#choose(c);
    const { native } = this;
    native.u8.fill(0, DATA, DATA + DATA_BYTES);
    native.u8.set(window, DATA + i * WINDOW);
    this.#initial.set(native.u8.subarray(DATA, DATA + DATA_BYTES));
    native.u8.set(record, IN + i * RECORD);
    native.u8.set(c.code, c.at);
    native.jump(c.exit, c.legacy ? native.stub.exit32 : native.stub.exit);
    if (c.taken !== c.exit + 5) native.jump(c.taken, c.legacy ? native.stub.exitTaken32 : native.stub.exitTaken);
    // The native side runs from the first record: others before it would run too.
    const place = i * RECORD;
    native.runFrom(place, 1, c.legacy);
    const after = native.u8.slice(OUT + place, OUT + place + RECORD);
    const memory = native.u8.slice(DATA, DATA + DATA_BYTES);
    native.u8.set(this.#initial, DATA);
    native.u8.set(c.code, c.at); // it may have changed itself
    this.#toGuest([c]);
    native.u8.set(after, OUT + place);
    native.u8.set(memory, DATA);
    this.#runSoft(c, i);
    this.#agreeOnVague(c);
    return this.#differencesWithMemory(c, i);
  }

  /** The same disagreement from a simpler state: registers and memory that do not matter become zero. */
  shrink(m: Mismatch): Mismatch {
    const record = fromHex(m.record), window = fromHex(m.window);
    const kind = (list: readonly string[]) => list.map((d) => d.split(":")[0]!.split(" ")[0]).sort().join();
    const wanted = kind(this.#alone(m.place, m.case, record, window));
    if (wanted === "") return m;
    // Fewer instructions: those that do not matter become NOPs.
    const code = [...m.case.code];
    let from = m.case.skip ?? 0;
    for (const length of m.case.parts ?? []) {
      const old = code.splice(from, length, ...new Array(length).fill(0x90));
      const found = kind(this.#alone(m.place, { ...m.case, code }, record, window));
      if (found !== wanted) code.splice(from, length, ...old);
      from += length;
    }
    m = { ...m, case: { ...m.case, code } };
    const tryZero = (bytes: Uint8Array, at: number, n: number, value?: Uint8Array) => {
      const old = bytes.slice(at, at + n);
      if (value) bytes.set(value, at);
      else bytes.fill(0, at, at + n);
      if (kind(this.#alone(m.place, m.case, record, window)) !== wanted) bytes.set(old, at);
    };
    for (let n = 0; n < 16; n++) if (((m.case.pinned >> n) & 1) === 0) tryZero(record, 8 * n, 8);
    tryZero(record, R.FLAGS, 8, Uint8Array.of(2, 2, 0, 0, 0, 0, 0, 0));
    for (let at = R.FX + 32; at < R.FX + 416; at += 16) tryZero(record, at, 16);
    for (let at = R.YMM; at < R.YMM + 256 && at < record.length; at += 16) tryZero(record, at, 16);
    for (let step = WINDOW / 2; step >= 16; step /= 2) {
      for (let at = 0; at < WINDOW; at += step) tryZero(window, at, step);
    }
    const found = this.#alone(m.place, m.case, record, window);
    const hex = (b: Uint8Array) => [...b].map((x) => x.toString(16).padStart(2, "0")).join("");
    return { ...m, differences: found, record: hex(record), window: hex(window) };
  }

  /** For a person. */
  describe(m: Mismatch): string {
    const bytes = new Uint8Array(RECORD);
    bytes.set(fromHex(m.record));
    const words = new Uint32Array(bytes.buffer);
    const code = m.case.code.map((b) => b.toString(16).padStart(2, "0")).join(" ");
    const floating = m.differences.some((d) => /^(xmm|ymm|st|mxcsr|f[cst]w)/.test(d)) ||
      m.case.floating;
    const window = m.window.replace(/(00)+$/, "");
    return [
      `${m.case.name}, ${m.case.manner}, seed ${m.seed} case ${m.place}: ${code}`,
      ...m.differences.map((d) => `  ${d}`),
      ...describeState(words, 0, floating).map((l) => `    ${l}`),
      ...(/[^0]/.test(window) && window.length < 2 * WINDOW
        ? [`    window ${(m.arena + DATA + m.place * WINDOW).toString(16)}: ${m.window}`]
        : []),
    ].join("\n");
  }
}

function fromHex(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}
