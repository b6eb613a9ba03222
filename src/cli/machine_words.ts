/** The words of commands that have operands: `NAME [--timeout SECONDS]`. */
import { ConfigError } from "../base/errors.ts";
import { hint, quoted } from "./values.ts";

export interface WordSpec {
  readonly operands: string;
  /** How many operands there are at least and at most. */
  readonly count: readonly [number, number];
  readonly help: string;
  readonly options: Readonly<Record<string, { readonly value?: string; readonly help: string }>>;
}

export interface Words {
  readonly operands: readonly string[];
  readonly given: ReadonlyMap<string, string>;
}

/** Options may stand before and behind operands, and be joined to their values by "=". Throws ConfigError. */
export function readWords(command: string, spec: WordSpec, args: readonly string[]): Words {
  const operands: string[] = [], given = new Map<string, string>();
  const usage = `expected ${[command, spec.operands].join(" ").trim()}`;
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (!arg.startsWith("-")) {
      operands.push(arg);
      continue;
    }
    const equals = arg.indexOf("=");
    const name = equals < 0 ? arg : arg.slice(0, equals);
    const key = name.slice(2);
    const option = name.startsWith("--") && Object.hasOwn(spec.options, key) ? spec.options[key] : undefined;
    if (option === undefined) {
      const known = Object.keys(spec.options).map((one) => `--${one}`);
      throw new ConfigError(
        `Unknown option ${quoted(name)} of '${command}'${hint(name, known)}: 'trike --help' says more`,
      );
    }
    if (given.has(key)) throw new ConfigError(`${name}: expected it once, and found it twice`);
    if (option.value === undefined) {
      if (equals >= 0) throw new ConfigError(`${name} ${quoted(arg.slice(equals + 1))}: expected no value`);
      given.set(key, "");
      continue;
    }
    const value = equals < 0 ? args[++i] : arg.slice(equals + 1);
    if (value === undefined) throw new ConfigError(`${name} needs a value: expected ${name} ${option.value}`);
    given.set(key, value);
  }
  const [min, max] = spec.count;
  if (operands.length < min) throw new ConfigError(`'${command}' needs more: ${usage}`);
  if (operands.length > max) throw new ConfigError(`Unexpected ${quoted(operands[max]!)}: ${usage}`);
  return { operands, given };
}
