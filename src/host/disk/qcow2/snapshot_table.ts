/** The table of an image's internal snapshots. Spec: [qcow2 §Snapshots]. */
import { ImageError } from "../image.ts";
import type { ByteStore } from "../store.ts";
import { get64, type Header, MAX_L1_ENTRIES, put64 } from "./format.ts";

export interface Snapshot {
  readonly l1At: number;
  readonly l1Entries: number;
  readonly id: string;
  readonly name: string;
  readonly seconds: number;
  readonly nanoseconds: number;
  /** How long the machine had run, as eight bytes. */
  readonly clockNs: Uint8Array;
  readonly vmStateBytes: number;
  /** The disk's size when it was taken. */
  readonly sizeBytes: number;
  /** Extra data as found, for what of it we do not know. */
  readonly extra: Uint8Array;
}

const FIXED_BYTES = 40;
const MAX_EXTRA = 1024;
const MAX_TABLE_BYTES = 16 << 20;

export function readSnapshots(store: ByteStore, header: Header): Snapshot[] {
  const found: Snapshot[] = [];
  const clusterBytes = 2 ** header.clusterBits;
  const fixed = new Uint8Array(FIXED_BYTES);
  const view = new DataView(fixed.buffer);
  let at = header.snapshotsAt;
  for (let n = 0; n < header.snapshots; n++) {
    const wrong = (what: string) => new ImageError(`${store.name}: found ${what} in snapshot ${n}`);
    if (at + FIXED_BYTES > store.sizeBytes || at - header.snapshotsAt > MAX_TABLE_BYTES) throw wrong("no end");
    store.read(at, fixed);
    const idBytes = view.getUint16(12), nameBytes = view.getUint16(14), extraBytes = view.getUint32(36);
    if (extraBytes > MAX_EXTRA) throw wrong(`${extraBytes} bytes of extra data, expected at most ${MAX_EXTRA},`);
    const rest = new Uint8Array(extraBytes + idBytes + nameBytes);
    store.read(at + FIXED_BYTES, rest);
    const extra = rest.slice(0, extraBytes);
    const extraView = new DataView(extra.buffer);
    const l1At = get64(view, 0), l1Entries = view.getUint32(8);
    const inFile = l1At % clusterBytes === 0 && l1At >= clusterBytes && l1At + 8 * l1Entries <= store.sizeBytes;
    if (l1Entries > MAX_L1_ENTRIES || (l1Entries > 0 && !inFile)) {
      throw wrong(`an L1 table of ${l1Entries} entries at ${l1At}, expected whole clusters of the file,`);
    }
    const text = (from: number, bytes: number) => new TextDecoder().decode(rest.subarray(from, from + bytes));
    found.push({
      l1At,
      l1Entries,
      id: text(extraBytes, idBytes),
      name: text(extraBytes + idBytes, nameBytes),
      seconds: view.getUint32(16),
      nanoseconds: view.getUint32(20),
      clockNs: fixed.slice(24, 32),
      vmStateBytes: extraBytes >= 8 ? get64(extraView, 0) : view.getUint32(32),
      sizeBytes: extraBytes >= 16 ? get64(extraView, 8) : header.sizeBytes,
      extra,
    });
    at += Math.ceil((FIXED_BYTES + rest.length) / 8) * 8;
  }
  return found;
}

/** Bytes of the table as it stands in the file. */
export function encodeSnapshots(snapshots: readonly Snapshot[]): Uint8Array {
  const utf8 = new TextEncoder();
  const parts = snapshots.map((s) => {
    const id = utf8.encode(s.id), name = utf8.encode(s.name);
    const extra = new Uint8Array(Math.max(16, s.extra.length));
    extra.set(s.extra);
    const extraView = new DataView(extra.buffer);
    put64(extraView, 0, s.vmStateBytes);
    put64(extraView, 8, s.sizeBytes);
    const bytes = new Uint8Array(Math.ceil((FIXED_BYTES + extra.length + id.length + name.length) / 8) * 8);
    const view = new DataView(bytes.buffer);
    put64(view, 0, s.l1At);
    view.setUint32(8, s.l1Entries);
    view.setUint16(12, id.length);
    view.setUint16(14, name.length);
    view.setUint32(16, s.seconds);
    view.setUint32(20, s.nanoseconds);
    bytes.set(s.clockNs, 24);
    view.setUint32(32, s.vmStateBytes <= 0xffff_ffff ? s.vmStateBytes : 0);
    view.setUint32(36, extra.length);
    bytes.set(extra, FIXED_BYTES);
    bytes.set(id, FIXED_BYTES + extra.length);
    bytes.set(name, FIXED_BYTES + extra.length + id.length);
    return bytes;
  });
  const all = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
