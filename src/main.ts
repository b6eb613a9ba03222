/** trike: x86-64 virtual machines. `trike --help` says what can be asked of it. */
import { main, reportDefects } from "./cli/main.ts";
import { asCalled } from "./cli/called_as.ts";

/** The name the program was called by, where the runtime tells. */
function calledAs(): string | undefined {
  return (globalThis as { process?: { argv0?: string } }).process?.argv0;
}

if (import.meta.main) {
  reportDefects();
  // Reads of stdin and Workers may still be under way: the process ends here, not when they do.
  main(asCalled(calledAs(), Deno.args)).then((status) => Deno.exit(status));
}
