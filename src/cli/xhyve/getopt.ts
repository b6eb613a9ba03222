/** Arguments into options, by the rules of POSIX's getopt: `-AHP`, `-m1G`, `-m 1G`, `--`. */
import { ConfigError } from "../../base/errors.ts";
import { quoted } from "../values.ts";
import { type Given, LETTERS } from "./options.ts";

export function readLetters(args: readonly string[]): Given[] {
  const given: Given[] = [];
  for (let i = 0; i < args.length; i++) {
    const arg = args[i]!;
    if (arg === "--" && i === args.length - 1) break;
    if (!/^-./s.test(arg) || arg === "--") {
      throw new ConfigError(`Unexpected ${quoted(arg)}: xhyve takes only options; 'trike xhyve -h' lists them`);
    }
    for (let at = 1; at < arg.length; at++) {
      const letter = arg[at]!;
      const known = Object.hasOwn(LETTERS, letter) ? LETTERS[letter] : undefined;
      if (known === undefined) {
        throw new ConfigError(`Unknown option ${quoted(`-${letter}`)}: 'trike xhyve -h' lists those there are`);
      }
      if (known.value === undefined) {
        given.push({ letter, value: "" });
        continue;
      }
      const value = at + 1 < arg.length ? arg.slice(at + 1) : args[++i];
      if (value === undefined) throw new ConfigError(`-${letter} needs a value: expected -${letter} ${known.value}`);
      given.push({ letter, value });
      break;
    }
  }
  return given;
}
