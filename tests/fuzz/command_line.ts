/** The command line: any words are a command or the user's mistake, told in one line. NUL bytes separate words. */
import { ConfigError } from "../../src/base/errors.ts";
import { parseCommandLine } from "../../src/cli/parse.ts";
import type { Target } from "./target.ts";

const LINES = [
  "run --kernel vmlinuz --initrd initrd.img --append console=ttyS0 --memory 1.5G --cpus 1 --disk a,,b.img,readonly,format=raw",
  "run --serial stdio --serial file:x --serial unix:/run/x --serial pty --engine soft --icount -q --timeout 0.5",
  "run --trace exits,pio:x.trace --stats=stats.json --no-reboot --memory=2GiB",
  "guest",
  "engines",
  "--help",
  "--version",
];

export const commandLine: Target = {
  name: "command_line",
  seeds: () => LINES.map((line) => new TextEncoder().encode(line.replaceAll(" ", "\0"))),
  fuzz(bytes) {
    try {
      parseCommandLine(new TextDecoder().decode(bytes).split("\0"));
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      // deno-lint-ignore no-control-regex
      if (/[\x00-\x1f\x7f]/.test(error.message)) throw new Error(`the message has control characters`);
    }
  },
};
