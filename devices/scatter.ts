/**
 * Guest memory in pieces, as a controller's tables describe it, and moving data between it and a disk.
 *
 * A piece that goes on where the one before it ends is joined to it. Pieces may have any length; the disk is asked for whole
 * sectors, and one that lies across two pieces goes through a buffer.
 */
import type { GuestRam } from "../src/base/ram.ts";
import { type BlockBackend, SECTOR_BYTES } from "./block_backend.ts";

export class Scatter {
  /** All pieces together. */
  bytes = 0;
  readonly #gpa: number[] = [];
  readonly #size: number[] = [];
  readonly #sector = new Uint8Array(SECTOR_BYTES);
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

  /** Moves whole sectors from the disk, or to it; there is room for them. False if the medium failed. */
  transfer(backend: BlockBackend, toGuest: boolean, offset: number, sizeBytes: number): boolean {
    for (let done = 0; done < sizeBytes;) {
      const gpa = this.#gpa[this.#piece]! + this.#at, left = this.#size[this.#piece]! - this.#at;
      const n = Math.min(left - left % SECTOR_BYTES, sizeBytes - done);
      if (n === 0) {
        if (!this.#across(backend, toGuest, offset + done)) return false;
        done += SECTOR_BYTES;
        continue;
      }
      const bytes = this.ram.bytes(gpa, n)!;
      const ok = toGuest ? backend.read(offset + done, bytes) : backend.write(offset + done, bytes);
      if (toGuest) this.ram.wrote(gpa, n); // a read that failed may have written some
      if (!ok) return false;
      this.#skip(n);
      done += n;
    }
    return true;
  }

  /** A sector that lies in more than one piece. */
  #across(backend: BlockBackend, toGuest: boolean, offset: number): boolean {
    if (toGuest) {
      if (!backend.read(offset, this.#sector)) return false;
      this.put(this.#sector);
      return true;
    }
    this.take(this.#sector);
    return backend.write(offset, this.#sector);
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
