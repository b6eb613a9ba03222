/** What `--stats` reports beyond the machine's own counters: when the console spoke first, and when it said what. */
import type { MachineHandle } from "../machine/handle.ts";

const PREFIX = new TextEncoder().encode("TRIKE-MARK:");
const MAX_NAME = 64;
/** A guest that invents names fills no more than this. */
const MAX_MARKS = 256;

/**
 * Watches console output for lines `TRIKE-MARK:name` and remembers when each name ended. Names are letters, digits, `.`, `_`
 * and `-`; the first of equal names counts.
 */
export class ConsoleWatch {
  #firstByteSeconds: number | null = null;
  readonly #marks = new Map<string, number>();
  /** Bytes of PREFIX seen; all of them: the name is being read. */
  #matched = 0;
  #name = "";

  /** `nowSeconds` is asked when something is found. */
  constructor(private readonly nowSeconds: () => number) {}

  get firstByteSeconds(): number | null {
    return this.#firstByteSeconds;
  }

  get marks(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.#marks);
  }

  see(bytes: Uint8Array): void {
    if (bytes.length === 0) return;
    this.#firstByteSeconds ??= this.nowSeconds();
    let at = 0;
    while (at < bytes.length) {
      if (this.#matched === 0) {
        at = bytes.indexOf(PREFIX[0]!, at);
        if (at < 0) return;
      }
      this.#take(bytes[at]!);
      at++;
    }
  }

  #take(byte: number): void {
    if (this.#matched < PREFIX.length) {
      // PREFIX begins with a byte it has nowhere else, so what failed to match can only be the start of another.
      this.#matched = byte === PREFIX[this.#matched] ? this.#matched + 1 : byte === PREFIX[0] ? 1 : 0;
      return;
    }
    const char = String.fromCharCode(byte);
    if (/[\w.-]/.test(char) && this.#name.length < MAX_NAME) {
      this.#name += char;
      return;
    }
    if (this.#name !== "" && !this.#marks.has(this.#name) && this.#marks.size < MAX_MARKS) {
      this.#marks.set(this.#name, this.nowSeconds());
    }
    this.#name = "";
    this.#matched = byte === PREFIX[0] ? 1 : 0;
  }
}

/** The JSON of `--stats`. Times are seconds; marks and firstByteSeconds count from the start of the process. */
export function statsJson(
  handle: Pick<MachineHandle, "stats">,
  watch: ConsoleWatch,
  facts: { engine: string; wallSeconds: number; end: string },
): string {
  const report = {
    ...facts,
    guestSeconds: null,
    instructions: null,
    exits: {},
    interrupts: {},
    ...handle.stats(),
    wallSeconds: facts.wallSeconds,
    firstByteSeconds: watch.firstByteSeconds,
    marks: watch.marks,
  };
  return JSON.stringify(report, null, 2) + "\n";
}
