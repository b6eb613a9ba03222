/** What all threads of the process share of the one VM on Apple silicon, in memory; and the handles of objects. */
import { createShared, mapShared, viewOf } from "../host.ts";

export const MAX_VCPUS = 64, MAX_MAPPINGS = 64;
export const HOST_PAGE = 16384n;
const BYTES = 1 << 20;

/** Words. */
export const W = {
  LOCK: 0,
  VM: 1,
  IPA_BITS: 2,
  GRANULE: 3,
  EL2: 4,
  GIC: 5,
  MAPPINGS: 6,
  MSI_FIRST: 7,
  MSI_COUNT: 8,
  /** A word a vCPU: 1 while there is one; and whether its next run is cancelled. */
  USED: 64,
  CANCEL: 128,
  /** A word an SPI: its level. */
  SPI: 1024,
} as const;
/** 64-bit words. */
export const L = { DISTRIBUTOR: 16, REDISTRIBUTOR: 17, MSI: 18, MAPPINGS: 2048 } as const;

export class Shared {
  readonly words: Int32Array;
  readonly longs: BigInt64Array;

  private constructor(buffer: ArrayBuffer) {
    this.words = new Int32Array(buffer);
    this.longs = new BigInt64Array(buffer);
  }

  /** `words`: as Process.open has them. */
  static open(words: BigInt64Array): Shared {
    if (Atomics.compareExchange(words, 0, 0n, 1n) === 0n) {
      Atomics.store(words, 1, mapShared(createShared(BYTES), 0, BYTES));
      Atomics.store(words, 0, 2n);
    }
    while (Atomics.load(words, 0) !== 2n);
    return new Shared(viewOf(words[1]!, BYTES));
  }

  locked<T>(body: () => T): T {
    while (Atomics.compareExchange(this.words, W.LOCK, 0, 1) !== 0);
    try {
      return body();
    } finally {
      Atomics.store(this.words, W.LOCK, 0);
    }
  }

  get hasVm(): boolean {
    return Atomics.load(this.words, W.VM) !== 0;
  }
  get hasGic(): boolean {
    return Atomics.load(this.words, W.GIC) !== 0;
  }
  vcpus(): number {
    return this.words.subarray(W.USED, W.USED + MAX_VCPUS).reduce((sum, used) => sum + used, 0);
  }

  /** Guest address, size, host address and rights of what is mapped. */
  mappings(): [ipa: bigint, size: bigint, host: bigint, flags: bigint][] {
    return Array.from({ length: this.words[W.MAPPINGS]! }, (_, i) => {
      const at = L.MAPPINGS + 4 * i;
      return [this.longs[at]!, this.longs[at + 1]!, this.longs[at + 2]!, this.longs[at + 3]!];
    });
  }
  setMappings(list: readonly (readonly bigint[])[]): boolean {
    if (list.length > MAX_MAPPINGS) return false;
    list.forEach((mapping, i) => this.longs.set(mapping, L.MAPPINGS + 4 * i));
    this.words[W.MAPPINGS] = list.length;
    return true;
  }
  mappingOf(ipa: bigint): readonly [ipa: bigint, size: bigint, host: bigint, flags: bigint] | undefined {
    return this.mappings().find(([from, size]) => ipa >= from && ipa < from + size);
  }
}

/** Objects that C knows by a pointer to nothing it may look at. */
export class Handles<T> {
  readonly #objects = new Map<bigint, T>();
  #next: bigint;
  /** `kind` tells handles of different kinds apart. */
  constructor(kind: number) {
    this.#next = 0x7000_0000_0000n + (BigInt(kind) << 32n);
  }
  add(object: T): bigint {
    this.#next += 16n;
    this.#objects.set(this.#next, object);
    return this.#next;
  }
  get(handle: bigint): T | undefined {
    return this.#objects.get(handle);
  }
  release(handle: bigint): boolean {
    return this.#objects.delete(handle);
  }
}
