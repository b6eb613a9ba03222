/**
 * The thread that compiles regions: for one vCPU, or for all of a machine, which then share what is compiled.
 *
 * What it has made for one vCPU it tells the others in a ring of words that they look at when they like: how many there were,
 * then the guest-physical addresses, the last ones of them.
 */
import { messageOf } from "../../base/errors.ts";
import type { SharedCompiler } from "../engine.ts";

const RING = 255;
export const NEWS_BYTES = (RING + 1) * 4;

export class CompilerThread {
  readonly #worker = new Worker(new URL("./compile_worker.ts", import.meta.url), { type: "module", name: "compile" });
  readonly #news = new SharedArrayBuffer(NEWS_BYTES);

  /** `failed` hears of what it does not catch itself: then nothing is compiled any more. */
  constructor(failed?: (sentence: string) => void) {
    if (!failed) return;
    this.#worker.onerror = (e) => {
      e.preventDefault();
      failed(`Hot code is not compiled any more: ${messageOf(e.error ?? e.message)}`);
    };
  }

  /** A vCPU's way to it. */
  link(): SharedCompiler {
    const { port1, port2 } = new MessageChannel();
    this.#worker.postMessage({ port: port2, news: this.#news }, [port2]);
    return { port: port1, news: this.#news };
  }

  terminate(): void {
    this.#worker.terminate();
  }
}

/** One writer. */
export class NewsWriter {
  readonly #words: Int32Array;
  constructor(news: SharedArrayBuffer) {
    this.#words = new Int32Array(news);
  }
  tell(gpa: number): void {
    const count = this.#words[0]!;
    Atomics.store(this.#words, 1 + (count >>> 0) % RING, gpa);
    Atomics.store(this.#words, 0, (count + 1) | 0);
  }
}

export class NewsReader {
  readonly #words: Int32Array;
  #seen = 0;
  constructor(news: SharedArrayBuffer) {
    this.#words = new Int32Array(news);
  }
  /** Hears what is new; what has been written over meanwhile may be told twice or not at all. */
  read(hear: (gpa: number) => void): void {
    const count = Atomics.load(this.#words, 0);
    if (count === this.#seen) return;
    const fresh = Math.min(RING, (count - this.#seen) >>> 0);
    for (let n = (count - fresh) >>> 0; n !== count >>> 0; n = (n + 1) >>> 0) {
      hear(Atomics.load(this.#words, 1 + n % RING) >>> 0);
    }
    this.#seen = count;
  }
}
