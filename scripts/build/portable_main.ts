/** trike's entry in the portable form: as `src/main.ts`, but the words come from the starter. */
import { asCalled } from "../../src/cli/called_as.ts";
import { main, reportDefects } from "../../src/cli/main.ts";

declare const TRIKE_ARGS: readonly string[];

reportDefects();
// As there: the process ends here, not when reads of stdin and Workers do.
main(asCalled(TRIKE_ARGS)).then((status) => Deno.exit(status));
