/**
 * `deno task guest [cloud|generic|disk|debian-disk] [--update]`: makes the default guest, one with Debian's generic kernel and
 * an ext4 root, or a disk that GRUB boots with BusyBox or with Debian's systemd, and prints where its files are.
 */
import { parseArgs } from "@std/cli/parse-args";
import { ConfigError, messageOf } from "../src/base/errors.ts";
import { debianGuest } from "../src/guest/default_guest.ts";
import { EXT4_ROOT_APPEND, ext4Root } from "../src/guest/ext4_root.ts";
import { stderrProgress } from "../src/guest/progress.ts";
import { grubDisk } from "./guest/grub_disk.ts";

const KINDS = ["cloud", "generic", "disk", "debian-disk"];

async function main(words: string[]): Promise<void> {
  const args = parseArgs(words, {
    boolean: ["update"],
    unknown: (word: string, key?: string) => {
      if (key !== undefined) throw new ConfigError(`${word}: unknown option, expected --update`);
    },
  });
  const [kind = "cloud", ...rest] = args._.map(String);
  if (!KINDS.includes(kind) || rest.length > 0) {
    throw new ConfigError(`Cannot make the guest "${args._.join(" ")}": expected one of ${KINDS.join(", ")}`);
  }
  const progress = stderrProgress();
  if (kind === "disk" || kind === "debian-disk") {
    if (args.update) await debianGuest("generic", progress, { refresh: true });
    console.log(`disk    ${await grubDisk(kind === "disk" ? "busybox" : "systemd", progress)}`);
    return;
  }
  const guest = await debianGuest(kind === "generic" ? kind : "cloud", progress, { refresh: args.update });
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
