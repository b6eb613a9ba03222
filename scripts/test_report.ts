/** Reads what `deno test` prints, line by line, as it comes. */

const RESULT = /^( *)(.+?) \.\.\. (ok|FAILED|ignored)\b/;
const SUMMARY = /^(?:ok|FAILED) \| (\d+) passed\b.*?\| (\d+) failed\b/;
const IGNORED = /\| (\d+) ignored\b/;
const SKIPPED = /^skipped: (.+)$/;

export class TestReport {
  passed = 0;
  failed = 0;
  skipped = 0;
  /** The summary came. */
  finished = false;
  /** `FILE: NAME` of every test that failed. */
  readonly failures: string[] = [];
  /** What deno said about the failures. */
  errors = "";
  /** The test that runs now, or the last one. */
  running = "(no test yet)";

  #file = "";
  /** Reasons given while a file was loaded: the next one, and the one whose tests run. */
  #loadingReasons: string[] = [];
  #fileReasons: string[] = [];
  /** Reasons that the running test gave. */
  #testReasons: string[] = [];
  #stepsPassed = 0;
  #skippedByItself = 0;
  #output: "none" | "loading" | "test" = "none";
  readonly #skips = new Map<string, number>();

  /** `echo`, if there is one, gets each line. */
  constructor(private readonly echo: ((line: string) => void) | null, private readonly name: string) {}

  async read(stream: ReadableStream<Uint8Array<ArrayBuffer>>): Promise<void> {
    let rest = "";
    for await (const piece of stream.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + piece).split("\n");
      rest = lines.pop()!;
      for (const line of lines) this.line(line);
      const started = /^ *(.+) \.\.\.$/.exec(rest);
      if (started) this.running = `"${started[1]}"`;
    }
    if (rest !== "") this.line(rest);
  }

  line(line: string): void {
    this.echo?.(`${this.name}| ${line}`);
    // What comes after a file's last test is what the next file prints while it is loaded.
    if (/^------- (pre|post)-test output -------$/.test(line)) this.#output = "loading";
    else if (line === "------- output -------") this.#output = "test";
    else if (/^----- ((pre|post)-test )?output end -----$/.test(line)) this.#output = "none";
    else if (this.#output !== "none") this.#reason(SKIPPED.exec(line.trim())?.[1]);
    else if (this.#errors(line)) return;
    else if (line.startsWith("running ")) this.#start(line.replace(/^running \d+ tests? from (\.\/)?/, ""));
    else this.#result(RESULT.exec(line));
  }

  /** Lines `FILE: why (count)`. */
  skips(): string[] {
    return [...this.#skips].map(([line, count]) => count === 1 ? line : `${line} (${count} tests)`);
  }

  #start(file: string): void {
    this.#file = file;
    this.#fileReasons = this.#loadingReasons;
    this.#loadingReasons = [];
  }

  #reason(why: string | undefined): void {
    if (why === undefined) return;
    (this.#output === "loading" ? this.#loadingReasons : this.#testReasons).push(why);
  }

  /** From the heading ERRORS on there are no results, only the report of failures and the summary. */
  #errors(line: string): boolean {
    const summary = SUMMARY.exec(line);
    if (summary) {
      this.skipped = Number(IGNORED.exec(line)?.[1] ?? 0) + this.#skippedByItself;
      this.passed = Number(summary[1]) - this.#skippedByItself;
      this.failed = Number(summary[2]);
      this.finished = true;
      return true;
    }
    if (this.errors === "" && line.trim() !== "ERRORS") return false;
    this.errors += `${line}\n`;
    return true;
  }

  #result(result: RegExpExecArray | null): void {
    if (result === null) return;
    const [, indent, name, verdict] = result;
    this.running = `"${name}"`;
    if (indent !== "") {
      if (verdict === "ok") this.#stepsPassed++;
      return;
    }
    if (verdict === "FAILED") this.failures.push(`${this.#file}: ${name}`);
    else if (verdict === "ignored") this.#skip(name!, this.#reasonsFor(name!));
    else if (this.#testReasons.length > 0 && this.#stepsPassed === 0) {
      this.#skippedByItself++;
      this.#skip(name!, this.#testReasons);
    }
    this.#testReasons = [];
    this.#stepsPassed = 0;
  }

  /** The file's reasons that name the test, else all of them. */
  #reasonsFor(name: string): readonly string[] {
    const own = this.#fileReasons.filter((why) => why.startsWith(`${name}: `));
    return own.length > 0 ? own.map((why) => why.slice(name.length + 2)) : this.#fileReasons;
  }

  #skip(name: string, reasons: readonly string[]): void {
    const why = [...new Set(reasons)];
    const line = `${this.#file}: ${why.length > 0 ? why.join("; ") : `"${name}" is not for this host`}`;
    this.#skips.set(line, (this.#skips.get(line) ?? 0) + 1);
  }
}
