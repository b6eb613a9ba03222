/** For the laws of engines: one vCPU of any engine over a small memory, and a board that remembers. */
import { Arena } from "../../src/base/arena.ts";
import { CodeMap } from "../../src/base/code_map.ts";
import { type Mapping, MemoryMap } from "../../src/base/memory_map.ts";
import { GuestRam } from "../../src/base/ram.ts";
import {
  type Board,
  type Engine,
  type ExitReason,
  type InitialState,
  type Vcpu,
  VcpuEvent,
} from "../../src/engine/engine.ts";
import { allocateMachineMemory, ARENA_BASE, ARENA_BYTES, RAM_BASE } from "../../src/machine/memory.ts";

export const RAM_BYTES = 16 << 20, EXTRA_BYTES = 1 << 20;
export const CODE = 0x10000, HANDLERS = 0x11000, DATA = 0x20000, STACK = 0x30000;
/** Nothing but the board answers here. */
export const MMIO_BASE = 0xc100_0000;
const PML4 = 0x1000, PDPT = 0x2000, LOW_PD = 0x3000, HIGH_PD = 0x4000, GDT = 0x8000, IDT = 0x9000;
const CODE_SELECTOR = 0x10, DATA_SELECTOR = 0x18;

/** Machine code in hexadecimal, a piece an instruction. */
export function code(...pieces: string[]): Uint8Array {
  return Uint8Array.from(pieces.join("").match(/../g)!, (x) => parseInt(x, 16));
}

/** Reads answer from `inputs`, oldest first, then all ones. */
export class LogBoard implements Board {
  readonly log: string[] = [];
  readonly inputs: number[] = [];
  tpr = 0;
  vector = -1;
  msrLo = 0;
  msrHi = 0;
  readonly msrs = new Map<number, number>();
  onWrite: (port: number) => void = () => {};
  onAcknowledge: () => void = () => {};

  ioRead(port: number, size: number): number {
    this.log.push(`in ${hex(port)}.${size}`);
    return this.#input(size);
  }
  ioWrite(port: number, size: number, value: number): void {
    this.log.push(`out ${hex(port)}.${size} ${hex(value)}`);
    this.onWrite(port);
  }
  mmioRead(gpa: number, size: number): number {
    this.log.push(`read ${hex(gpa)}.${size}`);
    return this.#input(size);
  }
  mmioWrite(gpa: number, size: number, value: number): void {
    this.log.push(`write ${hex(gpa)}.${size} ${hex(value)}`);
  }
  acknowledge(): number {
    this.log.push("acknowledge");
    this.onAcknowledge();
    return this.vector;
  }
  readTpr(): number {
    return this.tpr;
  }
  writeTpr(_vcpu: number, value: number): void {
    this.tpr = value;
  }
  readMsr(_vcpu: number, msr: number): boolean {
    const value = this.msrs.get(msr);
    if (value === undefined) return false;
    this.msrLo = value;
    this.msrHi = 0;
    return true;
  }
  writeMsr(_vcpu: number, msr: number, lo: number, hi: number): boolean {
    this.log.push(`wrmsr ${hex(msr)} ${hex(hi)}:${hex(lo)}`);
    return true;
  }
  #input(size: number): number {
    const value = this.inputs.shift() ?? 0xffff_ffff;
    return size === 4 ? value : value & (2 ** (8 * size) - 1);
  }
}

export type ClosableVcpu = Vcpu & { close?(): void };

export class Rig implements Disposable {
  /** With a MiB after RAM, which `mappings` may show the guest. */
  readonly memory = allocateMachineMemory(RAM_BYTES, EXTRA_BYTES);
  readonly ram = new GuestRam(this.memory.buffer, RAM_BASE, RAM_BYTES, EXTRA_BYTES);
  readonly memoryMap: MemoryMap | null = null;
  readonly board = new LogBoard();
  readonly events: Int32Array;
  readonly vcpu: ClosableVcpu;
  readonly #startedMs = performance.now();

  constructor(engine: Engine, index = 0, mappings: readonly Mapping[] = []) {
    const { memory, ram, board } = this;
    const arena = new Arena(memory.buffer, ARENA_BASE, ARENA_BYTES);
    const codeBytes = RAM_BYTES + EXTRA_BYTES;
    const codeMap = new CodeMap(memory.buffer, arena.raw(CodeMap.sizeBytes(codeBytes)), codeBytes);
    ram.onWrite = (gpa, size) => codeMap.wrote(gpa, size);
    this.events = new Int32Array(memory.buffer, arena.raw(64), 1);
    if (mappings.length > 0) {
      this.memoryMap = new MemoryMap(memory.buffer, arena.raw(MemoryMap.sizeBytes), RAM_BYTES / 4096);
      this.memoryMap.set(mappings);
    }
    board.msrs.set(0x1b, 0xfee0_0900);
    const { events } = this, clock = { nowNs: () => this.nowNs };
    this.vcpu = engine.openVcpu({
      index,
      vcpus: index + 1,
      memory,
      ram,
      memoryMap: this.memoryMap,
      board,
      clock,
      codeMap,
      events,
      eventsIndex: 0,
      icount: null,
    });
  }

