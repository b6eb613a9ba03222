/**
 * A bench for the laws over devices: one private machine around one device, whose parts write down all it does to them.
 *
 * To put a device under the laws, write a `Subject` that builds it from the bench's parts, and add it to a list in
 * device_laws_test.ts.
 */
import { Arena } from "../../src/base/arena.ts";
import type { Region, RegisterTable } from "../../src/base/bus.ts";
import type { IrqLine } from "../../src/base/irq.ts";
import { record } from "../../src/base/record.ts";
import type { ByteSink, ByteSource } from "../../src/base/ring.ts";
import { TestTime, type Timer, Timers } from "../../src/base/timers.ts";

/** A stretch of ports or addresses to try accesses on. */
export interface Target {
  readonly name: string;
  readonly region: Region;
  readonly bytes: number;
  /** Where accesses should mostly go. */
  readonly registers?: RegisterTable;
}

/** A device built on a bench. */
export interface Mounted {
  readonly targets: readonly Target[];
  /** What the outside may do to it: each does one thing, drawn from `random`, and tells the bench what came back. */
  readonly inputs?: readonly ((random: Random) => void)[];
  /** What the assembly does after the records got their power-on values. */
  powerOn?(): void;
  /** Drives outputs and timers from the record. */
  settle?(): void;
}

export interface Subject {
  readonly name: string;
  mount(bench: Bench): Mounted;
}

/** xorshift32: the same numbers for the same seed, everywhere. */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = (Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995) | 1;
  }
  /** 32 bits. */
  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return x >>> 0;
  }
  /** 0 to `n` - 1. */
  below(n: number): number {
    return this.next() % n;
  }
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)]!;
  }
  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
}

const SinkRecord = record("law-sink", 1, { room: { type: "u32", max: 1 << 16, reset: 20 } });
const SourceRecord = record("law-source", 1, { waiting: { type: "u32", max: 1 << 16 }, seed: "u32" });

/** A device may call its parts this often for one access. */
const MAX_CALLS = 2000;

export class Bench {
  readonly arena = Arena.private(1 << 16);
  readonly timers = new Timers(this.arena);
  readonly time = new TestTime(this.timers);
  readonly mounted: Mounted;
  /** What the device did since the trace was last taken. */
  #trace: string[] = [];
  #calls = 0;
  readonly #lines = new Map<string, { level: boolean }>();

  constructor(subject: Subject) {
    this.mounted = subject.mount(this);
    this.powerOn();
  }

  powerOn(): void {
    this.arena.powerOn();
    this.mounted.powerOn?.();
    this.mounted.settle?.();
  }

  /** Writes down that the device did something. */
  note(what: string): void {
    if (++this.#calls > MAX_CALLS) throw new Error(`The device calls its parts without end: ${what}`);
    this.#trace.push(what);
  }

  takeTrace(): string {
    const trace = this.#trace.join(" ");
    this.#trace = [];
    this.#calls = 0;
    return trace;
  }

  /** The levels of all lines. */
  levels(): string {
    return [...this.#lines].map(([id, line]) => `${id}=${line.level ? 1 : 0}`).join(" ");
  }

  irq(id: string): IrqLine {
    const line = { level: false };
    this.#lines.set(id, line);
    return {
      set: (level) => {
        if (level === line.level) return;
        line.level = level;
        this.note(`${id}=${level ? 1 : 0}`);
      },
    };
  }

  timer(id: string, run: () => void): Timer {
    return this.timers.timer(id, run);
  }

  /** A sink with little room; `makeRoom` is an input for it. */
  sink(id: string): ByteSink & { makeRoom(bytes: number): void } {
    const s = this.arena.place(`sink:${id}`, SinkRecord);
    return {
      get space() {
        return s.room;
      },
      put: (byte) => {
        if (s.room === 0) return false;
        s.room--;
        this.note(`${id}<${byte}`);
        return true;
      },
      makeRoom: (bytes) => {
        s.room = Math.min(64, s.room + bytes);
      },
    };
  }

  /** A source that gives made-up bytes once `come` has said that there are some. */
  source(id: string): ByteSource & { come(bytes: number): void } {
    const s = this.arena.place(`source:${id}`, SourceRecord);
    return {
      get available() {
        return s.waiting;
      },
      get: () => {
        if (s.waiting === 0) return -1;
        s.waiting--;
        s.seed = (Math.imul(s.seed, 1664525) + 1013904223) >>> 0;
        this.note(`${id}>`);
        return s.seed >>> 24;
      },
      come: (bytes) => {
        s.waiting = Math.min(64, s.waiting + bytes);
      },
    };
  }
}
