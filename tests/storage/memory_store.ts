/** Stores for tests: in memory, and one that writes down what it was asked for. */
import type { ByteStore } from "../../src/host/disk/store.ts";

export class MemoryStore implements ByteStore {
  readonly name: string = "memory";
  sizeBytes: number;
  #bytes: Uint8Array<ArrayBuffer>;

  constructor(bytes: Uint8Array = new Uint8Array(0)) {
    this.#bytes = new Uint8Array(Math.max(4096, bytes.length));
    this.#bytes.set(bytes);
    this.sizeBytes = bytes.length;
  }

  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.sizeBytes);
  }

  read(at: number, into: Uint8Array): number {
    const n = Math.max(0, Math.min(into.length, this.sizeBytes - at));
    if (n > 0) into.set(this.#bytes.subarray(at, at + n));
    into.fill(0, n);
    return n;
  }

  write(at: number, from: Uint8Array): void {
    if (at + from.length > this.sizeBytes) this.resize(at + from.length);
    this.#bytes.set(from, at);
  }

  resize(sizeBytes: number): void {
    if (sizeBytes > 1 << 28) throw new Error("no space left");
    if (sizeBytes > this.#bytes.length) {
      const more = new Uint8Array(Math.max(sizeBytes, 2 * this.#bytes.length));
      more.set(this.#bytes);
      this.#bytes = more;
    }
    if (sizeBytes < this.sizeBytes) this.#bytes.fill(0, sizeBytes, this.sizeBytes);
    this.sizeBytes = sizeBytes;
  }

  sync(): void {}

  punch(at: number, sizeBytes: number): boolean {
    this.#bytes.fill(0, at, Math.min(this.sizeBytes, at + sizeBytes));
    return true;
  }

  /** What was announced: where, and how much. */
  readonly announced: [number, number][] = [];
  announces = false;

  announce(at: number, sizeBytes: number): void {
    this.announced.push([at, sizeBytes]);
  }

  close(): void {}
}

export type Step =
  | { readonly kind: "write"; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: "resize"; readonly sizeBytes: number }
  | { readonly kind: "sync" };

/** Keeps every change, in order. */
export class RecordingStore extends MemoryStore {
  readonly steps: Step[] = [];

  override write(at: number, from: Uint8Array): void {
    super.write(at, from);
    this.steps.push({ kind: "write", at, bytes: from.slice() });
  }

  override resize(sizeBytes: number): void {
    const grows = sizeBytes > this.sizeBytes;
    super.resize(sizeBytes);
    // A write behind the end comes here too, and is a step of its own.
    if (grows || sizeBytes === 0) this.steps.push({ kind: "resize", sizeBytes });
  }

  override sync(): void {
    this.steps.push({ kind: "sync" });
  }

  override punch(at: number, sizeBytes: number): boolean {
    this.write(at, new Uint8Array(Math.min(sizeBytes, this.sizeBytes - at)));
    return true;
  }
}
