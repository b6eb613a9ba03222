/**
 * The qcow2 format: its header, and the words that its tables are made of. All numbers are big-endian.
 *
 * Spec: [qcow2 §Header], [qcow2 §Header extensions], [qcow2 §Cluster mapping].
 * Absent: encryption, external data files: images that need them are refused by name.
 */
import { ImageError } from "../image.ts";
import type { ByteStore } from "../store.ts";

export const MAGIC = 0x514649fb;

/** Offsets in the header. */
export const HEADER = {
  MAGIC: 0,
  VERSION: 4,
  BACKING_FILE_OFFSET: 8,
  BACKING_FILE_SIZE: 16,
  CLUSTER_BITS: 20,
  SIZE: 24,
  CRYPT_METHOD: 32,
  L1_SIZE: 36,
  L1_TABLE_OFFSET: 40,
  REFCOUNT_TABLE_OFFSET: 48,
  REFCOUNT_TABLE_CLUSTERS: 56,
  NB_SNAPSHOTS: 60,
  SNAPSHOTS_OFFSET: 64,
  INCOMPATIBLE_FEATURES: 72,
  COMPATIBLE_FEATURES: 80,
  AUTOCLEAR_FEATURES: 88,
  REFCOUNT_ORDER: 96,
  HEADER_LENGTH: 100,
  COMPRESSION_TYPE: 104,
} as const;
export const V2_HEADER_BYTES = 72;
export const V3_HEADER_BYTES = 112;

export const INCOMPATIBLE = {
  DIRTY: 1 << 0,
  CORRUPT: 1 << 1,
  EXTERNAL_DATA_FILE: 1 << 2,
  COMPRESSION_TYPE: 1 << 3,
  EXTENDED_L2: 1 << 4,
} as const;
export const COMPATIBLE = { LAZY_REFCOUNTS: 1 << 0 } as const;
export const AUTOCLEAR = { BITMAPS: 1 << 0 } as const;

export const EXTENSION = {
  END: 0,
  BACKING_FORMAT: 0xe2792aca,
  BITMAPS: 0x23852875,
  FEATURE_NAMES: 0x6803f857,
} as const;

/** Bits of the high half of an L1 or L2 entry. */
export const COPIED = 0x8000_0000;
export const COMPRESSED = 0x4000_0000;
const OFFSET_HI = 0x00ff_ffff;
/** Bit of the low half of an L2 entry: the cluster reads as zeros. */
export const ZERO = 1;
const OFFSET_LO = 0xffff_fe00;

export const MIN_CLUSTER_BITS = 9, MAX_CLUSTER_BITS = 21;
/** Of a cluster with an extended L2 entry; one of them is a sector at least. */
export const SUBCLUSTERS = 32;
export const MIN_EXTENDED_CLUSTER_BITS = 14;
/** 32 MiB of L1 table, 8 MiB of refcount table: what the format's other readers accept. */
export const MAX_L1_ENTRIES = 4 << 20;
export const MAX_REFCOUNT_TABLE_BYTES = 8 << 20;
export const MAX_SNAPSHOTS = 65_536;
/** Sizes and offsets beyond are not numbers that we can count in. */
export const MAX_IMAGE_BYTES = 2 ** 52;
const MAX_BACKING_NAME = 1023;

export type Compression = "zlib" | "zstd";

export interface Extension {
  readonly type: number;
  readonly data: Uint8Array;
}

export interface Header {
  readonly version: 2 | 3;
  readonly clusterBits: number;
  sizeBytes: number;
  l1Entries: number;
  l1At: number;
  refcountTableAt: number;
  refcountTableClusters: number;
  snapshots: number;
  snapshotsAt: number;
  incompatible: number;
  readonly compatible: number;
  autoclear: number;
  readonly refcountOrder: number;
  readonly compression: Compression;
  readonly headerBytes: number;
  readonly extensions: readonly Extension[];
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
}

/** A 64-bit number; Infinity if it is too large to be an offset in any file. */
export function get64(view: DataView, at: number): number {
  const value = view.getUint32(at) * 0x1_0000_0000 + view.getUint32(at + 4);
  return value <= MAX_IMAGE_BYTES ? value : Infinity;
}

export function put64(view: DataView, at: number, value: number): void {
  view.setUint32(at, Math.floor(value / 0x1_0000_0000));
  view.setUint32(at + 4, value >>> 0);
}

export function l2EntryBytes({ incompatible }: Pick<Header, "incompatible">): number {
  return incompatible & INCOMPATIBLE.EXTENDED_L2 ? 16 : 8;
}

