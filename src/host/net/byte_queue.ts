/** A queue of bytes in one ring, which grows when it must and up to a limit, and shrinks when it is empty. */

const LEAST_BYTES = 16 * 1024;

export class ByteQueue {
  #ring: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #start = 0;
  #length = 0;

  /** `limit` is a power of two, at least LEAST_BYTES. */
  constructor(readonly limit: number) {}

  get length(): number {
    return this.#length;
  }

  get space(): number {
    return this.limit - this.#length;
  }

  #resize(sizeBytes: number): void {
    const ring = new Uint8Array(sizeBytes);
    this.copy(0, ring.subarray(0, this.#length));
    this.#ring = ring;
    this.#start = 0;
  }

  /** Makes the ring larger if `more` bytes do not fit. Not while a stretch given out by `tail` is being written. */
  reserve(more: number): void {
    const wanted = Math.min(this.limit, this.#length + more);
    let size = Math.max(LEAST_BYTES, this.#ring.length);
    while (size < wanted) size *= 2;
    if (size > this.#ring.length) this.#resize(size);
  }

  /** Room behind the last byte, in one piece; call `commit` with how much of it was filled. */
  tail(): Uint8Array<ArrayBuffer> {
    const size = this.#ring.length;
    const end = (this.#start + this.#length) % (size || 1);
    const room = Math.min(size - this.#length, size - end);
    return this.#ring.subarray(end, end + room);
  }

  commit(count: number): void {
    this.#length += count;
  }

  /** Adds all of `bytes`, for which there is space. */
  push(bytes: Uint8Array): void {
    this.reserve(bytes.length);
    for (let at = 0; at < bytes.length;) {
      const room = this.tail();
      const n = Math.min(room.length, bytes.length - at);
      room.set(bytes.subarray(at, at + n));
      this.commit(n);
      at += n;
    }
  }

  /** The first bytes, in one piece. Stays as it is until they are consumed. */
  front(): Uint8Array<ArrayBuffer> {
    return this.#ring.subarray(this.#start, Math.min(this.#ring.length, this.#start + this.#length));
  }

  consume(count: number): void {
    this.#length -= count;
    this.#start = (this.#start + count) % this.#ring.length;
  }

  /** Gives memory back while nothing is in it and nobody holds a stretch of it. */
  shrink(): void {
    if (this.#length > 0 || this.#ring.length <= LEAST_BYTES) return;
    this.#ring = new Uint8Array(0);
    this.#start = 0;
  }

  /** Copies the bytes from `offset` on into `to`, all of which are there. */
  copy(offset: number, to: Uint8Array): void {
    const size = this.#ring.length;
    for (let at = 0; at < to.length;) {
      const from = (this.#start + offset + at) % size;
      const n = Math.min(size - from, to.length - at);
      to.set(this.#ring.subarray(from, from + n), at);
      at += n;
    }
  }
}
