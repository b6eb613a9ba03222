/** Every citation `[key §…]` in a comment or a test's name has its key in docs/specs.md, and every key there is cited. */
import { conclude, lineOf, ROOT, sources, split } from "./tree.ts";

/** `[key]`, `[key §1.2, other §3]`, `[key NAME]`. */
const BRACKET = /(?<![\w\])])\[([a-z][a-z0-9-]+(?:,? [^\][\n]*)?)\]/g;
/** In a comment, what else stands in brackets: `[base + disp]`, `[disp32]`, plain words. */
const PLACE = /^\w+ [-+*×]|^disp\d+$|^bits? /;
// A register in brackets, as in assembly, is no citation.
const CITATION = /^(?!r\d)[a-z]+[\d-]|^[a-z0-9-]+ (?:§|\d|[A-Z]|table|chapter|appendix)/;
/** Within one bracket another key may follow: `sdm2 MOV, sdm3 §2.5`. */
const FURTHER = /[,;] ([a-z][a-z0-9-]{2,}) (?=§|\d)/g;
/** An RFC's number says which document it is, and it never changes. */
const RFC = /^rfc\d+$/;
/** Words that stand before a number within one document. */
const PARTS = new Set(["table", "tables", "chapter", "chapters", "figure", "appendix", "section", "and", "to"]);
const CITED_IN_STRING = /§|^sdm\d /;

const keys = new Set(
  [...Deno.readTextFileSync(`${ROOT}docs/specs.md`).matchAll(/^\| `([a-z0-9-]+)` /gm)].map((match) => match[1]!),
);
const used = new Set<string>();
const findings: string[] = [];
for (const { path, text } of sources([".ts"])) {
  if (path.startsWith("scripts/check_")) continue; // they speak of the forms of citations
  const { code, comments } = split(text);
  for (const [part, isComment] of [[comments, true], [code, false]] as const) {
    for (const match of part.matchAll(BRACKET)) {
      const citation = match[1]!;
      if (!isComment && !CITED_IN_STRING.test(citation)) continue;
      for (const key of keysOf(citation)) {
        if (!keys.has(key) && (PLACE.test(citation) || !CITATION.test(citation))) continue;
        used.add(key);
        if (!keys.has(key) && !RFC.test(key)) {
          findings.push(`${path}:${lineOf(text, match.index)}: [${citation}]: docs/specs.md has no "${key}"`);
        }
      }
    }
  }
}
for (const key of keys) if (!used.has(key)) findings.push(`docs/specs.md: nothing cites "${key}"`);
conclude("the citations", findings);

function keysOf(citation: string): string[] {
  const first = /^[a-z0-9-]+/.exec(citation)![0];
  const further = [...citation.matchAll(FURTHER)].map((match) => match[1]!);
  return [first, ...further.filter((word) => !PARTS.has(word))];
}