  [Symbol.dispose](): void {
    this.vcpu.close?.();
  }

  get nowNs(): number {
    return Math.floor((performance.now() - this.#startedMs) * 1e6);
  }

  raise(bits: number): void {
    Atomics.or(this.events, 0, bits);
  }
  lower(bits: number): void {
    Atomics.and(this.events, 0, ~bits);
  }
  /** The board asks for an interrupt, once. */
  interrupt(vector: number): void {
    this.board.vector = vector;
    this.board.onAcknowledge = () => this.lower(VcpuEvent.INTR);
    this.raise(VcpuEvent.INTR);
  }

  /** Runs until something other than time ends it; "slice" if that takes longer than it may. */
  run(ms = 5000): ExitReason {
    const untilNs = this.nowNs + ms * 1e6;
    return this.vcpu.run(untilNs);
  }

  /** Runs to HLT, and says what else happened if it did not get there. */
  toHalt(): void {
    const reason = this.run();
    if (reason === "halt") return;
    const log = this.board.log.slice(-8).join(", ");
    throw new Error(
      `${reason} instead of halt: ${this.vcpu.lastError?.message ?? ""}\n${this.vcpu.describe()}\n${log}`,
    );
  }

  read64(gpa: number): bigint {
    return BigInt(this.ram.read(gpa, 4)) | (BigInt(this.ram.read(gpa + 4, 4)) << 32n);
  }
  /** `count` 64-bit words of DATA. */
  data(count: number): bigint[] {
    return Array.from({ length: count }, (_, i) => this.read64(DATA + 8 * i));
  }

  /** 64-bit mode at `program`, with an interrupt gate for each of `handlers`. */
  long(program: Uint8Array, handlers: Record<number, Uint8Array> = {}): void {
    const { ram } = this;
    this.pageTables();
    ram.copyIn(GDT, code("0000000000000000", "0000000000000000", "ffff0000009baf00", "ffff00000093cf00"));
    ram.copyIn(CODE, program);
    let at = HANDLERS;
    for (const [vector, bytes] of Object.entries(handlers)) {
      ram.copyIn(at, bytes);
      ram.write(IDT + 16 * Number(vector), 4, (CODE_SELECTOR << 16) | (at & 0xffff));
      ram.write(IDT + 16 * Number(vector) + 4, 4, (at & 0xffff_0000) | 0x8e00);
      at += 0x100;
    }
    this.vcpu.setState(longState(Object.keys(handlers).length === 0 ? 0 : 0xfff));
  }

  /** RAM to itself, and so the GiB from 3 GiB on. */
  pageTables(): void {
    const { ram } = this;
    ram.write64(PML4, PDPT | 3);
    ram.write64(PDPT, LOW_PD | 3);
    ram.write64(PDPT + 24, HIGH_PD | 3);
    for (let i = 0; i < 512; i++) {
      ram.write64(LOW_PD + i * 8, i * 0x20_0000 + 0x83);
      ram.write64(HIGH_PD + i * 8, 0xc000_0000 + i * 0x20_0000 + 0x83);
    }
  }
}

export function longState(idtLimit: number): InitialState {
  const data = { selector: DATA_SELECTOR, base: 0, limit: 0xffff_ffff, rights: 0xc093 };
  const cs = { selector: CODE_SELECTOR, base: 0, limit: 0xffff_ffff, rights: 0xa09b };
  return {
    rip: CODE,
    rflags: 2,
    cr0: 0x8005_0033,
    cr3: PML4,
    cr4: 0x620,
    efer: 0x500,
    gpr: { rsp: STACK },
    segments: { cs, ds: data, es: data, ss: data, fs: data, gs: data },
    gdtr: { base: GDT, limit: 31 },
    idtr: { base: IDT, limit: idtLimit },
  };
}

/** Real mode at 7C00H, where a boot sector goes. */
export function realState(): InitialState {
  const data = { selector: 0, base: 0, limit: 0xffff, rights: 0x93 };
  return {
    rip: 0x7c00,
    rflags: 2,
    cr0: 0x10,
    cr3: 0,
    cr4: 0,
    efer: 0,
    gpr: { rsp: 0x7000 },
    segments: { cs: { ...data, rights: 0x9b }, ds: data, es: data, ss: data, fs: data, gs: data },
    gdtr: { base: 0, limit: 0xffff },
    idtr: { base: 0, limit: 0x3ff },
  };
}

function hex(value: number): string {
  return value.toString(16);
}
