/**
 * Every engine and every law it owes, as a table: `deno task conformance [WORD]...` runs those whose names have one of the
 * words in them. Each engine has a process of its own.
 *
 * `ok` kept, `FAIL` broken, a letter a note below on why it cannot be kept here, `·` not asked: there the interrupt controllers
 * make no difference, or the move is the same both ways.
 */
import { fromFileUrl } from "@std/path";
import { asked, type Case, CASES, type Subject, subjects } from "../tests/engine/conformance.ts";

/** Before the name of the engine that a child is to try. */
const ONLY = "--only=";
const NOT_ASKED = "·", OK = "ok", FAILED = "FAIL";

/** `why`: what is missing, or what is wrong. */
interface Verdict {
  readonly mark: string;
  readonly why?: string;
}

async function verdict(subject: Subject, law: Case): Promise<Verdict> {
  if (!asked(subject, law)) return { mark: NOT_ASKED };
  const why = subject.refusal ?? subject.missing[law.name];
  if (why !== undefined) return { mark: "", why };
  try {
    await law.run(subject);
    return { mark: OK };
  } catch (error) {
    return { mark: FAILED, why: String(error instanceof Error ? error.message : error).trim().split("\n")[0]! };
  }
}

/** hvf through the library that stands in for Hypervisor.framework: opened only where it is asked for. */
async function subjectOf(name: string): Promise<Subject> {
  const known = subjects().find((subject) => subject.name === name);
  return known ?? (await import("../tests/engine/hvf/subject.ts")).hvfSubject();
}

/** What a child finds: a line of JSON a law. */
async function child(name: string, laws: readonly Case[]): Promise<void> {
  const subject = await subjectOf(name);
  for (const law of laws) console.log(JSON.stringify(await verdict(subject, law)));
}

async function columnOf(name: string, words: readonly string[]): Promise<Verdict[]> {
  const permissions = ["--no-prompt", "--allow-read", "--allow-write", "--allow-ffi"];
  const args = ["run", ...permissions, fromFileUrl(import.meta.url), `${ONLY}${name}`, ...words];
  const { stdout } = await new Deno.Command(Deno.execPath(), { args, stderr: "inherit" }).output();
  const lines = new TextDecoder().decode(stdout).trim().split("\n");
  return lines.filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
}

async function table(laws: readonly Case[], words: readonly string[]): Promise<number> {
  const names = [...subjects().map(({ name }) => name), "hvf"], columns: Verdict[][] = [];
  for (const name of names) columns.push(await columnOf(name, words));
  const notes: string[] = [], failures: string[] = [];
  const markOf = (name: string, law: Case, found: Verdict | undefined) => {
    const { mark, why = "the process ended" } = found ?? { mark: FAILED };
    if (mark === FAILED) failures.push(`${name}: ${law.name}: ${why}`);
    if (mark !== "") return mark;
    if (!notes.includes(why)) notes.push(why);
    return String.fromCharCode(97 + notes.indexOf(why));
  };
  const row = (cells: readonly string[], rest: string) =>
    console.log(`${cells.map((cell, i) => cell.padEnd(Math.max(4, names[i]!.length))).join("  ")}  ${rest}`.trimEnd());
  row(names, "");
  laws.forEach((law, l) => row(names.map((name, n) => markOf(name, law, columns[n]![l])), law.name));
  notes.forEach((why, i) => console.log(`${String.fromCharCode(97 + i)}: ${why}`));
  failures.forEach((line) => console.error(line));
  return failures.length > 0 ? 1 : 0;
}

const only = Deno.args.find((arg) => arg.startsWith(ONLY))?.slice(ONLY.length);
const words = Deno.args.filter((arg) => !arg.startsWith(ONLY));
const laws = CASES.filter(({ name }) =>
  words.length === 0 || words.some((word) => name.toLowerCase().includes(word.toLowerCase()))
);
if (only === undefined) Deno.exit(await table(laws, words));
await child(only, laws);
Deno.exit(0); // an engine's Workers would keep the process
