/**
 * Internal snapshots: taking, applying and deleting them, while no machine uses the image. Spec: [qcow2 §Snapshots].
 *
 * Each changes what points to clusters and then has the refcounts worked out again, under the dirty bit: a power cut in between
 * is mended by whoever opens the image next.
 */
import { ImageError } from "../image.ts";
import type { ByteStore } from "../store.ts";
import { checkImage, recount } from "./check.ts";
import { COPIED, type Header, INCOMPATIBLE, MAX_SNAPSHOTS, readHeader, writeHeaderFields } from "./format.ts";
import { encodeSnapshots, readSnapshots, type Snapshot } from "./snapshot_table.ts";

export function listSnapshots(store: ByteStore): Snapshot[] {
  return readSnapshots(store, readHeader(store));
}

/** Found by name, or else by number. */
function find(store: ByteStore, snapshots: readonly Snapshot[], name: string): Snapshot {
  const found = snapshots.find((s) => s.name === name) ?? snapshots.find((s) => s.id === name);
  if (found) return found;
  const there = snapshots.map((s) => `"${s.name}"`).join(", ");
  throw new ImageError(
    `${store.name}: there is no snapshot "${name}"; expected ${there || "one, and the image has none"}`,
  );
}

export function createSnapshot(store: ByteStore, name: string, timeMs: number): void {
  const header = sound(store);
  const snapshots = readSnapshots(store, header);
  if (snapshots.some((s) => s.name === name)) {
    throw new ImageError(`${store.name}: there is a snapshot "${name}" already`);
  }
  if (snapshots.length >= MAX_SNAPSHOTS) {
    throw new ImageError(`${store.name}: the image has as many snapshots as it can`);
  }
  if (name === "" || new TextEncoder().encode(name).length > 255) {
    throw new ImageError(`${store.name}: found the snapshot's name "${name}", expected 1 to 255 bytes`);
  }
  recount(store, (h) => {
    const l1 = new Uint8Array(8 * h.l1Entries);
    if (l1.length > 0) store.read(h.l1At, l1);
    const view = new DataView(l1.buffer);
    for (let i = 0; i < h.l1Entries; i++) view.setUint32(8 * i, (view.getUint32(8 * i) & ~COPIED) >>> 0);
    const l1At = append(store, h, l1);
    const id = 1 + snapshots.reduce((most, s) => Math.max(most, Number(s.id) || 0), 0);
    setSnapshots(store, h, [...snapshots, {
      l1At,
      l1Entries: h.l1Entries,
      id: `${id}`,
      name,
      seconds: Math.floor(timeMs / 1000),
      nanoseconds: (timeMs % 1000) * 1_000_000,
      clockNs: new Uint8Array(8),
      vmStateBytes: 0,
      sizeBytes: h.sizeBytes,
      extra: new Uint8Array(0),
    }]);
  });
}

/** The disk is again what it was; what was written since is lost, but for other snapshots of it. */
export function applySnapshot(store: ByteStore, name: string): void {
  const header = sound(store);
  const snapshot = find(store, readSnapshots(store, header), name);
  recount(store, (h) => {
    const l1 = new Uint8Array(8 * snapshot.l1Entries);
    if (l1.length > 0) store.read(snapshot.l1At, l1);
    const l1At = append(store, h, l1);
    store.sync();
    h.l1At = l1At;
    h.l1Entries = snapshot.l1Entries;
    h.sizeBytes = snapshot.sizeBytes;
    writeHeaderFields(store, h);
    store.sync();
  });
}

export function deleteSnapshot(store: ByteStore, name: string): void {
  const header = sound(store);
  const snapshots = readSnapshots(store, header);
  const snapshot = find(store, snapshots, name);
  recount(store, (h) => setSnapshots(store, h, snapshots.filter((s) => s !== snapshot)));
}

/** Makes everything of an image absent, so that what is behind it is seen. Snapshots stay. */
export function emptyImage(store: ByteStore): void {
  sound(store);
  recount(store, (h) => {
    const l1At = append(store, h, new Uint8Array(8 * h.l1Entries));
    store.sync();
    h.l1At = l1At;
    writeHeaderFields(store, h);
    store.sync();
  });
}

/** An image that has corruptions is not worked on; one that is only dirty is mended first. */
function sound(store: ByteStore): Header {
  const header = readHeader(store);
  if (header.incompatible & INCOMPATIBLE.DIRTY) checkImage(store, true);
  const { corruptions, findings } = checkImage(store, false);
  if (corruptions > 0) {
    throw new ImageError(
      `${store.name}: the image is damaged (${findings[0]}); 'trike disk check --repair' may mend it`,
    );
  }
  return readHeader(store);
}

function setSnapshots(store: ByteStore, header: Header, snapshots: readonly Snapshot[]): void {
  header.snapshotsAt = snapshots.length > 0 ? append(store, header, encodeSnapshots(snapshots)) : 0;
  store.sync();
  header.snapshots = snapshots.length;
  writeHeaderFields(store, header);
  store.sync();
}

/** Puts bytes behind the end of the file, in whole clusters, and says where. */
function append(store: ByteStore, header: Header, bytes: Uint8Array): number {
  const clusterBytes = 2 ** header.clusterBits;
  const at = Math.ceil(store.sizeBytes / clusterBytes) * clusterBytes;
  const padded = new Uint8Array(Math.max(1, Math.ceil(bytes.length / clusterBytes)) * clusterBytes);
  padded.set(bytes);
  store.write(at, padded);
  return at;
}
