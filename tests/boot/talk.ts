/** A talk with a guest over its console: say something, wait for an answer. */

/** Where the bytes go and come from: a terminal, or a process's pipes. */
export interface Wire {
  /** What has come, once something has; nothing if that takes too long to wait for at once; null at the end. */
  read(): Promise<Uint8Array | null>;
  write(bytes: Uint8Array): Promise<void>;
}

const PROMPT = "~ # ";

export class Talk {
  /** What came and nobody has asked for yet, a character a byte. */
  #rest = "";
  #ended = false;

  constructor(private readonly wire: Wire) {}

  /** What the guest said up to and with the first of `wanted`, which is then forgotten. */
  async until(wanted: string | readonly string[], seconds = 60): Promise<string> {
    const words = typeof wanted === "string" ? [wanted] : wanted;
    const deadline = performance.now() + seconds * 1000;
    for (;;) {
      const ends = words.flatMap((word) => {
        const at = this.#rest.indexOf(word);
        return at < 0 ? [] : [at + word.length];
      });
      if (ends.length > 0) {
        const end = Math.min(...ends);
        const said = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end);
        return said;
      }
      const late = performance.now() > deadline;
      if (this.#ended || late) {
        const why = this.#ended ? "before the console closed" : `within ${seconds} s`;
        throw new Error(`${JSON.stringify(wanted)} did not come ${why}, but: ${this.#rest.slice(-4000)}`);
      }
      const bytes = await this.wire.read();
      if (bytes === null) this.#ended = true;
      else for (const byte of bytes) this.#rest += String.fromCharCode(byte);
    }
  }

  /** All that comes until the console closes. */
  async toEnd(): Promise<string> {
    while (!this.#ended) {
      const bytes = await this.wire.read();
      if (bytes === null) this.#ended = true;
      else for (const byte of bytes) this.#rest += String.fromCharCode(byte);
    }
    return this.#rest;
  }

  type(text: string): Promise<void> {
    return this.wire.write(new TextEncoder().encode(text));
  }

  /** Waits for the shell's prompt; what came before it. */
  async prompt(seconds = 60): Promise<string> {
    return plain((await this.until(PROMPT, seconds)).slice(0, -PROMPT.length));
  }

  /** Types a command, and returns what it printed, without the echo and up to the next prompt. */
  async run(command: string, seconds = 30): Promise<string> {
    await this.type(command + "\r");
    const said = await this.prompt(seconds);
    return said.slice(said.indexOf("\n") + 1);
  }
}

/** Text without what moves the cursor or asks where it is; lines end in LF. */
export function plain(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.replaceAll("\r", "").replace(/\x1b\[[0-9;?]*[A-Za-z]/g, "");
}
