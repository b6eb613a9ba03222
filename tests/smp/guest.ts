/** Guests of several vCPUs for tests: each vCPU runs a loop of its own over shared cells, all in step every so often. */
import { assertEquals } from "@std/assert";
import { GuestRam } from "../../src/base/ram.ts";
import type { InitialState } from "../../src/engine/engine.ts";
import { allocateMachineMemory, RAM_BASE } from "../../src/machine/memory.ts";
import type { Start } from "./guest_worker.ts";

export const RAM_BYTES = 64 << 20;
const TABLES = 0x1000, GDT = 0x8000, CODE = 0x1_0000, STACKS = 0x8_0000, BARRIER = 0x9_0000;
/** A page of linear addresses whose successor lies elsewhere in RAM. */
export const SCATTERED = 0x800_0000;
const SCATTERED_TO = [0x10_0000, 0x20_0000] as const;
/** Bytes between two cells: a cache line. */
export const CELL = 64;
/** Cells of the arrays at R12, R13 and R14, from here on. */
export const ARRAY = 0x100_0000;

/** How often all vCPUs meet, in cells: a power of two. More than two may have to wait for a processor of the host each time. */
const stepOf = (vcpus: number) => vcpus > 2 ? 4096 : 64;

/** What one vCPU does to each cell: RBX is the cell's offset in the arrays. RAX, RCX, RDX, RSI, RDI, R8, R9 are free. */
export interface Thread {
  readonly body: readonly number[];
  readonly r12?: number;
  readonly r13?: number;
  readonly r14?: number;
}

const u32 = (n: number) => [n & 0xff, (n >> 8) & 0xff, (n >> 16) & 0xff, (n >> 24) & 0xff];

/** The loop around a body: every `step` cells it adds 1 to [R15] and waits until R11 times that have come; R10 counts them. */
function loop(body: readonly number[], step: number): number[] {
  const meet = [
    ...[0xb8, 1, 0, 0, 0], // mov eax, 1
    ...[0xf0, 0x41, 0x0f, 0xc1, 0x07], // lock xadd [r15], eax
    ...[0x45, 0x01, 0xda], // add r10d, r11d
    ...[0x41, 0x8b, 0x07], // mov eax, [r15]
    ...[0x44, 0x39, 0xd0], // cmp eax, r10d
    ...[0x73, 0x04], // jae out
    ...[0xf3, 0x90], // pause
    ...[0xeb, 0xf4], // jmp to the mov
  ];
  const head = [0xf7, 0xc3, ...u32(step * CELL - 1), 0x75, meet.length, ...meet]; // test ebx, …; jnz
  const tail = [0x48, 0x83, 0xc3, CELL, 0x48, 0x39, 0xeb]; // add rbx, CELL; cmp rbx, rbp
  const length = head.length + body.length + tail.length + 6;
  return [...head, ...body, ...tail, 0x0f, 0x82, ...u32(-length), 0xf4]; // jb; hlt
}

/** A machine's memory with page tables: the first GiB to itself, and SCATTERED. */
export class Guest {
  readonly memory = allocateMachineMemory(RAM_BYTES);
  readonly ram = new GuestRam(this.memory.buffer, RAM_BASE, RAM_BYTES);

  constructor() {
    const { ram } = this;
    ram.write64(TABLES, (TABLES + 0x1000) | 3);
    ram.write64(TABLES + 0x1000, (TABLES + 0x2000) | 3);
    for (let i = 0; i < 512; i++) ram.write64(TABLES + 0x2000 + i * 8, i * 0x20_0000 + 0xe3);
    ram.write64(TABLES + 0x2000 + (SCATTERED >>> 21) * 8, (TABLES + 0x3000) | 3);
    SCATTERED_TO.forEach((to, i) => ram.write64(TABLES + 0x3000 + i * 8, to | 0x63));
    for (const [i, word] of [0x0000ffff, 0x00af9b00, 0x0000ffff, 0x00cf9300].entries()) {
      ram.write(GDT + 16 + i * 4, 4, word);
    }
  }

  /** The byte behind a linear address. */
  physical(linear: number): number {
    const page = (linear - SCATTERED) >>> 12;
    return linear < SCATTERED ? linear : SCATTERED_TO[page as 0 | 1]! + (linear & 0xfff);
  }
  /** An unsigned little-endian number of `bytes` at a linear address. */
  read(linear: number, bytes: number): bigint {
    let v = 0n;
    for (let i = bytes - 1; i >= 0; i--) v = (v << 8n) | BigInt(this.ram.read(this.physical(linear + i), 1));
    return v;
  }

  /**
   * Runs the threads over `cells` cells, each on a vCPU of its own, until all have halted; they meet every `step` cells. `compiled`:
   * as the second tier from the start, else the first one until that is hot.
   */
  async run(
    threads: readonly Thread[],
    cells: number,
    { step = stepOf(threads.length), compiled = false }: { step?: number; compiled?: boolean } = {},
  ): Promise<void> {
    const data = { selector: 0x18, base: 0, limit: 0xffff_ffff, rights: 0xc093 };
    const code = { selector: 0x10, base: 0, limit: 0xffff_ffff, rights: 0xa09b };
    const runs = threads.map(({ body, r12 = 0, r13 = 0, r14 = 0 }, index) => {
      const rip = CODE + index * 0x1000;
      this.ram.copyIn(rip, Uint8Array.from(loop(body, step)));
      const own = { rbx: 0, rbp: cells * CELL, rsp: STACKS + index * 0x1000 + 0xf00 };
      const state: InitialState = {
        rip,
        rflags: 2,
        cr0: 0x8005_0033,
        cr3: TABLES,
        cr4: 0x6f0,
        efer: 0x500,
        gpr: { ...own, r10: 0, r11: threads.length, r12, r13, r14, r15: BARRIER },
        segments: { cs: code, ds: data, es: data, ss: data, fs: data, gs: data },
        gdtr: { base: GDT, limit: 31 },
        idtr: { base: 0, limit: 0 },
      };
      const start: Start = { memory: this.memory, ramBytes: RAM_BYTES, index, vcpus: threads.length, state, compiled };
      return start;
    });
    const workers = runs.map((start) => {
      const worker = new Worker(new URL("./guest_worker.ts", import.meta.url), { type: "module" });
      const ended = new Promise<string>((resolve, reject) => {
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = (e) => (e.preventDefault(), reject(new Error(e.message)));
      });
      worker.postMessage(start);
      return { worker, ended };
    });
    try {
      const reasons = await Promise.all(workers.map((w) => w.ended));
      assertEquals(reasons, threads.map(() => "halt"));
    } finally {
      for (const { worker } of workers) worker.terminate();
    }
  }
}

/** A test for code that is interpreted until it is hot, and for code that is compiled from the start. */
export function onBothTiers(name: string, test: (compiled: boolean, t: Deno.TestContext) => Promise<void>): void {
  Deno.test(name, (t) => test(false, t));
  Deno.test(`${name}: compiled`, (t) => test(true, t));
}
