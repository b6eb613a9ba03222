/**
 * What all threads of the process share of the one virtual machine: memory that each thread maps, beside guest RAM.
 *
 * | in the arena | what |
 * |---|---|
 * | HEADER | lock, the VM, counters |
 * | VCPUS | a record a vCPU |
 * | MEMORY_MAP | where in the window what lies (base/memory_map.ts) |
 * | CODE_MAP | for the software CPUs (base/code_map.ts) |
 * | RIGHTS | a byte a page of guest-physical memory and address space: hv_memory_flags_t and MAPPED |
 * | FRAMES | a word a page: where in the backing file it lies, in pages; behind what vCPUs see of the arena |
 */
import { CodeMap } from "../../src/base/code_map.ts";
import { MemoryMap } from "../../src/base/memory_map.ts";
import { MAP_PAGES } from "../../src/cpu/x86/exits.ts";
import { ARENA_BYTES, MAX_RAM_BYTES } from "../../src/machine/memory.ts";
import { copyPresent, createShared, mapShared, PAGE, readable, viewOf } from "./host.ts";

export const SPACES = 4, MAX_VCPUS = 32;
/** Guest-physical memory that can be mapped. */
export const GUEST_PAGES = MAP_PAGES;
/** Of these a software CPU's memory has all, in one stretch; what lies above has its place in a window behind them. */
export const LOW_PAGES = MAX_RAM_BYTES / PAGE, WINDOW_PAGES = 16384;
export const BACKED_BYTES = (LOW_PAGES + WINDOW_PAGES) * PAGE;
/** In a byte of RIGHTS: something is mapped there. */
export const MAPPED = 0x80;
/** The page has not been touched yet: nothing is allowed, and what will be is in bits 3 to 5. */
export const LAZY = 0x40;

/** Words of the header. */
export const H = {
  LOCK: 0,
  VM: 1,
  OPTIONS: 2,
  /** Counts changes of what is mapped and how: a vCPU that runs forgets its translations. */
  EPOCH: 3,
  /** The next free page of the backing file. */
  NEXT_PAGE: 4,
  SPACES: 5,
  /** A 64-bit number: added to the host's counter to give the guest's. */
  TSC: 6,
  BACKED: 8,
  /** Counts mappings that were made: what was decoded from other memory there is stale. */
  MAPS: 10,
  QUIRKS: 9,
} as const;
const BACKED_AT = 64, BACKED_MAX = 64;
/** Words of a vCPU's record. */
export const V = { USED: 0, THREAD: 2, KICK: 4, RUNNING: 5, SPACE: 6, SEEN: 7, MEMORY: 8, MAPS: 10 } as const;
const VCPU_WORDS = 64;
const VCPUS_AT = 0x2000, MEMORY_MAP_AT = 0x7000, CODE_MAP_AT = 0x8000;
const RIGHTS_AT = Math.ceil((CODE_MAP_AT + CodeMap.sizeBytes(BACKED_BYTES)) / PAGE) * PAGE;
const FRAMES_AT = 8 << 20;
const ARENA_TOTAL = FRAMES_AT + SPACES * GUEST_PAGES * 4;
const RAM_AT = 32 << 20;
const FILE_BYTES = 64 * 2 ** 30;

export const codeMapAt = CODE_MAP_AT, memoryMapAt = MEMORY_MAP_AT;
export const rightsAt = (space: number) => RIGHTS_AT + space * GUEST_PAGES;
if (RIGHTS_AT + SPACES * GUEST_PAGES > ARENA_BYTES || ARENA_TOTAL > RAM_AT) throw new Error("The arena is too small");

export class Process {
  readonly words: Int32Array;
  readonly longs: BigInt64Array;
  /** What lies in the window. */
  readonly high: MemoryMap;
  readonly #rights: Uint8Array[];
  readonly #frames: Uint32Array[];

  private constructor(readonly fd: number, arena: ArrayBuffer) {
    this.words = new Int32Array(arena);
    this.longs = new BigInt64Array(arena);
    this.high = new MemoryMap(arena, MEMORY_MAP_AT, LOW_PAGES);
    const spaces = Array.from({ length: SPACES }, (_, i) => i);
    this.#rights = spaces.map((i) => new Uint8Array(arena, rightsAt(i), GUEST_PAGES));
    this.#frames = spaces.map((i) => new Uint32Array(arena, FRAMES_AT + i * GUEST_PAGES * 4, GUEST_PAGES));
  }

