/**
 * Interfaces of vmnet in memory that all threads of the process see, and the switch between them: a frame that one writes is
 * read by the others of its network.
 */
import { createShared, mapShared, viewOf } from "../host.ts";

export const STATE = { FREE: 0, STARTING: 1, STARTED: 2, STOPPED: 3 } as const;
const INTERFACES = 8, SLOTS = 256, SLOT_BYTES = 17 * 4096, HEADER_BYTES = 4096;
const INTERFACE_BYTES = HEADER_BYTES + SLOTS * SLOT_BYTES;
/** Words of an interface's record; then 64-bit words. */
const W = {
  STATE: 0,
  MODE: 1,
  WRITTEN: 2,
  READ: 3,
  LARGEST: 4,
  MASK: 5,
  LOCK: 6,
  ISOLATED: 7,
  VIRTIO: 8,
  CALLED: 9,
} as const;
const L = { BLOCK: 8, NETWORK: 9 } as const;
export const VIRTIO_HEADER = 12;

export class Switch {
  readonly #words: Int32Array;
  readonly #longs: BigInt64Array;
  readonly #u8: Uint8Array;

  private constructor(readonly address: bigint, arena: ArrayBuffer) {
    this.#words = new Int32Array(arena);
    this.#longs = new BigInt64Array(arena);
    this.#u8 = new Uint8Array(arena);
  }

  /** `words`: as Process.open has them. */
  static open(words: BigInt64Array): Switch {
    const bytes = INTERFACES * INTERFACE_BYTES;
    if (Atomics.compareExchange(words, 0, 0n, 1n) === 0n) {
      Atomics.store(words, 1, mapShared(createShared(bytes), 0, bytes));
      Atomics.store(words, 0, 2n);
    }
    while (Atomics.load(words, 0) !== 2n);
    return new Switch(words[1]!, viewOf(words[1]!, bytes));
  }

  /** A free interface's number, now starting; -1 if there is none. */
  claim(mode: number, network: bigint, largest: number, isolated: boolean, virtio: boolean): number {
    for (let i = 0; i < INTERFACES; i++) {
      const at = this.#at(i);
      if (Atomics.compareExchange(this.#words, at + W.STATE, STATE.FREE, STATE.STARTING) !== STATE.FREE) continue;
      this.#words.fill(0, at + 1, at + 16);
      this.#words[at + W.MODE] = mode;
      this.#words[at + W.LARGEST] = largest;
      this.#words[at + W.ISOLATED] = isolated ? 1 : 0;
      this.#words[at + W.VIRTIO] = virtio ? 1 : 0;
      this.#longs[at / 2 + L.BLOCK] = 0n;
      this.#longs[at / 2 + L.NETWORK] = BigInt.asIntN(64, network);
      return i;
    }
    return -1;
  }

  #at(i: number): number {
    return i * INTERFACE_BYTES / 4;
  }
  handle(i: number): bigint {
    return this.address + BigInt(i * INTERFACE_BYTES);
  }
  /** The interface a handle stands for, or -1. */
  find(handle: bigint): number {
    const offset = handle - this.address, i = Number(offset / BigInt(INTERFACE_BYTES));
    const known = offset >= 0n && i < INTERFACES && offset % BigInt(INTERFACE_BYTES) === 0n;
    return known && this.state(i) !== STATE.FREE ? i : -1;
  }
  state(i: number): number {
    return Atomics.load(this.#words, this.#at(i) + W.STATE);
  }
  setState(i: number, state: number): void {
    Atomics.store(this.#words, this.#at(i) + W.STATE, state);
  }
  largest(i: number): number {
    return this.#words[this.#at(i) + W.LARGEST]!;
  }
  hasHeader(i: number): boolean {
    return this.#words[this.#at(i) + W.VIRTIO] !== 0;
  }
  mode(i: number): number {
    return this.#words[this.#at(i) + W.MODE]!;
  }

  setEvents(i: number, mask: number, block: bigint): void {
    this.#longs[this.#at(i) / 2 + L.BLOCK] = block;
    Atomics.store(this.#words, this.#at(i) + W.MASK, mask);
  }
  /** The block to call about new packets, unless it is being called already; then `called` must follow. */
  takeEvent(i: number): bigint {
    const at = this.#at(i);
    if (!(Atomics.load(this.#words, at + W.MASK) & 1) || this.waiting(i) === 0) return 0n;
    return Atomics.exchange(this.#words, at + W.CALLED, 1) === 0 ? this.#longs[at / 2 + L.BLOCK]! : 0n;
  }
  called(i: number): void {
    Atomics.store(this.#words, this.#at(i) + W.CALLED, 0);
  }

  /** Frames that wait to be read. */
  waiting(i: number): number {
    const at = this.#at(i);
    return (Atomics.load(this.#words, at + W.WRITTEN) - Atomics.load(this.#words, at + W.READ)) >>> 0;
  }

  /** Hands a frame to the others of the network; their numbers. Whose queue is full loses it. */
  send(from: number, frame: Uint8Array): number[] {
    const reached: number[] = [], own = this.#at(from);
    for (let i = 0; i < INTERFACES; i++) {
      const at = this.#at(i);
      if (i === from || this.state(i) !== STATE.STARTED || this.#words[at + W.MODE] !== this.#words[own + W.MODE]) {
        continue;
      }
      if (this.#longs[at / 2 + L.NETWORK] !== this.#longs[own / 2 + L.NETWORK]) continue;
      if (this.#words[at + W.ISOLATED] || this.#words[own + W.ISOLATED] || frame.length > this.largest(i)) continue;
      this.#locked(at, () => {
        if (this.waiting(i) >= SLOTS) return;
        const slot = this.#slot(i, this.#words[at + W.WRITTEN]!);
        new DataView(this.#u8.buffer).setUint32(slot, frame.length, true);
        this.#u8.set(frame, slot + 4);
        Atomics.add(this.#words, at + W.WRITTEN, 1);
        reached.push(i);
      });
    }
    return reached;
  }

  /** The next frame, or null. */
  receive(i: number): Uint8Array | null {
    const at = this.#at(i);
    return this.#locked(at, () => {
      if (this.waiting(i) === 0) return null;
      const slot = this.#slot(i, this.#words[at + W.READ]!);
      const length = new DataView(this.#u8.buffer).getUint32(slot, true);
      const frame = this.#u8.slice(slot + 4, slot + 4 + length);
      Atomics.add(this.#words, at + W.READ, 1);
      return frame;
    });
  }

  #slot(i: number, count: number): number {
    return i * INTERFACE_BYTES + HEADER_BYTES + ((count >>> 0) % SLOTS) * SLOT_BYTES;
  }

  #locked<T>(at: number, body: () => T): T {
    while (Atomics.compareExchange(this.#words, at + W.LOCK, 0, 1) !== 0);
    try {
      return body();
    } finally {
      Atomics.store(this.#words, at + W.LOCK, 0);
    }
  }
}
