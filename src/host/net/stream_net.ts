/**
 * The stream back end: frames with their length before them, in network byte order, on a Unix socket that a switch or a NAT
 * of another process listens at. If that goes away the cable is out, and we call again until somebody answers.
 */
import { NO_OFFLOAD } from "../../../devices/virtio/net_header.ts";
import { HostError, messageOf } from "../../base/errors.ts";
import { put32, u32 } from "./address.ts";
import type { HostStream } from "./host_sockets.ts";
import type { NetBackend, Wire } from "./wire.ts";

const LENGTH_BYTES = 4;
const MAX_FRAME_BYTES = 65535 + 14;
/** What waits for the other end beyond this is lost, as on any cable. */
const MAX_QUEUED_BYTES = 1 << 20;
const BUFFER_BYTES = 256 * 1024;
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
  #stream: HostStream | null = null;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #writing = false;
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
    this.#stream = stream;
    void this.#read(stream);
  }

  /** The other end has gone, or sends what is no frame. */
  async #lost(stream: HostStream): Promise<void> {
    if (this.#stream !== stream) return;
    this.#stream = null;
    this.#queue = [];
    this.#queuedBytes = 0;
    stream.close();
    if (this.#closed) return;
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

  async #read(stream: HostStream): Promise<void> {
    const buffer = new Uint8Array(BUFFER_BYTES);
    let end = 0;
    try {
      for (;;) {
        const n = await stream.read(buffer.subarray(end));
        if (n === null) break;
        end += n;
        let at = 0;
        while (end - at >= LENGTH_BYTES) {
          const size = u32(buffer, at);
          if (size > MAX_FRAME_BYTES) return void this.#lost(stream);
          if (end - at < LENGTH_BYTES + size) break;
          const frame = buffer.subarray(at + LENGTH_BYTES, at + LENGTH_BYTES + size);
          while (this.#stream === stream && !this.p.wire.send(frame, NO_OFFLOAD)) {
            await new Promise<void>((resolve) => this.#wakeReader = resolve);
          }
          at += LENGTH_BYTES + size;
        }
        buffer.copyWithin(0, at, end);
        end -= at;
      }
    } catch {
      // Reset by the other end, or closed by us.
    }
    void this.#lost(stream);
  }

  receive(frame: Uint8Array): void {
    if (!this.#stream || this.#queuedBytes + frame.length > MAX_QUEUED_BYTES) return;
    const bytes = new Uint8Array(LENGTH_BYTES + frame.length);
    put32(bytes, 0, frame.length);
    bytes.set(frame, LENGTH_BYTES);
    this.#queue.push(bytes);
    this.#queuedBytes += frame.length;
  }

  endOfBurst(): void {
    void this.#write();
  }

  async #write(): Promise<void> {
    if (this.#writing) return;
    this.#writing = true;
    try {
      while (this.#stream && this.#queue.length > 0) {
        const stream = this.#stream;
        const frames = this.#queue;
        this.#queue = [];
        this.#queuedBytes = 0;
        const bytes = frames.length === 1 ? frames[0]! : joined(frames);
        try {
          for (let at = 0; at < bytes.length;) at += await stream.write(bytes.subarray(at));
        } catch {
          void this.#lost(stream);
        }
      }
    } finally {
      this.#writing = false;
    }
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

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((n, part) => n + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
