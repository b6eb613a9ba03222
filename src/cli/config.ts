/**
 * A machine as a file: JSON, comments allowed, whose keys are the options of `trike run` without their dashes and whose values
 * are what the options take. Text in, options out; nothing here touches the host.
 */
import { parse as parseJsonc } from "@std/jsonc";
import { dirname, isAbsolute, join } from "@std/path";
import { ConfigError } from "../base/errors.ts";
import { CONFIG_OPTIONS, type ObjectForm, type Option, OPTION_BY_NAME, RUN_OPTIONS } from "./options.ts";
import type { Origin, Origins } from "./origins.ts";
import { hint, list, quoted } from "./values.ts";

/** The options by name, each with the values it was given; a switch has none. */
export type Given = ReadonlyMap<string, readonly string[]>;

export interface ConfigOptions {
  readonly given: Given;
  readonly origins: Origins;
}

/** Options of `trike run` that a file cannot have, for they are about this run of the program. */
const NOT_IN_A_FILE: readonly string[] = ["config", "help", "version", ...Object.keys(CONFIG_OPTIONS)];
/** Not an option: editors find the schema by it. */
const SCHEMA_KEY = "$schema";

/** Options that a file may have, in the order of the help page. */
export const CONFIG_KEYS: readonly string[] = Object.values(RUN_OPTIONS).flatMap((group) => Object.keys(group))
  .filter((name) => !NOT_IN_A_FILE.includes(name));

/** Reads the text of a file whose name is `path`; files that it names relatively are beside it. */
export function readConfigText(text: string, path: string): ConfigOptions {
  const file = new ConfigFile(path);
  const root = parse(text, path);
  if (!isObject(root)) throw file.mistake("/", root, "an object with options as its keys");
  for (const [key, value] of Object.entries(root)) {
    if (key === SCHEMA_KEY) continue;
    if (!CONFIG_KEYS.includes(key)) {
      const known = NOT_IN_A_FILE.includes(key) ? "" : hint(key, CONFIG_KEYS);
      throw new ConfigError(`${quoted(path)} at ${pointer(key)}: unknown key ${quoted(key)}${known}`);
    }
    file.read(key, OPTION_BY_NAME[key]!, value);
  }
  return file;
}

class ConfigFile implements ConfigOptions {
  readonly given = new Map<string, string[]>();
  readonly origins = new Map<string, Origin[]>();

  constructor(private readonly path: string) {}

  read(name: string, option: Option, value: unknown): void {
    const at = pointer(name);
    if (option.value === undefined) {
      if (typeof value !== "boolean") throw this.mistake(at, value, "true or false");
      if (value) this.#add(name, null, at);
    } else if (Array.isArray(value)) {
      if (!option.repeat) throw this.mistake(at, value, `one value, as in --${name} ${option.value}`);
      for (const [i, one] of value.entries()) this.#add(name, this.#text(option, one, `${at}/${i}`), `${at}/${i}`);
    } else this.#add(name, this.#text(option, value, at), at);
  }

  mistake(at: string, value: unknown, expected: string): ConfigError {
    const found = quoted(typeof value === "string" ? value : JSON.stringify(value));
    return new ConfigError(`${quoted(this.path)} at ${at}: found ${found}, expected ${expected}`);
  }