  /** `words`: 64-bit words that all threads see; the first comer makes the memory. */
  static open(words: BigInt64Array): Process {
    if (Atomics.compareExchange(words, 0, 0n, 1n) === 0n) {
      const fd = createShared(FILE_BYTES);
      Atomics.store(words, 1, mapShared(fd, 0, ARENA_TOTAL));
      Atomics.store(words, 2, BigInt(fd));
      Atomics.store(words, 0, 2n);
    }
    while (Atomics.load(words, 0) !== 2n);
    return new Process(Number(words[2]!), viewOf(words[1]!, ARENA_TOTAL));
  }

  /** Runs `body` while no other thread does. Never waits for a guest. */
  locked<T>(body: () => T): T {
    while (Atomics.compareExchange(this.words, H.LOCK, 0, 1) !== 0);
    try {
      return body();
    } finally {
      Atomics.store(this.words, H.LOCK, 0);
    }
  }

  /** Index in `words` of vCPU `id`'s record. */
  vcpu(id: number): number {
    return VCPUS_AT / 4 + id * VCPU_WORDS;
  }
  vcpus(): number[] {
    const all = Array.from({ length: MAX_VCPUS }, (_, i) => i);
    return all.filter((i) => Atomics.load(this.words, this.vcpu(i) + V.USED) !== 0);
  }

  rights(space: number): Uint8Array {
    return this.#rights[space]!;
  }
  frames(space: number): Uint32Array {
    return this.#frames[space]!;
  }

  /**
   * Where in the backing file the memory at `address` lies, after it has been put there; -1 if it cannot be read, -2 if only
   * a part of it is there already.
   */
  back(address: bigint, bytes: number): number {
    const end = address + BigInt(bytes);
    for (let i = 0; i < this.words[H.BACKED]!; i++) {
      const at = BACKED_AT / 8 + 32 + i * 3;
      const from = this.longs[at]!, to = from + this.longs[at + 1]!, offset = Number(this.longs[at + 2]!);
      if (end <= from || address >= to) continue;
      // The address may have been given to somebody else since.
      const within = address > from ? address : from;
      if (!this.#isBacked(within, offset + Number(within - from))) {
        this.longs[at + 1] = 0n;
        continue;
      }
      return address >= from && end <= to ? offset + Number(address - from) : -2;
    }
    if (!readable(address, bytes, this.fd, RAM_AT)) return -1;
    const offset = this.allocate(bytes);
    if (!copyPresent(address, bytes, this.fd, offset)) return -1;
    mapShared(this.fd, offset, bytes, address);
    let slot = 0;
    while (slot < this.words[H.BACKED]! && this.longs[BACKED_AT / 8 + 32 + slot * 3 + 1] !== 0n) slot++;
    if (slot === BACKED_MAX) return -1;
    if (slot === this.words[H.BACKED]) this.words[H.BACKED] = slot + 1;
    this.longs.set([address, BigInt(bytes), BigInt(offset)], BACKED_AT / 8 + 32 + slot * 3);
    return offset;
  }

  /** Backs a memory that nobody else knows of yet. */
  backAll(memory: WebAssembly.Memory): void {
    const address = BigInt(Deno.UnsafePointer.value(Deno.UnsafePointer.of(new Uint8Array(memory.buffer))));
    this.locked(() => this.back(address, memory.buffer.byteLength));
  }

  /** Whether a byte written to the file is seen at the address. */
  #isBacked(address: bigint, offset: number): boolean {
    if (!readable(address, PAGE, this.fd, RAM_AT)) return false;
    const there = new Uint8Array(viewOf(address, 1));
    const copy = mapShared(this.fd, offset, PAGE), here = new Uint8Array(viewOf(copy, 1));
    const was = here[0]!;
    here[0] = was ^ 0xff;
    const same = there[0] === here[0];
    here[0] = was;
    return same && there[0] === was;
  }

  /** `bytes` of the backing file that nobody uses. */
  allocate(bytes: number): number {
    const page = this.words[H.NEXT_PAGE]!;
    this.words[H.NEXT_PAGE] = page + bytes / PAGE;
    return RAM_AT + PAGE + page * PAGE;
  }

  /** Translations of all vCPUs that run are stale; waits until none uses them any more, for at most 100 ms. */
  changed(): void {
    const epoch = Atomics.add(this.words, H.EPOCH, 1) + 1;
    const until = performance.now() + 100;
    for (const id of this.vcpus()) {
      const at = this.vcpu(id);
      while (
        Atomics.load(this.words, at + V.RUNNING) !== 0 && Atomics.load(this.words, at + V.SEEN) !== epoch &&
        performance.now() < until
      );
    }
  }
}
