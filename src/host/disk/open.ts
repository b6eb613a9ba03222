/**
 * From a file's name to the disk in it: which format, what is behind it, and what is written where.
 *
 * The format is what the user says, or else what the file's name ends in, or else what a new file of that name would be: raw. It is
 * never taken from the content alone, because a guest writes the content of a raw disk and could make it a qcow2 header that
 * names any file of the host's as its backing file.
 */
import { basename, dirname, isAbsolute, join } from "@std/path";
import { ConfigError, HostError, messageOf } from "../../base/errors.ts";
import { formatOfName, type ImageFormat } from "./format_name.ts";
import { type DiskImage, ImageError } from "./image.ts";
import { createQcow2 } from "./qcow2/create.ts";
import { isQcow2, readHeader } from "./qcow2/format.ts";
import { Qcow2 } from "./qcow2/qcow2.ts";
import { RawImage, SECTOR_BYTES } from "./raw.ts";
import { type FileCalls, FileStore } from "./store.ts";

export interface OpenOptions {
  readonly path: string;
  readonly writable: boolean;
  /** By the file's name, if it is not given. */
  readonly format?: ImageFormat | undefined;
  /** How messages call the file: "--disk FILE". */
  readonly named?: string;
  /** Give storage that is no longer needed back to the host. */
  readonly holes?: boolean;
}

/** Images behind each other, the first among them. */
const MAX_CHAIN = 32;

/** Null where there is nothing to be had, or nobody has asked whether FFI is allowed. */
let callsOf: ((path: string, how: { writable: boolean; holes: boolean }) => FileCalls | null) | null = null;

/**
 * Once in a thread, before images are opened: looks whether storage can be given back to the host, and reads announced to it. What
 * does so is loaded only where FFI is allowed.
 */
export async function lookForFileCalls(): Promise<void> {
  if (Deno.build.os !== "linux" || Deno.permissions.querySync({ name: "ffi" }).state !== "granted") return;
  callsOf = (await import("./file_calls.ts")).fileCalls;
}

/** Opens an image and what is behind it. Throws ConfigError for what the user can mend, HostError for what the host refuses. */
export function openImage(options: OpenOptions): DiskImage {
  return openLink(options, []);
}

function openLink(options: OpenOptions, chain: readonly string[]): DiskImage {
  const { path, writable } = options;
  const named = options.named ?? path;
  const file = openFile(path, writable, named);
  let store: FileStore;
  try {
    checkKind(file, named);
    store = FileStore.of(path, file, callsOf?.(path, { writable, holes: options.holes === true }) ?? null);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new HostError(`${named}: the host could not tell its size: ${messageOf(error)}`, { cause: error });
  }
  let backing: DiskImage | null = null;
  try {
    const format = options.format ?? formatOfName(path);
    if (format === "raw") {
      if (store.sizeBytes < SECTOR_BYTES) {
        throw new ConfigError(
          `${named}: found ${store.sizeBytes} bytes, expected at least one sector of ${SECTOR_BYTES}`,
        );
      }
      return new RawImage(store, writable);
    }
    const { backingFile, backingFormat } = readHeader(store);
    if (backingFile !== null) {
      backing = openBehind(path, backingFile, backingFormat, named, chain);
    }
    const image = new Qcow2(store, writable, backing);
    if (image.sizeBytes < SECTOR_BYTES && chain.length === 0 && options.named !== undefined) {
      throw new ConfigError(`${named}: found a disk of ${image.sizeBytes} bytes, expected at least one sector`);
    }
    return image;
  } catch (error) {
    store.close();
    backing?.close();
    if (error instanceof ImageError && options.named) {
      throw new ImageError(`${named}: ${withoutName(error.message, path)}`);
    }
    throw error;
  }
}

function withoutName(message: string, path: string): string {
  return message.startsWith(`${path}: `) ? message.slice(path.length + 2) : message;
}

/** Where a backing file is: its name is relative to the image's folder. */
export function backingPath(path: string, backingFile: string): string {
  const plain = backingFile.replace(/^file:(?:\/\/)?/, "");
  return isAbsolute(plain) ? plain : join(dirname(path), plain);
}

