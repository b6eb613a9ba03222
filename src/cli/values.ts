/** The values of options: text in, plain data out. A value that does not fit is a ConfigError of one sentence. */
import { levenshteinDistance } from "@std/text/levenshtein-distance";
import { ConfigError } from "../base/errors.ts";
import { formatSize, parseSize } from "../base/size.ts";
import { isMachineName, NAME_RULE } from "../machine/registry.ts";
import type { SerialSpec } from "../machine/spec.ts";

/** `--flag "value": expected …`, with whatever the user typed made safe to print. */
export function mistake(flag: string, value: string, expected: string): ConfigError {
  return new ConfigError(`${flag} ${quoted(value)}: expected ${expected}`);
}

export function quoted(value: string): string {
  const text = value.length > 200 ? value.slice(0, 200) + "…" : value;
  // JSON escapes the C0 controls; DEL and the C1 controls can move a terminal's cursor just as well.
  const c1 = /[\x7f-\x9f]/g;
  return JSON.stringify(text).replace(c1, (c) => "\\u00" + c.charCodeAt(0).toString(16));
}

export function sizeOption(
  flag: string,
  text: string,
  limits: { min: number; max: number; multipleOf: number },
): number {
  const bytes = parseSize(text);
  const { min, max, multipleOf } = limits;
  if (bytes === undefined) throw mistake(flag, text, "a size such as 512M or 2GiB");
  if (bytes < min && bytes > 0 && /^\d+$/.test(text) && bytes * 1024 ** 2 <= max && bytes * 1024 ** 2 >= min) {
    throw mistake(flag, text, `a size from ${formatSize(min)} to ${formatSize(max)}; did you mean ${text}M?`);
  }
  if (bytes < min || bytes > max) throw mistake(flag, text, `a size from ${formatSize(min)} to ${formatSize(max)}`);
  if (bytes % multipleOf !== 0) throw mistake(flag, text, `a multiple of ${formatSize(multipleOf)}`);
  return bytes;
}

export function countOption(flag: string, text: string, min: number, max: number): number {
  const value = /^\d{1,9}$/.test(text) ? Number(text) : NaN;
  if (!(value >= min && value <= max)) throw mistake(flag, text, `a whole number from ${min} to ${max}`);
  return value;
}

/** The longest time a host timer takes: 2^31 ms. */
const MAX_SECONDS = 2_147_483;

export function secondsOption(flag: string, text: string): number {
  const value = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : NaN;
  if (!(value > 0 && value <= MAX_SECONDS)) {
    throw mistake(flag, text, `seconds, more than 0 and at most ${MAX_SECONDS}`);
  }
  return value;
}

export function choiceOption<T extends string>(flag: string, text: string, choices: readonly T[]): T {
  const found = choices.find((c) => c === text);
  if (found === undefined) throw mistake(flag, text, list(choices) + hint(text, choices));
  return found;
}

const IRQ_CHIPS = ["kernel", "split", "user"] as const;

export interface EngineChoice<T> {
  readonly engine: T;
  readonly irqchip: typeof IRQ_CHIPS[number] | null;
  readonly tiers: 1 | 2;
  readonly native: boolean;
}

/** `NAME`, `kvm:irqchip=WHO`, `soft:tiers=1` or `2`, or `soft:native`; a comma does for the colon, as in other options. */
export function engineOption<T extends string>(
  flag: string,
  text: string,
  names: readonly T[],
): EngineChoice<T> {
  const colon = text.search(/[:,]/), plain = { irqchip: null, tiers: 2, native: false } as const;
  if (colon < 0) return { ...plain, engine: choiceOption(flag, text, names) };
  const engine = choiceOption(flag, text.slice(0, colon), names), detail = text.slice(colon + 1);
  if (engine === "soft") {
    if (detail === "native") return { ...plain, engine, native: true };
    const tiers = ([1, 2] as const).find((n) => detail === `tiers=${n}`);
    if (tiers === undefined) throw mistake(flag, text, 'native, tiers=1 or tiers=2 after "soft:"');
    return { ...plain, engine, tiers };
  }
  if (engine !== "kvm") throw mistake(flag, text, `nothing after ${quoted(engine)}`);
  const irqchip = IRQ_CHIPS.find((who) => detail === `irqchip=${who}`);
  if (irqchip === undefined) throw mistake(flag, text, `irqchip=${list(IRQ_CHIPS)} after "kvm:"`);
  return { ...plain, engine, irqchip };
}

