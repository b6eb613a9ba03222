/**
 * How often each cluster of a qcow2 file is used, and which are free.
 *
 * Spec: [qcow2 §Host cluster management].
 *
 * Counts are kept in memory as they will be and go to the file by `write`. What they lose there is space, never data: a count
 * goes up in the file before anything points to its cluster, and goes down after nothing does any more (see `image.ts`).
 */
import { ImageError } from "../image.ts";
import type { ByteStore } from "../store.ts";
import { get64, type Header, MAX_REFCOUNT_TABLE_BYTES, put64 } from "./format.ts";

/** The counters of a block, by width [qcow2 §Refcount block entry]. Counts above 2^53 are rounded. */
export function getCount(bytes: Uint8Array, view: DataView, index: number, order: number): number {
  switch (order) {
    case 3:
      return bytes[index]!;
    case 4:
      return view.getUint16(2 * index);
    case 5:
      return view.getUint32(4 * index);
    case 6:
      return view.getUint32(8 * index) * 0x1_0000_0000 + view.getUint32(8 * index + 4);
    default: {
      const perByte = 8 >> order, bits = 1 << order;
      return (bytes[Math.floor(index / perByte)]! >> ((index % perByte) * bits)) & ((1 << bits) - 1);
    }
  }
}

export function putCount(bytes: Uint8Array, view: DataView, index: number, order: number, value: number): void {
  switch (order) {
    case 3:
      bytes[index] = value;
      return;
    case 4:
      return view.setUint16(2 * index, value);
    case 5:
      return view.setUint32(4 * index, value);
    case 6:
      return put64(view, 8 * index, value);
    default: {
      const perByte = 8 >> order, bits = 1 << order, at = Math.floor(index / perByte);
      const shift = (index % perByte) * bits;
      bytes[at] = (bytes[at]! & ~(((1 << bits) - 1) << shift)) | (value << shift);
    }
  }
}

export function maxCount(order: number): number {
  return order === 6 ? Number.MAX_SAFE_INTEGER : 2 ** (1 << order) - 1;
}

interface Block {
  readonly at: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** Nothing in the file points to it yet. */
  fresh: boolean;
  dirty: boolean;
}

/** Clusters behind the end of the file that may be counted as used: a power cut leaves a few. */
const MAX_BEHIND = 1 << 20;
/** Clean blocks that are kept. */
const KEPT_BYTES = 8 << 20;

export interface RefcountParts {
  readonly store: ByteStore;
  readonly header: Header;
  /** Clusters of the image's own structures: never to be given out, whatever their count says. */
  readonly reserved: Set<number>;
  /** Writes refcount_table_offset and refcount_table_clusters of `header` into the file. */
  readonly headerMoved: () => void;
}

export class Refcounts {
  readonly #p: RefcountParts;
  readonly #clusterBytes: number;
  readonly #perBlock: number;
  #table: DataView;
  /** Entries of the table that the file does not have yet. */
  readonly #tableDirty = new Set<number>();
  readonly #blocks = new Map<number, Block>();
  readonly #dirty = new Set<Block>();
  /** No cluster below is free, but for those that were freed since it was found. */
  #hint = 0;

