/** A disk whose bytes lie in a file, or on a block device, as they are. */
import { type DiskImage, type Extent, isZero } from "./image.ts";
import type { FileStore } from "./store.ts";

const CHUNK_BYTES = 1 << 20;
export const SECTOR_BYTES = 512;

export class RawImage implements DiskImage {
  readonly format = "raw";
  readonly backing = null;
  #sizeBytes: number;
  #zeroes: Uint8Array | null = null;
  #chunk: Uint8Array | null = null;

  /** Takes over the store. What is behind the last whole sector is left out. */
  constructor(private readonly store: FileStore, private readonly writable: boolean) {
    this.#sizeBytes = store.sizeBytes - store.sizeBytes % SECTOR_BYTES;
  }

  get sizeBytes(): number {
    return this.#sizeBytes;
  }

  get reclaims(): boolean {
    return this.writable && this.store.punches;
  }

  get fileBytes(): number {
    return this.store.sizeBytes;
  }

  read(offset: number, into: Uint8Array): void {
    if (offset + into.length > this.store.sizeBytes || this.store.read(offset, into) < into.length) {
      throw new Error("the file has become shorter");
    }
  }

  get announces(): boolean {
    return this.store.announces;
  }

  announce(offset: number, sizeBytes: number): void {
    this.store.announce(offset, sizeBytes);
  }

  write(offset: number, from: Uint8Array): void {
    if (!this.writable) throw new Error("the disk is read-only");
    // Writing past the end would hide that the file was cut under us.
    if (this.store.measure() < offset + from.length) throw new Error("the file has become shorter");
    this.store.write(offset, from);
  }

  flush(): void {
    if (this.writable) this.store.sync();
  }

  discard(offset: number, sizeBytes: number): void {
    this.writeZeroes(offset, sizeBytes, true);
  }

  /** With `mayUnmap` a hole, where the host makes one; else zeros where there are none yet, so that holes stay holes. */
  writeZeroes(offset: number, sizeBytes: number, mayUnmap: boolean): void {
    if (!this.writable) throw new Error("the disk is read-only");
    if (mayUnmap && this.store.punch(offset, sizeBytes)) return;
    const zeroes = this.#zeroes ??= new Uint8Array(CHUNK_BYTES);
    const chunk = this.#chunk ??= new Uint8Array(CHUNK_BYTES);
    for (let done = 0; done < sizeBytes; done += CHUNK_BYTES) {
      const n = Math.min(CHUNK_BYTES, sizeBytes - done);
      if (mayUnmap) {
        const old = chunk.subarray(0, n);
        this.read(offset + done, old);
        if (isZero(old)) continue;
      }
      this.write(offset + done, zeroes.subarray(0, n));
    }
  }

  /** What is in the file is data; whether it is zeros, only reading tells. */
  extentAt(offset: number, maxBytes: number): Extent {
    const n = Math.min(maxBytes, CHUNK_BYTES, this.sizeBytes - offset);
    const chunk = (this.#chunk ??= new Uint8Array(CHUNK_BYTES)).subarray(0, n);
    this.read(offset, chunk);
    return isZero(chunk) ? { kind: "zero", sizeBytes: n, at: null } : { kind: "data", sizeBytes: n, at: offset };
  }

  resize(sizeBytes: number): void {
    this.store.resize(sizeBytes);
    this.#sizeBytes = sizeBytes - sizeBytes % SECTOR_BYTES;
  }

  close(): void {
    this.store.close();
  }
}
