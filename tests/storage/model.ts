/** A disk that is only an array, and random work done on it and on an image alike. */
import { assertEquals } from "@std/assert";
import type { DiskImage } from "../../src/host/disk/image.ts";
import { Random } from "../laws/bench.ts";

export { Random };

/** What a disk holds. Where a discard left it open, `loose` is 1. */
export class Model {
  readonly bytes: Uint8Array;
  readonly loose: Uint8Array;

  constructor(sizeBytes: number) {
    this.bytes = new Uint8Array(sizeBytes);
    this.loose = new Uint8Array(sizeBytes / 512);
  }

  set(offset: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, offset);
    this.loose.fill(0, offset / 512, (offset + bytes.length) / 512);
  }

  /** Compares all of an image; what was discarded may be anything, and is then known. */
  compare(image: DiskImage, what: string): void {
    const all = new Uint8Array(this.bytes.length);
    image.read(0, all);
    for (let s = 0; s < this.loose.length; s++) {
      const now = all.subarray(512 * s, 512 * s + 512);
      if (this.loose[s]) this.set(512 * s, now);
    }
    for (let i = 0; i < all.length; i++) {
      if (all[i] !== this.bytes[i]) {
        assertEquals(all.slice(i, i + 16), this.bytes.slice(i, i + 16), `${what}: at byte ${i}`);
      }
    }
  }
}

/** A stretch of whole sectors, mostly short ones. */
export function stretch(random: Random, sectors: number): [offset: number, sizeBytes: number] {
  const first = random.below(sectors);
  const most = Math.min(sectors - first, random.pick([1, 8, 64, 300]));
  return [512 * first, 512 * (1 + random.below(most))];
}

export function noise(random: Random, sizeBytes: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(sizeBytes);
  const words = new Uint32Array(bytes.buffer, 0, sizeBytes >> 2);
  for (let i = 0; i < words.length; i++) words[i] = random.next();
  return bytes;
}

/** One random operation on both. */
export function operate(image: DiskImage, model: Model, random: Random): string {
  const [offset, size] = stretch(random, model.bytes.length / 512);
  switch (random.below(10)) {
    case 0: {
      image.discard(offset, size);
      model.loose.fill(1, offset / 512, (offset + size) / 512);
      return `discard ${offset} ${size}`;
    }
    case 1:
    case 2: {
      const unmap = random.chance(50);
      image.writeZeroes(offset, size, unmap);
      model.set(offset, new Uint8Array(size));
      return `zeroes ${offset} ${size} ${unmap}`;
    }
    case 3:
      image.flush();
      return "flush";
    default: {
      const bytes = noise(random, size);
      image.write(offset, bytes);
      model.set(offset, bytes);
      return `write ${offset} ${size}`;
    }
  }
}
