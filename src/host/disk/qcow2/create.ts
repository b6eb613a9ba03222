/** Makes an empty qcow2 image. */
import { ImageError } from "../image.ts";
import type { ByteStore } from "../store.ts";
import {
  COMPATIBLE,
  type Compression,
  encodeHeader,
  EXTENSION,
  type Extension,
  type Header,
  INCOMPATIBLE,
  l2EntryBytes,
  MAX_IMAGE_BYTES,
  MAX_L1_ENTRIES,
  put64,
  V2_HEADER_BYTES,
  V3_HEADER_BYTES,
} from "./format.ts";
import { putCount } from "./refcounts.ts";

export interface CreateOptions {
  readonly sizeBytes: number;
  /** A power of two from 512 to 2 MiB; 64 KiB if not given. */
  readonly clusterBytes?: number;
  /** A power of two from 1 to 64; 16 if not given. */
  readonly refcountBits?: number;
  readonly compression?: Compression;
  readonly lazyRefcounts?: boolean;
  /** Clusters of 32 subclusters: version 3, and 16 KiB at least. */
  readonly extendedL2?: boolean;
  readonly version?: 2 | 3;
  readonly backingFile?: string | null;
  readonly backingFormat?: string | null;
}

/** Header, refcount table, one refcount block, L1 table: a cluster or more each, in this order. */
export function createQcow2(store: ByteStore, options: CreateOptions): void {
  const { sizeBytes, version = 3, backingFile = null, backingFormat = null } = options;
  const clusterBytes = options.clusterBytes ?? 65536;
  const clusterBits = Math.log2(clusterBytes), refcountOrder = Math.log2(options.refcountBits ?? 16);
  const incompatible = (options.compression === "zstd" ? INCOMPATIBLE.COMPRESSION_TYPE : 0) |
    (options.extendedL2 ? INCOMPATIBLE.EXTENDED_L2 : 0);
  const l1Entries = Math.ceil(sizeBytes / clusterBytes / (clusterBytes / l2EntryBytes({ incompatible })));
  if (!(sizeBytes >= 0) || sizeBytes > MAX_IMAGE_BYTES || sizeBytes % 512 !== 0 || l1Entries > MAX_L1_ENTRIES) {
    throw new ImageError(`Cannot make an image of ${sizeBytes} bytes with clusters of ${clusterBytes}`);
  }
  const extensions: Extension[] = [];
  if (backingFile !== null && backingFormat !== null) {
    extensions.push({ type: EXTENSION.BACKING_FORMAT, data: new TextEncoder().encode(backingFormat) });
  }
  const l1Clusters = Math.ceil(8 * l1Entries / clusterBytes);
  const perBlock = (8 * clusterBytes) >> refcountOrder;
  // As many blocks as count the clusters of all of this.
  let blocks = 1, tableClusters = 1;
  while (blocks * perBlock < 1 + tableClusters + blocks + l1Clusters) {
    blocks++;
    tableClusters = Math.ceil(8 * blocks / clusterBytes);
  }
  const used = 1 + tableClusters + blocks + l1Clusters;
  const zstd = options.compression === "zstd";
  const header: Header = {
    version,
    clusterBits,
    sizeBytes,
    l1Entries,
    l1At: (1 + tableClusters + blocks) * clusterBytes,
    refcountTableAt: clusterBytes,
    refcountTableClusters: tableClusters,
    snapshots: 0,
    snapshotsAt: 0,
    incompatible,
    compatible: options.lazyRefcounts ? COMPATIBLE.LAZY_REFCOUNTS : 0,
    autoclear: 0,
    refcountOrder,
    compression: zstd ? "zstd" : "zlib",
    headerBytes: version === 3 ? V3_HEADER_BYTES : V2_HEADER_BYTES,
    extensions,
    backingFile,
    backingFormat,
  };
  const encoded = encodeHeader(header);
  store.resize(0);
  store.resize(used * clusterBytes);
  const table = new Uint8Array(tableClusters * clusterBytes), view = new DataView(table.buffer);
  const block = new Uint8Array(clusterBytes), blockView = new DataView(block.buffer);
  for (let b = 0; b < blocks; b++) {
    const at = (1 + tableClusters + b) * clusterBytes;
    put64(view, 8 * b, at);
    block.fill(0);
    for (let i = 0; i < perBlock && b * perBlock + i < used; i++) putCount(block, blockView, i, refcountOrder, 1);
    store.write(at, block);
  }
  store.write(clusterBytes, table);
  store.sync();
  store.write(0, encoded);
  store.sync();
}
