/** Where options came from, if not from the command line: mistakes in them are told in the words that the user wrote. */
import { ConfigError, HostError } from "../base/errors.ts";
import { quoted } from "./values.ts";

export interface Origin {
  readonly value: string;
  /** What the user knows it as: `-m`, or `"vm.jsonc" at /memory`. */
  readonly called: string;
}

/** By option, without its dashes: a value each. */
export type Origins = ReadonlyMap<string, readonly Origin[]>;

/** An option at the start of a message, and the value it tells of. */
const NAMED = /^((?:Cannot (?:open|use) )?)--([a-z][a-z-]*)((?: ("(?:[^"\\]|\\.)*"))?)/;

/** The error with the user's word for the option it names; any other error as it is. */
export function inTheirWords(error: unknown, origins: Origins): unknown {
  if (!(error instanceof ConfigError || error instanceof HostError)) return error;
  const [all, before = "", name = "", after = "", value] = NAMED.exec(error.message) ?? [];
  const from = all === undefined ? undefined : origins.get(name);
  if (all === undefined || !from?.length) return error;
  // A file is told by its name alone, which a value may begin with.
  const begins = (text: string) => value !== undefined && quoted(text).startsWith(value.slice(0, -1));
  const one = from.find((o) => value === quoted(o.value)) ?? from.find((o) => begins(o.value)) ?? from[0]!;
  const message = `${before}${one.called}${after}${error.message.slice(all.length)}`;
  return error instanceof ConfigError
    ? new ConfigError(message, { cause: error })
    : new HostError(message, { cause: error });
}

/** What `body` returns; what it throws is told in the user's words. */
export function toldFrom<T>(origins: Origins, body: () => T): T {
  try {
    return body();
  } catch (error) {
    throw inTheirWords(error, origins);
  }
}
