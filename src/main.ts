/** trike: x86-64 virtual machines. `trike --help` says what can be asked of it. */
import { asCalled } from "./cli/called_as.ts";
import { main, reportDefects } from "./cli/main.ts";

if (import.meta.main) {
  reportDefects();
  // Reads of stdin and Workers may still be under way: the process ends here, not when they do.
  main(asCalled(Deno.args)).then((status) => Deno.exit(status));
}
