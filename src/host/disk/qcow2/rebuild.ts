/** New refcounts for an image whose old ones are wrong or out of date. */
import { ImageError } from "../image.ts";
import type { ByteStore } from "../store.ts";
import {
  COMPRESSED,
  COPIED,
  entryOffset,
  type Header,
  INCOMPATIBLE,
  l2EntryBytes,
  put64,
  writeHeaderFields,
} from "./format.ts";
import { maxCount, putCount } from "./refcounts.ts";

export interface Counted {
  /** How often each cluster of the file is used, the old refcount table and its blocks among them. */
  readonly counts: Uint32Array;
  readonly refcountClusters: ReadonlySet<number>;
}

/**
 * Writes a refcount table with its blocks to where nothing is, sets the COPIED flags by it, and then moves the header over: at
 * any moment one of the two sets of refcounts is whole. Clears the dirty and the corrupt bit.
 */
export function rebuildRefcounts(store: ByteStore, header: Header, { counts, refcountClusters }: Counted): void {
  const clusterBytes = 2 ** header.clusterBits;
  const perBlock = (8 * clusterBytes) >> header.refcountOrder;
  const most = maxCount(header.refcountOrder);

  // Where: a gap that is large enough, or the end of the file.
  let clusters = 0, blocks = 0, tableClusters = 0, first = 0, total = counts.length;
  for (;;) {
    blocks = Math.ceil(total / perBlock);
    tableClusters = Math.ceil(8 * blocks / clusterBytes);
    clusters = blocks + tableClusters;
    first = gap(counts, clusters);
    const end = Math.max(counts.length, first + clusters);
    if (end <= total) break;
    total = end;
  }
  const countOf = (cluster: number): number => {
    if (cluster >= first && cluster < first + clusters) return 1;
    if (cluster >= counts.length) return 0;
    return counts[cluster]! - (refcountClusters.has(cluster) ? 1 : 0);
  };

  fixCopied(store, header, (cluster) => countOf(cluster) === 1);
  if (store.sizeBytes < (first + clusters) * clusterBytes) store.resize((first + clusters) * clusterBytes);
  const table = new Uint8Array(tableClusters * clusterBytes), tableView = new DataView(table.buffer);
  const block = new Uint8Array(clusterBytes), view = new DataView(block.buffer);
  for (let b = 0; b < blocks; b++) {
    block.fill(0);
    for (let i = 0; i < perBlock && b * perBlock + i < total; i++) {
      const count = countOf(b * perBlock + i);
      if (count > most) {
        throw new ImageError(
          `${store.name}: cluster ${b * perBlock + i} is used ${count} times, more than can be counted`,
        );
      }
      if (count > 0) putCount(block, view, i, header.refcountOrder, count);
    }
    const at = (first + tableClusters + b) * clusterBytes;
    store.write(at, block);
    put64(tableView, 8 * b, at);
  }
  store.write(first * clusterBytes, table);
  store.sync();
  header.refcountTableAt = first * clusterBytes;
  header.refcountTableClusters = tableClusters;
  header.incompatible &= ~(INCOMPATIBLE.DIRTY | INCOMPATIBLE.CORRUPT);
  writeHeaderFields(store, header);
  store.sync();
}

/** The first of `wanted` clusters in a row that nothing uses. */
function gap(counts: Uint32Array, wanted: number): number {
  let run = 0;
  for (let c = 1; c < counts.length; c++) {
    run = counts[c] === 0 ? run + 1 : 0;
    if (run === wanted) return c - wanted + 1;
  }
  return counts.length - run;
}

/** Sets COPIED in the active tables where it is true, and clears it where it is not. */
function fixCopied(store: ByteStore, header: Header, once: (cluster: number) => boolean): void {
  const clusterBytes = 2 ** header.clusterBits;
  const fix = (at: number, bytes: number, entryBytes: number, each: (at: number) => void): void => {
    const table = new Uint8Array(bytes);
    store.read(at, table);
    const view = new DataView(table.buffer);
    let changed = false;
    for (let i = 0; i < bytes; i += entryBytes) {
      const hi = view.getUint32(i);
      const to = entryOffset(hi, view.getUint32(i + 4));
      if (hi & COMPRESSED || to === 0) continue;
      const right = once(to / clusterBytes) ? (hi | COPIED) >>> 0 : (hi & ~COPIED) >>> 0;
      if (right !== hi) {
        view.setUint32(i, right);
        changed = true;
      }
      each(to);
    }
    if (changed) store.write(at, table);
  };
  const done = new Set<number>();
  fix(header.l1At, 8 * header.l1Entries, 8, (l2) => {
    if (!done.has(l2)) fix(l2, clusterBytes, l2EntryBytes(header), () => {});
    done.add(l2);
  });
}
