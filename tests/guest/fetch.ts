/** Fetches packages, named after the cache's folder, and prints the files or the error. */
import { messageOf } from "../../src/base/errors.ts";
import { debianPackages } from "../../src/guest/apt.ts";

const [root, ...names] = Deno.args;
try {
  console.log(JSON.stringify(await debianPackages(root!, names, { progress: () => {} })));
} catch (error) {
  console.log(error instanceof Error ? error.name : typeof error, messageOf(error));
}
