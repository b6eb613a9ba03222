/** A disk's bytes, whatever the format they are kept in. */
import { ConfigError } from "../../base/errors.ts";

/** How a stretch of an image is kept. "absent": the image says nothing, and what is behind it, or zeros, is seen. */
export type ExtentKind = "data" | "zero" | "absent";

export interface Extent {
  readonly kind: ExtentKind;
  readonly sizeBytes: number;
  /** Where the bytes are in the file, if they lie there as they are. */
  readonly at: number | null;
}

/** Methods throw an Error that says what went wrong. Offsets and lengths lie inside the image. */
export interface DiskImage {
  readonly format: "raw" | "qcow2";
  readonly sizeBytes: number;
  /** Whether a discard gives something back: else it only costs time. */
  readonly reclaims: boolean;
  /** Of the file it is in. */
  readonly fileBytes: number;
  /** What is seen where this image is absent. */
  readonly backing: DiskImage | null;
  read(offset: number, into: Uint8Array): void;
  /** Whether `announce` may do something. */
  readonly announces: boolean;
  /** These bytes will be read soon: the host may begin. Waits for nothing. */
  announce(offset: number, sizeBytes: number): void;
  write(offset: number, from: Uint8Array): void;
  /** Returns once everything written is on stable storage. */
  flush(): void;
  /** The bytes are no longer needed; what they read as afterwards is not said. */
  discard(offset: number, sizeBytes: number): void;
  /** `mayUnmap`: storage under the zeros need not stay allocated. */
  writeZeroes(offset: number, sizeBytes: number, mayUnmap: boolean): void;
  /** The extent that starts at `offset`, at most `maxBytes` of it. */
  extentAt(offset: number, maxBytes: number): Extent;
  resize(sizeBytes: number): void;
  /** Writes what is kept back, and lets go of the files. */
  close(): void;
}

/** An image that cannot be used as it is: the user has to mend or to name another. */
export class ImageError extends ConfigError {
  override name = "ImageError";
}

/** Whether every byte is zero. */
export function isZero(bytes: Uint8Array): boolean {
  const lead = Math.min(bytes.length, (8 - (bytes.byteOffset & 7)) & 7);
  const words = (bytes.length - lead) >> 3;
  for (let i = 0; i < lead; i++) if (bytes[i] !== 0) return false;
  const ints = new Int32Array(bytes.buffer, bytes.byteOffset + lead, 2 * words);
  for (let i = 0; i < ints.length; i++) if (ints[i] !== 0) return false;
  for (let i = lead + 8 * words; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}

/** Reads from what lies behind an image: zeros where there is nothing or where it ends. */
export function readBehind(backing: DiskImage | null, offset: number, into: Uint8Array): void {
  const there = backing === null ? 0 : Math.min(into.length, Math.max(0, backing.sizeBytes - offset));
  if (there > 0) backing!.read(offset, there === into.length ? into : into.subarray(0, there));
  if (there < into.length) into.fill(0, there);
}
