/**
 * The device's side of a split virtqueue.
 *
 * Spec: [virtio §2.7] split virtqueues; §2.7.5 descriptors and §2.7.5.3 indirect ones, §2.7.7 used buffer notification
 * suppression, §2.7.10 available buffer notification suppression.
 *
 * Everything in guest RAM is the driver's word for it: each descriptor is read once, checked, and used from the copy. A ring
 * that breaks the specification sets `broken`; nothing more is taken from it until reset.
 *
 * Who owns what: the configuration fields are written under the machine lock while `live` is 0. While it is 1 they stand still,
 * and whoever holds `busy` owns the ring positions: that may be a back end's thread, which takes no lock. The driver at the
 * other end runs in other threads, so the indices that publish ring entries are read and written with Atomics.
 */
import type { GuestRam } from "../../src/base/ram.ts";
import { record, type View } from "../../src/base/record.ts";

/** Descriptor flags. */
export const DESC = { NEXT: 1, WRITE: 2, INDIRECT: 4 } as const;
export const AVAIL_NO_INTERRUPT = 1;
export const USED_NO_NOTIFY = 1;
export const NO_VECTOR = 0xffff;
/**
 * Buffers in one chain. DEVIATION(Linux): its drivers put more buffers than the queue size into an indirect table, against
 * [virtio §2.7.5.3.1], so an indirect chain is bounded by this alone.
 */
export const MAX_SEGMENTS = 1024;
export const MAX_QUEUE_SIZE = 1024;

export const VirtqueueRecord = record("virtqueue", 1, {
  // Configuration.
  /** 0 stands for the largest the device allows. */
  size: { type: "u16", max: MAX_QUEUE_SIZE },
  vector: { type: "u16", reset: NO_VECTOR },
  enable: { type: "u8", max: 1 },
  descLo: "u32",
  descHi: "u32",
  driverLo: "u32",
  driverHi: "u32",
  deviceLo: "u32",
  deviceHi: "u32",
  /** The negotiated features that change the ring. */
  indirect: { type: "u8", max: 1 },
  eventIdx: { type: "u8", max: 1 },
  // The ring.
  lastAvail: "u16",
  usedIdx: "u16",
  /** usedIdx when the driver was last considered for a notification. */
  signalled: "u16",
  broken: { type: "u8", max: 1 },
  /** Atomic: buffers may be taken. */
  live: { array: "i32", length: 1, max: 1 },
  /** Atomic: a thread is taking buffers. Nobody is when a snapshot is made. */
  busy: { array: "i32", length: 1, max: 0 },
});

/** One chain of buffers: device-readable ones first, then device-writable ones. Reused for each. */
export class Chain {
  /** The descriptor that names the chain in the used ring. */
  head = 0;
  count = 0;
  /** How many of them are device-readable. */
  readableCount = 0;
  readableBytes = 0;
  writableBytes = 0;
  readonly gpa: Float64Array = new Float64Array(MAX_SEGMENTS);
  readonly sizeBytes: Uint32Array = new Uint32Array(MAX_SEGMENTS);

  constructor(private readonly ram: GuestRam) {}

  start(head: number): void {
    this.head = head;
    this.count =
      this.readableCount =
      this.readableBytes =
      this.writableBytes =
        0;
  }

  add(gpa: number, sizeBytes: number, writable: boolean): boolean {
    const i = this.count;
    if (i === MAX_SEGMENTS || !this.ram.contains(gpa, sizeBytes)) return false;
    if (writable) this.writableBytes += sizeBytes;
    else {
      if (i !== this.readableCount) return false;
      this.readableCount++;
      this.readableBytes += sizeBytes;
    }
    this.gpa[i] = gpa;
    this.sizeBytes[i] = sizeBytes;
    this.count = i + 1;
    return true;
  }

  /** Copies device-readable bytes from `from` on into `to`; returns how many there were. */
  read(from: number, to: Uint8Array): number {
    let done = 0;
    for (let i = 0, at = 0; i < this.readableCount && done < to.length; i++) {
      const size = this.sizeBytes[i]!;
      const skip = Math.max(0, from - at);
      at += size;
      if (skip >= size) continue;
      const n = Math.min(size - skip, to.length - done);
      to.set(this.ram.bytes(this.gpa[i]! + skip, n)!, done);
      done += n;
    }
    return done;
  }

