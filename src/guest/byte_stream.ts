/** Exact reads over a stream of chunks whose borders mean nothing. */
export class ByteStream {
  readonly #chunks: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);
  #at = 0;

  constructor(chunks: AsyncIterable<Uint8Array>) {
    this.#chunks = chunks[Symbol.asyncIterator]();
  }

  /** The next `length` bytes in a buffer of their own; null when the stream ended before the first of them. */
  async read(length: number): Promise<Uint8Array<ArrayBuffer> | null> {
    const out = new Uint8Array(length);
    let filled = 0;
    while (filled < length) {
      if (!(await this.#more())) {
        if (filled === 0) return null;
        throw new Error(`the data ends ${length - filled} bytes early`);
      }
      const part = this.#chunk.subarray(this.#at, this.#at + length - filled);
      out.set(part, filled);
      filled += part.length;
      this.#at += part.length;
    }
    return out;
  }

  async skip(length: number): Promise<void> {
    while (length > 0) {
      if (!(await this.#more())) throw new Error(`the data ends ${length} bytes early`);
      const step = Math.min(length, this.#chunk.length - this.#at);
      this.#at += step;
      length -= step;
    }
  }

  /** Gives up the source, so that a decompressor behind it is freed. What it says to that changes nothing any more. */
  async close(): Promise<void> {
    try {
      await this.#chunks.return?.();
    } catch {
      // xz-decompress objects when it had already come to its end
    }
  }

  async #more(): Promise<boolean> {
    while (this.#at >= this.#chunk.length) {
      const next = await this.#chunks.next();
      if (next.done) return false;
      this.#chunk = next.value;
      this.#at = 0;
    }
    return true;
  }
}
