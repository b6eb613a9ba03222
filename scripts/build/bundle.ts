/** The program as a few modules of JavaScript that import nothing but Deno's own: the main thread's and one for each Worker. */
import { HostError } from "../../src/base/errors.ts";
import { ROOT } from "../tree.ts";
import { MODULE_TABLE } from "./starter.ts";
import { WORKER_URL, workerModules } from "./workers.ts";

const MAIN = "scripts/build/portable_main.ts";
/** What the bundler puts into a module with packages of Node's kind; those ask for built-in modules only. */
const REQUIRE_BASE = "createRequire(import.meta.url)";

export interface Bundle {
  /** The path of the module that it is made of. */
  readonly name: string;
  readonly text: string;
}

/** Each behind those whose Workers it starts; the main thread's is the last. */
export async function bundleProgram(): Promise<Bundle[]> {
  const modules = workerModules();
  const names = [...new Set(modules.values()), MAIN];
  const bundles = new Map<string, { text: string; starts: Set<string> }>();
  for (const name of names) bundles.set(name, adapt(name, await bundle(name), modules));
  const order: Bundle[] = [];
  const visit = (name: string, under: readonly string[]) => {
    if (order.some((b) => b.name === name)) return;
    if (under.includes(name)) throw new HostError(`Cannot bundle ${name}: its Workers start it again`);
    const { text, starts } = bundles.get(name)!;
    for (const worker of starts) visit(worker, [...under, name]);
    order.push({ name, text });
  };
  visit(MAIN, []);
  return order;
}

async function bundle(module: string): Promise<string> {
  const output = await Deno.makeTempFile({ prefix: "trike-bundle-", suffix: ".js" });
  try {
    const args = ["bundle", "--quiet", "--platform", "deno", "--output", output, module];
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

/** A bundle's own address is of no use: names of Workers' modules become entries of the table, and nothing else may ask for it. */
function adapt(name: string, text: string, modules: ReadonlyMap<string, string>) {
  const starts = new Set<string>();
  const adapted = text
    .replace(REQUIRE_BASE, 'createRequire("file:///")')
    .replace(WORKER_URL, (_, worker: string) => {
      const module = modules.get(worker);
      if (module === undefined) throw new HostError(`Cannot bundle ${name}: no module of src is "${worker}"`);
      starts.add(module);
      return `new URL(${MODULE_TABLE}[${JSON.stringify(module)}])`;
    });
  const rest = /^.*\bimport\.meta\b.*$/m.exec(adapted);
  if (rest) throw new HostError(`Cannot bundle ${name}: a bundle has no place of its own for "${rest[0].trim()}"`);
  return { text: adapted, starts };
}