  constructor(parts: RefcountParts) {
    this.#p = parts;
    const { store, header } = parts;
    this.#clusterBytes = 2 ** header.clusterBits;
    this.#perBlock = (8 * this.#clusterBytes) >> header.refcountOrder;
    const table = new Uint8Array(header.refcountTableClusters * this.#clusterBytes);
    store.read(header.refcountTableAt, table);
    this.#table = new DataView(table.buffer);
    for (let i = 0; i < this.#entries; i++) {
      const at = get64(this.#table, 8 * i), cluster = at / this.#clusterBytes;
      if (at === 0) continue;
      if (!Number.isInteger(cluster) || at + this.#clusterBytes > store.sizeBytes || parts.reserved.has(cluster)) {
        throw new ImageError(
          `${store.name}: found a refcount block at ${at}, expected a cluster of its own; 'trike disk check --repair' may help`,
        );
      }
      parts.reserved.add(cluster);
    }
  }

  get #entries(): number {
    return this.#table.byteLength / 8;
  }

  get dirty(): boolean {
    return this.#dirty.size > 0 || this.#tableDirty.size > 0;
  }

  #block(index: number): Block | null {
    const known = this.#blocks.get(index);
    if (known) return known;
    if (index >= this.#entries) return null;
    const at = get64(this.#table, 8 * index);
    if (at === 0) return null;
    const bytes = new Uint8Array(this.#clusterBytes);
    this.#p.store.read(at, bytes);
    return this.#keep(index, { at, bytes, view: new DataView(bytes.buffer), fresh: false, dirty: false });
  }

  #keep(index: number, block: Block): Block {
    if (this.#blocks.size * this.#clusterBytes >= KEPT_BYTES) {
      for (const [i, b] of this.#blocks) if (!b.dirty) this.#blocks.delete(i);
    }
    this.#blocks.set(index, block);
    return block;
  }

  get(cluster: number): number {
    const block = this.#block(Math.floor(cluster / this.#perBlock));
    if (!block) return 0;
    return getCount(block.bytes, block.view, cluster % this.#perBlock, this.#p.header.refcountOrder);
  }

  #set(cluster: number, count: number): void {
    const index = Math.floor(cluster / this.#perBlock);
    const block = this.#block(index) ?? this.#newBlock(index);
    putCount(block.bytes, block.view, cluster % this.#perBlock, this.#p.header.refcountOrder, count);
    this.#touch(block);
  }

  #touch(block: Block): void {
    block.dirty = true;
    this.#dirty.add(block);
  }

  /** Counts one use more of each cluster. */
  raise(first: number, clusters: number): void {
    for (let c = first; c < first + clusters; c++) {
      const count = this.get(c);
      if (count >= maxCount(this.#p.header.refcountOrder)) {
        throw new Error(`${this.#p.store.name}: cluster ${c} is used ${count} times, as often as can be counted`);
      }
      this.#set(c, count + 1);
    }
  }

  /** Whether one use more of a cluster can be counted. */
  mayRaise(cluster: number): boolean {
    return this.get(cluster) < maxCount(this.#p.header.refcountOrder);
  }

  /** Counts one use less; true if that was the last. What is not counted at all, or is not data, stays as it is. */
  lower(cluster: number): boolean {
    const count = this.get(cluster);
    if (count === 0 || this.#p.reserved.has(cluster)) return false;
    this.#set(cluster, count - 1);
    if (count === 1 && cluster < this.#hint) this.#hint = cluster;
    return count === 1;
  }

  /** Uses up to `wanted` free clusters in a row, at least one; those before `found.first + found.count` are counted once. */
  allocate(wanted: number): { first: number; count: number } {
    for (let first = this.#hint;; first++) {
      this.#bound(first);
      if (!this.#isFree(first)) continue;
      let count = 1;
      while (count < wanted && this.#isFree(first + count)) count++;
      // New blocks are made on the way; one may have taken a cluster of the run.
      this.#ensureBlocks(first, count);
      if (!this.#isFree(first)) continue;
      for (let n = 1; n < count; n++) if (!this.#isFree(first + n)) count = n;
      this.raise(first, count);
      this.#cover((first + count) * this.#clusterBytes);
      this.#hint = first + count;
      return { first, count };
    }
  }

  /** Uses exactly `wanted` free clusters in a row. */
  allocateRow(wanted: number): number {
    for (let first = this.#hint;;) {
      this.#bound(first);
      let count = 0;
      while (count < wanted && this.#isFree(first + count)) count++;
      if (count === wanted) {
        this.#ensureBlocks(first, count);
        for (count = 0; count < wanted && this.#isFree(first + count);) count++;
        if (count === wanted) {
          this.raise(first, wanted);
          this.#cover((first + wanted) * this.#clusterBytes);
          if (first === this.#hint) this.#hint = first + wanted;
          return first;
        }
      }
      first += count + 1;
    }
  }

  /** Uses one given cluster; false if it is not free. */
  take(cluster: number): boolean {
    if (!this.#isFree(cluster)) return false;
    this.#ensureBlocks(cluster, 1);
    if (!this.#isFree(cluster)) return false;
    this.raise(cluster, 1);
    this.#cover((cluster + 1) * this.#clusterBytes);
    return true;
  }

  /** Counts far behind the end of the file are nobody's: a search through them would not end. */
  #bound(cluster: number): void {
    if (cluster * this.#clusterBytes > this.#p.store.sizeBytes + MAX_BEHIND * this.#clusterBytes) {
      throw new ImageError(`${this.#p.store.name}: the refcounts behind the end of the file are not zero`);
    }
  }

  #isFree(cluster: number): boolean {
    return cluster > 0 && this.get(cluster) === 0 && !this.#p.reserved.has(cluster);
  }

  #ensureBlocks(first: number, clusters: number): void {
    const last = Math.floor((first + clusters - 1) / this.#perBlock);
    for (let b = Math.floor(first / this.#perBlock); b <= last; b++) if (!this.#block(b)) this.#newBlock(b);
  }

  /** A block for a stretch that has none: all of it is free, and the block is its first user. */
  #newBlock(index: number): Block {
    const { store, reserved, header } = this.#p;
    if (index >= this.#entries) this.#growTable(index + 1);
    const grown = this.#block(index);
    if (grown) return grown;
    let cluster = index * this.#perBlock;
    while (reserved.has(cluster) || cluster === 0) cluster++;
    if (cluster >= (index + 1) * this.#perBlock) {
      throw new ImageError(
        `${store.name}: the refcounts of clusters in use are missing; 'trike disk check --repair' may help`,
      );
    }
    const bytes = new Uint8Array(this.#clusterBytes);
    const block: Block = {
      at: cluster * this.#clusterBytes,
      bytes,
      view: new DataView(bytes.buffer),
      fresh: true,
      dirty: true,
    };
    putCount(bytes, block.view, cluster % this.#perBlock, header.refcountOrder, 1);
    this.#cover(block.at + this.#clusterBytes);
    reserved.add(cluster);
    put64(this.#table, 8 * index, block.at);
    this.#tableDirty.add(index);
    this.#touch(block);
    return this.#keep(index, block);
  }

  #cover(end: number): void {
    if (end > this.#p.store.sizeBytes) this.#p.store.resize(end);
  }

  /**
   * A larger table, behind everything the old one covers, with the blocks that count its own clusters. The header moves to it
   * once it is on the disk.
   */
  #growTable(minEntries: number): void {
    const { store, header, reserved } = this.#p;
    const old = this.#entries, clusterBytes = this.#clusterBytes, perBlock = this.#perBlock;
    let blocks = 1, clusters = 0, entries = 0;
    for (;;) {
      entries = Math.max(minEntries, old + blocks, Math.floor(1.5 * old));
      clusters = Math.ceil(8 * entries / clusterBytes);
      const need = Math.ceil((blocks + clusters) / perBlock);
      if (need <= blocks) break;
      blocks = need;
    }
    if (8 * entries > MAX_REFCOUNT_TABLE_BYTES) {
      throw new Error(`${store.name}: the image has as many clusters as it can count`);
    }
    this.write();
    const first = old * perBlock;
    const table = new Uint8Array(clusters * clusterBytes);
    table.set(new Uint8Array(this.#table.buffer));
    const view = new DataView(table.buffer);
    this.#cover((first + blocks + clusters) * clusterBytes);
    for (let b = 0; b < blocks; b++) {
      const bytes = new Uint8Array(clusterBytes);
      const block: Block = {
        at: (first + b) * clusterBytes,
        bytes,
        view: new DataView(bytes.buffer),
        fresh: false,
        dirty: false,
      };
      const used = Math.min(perBlock, blocks + clusters - b * perBlock);
      for (let i = 0; i < used; i++) putCount(bytes, block.view, i, header.refcountOrder, 1);
      put64(view, 8 * (old + b), block.at);
      store.write(block.at, bytes);
      this.#keep(old + b, block);
    }
    const tableAt = (first + blocks) * clusterBytes;
    store.write(tableAt, table);
    store.sync();
    const before = { first: header.refcountTableAt / clusterBytes, clusters: header.refcountTableClusters };
    header.refcountTableAt = tableAt;
    header.refcountTableClusters = clusters;
    this.#p.headerMoved();
    store.sync();
    this.#table = view;
    for (let n = 0; n < blocks + clusters; n++) reserved.add(first + n);
    for (let n = 0; n < before.clusters; n++) {
      reserved.delete(before.first + n);
      this.lower(before.first + n);
    }
  }

  /**
   * Writes the counts into the file, and what makes new blocks of them found; in between it waits for the blocks to be on the
   * disk. True if anything was written that is not there for sure.
   */
  write(): boolean {
    const { store, header } = this.#p;
    if (!this.dirty) return false;
    for (const block of this.#dirty) {
      store.write(block.at, block.bytes);
      block.dirty = block.fresh = false;
    }
    this.#dirty.clear();
    if (this.#tableDirty.size > 0) {
      store.sync();
      const entry = new Uint8Array(8);
      for (const index of this.#tableDirty) {
        entry.set(new Uint8Array(this.#table.buffer, 8 * index, 8));
        store.write(header.refcountTableAt + 8 * index, entry);
      }
      this.#tableDirty.clear();
    }
    return true;
  }
}
