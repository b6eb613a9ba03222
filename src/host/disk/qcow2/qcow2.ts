/**
 * A disk in a qcow2 image.
 *
 * Spec: [qcow2 §Host cluster management], [qcow2 §Cluster mapping]; `format.ts` says what is absent.
 *
 * A power cut at any moment leaves an image in which everything flushed is found and no structure is wrong, but for space that
 * is counted as used and is not. For that, what changes goes to the file in this order, with a sync between one and the next:
 *
 * 1. data, the refcounts of clusters that came into use, L2 tables that nothing points to yet;
 * 2. entries of L2 tables and of the L1 table;
 * 3. the refcounts of clusters that went out of use, some time later: only then may they be used again.
 */
import { type DiskImage, type Extent, ImageError, readBehind } from "../image.ts";
import type { ByteStore } from "../store.ts";
import { checkImage } from "./check.ts";
import { compressCluster } from "./compressed.ts";
import {
  COMPRESSED,
  compressedEntryHi,
  compressedPlace,
  COPIED,
  entryOffset,
  type Header,
  INCOMPATIBLE,
  MAX_IMAGE_BYTES,
  MAX_L1_ENTRIES,
  readHeader,
  subclusterBytes,
  writeHeaderFields,
  ZERO,
} from "./format.ts";
import { Locator } from "./locator.ts";
import { type L2Table, Mapping } from "./mapping.ts";
import type { Refcounts } from "./refcounts.ts";
import { openRefcounts } from "./reserved.ts";
import { Subclusters } from "./subclusters.ts";

/** Clusters that wait for their refcount to go down, at most. */
const MAX_PENDING = 1 << 16;
/** What one allocation takes at most. */
const MAX_RUN_BYTES = 16 << 20;
const CHUNK_BYTES = 1 << 20;