/** What of a disk is in the file or not as one: a subcluster, or a cluster where those have none. */
export function subclusterBytes({ incompatible, clusterBits }: Pick<Header, "incompatible" | "clusterBits">): number {
  return 2 ** clusterBits / (incompatible & INCOMPATIBLE.EXTENDED_L2 ? SUBCLUSTERS : 1);
}

/** The offset in an L1 entry or a standard L2 entry. */
export function entryOffset(hi: number, lo: number): number {
  return (hi & OFFSET_HI) * 0x1_0000_0000 + ((lo & OFFSET_LO) >>> 0);
}

/** Where a compressed cluster's bytes are [qcow2 §Compressed Clusters Descriptor]. */
export function compressedPlace(hi: number, lo: number, clusterBits: number): { at: number; sizeBytes: number } {
  const bits = 62 - (clusterBits - 8); // of the offset
  const hiBits = bits - 32;
  const at = (hi & ((1 << hiBits) - 1)) * 0x1_0000_0000 + lo;
  const sectors = ((hi & 0x3fff_ffff) >>> hiBits) + 1;
  return { at, sizeBytes: 512 * sectors - (at & 511) };
}

/** The high half of the descriptor of a compressed cluster; the low half is the offset's. */
export function compressedEntryHi(at: number, sizeBytes: number, clusterBits: number): number {
  const hiBits = 62 - (clusterBits - 8) - 32;
  const sectors = Math.floor((at + sizeBytes - 1) / 512) - Math.floor(at / 512);
  return (COMPRESSED | (sectors << hiBits) | Math.floor(at / 0x1_0000_0000)) >>> 0;
}

export function isQcow2(start: Uint8Array): boolean {
  return start.length >= 4 && new DataView(start.buffer, start.byteOffset).getUint32(0) === MAGIC;
}

