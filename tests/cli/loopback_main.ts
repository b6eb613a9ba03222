/** src/main.ts over the loop-back machine. */
import { main, reportDefects } from "../../src/cli/main.ts";
import { startLoopback } from "./loopback.ts";

reportDefects();
main(Deno.args, { start: startLoopback }).then((status) => Deno.exit(status));
