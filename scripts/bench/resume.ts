/** How long a saved guest takes to answer a key again. */
import { HostError } from "../../src/base/errors.ts";
import type { Guest } from "../../src/guest/default_guest.ts";
import { V8_FLAGS } from "../build/v8_flags.ts";
import { MEMORY_MIB } from "./contenders.ts";
import type { Row } from "./figures.ts";
import { RESUME_GOAL } from "./suite.ts";

const PERMISSIONS = ["--no-prompt", "--allow-read", "--allow-write", "--allow-env"];
const MAIN = new URL("../../src/main.ts", import.meta.url).pathname;

/** A process that is trike; killed at the end of a `using` block. */
class Trike implements AsyncDisposable {
  readonly #started = performance.now();
  readonly #child: Deno.ChildProcess;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;

  constructor(...args: string[]) {
    this.#child = new Deno.Command(Deno.execPath(), {
      args: ["run", `--v8-flags=${V8_FLAGS.join(",")}`, ...PERMISSIONS, MAIN, ...args],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#reader = this.#child.stdout.getReader();
  }

  async type(text: string): Promise<void> {
    const writer = this.#child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(text));
    writer.releaseLock();
  }

  /** Seconds from the start of the process until it has said `wanted`. */
  async until(wanted: string): Promise<number> {
    const utf8 = new TextDecoder();
    for (let said = ""; !said.includes(wanted);) {
      const { value, done } = await this.#reader.read();
      if (done) throw new HostError(`trike ended before it said ${JSON.stringify(wanted)}`);
      said += utf8.decode(value, { stream: true });
    }
    return (performance.now() - this.#started) / 1000;
  }

  /** Ends it, and waits for that. */
  async end(signal: Deno.Signal): Promise<void> {
    this.#child.kill(signal);
    while (!(await this.#reader.read()).done);
    await this.#child.status;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    try {
      this.#child.kill("SIGKILL");
    } catch {
      // it ended by itself
    }
    await this.#child.stdin.close().catch(() => {});
    await this.#child.status;
  }
}

/** A row whose figure is the time to the first character of an idle guest's shell, without what any process takes to start. */
export async function benchResume(
  guest: Guest,
  engine: string,
  rounds: number,
  say: (line: string) => void,
): Promise<Row> {
  const folder = await Deno.makeTempDir({ prefix: "trike-bench-" });
  const trike: number[] = [];
  try {
    const file = `${folder}/snapshot`;
    {
      const { kernel, initrd, append } = guest;
      const machine = ["--engine", engine, "--memory", `${MEMORY_MIB}M`, "--snapshot-on-exit", file];
      const files = ["--kernel", kernel, "--initrd", initrd, "--append", `${append} trike.marks`];
      await using run = new Trike("run", "--quiet", ...machine, ...files);
      await run.until("TRIKE-MARK:prompt");
      await run.end("SIGTERM");
    }
    for (let round = 1; round <= rounds; round++) {
      await using start = new Trike("--version");
      const startSeconds = await start.until("\n");
      await using resumed = new Trike("resume", file, "--quiet");
      await resumed.type("\r");
      const seconds = await resumed.until("\n") - startSeconds;
      trike.push(seconds);
      say(`resume ${round}/${rounds} trike: ${seconds.toFixed(2)} s, and ${startSeconds.toFixed(2)} s to start`);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  const about = `to an idle guest's answer to a key, ${MEMORY_MIB} MiB, beyond the start of a process`;
  return {
    bench: "resume",
    name: "resume",
    about,
    unit: "s",
    trike,
    qemu: [],
    goal: { of: "trike", atMost: RESUME_GOAL },
  };
}
