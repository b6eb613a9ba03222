/** What the name that trike is called by says before any argument does. */
import { basename } from "@std/path";

/** Names under which trike understands xhyve's options from the start. */
const XHYVE = ["xhyve", "hyperkit", "com.docker.hyperkit"];

/** The arguments, with `xhyve` before them where the program was called so. */
export function asCalled(args: readonly string[], argv0 = calledAs()): readonly string[] {
  return argv0 !== undefined && XHYVE.includes(basename(argv0)) ? ["xhyve", ...args] : args;
}

/** The name the program was called by, where the runtime tells. */
function calledAs(): string | undefined {
  return (globalThis as { process?: { argv0?: string } }).process?.argv0;
}
