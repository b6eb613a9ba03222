/**
 * Buses: which device answers at a port or an address.
 *
 * Values are unsigned numbers of `size` bytes (1, 2 or 4); an engine splits an 8-byte access into two of 4, low half first.
 * Addresses are numbers up to 2^52. What nobody answers reads as all ones and swallows writes.
 */
import { Bug } from "./errors.ts";

/** A stretch of ports or addresses. `offset` counts from its start. */
export interface Region {
  read(offset: number, size: number): number;
  write(offset: number, size: number, value: number): void;
}

/** A register: where it is, how wide, and who may write. */
export interface Register {
  readonly at: number;
  readonly width: 1 | 2 | 4;
  /** rw; ro (writes are ignored); wo (reads as `floating`); w1c and rc tell the reader what a write or a read does. */
  readonly access: "rw" | "ro" | "wo" | "w1c" | "rc";
}
export type RegisterTable = Readonly<Record<string, Register>>;

/** A device whose registers stand in a table. `readRegister` is asked only for what may be read, and so for writes. */
export interface RegisterDevice<T extends RegisterTable = RegisterTable> {
  readonly registers: T;
  // Methods, not properties, so that a device may narrow the names to those it can be asked for.
  readRegister(name: keyof T & string): number;
  writeRegister(name: keyof T & string, value: number): void;
}

/** All ones of `size` bytes. */
export function ones(size: number): number {
  return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
}

/**
 * A region over a register table. An access that covers several registers reads or writes each of them, low first; one that
 * covers a part of a register reads that part, and writes it by read-modify-write (w1c registers get zeros elsewhere).
 */
export function registerBank<T extends RegisterTable>(device: RegisterDevice<T>): Region {
  const table = Object.entries(device.registers).sort((a, b) => a[1].at - b[1].at) as [keyof T & string, Register][];
  return {
    read(offset, size) {
      let value = 0;
      let covered = 0;
      for (const [name, r] of table) {
        const from = Math.max(offset, r.at), to = Math.min(offset + size, r.at + r.width);
        if (from >= to) continue;
        const bytes = to - from;
        const part = r.access === "wo" ? ones(4) : device.readRegister(name) >>> (8 * (from - r.at));
        value = (value | ((part & ones4(bytes)) << (8 * (from - offset)))) >>> 0;
        covered |= ((1 << bytes) - 1) << (from - offset);
      }
      for (let i = 0; i < size; i++) if (!(covered & (1 << i))) value = (value | (0xff << (8 * i))) >>> 0;
      return value;
    },
    write(offset, size, value) {
      for (const [name, r] of table) {
        const from = Math.max(offset, r.at), to = Math.min(offset + size, r.at + r.width);
        if (from >= to || r.access === "ro") continue;
        const bytes = to - from;
        const part = (value >>> (8 * (from - offset))) & ones4(bytes);
        if (bytes === r.width) device.writeRegister(name, part >>> 0);
        else {
          const shift = 8 * (from - r.at);
          const old = r.access === "rw" ? device.readRegister(name) : 0;
          device.writeRegister(name, ((old & ~(ones4(bytes) << shift)) | (part << shift)) >>> 0);
        }
      }
    },
  };
}

function ones4(bytes: number): number {
  return bytes === 4 ? -1 : (1 << (8 * bytes)) - 1;
}

interface Range {
  readonly name: string;
  readonly base: number;
  readonly end: number;
  readonly region: Region;
}

/** An address space. Regions never overlap. */
export class Bus {
  readonly #ranges: Range[] = [];
  #last: Range | undefined;

  add(name: string, base: number, length: number, region: Region): void {
    const end = base + length;
    for (const r of this.#ranges) {
      if (base < r.end && r.base < end) throw new Bug(`${name} at ${hex(base)} overlaps ${r.name} at ${hex(r.base)}`);
    }
    this.#ranges.push({ name, base, end, region });
    this.#ranges.sort((a, b) => a.base - b.base);
  }

  /** The name of what answers at `address`, for traces. */
  nameAt(address: number): string {
    return this.#find(address)?.name ?? "nothing";
  }

  get ranges(): readonly { name: string; base: number; end: number }[] {
    return this.#ranges;
  }

  read(address: number, size: number): number {
    const r = this.#find(address);
    return r ? r.region.read(address - r.base, size) : ones(size);
  }

  write(address: number, size: number, value: number): void {
    const r = this.#find(address);
    if (r) r.region.write(address - r.base, size, value);
  }

  #find(address: number): Range | undefined {
    const last = this.#last;
    if (last && address >= last.base && address < last.end) return last;
    const ranges = this.#ranges;
    let lo = 0, hi = ranges.length;
    while (lo < hi) {
      const mid = (lo + hi) >> 1;
      if (ranges[mid]!.end <= address) lo = mid + 1;
      else hi = mid;
    }
    const r = ranges[lo];
    if (r && address >= r.base) return this.#last = r;
    return undefined;
  }
}

/** A number as the manuals write it. */
export function hex(value: number): string {
  return "0x" + value.toString(16);
}
