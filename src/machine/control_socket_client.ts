/** A machine's control socket, on the side of who asks. Throws HostError for a machine that does not answer as it should. */
import { HostError, messageOf } from "../base/errors.ts";
import { writeAll } from "../host/serial_port.ts";
import {
  encodeLine,
  LineReader,
  parseGreeting,
  parseReply,
  PROTOCOL_VERSION,
  type Request,
} from "./control_socket_protocol.ts";
import { ownerOf, socketPath } from "./registry.ts";

const ANSWER_MS = 5000;

export class ControlClient {
  readonly #lines: LineReader;

  private constructor(readonly name: string, readonly conn: Deno.UnixConn, private readonly process: string) {
    this.#lines = new LineReader(conn);
  }

  /** Speaks to the machine of a name that somebody has. */
  static async connect(folder: string, name: string, answerMs = ANSWER_MS): Promise<ControlClient> {
    const pid = ownerOf(folder, name);
    const process = pid === null ? "" : ` (process ${pid})`;
    let conn: Deno.UnixConn;
    try {
      conn = await Deno.connect({ transport: "unix", path: socketPath(folder, name) });
    } catch (error) {
      const starting = error instanceof Deno.errors.NotFound ? "it has not come so far" : messageOf(error);
      throw new HostError(`Cannot reach the machine "${name}"${process}: ${starting}`, { cause: error });
    }
    const client = new ControlClient(name, conn, process);
    try {
      const greeting = parseGreeting(await client.#line(answerMs));
      if (greeting === null) throw client.#strange();
      if (greeting.trike !== PROTOCOL_VERSION) {
        throw new HostError(
          `Cannot speak to the machine "${name}": it speaks version ${greeting.trike}, and this trike ${PROTOCOL_VERSION}`,
        );
      }
      return client;
    } catch (error) {
      client.close();
      throw error;
    }
  }

  /** The result of a request. Rejects with HostError, also for what the machine refuses. */
  async ask(request: Request, answerMs = ANSWER_MS): Promise<unknown> {
    await writeAll(this.conn, encodeLine(request)).catch(() => {}); // the missing answer says it
    const reply = parseReply(await this.#line(answerMs));
    if (reply === null) throw this.#strange();
    if (!reply.ok) throw new HostError(reply.error);
    return reply.result;
  }

  /** Bytes of a console that came with the reply. */
  rest(): Uint8Array {
    return this.#lines.rest();
  }

  close(): void {
    try {
      this.conn.close();
    } catch {
      // It was closed before.
    }
  }

  async #line(ms: number): Promise<string> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<"late">((resolve) => {
      if (ms < Infinity) timer = setTimeout(() => resolve("late"), ms);
    });
    try {
      const line = await Promise.race([this.#lines.next(), late]);
      if (line === "late") throw new SilentMachine(`The machine "${this.name}"${this.process} does not answer`);
      if (line === null) throw new HostError(`The machine "${this.name}" has hung up`);
      return line;
    } finally {
      clearTimeout(timer);
    }
  }

  #strange(): HostError {
    return new HostError(
      `Cannot understand the machine "${this.name}"${this.process}: it does not keep to the protocol`,
    );
  }
}

/** It did not answer in time. */
export class SilentMachine extends HostError {}
