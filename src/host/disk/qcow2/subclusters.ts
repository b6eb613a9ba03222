/**
 * Clusters of 32 subclusters: their L2 entries have a second half, which tells of each whether its bytes are in the host
 * cluster, or read as zeros, or are behind the image.
 *
 * Spec: [qcow2 §Extended L2 Entries]. The order of what goes to the file is that of `qcow2.ts`: bytes first, entries later.
 */
import type { ByteStore } from "../store.ts";
import { COMPRESSED, entryOffset, type Header, subclusterBytes, SUBCLUSTERS } from "./format.ts";
import type { L2Table, Mapping } from "./mapping.ts";

export const ALL = 0xffff_ffff;

/** Bits `from` to `to` - 1, 0 ≤ from ≤ to ≤ 32. */
export function bits(from: number, to: number): number {
  return to - from >= 32 ? ALL : ((2 ** (to - from) - 1) * 2 ** from) >>> 0;
}

export interface SubclusterParts {
  readonly store: ByteStore;
  readonly header: Header;
  readonly mapping: Mapping;
  /** Copies the disk's bytes from `from` to `to`, less than a cluster, to their new place in the file. */
  keepOld(from: number, to: number, at: number, virgin: boolean): void;
  release(hi: number, lo: number): void;
  zeroBytes(from: number, to: number): void;
}

export class Subclusters {
  readonly #clusterBytes: number;
  readonly #bytes: number;

  constructor(private readonly p: SubclusterParts) {
    this.#clusterBytes = 2 ** p.header.clusterBits;
    this.#bytes = subclusterBytes(p.header);
  }

  /** Writes into the host cluster at `at`, which is this entry's alone; returns how much. */
  overwrite(table: L2Table, i: number, at: number, offset: number, from: Uint8Array): number {
    const { mapping, store } = this.p;
    const within = offset % this.#clusterBytes, start = offset - within;
    const n = Math.min(from.length, this.#clusterBytes - within);
    const first = Math.floor(within / this.#bytes), last = Math.floor((within + n - 1) / this.#bytes);
    const there = table.allocated(i), written = bits(first, last + 1);
    const isThere = (s: number) => (there & bits(s, s + 1)) !== 0;
    if (!isThere(first)) this.p.keepOld(start + first * this.#bytes, offset, at + first * this.#bytes, false);
    if (!isThere(last)) this.p.keepOld(offset + n, start + (last + 1) * this.#bytes, at + within + n, false);
    store.write(at + within, n === from.length ? from : from.subarray(0, n));
    const allocated = (there | written) >>> 0, zero = (table.zero(i) & ~written) >>> 0;
    if (allocated !== there || zero !== table.zero(i)) {
      mapping.set(table, i, table.hi(i), table.lo(i), zero, allocated);
    }
    return n;
  }

  /**
   * Before bytes `from` to `to` of the cluster that begins at `start` go to a new host cluster at `at`: takes along what the old
   * one has of the others. Returns which subclusters will be there.
   */
  keepAround(table: L2Table, i: number, start: number, from: number, to: number, at: number, virgin: boolean): number {
    const old = table.hi(i) & COMPRESSED ? ALL : table.allocated(i);
    let there = 0;
    for (let s = 0; s < SUBCLUSTERS; s++) {
      const a = start + s * this.#bytes, b = a + this.#bytes, bit = bits(s, s + 1);
      const untouched = b <= from || a >= to;
      if (untouched && !(old & bit)) continue;
      if (a < from) this.p.keepOld(a, Math.min(b, from), at + a - start, virgin);
      if (b > to) this.p.keepOld(Math.max(a, to), b, at + Math.max(a, to) - start, virgin);
      there |= bit;
    }
    return there >>> 0;
  }

  /** Empties subclusters `first` to `end` - 1: they read as zeros, or as nothing if `hide` is false; `free`: their space too. */
  clear(table: L2Table, i: number, start: number, first: number, end: number, hide: boolean, free: boolean): void {
    const hi = table.hi(i), lo = table.lo(i), which = bits(first, end);
    if (hi & COMPRESSED) {
      if (which !== ALL) return this.p.zeroBytes(start + first * this.#bytes, start + end * this.#bytes);
      this.p.mapping.set(table, i, 0, 0, hide || !free ? ALL : 0, 0);
      return this.p.release(hi, lo);
    }
    const before = table.allocated(i), zeroBefore = table.zero(i);
    const allocated = (before & ~which) >>> 0;
    // What is neither is nothing already.
    const some = hide ? which : which & (before | zeroBefore);
    const zero = (hide || !free ? zeroBefore | some : zeroBefore & ~some) >>> 0;
    const gone = free && allocated === 0 && entryOffset(hi, lo) !== 0;
    if (allocated === before && zero === zeroBefore && !gone) return;
    this.p.mapping.set(table, i, gone ? 0 : hi, gone ? 0 : lo, zero, allocated);
    if (gone) this.p.release(hi, lo);
  }
}
