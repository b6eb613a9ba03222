/**
 * Whether a qcow2 image's structures agree with each other, and making them do so: every cluster's refcount is worked out from
 * what points to it.
 *
 * Spec: [qcow2 §Host cluster management], [qcow2 §Cluster mapping], [qcow2 §Snapshots], [qcow2 §Bitmaps].
 */
import { ImageError } from "../image.ts";
import type { ByteStore } from "../store.ts";
import {
  AUTOCLEAR,
  COMPRESSED,
  compressedPlace,
  COPIED,
  entryOffset,
  EXTENSION,
  get64,
  type Header,
  INCOMPATIBLE,
  l2EntryBytes,
  readHeader,
  writeHeaderFields,
  ZERO,
} from "./format.ts";
import { rebuildRefcounts } from "./rebuild.ts";
import { getCount } from "./refcounts.ts";
import { readSnapshots } from "./snapshot_table.ts";

export interface CheckResult {
  /** Clusters of the file that something points to. */
  readonly usedClusters: number;
  /** Counted as used more often than they are: space is lost, and nothing else. */
  readonly leaks: number;
  /** What would or did cost data. */
  readonly corruptions: number;
  /** The first of them, in words. */
  readonly findings: readonly string[];
  /** The dirty bit was set: the counts were not expected to be right. */
  readonly dirty: boolean;
  /** What was wrong is mended. */
  readonly repaired: boolean;
}

const MAX_FINDINGS = 50;
const MAX_CLUSTERS = 2 ** 27;

/** Compares, and with `repair` mends; throws ImageError for what cannot even be read. */
export function checkImage(store: ByteStore, repair: boolean): CheckResult {
  let header = readHeader(store);
  let survey = new Survey(store, header);
  survey.walk();
  survey.compare();
  const { leaks, corruptions, findings, used } = survey;
  const dirty = (header.incompatible & (INCOMPATIBLE.DIRTY | INCOMPATIBLE.CORRUPT)) !== 0;
  let repaired = false;
  if (repair && (leaks > 0 || corruptions > 0 || dirty)) {
    if (survey.badEntries.length > 0) {
      // What pointed nowhere reads as zeros, where there is a word for that.
      for (const { at, l2 } of survey.badEntries) store.write(at, emptyEntry(header, l2));
      store.sync();
      header = readHeader(store);
      survey = new Survey(store, header);
      survey.walk();
    }
    if (survey.overlaps > 0) {
      throw new ImageError(`${store.name}: structures of the image lie on top of each other, which cannot be repaired`);
    }
    rebuildRefcounts(store, header, survey);
    repaired = true;
  }
  return { usedClusters: used, leaks, corruptions, findings, dirty, repaired };
}

/** An L1 entry that leads nowhere, or an L2 entry that reads as zeros, if the version has that. */
function emptyEntry(header: Header, l2: boolean): Uint8Array {
  const entry = new Uint8Array(l2 ? l2EntryBytes(header) : 8);
  if (entry.length === 16) entry.fill(0xff, 8, 12);
  else if (l2 && header.version === 3) entry[7] = ZERO;
  return entry;
}

/** Works the refcounts out again, after a change of what points to clusters. The dirty bit is set meanwhile. */
export function recount(store: ByteStore, change: (header: Header) => void): void {
  const header = readHeader(store);
  if (header.version === 3) {
    header.incompatible |= INCOMPATIBLE.DIRTY;
    writeHeaderFields(store, header);
    store.sync();
  }
  change(header);
  const survey = new Survey(store, header);
  survey.walk();
  rebuildRefcounts(store, header, survey);
}

/** A walk through everything that the header leads to. */
export class Survey {
  /** How often each cluster is pointed to. */
  readonly counts: Uint32Array;
  /** Clusters of the refcount table and its blocks: not counted while they are to be made anew. */
  readonly refcountClusters = new Set<number>();
  readonly findings: string[] = [];
  /** Where in the file entries stand that point nowhere. */
  readonly badEntries: { at: number; l2: boolean }[] = [];
  leaks = 0;
  corruptions = 0;
  overlaps = 0;
  readonly #clusterBytes: number;
  /** Clusters with structures, and which. */
  readonly #structures = new Map<number, string>();
  /** L2 tables: how many L1 tables lead to each, and whether the active one does. */
  readonly #l2 = new Map<number, number>();
  readonly #blocks: number[] = [];

  constructor(private readonly store: ByteStore, private readonly header: Header) {
    this.#clusterBytes = 2 ** header.clusterBits;
    const clusters = Math.ceil(store.sizeBytes / this.#clusterBytes);
    if (clusters > MAX_CLUSTERS) throw new ImageError(`${store.name}: the file is too large to be checked`);
    this.counts = new Uint32Array(clusters);
  }

  get used(): number {
    let used = 0;
    for (const count of this.counts) if (count > 0) used++;
    return used;
  }

  #corrupt(what: string): void {
    this.corruptions++;
    if (this.findings.length < MAX_FINDINGS) this.findings.push(what);
  }

