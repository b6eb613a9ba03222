/**
 * Traces: one line for each thing a vCPU does at its board. Wrappers around the real parts, so that a machine that traces nothing
 * pays nothing. Lines are written outside the machine lock, by the thread they come from, in blocks.
 *
 * A line: guest time in seconds, vCPU, category, what happened. Numbers are hexadecimal.
 */
import type { Bus } from "../base/bus.ts";
import { ConfigError, HostError, messageOf } from "../base/errors.ts";
import type { Clock } from "../base/clock.ts";
import type { Board, ExitReason, InitialState, Vcpu, VcpuStats } from "../engine/engine.ts";
import type { VcpuState } from "../engine/vcpu_state.ts";
import type { MachineSpec } from "./spec.ts";

/**
 * `exits`: why run returned; `pio`, `mmio`: accesses; `msr`: local APIC MSRs; `irq`: interrupts taken; `jit`: code that the software CPU
 * compiles, by guest-physical address; `samples`: where the vCPU
 * is, each half a millisecond, which only those get who ask for it by name: "all" is without.
 */
export const TRACE_CATEGORIES = ["exits", "pio", "mmio", "msr", "irq", "jit", "samples"] as const;
export type TraceCategory = typeof TRACE_CATEGORIES[number];

const BLOCK = 64 * 1024;
const SAMPLE_NS = 500_000;

/** Where lines go. */
export class TraceLog {
  #text = "";

  constructor(
    private readonly vcpu: number,
    private readonly clock: Clock,
    private readonly categories: readonly string[],
    private readonly write: (bytes: Uint8Array) => void,
  ) {}

  /** A log that appends to a file which exists already. */
  static toFile(vcpu: number, clock: Clock, trace: { categories: readonly string[]; path: string }): TraceLog {
    let file: Deno.FsFile;
    try {
      file = Deno.openSync(trace.path, { append: true });
    } catch (error) {
      throw new HostError(`Cannot open trace file "${trace.path}": ${messageOf(error)}`, { cause: error });
    }
    return new TraceLog(vcpu, clock, trace.categories, (bytes) => {
      for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
    });
  }

  has(category: TraceCategory): boolean {
    return this.categories.includes(category) || (category !== "samples" && this.categories.includes("all"));
  }

  line(category: TraceCategory, text: string): void {
    this.#text += `${(this.clock.nowNs() / 1e9).toFixed(9)} ${this.vcpu} ${category} ${text}\n`;
    if (this.#text.length >= BLOCK) this.flush();
  }

  nowNs(): number {
    return this.clock.nowNs();
  }

  flush(): void {
    const text = this.#text;
    this.#text = "";
    if (text) this.write(new TextEncoder().encode(text));
  }
}

/** A board that also tells what passes. */
export class TracingBoard implements Board {
  readonly #pio: boolean;
  readonly #mmio: boolean;
  readonly #msr: boolean;
  readonly #irq: boolean;

  constructor(
    private readonly inner: Board,
    private readonly log: TraceLog,
    private readonly ports: Bus,
    private readonly addresses: Bus,
  ) {
    this.#pio = log.has("pio");
    this.#mmio = log.has("mmio");
    this.#msr = log.has("msr");
    this.#irq = log.has("irq");
  }

  get msrLo(): number {
    return this.inner.msrLo;
  }
  get msrHi(): number {
    return this.inner.msrHi;
  }

