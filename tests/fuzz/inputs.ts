/**
 * `deno task fuzz:inputs [TARGET] [--seed N] [--seconds S]`: fuzzes one target, or all in turn, a minute each unless told otherwise. An
 * input that breaks a rule is made smaller and written to the target's corpus, where `deno task test` finds it from then on.
 */
import { parseArgs } from "@std/cli/parse-args";
import { ConfigError, messageOf } from "../../src/base/errors.ts";
import { fuzz } from "./target.ts";
import { corpus, corpusFolder, TARGETS } from "./targets.ts";

async function main(words: readonly string[]): Promise<boolean> {
  const args = parseArgs([...words], {
    string: ["seed", "seconds"],
    unknown: (word: string, key?: string) => {
      if (key !== undefined) throw new ConfigError(`${word}: unknown option, expected --seed N or --seconds S`);
    },
  });
  const seed = args.seed === undefined ? crypto.getRandomValues(new Uint32Array(1))[0]! : Number(args.seed);
  const seconds = Number(args.seconds ?? "60");
  if (!Number.isInteger(seed)) throw new ConfigError(`--seed ${args.seed}: expected a whole number`);
  if (!(seconds > 0)) throw new ConfigError(`--seconds ${args.seconds}: expected a number above 0`);
  const names = args._.map(String);
  for (const name of names) {
    if (!TARGETS.some((target) => target.name === name)) {
      throw new ConfigError(
        `Cannot fuzz "${name}": expected one of ${TARGETS.map((target) => target.name).join(", ")}`,
      );
    }
  }

  let clean = true;
  for (const target of TARGETS) {
    if (names.length > 0 && !names.includes(target.name)) continue;
    const inputs = [...target.seeds(), ...corpus(target).map(({ bytes }) => bytes)];
    const { runs, finding } = await fuzz(target, { seed, seconds, inputs });
    console.log(`${target.name}: ${runs} inputs, seed ${seed}: ${finding === null ? "clean" : "a finding"}`);
    if (finding === null) continue;
    clean = false;
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", finding.input.slice()));
    const file = new URL(`found-${hash.subarray(0, 6).toHex()}`, corpusFolder(target));
    await Deno.mkdir(corpusFolder(target), { recursive: true });
    await Deno.writeFile(file, finding.input);
    console.log(`${finding.why}\nin the corpus as ${file.pathname}`);
  }
  return clean;
}

try {
  if (!await main(Deno.args)) Deno.exitCode = 1;
} catch (error) {
  console.error(messageOf(error));
  Deno.exit(error instanceof ConfigError ? 2 : 1);
}
