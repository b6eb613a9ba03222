/**
 * The disks of a machine: images in files and the host's block devices, as devices see them.
 *
 * Each thread that serves a queue opens the files for itself, so no two share a file position; of an image with structures of its
 * own (qcow2) there is one such thread.
 */
import { type BlockBackend, SECTOR_BYTES } from "../../devices/block_backend.ts";
import { messageOf } from "../base/errors.ts";
import type { ImageFormat } from "./disk/format_name.ts";
import type { DiskImage } from "./disk/image.ts";
import { openImage, openOverlay, startsAsQcow2 } from "./disk/open.ts";
import { saveLayers } from "./disk/overlay.ts";

export interface FileBlockOptions {
  readonly path: string;
  readonly readonly: boolean;
  /** By the file's name, if it is not given. */
  readonly format?: ImageFormat;
  /** What is written goes to a temporary file, and is lost at the end. */
  readonly overlay?: boolean;
  /** With an overlay: an image between that and the disk's own. */
  readonly layer?: string;
  /** Give storage that the guest no longer needs back to the host. */
  readonly discard?: boolean;
  /** The flag that named the file, for messages. */
  readonly flag?: string;
  /** Told the first time that the host fails to read, to write and to flush: a guest may try again for ever. */
  readonly onTrouble?: ((sentence: string) => void) | undefined;
}

/**
 * A read is slow that takes so long, and so much longer for each byte: twice what the host needs for what it has in memory. After
 * one of them so many fast ones say that the host waits for nothing any more.
 */
const SLOW_MS = 0.03, SLOW_MS_PER_BYTE = 0.5e-6, FAST_READS = 64;
/** Of one request, at most: the host reads no more ahead in one go. */
const ANNOUNCED_BYTES = 1 << 20;

export class FileBlock implements BlockBackend {
  readonly sizeBytes: number;
  /** What the user should know about the image, if anything. */
  readonly note: string | null;
  /** The last request that the host failed, in words. The guest only sees that it failed. */
  lastError: string | null = null;
  /** Whether it is worth while for a guest to say what it no longer needs. */
  readonly reclaims: boolean;
  readonly #image: DiskImage;
  readonly #path: string;
  readonly #layered: boolean;
  readonly #readonly: boolean;
  readonly #onTrouble: ((sentence: string) => void) | undefined;
  readonly #told = new Set<string>();
  /** Fast reads until no more are announced. */
  #slow = 0;

  private constructor(image: DiskImage, options: FileBlockOptions) {
    this.#image = image;
    this.#path = options.path;
    this.#layered = options.layer !== undefined;
    this.#readonly = options.readonly;
    this.#onTrouble = options.onTrouble;
    this.sizeBytes = image.sizeBytes - image.sizeBytes % SECTOR_BYTES;
    this.reclaims = image.reclaims && options.discard !== false;
    this.note = noteOn(image, options);
  }

  /** Opens an image. Throws ConfigError for what the user can mend, HostError for what the host refuses. */
  static open(options: FileBlockOptions): FileBlock {
    const { path, readonly, format, overlay, layer } = options;
    const named = `${options.flag ?? "--disk"} ${path}`;
    const how = { path, writable: !readonly, format, named, holes: options.discard !== false };
    return new FileBlock(overlay ? openOverlay(how, layer) : openImage(how), options);
  }

  get sectors(): number {
    return this.sizeBytes / SECTOR_BYTES;
  }

  read(offset: number, into: Uint8Array): boolean {
    const image = this.#image;
    try {
      if (!image.announces) {
        image.read(offset, into);
        return true;
      }
      const start = performance.now();
      image.read(offset, into);
      if (performance.now() - start > SLOW_MS + into.length * SLOW_MS_PER_BYTE) this.#slow = FAST_READS;
      else if (this.#slow > 0) this.#slow--;
      return true;
    } catch (error) {
      return this.#failed("read", offset, error);
    }
  }

  get waits(): boolean {
    return this.#slow > 0;
  }

  announce(offset: number, sizeBytes: number): void {
    if (!(sizeBytes > 0) || offset + sizeBytes > this.sizeBytes) return;
    try {
      this.#image.announce(offset, Math.min(sizeBytes, ANNOUNCED_BYTES));
    } catch {
      // Whoever reads there will say what is wrong.
    }
  }

  write(offset: number, from: Uint8Array): boolean {
    if (this.#readonly) return this.#failed("write", offset, READ_ONLY);
    try {
      this.#image.write(offset, from);
      return true;
    } catch (error) {
      return this.#failed("write", offset, error);
    }
  }

  flush(): boolean {
    if (this.#readonly) return true;
    try {
      this.#image.flush();
      return true;
    } catch (error) {
      return this.#failed("flush", 0, error);
    }
  }

  discard(offset: number, sizeBytes: number): boolean {
    if (this.#readonly) return this.#failed("discard", offset, READ_ONLY);
    try {
      this.#image.discard(offset, sizeBytes);
      return true;
    } catch (error) {
      return this.#failed("discard", offset, error);
    }
  }

  writeZeroes(offset: number, sizeBytes: number, mayUnmap: boolean): boolean {
    if (this.#readonly) return this.#failed("write", offset, READ_ONLY);
    try {
      this.#image.writeZeroes(offset, sizeBytes, mayUnmap);
      return true;
    } catch (error) {
      return this.#failed("write", offset, error);
    }
  }

  /** Writes what the overlay holds into a new image. Throws HostError. */
  saveOverlay(path: string): void {
    let base = this.#image.backing!;
    if (this.#layered) base = base.backing!;
    saveLayers(path, this.#image, base, Deno.realPathSync(this.#path));
  }

  close(): void {
    try {
      this.#image.close();
    } catch (error) {
      this.#failed("close", 0, error);
    }
  }

  #failed(verb: string, offset: number, error: unknown): boolean {
    this.lastError = `${this.#path}: ${verb} at byte ${offset}: ${messageOf(error)}`;
    if (!this.#told.has(verb)) {
      this.#told.add(verb);
      this.#onTrouble?.(`${this.lastError}; the guest sees an I/O error`);
    }
    return false;
  }
}

const READ_ONLY = new Error("the disk is read-only");

function noteOn(image: DiskImage, { path, format }: FileBlockOptions): string | null {
  if (image.format !== "raw" || image.backing) return null;
  if (format === undefined && startsAsQcow2(path)) {
    return `${path} begins as a qcow2 image and is used as a raw one; if it is one, say format=qcow2`;
  }
  const fileBytes = image.fileBytes;
  const spare = fileBytes % SECTOR_BYTES;
  if (spare === 0) return null;
  return `${path} is ${fileBytes} bytes, not a multiple of ${SECTOR_BYTES}: its last ${spare} bytes are left out`;
}
