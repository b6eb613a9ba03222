/** The calls about the virtual machine and its memory, as Intel Macs have them. Each returns an hv_return_t. */
import { MAX_MAPPINGS } from "../../src/base/memory_map.ts";
import { HV } from "./codes.ts";
import { mapShared, PAGE, unmap } from "./host.ts";
import { put32, put64 } from "./out.ts";
import { machNs } from "./time.ts";
import {
  GUEST_PAGES,
  H,
  LAZY,
  LOW_PAGES,
  MAPPED,
  MAX_VCPUS,
  type Process,
  SPACES,
  V,
  WINDOW_PAGES,
} from "./process.ts";
import { RAM_BASE } from "../../src/machine/memory.ts";

const MEMORY_FLAGS = 0x1ffn, RIGHTS = 0x7;
/** Mitigations A..E with the bit that says they are chosen, and the kernel's interrupt controllers. */
const VM_OPTIONS = 0x45fn, ACCEL_APIC = 0x400n;

export class Vm {
  constructor(readonly process: Process) {}

  get exists(): boolean {
    return Atomics.load(this.process.words, H.VM) !== 0;
  }

  capability(capability: bigint, out: bigint): number {
    if (capability > 1n) return HV.BAD_ARGUMENT;
    return put64(out, capability === 0n ? MAX_VCPUS : SPACES) ? HV.SUCCESS : HV.BAD_ARGUMENT;
  }

  create(options: bigint): number {
    if (options & ~VM_OPTIONS) return HV.BAD_ARGUMENT;
    // The kernel's interrupt controllers: apic.ts.
    if (options & ACCEL_APIC) return HV.UNSUPPORTED;
    const { words } = this.process;
    if (Atomics.compareExchange(words, H.VM, 0, 1) !== 0) return HV.BUSY;
    words[H.OPTIONS] = Number(options);
    Atomics.store(words, H.SPACES, 1);
    this.process.longs[H.TSC / 2] = 0n;
    return HV.SUCCESS;
  }

  destroy(): number {
    if (!this.exists) return HV.ERROR;
    return this.process.locked(() => {
      if (this.process.vcpus().length > 0) return HV.BUSY;
      for (let space = 0; space < SPACES; space++) this.#forget(space);
      Atomics.store(this.process.words, H.VM, 0);
      return HV.SUCCESS;
    });
  }

