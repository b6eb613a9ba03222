/** The refcounts of an image that is written to, and which of its clusters hold structures of its own. */
import { ImageError } from "../image.ts";
import type { ByteStore } from "../store.ts";
import { type Header, writeHeaderFields } from "./format.ts";
import type { Mapping } from "./mapping.ts";
import { Refcounts } from "./refcounts.ts";
import { readSnapshots } from "./snapshot_table.ts";

/** Adds the structures' clusters to `reserved`. Throws ImageError if two lie in one place. */
export function openRefcounts(store: ByteStore, header: Header, mapping: Mapping, reserved: Set<number>): Refcounts {
  const clusterBytes = 2 ** header.clusterBits;
  const reserve = (at: number, bytes: number, what: string) => {
    for (let c = at / clusterBytes; c * clusterBytes < at + bytes; c++) {
      if (reserved.has(c)) throw new ImageError(`${store.name}: found ${what} at ${at}, where something else is`);
      reserved.add(c);
    }
  };
  reserve(0, clusterBytes, "the header");
  reserve(header.refcountTableAt, header.refcountTableClusters * clusterBytes, "the refcount table");
  reserve(header.l1At, 8 * header.l1Entries, "the L1 table");
  for (let i = 0; i < header.l1Entries; i++) {
    const at = mapping.l2At(i);
    if (at !== 0) reserve(at, clusterBytes, "an L2 table");
  }
  const snapshots = readSnapshots(store, header);
  if (snapshots.length > 0) reserve(header.snapshotsAt, 1, "the table of snapshots");
  for (const { l1At, l1Entries } of snapshots) reserve(l1At, 8 * l1Entries, "a snapshot's L1 table");
  return new Refcounts({ store, header, reserved, headerMoved: () => writeHeaderFields(store, header) });
}
