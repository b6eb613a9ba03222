/**
 * Guest time from the host's monotonic clock, and guest time from instructions retired.
 *
 * Each Worker's `performance.now` counts from an origin of its own; `performance.timeOrigin` says which. Threads agree to a few
 * microseconds, and the latest time anyone was told keeps time from running backwards between them.
 */
import type { Clock } from "../base/clock.ts";

/** A clock the machine owns: it can be stopped and set. Only the thread that created the machine stops and sets it. */
export interface MachineClock extends Clock {
  /** Time passes from now on. */
  start(): void;
  /** Time stands still from now on. */
  stop(): void;
  /** Sets guest time; the clock must stand still. */
  set(ns: number): void;
  /** Host nanoseconds until guest time would be `ns` if it ran at the host's pace; 0 if that has passed. */
  hostNsUntil(ns: number): number;
}

/** Words of a clock in shared memory, all f64. */
const ORIGIN_MS = 0; // timeOrigin of the thread that powered the machine on
const OFFSET_NS = 1; // host time at which guest time was 0
const FROZEN_NS = 2; // guest time while the clock stands still
const RUNNING = 3;
const LATEST_NS = 4; // the latest time told to anybody
const ICOUNT_NS = 5; // guest time by instructions

export const CLOCK_BYTES = 64;

export class HostClock implements MachineClock {
  readonly #words: Float64Array;
  #skewMs = NaN;

  constructor(buffer: ArrayBufferLike, at: number) {
    this.#words = new Float64Array(buffer, at, CLOCK_BYTES / 8);
  }

  nowNs(): number {
    const w = this.#words;
    if (w[RUNNING] === 0) return w[FROZEN_NS]!;
    const now = this.#hostNs() - w[OFFSET_NS]!;
    // Not atomic with the store below: a reader without the machine lock may see a time a few microseconds old, once.
    const latest = w[LATEST_NS]!;
    if (now <= latest) return latest;
    return w[LATEST_NS] = now;
  }

  start(): void {
    const w = this.#words;
    if (w[RUNNING] !== 0) return;
    if (w[ORIGIN_MS] === 0) w[ORIGIN_MS] = performance.timeOrigin;
    w[OFFSET_NS] = this.#hostNs() - w[FROZEN_NS]!;
    w[LATEST_NS] = w[FROZEN_NS]!;
    w[RUNNING] = 1;
  }

  stop(): void {
    const now = this.nowNs();
    this.#words[FROZEN_NS] = now;
    this.#words[RUNNING] = 0;
  }

  set(ns: number): void {
    this.#words[FROZEN_NS] = ns;
    this.#words[LATEST_NS] = ns;
  }

  hostNsUntil(ns: number): number {
    return Math.max(0, ns - this.nowNs());
  }

  #hostNs(): number {
    // The origin is known only once the machine has started, so it is read on first use and not in the constructor.
    if (Number.isNaN(this.#skewMs)) this.#skewMs = performance.timeOrigin - this.#words[ORIGIN_MS]!;
    return Math.floor((performance.now() + this.#skewMs) * 1e6);
  }
}

/**
 * Guest time as the engine counts it. While every vCPU halts, time moves to the next deadline at once, but never runs ahead of
 * the host: an idle guest then sleeps, and what it sees is the same however long the host took.
 */
export class IcountClock implements MachineClock {
  readonly #words: Float64Array;
  readonly #host: HostClock;

  constructor(buffer: ArrayBufferLike, at: number) {
    this.#words = new Float64Array(buffer, at, CLOCK_BYTES / 8);
    this.#host = new HostClock(buffer, at);
  }

  nowNs(): number {
    return this.#words[ICOUNT_NS]!;
  }

  /** The engine tells how far the guest has come. */
  setNs(ns: number): void {
    this.#words[ICOUNT_NS] = ns;
  }

  start(): void {
    this.#host.start();
  }

  stop(): void {
    this.#host.stop();
  }

  set(ns: number): void {
    this.#words[ICOUNT_NS] = ns;
    this.#host.set(ns);
  }

  hostNsUntil(ns: number): number {
    return this.#host.hostNsUntil(ns);
  }
}