  #forget(space: number): void {
    this.process.rights(space).fill(0);
    this.process.frames(space).fill(0);
  }

  spaceCreate(out: bigint): number {
    if (!this.exists) return HV.ERROR;
    if (out === 0n) return HV.BAD_ARGUMENT;
    return this.process.locked(() => {
      const { words } = this.process;
      for (let space = 1; space < SPACES; space++) {
        if (words[H.SPACES]! & (1 << space)) continue;
        words[H.SPACES]! |= 1 << space;
        put32(out, space);
        return HV.SUCCESS;
      }
      return HV.NO_RESOURCES;
    });
  }

  spaceDestroy(space: number): number {
    if (space === 0 || !this.hasSpace(space)) return HV.BAD_ARGUMENT;
    return this.process.locked(() => {
      const used = this.process.vcpus().some((id) => this.process.words[this.process.vcpu(id) + V.SPACE] === space);
      if (used) return HV.BUSY;
      this.#forget(space);
      this.process.words[H.SPACES]! &= ~(1 << space);
      return HV.SUCCESS;
    });
  }

  hasSpace(space: number): boolean {
    return space < SPACES && (Atomics.load(this.process.words, H.SPACES) & (1 << space)) !== 0;
  }

  map(space: number, address: bigint, gpa: bigint, size: bigint, flags: bigint): number {
    const range = this.#range(space, gpa, size, flags);
    if (typeof range === "number") return range;
    if (address === 0n || address % BigInt(PAGE) !== 0n) return HV.BAD_ARGUMENT;
    if (range.end > GUEST_PAGES) return HV.NO_RESOURCES;
    const status = this.process.locked(() => {
      const rights = this.process.rights(space), frames = this.process.frames(space);
      for (let page = range.from; page < range.end; page++) if (rights[page] !== 0) return HV.BUSY;
      const isHigh = range.end > LOW_PAGES;
      if (isHigh && (range.from < LOW_PAGES || space !== 0 || !this.#openWindow(range.from, range.end))) {
        return HV.NO_RESOURCES;
      }
      const offset = this.process.back(address, Number(size));
      if (offset < 0) return HV.BAD_ARGUMENT;
      for (let page = range.from; page < range.end; page++) frames[page] = offset / PAGE + page - range.from;
      for (const id of this.process.vcpus()) this.#show(id, space, range.from, range.end);
      rights.fill(MAPPED | LAZY | ((Number(flags) & RIGHTS) << 3), range.from, range.end);
      return HV.SUCCESS;
    });
    if (status === HV.SUCCESS) {
      Atomics.add(this.process.words, H.MAPS, 1);
      this.process.changed();
    }
    return status;
  }

  unmap(space: number, gpa: bigint, size: bigint): number {
    return this.#change(space, gpa, size, 0n, () => 0);
  }

  protect(space: number, gpa: bigint, size: bigint, flags: bigint): number {
    return this.#change(space, gpa, size, flags, () => MAPPED | (Number(flags) & RIGHTS));
  }

  /** Gives each page of the range new rights, if all of them are mapped. */
  #change(space: number, gpa: bigint, size: bigint, flags: bigint, to: () => number): number {
    const range = this.#range(space, gpa, size, flags);
    if (typeof range === "number") return range;
    const status = this.process.locked(() => {
      const rights = this.process.rights(space);
      for (let page = range.from; page < range.end; page++) if (!rights[page]) return HV.BAD_ARGUMENT;
      rights.fill(to(), range.from, range.end);
      if (to() === 0) this.process.frames(space).fill(0, range.from, range.end);
      return HV.SUCCESS;
    });
    if (status === HV.SUCCESS) this.process.changed();
    return status;
  }

  #range(space: number, gpa: bigint, size: bigint, flags: bigint): number | { from: number; end: number } {
    if (!this.exists) return HV.ERROR;
    const page = BigInt(PAGE);
    if (!this.hasSpace(space) || gpa % page !== 0n || size === 0n || size % page !== 0n) return HV.BAD_ARGUMENT;
    if ((flags & ~MEMORY_FLAGS) !== 0n || gpa + size > 1n << 40n) return HV.BAD_ARGUMENT;
    return { from: Number(gpa / page), end: Number((gpa + size) / page) };
  }

  /** Finds room in the window; false if there is none. What is not mapped any more gives up its place. */
  #openWindow(from: number, end: number): boolean {
    const { high } = this.process, rights = this.process.rights(0), pages = end - from;
    const inUse = high.mappings.filter((m) => rights.subarray(m.first, m.first + m.pages).some((right) => right !== 0));
    inUse.sort((a, b) => a.backing - b.backing);
    let backing = LOW_PAGES;
    for (const m of inUse) if (m.backing - backing < pages) backing = m.backing + m.pages;
    if (backing + pages > LOW_PAGES + WINDOW_PAGES || inUse.length >= MAX_MAPPINGS) return false;
    high.set([...inUse, { first: from, pages, backing, writable: true }]);
    return true;
  }

  /** The page of a software CPU's memory at which it finds a guest-physical page. */
  #place(page: number): number {
    if (page < LOW_PAGES) return page;
    const m = this.process.high.mappings.find(({ first, pages }) => page >= first && page < first + pages)!;
    return page - m.first + m.backing;
  }

  /** Puts pages of a space where the software CPU of vCPU `id` looks for them. */
  #show(id: number, space: number, from: number, end: number): void {
    const { words, longs } = this.process, at = this.process.vcpu(id);
    if (words[at + V.SPACE] !== space || longs[(at + V.MEMORY) / 2] === 0n) return;
    const memory = longs[(at + V.MEMORY) / 2]!;
    const frames = this.process.frames(space);
    for (let page = from; page < end;) {
      let to = page + 1;
      const cut = page < LOW_PAGES ? Math.min(end, LOW_PAGES) : end;
      while (to < cut && frames[to] === frames[page]! + to - page) to++;
      if (frames[page] !== 0) {
        const address = memory + BigInt(RAM_BASE) + BigInt(this.#place(page) * PAGE);
        mapShared(this.process.fd, frames[page]! * PAGE, (to - page) * PAGE, address);
      }
      page = to;
    }
  }

  /** Shows vCPU `id` all of its space. */
  showAll(id: number, space: number): void {
    this.#show(id, space, 0, GUEST_PAGES);
  }

  allocate(out: bigint, size: bigint, flags: bigint): number {
    if (out === 0n || size === 0n || size % BigInt(PAGE) !== 0n || flags !== 0n) return HV.BAD_ARGUMENT;
    const offset = this.process.locked(() => this.process.allocate(Number(size)));
    put64(out, mapShared(this.process.fd, offset, Number(size)));
    return HV.SUCCESS;
  }

  deallocate(address: bigint, size: bigint): number {
    if (address === 0n || address % BigInt(PAGE) !== 0n || size === 0n) return HV.BAD_ARGUMENT;
    unmap(address, Number(size));
    return HV.SUCCESS;
  }

  /** The host's counter runs at 1 GHz here. */
  tscClock(): bigint {
    return machNs();
  }

  /** Guests' counters show `tsc` now. */
  syncTsc(tsc: bigint): number {
    if (!this.exists) return HV.ERROR;
    Atomics.store(this.process.longs, H.TSC / 2, BigInt.asIntN(64, tsc - machNs()));
    return HV.SUCCESS;
  }
}