  /** Copies `bytes` into the device-writable part from `from` on; returns how many fitted. */
  write(from: number, bytes: Uint8Array): number {
    let done = 0;
    for (let i = this.readableCount, at = 0; i < this.count && done < bytes.length; i++) {
      const size = this.sizeBytes[i]!;
      const skip = Math.max(0, from - at);
      at += size;
      if (skip >= size) continue;
      const n = Math.min(size - skip, bytes.length - done);
      this.ram.copyIn(this.gpa[i]! + skip, n === bytes.length ? bytes : bytes.subarray(done, done + n));
      done += n;
    }
    return done;
  }
}

export class Virtqueue {
  /** What `peek` found. */
  readonly chain: Chain;
  readonly #u16: Uint16Array;
  // Copies of the configuration, good from `begin` to `end`.
  #size = 0;
  #desc = 0;
  #avail = 0;
  #used = 0;
  /** Chains that may still be taken before `end`: a driver that adds for ever must not keep us for ever. */
  #budget = 0;
  /** The driver's index when `peek` last looked. */
  #seen = 0;

  constructor(
    readonly s: View<typeof VirtqueueRecord>,
    private readonly ram: GuestRam,
    readonly maxSize: number,
  ) {
    this.chain = new Chain(ram);
    this.#u16 = new Uint16Array(ram.buffer, ram.base, Math.floor(ram.sizeBytes / 2));
  }

  get size(): number {
    return this.s.size || this.maxSize;
  }

  get live(): boolean {
    return Atomics.load(this.s.live, 0) !== 0;
  }
  set live(live: boolean) {
    Atomics.store(this.s.live, 0, live ? 1 : 0);
  }

  /** Whether some thread is taking buffers. */
  get busy(): boolean {
    return Atomics.load(this.s.busy, 0) !== 0;
  }

  /** Back to power-on; false, and nothing done, while a thread is taking buffers. `live` must be false already. */
  reset(): boolean {
    if (Atomics.compareExchange(this.s.busy, 0, 0, 1) !== 0) return false;
    VirtqueueRecord.reset(this.s); // `busy` too
    return true;
  }

  get broken(): boolean {
    return this.s.broken !== 0;
  }

  /** Takes the ring, and asks the driver for silence; false if it is not live or another thread has it. */
  begin(): boolean {
    const s = this.s;
    if (Atomics.compareExchange(s.busy, 0, 0, 1) !== 0) return false;
    // `busy` before `live`, as a reset writes `live` before it reads `busy`: one of the two sees the other.
    if (!this.live) {
      Atomics.store(s.busy, 0, 0);
      return false;
    }
    this.#size = this.size;
    this.#budget = this.#size;
    this.#seen = s.lastAvail;
    this.#desc = s.descLo + s.descHi * 0x1_0000_0000;
    this.#avail = s.driverLo + s.driverHi * 0x1_0000_0000;
    this.#used = s.deviceLo + s.deviceHi * 0x1_0000_0000;
    if (!this.#placed()) s.broken = 1;
    else if (!s.eventIdx) this.#store16(this.#used, USED_NO_NOTIFY);
    return true;
  }

  /** Whether the rings are where the specification allows, and in RAM. */
  #placed(): boolean {
    const n = this.#size;
    return n <= this.maxSize && (n & (n - 1)) === 0 &&
      this.#desc % 16 === 0 && this.ram.contains(this.#desc, 16 * n) &&
      this.#avail % 2 === 0 && this.ram.contains(this.#avail, 6 + 2 * n) &&
      this.#used % 4 === 0 && this.ram.contains(this.#used, 6 + 8 * n);
  }

