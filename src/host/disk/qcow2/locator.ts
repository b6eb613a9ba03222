/** What lies where in an image, as its tables say. Spec: [qcow2 §Cluster mapping]. */
import { type DiskImage, ImageError } from "../image.ts";
import type { ByteStore } from "../store.ts";
import { decompressCluster } from "./compressed.ts";
import {
  COMPRESSED,
  compressedPlace,
  entryOffset,
  type Header,
  INCOMPATIBLE,
  subclusterBytes,
  SUBCLUSTERS,
  ZERO,
} from "./format.ts";
import type { L2Table, Mapping } from "./mapping.ts";

export type Kind = "data" | "zero" | "absent" | "compressed";

export class Locator {
  // What `find` found.
  kind: Kind = "absent";
  /** Where the data is in the file; of a compressed cluster, the low half of its entry. */
  at = 0;
  /** How many bytes go on like this. */
  run = 0;
  #hi = 0;
  readonly #clusterBytes: number;
  /** Of a subcluster; 0 if clusters have none. */
  readonly #subBytes: number;
  /** The compressed cluster read last. */
  #unpackedAt = -1;
  #unpacked: Uint8Array | null = null;

  constructor(private readonly store: ByteStore, private readonly header: Header, private readonly mapping: Mapping) {
    this.#clusterBytes = 2 ** header.clusterBits;
    this.#subBytes = header.incompatible & INCOMPATIBLE.EXTENDED_L2 ? subclusterBytes(header) : 0;
  }

  /** Finds out what is at `offset`, and how far it goes on in one piece, at most `maxBytes`. */
  find(offset: number, maxBytes: number): void {
    const clusterBytes = this.#clusterBytes, perTable = this.mapping.perTable;
    const cluster = Math.floor(offset / clusterBytes);
    const within = offset - cluster * clusterBytes;
    const index = Math.floor(cluster / perTable);
    const table = this.mapping.table(index);
    if (table === null) {
      this.kind = "absent";
      this.run = Math.min(maxBytes, (index + 1) * perTable * clusterBytes - offset);
      return;
    }
    let i = cluster - index * perTable;
    if (this.#subBytes > 0) return this.#findSubclusters(table, i, within, maxBytes);
    const hi = table.hi(i), lo = table.lo(i);
    const kind = this.kind = this.kindOf(hi, lo);
    let run = clusterBytes - within;
    this.#hi = hi;
    if (kind === "compressed") {
      this.at = lo;
      this.run = Math.min(run, maxBytes);
      return;
    }
    const first = entryOffset(hi, lo);
    if (kind === "data") this.inFile(first);
    this.at = first + within;
    for (i++; run < maxBytes && i < perTable; i++) {
      const nextHi = table.hi(i), nextLo = table.lo(i);
      if (this.kindOf(nextHi, nextLo) !== kind) break;
      if (kind === "data") {
        const next = entryOffset(nextHi, nextLo);
        if (next !== this.at + run) break;
        this.inFile(next);
      }
      run += clusterBytes;
    }
    this.run = Math.min(run, maxBytes);
  }

  #findSubclusters(table: L2Table, i: number, within: number, maxBytes: number): void {
    const bytes = this.#subBytes, hi = table.hi(i), lo = table.lo(i);
    let s = Math.floor(within / bytes);
    const kind = this.kind = this.#subclusterKind(table, i, s);
    this.#hi = hi;
    if (kind === "compressed") {
      this.at = lo;
      this.run = Math.min(this.#clusterBytes - within, maxBytes);
      return;
    }
    const first = entryOffset(hi, lo);
    if (kind === "data") this.inFile(first);
    this.at = first + within;
    let run = bytes - within % bytes;
    while (run < maxBytes) {
      if (++s === SUBCLUSTERS) {
        s = 0;
        if (++i === this.mapping.perTable) break;
      }
      if (this.#subclusterKind(table, i, s) !== kind) break;
      if (kind === "data" && s === 0) {
        const next = entryOffset(table.hi(i), table.lo(i));
        if (next !== this.at + run) break;
        this.inFile(next);
      }
      run += bytes;
    }
    this.run = Math.min(run, maxBytes);
  }

  /** Throws ImageError for what cannot be. */
  #subclusterKind(table: L2Table, i: number, s: number): Kind {
    const hi = table.hi(i);
    if (hi & COMPRESSED) return "compressed";
    const allocated = (table.allocated(i) >>> s) & 1, zero = (table.zero(i) >>> s) & 1;
    if (!allocated) return zero ? "zero" : "absent";
    if (!zero && entryOffset(hi, table.lo(i)) !== 0) return "data";
    const why = zero ? "that also reads as zeros" : "without a cluster";
    throw new ImageError(`${this.store.name}: found a subcluster with data ${why}`);
  }

  /** Announces what a read will find; of what no table in memory knows the place, the table. */
  announce(offset: number, sizeBytes: number, backing: DiskImage | null): void {
    for (let done = 0; done < sizeBytes; done += this.run) {
      const at = offset + done;
      const index = Math.floor(at / this.#clusterBytes / this.mapping.perTable);
      const tableAt = this.mapping.keeps(index) || index >= this.mapping.l1Entries ? 0 : this.mapping.l2At(index);
      if (tableAt !== 0) return this.store.announce(tableAt, this.#clusterBytes);
      this.find(at, sizeBytes - done);
      if (this.kind === "data") this.store.announce(this.at, this.run);
      else if (this.kind === "absent" && backing) {
        const there = Math.min(this.run, backing.sizeBytes - at);
        if (there > 0) backing.announce(at, there);
      }
    }
  }

  /** What an L2 entry says; of an extended one, whether it has a host cluster. */
  kindOf(hi: number, lo: number): Kind {
    if (hi & COMPRESSED) return "compressed";
    if (lo & ZERO && this.header.version === 3 && this.#subBytes === 0) return "zero";
    return entryOffset(hi, lo) === 0 ? "absent" : "data";
  }

  /** Throws ImageError for a place where no cluster of data can be. */
  inFile(at: number): void {
    if (at % this.#clusterBytes !== 0 || at >= this.store.sizeBytes) {
      throw new ImageError(`${this.store.name}: found a cluster of data at ${at}, expected a cluster of the file`);
    }
  }

  /** The compressed cluster that was found, whole. */
  unpacked(): Uint8Array {
    const { at, sizeBytes } = compressedPlace(this.#hi, this.at, this.header.clusterBits);
    if (this.#unpacked && this.#unpackedAt === at) return this.#unpacked;
    if (at < this.#clusterBytes || at >= this.store.sizeBytes) {
      throw new ImageError(`${this.store.name}: found a compressed cluster at ${at}, expected a place in the file`);
    }
    const stream = new Uint8Array(Math.min(sizeBytes, this.store.sizeBytes - at));
    this.store.read(at, stream);
    const bytes = decompressCluster(this.header.compression, stream, this.#clusterBytes);
    this.#unpackedAt = at;
    return this.#unpacked = bytes;
  }

  /** Compressed clusters may be somewhere else now. */
  forget(): void {
    this.#unpackedAt = -1;
  }
}
