/** `deno task bench NAME [OPTIONS]`: measures one thing and prints numbers with their units. */
import { ConfigError, messageOf } from "../src/base/errors.ts";
import { benchBoot } from "./bench_boot.ts";

const BENCHES: Readonly<Record<string, (words: readonly string[]) => Promise<void>>> = { boot: benchBoot };

const [name = "", ...words] = Deno.args;
try {
  if (!Object.hasOwn(BENCHES, name)) {
    throw new ConfigError(`Cannot measure "${name}": expected one of ${Object.keys(BENCHES).join(", ")}`);
  }
  await BENCHES[name]!(words);
} catch (error) {
  console.error(messageOf(error));
  Deno.exit(error instanceof ConfigError ? 2 : 1);
}