  #add(name: string, value: string | null, at: string): void {
    const values = this.given.get(name) ?? [], origins = this.origins.get(name) ?? [];
    if (value !== null) values.push(value);
    origins.push({ value: value ?? "", called: `${quoted(this.path)} at ${at}` });
    this.given.set(name, values);
    this.origins.set(name, origins);
  }

  #text(option: Option, value: unknown, at: string): string {
    if (typeof value === "string") return this.#beside(option, value);
    if (typeof value === "number" && takesNumber(option)) return String(value);
    if (option.object && isObject(value)) return this.#beside(option, this.#words(option.object, value, at));
    const types = ["text", ...takesNumber(option) ? ["a number"] : [], ...option.object ? ["an object"] : []];
    throw this.mistake(at, value, `${list(types)}: ${option.value}`);
  }

  /** `{ "file": "a", "readonly": true, "format": "raw" }` as `a,readonly,format=raw`. */
  #words({ first, keys }: ObjectForm, value: Record<string, unknown>, at: string): string {
    const start = value[first];
    if (typeof start !== "string") throw this.mistake(`${at}/${first}`, start ?? null, "text");
    let words = commas(start);
    for (const [key, one] of Object.entries(value)) {
      if (key === first) continue;
      const kind = Object.hasOwn(keys, key) ? keys[key] : undefined;
      const place = `${at}${pointer(key)}`;
      if (kind === undefined) {
        const known = [first, ...Object.keys(keys)];
        throw this.mistake(place, key, `a key out of ${list(known)}${hint(key, known)}`);
      }
      const isSwitch = kind === "switch" || (Array.isArray(kind) && kind.includes("on"));
      if (typeof one === "boolean" && isSwitch) {
        if (kind !== "switch") words += `,${key}=${one ? "on" : "off"}`;
        else if (one) words += `,${key}`;
      } else if (kind !== "switch" && (typeof one === "string" || typeof one === "number")) {
        words += `,${key}=${commas(String(one))}`;
      } else throw this.mistake(place, one, kind === "switch" ? "true or false" : "text");
    }
    return words;
  }

  #beside(option: Option, value: string): string {
    const paths = option.paths ?? (option.value === "FILE" ? /^.+$/s : null);
    const folder = dirname(this.path);
    if (paths === null || folder === ".") return value;
    const written = option.object ? commas(folder) : folder;
    return value.replace(paths, (path) => isAbsolute(path) ? path : join(written, path));
  }
}

function parse(text: string, path: string): unknown {
  try {
    return parseJsonc(text);
  } catch (error) {
    if (error instanceof RangeError) throw new ConfigError(`${quoted(path)}: expected less deeply nested JSON`);
    if (!(error instanceof SyntaxError)) throw error;
    const position = /position (\d+)/.exec(error.message)?.[1];
    if (position === undefined) throw new ConfigError(`${quoted(path)}: expected JSON, and it ends too early`);
    const before = text.slice(0, Number(position)).split("\n");
    const where = `line ${before.length}, column ${before.at(-1)!.length + 1}`;
    throw new ConfigError(`${quoted(path)}, ${where}: expected JSON`, { cause: error });
  }
}

/** The options of a file and of the command line together: where both have one, the command line's values count. */
export function merged(file: ConfigOptions, commandLine: Given): ConfigOptions {
  const origins = [...file.origins].filter(([name]) => !commandLine.has(name));
  return { given: new Map([...file.given, ...commandLine]), origins: new Map(origins) };
}

/** What `trike config` prints: a file that makes the same machine, defaults written out. */
export function configText(given: Given): string {
  const entries = CONFIG_KEYS.flatMap((name): [string, unknown][] => {
    const option = OPTION_BY_NAME[name]!;
    const values = given.get(name) ?? (option.default === undefined ? undefined : [option.default]);
    if (values === undefined) return [];
    if (option.value === undefined) return [[name, true]];
    const json = values.map((text) => takesNumber(option) && /^(0|[1-9]\d{0,8})$/.test(text) ? Number(text) : text);
    return [[name, option.repeat ? json : json[0]]];
  });
  return JSON.stringify(Object.fromEntries(entries), null, 2) + "\n";
}

/** Whether a file may give a number: one that is counted, in seconds or in bytes. */
export function takesNumber(option: Option): boolean {
  return option.value === "N" || option.value === "SECONDS" || option.value === "SIZE";
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A key as a step of a JSON pointer (RFC 6901). */
function pointer(key: string): string {
  // deno-lint-ignore no-control-regex
  return `/${key.replaceAll("~", "~0").replaceAll("/", "~1").replace(/[\x00-\x1f\x7f-\x9f]/g, "?").slice(0, 80)}`;
}

function commas(text: string): string {
  return text.replaceAll(",", ",,");
}
