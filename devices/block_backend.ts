/** What a disk controller needs of whoever keeps a disk's bytes. */

export const SECTOR_BYTES = 512;
/** Requests behind the one that is served whose reads are announced, at most. */
export const AHEAD = 32;

/**
 * Where a disk's bytes are. Offsets and lengths are in bytes, multiples of 512, inside the disk. False means that the medium
 * failed; a back end may also throw, which means the same.
 */
export interface BlockBackend {
  read(offset: number, into: Uint8Array): boolean;
  /** The medium keeps its readers waiting: it is worth while to `announce` what is read after the next. */
  readonly waits?: boolean;
  /** These bytes, wherever they are, will be read soon. Returns at once, and cannot fail. */
  announce?(offset: number, sizeBytes: number): void;
  write(offset: number, from: Uint8Array): boolean;
  /** True once everything written is on stable storage. */
  flush(): boolean;
  /** The guest no longer needs these bytes. */
  discard(offset: number, sizeBytes: number): boolean;
  /** `mayUnmap`: storage under the zeros need not stay allocated. */
  writeZeroes(offset: number, sizeBytes: number, mayUnmap: boolean): boolean;
}
