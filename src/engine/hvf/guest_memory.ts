/**
 * The guest's memory as the framework has it mapped: RAM, and what the memory map says while the guest runs.
 *
 * Any vCPU's thread may find that the map has changed, and brings the framework's mappings up to it before its guest goes on;
 * what is mapped stands in shared memory, under a lock of its own, and each thread has its copy to look pages up in.
 */
import { hv_memory_flags_t } from "../../../ffi/hypervisor_x86_64.ts";
import { HostError } from "../../base/errors.ts";
import { LEGACY_PAGES, MAX_MAPPINGS } from "../../base/memory_map.ts";
import { MAX_RAM_BYTES, PAGE_BYTES, VCPU_BASE, VCPU_STRIDE } from "../../machine/memory.ts";
import type { DirtyLog, VcpuParts } from "../engine.ts";
import { layoutOf, type Stretch, without } from "./layout.ts";
import { check, type Hypervisor } from "./library.ts";

/** In the second half of vCPU 0's state, which the software CPU does not use; before it a bit for each page of RAM. */
const TABLE_AT = VCPU_BASE + VCPU_STRIDE - 16 * 1024;
const LOG_BYTES = MAX_RAM_BYTES / PAGE_BYTES / 8, LOG_AT = TABLE_AT - LOG_BYTES;
/** Words of the table; then four for each stretch. */
const LOCK = 0, GENERATION = 1, COUNT = 2, LOGGING = 3, ROWS = 4, ROW = 4;
const MAX_STRETCHES = 2 * MAX_MAPPINGS + 4;

const { HV_MEMORY_READ, HV_MEMORY_WRITE, HV_MEMORY_EXEC } = hv_memory_flags_t;
export const READ_EXEC = BigInt(HV_MEMORY_READ | HV_MEMORY_EXEC);
export const ALL_ACCESS = READ_EXEC | BigInt(HV_MEMORY_WRITE);

export type MemoryParts = Pick<VcpuParts, "memory" | "ram" | "memoryMap">;

/** What an access to a page is: the board's, or the host's memory that the framework has mapped or is about to. */
export const Page = { BOARD: 0, MEMORY: 1 } as const;

export class GuestMemory implements DirtyLog {
  readonly #table: Int32Array;
  readonly #log: Uint8Array;
  /** This thread's copy of the rows. */
  #rows: Int32Array<ArrayBuffer>;
  #seen = -1;
  readonly #ramPages: number;

  constructor(private readonly hv: Hypervisor, private readonly parts: MemoryParts) {
    this.#table = new Int32Array(parts.memory.buffer, TABLE_AT, ROWS + ROW * MAX_STRETCHES);
    this.#log = new Uint8Array(parts.memory.buffer, LOG_AT, LOG_BYTES);
    this.#rows = new Int32Array(0);
    this.#ramPages = parts.ram.sizeBytes / PAGE_BYTES;
  }