  /** Finds the next chain and leaves it on the ring; false if there is none to be had now. */
  peek(): boolean {
    const s = this.s;
    if (s.broken || this.#budget === 0 || !this.live) return false;
    this.#seen = Atomics.load(this.#u16, (this.#avail + 2) >>> 1);
    const waiting = (this.#seen - s.lastAvail) & 0xffff;
    if (waiting === 0) return false;
    const head = this.ram.read(this.#avail + 4 + 2 * (s.lastAvail & (this.#size - 1)), 2);
    if (waiting <= this.#size && head < this.#size && this.#gather(head, this.chain)) return true;
    s.broken = 1;
    return false;
  }

  /**
   * Looks at the chain that is `ahead` places behind the next one; false if there is none, or it breaks the specification. Nothing
   * comes of it: the driver may change the chain until it is taken.
   */
  glance(ahead: number, chain: Chain): boolean {
    const s = this.s;
    const waiting = (Atomics.load(this.#u16, (this.#avail + 2) >>> 1) - s.lastAvail) & 0xffff;
    if (s.broken || ahead >= waiting || waiting > this.#size) return false;
    const head = this.ram.read(this.#avail + 4 + 2 * ((s.lastAvail + ahead) & (this.#size - 1)), 2);
    return head < this.#size && this.#gather(head, chain);
  }

  /** Takes the chain that `peek` found off the ring. */
  take(): void {
    this.s.lastAvail++;
    this.#budget--;
  }

  /** Finds the next chain and takes it. */
  pop(): boolean {
    if (!this.peek()) return false;
    this.take();
    return true;
  }

  #gather(head: number, chain: Chain): boolean {
    const ram = this.ram;
    let table = this.#desc, entries = this.#size, index = head, steps = 0, indirect = false;
    chain.start(head);
    for (;;) {
      // A chain longer than its table goes round in it.
      if (index >= entries || steps++ >= entries) return false;
      const at = table + 16 * index;
      const gpa = ram.read64(at), size = ram.read(at + 8, 4);
      const flags = ram.read(at + 12, 2), next = ram.read(at + 14, 2);
      if (flags & DESC.INDIRECT) {
        if (!this.s.indirect || indirect || flags & DESC.NEXT) return false;
        if (size === 0 || size % 16 !== 0 || size > 16 * MAX_SEGMENTS || !ram.contains(gpa, size)) return false;
        table = gpa;
        entries = size / 16;
        index = steps = 0;
        indirect = true;
        continue;
      }
      if (!chain.add(gpa, size, (flags & DESC.WRITE) !== 0)) return false;
      if (!(flags & DESC.NEXT)) return true;
      index = next;
    }
  }

  /** Gives a chain back, saying that the first `written` bytes of its device-writable part were written. */
  push(head: number, written: number): void {
    const s = this.s;
    const at = this.#used + 4 + 8 * (s.usedIdx & (this.#size - 1));
    this.ram.write(at, 4, head);
    this.ram.write(at + 4, 4, written >>> 0);
    s.usedIdx++;
    this.#store16(this.#used + 2, s.usedIdx);
  }

  /** Whether the driver wants a notification for what was pushed since this was last asked. */
  needsInterrupt(): boolean {
    const s = this.s;
    const before = s.signalled, now = s.usedIdx;
    if (before === now) return false;
    s.signalled = now;
    if (!s.eventIdx) return (Atomics.load(this.#u16, this.#avail >>> 1) & AVAIL_NO_INTERRUPT) === 0;
    const usedEvent = Atomics.load(this.#u16, (this.#avail + 4 + 2 * this.#size) >>> 1);
    return ((now - usedEvent - 1) & 0xffff) < ((now - before) & 0xffff);
  }

  /** Puts the last `count` chains taken since `begin` back on the ring: nothing of them was given back. */
  untake(count: number): void {
    this.s.lastAvail -= count;
    this.#budget += count;
  }

  /**
   * Lets go of the ring and asks for notifications again: of "any" chain that waits, or of chains "more" than those `peek`
   * saw. True: there are such chains, so `begin` again soon. "none": asks for nothing.
   */
  end(wish: "any" | "more" | "none" = "any"): boolean {
    const s = this.s;
    let more = false;
    if (!s.broken && wish !== "none") {
      const idx = (this.#avail + 2) >>> 1;
      const seen = wish === "any" ? s.lastAvail : this.#seen;
      if (s.eventIdx) this.#store16(this.#used + 4 + 8 * this.#size, seen);
      else this.#store16(this.#used, 0);
      // After the store: a driver that added before it saw the wish is seen here, and one that adds later notifies.
      more = Atomics.load(this.#u16, idx) !== seen && this.live;
    }
    Atomics.store(s.busy, 0, 0);
    return more;
  }

  /** Declares the ring broken: for what only the device can judge. */
  fail(): void {
    this.s.broken = 1;
  }

  #store16(gpa: number, value: number): void {
    Atomics.store(this.#u16, gpa >>> 1, value & 0xffff);
    this.ram.wrote(gpa, 2);
  }
}
