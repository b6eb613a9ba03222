/**
 * The stream back end: frames on a Unix socket that a switch or a NAT of another process listens at. If that goes away the
 * cable is out, and we call again until somebody answers.
 */
import { NO_OFFLOAD } from "../../../devices/virtio/net_header.ts";
import { HostError, messageOf } from "../../base/errors.ts";
import { FramedStream } from "./framed_stream.ts";
import type { HostStream } from "./host_sockets.ts";
import type { NetBackend, Wire } from "./wire.ts";

const RETRY_MS = 1000;

export interface StreamNetParts {
  readonly wire: Wire;
  connect(): Promise<HostStream>;
  /** The other end came or went. */
  linkChanged(up: boolean): void;
  /** Resolves after so long, in the host's time. */
  sleep(ms: number): Promise<void>;
}

export class StreamNet implements NetBackend {
  #stream: FramedStream | null = null;
  #closed = false;
  #wakeReader: (() => void) | null = null;

  constructor(private readonly p: StreamNetParts, private readonly path: string) {}

  /** Connects for the first time. Rejects with HostError. */
  async open(): Promise<void> {
    try {
      this.#attach(await this.p.connect());
    } catch (error) {
      const what = `Cannot connect to "${this.path}" for --net stream: ${messageOf(error)}`;
      throw new HostError(what, { cause: error });
    }
  }

  #attach(stream: HostStream): void {
    const framed: FramedStream = this.#stream = new FramedStream(stream, {
      received: (frame) => this.p.wire.send(frame, NO_OFFLOAD) ? undefined : this.#wait(framed, frame),
      ended: () => void this.#lost(),
    });
  }

  /** The other end waits until the guest has room. */
  async #wait(framed: FramedStream, frame: Uint8Array): Promise<void> {
    do await new Promise<void>((resolve) => this.#wakeReader = resolve); while (
      this.#stream === framed && !this.p.wire.send(frame, NO_OFFLOAD)
    );
  }

  async #lost(): Promise<void> {
    this.#stream = null;
    this.p.linkChanged(false);
    while (!this.#closed) {
      await this.p.sleep(RETRY_MS);
      try {
        const fresh = await this.p.connect();
        if (this.#closed) return fresh.close();
        this.p.linkChanged(true);
        return this.#attach(fresh);
      } catch {
        // Nobody there yet.
      }
    }
  }

  receive(frame: Uint8Array): void {
    this.#stream?.send(frame);
  }

  endOfBurst(): void {
    this.#stream?.flush();
  }

  room(): void {
    this.#wakeReader?.();
    this.#wakeReader = null;
  }

  guestReset(): void {}

  tick(): number {
    return Infinity;
  }

  close(): void {
    this.#closed = true;
    this.#stream?.close();
    this.room();
  }
}
