/**
 * The terminal trike was started from, or the pipes given in its place: the "stdio" end of a serial port.
 *
 * A terminal is put into raw mode, so that every key reaches the guest, and put back whatever way the process ends. Pipes carry
 * the bytes as they are, in both directions.
 */
import { HostError, messageOf } from "../base/errors.ts";
import { CHUNK_BYTES, pumpOutput, putInput, type SerialBackEnd, type SerialPort, writeAll } from "./serial_port.ts";
import { KeyFilter, KEYS_HELP, LineFeedFilter } from "./terminal_keys.ts";

/** What of Deno a terminal needs: stdin and stdout, or a test's own. */
export interface TerminalStreams {
  readonly input: {
    read(into: Uint8Array): Promise<number | null>;
    isTerminal(): boolean;
    setRaw(raw: boolean, options?: { cbreak: boolean }): void;
  };
  readonly output: { write(bytes: Uint8Array): Promise<number>; isTerminal(): boolean };
  /** Throws without a terminal. */
  size(): { columns: number; rows: number };
}

const DENO: TerminalStreams = { input: Deno.stdin, output: Deno.stdout, size: () => Deno.consoleSize() };

export interface TerminalEvents {
  /** Ctrl-A x. */
  onLeave(): void;
  /** Ctrl-A s. */
  onSave?(): void;
  /** What Ctrl-A h prints, if not trike's own keys. */
  readonly help?: string;
  /** Output cannot be delivered any more. */
  onLost(error: HostError): void;
  /** The terminal has this many columns and rows: once at the start, then at every change. */
  onResize?(columns: number, rows: number): void;
}

/**
 * Typed bytes held back while the guest has no room. Reading goes on meanwhile, or Ctrl-A x would not leave a guest that has
 * stopped listening. A pipe has no such keys, so there the writer simply waits.
 */
const TYPE_AHEAD_BYTES = 16 * 1024 * 1024;

export class Terminal implements SerialBackEnd {
  readonly #streams: TerminalStreams;
  readonly #keys: KeyFilter | null;
  #lineFeeds: LineFeedFilter | null;
  #raw = false;
  #stopped = false;
  #pumping: Promise<void> = Promise.resolve();
  #writing: Promise<void> = Promise.resolve();
  #lost = false;
  #lastByte = 0x0a;
  #port: SerialPort | null = null;
  readonly #signals: [Deno.Signal, () => void][] = [];
  readonly #abandon = () => this.abandon();

  constructor(private readonly events: TerminalEvents, streams = DENO) {
    this.#streams = streams;
    this.#keys = streams.input.isTerminal()
      ? new KeyFilter((key) => {
        if (key === "leave") events.onLeave();
        else if (key === "save") events.onSave?.();
        else void this.#write(new TextEncoder().encode(events.help ?? KEYS_HELP));
      })
      : null;
    this.#lineFeeds = streams.output.isTerminal() ? new LineFeedFilter() : null;
  }

  /** True while keys go to the guest unchanged, Ctrl-C among them. */
  get raw(): boolean {
    return this.#raw;
  }

  /** True when the last output did not end a line: what is printed next should. */
  get midLine(): boolean {
    return this.#streams.output.isTerminal() && this.#lastByte !== 0x0a && this.#lastByte !== 0x0b;
  }

  attach(port: SerialPort): void {
    this.#port = port;
    if (this.#keys) this.#enterRaw();
    if (this.events.onResize && this.#streams.output.isTerminal()) {
      this.#reportSize();
      this.#onSignal("SIGWINCH", () => this.#reportSize());
    }
    this.#pumping = pumpOutput(port, (bytes) => this.#write(bytes));
    void this.#readInput(port);
  }

  async close(): Promise<void> {
    this.#stopped = true;
    this.#port?.rx.close();
    this.#port?.tx.close();
    await this.#pumping;
    await this.#writing;
    this.abandon();
  }

  abandon(): void {
    this.#stopped = true;
    for (const [signal, listener] of this.#signals.splice(0)) Deno.removeSignalListener(signal, listener);
    globalThis.removeEventListener("unload", this.#abandon);
    if (!this.#raw) return;
    this.#raw = false;
    try {
      this.#streams.input.setRaw(false);
    } catch {
      // The terminal is gone, and its mode with it.
    }
  }

  #enterRaw(): void {
    this.#setRaw();
    if (!this.#raw) return;
    globalThis.addEventListener("unload", this.#abandon);
    // A shell that stopped us has set its own mode meanwhile.
    this.#onSignal("SIGCONT", () => {
      this.#streams.input.setRaw(false);
      this.#setRaw();
    });
  }

  #setRaw(): void {
    try {
      this.#streams.input.setRaw(true, { cbreak: false });
      this.#raw = true;
    } catch {
      // Some terminals cannot be raw; lines then go to the guest as they are entered.
      this.#raw = false;
    }
  }

  #onSignal(signal: Deno.Signal, listener: () => void): void {
    try {
      Deno.addSignalListener(signal, listener);
      this.#signals.push([signal, listener]);
    } catch {
      // A host without this signal never sends it.
    }
  }

  #reportSize(): void {
    try {
      const { columns, rows } = this.#streams.size();
      if (columns > 0 && rows > 0) this.events.onResize?.(columns, rows);
    } catch {
      // Neither stdin, stdout nor stderr is a terminal.
    }
  }

  /** Writes in the order of the calls. */
  #write(bytes: Uint8Array): Promise<void> {
    return this.#writing = this.#writing.then(async () => {
      if (this.#lost || bytes.length === 0) return;
      const out = this.#lineFeeds ? this.#lineFeeds.filter(bytes) : bytes;
      this.#lastByte = out[out.length - 1]!;
      try {
        await writeAll(this.#streams.output, out);
      } catch (error) {
        // The pump goes on and drops the rest, so that the guest is not held up before the machine stops.
        this.#lost = true;
        this.events.onLost(new HostError(`Cannot write to standard output: ${messageOf(error)}`, { cause: error }));
      }
    });
  }

  async #readInput(port: SerialPort): Promise<void> {
    const limit = this.#keys ? TYPE_AHEAD_BYTES : CHUNK_BYTES;
    let held = 0;
    let putting: Promise<void> = Promise.resolve();
    const buffer = new Uint8Array(CHUNK_BYTES);
    while (!this.#stopped) {
      let n: number | null;
      try {
        n = await this.#streams.input.read(buffer);
      } catch {
        return; // A terminal that hangs up also sends SIGHUP.
      }
      if (n === null || this.#stopped) return;
      // A copy, no larger than it must be: it may wait in line for long.
      const bytes = (this.#keys ? this.#keys.filter(buffer.subarray(0, n)) : buffer.subarray(0, n)).slice();
      held += bytes.length;
      putting = putting.then(async () => {
        await putInput(port, bytes);
        held -= bytes.length;
      });
      if (held >= limit || !this.#keys) await putting;
    }
  }
}
