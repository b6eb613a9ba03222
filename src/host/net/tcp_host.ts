/** The host's socket behind a connection: what it reads goes into one queue, what is in the other it writes. */
import type { ByteQueue } from "./byte_queue.ts";
import type { HostStream } from "./host_sockets.ts";

export interface HostEvents {
  /** More bytes are in the queue to the guest, or no more will come. */
  came(end: boolean): void;
  /** Bytes have left the queue from the guest. */
  took(): void;
  /** Writing has ended, as `finish` asked. */
  finished(): void;
  /** The host has reset the connection. */
  failed(): void;
}

export class HostSide {
  #closed = false;
  #writing = false;
  /** Nothing follows what is in the queue. */
  #finish = false;
  finished = false;
  #wakeReader: (() => void) | null = null;

  constructor(
    private readonly stream: HostStream,
    private readonly toGuest: ByteQueue,
    private readonly fromGuest: ByteQueue,
    private readonly events: HostEvents,
  ) {}

  /** Reads until the end, and no faster than the guest takes it. */
  async read(): Promise<void> {
    const queue = this.toGuest;
    let full = false;
    while (!this.#closed) {
      if (queue.space === 0) {
        await new Promise<void>((resolve) => this.#wakeReader = resolve);
        this.#wakeReader = null;
        continue;
      }
      // A read that filled all there was deserves more, and one that did not gives it back.
      if (queue.length === 0 && !full) queue.shrink();
      queue.reserve(full ? queue.tail().length + 1 : 1);
      const tail = queue.tail();
      let n: number | null;
      try {
        n = await this.stream.read(tail);
      } catch {
        return this.#fail();
      }
      if (this.#closed) return;
      if (n === null) return this.events.came(true);
      queue.commit(n);
      full = n === tail.length;
      this.events.came(false);
    }
  }

  /** There may be space in the queue to the guest. */
  drained(): void {
    this.#wakeReader?.();
  }

  /** Writes what is in the queue from the guest. */
  async write(): Promise<void> {
    if (this.#writing || this.#closed) return;
    this.#writing = true;
    try {
      while (this.fromGuest.length > 0) {
        const n = await this.stream.write(this.fromGuest.front());
        if (this.#closed) return;
        this.fromGuest.consume(n);
        this.events.took();
      }
      this.fromGuest.shrink();
      if (this.#finish && !this.finished) {
        this.finished = true;
        await this.stream.closeWrite();
        if (!this.#closed) this.events.finished();
      }
    } catch {
      this.#fail();
    } finally {
      this.#writing = false;
    }
    // Bytes or an end that came while the last write ended.
    if (this.fromGuest.length > 0 || (this.#finish && !this.finished)) void this.write();
  }

  /** Ends writing once the queue from the guest is empty. */
  finish(): void {
    this.#finish = true;
    void this.write();
  }

  #fail(): void {
    if (!this.#closed) this.events.failed();
  }

  close(): void {
    this.#closed = true;
    this.stream.close();
    this.#wakeReader?.();
  }
}
