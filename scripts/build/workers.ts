/** The modules that Workers of trike start with: what a bundler and `deno compile` do not see by themselves. */
import { dirname, join, normalize } from "@std/path";
import { Bug } from "../../src/base/errors.ts";
import { sources } from "../tree.ts";

/** How `src` names the module of a Worker. */
const WORKER_URL = /new URL\(\s*"(\.{1,2}\/[^"]*\.ts)",\s*import\.meta\.url,?\s*\)/g;

/** Paths from the root, by the text that names them in the sources. */
export function workerModules(): Map<string, string> {
  const found = new Map<string, string>();
  for (const { path, text } of sources([".ts"])) {
    if (!path.startsWith("src/") || path.endsWith("_test.ts")) continue;
    for (const { 1: name } of text.matchAll(WORKER_URL)) {
      const module = normalize(join(dirname(path), name!));
      // A bundle no longer knows which file a text is from.
      if ((found.get(name!) ?? module) !== module) {
        throw new Bug(`"${name}" is both ${found.get(name!)} and ${module}: expected different names`);
      }
      found.set(name!, module);
    }
  }
  return found;
}
