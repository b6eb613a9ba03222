/** Back ends of serial ports, opened before the machine starts so that what cannot work is said in time. */
import { ConfigError, HostError, messageOf } from "../base/errors.ts";
import type { SerialSpec } from "../machine/spec.ts";
import { pumpOutput, type SerialBackEnd, type SerialPort, writeAll } from "./serial_port.ts";
import { UnixSerial } from "./serial_unix.ts";
import type { Terminal } from "./terminal.ts";

export type { SerialBackEnd, SerialPort } from "./serial_port.ts";

export interface SerialParts {
  /** The one terminal, for "stdio". */
  readonly terminal: Terminal | null;
  /** Says one line to the user: a name they need, or what went wrong. */
  readonly say: (line: string) => void;
}

/** Opens the back end of COM`number`. */
export async function openSerial(spec: SerialSpec, number: number, parts: SerialParts): Promise<SerialBackEnd> {
  switch (spec.kind) {
    case "stdio":
      if (!parts.terminal) throw new ConfigError(`COM${number} asks for "stdio", which is taken`);
      return parts.terminal;
    case "none":
      return new NoSerial();
    case "file":
      return FileSerial.open(spec.path, parts.say);
    case "unix":
      return await UnixSerial.open(spec.path);
    case "tty":
      return (await import("./serial_pty.ts")).PtySerial.openDevice(spec.path);
    case "pty": {
      // Imported only here: it is all that needs the permission to call into libc.
      const { PtySerial } = await import("./serial_pty.ts");
      const pty = PtySerial.open(spec.link ?? null);
      parts.say(`COM${number} is ${pty.name}`);
      return pty;
    }
  }
}

/** Takes output and forgets it. */
export class NoSerial implements SerialBackEnd {
  #port: SerialPort | null = null;
  #pumping: Promise<void> = Promise.resolve();

  attach(port: SerialPort): void {
    this.#port = port;
    this.#pumping = pumpOutput(port, () => Promise.resolve());
  }

  async close(): Promise<void> {
    this.#port?.tx.close();
    await this.#pumping;
  }

  abandon(): void {}
}

/** Output into a file. */
export class FileSerial implements SerialBackEnd {
  #port: SerialPort | null = null;
  #pumping: Promise<void> = Promise.resolve();
  #full = false;

  private constructor(
    private readonly file: Deno.FsFile,
    private readonly path: string,
    private readonly say: (line: string) => void,
  ) {}

  static open(path: string, say: (line: string) => void): FileSerial {
    try {
      return new FileSerial(Deno.openSync(path, { write: true, create: true, truncate: true }), path, say);
    } catch (error) {
      throw new HostError(`Cannot open "${path}" for --serial file: ${messageOf(error)}`, { cause: error });
    }
  }

  attach(port: SerialPort): void {
    this.#port = port;
    this.#pumping = pumpOutput(port, async (bytes) => {
      if (this.#full) return;
      try {
        await writeAll(this.file, bytes);
      } catch (error) {
        // The guest runs on: a full disk of ours is no reason to stop it.
        this.#full = true;
        this.say(`Cannot write to "${this.path}", so the rest of its output is lost: ${messageOf(error)}`);
      }
    });
  }

  async close(): Promise<void> {
    this.#port?.tx.close();
    await this.#pumping;
    this.file.close();
  }

  abandon(): void {}
}
