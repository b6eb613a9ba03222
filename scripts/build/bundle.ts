/** The program as a few scripts that import nothing: the main thread's and one for each Worker. */
import { HostError } from "../../src/base/errors.ts";
import { ROOT } from "../tree.ts";
import { workerModules } from "./workers.ts";

export const MAIN = "scripts/build/portable_main.ts";

/**
 * What the bundler leaves in a script that only a module can say: how it gets Deno's built-in modules, of which the
 * starter knows another way, and the address of a Worker's module.
 */
const REQUIRE = /import \{ createRequire as (\w+) \} from "node:module";\s*var __require = \1\(import\.meta\.url\);/;
const WORKER_URL = /new URL\(\s*"([^"]*)",\s*import_meta\d*\.url,?\s*\)/g;
const MODULE_ONLY = /^.*(?:\bimport_meta\d*\.|\bimport\.meta\b|^\s*import(?:\s+\w|\s*[{*"'])).*$/m;

export interface Bundle {
  /** The path of the module that it is made of. */
  readonly name: string;
  readonly text: string;
}

export async function bundleProgram(): Promise<Bundle[]> {
  const workers = workerModules();
  const names = [MAIN, ...new Set(workers.values())];
  return await Promise.all(names.map(async (name) => ({ name, text: adapt(name, await bundle(name), workers) })));
}

async function bundle(module: string): Promise<string> {
  const output = await Deno.makeTempFile({ prefix: "trike-bundle-", suffix: ".js" });
  try {
    const args = ["bundle", "--quiet", "--platform", "deno", "--format", "iife", "--output", output, module];
    const { success, stderr } = await new Deno.Command(Deno.execPath(), {
      args,
      cwd: ROOT,
      stdin: "null",
      stdout: "null",
      stderr: "piped",
      env: { NO_COLOR: "1" },
    }).output();
    if (!success) {
      throw new HostError(`Cannot bundle ${module}: deno bundle says: ${new TextDecoder().decode(stderr).trim()}`);
    }
    return await Deno.readTextFile(output);
  } finally {
    await Deno.remove(output);
  }
}

/** The parameters of a script are in `scripts/build/starter.ts`. It is as strict as the modules in it. */
function adapt(name: string, text: string, workers: ReadonlyMap<string, string>): string {
  const adapted = text.replace(REQUIRE, "").replace(WORKER_URL, (_, worker: string) => {
    const module = workers.get(worker);
    if (module === undefined) throw new HostError(`Cannot bundle ${name}: no module of src is "${worker}"`);
    return `new URL(TRIKE_WORKERS[${JSON.stringify(module)}])`;
  });
  const rest = MODULE_ONLY.exec(adapted);
  if (rest) throw new HostError(`Cannot bundle ${name}: a script has nothing in place of "${rest[0].trim()}"`);
  return `"use strict";\n${adapted}`;
}
