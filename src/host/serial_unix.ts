/**
 * A serial port on a listening Unix socket. One client at a time; the next waits in the socket's queue until the first has left.
 * What the guest writes while nobody is there is kept, the last 64 KiB of it, for whoever comes next.
 */
import { ConfigError, HostError, messageOf } from "../base/errors.ts";
import {
  Backlog,
  CHUNK_BYTES,
  pumpOutput,
  putInput,
  type SerialBackEnd,
  type SerialPort,
  writeAll,
} from "./serial_port.ts";

export class UnixSerial implements SerialBackEnd {
  #port: SerialPort | null = null;
  #pumping: Promise<void> = Promise.resolve();
  #writing: Promise<void> = Promise.resolve();
  #client: Deno.UnixConn | null = null;
  readonly #backlog = new Backlog();
  #closing = false;
  readonly #abandon = () => this.abandon();

  private constructor(private readonly listener: Deno.UnixListener, private readonly path: string) {
    globalThis.addEventListener("unload", this.#abandon);
  }

  static async open(path: string): Promise<UnixSerial> {
    await removeStale(path);
    try {
      return new UnixSerial(Deno.listen({ transport: "unix", path }), path);
    } catch (error) {
      const hint = error instanceof Deno.errors.NotCapable
        ? `; a socket needs --allow-read=${path} --allow-write=${path} --allow-net=unix:${path}`
        : "";
      throw new HostError(`Cannot listen on "${path}" for --serial unix: ${messageOf(error)}${hint}`, { cause: error });
    }
  }

  attach(port: SerialPort): void {
    this.#port = port;
    void this.#serve(port);
    this.#pumping = pumpOutput(port, (bytes) => this.#write(bytes));
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#port?.rx.close();
    this.#port?.tx.close();
    await this.#pumping;
    this.abandon();
  }

  abandon(): void {
    globalThis.removeEventListener("unload", this.#abandon);
    this.#closing = true;
    this.#drop();
    try {
      this.listener.close();
    } catch {
      return; // Closed before, and so removed.
    }
    try {
      Deno.removeSync(this.path);
    } catch {
      // Somebody removed it for us.
    }
  }

  async #serve(port: SerialPort): Promise<void> {
    const buffer = new Uint8Array(CHUNK_BYTES);
    while (!this.#closing) {
      let client: Deno.UnixConn;
      try {
        client = await this.listener.accept();
      } catch {
        if (this.#closing) return;
        // Out of descriptors, most likely: better to ask again than to be deaf from now on.
        await new Promise((resolve) => setTimeout(resolve, 1000));
        continue;
      }
      this.#client = client;
      void this.#write(new Uint8Array(0));
      try {
        for (let n = await client.read(buffer); n !== null; n = await client.read(buffer)) {
          await putInput(port, buffer.subarray(0, n), () => this.#client === client);
        }
      } catch {
        // Reset by the client, or closed because writing to it failed.
      }
      if (this.#client === client) this.#drop();
    }
  }

  /** Output goes behind what is kept, and both to the client if there is one. In the order of the calls. */
  #write(bytes: Uint8Array): Promise<void> {
    return this.#writing = this.#writing.then(async () => {
      const client = this.#client;
      if (!client) return this.#backlog.add(bytes);
      const kept = this.#backlog.take();
      try {
        await writeAll(client, kept);
        await writeAll(client, bytes);
      } catch {
        // It has left. What it may have missed is kept for the next.
        this.#backlog.add(kept);
        this.#backlog.add(bytes);
        if (this.#client === client) this.#drop();
      }
    });
  }

  #drop(): void {
    const client = this.#client;
    this.#client = null;
    try {
      client?.close();
    } catch {
      // Closed before.
    }
  }
}

/** A socket file that nobody listens to any more may go; anything else at `path` is the user's. */
async function removeStale(path: string): Promise<void> {
  let info: Deno.FileInfo;
  try {
    info = Deno.lstatSync(path);
  } catch {
    return; // Nothing there, or something that listen will complain about.
  }
  if (!info.isSocket) throw new ConfigError(`--serial "unix:${path}": expected a path that is free, found a file`);
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (!(error instanceof Deno.errors.ConnectionRefused)) return;
    Deno.removeSync(path);
    return;
  }
  throw new ConfigError(`--serial "unix:${path}": expected a path that is free, found a socket in use`);
}
