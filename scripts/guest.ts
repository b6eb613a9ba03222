/**
 * `deno task guest [cloud|generic] [--update]`: makes the default guest, or one with Debian's generic kernel and an ext4 root,
 * and prints where its files are.
 */
import { parseArgs } from "@std/cli/parse-args";
import { ConfigError, messageOf } from "../src/base/errors.ts";
import { debianGuest } from "../src/guest/default_guest.ts";
import { EXT4_ROOT_APPEND, ext4Root } from "../src/guest/ext4_root.ts";
import { stderrProgress } from "../src/guest/progress.ts";

async function main(words: string[]): Promise<void> {
  const args = parseArgs(words, {
    boolean: ["update"],
    unknown: (word: string, key?: string) => {
      if (key !== undefined) throw new ConfigError(`${word}: unknown option, expected --update`);
    },
  });
  const [kind = "cloud", ...rest] = args._.map(String);
  if ((kind !== "cloud" && kind !== "generic") || rest.length > 0) {
    throw new ConfigError(`Cannot make the guest "${args._.join(" ")}": expected cloud or generic`);
  }
  const progress = stderrProgress();
  const guest = await debianGuest(kind, progress, { refresh: args.update });
  console.log(`kernel  ${guest.kernel}`);
  console.log(`initrd  ${guest.initrd}`);
  if (kind === "generic") {
    console.log(`disk    ${await ext4Root(progress)}`);
    console.log(`append  ${guest.append} ${EXT4_ROOT_APPEND}`);
  } else {
    console.log(`append  ${guest.append}`);
  }
}

try {
  await main(Deno.args);
} catch (error) {
  console.error(messageOf(error));
  Deno.exit(error instanceof ConfigError ? 2 : 1);
}
