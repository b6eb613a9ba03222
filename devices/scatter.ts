/**
 * Guest memory in pieces, as a controller's tables describe it, and moving data between it and a disk.
 *
 * A piece that goes on where the one before it ends is joined to it. Pieces may have any length; the disk is asked for whole
 * sectors.
 */
import type { GuestRam } from "../src/base/ram.ts";
import { type BlockBackend, SECTOR_BYTES } from "./block_backend.ts";

/** Pieces from this length on are worth a call of their own. */
const DIRECT_BYTES = 32 * 1024;
/** Not more than a processor's cache holds. */
const BUFFER_BYTES = 256 * 1024;

export class Scatter {
  /** All pieces together. */
  bytes = 0;
  readonly #gpa: number[] = [];
  readonly #size: number[] = [];
  #buffer: Uint8Array | null = null;
  // Where the next byte goes.
  #piece = 0;
  #at = 0;

  constructor(private readonly ram: GuestRam) {}

  start(): void {
    this.#gpa.length = this.#size.length = 0;
    this.bytes = this.#piece = this.#at = 0;
  }

  get pieces(): number {
    return this.#gpa.length;
  }

  /** Adds a piece; false if it is not RAM. */
  add(gpa: number, sizeBytes: number): boolean {
    if (!this.ram.contains(gpa, sizeBytes)) return false;
    const last = this.#gpa.length - 1;
    if (last >= 0 && this.#gpa[last]! + this.#size[last]! === gpa) this.#size[last]! += sizeBytes;
    else {
      this.#gpa.push(gpa);
      this.#size.push(sizeBytes);
    }
    this.bytes += sizeBytes;
    return true;
  }

  /**
   * Moves whole sectors from the disk, or to it; there is room for them. Long pieces are handed to the disk as they are; short
   * ones go through a buffer together, as a call of the host's costs more than a copy of a few pages. False if the medium failed.
   */
  transfer(backend: BlockBackend, toGuest: boolean, offset: number, sizeBytes: number): boolean {
    for (let done = 0; done < sizeBytes;) {
      const gpa = this.#gpa[this.#piece]! + this.#at, left = this.#size[this.#piece]! - this.#at;
      const wanted = sizeBytes - done;
      if (left < wanted && left < DIRECT_BYTES) {
        const n = Math.min(wanted, BUFFER_BYTES);
        if (!this.#buffered(backend, toGuest, offset + done, n)) return false;
        done += n;
        continue;
      }
      const n = Math.min(left - left % SECTOR_BYTES, wanted);
      const bytes = this.ram.bytes(gpa, n)!;
      const ok = toGuest ? backend.read(offset + done, bytes) : backend.write(offset + done, bytes);
      if (toGuest) this.ram.wrote(gpa, n); // a read that failed may have written some
      if (!ok) return false;
      this.#skip(n);
      done += n;
    }
    return true;
  }

  /** The buffer is shared memory too: between two of those, bytes are copied twice as fast as from one's own. */
  #buffered(backend: BlockBackend, toGuest: boolean, offset: number, sizeBytes: number): boolean {
    const buffer = (this.#buffer ??= new Uint8Array(new SharedArrayBuffer(BUFFER_BYTES))).subarray(0, sizeBytes);
    if (toGuest) {
      if (!backend.read(offset, buffer)) return false;
      this.put(buffer);
      return true;
    }
    this.take(buffer);
    return backend.write(offset, buffer);
  }

  #skip(n: number): void {
    this.#at += n;
    if (this.#at === this.#size[this.#piece]) {
      this.#piece++;
      this.#at = 0;
    }
  }

  /** Copies bytes to the guest, as many as there is room for; returns how many. */
  put(from: Uint8Array): number {
    let done = 0;
    while (done < from.length && this.#piece < this.#gpa.length) {
      const n = Math.min(this.#size[this.#piece]! - this.#at, from.length - done);
      this.ram.copyIn(this.#gpa[this.#piece]! + this.#at, from.subarray(done, done + n));
      this.#skip(n);
      done += n;
    }
    return done;
  }

  /** Copies bytes from the guest, as many as there are; returns how many. */
  take(into: Uint8Array): number {
    let done = 0;
    while (done < into.length && this.#piece < this.#gpa.length) {
      const n = Math.min(this.#size[this.#piece]! - this.#at, into.length - done);
      into.set(this.ram.bytes(this.#gpa[this.#piece]! + this.#at, n)!, done);
      this.#skip(n);
      done += n;
    }
    return done;
  }
}