  ioRead(port: number, size: number): number {
    const value = this.inner.ioRead(port, size);
    if (this.#pio) this.log.line("pio", `${h(port)} read ${size} = ${h(value)} ${this.ports.nameAt(port)}`);
    return value;
  }

  ioWrite(port: number, size: number, value: number): void {
    if (this.#pio) this.log.line("pio", `${h(port)} write ${size} = ${h(value)} ${this.ports.nameAt(port)}`);
    this.inner.ioWrite(port, size, value);
  }

  mmioRead(gpa: number, size: number): number {
    const value = this.inner.mmioRead(gpa, size);
    if (this.#mmio) this.log.line("mmio", `${h(gpa)} read ${size} = ${h(value)} ${this.addresses.nameAt(gpa)}`);
    return value;
  }

  mmioWrite(gpa: number, size: number, value: number): void {
    if (this.#mmio) this.log.line("mmio", `${h(gpa)} write ${size} = ${h(value)} ${this.addresses.nameAt(gpa)}`);
    this.inner.mmioWrite(gpa, size, value);
  }

  acknowledge(vcpu: number): number {
    const vector = this.inner.acknowledge(vcpu);
    if (this.#irq) this.log.line("irq", vector < 0 ? "none" : `vector ${h(vector)}`);
    return vector;
  }

  readTpr(vcpu: number): number {
    return this.inner.readTpr(vcpu);
  }

  writeTpr(vcpu: number, value: number): void {
    this.inner.writeTpr(vcpu, value);
  }

  readMsr(vcpu: number, msr: number): boolean {
    const ok = this.inner.readMsr(vcpu, msr);
    if (this.#msr) this.log.line("msr", `${h(msr)} read ${ok ? `= ${h(this.msrHi)}:${h(this.msrLo)}` : "faults"}`);
    return ok;
  }

  writeMsr(vcpu: number, msr: number, lo: number, hi: number): boolean {
    const ok = this.inner.writeMsr(vcpu, msr, lo, hi);
    if (this.#msr) this.log.line("msr", `${h(msr)} write = ${h(hi)}:${h(lo)}${ok ? "" : " faults"}`);
    return ok;
  }
}

/** A vCPU that also tells why it stopped running, and where it is. */
export class TracingVcpu implements Vcpu {
  readonly #exits: boolean;
  readonly #samples: boolean;
  readonly save?: (state: VcpuState) => void;
  readonly restore?: (state: VcpuState) => void;

  constructor(private readonly inner: Vcpu, private readonly log: TraceLog) {
    this.#exits = log.has("exits");
    this.#samples = log.has("samples");
    if (inner.save) this.save = (state) => inner.save!(state);
    if (inner.restore) this.restore = (state) => inner.restore!(state);
  }

  run(untilNs: number): ExitReason {
    const reason = this.#samples ? this.#sampled(untilNs) : this.inner.run(untilNs);
    if (this.#exits) this.log.line("exits", reason);
    // A halted vCPU has time, and may sleep for long.
    if (reason === "halt") this.log.flush();
    return reason;
  }

  /** The engine's slice in shorter ones. A line for each that ended while the guest was at work. */
  #sampled(untilNs: number): ExitReason {
    for (;;) {
      const cutNs = Math.min(untilNs, this.log.nowNs() + SAMPLE_NS);
      const reason = this.inner.run(cutNs);
      if (reason !== "slice") return reason;
      const where = this.inner.describe();
      const end = where.indexOf("\n");
      this.log.line("samples", end < 0 ? where : where.slice(0, end));
      if (cutNs >= untilNs) return reason;
    }
  }

  reset(): void {
    this.inner.reset();
  }
  setState(state: InitialState): void {
    this.inner.setState(state);
  }
  stats(): VcpuStats {
    return this.inner.stats();
  }
  describe(): string {
    return this.inner.describe();
  }
  get lastError(): Error | null {
    return this.inner.lastError;
  }
}

/** The trace file starts empty; the Workers append to it. */
export function prepareTrace(spec: Pick<MachineSpec, "trace">): void {
  if (!spec.trace) return;
  try {
    Deno.writeTextFileSync(spec.trace.path, "");
  } catch (error) {
    throw new ConfigError(`Cannot write --trace file "${spec.trace.path}": ${messageOf(error)}`, { cause: error });
  }
}

function h(value: number): string {
  return value.toString(16);
}
