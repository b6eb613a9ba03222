/**
 * The VM's memory slots: RAM from guest-physical 0 on, and what the machine's memory map puts in its place.
 *
 * ROM is a slot that cannot be written: a write leaves the guest as an access to a device does. The slots that KVM has stand in
 * shared memory, since any thread may find that the map has changed.
 */
import * as K from "../../../ffi/kvm.ts";
import { Bug } from "../../base/errors.ts";
import { DEVICE, LEGACY_PAGES, type Mapping, type MemoryMap } from "../../base/memory_map.ts";
import type { GuestRam } from "../../base/ram.ts";
import type { Host } from "./host.ts";
import { WORD } from "./words.ts";

const PAGE_BYTES = 4096;
export const MAX_SLOTS = 64;
/** Words of a slot: first page, pages (0: free), backing page, flags. */
const WORDS = 4;

/** Pages of 4 KiB from guest-physical `first` on; `backing` counts from the start of RAM. */
export interface Slot {
  readonly first: number;
  readonly pages: number;
  readonly backing: number;
  readonly readonly: boolean;
}

/** What of a machine's memory a guest may touch without an exit, in ascending order. */
export function slotsOf(ramPages: number, mappings: readonly Mapping[]): Slot[] {
  if (mappings.length === 0) return [{ first: 0, pages: ramPages, backing: 0, readonly: false }];
  const { first: legacy, end: high } = LEGACY_PAGES;
  const edges = new Set([0, legacy, high, ramPages]);
  for (const { first, pages } of mappings) edges.add(first).add(first + pages);
  const sorted = [...edges].sort((a, b) => a - b), slots: Slot[] = [];
  for (let i = 0; i + 1 < sorted.length; i++) {
    const first = sorted[i]!, pages = sorted[i + 1]! - first;
    const plain = first < ramPages && (first < legacy || first >= high);
    const mapping = plain ? undefined : mappings.find((m) => first >= m.first && first < m.first + m.pages);
    if (mapping ? mapping.backing === DEVICE : first >= ramPages) continue;
    const backing = mapping ? mapping.backing + first - mapping.first : first;
    const readonly = mapping !== undefined && !mapping.writable, last = slots.at(-1);
    const goesOn = last && last.first + last.pages === first && last.backing + last.pages === backing &&
      last.readonly === readonly;
    if (goesOn) slots[slots.length - 1] = { ...last, pages: last.pages + pages };
    else slots.push({ first, pages, backing, readonly });
  }
  return slots;
}

export interface SlotParts {
  readonly memory: WebAssembly.Memory;
  readonly ram: GuestRam;
  readonly memoryMap?: MemoryMap | null;
}

export class MemorySlots {
  readonly #words: Int32Array;
  readonly #seen: number;
  readonly #region = new DataView(new ArrayBuffer(K.kvm_userspace_memory_region.SIZEOF));

  constructor(private readonly host: Host, private readonly vm: number, private readonly parts: SlotParts) {
    this.#words = new Int32Array(parts.memory.buffer);
    this.#seen = WORD.SLOTS_GENERATION / 4;
  }

  /** Whether the map has changed since the slots were made. */
  get stale(): boolean {
    const { memoryMap } = this.parts;
    return !!memoryMap && memoryMap.generation + 1 !== Atomics.load(this.#words, this.#seen);
  }

  /** Makes KVM's slots what the map says. */
  update(): void {
    this.#locked(() => {
      const { memoryMap, ram } = this.parts;
      const generation = memoryMap?.generation ?? 0;
      this.#become(slotsOf(Math.floor(ram.sizeBytes / PAGE_BYTES), memoryMap?.mappings ?? []));
      Atomics.store(this.#words, this.#seen, generation + 1);
    });
  }

  /** Lets KVM note which pages are written to, or no longer. */
  log(on: boolean): void {
    this.#locked(() => {
      Atomics.store(this.#words, WORD.DIRTY_LOG / 4, on ? 1 : 0);
      this.each((id, slot) => this.#set(id, slot));
    });
  }

  /** Runs `body` for every slot there is; under the lock if it matters. */
  each(body: (id: number, slot: Slot) => void): void {
    for (let id = 0; id < MAX_SLOTS; id++) {
      const slot = this.#slot(id);
      if (slot.pages > 0) body(id, slot);
    }
  }

  #locked(body: () => void): void {
    const lock = WORD.SLOTS_LOCK / 4;
    while (Atomics.compareExchange(this.#words, lock, 0, 1) !== 0) Atomics.wait(this.#words, lock, 1, 1);
    try {
      body();
    } finally {
      Atomics.store(this.#words, lock, 0);
      Atomics.notify(this.#words, lock);
    }
  }

  #become(wanted: readonly Slot[]): void {
    const missing = new Set(wanted);
    const gone: number[] = [];
    this.each((id, slot) => {
      const same = wanted.find((w) =>
        w.first === slot.first && w.pages === slot.pages && w.backing === slot.backing && w.readonly === slot.readonly
      );
      if (same) missing.delete(same);
      else gone.push(id);
    });
    // Slots must not overlap: those that go, go first.
    for (const id of gone) this.#set(id, { ...this.#slot(id), pages: 0 });
    for (const slot of missing) {
      let id = 0;
      while (id < MAX_SLOTS && this.#slot(id).pages > 0) id++;
      if (id === MAX_SLOTS) throw new Bug(`${wanted.length} memory slots`);
      this.#set(id, slot);
    }
  }

  #slot(id: number): Slot {
    const at = WORD.SLOTS / 4 + id * WORDS;
    const [first, pages, backing, readonly] = this.#words.subarray(at, at + WORDS) as unknown as number[];
    return { first: first!, pages: pages!, backing: backing!, readonly: readonly !== 0 };
  }

  #set(id: number, slot: Slot): void {
    const R = K.kvm_userspace_memory_region, region = this.#region, { memory, ram } = this.parts;
    const log = Atomics.load(this.#words, WORD.DIRTY_LOG / 4) !== 0 && slot.pages > 0 ? K.KVM_MEM_LOG_DIRTY_PAGES : 0;
    region.setUint32(R.slot, id, true);
    region.setUint32(R.flags, (slot.readonly ? K.KVM_MEM_READONLY : 0) | log, true);
    region.setBigUint64(R.guest_phys_addr, BigInt(slot.first) * BigInt(PAGE_BYTES), true);
    region.setBigUint64(R.memory_size, BigInt(slot.pages) * BigInt(PAGE_BYTES), true);
    // SAFETY: a WebAssembly.Memory is never moved, and the process ends with the machine or closes the VM before it goes.
    const start = new Uint8Array(memory.buffer as unknown as ArrayBuffer, ram.base + slot.backing * PAGE_BYTES, 1);
    const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(start));
    region.setBigUint64(R.userspace_addr, BigInt(address), true);
    const bytes = new Uint8Array(region.buffer);
    this.host.ioctlWith("KVM_SET_USER_MEMORY_REGION", this.vm, K.KVM_SET_USER_MEMORY_REGION, bytes);
    const at = WORD.SLOTS / 4 + id * WORDS;
    [slot.first, slot.pages, slot.backing, slot.readonly ? 1 : 0].forEach((word, i) => this.#words[at + i] = word);
  }
}
