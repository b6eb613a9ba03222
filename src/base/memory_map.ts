/**
 * What answers at guest-physical addresses that are not plainly RAM: ROM, shadowed ROM, video memory, devices.
 *
 * Without mappings the map is empty and costs nothing: RAM is one stretch from 0. With them, the 384 KiB below 1 MiB and
 * everything from the end of RAM on are looked up here; other RAM never is. A mapping leads to *backing*: pages counted from
 * the start of guest RAM, of which those after the last page of RAM hold what is no RAM to the guest. What no mapping names is
 * RAM below the end of RAM, and devices above it.
 *
 * The map is derived from the records of devices and no snapshot holds it. It is changed under the machine lock; vCPUs read it
 * without, and compare `generation` with what they have seen before they trust translations again.
 */
import { Bug } from "./errors.ts";

export const MAX_MAPPINGS = 32;
const PAGE_SHIFT = 12;

/** Offsets of words in shared memory; then the mappings. */
export const MEMORY_MAP = {
  GENERATION: 0,
  COUNT: 4,
  /** Pages of RAM. */
  RAM_PAGES: 8,
  MAPPINGS: 16,
  MAPPING_BYTES: 16,
} as const;

/** Offsets of words in a mapping. */
export const MAPPING = { FIRST: 0, PAGES: 4, BACKING: 8, WRITABLE: 12 } as const;

/** The pages from 640 KiB to 1 MiB. */
export const LEGACY_PAGES = { first: 0xa0, end: 0x100 } as const;

/** `backing` of what a device answers for. */
export const DEVICE = -1;

export interface Mapping {
  /** In pages of 4 KiB. */
  readonly first: number;
  readonly pages: number;
  /** The first page behind it, or DEVICE. */
  readonly backing: number;
  /** If not, writes go to a device. */
  readonly writable: boolean;
}

export class MemoryMap {
  readonly #words: Int32Array;

  static readonly sizeBytes = MEMORY_MAP.MAPPINGS + MAX_MAPPINGS * MEMORY_MAP.MAPPING_BYTES;

  constructor(buffer: ArrayBufferLike, readonly at: number, private readonly ramPages: number) {
    this.#words = new Int32Array(buffer, at, MemoryMap.sizeBytes / 4);
    this.#words[MEMORY_MAP.RAM_PAGES / 4] = ramPages; // the same in every thread
  }

  /** Changes with every change of the map. */
  get generation(): number {
    return Atomics.load(this.#words, MEMORY_MAP.GENERATION / 4);
  }

  get mappings(): Mapping[] {
    return Array.from({ length: this.#words[MEMORY_MAP.COUNT / 4]! }, (_, i) => {
      const at = this.#at(i);
      return {
        first: this.#words[at + MAPPING.FIRST / 4]!,
        pages: this.#words[at + MAPPING.PAGES / 4]!,
        backing: this.#words[at + MAPPING.BACKING / 4]!,
        writable: this.#words[at + MAPPING.WRITABLE / 4]! !== 0,
      };
    });
  }

  /** Where pages overlap, the earlier mapping counts. */
  set(mappings: readonly Mapping[]): void {
    if (mappings.length > MAX_MAPPINGS) throw new Bug(`${mappings.length} memory mappings`);
    if (JSON.stringify(this.mappings) === JSON.stringify(mappings)) return;
    // Fewer first: a reader without the lock must not come upon half of a mapping for good.
    this.#words[MEMORY_MAP.COUNT / 4] = 0;
    mappings.forEach((m, i) => {
      const at = this.#at(i);
      this.#words[at + MAPPING.FIRST / 4] = m.first;
      this.#words[at + MAPPING.PAGES / 4] = m.pages;
      this.#words[at + MAPPING.BACKING / 4] = m.backing;
      this.#words[at + MAPPING.WRITABLE / 4] = m.writable ? 1 : 0;
    });
    this.#words[MEMORY_MAP.COUNT / 4] = mappings.length;
    Atomics.add(this.#words, MEMORY_MAP.GENERATION / 4, 1);
  }

  /** What is behind a guest-physical address; DEVICE if a device answers. */
  backingOf(gpa: number, write: boolean): number {
    const page = Math.floor(gpa / (1 << PAGE_SHIFT));
    const { first, end } = LEGACY_PAGES;
    if ((page < first || page >= end) && page < this.ramPages) return gpa;
    for (const m of this.mappings) {
      if (page < m.first || page >= m.first + m.pages) continue;
      if (m.backing === DEVICE || (write && !m.writable)) return DEVICE;
      return gpa + (m.backing - m.first) * (1 << PAGE_SHIFT);
    }
    return page < this.ramPages ? gpa : DEVICE;
  }

  #at(i: number): number {
    return (MEMORY_MAP.MAPPINGS + i * MEMORY_MAP.MAPPING_BYTES) / 4;
  }
}