export class Qcow2 implements DiskImage {
  readonly format = "qcow2";
  /** Clusters that are not needed are used again. */
  readonly reclaims: boolean;
  readonly header: Header;
  readonly #store: ByteStore;
  readonly #clusterBytes: number;
  readonly #mapping: Mapping;
  readonly #where: Locator;
  readonly #refs: Refcounts | null;
  /** Null if clusters have none. */
  readonly #subs: Subclusters | null;
  /** Clusters of the image's own structures. */
  readonly #reserved = new Set<number>();
  /** Clusters that nothing in memory points to any more, though the file may. */
  #pending: number[] = [];
  /** From here on, the file has never been written: what is allocated there reads as zeros. */
  #virginAt: number;
  /** Why nothing can be written any more: the file may not be what memory says. */
  #broken: Error | null = null;
  /** Where the next compressed cluster may begin, within a cluster that others are in; -1: nowhere. */
  #packAt = -1;
  /** Takes over the store. Throws ImageError for what is no image, or none that we understand. */
  constructor(store: ByteStore, private readonly writable: boolean, public backing: DiskImage | null) {
    this.#store = store;
    this.reclaims = writable;
    let header = readHeader(store);
    if (writable && header.incompatible & INCOMPATIBLE.CORRUPT) {
      throw new ImageError(`${store.name}: the image is marked corrupt; 'trike disk check --repair' may mend it`);
    }
    if (writable && header.incompatible & INCOMPATIBLE.DIRTY) {
      checkImage(store, true);
      header = readHeader(store);
    }
    if (writable && header.autoclear !== 0) {
      header.autoclear = 0; // dirty bitmaps, or what we do not know: none of it follows our writes
      writeHeaderFields(store, header);
      store.sync();
    }
    this.header = header;
    this.#clusterBytes = 2 ** header.clusterBits;
    this.#mapping = new Mapping(store, header);
    this.#where = new Locator(store, header, this.#mapping);
    const { EXTENDED_L2 } = INCOMPATIBLE;
    this.#subs = header.incompatible & EXTENDED_L2
      ? new Subclusters({
        ...{ store, header, mapping: this.#mapping },
        keepOld: (from, to, at, virgin) => this.#keepOld(from, to, at, virgin),
        release: (hi, lo) => this.#release(hi, lo),
        zeroBytes: (from, to) => this.#zeroBytes(from, to),
      })
      : null;
    this.#virginAt = Math.ceil(store.sizeBytes / this.#clusterBytes) * this.#clusterBytes;
    this.#refs = writable ? openRefcounts(store, header, this.#mapping, this.#reserved) : null;
  }

  get sizeBytes(): number {
    return this.header.sizeBytes;
  }

  get clusterBytes(): number {
    return this.#clusterBytes;
  }

  /** Bytes of the file. */
  get fileBytes(): number {
    return this.#store.sizeBytes;
  }

  read(offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length;) {
      this.#where.find(offset + done, into.length - done);
      const n = this.#where.run;
      const part = n === into.length ? into : into.subarray(done, done + n);
      switch (this.#where.kind) {
        case "data":
          this.#store.read(this.#where.at, part);
          break;
        case "zero":
          part.fill(0);
          break;
        case "absent":
          readBehind(this.backing, offset + done, part);
          break;
        case "compressed": {
          const from = (offset + done) % this.#clusterBytes;
          part.set(this.#where.unpacked().subarray(from, from + n));
        }
      }
      done += n;
    }
  }

  get announces(): boolean {
    return this.#store.announces || this.backing?.announces === true;
  }

  announce(offset: number, sizeBytes: number): void {
    this.#where.announce(offset, sizeBytes, this.backing);
  }

  extentAt(offset: number, maxBytes: number): Extent {
    this.#where.find(offset, maxBytes);
    const compressed = this.#where.kind === "compressed";
    return {
      kind: this.#where.kind === "compressed" ? "data" : this.#where.kind,
      sizeBytes: this.#where.run,
      at: this.#where.kind === "data" && !compressed ? this.#where.at : null,
    };
  }

  /** Refuses to write where that could do harm. */
  #forWriting(): Refcounts {
    if (!this.#refs) throw new Error(`${this.#store.name}: the image is open for reading only`);
    if (this.#broken) throw new Error(`${this.#store.name}: nothing is written any more: ${this.#broken.message}`);
    return this.#refs;
  }

  write(offset: number, from: Uint8Array): void {
    this.#forWriting();
    for (let done = 0; done < from.length;) {
      const part = done === 0 ? from : from.subarray(done);
      done += this.#writeSome(offset + done, part);
    }
    this.#relieve();
  }

  /** Commits when too much waits in memory. */
  #relieve(): void {
    if (this.#mapping.full || this.#pending.length >= MAX_PENDING) this.flush();
  }

  /** Writes what can be written in one go; returns how much. */
  #writeSome(offset: number, from: Uint8Array): number {
    const clusterBytes = this.#clusterBytes, perTable = this.#mapping.perTable;
    const cluster = Math.floor(offset / clusterBytes);
    const within = offset - cluster * clusterBytes;
    const index = Math.floor(cluster / perTable);
    const table = this.#tableForWriting(index);
    const i = cluster - index * perTable;
    const at = this.#placeOf(table, i);
    if (at === 0) return this.#writeNew(table, i, offset, from);
    if (this.#subs) return this.#subs.overwrite(table, i, at, offset, from);
    let run = clusterBytes - within;
    for (let k = i + 1; run < from.length && k < perTable && this.#placeOf(table, k) === at + within + run; k++) {
      run += clusterBytes;
    }
    const n = Math.min(run, from.length);
    this.#store.write(at + within, n === from.length ? from : from.subarray(0, n));
    return n;
  }

  /** Where a cluster may be overwritten, or 0. Never where the image keeps structures of its own. */
  #placeOf(table: L2Table, i: number): number {
    const hi = table.hi(i), lo = table.lo(i);
    if (!(hi & COPIED) || this.#where.kindOf(hi, lo) !== "data") return 0;
    const at = entryOffset(hi, lo);
    this.#where.inFile(at);
    if (this.#reserved.has(at / this.#clusterBytes)) {
      throw new ImageError(`${this.#store.name}: found data at ${at}, where the image keeps its own structures`);
    }
    return at;
  }

  /** Puts data into clusters that were free, with what was there before around it. */
  #writeNew(table: L2Table, i: number, offset: number, from: Uint8Array): number {
    const clusterBytes = this.#clusterBytes;
    const within = offset % clusterBytes;
    const most = Math.min(
      Math.ceil((within + Math.min(from.length, MAX_RUN_BYTES)) / clusterBytes),
      this.#mapping.perTable - i,
    );
    let wanted = 1;
    while (wanted < most && this.#placeOf(table, i + wanted) === 0) wanted++;
    const { first, count } = this.#refs!.allocate(wanted);
    const at = first * clusterBytes;
    const virgin = at >= this.#virginAt;
    this.#virginAt = Math.max(this.#virginAt, at + count * clusterBytes);
    const n = Math.min(from.length, count * clusterBytes - within);
    const start = offset - within, end = start + count * clusterBytes;
    const there: number[] = []; // subclusters
    try {
      if (this.#subs) {
        for (let k = 0; k < count; k++) {
          const a = start + k * clusterBytes, to = Math.min(offset + n, a + clusterBytes);
          const place = at + k * clusterBytes;
          there.push(this.#subs.keepAround(table, i + k, a, Math.max(offset, a), to, place, virgin));
        }
      } else {
        this.#keepOld(start, offset, at, virgin);
        this.#keepOld(offset + n, end, at + within + n, virgin);
      }
      this.#store.write(at + within, n === from.length ? from : from.subarray(0, n));
    } catch (error) {
      for (let k = 0; k < count; k++) this.#pending.push(first + k);
      throw error;
    }
    for (let k = 0; k < count; k++) {
      const hi = table.hi(i + k), lo = table.lo(i + k);
      this.#point(table, i + k, at + k * clusterBytes, there[k] ?? 0);
      this.#release(hi, lo);
    }
    return n;
  }

  #point(table: L2Table, i: number, at: number, there: number): void {
    const zero = this.#subs && !(table.hi(i) & COMPRESSED) ? (table.zero(i) & ~there) >>> 0 : 0;
    this.#mapping.set(table, i, (COPIED | Math.floor(at / 0x1_0000_0000)) >>> 0, at >>> 0, zero, there);
  }

  /** Copies the bytes from `from` to `to`, less than a cluster, as they read now, to their new place. */
  #keepOld(from: number, to: number, at: number, virgin: boolean): void {
    if (from >= to) return;
    const old = new Uint8Array(to - from);
    const there = Math.min(to, this.sizeBytes) - from;
    if (there > 0) {
      this.#where.find(from, there);
      const zero = this.#where.run >= there && (this.#where.kind === "zero" ||
        (this.#where.kind === "absent" && from >= (this.backing?.sizeBytes ?? 0)));
      if (!zero) this.read(from, old.subarray(0, there));
      else if (virgin) return;
    } else if (virgin) return;
    this.#store.write(at, old);
  }

  /** What an L2 entry pointed to is used once less, after the entry's change is in the file. */
  #release(hi: number, lo: number): void {
    if (hi & COMPRESSED) {
      const { at, sizeBytes } = compressedPlace(hi, lo, this.header.clusterBits);
      const last = Math.floor((at + sizeBytes - 1) / this.#clusterBytes);
      for (let c = Math.floor(at / this.#clusterBytes); c <= last; c++) this.#pending.push(c);
      return;
    }
    const at = entryOffset(hi, lo);
    if (at !== 0 && at % this.#clusterBytes === 0) this.#pending.push(at / this.#clusterBytes);
  }

  /** The L2 table of an L1 entry, one that only this entry points to. */
  #tableForWriting(index: number): L2Table {
    const old = this.#mapping.table(index);
    if (old && (old.fresh || this.#mapping.l1Hi(index) & COPIED)) return old;
    const cluster = this.#refs!.allocate(1).first;
    const at = cluster * this.#clusterBytes;
    this.#virginAt = Math.max(this.#virginAt, at + this.#clusterBytes);
    this.#reserved.add(cluster);
    const table = this.#mapping.replace(index, at, old ? old.bytes.slice() : new Uint8Array(this.#clusterBytes));
    this.#mapping.setL1(index, COPIED, at);
    if (old) {
      this.#reserved.delete(old.at / this.#clusterBytes);
      this.#pending.push(old.at / this.#clusterBytes);
    }
    return table;
  }

  discard(offset: number, sizeBytes: number): void {
    this.#forWriting();
    this.#clear(offset, sizeBytes, this.backing !== null, true);
  }

  writeZeroes(offset: number, sizeBytes: number, mayUnmap: boolean): void {
    this.#forWriting();
    const unit = subclusterBytes(this.header), end = offset + sizeBytes;
    const first = Math.ceil(offset / unit) * unit;
    const last = end === this.sizeBytes ? end : Math.floor(end / unit) * unit;
    const whole = last > first && this.header.version === 3;
    if (!whole) return this.#zeroBytes(offset, end);
    this.#zeroBytes(offset, first);
    this.#clear(first, last - first, this.backing !== null, mayUnmap);
    this.#zeroBytes(last, end);
  }

  /** Writes zeros where something else is read. */
  #zeroBytes(from: number, to: number): void {
    let zeroes: Uint8Array | null = null;
    while (from < to) {
      this.#where.find(from, Math.min(CHUNK_BYTES, to - from));
      const n = this.#where.run;
      if (this.#where.kind !== "zero" && (this.#where.kind !== "absent" || from < (this.backing?.sizeBytes ?? 0))) {
        zeroes ??= new Uint8Array(Math.min(CHUNK_BYTES, to - from));
        this.write(from, zeroes.subarray(0, n));
      }
      from += n;
    }
  }

  /** Empties the whole (sub)clusters of a stretch: they read as zeros, or as nothing if `hide` is false. */
  #clear(offset: number, sizeBytes: number, hide: boolean, free: boolean): void {
    const clusterBytes = this.#clusterBytes, perTable = this.#mapping.perTable;
    const end = offset + sizeBytes, unit = subclusterBytes(this.header), units = clusterBytes / unit;
    const firstUnit = Math.ceil(offset / unit);
    const endUnit = end >= this.sizeBytes ? Math.ceil(end / clusterBytes) * units : Math.floor(end / unit);
    const stop = Math.ceil(endUnit / units);
    if (firstUnit >= endUnit) return;
    if (hide && this.header.version !== 3) return; // a hint that this version has no word for
    for (let cluster = Math.floor(firstUnit / units); cluster < stop;) {
      const index = Math.floor(cluster / perTable);
      const next = Math.min(stop, (index + 1) * perTable);
      if (this.#mapping.table(index) === null && !hide) {
        cluster = next;
        continue;
      }
      const table = this.#tableForWriting(index);
      for (; cluster < next; cluster++) {
        const i = cluster - index * perTable;
        if (this.#subs) {
          const from = Math.max(0, firstUnit - cluster * units), to = Math.min(units, endUnit - cluster * units);
          this.#subs.clear(table, i, cluster * clusterBytes, from, to, hide, free);
          continue;
        }
        const hi = table.hi(i), lo = table.lo(i), kind = this.#where.kindOf(hi, lo);
        if (kind === "absent" && !hide) continue;
        if (!free && kind === "data") {
          this.#mapping.set(table, i, hi, (lo | ZERO) >>> 0);
          continue;
        }
        if (kind === "zero" && (hide || !free)) continue;
        this.#mapping.set(table, i, 0, hide || !free ? ZERO : 0);
        this.#release(hi, lo);
      }
      this.#relieve();
    }
  }

  /** Writes a whole cluster compressed, where nothing is yet; false if it does not become smaller. */
  writeCompressed(offset: number, cluster: Uint8Array): boolean {
    const refs = this.#forWriting();
    const clusterBytes = this.#clusterBytes;
    const whole = new Uint8Array(clusterBytes);
    whole.set(cluster);
    const stream = compressCluster(this.header.compression, whole);
    if (stream === null) return false;
    let at = this.#packAt;
    if (at >= 0 && !refs.mayRaise(Math.floor(at / clusterBytes))) at = -1;
    const room = at < 0 ? 0 : clusterBytes - at % clusterBytes;
    if (stream.length > room) {
      const first = Math.floor(at / clusterBytes) + 1;
      // A stream may go on in the next cluster, if that is free.
      if (at >= 0 && refs.take(first)) refs.raise(first - 1, 1);
      else at = refs.allocate(1).first * clusterBytes;
    } else refs.raise(Math.floor(at / clusterBytes), 1);
    const end = at + stream.length;
    this.#virginAt = Math.max(this.#virginAt, Math.ceil(end / clusterBytes) * clusterBytes);
    this.#store.write(at, stream);
    const number = Math.floor(offset / clusterBytes);
    const table = this.#tableForWriting(Math.floor(number / this.#mapping.perTable));
    const i = number % this.#mapping.perTable;
    const hi = table.hi(i), lo = table.lo(i);
    this.#mapping.set(table, i, compressedEntryHi(at, stream.length, this.header.clusterBits), at >>> 0);
    this.#release(hi, lo);
    // The next one begins in a sector of its own, so that no two share one's use count beyond the cluster's.
    const next = Math.ceil(end / 512) * 512;
    this.#packAt = next % clusterBytes === 0 ? -1 : next;
    this.#relieve();
    return true;
  }

  flush(): void {
    if (!this.#refs) return;
    const refs = this.#forWriting();
    try {
      refs.write();
      if (this.#mapping.dirty) {
        this.#mapping.writeFresh();
        this.#store.sync();
        this.#mapping.writeEntries();
      }
      this.#store.sync();
    } catch (error) {
      this.#broken = error instanceof Error ? error : new Error(String(error));
      throw error;
    }
    this.#reclaim();
  }

  /** Nothing in the file points to the pending clusters any more. */
  #reclaim(): void {
    if (this.#pending.length === 0) return;
    const freed = this.#pending.filter((cluster) => this.#refs!.lower(cluster)).sort((a, b) => a - b);
    this.#pending = [];
    const packed = this.#packAt < 0 ? -1 : Math.floor(this.#packAt / this.#clusterBytes);
    for (let from = 0; from < freed.length;) {
      let to = from + 1;
      while (to < freed.length && freed[to] === freed[to - 1]! + 1) to++;
      this.#store.punch(freed[from]! * this.#clusterBytes, (to - from) * this.#clusterBytes);
      from = to;
    }
    if (packed >= 0 && freed.includes(packed)) this.#packAt = -1;
    this.#where.forget();
  }

  resize(sizeBytes: number): void {
    const refs = this.#forWriting();
    const { header } = this;
    const old = header.sizeBytes, clusterBytes = this.#clusterBytes;
    const entries = Math.ceil(sizeBytes / clusterBytes / this.#mapping.perTable);
    if (sizeBytes % 512 !== 0 || sizeBytes > MAX_IMAGE_BYTES || entries > MAX_L1_ENTRIES) {
      throw new ImageError(
        `${this.#store.name}: cannot make an image of ${sizeBytes} bytes with clusters of ${clusterBytes}`,
      );
    }
    if (sizeBytes < old) {
      const end = Math.min(old, Math.ceil(sizeBytes / clusterBytes) * clusterBytes);
      this.#zeroBytes(sizeBytes, end);
      this.#clear(end, old - end, false, true);
    }
    this.flush();
    const before = { first: header.l1At / clusterBytes, bytes: 8 * header.l1Entries };
    const grows = entries > header.l1Entries;
    if (grows) {
      const l1 = new Uint8Array(8 * entries);
      if (before.bytes > 0) this.#store.read(header.l1At, l1.subarray(0, before.bytes));
      const clusters = Math.ceil(l1.length / clusterBytes);
      const first = refs.allocateRow(clusters);
      this.#virginAt = Math.max(this.#virginAt, (first + clusters) * clusterBytes);
      for (let c = 0; c < clusters; c++) this.#reserved.add(first + c);
      this.#store.write(first * clusterBytes, l1);
      refs.write();
      this.#store.sync();
      header.l1At = first * clusterBytes;
      header.l1Entries = entries;
    }
    header.sizeBytes = sizeBytes;
    writeHeaderFields(this.#store, header);
    this.#store.sync();
    if (grows) {
      for (let c = 0; c * clusterBytes < before.bytes; c++) {
        this.#reserved.delete(before.first + c);
        this.#pending.push(before.first + c);
      }
      this.#mapping.reload();
    }
    const behind = Math.min(sizeBytes, this.backing?.sizeBytes ?? 0);
    if (behind > old) this.#zeroBytes(old, behind);
    this.flush();
  }

  close(): void {
    try {
      if (this.#refs && !this.#broken) {
        this.flush();
        this.#refs.write();
      }
    } finally {
      this.#store.close();
      this.backing?.close();
    }
  }
}
