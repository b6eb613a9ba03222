/**
 * What the documents name exists: paths in backquotes, `file:symbol`, the name of a test in quotes behind its file's path, links
 * to files, tasks.
 */
import { dirname, join, normalize } from "@std/path";
import { conclude, lineOf, ROOT, sources } from "./tree.ts";

const ROOMS = "src|devices|ffi|tests|scripts|docs|\\.ci";
/** `src/base/ram.ts`, `src/base/ram.ts:GuestRam`, `devices/`; then, perhaps, "the name of a test". */
const NAMED = new RegExp(`\`((?:${ROOMS})/[\\w./-]*)(?::([A-Za-z_$][\\w$]*))?\`(?:[:,]?\\s+"([^"]+)")?`, "g");
/** A path with a pattern in it, `docs/decisions/*.md`, names a folder at least. */
const PATTERN = new RegExp(`\`((?:${ROOMS})/[\\w./-]*)[*{<][^\`]*\``, "g");
const LINK = /\]\((?!\w+:|#)([^)\s#]+)(?:#[^)]*)?\)/g;
const TASK = /deno(?:@[\d.]+)? task (?:--\w+ )?([a-z][a-z:]*)/g;

const { tasks } = JSON.parse(Deno.readTextFileSync(`${ROOT}deno.json`)) as { tasks: Record<string, string> };
const findings: string[] = [];
for (const { path, text } of sources([".md"])) {
  const find = (at: number, what: string) => findings.push(`${path}:${lineOf(text, at)}: ${what}`);
  for (const { 1: target, 2: symbol, 3: test, index } of text.matchAll(NAMED)) {
    if (!exists(target!)) find(index, `there is no ${target}`);
    else if (symbol !== undefined && !declares(read(target!), symbol)) find(index, `${target} declares no ${symbol}`);
    else if (test !== undefined && target!.endsWith("_test.ts") && !hasTest(read(target!), test)) {
      find(index, `${target} has no test "${test}"`);
    }
  }
  for (const { 1: start, index } of text.matchAll(PATTERN)) {
    const folder = start!.slice(0, start!.lastIndexOf("/") + 1);
    if (!exists(folder)) find(index, `there is no ${folder}`);
  }
  for (const { 1: link, index } of text.matchAll(LINK)) {
    if (!exists(normalize(join(dirname(path), link!)))) find(index, `the link to ${link} leads nowhere`);
  }
  for (const { 1: task, index } of text.matchAll(TASK)) {
    if (!Object.hasOwn(tasks, task!)) find(index, `deno.json has no task "${task}"`);
  }
}
conclude("the documents", findings);

function exists(path: string): boolean {
  try {
    Deno.statSync(ROOT + path);
    return true;
  } catch {
    return false;
  }
}

function read(path: string): string {
  return Deno.readTextFileSync(ROOT + path);
}

/** At the top level, or as a member. */
function declares(text: string, symbol: string): boolean {
  const name = symbol.replaceAll("$", "\\$");
  return new RegExp(
    `\\b(?:function|class|const|let|interface|type|enum)\\s+${name}\\b|^\\s+(?:[a-z]+\\s+)*#?${name}\\s*[(<?:=]`,
    "m",
  ).test(text);
}

/** A name in the file may begin with what a template fills in. Line breaks in the document do not matter. */
function hasTest(text: string, name: string): boolean {
  return text.includes(name.replace(/\s+/g, " "));
}
