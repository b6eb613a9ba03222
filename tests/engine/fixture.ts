/** For tests: one software vCPU over a small memory, in 64-bit mode with the first GiB mapped to itself. */
import { Arena } from "../../src/base/arena.ts";
import { CodeMap } from "../../src/base/code_map.ts";
import { GuestRam } from "../../src/base/ram.ts";
import type { Board, InitialState } from "../../src/engine/engine.ts";
import { SoftVcpu } from "../../src/engine/soft/soft.ts";
import { allocateMachineMemory, ARENA_BASE, ARENA_BYTES, RAM_BASE } from "../../src/machine/memory.ts";

/** A board where every access is remembered and reads give `value`. */
export class TestBoard implements Board {
  readonly log: string[] = [];
  readonly written: number[] = [];
  value = 0;
  vector = -1;
  msrLo = 0;
  msrHi = 0;
  onWrite: (port: number, value: number) => void = () => {};
  ioRead(port: number, size: number): number {
    this.log.push(`in ${port.toString(16)}.${size}`);
    return this.value;
  }
  ioWrite(port: number, size: number, value: number): void {
    this.log.push(`out ${port.toString(16)}.${size} ${value.toString(16)}`);
    this.written.push(value);
    this.onWrite(port, value);
  }
  mmioRead(gpa: number, size: number): number {
    this.log.push(`read ${gpa.toString(16)}.${size}`);
    return this.value;
  }
  mmioWrite(gpa: number, size: number, value: number): void {
    this.log.push(`write ${gpa.toString(16)}.${size} ${value.toString(16)}`);
  }
  acknowledge(): number {
    return this.vector;
  }
  readTpr(): number {
    return 0;
  }
  writeTpr(): void {}
  readMsr(): boolean {
    return false;
  }
  writeMsr(): boolean {
    return false;
  }
}

export interface SoftFixture {
  readonly vcpu: SoftVcpu;
  readonly ram: GuestRam;
  readonly board: TestBoard;
  readonly events: Int32Array;
  time: number;
}

export const RAM_BYTES = 16 << 20;
/** Where page tables and the GDT lie. */
const TABLES = 0x1000, GDT = 0x5000;

export function softFixture(image?: Uint8Array<ArrayBuffer>, index = 0): SoftFixture {
  const memory = allocateMachineMemory(RAM_BYTES);
  const arena = new Arena(memory.buffer, ARENA_BASE, ARENA_BYTES);
  const ram = new GuestRam(memory.buffer, RAM_BASE, RAM_BYTES);
  const codeMap = new CodeMap(memory.buffer, arena.raw(CodeMap.sizeBytes(RAM_BYTES)), RAM_BYTES);
  ram.onWrite = (gpa, size) => codeMap.wrote(gpa, size);
  const events = new Int32Array(memory.buffer, arena.raw(64), 1);
  const board = new TestBoard();
  const f = { time: 0 } as { -readonly [K in keyof SoftFixture]: SoftFixture[K] };
  const vcpu = new SoftVcpu({
    index,
    vcpus: index + 1,
    memory,
    ram,
    board,
    clock: { nowNs: () => f.time },
    codeMap,
    events,
    eventsIndex: 0,
    icount: null,
    ...(image ? { image } : {}),
  });
  return Object.assign(f, { vcpu, ram, board, events });
}

/** 64-bit mode, flat, paging on (the first GiB to itself, user-accessible and writable), at `rip`. */
export function longMode(f: SoftFixture, rip: number, rsp: number): void {
  f.ram.write64(TABLES, (TABLES + 0x1000) | 7);
  f.ram.write64(TABLES + 0x1000, (TABLES + 0x2000) | 7);
  for (let i = 0; i < 512; i++) f.ram.write64(TABLES + 0x2000 + i * 8, i * 0x20_0000 + 0xe7);
  f.ram.write64(GDT, 0);
  f.ram.write64(GDT + 8, 0);
  f.ram.write(GDT + 16, 4, 0x0000ffff);
  f.ram.write(GDT + 20, 4, 0x00af9b00);
  f.ram.write(GDT + 24, 4, 0x0000ffff);
  f.ram.write(GDT + 28, 4, 0x00cf9300);
  const data = { selector: 0x18, base: 0, limit: 0xffff_ffff, rights: 0xc093 };
  const state: InitialState = {
    rip,
    rflags: 2,
    cr0: 0x8005_0033,
    cr3: TABLES,
    cr4: 0x6f0,
    efer: 0x500,
    gpr: { rsp },
    segments: {
      cs: { selector: 0x10, base: 0, limit: 0xffff_ffff, rights: 0xa09b },
      ds: data,
      es: data,
      ss: data,
      fs: data,
      gs: data,
    },
    gdtr: { base: GDT, limit: 31 },
    idtr: { base: 0, limit: 0 },
  };
  f.vcpu.setState(state);
}