function openBehind(
  path: string,
  backingFile: string,
  backingFormat: string | null,
  named: string,
  chain: readonly string[],
): DiskImage {
  const behind = backingPath(path, backingFile);
  if (/^(?!file:)[a-z][a-z0-9+.-]*:/.test(backingFile)) {
    throw new ImageError(`${named}: found the backing file "${backingFile}", expected the name of a file`);
  }
  const identities = [...chain, identityOf(path)];
  if (identities.length >= MAX_CHAIN) {
    throw new ImageError(`${named}: found more than ${MAX_CHAIN} images behind each other, expected fewer`);
  }
  if (identities.includes(identityOf(behind))) {
    throw new ImageError(`${named}: the chain of backing files comes back to ${behind}`);
  }
  if (backingFormat !== null && backingFormat !== "raw" && backingFormat !== "qcow2") {
    throw new ImageError(`${named}: found a backing file of the format "${backingFormat}", expected raw or qcow2`);
  }
  // Older images do not name the format; their makers never let a guest write to the backing file by itself.
  const format = backingFormat ?? (startsAsQcow2(behind) ? "qcow2" : "raw");
  try {
    return openLink({ path: behind, writable: false, format }, identities);
  } catch (error) {
    if (error instanceof ConfigError) {
      throw new ConfigError(`${named}: its backing file ${withColon(error.message, behind)}`, { cause: error });
    }
    throw error;
  }
}

function withColon(message: string, path: string): string {
  return message.startsWith(path) ? message : `${path}: ${message}`;
}

export function startsAsQcow2(path: string): boolean {
  try {
    using file = Deno.openSync(path, { read: true });
    const start = new Uint8Array(4);
    return file.readSync(start) === 4 && isQcow2(start);
  } catch {
    return false; // whoever opens it next will say why
  }
}

function identityOf(path: string): string {
  try {
    const { dev, ino } = Deno.statSync(path);
    return ino === null ? Deno.realPathSync(path) : `${dev}:${ino}`;
  } catch {
    return path;
  }
}

function checkKind(file: Deno.FsFile, named: string): void {
  let info: Deno.FileInfo;
  try {
    info = file.statSync();
    if (info.isDirectory) throw new ConfigError(`${named}: found a directory, expected a disk image`);
    if (!info.isFile && !info.isBlockDevice) {
      throw new ConfigError(`${named}: found something that has no size, expected a disk image`);
    }
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Opens a file that exists, with the house's words for what goes wrong. */
export function openFile(path: string, writable: boolean, named: string): Deno.FsFile {
  try {
    return Deno.openSync(path, { read: true, write: writable });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new ConfigError(`${named}: there is no such file; make one with: trike disk create ${path} 8G`);
    }
    if (error instanceof Deno.errors.NotCapable) {
      throw new ConfigError(`${named}: trike may not open it; grant --allow-read and --allow-write for it`);
    }
    if (error instanceof Deno.errors.IsADirectory || isDirectory(path)) {
      throw new ConfigError(`${named}: found a directory, expected a disk image`);
    }
    if (error instanceof Deno.errors.PermissionDenied || /read-only file system/i.test(messageOf(error))) {
      const hint = writable ? "; to attach it without writing, make it read-only (readonly)" : "";
      throw new ConfigError(`${named}: the host does not let us ${writable ? "write" : "read"} it${hint}`);
    }
    throw new HostError(`${named}: open: ${messageOf(error)}`, { cause: error });
  }
}

function isDirectory(path: string): boolean {
  try {
    return Deno.statSync(path).isDirectory;
  } catch {
    return false;
  }
}

/** An image of what was written to a disk, seen above `base`, whatever its header says is behind it. */
function openLayer(path: string, base: DiskImage, named: string): DiskImage {
  const store = FileStore.of(path, openFile(path, false, named));
  try {
    return new Qcow2(store, false, base);
  } catch (error) {
    store.close();
    throw error;
  }
}

/**
 * A disk whose writes are thrown away: they go to an image in a temporary file, with the named image behind it. The file is
 * removed as soon as it is open, where the host lets us, and else when the disk is closed. `layer` is an image of what was written
 * to another overlay of it before.
 */
export function openOverlay(options: OpenOptions, layer?: string): DiskImage {
  let backing = openLink({ ...options, writable: false }, []);
  let path: string | null = null;
  try {
    if (layer !== undefined) backing = openLayer(layer, backing, `${options.named ?? options.path}: its overlay`);
    path = Deno.makeTempFileSync({ prefix: `${basename(options.path)}-`, suffix: ".overlay" });
    const store = FileStore.open(path, true);
    store.throwAway = true;
    try {
      createQcow2(store, { sizeBytes: backing.sizeBytes });
    } catch (error) {
      store.close();
      throw error;
    }
    Deno.removeSync(path);
    return new Qcow2(store, true, backing);
  } catch (error) {
    backing.close();
    if (error instanceof ConfigError) throw error;
    if (error instanceof Deno.errors.NotCapable) {
      throw new ConfigError(
        `${options.named ?? options.path}: an overlay needs a temporary file, which trike may not make; ` +
          "grant --allow-write for the folder TMPDIR names",
      );
    }
    throw new HostError(`${options.named ?? options.path}: overlay: ${messageOf(error)}`, { cause: error });
  }
}