/** Reads and doubts a header. Throws ImageError. */
export function readHeader(store: ByteStore): Header {
  const fixed = new Uint8Array(V3_HEADER_BYTES);
  store.read(0, fixed);
  const view = new DataView(fixed.buffer);
  const name = store.name;
  const expect = (ok: boolean, what: string, found: string | number, wanted: string): void => {
    if (!ok) throw new ImageError(`${name}: found ${what} ${found} in the qcow2 header, expected ${wanted}`);
  };
  if (!isQcow2(fixed)) throw new ImageError(`${name}: this is no qcow2 image: it does not begin with "QFI"`);
  const version = view.getUint32(HEADER.VERSION);
  expect(version === 2 || version === 3, "version", version, "2 or 3");
  const v3 = version === 3;
  const clusterBits = view.getUint32(HEADER.CLUSTER_BITS);
  expect(clusterBits >= MIN_CLUSTER_BITS && clusterBits <= MAX_CLUSTER_BITS, "cluster_bits", clusterBits, "9 to 21");
  const clusterBytes = 2 ** clusterBits;
  if (view.getUint32(HEADER.CRYPT_METHOD) !== 0) throw new ImageError(`${name}: the image is encrypted`);

  const incompatible = v3 ? features(view, HEADER.INCOMPATIBLE_FEATURES) : 0;
  if (incompatible & INCOMPATIBLE.EXTERNAL_DATA_FILE) {
    throw new ImageError(`${name}: the image keeps its data in another file (external data file)`);
  }
  const { DIRTY, CORRUPT, COMPRESSION_TYPE, EXTENDED_L2 } = INCOMPATIBLE;
  if (incompatible & EXTENDED_L2) {
    expect(clusterBits >= MIN_EXTENDED_CLUSTER_BITS, "cluster_bits", clusterBits, "14 to 21 with extended L2 entries");
  }
  const known = DIRTY | CORRUPT | COMPRESSION_TYPE | EXTENDED_L2;
  expect((incompatible & ~known) === 0, "incompatible features", `0x${incompatible.toString(16)}`, "known ones");
  const refcountOrder = v3 ? view.getUint32(HEADER.REFCOUNT_ORDER) : 4;
  expect(refcountOrder <= 6, "refcount_order", refcountOrder, "0 to 6");
  const headerBytes = v3 ? view.getUint32(HEADER.HEADER_LENGTH) : V2_HEADER_BYTES;
  const room = Math.min(clusterBytes, 65536);
  expect(
    headerBytes >= (v3 ? 104 : 72) && headerBytes <= room && headerBytes % 8 === 0,
    "header_length",
    headerBytes,
    "104 and more",
  );
  const compressionType = v3 && headerBytes > HEADER.COMPRESSION_TYPE ? fixed[HEADER.COMPRESSION_TYPE]! : 0;
  expect(compressionType <= 1, "compression_type", compressionType, "0 (zlib) or 1 (zstd)");

  const sizeBytes = get64(view, HEADER.SIZE);
  expect(sizeBytes <= MAX_IMAGE_BYTES, "size", sizeBytes, `at most ${MAX_IMAGE_BYTES} bytes`);
  const l1Entries = view.getUint32(HEADER.L1_SIZE);
  const l1At = get64(view, HEADER.L1_TABLE_OFFSET);
  const perL1 = clusterBytes * (clusterBytes / l2EntryBytes({ incompatible }));
  expect(l1Entries <= MAX_L1_ENTRIES, "l1_size", l1Entries, `at most ${MAX_L1_ENTRIES}`);
  expect(l1Entries >= Math.ceil(sizeBytes / perL1), "l1_size", l1Entries, `enough for ${sizeBytes} bytes`);
  const aligned = (at: number, bytes: number) =>
    at % clusterBytes === 0 && at >= clusterBytes && at + bytes <= store.sizeBytes;
  if (l1Entries > 0) expect(aligned(l1At, 8 * l1Entries), "l1_table_offset", l1At, "whole clusters in the file");
  const refcountTableAt = get64(view, HEADER.REFCOUNT_TABLE_OFFSET);
  const refcountTableClusters = view.getUint32(HEADER.REFCOUNT_TABLE_CLUSTERS);
  const tableBytes = refcountTableClusters * clusterBytes;
  expect(
    refcountTableClusters > 0 && tableBytes <= Math.max(MAX_REFCOUNT_TABLE_BYTES, clusterBytes),
    "refcount_table_clusters",
    refcountTableClusters,
    `1 to ${MAX_REFCOUNT_TABLE_BYTES / clusterBytes}`,
  );
  expect(
    aligned(refcountTableAt, clusterBytes),
    "refcount_table_offset",
    refcountTableAt,
    "whole clusters in the file",
  );
  const snapshots = view.getUint32(HEADER.NB_SNAPSHOTS);
  const snapshotsAt = get64(view, HEADER.SNAPSHOTS_OFFSET);
  expect(snapshots <= MAX_SNAPSHOTS, "nb_snapshots", snapshots, `at most ${MAX_SNAPSHOTS}`);
  if (snapshots > 0) expect(aligned(snapshotsAt, 40), "snapshots_offset", snapshotsAt, "whole clusters in the file");

  const first = new Uint8Array(room);
  store.read(0, first);
  const backingAt = get64(view, HEADER.BACKING_FILE_OFFSET), backingBytes = view.getUint32(HEADER.BACKING_FILE_SIZE);
  let backingFile: string | null = null;
  if (backingAt !== 0) {
    expect(backingBytes <= MAX_BACKING_NAME, "backing_file_size", backingBytes, `at most ${MAX_BACKING_NAME}`);
    expect(
      backingAt >= headerBytes && backingAt + backingBytes <= room,
      "backing_file_offset",
      backingAt,
      "a place in the first cluster",
    );
    backingFile = new TextDecoder().decode(first.subarray(backingAt, backingAt + backingBytes));
  }
  const extensions = readExtensions(first, headerBytes, backingAt || room, name);
  const format = extensions.find(({ type }) => type === EXTENSION.BACKING_FORMAT);
  return {
    version: v3 ? 3 : 2,
    clusterBits,
    sizeBytes,
    l1Entries,
    l1At,
    refcountTableAt,
    refcountTableClusters,
    snapshots,
    snapshotsAt,
    incompatible,
    compatible: v3 ? features(view, HEADER.COMPATIBLE_FEATURES) : 0,
    autoclear: v3 ? features(view, HEADER.AUTOCLEAR_FEATURES) : 0,
    refcountOrder,
    compression: compressionType === 1 ? "zstd" : "zlib",
    headerBytes,
    extensions,
    backingFile: backingFile === "" ? null : backingFile,
    backingFormat: format ? new TextDecoder().decode(format.data) : null,
  };
}

/** The low 31 feature bits; what is set above them becomes bit 31, which nobody knows. */
function features(view: DataView, at: number): number {
  const lo = view.getUint32(at + 4);
  return (view.getUint32(at) !== 0 || lo >= 0x8000_0000 ? (lo | 0x8000_0000) >>> 0 : lo);
}

