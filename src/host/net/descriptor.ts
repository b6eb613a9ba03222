/** Waiting until a descriptor of libc can be read, beside the event loop. */
import { POLLFD_EVENTS, POLLIN, SIZEOF_POLLFD, type SocketLibc } from "../../../ffi/socket.ts";

/** How late, at most, the end is seen. */
const POLL_MS = 500;

export class Descriptor {
  #closed = false;
  #pause: Promise<void> | null = null;
  #wake: (() => void) | null = null;

  /** Owns `fd`. `readable` reads what there is, without waiting, and may return a promise to be waited for before the next. */
  constructor(
    private readonly libc: SocketLibc,
    readonly fd: number,
    private readonly readable: () => void | Promise<void>,
  ) {
    void this.#run();
  }

  get closed(): boolean {
    return this.#closed;
  }

  async #run(): Promise<void> {
    // SAFETY: held by this frame until the loop has ended, which waits for every call.
    const poll = new Uint8Array(SIZEOF_POLLFD);
    const view = new DataView(poll.buffer);
    view.setInt32(0, this.fd, true);
    view.setInt16(POLLFD_EVENTS, POLLIN, true);
    while (!this.#closed) {
      const found = await this.libc.poll(poll, 1n, POLL_MS);
      if (this.#closed) break;
      if (found > 0) await this.readable();
      if (this.#pause) await this.#pause;
    }
    this.libc.close(this.fd);
  }

  /** Reads no more until `resume`. */
  pause(): void {
    this.#pause ??= new Promise((resolve) => this.#wake = resolve);
  }

  resume(): void {
    this.#wake?.();
    this.#wake = this.#pause = null;
  }

  /** The descriptor is closed soon. */
  close(): void {
    this.#closed = true;
    this.resume();
  }
}
