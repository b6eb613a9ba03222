/**
 * The host's end of a serial port: what every back end shares.
 *
 * A back end moves bytes between a port's two rings and something of the host. It never blocks the event loop, holds a bounded
 * number of bytes, and stops reading from the host while the guest has no room.
 */
import type { ByteRing } from "../base/ring.ts";

export interface SerialPort {
  /** Guest to host. */
  readonly tx: ByteRing;
  /** Host to guest. */
  readonly rx: ByteRing;
  /** Tells the machine that `rx` has more bytes. */
  notifyInput(): void;
  /** Sees each piece of output on its way. */
  onOutput?(bytes: Uint8Array): void;
}

export interface SerialBackEnd {
  /** Starts to move bytes. Called once. */
  attach(port: SerialPort): void;
  /** Delivers what the guest has written so far, then lets go of everything on the host. */
  close(): Promise<void>;
  /** What must not outlive the process, done at once: for exits that cannot wait. */
  abandon(): void;
}

/** Most bytes taken from a ring, or asked of the host, at a time. */
export const CHUNK_BYTES = 64 * 1024;

/** Moves output until the ring is closed and empty. */
export async function pumpOutput(port: SerialPort, write: (bytes: Uint8Array) => Promise<void>): Promise<void> {
  for (;;) {
    const closed = port.tx.closed;
    const bytes = port.tx.read(CHUNK_BYTES);
    if (bytes.length > 0) {
      port.onOutput?.(bytes);
      await write(bytes);
    } else if (closed) return;
    else await port.tx.whenReadable();
  }
}

/** Gives the guest all of `bytes`, as room appears. Ends early if the ring is closed or `wanted` says no. */
export async function putInput(port: SerialPort, bytes: Uint8Array, wanted: () => boolean = () => true): Promise<void> {
  let at = 0;
  for (;;) {
    const taken = port.rx.write(bytes.subarray(at));
    at += taken;
    if (taken > 0) port.notifyInput();
    if (at >= bytes.length || port.rx.closed) return;
    await port.rx.whenWritable(LOOK_AGAIN_MS);
    if (!wanted()) return;
  }
}

/** How long a writer may take to see that nobody wants its bytes any more. */
const LOOK_AGAIN_MS = 500;

/** Writes all of `bytes`; a stream may take them piece by piece. */
export async function writeAll(to: { write(bytes: Uint8Array): Promise<number> }, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await to.write(bytes.subarray(at));
}

/** The last bytes written while nobody listened. */
export class Backlog {
  #bytes = new Uint8Array(0);

  constructor(private readonly limit = CHUNK_BYTES) {}

  add(bytes: Uint8Array): void {
    const kept = this.#bytes.subarray(Math.max(0, this.#bytes.length + bytes.length - this.limit));
    const added = bytes.subarray(Math.max(0, bytes.length - this.limit));
    const both = new Uint8Array(kept.length + added.length);
    both.set(kept);
    both.set(added, kept.length);
    this.#bytes = both;
  }

  take(): Uint8Array {
    const bytes = this.#bytes;
    this.#bytes = new Uint8Array(0);
    return bytes;
  }
}