function readExtensions(first: Uint8Array, from: number, end: number, name: string): Extension[] {
  const view = new DataView(first.buffer, first.byteOffset, first.length);
  const found: Extension[] = [];
  for (let at = from; at + 8 <= end;) {
    const type = view.getUint32(at), length = view.getUint32(at + 4);
    if (type === EXTENSION.END) break;
    if (length > end - at - 8) {
      throw new ImageError(`${name}: found a header extension of ${length} bytes, expected less`);
    }
    found.push({ type, data: first.slice(at + 8, at + 8 + length) });
    at += 8 + Math.ceil(length / 8) * 8;
  }
  return found;
}

/** The header with its extensions and the backing file's name; throws ImageError if they do not fit the first cluster. */
export function encodeHeader(h: Header): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const { type, data } of h.extensions) {
    const part = new Uint8Array(8 + Math.ceil(data.length / 8) * 8);
    const view = new DataView(part.buffer);
    view.setUint32(0, type);
    view.setUint32(4, data.length);
    part.set(data, 8);
    parts.push(part);
  }
  const backing = h.backingFile === null ? new Uint8Array(0) : new TextEncoder().encode(h.backingFile);
  const extensionBytes = parts.reduce((n, part) => n + part.length, 8);
  const total = h.headerBytes + extensionBytes + backing.length;
  if (total > 2 ** h.clusterBits || backing.length > MAX_BACKING_NAME) {
    throw new ImageError(`The name of the backing file is too long: ${backing.length} bytes do not fit the header`);
  }
  const bytes = new Uint8Array(total);
  const view = new DataView(bytes.buffer);
  view.setUint32(HEADER.MAGIC, MAGIC);
  view.setUint32(HEADER.VERSION, h.version);
  if (backing.length > 0) {
    put64(view, HEADER.BACKING_FILE_OFFSET, h.headerBytes + extensionBytes);
    view.setUint32(HEADER.BACKING_FILE_SIZE, backing.length);
  }
  view.setUint32(HEADER.CLUSTER_BITS, h.clusterBits);
  put64(view, HEADER.SIZE, h.sizeBytes);
  view.setUint32(HEADER.L1_SIZE, h.l1Entries);
  put64(view, HEADER.L1_TABLE_OFFSET, h.l1At);
  put64(view, HEADER.REFCOUNT_TABLE_OFFSET, h.refcountTableAt);
  view.setUint32(HEADER.REFCOUNT_TABLE_CLUSTERS, h.refcountTableClusters);
  view.setUint32(HEADER.NB_SNAPSHOTS, h.snapshots);
  put64(view, HEADER.SNAPSHOTS_OFFSET, h.snapshotsAt);
  if (h.version === 3) {
    put64(view, HEADER.INCOMPATIBLE_FEATURES, h.incompatible);
    put64(view, HEADER.COMPATIBLE_FEATURES, h.compatible);
    put64(view, HEADER.AUTOCLEAR_FEATURES, h.autoclear);
    view.setUint32(HEADER.REFCOUNT_ORDER, h.refcountOrder);
    view.setUint32(HEADER.HEADER_LENGTH, h.headerBytes);
    if (h.headerBytes > HEADER.COMPRESSION_TYPE) bytes[HEADER.COMPRESSION_TYPE] = h.compression === "zstd" ? 1 : 0;
  }
  let at = h.headerBytes;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  bytes.set(backing, at + 8);
  return bytes;
}

/** Writes the fields of a header that change during an image's life: they lie in one sector, so all of them or none. */
export function writeHeaderFields(store: ByteStore, h: Header): void {
  const bytes = new Uint8Array(h.version === 3 ? 104 : V2_HEADER_BYTES);
  store.read(0, bytes);
  const view = new DataView(bytes.buffer);
  put64(view, HEADER.SIZE, h.sizeBytes);
  view.setUint32(HEADER.L1_SIZE, h.l1Entries);
  put64(view, HEADER.L1_TABLE_OFFSET, h.l1At);
  put64(view, HEADER.REFCOUNT_TABLE_OFFSET, h.refcountTableAt);
  view.setUint32(HEADER.REFCOUNT_TABLE_CLUSTERS, h.refcountTableClusters);
  view.setUint32(HEADER.NB_SNAPSHOTS, h.snapshots);
  put64(view, HEADER.SNAPSHOTS_OFFSET, h.snapshotsAt);
  if (h.version === 3) {
    put64(view, HEADER.INCOMPATIBLE_FEATURES, h.incompatible);
    put64(view, HEADER.AUTOCLEAR_FEATURES, h.autoclear);
  }
  store.write(0, bytes);
}