/** `a, b or c`. */
export function list(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
}

/** `; did you mean x?` when one of the words is near. */
export function hint(text: string, words: readonly string[]): string {
  const near = nearest(text, words);
  return near === undefined ? "" : `; did you mean ${near}?`;
}

/** The word a typing slip away from `text`, or the one that begins as `text` does: --mem for --memory. */
export function nearest(text: string, words: readonly string[]): string | undefined {
  if (text.length === 0 || text.length > 40) return undefined;
  const longer = text.length >= 3 ? words.filter((word) => word.startsWith(text)) : [];
  if (longer.length === 1) return longer[0];
  let best: string | undefined;
  let bestDistance = Infinity;
  for (const word of words) {
    // Letters in another order are one slip, though two edits.
    const distance: number = letters(text) === letters(word) ? 1 : levenshteinDistance(text, word);
    // A third of the letters may differ: more is another word, not a slip.
    if (distance <= Math.max(1, word.length / 3) && distance < bestDistance) [best, bestDistance] = [word, distance];
  }
  return best;
}

function letters(word: string): string {
  return [...word].sort().join("");
}

/** Parts with commas between them; a comma written twice is one of the part's own. */
export function splitAtSingleCommas(text: string): string[] {
  const parts = [""];
  for (let i = 0; i < text.length; i++) {
    if (text[i] !== ",") parts[parts.length - 1] += text[i];
    else if (text[i + 1] === ",") {
      parts[parts.length - 1] += ",";
      i++;
    } else parts.push("");
  }
  return parts;
}

const SERIAL_KINDS = ["stdio", "none", "pty[:LINK]", "file:PATH", "unix:PATH", "tty:PATH"] as const;

/** The length of sun_path on macOS, less the terminating zero; Linux allows four bytes more. */
const MAX_SOCKET_PATH = 103;

export function serialOption(flag: string, text: string): SerialSpec {
  if (text === "stdio" || text === "none" || text === "pty") return { kind: text };
  const colon = text.indexOf(":");
  const kind = colon < 0 ? text : text.slice(0, colon);
  const path = colon < 0 ? "" : text.slice(colon + 1);
  if (kind !== "file" && kind !== "unix" && kind !== "pty" && kind !== "tty") {
    const near = nearest(kind, ["stdio", "none", "pty", "file", "unix", "tty"]);
    throw mistake(flag, text, list(SERIAL_KINDS) + (near && near !== kind ? `; did you mean ${near}?` : ""));
  }
  if (path === "") throw mistake(flag, text, `a path after "${kind}:"`);
  if (kind === "unix" && new TextEncoder().encode(path).length > MAX_SOCKET_PATH) {
    throw mistake(flag, text, `a socket path of at most ${MAX_SOCKET_PATH} bytes`);
  }
  return kind === "pty" ? { kind, link: path } : { kind, path };
}

export function nameOption(flag: string, text: string): string {
  if (!isMachineName(text)) throw mistake(flag, text, NAME_RULE);
  return text;
}

const UUID = /^[\da-f]{8}(-[\da-f]{4}){3}-[\da-f]{12}$/i;

export function uuidOption(flag: string, text: string): string {
  if (!UUID.test(text)) throw mistake(flag, text, "a UUID, such as 123e4567-e89b-12d3-a456-426614174000");
  return text.toLowerCase();
}

/** `LIST[:FILE]`: categories with commas between them, and where they go. */
export function traceOption(
  flag: string,
  text: string,
  known: readonly string[],
  defaultPath: string,
): { categories: string[]; path: string } {
  const colon = text.indexOf(":");
  const names = (colon < 0 ? text : text.slice(0, colon)).split(",");
  const path = colon < 0 ? defaultPath : text.slice(colon + 1);
  for (const name of names) {
    if (!known.includes(name)) {
      throw mistake(flag, text, `categories out of ${known.join(", ")} and found ${quoted(name)}${hint(name, known)}`);
    }
  }
  if (path === "") throw mistake(flag, text, 'a file after ":"');
  return { categories: [...new Set(names)], path };
}
