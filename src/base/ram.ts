/**
 * Guest RAM as devices and loaders see it: bounds-checked, little-endian, in guest-physical addresses.
 *
 * RAM is one stretch from guest-physical 0 that lies `base` bytes into the machine's shared memory. Whoever writes to it from
 * outside a vCPU must say so, because a vCPU may have decoded instructions from those bytes: the write methods do it
 * themselves; after writing through `bytes`, call `wrote`.
 */
import { Bug } from "./errors.ts";

export class GuestRam {
  readonly #dv: DataView;
  readonly #u8: Uint8Array;
  /** Called after bytes of RAM changed. */
  onWrite: (gpa: number, sizeBytes: number) => void = () => {};

  /** `extraBytes` after it are backing of what is no RAM to the guest: see MemoryMap. */
  constructor(
    readonly buffer: ArrayBufferLike,
    readonly base: number,
    readonly sizeBytes: number,
    readonly extraBytes = 0,
  ) {
    this.#dv = new DataView(buffer, base, sizeBytes);
    this.#u8 = new Uint8Array(buffer, base, sizeBytes);
  }

  /** RAM and what lies after it. */
  get backedBytes(): number {
    return this.sizeBytes + this.extraBytes;
  }

  /** What lies after RAM, `at` bytes into it. */
  extra(at: number, sizeBytes: number): Uint8Array {
    if (at < 0 || sizeBytes < 0 || at + sizeBytes > this.extraBytes) {
      throw new Bug(`${sizeBytes} bytes at ${at} of none`);
    }
    return new Uint8Array(this.buffer, this.base + this.sizeBytes + at, sizeBytes);
  }

  /** RAM of its own memory: for tests. */
  static private(sizeBytes = 1 << 20): GuestRam {
    return new GuestRam(new SharedArrayBuffer(sizeBytes), 0, sizeBytes);
  }

  /** Whether the whole stretch is RAM. */
  contains(gpa: number, sizeBytes: number): boolean {
    return gpa >= 0 && sizeBytes >= 0 && gpa + sizeBytes <= this.sizeBytes;
  }

  /** The bytes themselves, or undefined if any of them is not RAM. */
  bytes(gpa: number, sizeBytes: number): Uint8Array | undefined {
    return this.contains(gpa, sizeBytes) ? this.#u8.subarray(gpa, gpa + sizeBytes) : undefined;
  }

  /** Tells that bytes taken from `bytes` were written. */
  wrote(gpa: number, sizeBytes: number): void {
    this.onWrite(gpa, sizeBytes);
  }

  /** Reads 1, 2 or 4 bytes; all ones outside RAM. */
  read(gpa: number, size: 1 | 2 | 4): number {
    if (!this.contains(gpa, size)) return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
    return size === 4
      ? this.#dv.getUint32(gpa, true)
      : size === 2
      ? this.#dv.getUint16(gpa, true)
      : this.#dv.getUint8(gpa);
  }

  /** Writes 1, 2 or 4 bytes; ignored outside RAM. */
  write(gpa: number, size: 1 | 2 | 4, value: number): void {
    if (!this.contains(gpa, size)) return;
    if (size === 4) this.#dv.setUint32(gpa, value, true);
    else if (size === 2) this.#dv.setUint16(gpa, value, true);
    else this.#dv.setUint8(gpa, value);
    this.onWrite(gpa, size);
  }

  /** Reads a 64-bit number; what lies above 2^53 is rounded, so only for addresses and lengths that are then checked. */
  read64(gpa: number): number {
    return this.read(gpa, 4) + this.read(gpa + 4, 4) * 0x1_0000_0000;
  }

  write64(gpa: number, value: number): void {
    this.write(gpa, 4, value >>> 0);
    this.write(gpa + 4, 4, Math.floor(value / 0x1_0000_0000) >>> 0);
  }

  /** Copies bytes in; false (and nothing written) if they do not fit. */
  copyIn(gpa: number, bytes: Uint8Array): boolean {
    if (!this.contains(gpa, bytes.length)) return false;
    this.#u8.set(bytes, gpa);
    this.onWrite(gpa, bytes.length);
    return true;
  }
}