  /** For the thread that has made the VM: nothing is mapped yet. */
  mapAll(): void {
    const { ram } = this.parts;
    if (ram.base % PAGE_BYTES !== 0 || ram.sizeBytes % PAGE_BYTES !== 0) {
      throw new HostError(`Cannot map ${ram.sizeBytes} bytes of guest RAM: expected whole pages of 4 KiB`);
    }
    this.#table.fill(0);
    this.locked(() => this.#apply());
  }

  /** To call before each entry: takes over what of the memory map has changed. */
  follow(): void {
    const generation = this.parts.memoryMap?.generation ?? 0;
    if (generation === this.#seen) return;
    this.locked(() => {
      if (this.#table[GENERATION] !== generation + 1) this.#apply();
      this.#rows = this.#table.slice(ROWS, ROWS + ROW * this.#table[COUNT]!);
    });
    this.#seen = generation;
  }

  /** Page: what answers at a guest-physical page. */
  answers(page: number, write: boolean): number {
    const { first, end } = LEGACY_PAGES;
    if (page < this.#ramPages && (page < first || page >= end)) return Page.MEMORY;
    const rows = this.#rows;
    for (let i = 0; i < rows.length; i += ROW) {
      if (page < rows[i]! || page >= rows[i]! + rows[i + 1]!) continue;
      return write && rows[i + 3] === 0 ? Page.BOARD : Page.MEMORY;
    }
    return Page.BOARD;
  }

  /** Runs `body` while no other thread changes what is mapped. */
  locked<T>(body: () => T): T {
    const table = this.#table;
    while (Atomics.compareExchange(table, LOCK, 0, 1) !== 0) Atomics.wait(table, LOCK, 1, 1);
    try {
      return body();
    } finally {
      Atomics.store(table, LOCK, 0);
      Atomics.notify(table, LOCK);
    }
  }

  /** What is mapped now. Under the lock. */
  get stretches(): Stretch[] {
    return Array.from({ length: this.#table[COUNT]! }, (_, i) => {
      const at = ROWS + ROW * i, table = this.#table;
      return { first: table[at]!, pages: table[at + 1]!, backing: table[at + 2]!, writable: table[at + 3] !== 0 };
    });
  }

  #apply(): void {
    const { hv, parts: { memoryMap } } = this, table = this.#table;
    const generation = memoryMap?.generation ?? 0, old = this.stretches;
    const next = layoutOf(memoryMap?.mappings ?? null, this.#ramPages).slice(0, MAX_STRETCHES);
    for (const { first, pages } of without(old, next)) {
      check("hv_vm_unmap", hv.hv_vm_unmap(bytes(first), bytes(pages)));
    }
    for (const { first, pages, backing, writable } of without(next, old)) {
      const address = this.#address(backing, pages), flags = writable && !this.logging ? ALL_ACCESS : READ_EXEC;
      check("hv_vm_map", hv.hv_vm_map(address, bytes(first), bytes(pages), flags));
    }
    next.forEach(({ first, pages, backing, writable }, i) => {
      table.set([first, pages, backing, writable ? 1 : 0], ROWS + ROW * i);
    });
    table[COUNT] = next.length;
    table[GENERATION] = generation + 1;
  }

  // The log of written pages: while it is kept, no page can be written to that is not in it.

  get logging(): boolean {
    return Atomics.load(this.#table, LOGGING) !== 0;
  }

  start(): void {
    this.locked(() => {
      this.#log.fill(0);
      Atomics.store(this.#table, LOGGING, 1);
      this.#protectAll(READ_EXEC);
    });
  }

  stop(): void {
    this.locked(() => {
      Atomics.store(this.#table, LOGGING, 0);
      this.#protectAll(ALL_ACCESS);
    });
  }

  take(pages: Uint8Array): void {
    this.locked(() => {
      if (!this.logging) return;
      for (const { first, pages: count, backing, writable } of this.stretches) {
        if (!writable) continue;
        for (let i = 0; i < count;) {
          if (!this.#logged(backing + i)) {
            i++;
            continue;
          }
          const from = i;
          while (i < count && this.#logged(backing + i)) i++;
          // First no longer writable, then no longer in the log.
          this.#protect(first + from, i - from, READ_EXEC);
        }
      }
      for (let i = 0; i < LOG_BYTES; i++) {
        const byte = this.#log[i]!;
        if (byte === 0) continue;
        this.#log[i] = 0;
        if (i < pages.length) pages[i]! |= byte;
      }
    });
  }

  /** The guest is about to write to a page that the log has not let it write to. */
  letWrite(page: number): void {
    this.locked(() => {
      const found = this.stretches.find(({ first, pages }) => page >= first && page < first + pages);
      if (!this.logging || !found?.writable) return;
      this.#mark(found.backing + page - found.first);
      this.#protect(page, 1, ALL_ACCESS);
    });
  }

  /** Who is not stopped by the framework has written to a page, counted from the start of RAM. */
  wrote(backing: number): void {
    this.locked(() => this.#mark(backing));
  }

  #mark(backing: number): void {
    if (backing >= 0 && backing >> 3 < LOG_BYTES) this.#log[backing >> 3]! |= 1 << (backing & 7);
  }
  #logged(backing: number): boolean {
    return ((this.#log[backing >> 3] ?? 0) & (1 << (backing & 7))) !== 0;
  }

  #protectAll(flags: bigint): void {
    for (const { first, pages, writable } of this.stretches) if (writable) this.#protect(first, pages, flags);
  }
  #protect(first: number, pages: number, flags: bigint): void {
    check("hv_vm_protect", this.hv.hv_vm_protect(bytes(first), bytes(pages), flags));
  }

  #address(backing: number, pages: number): Deno.PointerValue {
    const { memory, ram } = this.parts, at = ram.base + backing * PAGE_BYTES;
    // SAFETY: a WebAssembly.Memory is never moved, and the process ends with the machine or ends the VM before it goes.
    return Deno.UnsafePointer.of(new Uint8Array(memory.buffer as unknown as ArrayBuffer, at, pages * PAGE_BYTES));
  }
}

function bytes(pages: number): bigint {
  return BigInt(pages) * BigInt(PAGE_BYTES);
}
