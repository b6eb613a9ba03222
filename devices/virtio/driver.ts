/**
 * The driver's side of a split virtqueue, for tests, fuzzing and benches: it builds chains in guest RAM and collects them from
 * the used ring, as a guest's driver would. Spec: [virtio §2.7].
 */
import type { GuestRam } from "../../src/base/ram.ts";
import { DESC } from "./queue.ts";

/** A buffer: bytes for the device to read, or room for so many bytes from it. */
export type Buffer = Uint8Array | number;

export interface DriverOptions {
  readonly size: number;
  /** Where the rings start; buffers follow. */
  readonly at: number;
  /** Bytes from there that may be used. */
  readonly room: number;
}

export interface UsedElement {
  readonly head: number;
  readonly written: number;
  /** The device-writable buffers of the chain, whole. */
  readonly bytes: Uint8Array;
}

interface Placed {
  readonly gpa: number;
  readonly sizeBytes: number;
  readonly writable: boolean;
}

export class QueueDriver {
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
  readonly size: number;
  availIdx = 0;
  usedIdx = 0;
  #nextDesc = 0;
  #nextByte: number;
  readonly #heap: number;
  readonly #end: number;
  readonly #chains = new Map<number, Placed[]>();

  constructor(readonly ram: GuestRam, options: DriverOptions) {
    this.size = options.size;
    this.desc = align(options.at, 16);
    this.avail = this.desc + 16 * this.size;
    this.used = align(this.avail + 6 + 2 * this.size, 4);
    this.#heap = this.#nextByte = align(this.used + 6 + 8 * this.size, 64);
    this.#end = options.at + options.room;
  }

  /** Room for `sizeBytes` in guest RAM. The heap starts over when it is used up, so keep what is in flight smaller than it. */
  allocate(sizeBytes: number): number {
    if (this.#nextByte + sizeBytes > this.#end) this.#nextByte = this.#heap;
    const at = this.#nextByte;
    this.#nextByte = align(at + sizeBytes, 16);
    return at;
  }

  writeDesc(
    index: number,
    gpa: number,
    sizeBytes: number,
    flags: number,
    next: number,
    table: number = this.desc,
  ): void {
    const at = table + 16 * index;
    this.ram.write64(at, gpa);
    this.ram.write(at + 8, 4, sizeBytes);
    this.ram.write(at + 12, 2, flags);
    this.ram.write(at + 14, 2, next);
  }

  /** Adds a chain and publishes it; returns its head. With `indirect`, its descriptors go into a table of their own. */
  add(buffers: readonly Buffer[], indirect = false): number {
    const placed = buffers.map((b): Placed => {
      const sizeBytes = typeof b === "number" ? b : b.length;
      const gpa = this.allocate(sizeBytes);
      if (typeof b !== "number") this.ram.copyIn(gpa, b);
      return { gpa, sizeBytes, writable: typeof b === "number" };
    });
    const head = this.#nextDesc % this.size;
    if (indirect) {
      const table = this.allocate(16 * placed.length);
      placed.forEach((p, i) => this.#describe(i, p, i + 1 < placed.length ? i + 1 : -1, table));
      this.writeDesc(head, table, 16 * placed.length, DESC.INDIRECT, 0);
      this.#nextDesc++;
    } else {
      placed.forEach((p, i) => {
        const next = i + 1 < placed.length ? (head + i + 1) % this.size : -1;
        this.#describe((head + i) % this.size, p, next, this.desc);
      });
      this.#nextDesc += placed.length;
    }
    this.#chains.set(head, placed);
    this.publish(head);
    return head;
  }

  #describe(index: number, p: Placed, next: number, table: number): void {
    const flags = (p.writable ? DESC.WRITE : 0) | (next >= 0 ? DESC.NEXT : 0);
    this.writeDesc(index, p.gpa, p.sizeBytes, flags, Math.max(0, next), table);
  }

  /** Puts a head on the available ring, whatever it is. */
  publish(head: number): void {
    this.ram.write(this.avail + 4 + 2 * (this.availIdx % this.size), 2, head);
    this.availIdx = (this.availIdx + 1) & 0xffff;
    this.#storeIdx();
  }

  #storeIdx(): void {
    const u16 = new Uint16Array(this.ram.buffer, this.ram.base, Math.floor(this.ram.sizeBytes / 2));
    Atomics.store(u16, (this.avail + 2) >>> 1, this.availIdx);
  }

  /** The next used element, or null. */
  collect(): UsedElement | null {
    const u16 = new Uint16Array(this.ram.buffer, this.ram.base, Math.floor(this.ram.sizeBytes / 2));
    if (Atomics.load(u16, (this.used + 2) >>> 1) === this.usedIdx) return null;
    const at = this.used + 4 + 8 * (this.usedIdx % this.size);
    this.usedIdx = (this.usedIdx + 1) & 0xffff;
    const head = this.ram.read(at, 4), written = this.ram.read(at + 4, 4);
    const parts = (this.#chains.get(head) ?? []).filter((p) => p.writable);
    this.#chains.delete(head);
    const bytes = new Uint8Array(parts.reduce((n, p) => n + p.sizeBytes, 0));
    let done = 0;
    for (const p of parts) {
      bytes.set(this.ram.bytes(p.gpa, p.sizeBytes)!, done);
      done += p.sizeBytes;
    }
    return { head, written, bytes };
  }

  /** Whether the device wants to hear of what was just added. Without VIRTIO_F_EVENT_IDX. */
  get wantsNotify(): boolean {
    return (this.ram.read(this.used, 2) & 1) === 0;
  }

  /** The device's avail_event. */
  get availEvent(): number {
    return this.ram.read(this.used + 4 + 8 * this.size, 2);
  }

  setNoInterrupt(on: boolean): void {
    this.ram.write(this.avail, 2, on ? 1 : 0);
  }

  /** Asks for an interrupt once the used index passes `index`. */
  setUsedEvent(index: number): void {
    this.ram.write(this.avail + 4 + 2 * this.size, 2, index);
  }
}

function align(n: number, to: number): number {
  return Math.ceil(n / to) * to;
}
