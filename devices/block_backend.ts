/** What a disk controller needs of whoever keeps a disk's bytes. */

export const SECTOR_BYTES = 512;

/**
 * Where a disk's bytes are. Offsets and lengths are in bytes, multiples of 512, inside the disk. False means that the medium
 * failed; a back end may also throw, which means the same.
 */
export interface BlockBackend {
  read(offset: number, into: Uint8Array): boolean;
  write(offset: number, from: Uint8Array): boolean;
  /** True once everything written is on stable storage. */
  flush(): boolean;
  /** The guest no longer needs these bytes. */
  discard(offset: number, sizeBytes: number): boolean;
  /** `mayUnmap`: storage under the zeros need not stay allocated. */
  writeZeroes(offset: number, sizeBytes: number, mayUnmap: boolean): boolean;
}
