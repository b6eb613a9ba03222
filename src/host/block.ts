/**
 * Disks in raw image files and on the host's block devices.
 *
 * Each thread that serves a queue opens the file for itself, so no two share a file position.
 */
import { type BlockBackend, SECTOR_BYTES } from "../../devices/virtio/block.ts";
import { ConfigError, HostError, messageOf } from "../base/errors.ts";

export interface FileBlockOptions {
  readonly path: string;
  readonly readonly: boolean;
  /** The flag that named the file, for messages. */
  readonly flag?: string;
  /** Told the first time that the host fails to read, to write and to flush: a guest may try again for ever. */
  readonly onTrouble?: ((sentence: string) => void) | undefined;
}

const CHUNK_BYTES = 1 << 20;

export class FileBlock implements BlockBackend {
  readonly sizeBytes: number;
  /** What the user should know about the image, if anything. */
  readonly note: string | null;
  /** The last request that the host failed, in words. The guest only sees that it failed. */
  lastError: string | null = null;
  readonly #file: Deno.FsFile;
  readonly #path: string;
  readonly #readonly: boolean;
  readonly #onTrouble: ((sentence: string) => void) | undefined;
  readonly #told = new Set<string>();
  #zeroes: Uint8Array | null = null;
  #chunk: Uint8Array | null = null;

  private constructor(file: Deno.FsFile, options: FileBlockOptions, fileBytes: number) {
    this.#file = file;
    this.#path = options.path;
    this.#readonly = options.readonly;
    this.#onTrouble = options.onTrouble;
    const spare = fileBytes % SECTOR_BYTES;
    this.sizeBytes = fileBytes - spare;
    this.note = spare === 0
      ? null
      : `${options.path} is ${fileBytes} bytes, not a multiple of ${SECTOR_BYTES}: its last ${spare} bytes are left out`;
  }

  /** Opens an image. Throws ConfigError for what the user can mend, HostError for what the host refuses. */
  static open(options: FileBlockOptions): FileBlock {
    const { path, readonly } = options;
    const named = `${options.flag ?? "--disk"} ${path}`;
    const file = openFile(path, readonly, named);
    try {
      const info = file.statSync();
      if (info.isDirectory) throw new ConfigError(`${named}: found a directory, expected a disk image`);
      if (!info.isFile && !info.isBlockDevice) {
        throw new ConfigError(`${named}: found something that has no size, expected a disk image`);
      }
      // A block device's size is where its end is; stat says 0.
      const bytes = file.seekSync(0, Deno.SeekMode.End);
      if (bytes < SECTOR_BYTES) {
        throw new ConfigError(`${named}: found ${bytes} bytes, expected at least one sector of ${SECTOR_BYTES}`);
      }
      return new FileBlock(file, options, bytes);
    } catch (error) {
      file.close();
      if (error instanceof ConfigError) throw error;
      throw new HostError(`${named}: the host could not tell its size: ${messageOf(error)}`, { cause: error });
    }
  }

  get sectors(): number {
    return this.sizeBytes / SECTOR_BYTES;
  }

  read(offset: number, into: Uint8Array): boolean {
    return this.#try("read", offset, () => {
      this.#file.seekSync(offset, Deno.SeekMode.Start);
      for (let done = 0; done < into.length;) {
        const n = this.#file.readSync(done === 0 ? into : into.subarray(done));
        if (n === null || n === 0) throw new Error("the file has become shorter");
        done += n;
      }
    });
  }

  write(offset: number, from: Uint8Array): boolean {
    if (this.#readonly) return this.#failed("write", offset, "the disk is read-only");
    return this.#try("write", offset, () => {
      // Writing past the end would hide that the file was cut under us.
      if (this.#file.seekSync(0, Deno.SeekMode.End) < offset + from.length) {
        throw new Error("the file has become shorter");
      }
      this.#writeAll(offset, from);
    });
  }

  #writeAll(offset: number, from: Uint8Array): void {
    this.#file.seekSync(offset, Deno.SeekMode.Start);
    for (let done = 0; done < from.length;) {
      const n = this.#file.writeSync(done === 0 ? from : from.subarray(done));
      if (n === 0) throw new Error("nothing was written");
      done += n;
    }
  }

  flush(): boolean {
    if (this.#readonly) return true;
    return this.#try("flush", 0, () => this.#file.syncDataSync());
  }

  /** A raw file has no way to say that bytes are not needed; zeros at least can be skipped by whoever copies it. */
  discard(offset: number, sizeBytes: number): boolean {
    return this.writeZeroes(offset, sizeBytes, true);
  }

  /** Writes zeros where there are none yet: with `mayUnmap` the holes of a sparse file stay holes. */
  writeZeroes(offset: number, sizeBytes: number, mayUnmap: boolean): boolean {
    const zeroes = this.#zeroes ??= new Uint8Array(CHUNK_BYTES);
    const chunk = this.#chunk ??= new Uint8Array(CHUNK_BYTES);
    for (let done = 0; done < sizeBytes; done += CHUNK_BYTES) {
      const n = Math.min(CHUNK_BYTES, sizeBytes - done);
      if (mayUnmap) {
        const old = chunk.subarray(0, n);
        if (!this.read(offset + done, old)) return false;
        if (isZero(old)) continue;
      }
      if (!this.write(offset + done, zeroes.subarray(0, n))) return false;
    }
    return true;
  }

  close(): void {
    this.#file.close();
  }

  #try(verb: string, offset: number, body: () => void): boolean {
    try {
      body();
      return true;
    } catch (error) {
      return this.#failed(verb, offset, messageOf(error));
    }
  }

  #failed(verb: string, offset: number, why: string): boolean {
    this.lastError = `${this.#path}: ${verb} at byte ${offset}: ${why}`;
    if (!this.#told.has(verb)) {
      this.#told.add(verb);
      this.#onTrouble?.(`${this.lastError}; the guest sees an I/O error`);
    }
    return false;
  }
}

function isZero(bytes: Uint8Array): boolean {
  const words = new Float64Array(bytes.buffer, bytes.byteOffset, bytes.length >> 3);
  // -0 and NaN are not all-zero bytes, and are not found by ===: Object.is tells 0 from -0, and NaN fails it too.
  for (let i = 0; i < words.length; i++) if (!Object.is(words[i], 0)) return false;
  return true;
}

function openFile(path: string, readonly: boolean, named: string): Deno.FsFile {
  try {
    return Deno.openSync(path, { read: true, write: !readonly });
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) {
      throw new ConfigError(`${named}: there is no such file; make one with: truncate -s 8G ${path}`);
    }
    if (error instanceof Deno.errors.NotCapable) {
      throw new ConfigError(`${named}: trike may not open it; grant --allow-read and --allow-write for it`);
    }
    if (error instanceof Deno.errors.IsADirectory || isDirectory(path)) {
      throw new ConfigError(`${named}: found a directory, expected a disk image`);
    }
    if (error instanceof Deno.errors.PermissionDenied || /read-only file system/i.test(messageOf(error))) {
      const hint = readonly ? "" : "; to attach it without writing, make it read-only (readonly)";
      throw new ConfigError(`${named}: the host does not let us ${readonly ? "read" : "write"} it${hint}`);
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
