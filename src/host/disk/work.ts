/** What is done with whole images: making, copying, describing them. Throws ConfigError and HostError. */
import { ConfigError, HostError, messageOf } from "../../base/errors.ts";
import { ImageLock } from "../block_lock.ts";
import { formatOfName, type ImageFormat } from "./format_name.ts";
import { type DiskImage, type ExtentKind, isZero } from "./image.ts";
import { backingPath, openImage } from "./open.ts";
import { type CreateOptions, createQcow2 } from "./qcow2/create.ts";
import { INCOMPATIBLE } from "./qcow2/format.ts";
import { Qcow2 } from "./qcow2/qcow2.ts";
import { emptyImage, listSnapshots } from "./qcow2/snapshots.ts";
import { RawImage } from "./raw.ts";
import { FileStore } from "./store.ts";

const CHUNK_BYTES = 2 << 20;

export type NewImage = Pick<
  CreateOptions,
  "clusterBytes" | "refcountBits" | "compression" | "lazyRefcounts" | "extendedL2"
>;

/** Makes the file, or empties the one there is: one that somebody uses is refused. */
function newFile(path: string): FileStore {
  try {
    Deno.openSync(path, { write: true, create: true }).close();
    const lock = ImageLock.take({ path, readonly: false, flag: "" });
    lock?.release();
    return FileStore.create(path);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new HostError(`${path}: create: ${messageOf(error)}`, { cause: error });
  }
}

export function createImage(
  path: string,
  options: NewImage & {
    readonly format: ImageFormat;
    /** Null: as large as what is behind it. */
    readonly sizeBytes: number | null;
    readonly backing: string | null;
    readonly backingFormat: ImageFormat | null;
  },
): void {
  const { format, backing, backingFormat } = options;
  let size = options.sizeBytes;
  if (backing !== null) {
    if (format !== "qcow2") {
      throw new ConfigError(`${path}: a raw image has nothing behind it; expected a name that ends in .qcow2`);
    }
    const behind = openImage({ path: backingPath(path, backing), writable: false, format: backingFormat ?? undefined });
    size ??= behind.sizeBytes;
    behind.close();
  }
  const store = newFile(path);
  try {
    if (format === "raw") store.resize(size!);
    else createQcow2(store, { ...options, sizeBytes: size!, backingFile: backing, backingFormat });
    store.sync();
  } finally {
    store.close();
  }
}

/** Copies a disk into a new image: zeros are left out. */
export function convertImage(
  from: { readonly path: string; readonly format?: ImageFormat | undefined },
  to: string,
  options: NewImage & { readonly format: ImageFormat; readonly compress: boolean },
): void {
  const source = openImage({ path: from.path, writable: false, format: from.format });
  try {
    if (sameFile(from.path, to)) throw new ConfigError(`${to}: expected another file than the one that is copied`);
    const sizeBytes = source.sizeBytes - source.sizeBytes % 512;
    const store = newFile(to);
    if (options.format === "raw") store.resize(sizeBytes);
    else createQcow2(store, { ...options, sizeBytes });
    const target = options.format === "raw" ? new RawImage(store, true) : new Qcow2(store, true, null);
    try {
      copy(source, target, sizeBytes, options.compress);
      target.flush();
    } finally {
      target.close();
    }
  } finally {
    source.close();
  }
}

function sameFile(a: string, b: string): boolean {
  try {
    const one = Deno.statSync(a), other = Deno.statSync(b);
    return one.ino !== null && one.ino === other.ino && one.dev === other.dev;
  } catch {
    return false;
  }
}

function copy(source: DiskImage, target: DiskImage, sizeBytes: number, compress: boolean): void {
  const packed = compress && target instanceof Qcow2 ? target : null;
  const unit = target instanceof Qcow2 ? target.clusterBytes : 65536;
  const chunk = new Uint8Array(Math.max(CHUNK_BYTES, unit));
  for (let at = 0; at < sizeBytes;) {
    const run = visibleExtent(source, at, sizeBytes - at);
    if (run.zero && run.sizeBytes >= unit) {
      at += run.sizeBytes - (at + run.sizeBytes < sizeBytes ? (at + run.sizeBytes) % unit : 0);
      continue;
    }
    const n = Math.min(chunk.length, sizeBytes - at);
    const bytes = chunk.subarray(0, n);
    source.read(at, bytes);
    for (let done = 0; done < n;) {
      const piece = bytes.subarray(done, Math.min(n, done + unit));
      if (!isZero(piece) && !packed?.writeCompressed(at + done, piece)) target.write(at + done, piece);
      done += piece.length;
    }
    at += n;
  }
}

/** Whether the bytes from `offset` on are known to be zero, and how far that goes, images behind each other seen as one. */
function visibleExtent(image: DiskImage, offset: number, maxBytes: number): { zero: boolean; sizeBytes: number } {
  const { kind, sizeBytes } = image.extentAt(offset, maxBytes);
  if (kind === "data") return { zero: false, sizeBytes };
  const { backing } = image;
  if (kind === "zero" || backing === null || offset >= backing.sizeBytes) return { zero: true, sizeBytes };
  return visibleExtent(backing, offset, Math.min(sizeBytes, backing.sizeBytes - offset));
}

