/** trike's entry in the portable form, where arguments may come from a script. */
import { main, reportDefects } from "../../src/cli/main.ts";

export function start(args: readonly string[]): void {
  reportDefects();
  // As in src/main.ts: the process ends here, not when reads of stdin and Workers do.
  main(args).then((status) => Deno.exit(status));
}
