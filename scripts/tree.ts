/** The files of the tree that are ours, for the checks. */
const SKIPPED = new Set([".git", ".cache", "node_modules", "dist"]);

export const ROOT = new URL("../", import.meta.url).pathname;

export interface Source {
  /** From the root of the tree. */
  readonly path: string;
  readonly text: string;
}

/** Paths of files whose names end in one of `endings`, sorted. */
export function paths(endings: readonly string[], folder = ""): string[] {
  const found: string[] = [];
  for (const { name, isDirectory, isFile } of Deno.readDirSync(ROOT + folder)) {
    const path = folder === "" ? name : `${folder}/${name}`;
    if (isDirectory && !SKIPPED.has(name)) found.push(...paths(endings, path));
    else if (isFile && endings.some((ending) => name.endsWith(ending))) found.push(path);
  }
  return found.sort();
}

export function sources(endings: readonly string[]): Source[] {
  return paths(endings).map((path) => ({ path, text: Deno.readTextFileSync(ROOT + path) }));
}

export function lineOf(text: string, at: number): number {
  return text.slice(0, at).split("\n").length;
}

/** The text with the same lines, where whatever is in a comment is blank (`code`) or whatever is not (`comments`). */
export function split(text: string): { code: string; comments: string } {
  // Strings are matched first, so that "//" within one starts no comment; a template is one string.
  const token = /"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\[^])*`|\/\/[^\n]*|\/\*[^]*?\*\//g;
  const blank = (piece: string) => piece.replace(/[^\n]/g, " ");
  let code = "", comments = "", at = 0;
  for (const match of text.matchAll(token)) {
    const between = text.slice(at, match.index);
    const comment = match[0].startsWith("//") || match[0].startsWith("/*");
    code += between + (comment ? blank(match[0]) : match[0]);
    comments += blank(between) + (comment ? match[0] : blank(match[0]));
    at = match.index + match[0].length;
  }
  return { code: code + text.slice(at), comments: comments + blank(text.slice(at)) };
}

/** Prints the findings and ends with the status they deserve. */
export function conclude(what: string, findings: readonly string[]): never {
  for (const finding of findings) console.error(finding);
  if (findings.length > 0) console.error(`${findings.length} against ${what}`);
  Deno.exit(findings.length === 0 ? 0 : 1);
}
