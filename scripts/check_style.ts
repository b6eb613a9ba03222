/** Rules of the house that no linter knows. */
import { conclude, lineOf, type Source, sources, split } from "./tree.ts";

const MAX_LINES = 500;

interface Rule {
  readonly what: string;
  readonly pattern: RegExp;
  /** Comments are looked at, too. */
  readonly everywhere: boolean;
  applies(path: string): boolean;
}

// Written so that no pattern matches itself.
const RULES: readonly Rule[] = [
  {
    what: "a pure room reaches for the host",
    pattern:
      /\bDeno\.|\bDate\.now\b|\bnew Date\b|\bperformance\.|\bset(?:Timeout|Interval)\b|\bMath\.random\b|\bconsole\./g,
    everywhere: false,
    applies: (path) =>
      /^(devices|src\/base|src\/wasm|src\/cpu)\/.*\.ts$/.test(path) && !/(_test|fixture)\.ts$/.test(path),
  },
  {
    what: "unfinished work",
    pattern: /\b(?:TO[D]O|FIX[M]E|XX[X]|HAC[K])\b/g,
    everywhere: true,
    applies: () => true,
  },
  {
    what: "a path of one machine",
    pattern: /(?<![\w.$}/])\/(?:home\/\w|Users\/\w|work\/)/g,
    everywhere: true,
    applies: () => true,
  },
  {
    what: "the host name of a registry or a mirror",
    pattern: /\b(?:registry\.npmj[s]|npmmirro[r]|deb\.debia[n]|ghcr\.i[o]|docker\.i[o])\b/g,
    everywhere: true,
    applies: () => true,
  },
];

const findings: string[] = [];
for (const source of sources([".ts", ".md", ".json", ".lock", ".dsl", "run"])) {
  for (const rule of RULES) if (rule.applies(source.path)) findings.push(...breaches(rule, source));
  const lines = source.text.split("\n").length - 1;
  if (source.path.endsWith(".ts") && lines > MAX_LINES) {
    findings.push(`${source.path}: ${lines} lines, expected at most ${MAX_LINES}`);
  }
}
conclude("the house's style", findings);

function breaches({ what, pattern, everywhere }: Rule, { path, text }: Source): string[] {
  const looked = everywhere ? text : split(text).code;
  return [...looked.matchAll(pattern)].map((match) => `${path}:${lineOf(text, match.index)}: ${what}: "${match[0]}"`);
}
