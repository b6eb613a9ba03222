/**
 * Where the clusters of a qcow2 image lie: its L1 table, in memory as a whole, and the L2 tables that are in use.
 *
 * Spec: [qcow2 §Cluster mapping].
 */
import { ImageError } from "../image.ts";
import type { ByteStore } from "../store.ts";
import { entryOffset, type Header, l2EntryBytes, put64 } from "./format.ts";

/** Tables that are kept: 32 MiB of them cover 256 GiB of an image with clusters of 64 KiB. */
const KEPT_BYTES = 32 << 20;

export class L2Table {
  readonly view: DataView;
  /** The first and the last byte that the file does not have. */
  dirtyFrom = Infinity;
  dirtyTo = -1;

  /** `entryBytes` is 16 for extended entries, else 8. */
  constructor(
    readonly index: number,
    readonly at: number,
    readonly bytes: Uint8Array,
    public fresh: boolean,
    readonly entryBytes: number,
  ) {
    this.view = new DataView(bytes.buffer);
  }

  hi(i: number): number {
    return this.view.getUint32(this.entryBytes * i);
  }

  lo(i: number): number {
    return this.view.getUint32(this.entryBytes * i + 4);
  }

  /** A bit for each subcluster that reads as zeros, in extended entries. */
  zero(i: number): number {
    return this.view.getUint32(16 * i + 8);
  }

  /** A bit for each subcluster whose bytes are in the host cluster, in extended entries. */
  allocated(i: number): number {
    return this.view.getUint32(16 * i + 12);
  }

  set(i: number, hi: number, lo: number, zero: number, allocated: number): void {
    const at = this.entryBytes * i;
    this.view.setUint32(at, hi);
    this.view.setUint32(at + 4, lo);
    if (this.entryBytes === 16) {
      this.view.setUint32(at + 8, zero);
      this.view.setUint32(at + 12, allocated);
    }
    if (at < this.dirtyFrom) this.dirtyFrom = at;
    if (at + this.entryBytes - 1 > this.dirtyTo) this.dirtyTo = at + this.entryBytes - 1;
  }

  get dirty(): boolean {
    return this.fresh || this.dirtyTo >= 0;
  }
}

export class Mapping {
  readonly #tables = new Map<number, L2Table>();
  readonly #dirty = new Set<L2Table>();
  readonly #l1Dirty = new Set<number>();
  readonly #clusterBytes: number;
  readonly #entryBytes: number;
  #l1: DataView;

  constructor(private readonly store: ByteStore, private readonly header: Header) {
    this.#clusterBytes = 2 ** header.clusterBits;
    this.#entryBytes = l2EntryBytes(header);
    this.#l1 = this.#readL1();
  }

  #readL1(): DataView {
    const l1 = new Uint8Array(8 * this.header.l1Entries);
    if (l1.length > 0) this.store.read(this.header.l1At, l1);
    return new DataView(l1.buffer);
  }

  /** Forgets everything and reads the L1 table that the header names. */
  reload(): void {
    this.#tables.clear();
    this.#dirty.clear();
    this.#l1Dirty.clear();
    this.#l1 = this.#readL1();
  }

  get perTable(): number {
    return this.#clusterBytes / this.#entryBytes;
  }

  get l1Entries(): number {
    return this.header.l1Entries;
  }

  l1Hi(i: number): number {
    return this.#l1.getUint32(8 * i);
  }

  /** Where the L2 table is; 0 if there is none. Throws ImageError for a place outside the file. */
  l2At(i: number): number {
    const at = entryOffset(this.#l1.getUint32(8 * i), this.#l1.getUint32(8 * i + 4));
    if (at !== 0 && (at % this.#clusterBytes !== 0 || at + this.#clusterBytes > this.store.sizeBytes)) {
      throw new ImageError(`${this.store.name}: found an L2 table at ${at}, expected a whole cluster of the file`);
    }
    return at;
  }

  setL1(i: number, hi: number, at: number): void {
    put64(this.#l1, 8 * i, at);
    this.#l1.setUint32(8 * i, (this.#l1.getUint32(8 * i) | hi) >>> 0);
    this.#l1Dirty.add(i);
  }

  /** Whether the L2 table of an L1 entry is in memory. */
  keeps(i: number): boolean {
    return this.#tables.has(i);
  }

  /** The L2 table of an L1 entry; null if there is none. */
  table(i: number): L2Table | null {
    const known = this.#tables.get(i);
    if (known) return known;
    const at = i < this.header.l1Entries ? this.l2At(i) : 0;
    if (at === 0) return null;
    const bytes = new Uint8Array(this.#clusterBytes);
    this.store.read(at, bytes);
    return this.#keep(new L2Table(i, at, bytes, false, this.#entryBytes));
  }

  /** A table that takes the place of the L1 entry's old one. */
  replace(i: number, at: number, bytes: Uint8Array): L2Table {
    const old = this.#tables.get(i);
    if (old) this.#dirty.delete(old);
    const table = this.#keep(new L2Table(i, at, bytes, true, this.#entryBytes));
    this.#dirty.add(table);
    return table;
  }

  #keep(table: L2Table): L2Table {
    if (this.#tables.size * this.#clusterBytes >= KEPT_BYTES) {
      for (const [i, t] of this.#tables) {
        if (!t.dirty) this.#tables.delete(i);
        if (this.#tables.size * this.#clusterBytes < KEPT_BYTES / 2) break;
      }
    }
    this.#tables.set(table.index, table);
    return table;
  }

  /** The last two are those of an extended entry's subclusters. */
  set(table: L2Table, i: number, hi: number, lo: number, zero = 0, allocated = 0): void {
    table.set(i, hi, lo, zero, allocated);
    this.#dirty.add(table);
  }

  get dirty(): boolean {
    return this.#dirty.size > 0 || this.#l1Dirty.size > 0;
  }

  /** Whether so many tables wait to be written that it is time to do so. */
  get full(): boolean {
    return this.#dirty.size * this.#clusterBytes >= KEPT_BYTES / 2 && this.#dirty.size > 1;
  }

  /** Writes the tables that nothing in the file points to yet. */
  writeFresh(): void {
    for (const table of this.#dirty) {
      if (!table.fresh) continue;
      this.store.write(table.at, table.bytes);
      table.fresh = false;
      table.dirtyFrom = Infinity;
      table.dirtyTo = -1;
    }
  }

  /** Writes the entries that changed, and those of the L1 table. */
  writeEntries(): void {
    for (const table of this.#dirty) {
      if (table.dirtyTo < 0) continue;
      const from = table.dirtyFrom & ~511, to = Math.min(table.bytes.length, (table.dirtyTo & ~511) + 512);
      this.store.write(table.at + from, table.bytes.subarray(from, to));
      table.dirtyFrom = Infinity;
      table.dirtyTo = -1;
    }
    this.#dirty.clear();
    for (const i of this.#l1Dirty) {
      this.store.write(this.header.l1At + 8 * i, new Uint8Array(this.#l1.buffer, 8 * i, 8).slice());
    }
    this.#l1Dirty.clear();
  }
}
