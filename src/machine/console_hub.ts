/**
 * The first serial port for whoever attaches to it: all of them see the guest's output, any of them may type. A watcher that
 * does not take what it is given is let go, so that nobody holds up the guest.
 */
import { putInput, type SerialPort } from "../host/serial_port.ts";

/** How much of the output before it a newcomer sees. */
const RECENT_BYTES = 16 * 1024;
/** How much a watcher may be behind. */
const MAX_BEHIND_BYTES = 256 * 1024;

export interface Watcher {
  /** Resolves when the bytes have been taken; rejects if nobody will. */
  write(bytes: Uint8Array): Promise<unknown>;
  /** It is behind, or gone. */
  drop(): void;
}

interface Watching {
  readonly watcher: Watcher;
  behindBytes: number;
  writing: Promise<void>;
}

export class ConsoleHub {
  #port: SerialPort | null = null;
  #recent = new Uint8Array(0);
  readonly #watching = new Set<Watching>();

  /** Where input goes. */
  attach(port: SerialPort): void {
    this.#port = port;
  }

  /** Sees a piece of output; keeps nothing of the array. */
  see(bytes: Uint8Array): void {
    const all = new Uint8Array(this.#recent.length + bytes.length);
    all.set(this.#recent);
    all.set(bytes, this.#recent.length);
    this.#recent = all.slice(-RECENT_BYTES);
    if (this.#watching.size === 0) return;
    const copy = bytes.slice();
    for (const one of this.#watching) this.#send(one, copy);
  }

  /** Begins to watch, with the output that came last; returns how to end it. */
  watch(watcher: Watcher): () => void {
    const one: Watching = { watcher, behindBytes: 0, writing: Promise.resolve() };
    this.#watching.add(one);
    if (this.#recent.length > 0) this.#send(one, this.#recent);
    return () => this.#watching.delete(one);
  }

  /** Types; resolves when the guest has room for it, or `wanted` says no. */
  async type(bytes: Uint8Array, wanted: () => boolean): Promise<void> {
    if (this.#port) await putInput(this.#port, bytes, wanted);
  }

  /** Resolves once all watchers have what they can be given within `ms`. */
  async flush(ms: number): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, ms));
    await Promise.race([late, Promise.all([...this.#watching].map(({ writing }) => writing))]);
    clearTimeout(timer);
  }

  #send(one: Watching, bytes: Uint8Array): void {
    one.behindBytes += bytes.length;
    if (one.behindBytes > MAX_BEHIND_BYTES) return this.#drop(one);
    one.writing = one.writing.then(async () => {
      if (!this.#watching.has(one)) return;
      try {
        await one.watcher.write(bytes);
        one.behindBytes -= bytes.length;
      } catch {
        this.#drop(one);
      }
    });
  }

  #drop(one: Watching): void {
    if (this.#watching.delete(one)) one.watcher.drop();
  }
}