  #inFile(at: number): boolean {
    return at % this.#clusterBytes === 0 && at >= this.#clusterBytes && at < this.store.sizeBytes;
  }

  /** A structure takes these clusters, and nothing else may. */
  #structure(at: number, bytes: number, what: string): void {
    for (let c = at / this.#clusterBytes; c * this.#clusterBytes < at + bytes && c < this.counts.length; c++) {
      const other = this.#structures.get(c);
      if (other !== undefined) {
        this.overlaps++;
        this.#corrupt(`cluster ${c} holds ${what} and ${other}`);
      }
      this.#structures.set(c, what);
      this.counts[c]!++;
    }
  }

  walk(): void {
    const { header, store } = this;
    this.#structure(0, this.#clusterBytes, "the header");
    this.#structure(header.refcountTableAt, header.refcountTableClusters * this.#clusterBytes, "the refcount table");
    for (let c = 0; c < header.refcountTableClusters; c++) {
      this.refcountClusters.add(header.refcountTableAt / this.#clusterBytes + c);
    }
    this.#refcountBlocks();
    const snapshots = readSnapshots(store, header);
    if (snapshots.length > 0) this.#structure(header.snapshotsAt, tableBytes(store, header), "the table of snapshots");
    if (header.l1Entries > 0) this.#l1(header.l1At, header.l1Entries, "the L1 table");
    for (const s of snapshots) if (s.l1Entries > 0) this.#l1(s.l1At, s.l1Entries, `snapshot ${s.id}'s L1 table`);
    this.#bitmaps();
    for (const at of this.#l2.keys()) this.#structure(at, this.#clusterBytes, "an L2 table");
    for (const [at, times] of this.#l2) {
      this.counts[at / this.#clusterBytes]! += times - 1;
      this.#l2Entries(at, times);
    }
  }

  #table(at: number, bytes: number): DataView {
    const table = new Uint8Array(bytes);
    this.store.read(at, table);
    return new DataView(table.buffer);
  }

  #refcountBlocks(): void {
    const { header } = this;
    const table = this.#table(header.refcountTableAt, header.refcountTableClusters * this.#clusterBytes);
    const seen = new Set<number>();
    for (let i = 0; 8 * i < table.byteLength; i++) {
      const at = get64(table, 8 * i);
      this.#blocks.push(0);
      if (at === 0) continue;
      if (!this.#inFile(at) || seen.has(at)) {
        this.#corrupt(`refcount block ${i} is at ${at}, expected a cluster of its own`);
        continue;
      }
      seen.add(at);
      this.#blocks[i] = at;
      this.#structure(at, this.#clusterBytes, "a refcount block");
      this.refcountClusters.add(at / this.#clusterBytes);
    }
  }

  #l1(at: number, entries: number, what: string): void {
    this.#structure(at, 8 * entries, what);
    const l1 = this.#table(at, 8 * entries);
    for (let i = 0; i < entries; i++) {
      const l2 = entryOffset(l1.getUint32(8 * i), l1.getUint32(8 * i + 4));
      if (l2 === 0) continue;
      if (this.#inFile(l2)) this.#l2.set(l2, (this.#l2.get(l2) ?? 0) + 1);
      else {
        this.#corrupt(`entry ${i} of ${what} points to ${l2}, which is no cluster of the file`);
        this.badEntries.push({ at: at + 8 * i, l2: false });
      }
    }
  }

  #l2Entries(at: number, times: number): void {
    const { header } = this;
    const table = this.#table(at, this.#clusterBytes);
    const entryBytes = l2EntryBytes(header);
    for (let i = 0; entryBytes * i < this.#clusterBytes; i++) {
      const hi = table.getUint32(entryBytes * i), lo = table.getUint32(entryBytes * i + 4);
      const bad = (what: string) => {
        this.#corrupt(`entry ${i} of the L2 table at ${at} ${what}`);
        this.badEntries.push({ at: at + entryBytes * i, l2: true });
      };
      if (entryBytes === 16 && !(hi & COMPRESSED)) {
        const zero = table.getUint32(16 * i + 8), allocated = table.getUint32(16 * i + 12);
        if (zero & allocated || (allocated && entryOffset(hi, lo) === 0)) {
          bad("has subclusters with data that read as zeros or lie nowhere");
          continue;
        }
      }
      if ((hi | lo) === 0) continue;
      if (hi & COMPRESSED) {
        const place = compressedPlace(hi, lo, header.clusterBits);
        const first = Math.floor(place.at / this.#clusterBytes);
        const last = Math.floor((place.at + place.sizeBytes - 1) / this.#clusterBytes);
        if (first < 1 || last >= this.counts.length) bad(`has compressed data at ${place.at}, outside the file`);
        else for (let c = first; c <= last; c++) this.#data(c, times, at);
        continue;
      }
      const offset = entryOffset(hi, lo);
      if (offset === 0) continue;
      if (this.#inFile(offset)) this.#data(offset / this.#clusterBytes, times, at);
      else bad(`points to ${offset}, which is no cluster of the file`);
    }
  }

  #data(cluster: number, times: number, table: number): void {
    const structure = this.#structures.get(cluster);
    if (structure !== undefined) {
      this.overlaps++;
      this.#corrupt(`the L2 table at ${table} has data in cluster ${cluster}, which holds ${structure}`);
    }
    this.counts[cluster]! += times;
  }

  /** Dirty bitmaps that others keep in the image: we leave them as they are, and count their clusters. */
  #bitmaps(): void {
    const extension = this.header.extensions.find(({ type }) => type === EXTENSION.BITMAPS);
    if (!extension || extension.data.length < 24 || !(this.header.autoclear & AUTOCLEAR.BITMAPS)) return;
    const view = new DataView(extension.data.buffer, extension.data.byteOffset, 24);
    const count = view.getUint32(0), bytes = get64(view, 8), at = get64(view, 16);
    if (!this.#inFile(at) || bytes > 64 << 20 || at + bytes > this.store.sizeBytes) {
      return this.#corrupt(`the directory of bitmaps is at ${at}, outside the file`);
    }
    this.#structure(at, bytes, "the directory of bitmaps");
    const directory = this.#table(at, bytes);
    for (let n = 0, d = 0; n < count && d + 24 <= bytes; n++) {
      const tableAt = get64(directory, d), entries = directory.getUint32(d + 8);
      if (!this.#inFile(tableAt) || tableAt + 8 * entries > this.store.sizeBytes) {
        return this.#corrupt(`bitmap ${n} has its table at ${tableAt}, outside the file`);
      }
      this.#structure(tableAt, 8 * entries, "a bitmap's table");
      const table = this.#table(tableAt, 8 * entries);
      for (let i = 0; i < entries; i++) {
        const data = entryOffset(table.getUint32(8 * i), table.getUint32(8 * i + 4));
        if (data !== 0 && this.#inFile(data)) this.#structure(data, this.#clusterBytes, "a bitmap");
      }
      d += Math.ceil((24 + directory.getUint16(d + 18) + directory.getUint32(d + 20)) / 8) * 8;
    }
  }

  /** The counts that the file has, beside those that are right. */
  compare(): void {
    const { header, store } = this;
    const perBlock = (8 * this.#clusterBytes) >> header.refcountOrder;
    const bytes = new Uint8Array(this.#clusterBytes), view = new DataView(bytes.buffer);
    const stored = new Uint32Array(this.counts.length);
    for (let b = 0; b < this.#blocks.length; b++) {
      if (this.#blocks[b] === 0) continue;
      store.read(this.#blocks[b]!, bytes);
      for (let i = 0; i < perBlock; i++) {
        const count = Math.min(0xffff_ffff, getCount(bytes, view, i, header.refcountOrder));
        const cluster = b * perBlock + i;
        if (cluster < stored.length) stored[cluster] = count;
        else if (count > 0) this.leaks++;
      }
    }
    for (let c = 0; c < stored.length; c++) {
      const right = this.counts[c]!, found = stored[c]!;
      if (found > right) this.leaks++;
      else if (found < right) this.#corrupt(`cluster ${c} is counted ${found} times and used ${right} times`);
    }
    this.#copiedFlags(stored);
  }

  /** COPIED says that a cluster is used once: an active table that says so of others would let them be overwritten. */
  #copiedFlags(stored: Uint32Array): void {
    const { header } = this;
    if (header.l1Entries === 0) return;
    const flag = (hi: number, at: number, what: string) => {
      const once = stored[at / this.#clusterBytes] === 1;
      if (((hi & COPIED) !== 0) !== once) {
        this.#corrupt(`${what} has COPIED ${once ? "clear" : "set"}, expected otherwise`);
      }
    };
    const l1 = this.#table(header.l1At, 8 * header.l1Entries);
    for (let i = 0; i < header.l1Entries; i++) {
      const hi = l1.getUint32(8 * i), at = entryOffset(hi, l1.getUint32(8 * i + 4));
      if (at === 0 || !this.#inFile(at)) continue;
      flag(hi, at, `entry ${i} of the L1 table`);
      const l2 = this.#table(at, this.#clusterBytes);
      for (let k = 0, entryBytes = l2EntryBytes(header); entryBytes * k < this.#clusterBytes; k++) {
        const entry = l2.getUint32(entryBytes * k);
        const data = entryOffset(entry, l2.getUint32(entryBytes * k + 4));
        if (!(entry & COMPRESSED) && data !== 0 && this.#inFile(data)) {
          flag(entry, data, `entry ${k} of the L2 table at ${at}`);
        }
      }
    }
  }
}

/** Bytes of the table of snapshots. */
function tableBytes(store: ByteStore, header: Header): number {
  const fixed = new Uint8Array(40), view = new DataView(fixed.buffer);
  let at = header.snapshotsAt;
  for (let n = 0; n < header.snapshots; n++) {
    store.read(at, fixed);
    at += Math.ceil((40 + view.getUint32(36) + view.getUint16(12) + view.getUint16(14)) / 8) * 8;
  }
  return at - header.snapshotsAt;
}
