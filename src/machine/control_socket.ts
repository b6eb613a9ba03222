/**
 * A machine's control socket, on the machine's side: serves a bounded number of clients, each in its own time. What a client
 * sends is doubted, and one that sends nonsense for too long is let go.
 */
import { HostError, messageOf } from "../base/errors.ts";
import { writeAll } from "../host/serial_port.ts";
import type { ConsoleHub } from "./console_hub.ts";
import {
  encodeLine,
  type Greeting,
  LineReader,
  type MachineStatus,
  parseRequest,
  PROTOCOL_VERSION,
  type Reply,
  type Request,
} from "./control_socket_protocol.ts";
import type { DriveState } from "./media.ts";
import type { BalloonState } from "./services.ts";
import type { PublishSpec } from "./spec.ts";

const MAX_CLIENTS = 32;
/** Requests in a row that mean nothing. */
const MAX_MISTAKES = 16;
const CONSOLE_CHUNK_BYTES = 4096;
/** How long clients may take for the last bytes of a console. */
const FLUSH_MS = 500;

/** What a client may ask of the machine. */
export interface Controlled {
  readonly console: ConsoleHub;
  status(): MachineStatus;
  pressPowerButton(): void;
  kill(): void;
  /** Resolves with how the machine ended. */
  readonly ended: Promise<string>;
  /** These reject with errors whose messages are for the client. */
  snapshot(path: string, compress: boolean): Promise<{ readonly bytes: number }>;
  /** Writes what the display shows into a file. */
  screenshot(path: string): Promise<{ readonly bytes: number; readonly width: number; readonly height: number }>;
  published(): Promise<readonly PublishSpec[]>;
  publish(forward: PublishSpec): Promise<void>;
  unpublish(forward: PublishSpec): Promise<void>;
  media(): readonly DriveState[];
  changeMedium(drive: string, path: string | null, force: boolean): Promise<void>;
  /** Pulls the guest's cable, or puts it back, if it is a boolean; resolves with whether the guest sees it in. */
  link(up: boolean | undefined): Promise<boolean>;
  /** Asks the guest to do without so many bytes of memory, if it is a number; resolves with how it stands. */
  balloon(sizeBytes: number | undefined): Promise<BalloonState>;
}

export class ControlServer {
  readonly #clients = new Set<Deno.UnixConn>();
  /** Those that have not asked for the console: they may wait to be told of the end, or be about to ask. */
  readonly #asking = new Set<Deno.UnixConn>();
  #closing = false;

  private constructor(
    private readonly listener: Deno.UnixListener,
    private readonly name: string,
    private readonly machine: Controlled,
  ) {
    void this.#accept();
  }

  /** Listens at `path`, where nothing is. Throws HostError. */
  static listen(path: string, name: string, machine: Controlled): ControlServer {
    try {
      return new ControlServer(Deno.listen({ transport: "unix", path }), name, machine);
    } catch (error) {
      const hint = error instanceof Deno.errors.NotCapable ? "; --name needs --allow-net, to listen at a socket" : "";
      throw new HostError(`Cannot listen on "${path}" for --name: ${messageOf(error)}${hint}`, { cause: error });
    }
  }

  /** After the machine's end: lets the last words out, then everybody go. */
  async close(): Promise<void> {
    this.#closing = true;
    this.listener.close();
    await this.machine.console.flush(FLUSH_MS);
    for (const late = performance.now() + FLUSH_MS; this.#asking.size > 0 && performance.now() < late;) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    for (const client of this.#clients) closeQuietly(client);
  }

  async #accept(): Promise<void> {
    while (!this.#closing) {
      try {
        void this.#serve(await this.listener.accept());
      } catch {
        if (this.#closing) return;
        // Out of descriptors, most likely: better to ask again than to be deaf from now on.
        await new Promise((resolve) => setTimeout(resolve, 1000));
      }
    }
  }

  async #serve(client: Deno.UnixConn): Promise<void> {
    if (this.#clients.size >= MAX_CLIENTS) return closeQuietly(client);
    this.#clients.add(client);
    this.#asking.add(client);
    try {
      const greeting: Greeting = { trike: PROTOCOL_VERSION, name: this.name, pid: Deno.pid };
      await writeAll(client, encodeLine(greeting));
      await this.#answer(client);
    } catch {
      // It left in the middle of something.
    } finally {
      this.#clients.delete(client);
      this.#asking.delete(client);
      closeQuietly(client);
    }
  }

  /** Answers requests until there are no more of them. */
  async #answer(client: Deno.UnixConn): Promise<void> {
    const lines = new LineReader(client);
    let mistakes = 0, waiting = false;
    const reply = (value: Reply) => writeAll(client, encodeLine(value));
    for (let line = await lines.next(); line !== null; line = await lines.next()) {
      const request = parseRequest(line);
      if (typeof request === "string") {
        await reply({ ok: false, error: request });
        if (++mistakes >= MAX_MISTAKES) return;
      } else if (request.do === "console") {
        await reply({ ok: true, result: null });
        this.#asking.delete(client);
        return await this.#attach(client, lines.rest());
      } else if (request.do === "wait") {
        // Reading goes on meanwhile, so that a client that leaves is seen to leave.
        if (waiting) return;
        waiting = true;
        void this.machine.ended.then((end) => reply({ ok: true, result: end })).catch(() => {});
      } else {
        const result = await this.#act(request).then(
          (result): Reply => ({ ok: true, result: result ?? null }),
          (error): Reply => ({ ok: false, error: messageOf(error) }),
        );
        await reply(result);
      }
    }
  }

  async #act(request: Exclude<Request, { do: "console" | "wait" }>): Promise<unknown> {
    const { machine } = this;
    switch (request.do) {
      case "status":
        return machine.status();
      case "stop":
        return machine.pressPowerButton();
      case "kill":
        return machine.kill();
      case "snapshot":
        return await machine.snapshot(request.path, request.compress);
      case "screenshot":
        return await machine.screenshot(request.path);
      case "media":
        return machine.media();
      case "medium":
        return await machine.changeMedium(request.drive, request.path, request.force);
      case "link":
        return { up: await machine.link(request.up) };
      case "published":
        return await machine.published();
      case "publish":
        return await machine.publish(request.forward);
      case "unpublish":
        return await machine.unpublish(request.forward);
      case "balloon":
        return await machine.balloon(request.sizeBytes);
    }
  }

  /** The connection is the console from here on: bytes both ways. */
  async #attach(client: Deno.UnixConn, typed: Uint8Array): Promise<void> {
    let here = true;
    const leave = this.machine.console.watch({
      write: (bytes) => writeAll(client, bytes),
      drop: () => closeQuietly(client),
    });
    try {
      const wanted = () => here && !this.#closing;
      await this.machine.console.type(typed, wanted);
      const buffer = new Uint8Array(CONSOLE_CHUNK_BYTES);
      for (let n = await client.read(buffer); n !== null && wanted(); n = await client.read(buffer)) {
        await this.machine.console.type(buffer.slice(0, n), wanted);
      }
    } finally {
      here = false;
      leave();
    }
  }
}

function closeQuietly(client: Deno.UnixConn): void {
  try {
    client.close();
  } catch {
    // It was closed before.
  }
}