export interface ImageFacts {
  readonly file: string;
  readonly format: ImageFormat;
  readonly virtualBytes: number;
  readonly fileBytes: number;
  /** What of the file takes space, where the host tells. */
  readonly allocatedBytes: number | null;
  readonly version: number | null;
  readonly clusterBytes: number | null;
  readonly refcountBits: number | null;
  readonly compression: string | null;
  /** Clusters have subclusters. */
  readonly extendedL2: boolean | null;
  readonly backingFile: string | null;
  readonly backingFormat: string | null;
  readonly state: string | null;
  readonly snapshots: readonly { id: string; name: string; taken: string; sizeBytes: number }[];
}

export function describeImage(path: string, asked: ImageFormat | undefined): ImageFacts {
  const format = asked ?? formatOfName(path);
  const image = openImage({ path, writable: false, format });
  try {
    const { blocks } = Deno.statSync(path);
    const common = {
      file: path,
      format,
      virtualBytes: image.sizeBytes,
      fileBytes: image.fileBytes,
      allocatedBytes: blocks === null ? null : 512 * blocks,
    };
    const none = { version: null, clusterBytes: null, refcountBits: null, compression: null, extendedL2: null };
    if (!(image instanceof Qcow2)) {
      return { ...common, ...none, backingFile: null, backingFormat: null, state: null, snapshots: [] };
    }
    const { header } = image;
    const store = FileStore.open(path, false);
    try {
      const { DIRTY, CORRUPT } = INCOMPATIBLE;
      return {
        ...common,
        version: header.version,
        clusterBytes: image.clusterBytes,
        refcountBits: 1 << header.refcountOrder,
        compression: header.compression,
        extendedL2: (header.incompatible & INCOMPATIBLE.EXTENDED_L2) !== 0,
        backingFile: header.backingFile,
        backingFormat: header.backingFormat,
        state: header.incompatible & CORRUPT ? "corrupt" : header.incompatible & DIRTY ? "dirty" : null,
        snapshots: listSnapshots(store).map(({ id, name, seconds, sizeBytes }) => ({
          id,
          name,
          taken: new Date(1000 * seconds).toISOString(),
          sizeBytes,
        })),
      };
    } finally {
      store.close();
    }
  } finally {
    image.close();
  }
}

export interface MappedExtent {
  readonly offset: number;
  readonly sizeBytes: number;
  readonly kind: ExtentKind;
  readonly at: number | null;
}

/** The extents of an image, neighbours of one kind in one piece. */
export function mapImage(path: string, format: ImageFormat | undefined): MappedExtent[] {
  const image = openImage({ path, writable: false, format });
  const found: MappedExtent[] = [];
  try {
    for (let offset = 0; offset < image.sizeBytes;) {
      const { kind, sizeBytes, at } = image.extentAt(offset, image.sizeBytes - offset);
      const last = found.at(-1);
      if (
        last && last.kind === kind &&
        (at === null ? last.at === null : last.at !== null && last.at + last.sizeBytes === at)
      ) {
        found[found.length - 1] = { ...last, sizeBytes: last.sizeBytes + sizeBytes };
      } else found.push({ offset, sizeBytes, kind, at });
      offset += sizeBytes;
    }
    return found;
  } finally {
    image.close();
  }
}

/** Writes what an image has over what is behind it, and empties the image; returns how many bytes that were. */
export function commitImage(path: string): number {
  const top = openImage({ path, writable: false, format: "qcow2" });
  let done = 0;
  try {
    const { header } = top as Qcow2;
    if (header.backingFile === null) throw new ConfigError(`${path}: the image has no backing file to commit to`);
    const behind = backingPath(path, header.backingFile);
    const format = header.backingFormat === "raw" || header.backingFormat === "qcow2"
      ? header.backingFormat
      : undefined;
    const locks = [ImageLock.take({ path: behind, readonly: false, flag: "" })];
    try {
      const base = openImage({ path: behind, writable: true, format: format ?? top.backing!.format });
      try {
        if (base.sizeBytes < top.sizeBytes) base.resize(top.sizeBytes);
        const chunk = new Uint8Array(CHUNK_BYTES);
        for (let at = 0; at < top.sizeBytes;) {
          const { kind, sizeBytes } = top.extentAt(at, top.sizeBytes - at);
          const n = kind === "data" ? Math.min(sizeBytes, CHUNK_BYTES) : sizeBytes;
          if (kind === "zero") base.writeZeroes(at, n, true);
          if (kind === "data") {
            top.read(at, chunk.subarray(0, n));
            base.write(at, chunk.subarray(0, n));
          }
          if (kind !== "absent") done += n;
          at += n;
        }
        base.flush();
      } finally {
        base.close();
      }
    } finally {
      for (const lock of locks) lock?.release();
    }
  } finally {
    top.close();
  }
  const lock = ImageLock.take({ path, readonly: false, flag: "" });
  const store = FileStore.open(path, true);
  try {
    emptyImage(store);
  } finally {
    store.close();
    lock?.release();
  }
  return done;
}
