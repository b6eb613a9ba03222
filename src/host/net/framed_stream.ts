/** Frames on a stream of bytes, each behind its length in network byte order. */
import { put32, u32 } from "./address.ts";
import type { HostStream } from "./host_sockets.ts";

const LENGTH_BYTES = 4;
export const MAX_FRAME_BYTES = 65535 + 14;
/** What waits for the other end beyond this is lost, as on any cable. */
const MAX_QUEUED_BYTES = 1 << 20;
const BUFFER_BYTES = 256 * 1024;

export interface FramedEvents {
  /** A frame, good during the call; a promise lets the other end wait. */
  received(frame: Uint8Array): void | Promise<void>;
  /** The other end has gone, or sends what is no frame. Called once, and not after `close`. */
  ended(): void;
}

export class FramedStream {
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  #writing = false;
  #closed = false;

  constructor(private readonly stream: HostStream, private readonly events: FramedEvents) {
    void this.#read();
  }

  async #read(): Promise<void> {
    const buffer = new Uint8Array(BUFFER_BYTES);
    let end = 0;
    try {
      for (;;) {
        const n = await this.stream.read(buffer.subarray(end));
        if (n === null || this.#closed) break;
        end += n;
        let at = 0;
        while (end - at >= LENGTH_BYTES) {
          const size = u32(buffer, at);
          if (size > MAX_FRAME_BYTES) return this.#end();
          if (end - at < LENGTH_BYTES + size) break;
          const wait = this.events.received(buffer.subarray(at + LENGTH_BYTES, at + LENGTH_BYTES + size));
          if (wait) await wait;
          if (this.#closed) return;
          at += LENGTH_BYTES + size;
        }
        buffer.copyWithin(0, at, end);
        end -= at;
      }
    } catch {
      // Reset by the other end, or closed by us.
    }
    this.#end();
  }

  #end(): void {
    if (this.#closed) return;
    this.close();
    this.events.ended();
  }

  /** Takes a copy of a frame, which leaves at `flush`. */
  send(frame: Uint8Array): void {
    if (this.#closed || this.#queuedBytes + frame.length > MAX_QUEUED_BYTES) return;
    const bytes = new Uint8Array(LENGTH_BYTES + frame.length);
    put32(bytes, 0, frame.length);
    bytes.set(frame, LENGTH_BYTES);
    this.#queue.push(bytes);
    this.#queuedBytes += frame.length;
  }

  flush(): void {
    if (!this.#writing && this.#queue.length > 0) void this.#write();
  }

  async #write(): Promise<void> {
    this.#writing = true;
    try {
      while (!this.#closed && this.#queue.length > 0) {
        const frames = this.#queue;
        this.#queue = [];
        this.#queuedBytes = 0;
        const bytes = frames.length === 1 ? frames[0]! : joined(frames);
        for (let at = 0; at < bytes.length;) at += await this.stream.write(bytes.subarray(at));
      }
    } catch {
      this.#end();
    }
    this.#writing = false;
  }

  close(): void {
    this.#closed = true;
    this.#queue = [];
    this.stream.close();
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
