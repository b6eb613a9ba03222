/**
 * Keeps what firmware remembers in a file: the flash chip's array, written back a moment after it has changed.
 *
 * The chip only counts changes in a shared word, under the machine lock; the file is written on the main thread, whole, into a
 * new file that then takes the old one's place, so that a power cut leaves either.
 */
import { HostError, messageOf } from "../base/errors.ts";

/** Firmware writes byte by byte: wait until it pauses. */
const SETTLE_MS = 200;

export class VarsKeeper {
  #written: number;
  #closed = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** `changes[0]` counts; `bytes` is the array. */
  constructor(
    private readonly path: string,
    private readonly bytes: Uint8Array,
    private readonly changes: Int32Array,
    private readonly onTrouble: (sentence: string) => void,
  ) {
    this.#written = Atomics.load(changes, 0);
    this.#look();
  }

  #look(): void {
    this.#timer = setTimeout(() => {
      this.#save();
      if (!this.#closed) this.#look();
    }, SETTLE_MS);
  }

  #save(): void {
    const now = Atomics.load(this.changes, 0);
    if (now === this.#written) return;
    this.#written = now;
    const part = `${this.path}.part`;
    try {
      const file = Deno.openSync(part, { write: true, create: true, truncate: true });
      try {
        for (let at = 0; at < this.bytes.length;) at += file.writeSync(this.bytes.slice(at));
        file.syncSync();
      } finally {
        file.close();
      }
      Deno.renameSync(part, this.path);
    } catch (error) {
      const why = new HostError(`Cannot keep firmware variables in "${this.path}": ${messageOf(error)}`);
      this.onTrouble(why.message);
    }
  }

  /** Writes what is not written yet. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#save();
  }
}
