/**
 * What `deno compile` puts behind its runtime. The runtime is fetched where there is a network; here Deno's own executable
 * stands for it, which does not run what is behind it.
 */
import { assert, assertEquals } from "@std/assert";
import { PERMISSIONS } from "../../scripts/build/permissions.ts";
import { V8_FLAGS } from "../../scripts/build/v8_flags.ts";
import { workerModules } from "../../scripts/build/workers.ts";
import { imageName } from "../../src/engine/soft/image_name.ts";
import { FINGERPRINT } from "../../src/machine/engine_images.ts";
import { ROOT, sources, split } from "../../scripts/tree.ts";
import { build, withFolder } from "./build.ts";

interface Metadata {
  readonly permissions: Readonly<Record<string, unknown>>;
  readonly v8_flags: readonly string[];
  readonly entrypoint_key: string;
}

Deno.test("the binary has trike, the modules of its Workers, its permissions and no others", async () => {
  await withFolder(async (folder) => {
    const output = `${folder}/trike`;
    const { code, stderr } = await build("--runtime", Deno.execPath(), "--output", output);
    assertEquals(code, 0, stderr);
    const runtime = (await Deno.stat(Deno.execPath())).size;
    const bytes = await Deno.readFile(output);
    const text = new TextDecoder("latin1").decode(bytes.subarray(Deno.build.os === "linux" ? runtime - 2 ** 20 : 0));
    const { permissions, v8_flags, entrypoint_key } = metadata(text);
    assertEquals(entrypoint_key, "src/main.ts");
    for (const flag of V8_FLAGS) assert(v8_flags.includes(flag), flag);
    const all: unknown[] = [];
    const granted = Object.fromEntries(Object.entries(permissions).filter(([, value]) => value !== null));
    delete granted.allow_import; // denied, which goes first
    assertEquals(granted, {
      allow_read: all,
      allow_write: all,
      allow_net: all,
      allow_ffi: all,
      allow_env: ["HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"],
      allow_run: ["apt-get"],
      deny_import: all,
      prompt: false,
    });
    for (const image of [FINGERPRINT, imageName(0, 1), imageName(0, 2), imageName(3, 4)]) {
      assert(text.includes(`{"File":{"n":"${image}"`), `the image ${image} is not in the binary`);
    }
    for (const module of workerModules().values()) {
      const name = module.slice(module.lastIndexOf("/") + 1);
      assert(text.includes(`{"File":{"n":"${name}"`), `${module} is not in the binary`);
    }
  });
});

/** The first thing behind the mark: a length of eight bytes, and JSON. */
function metadata(text: string): Metadata {
  const start = text.indexOf('{"argv":');
  let depth = 0, quoted = false;
  for (let at = start; start >= 0 && at < text.length; at++) {
    const c = text[at];
    if (quoted) {
      if (c === "\\") at++;
      else if (c === '"') quoted = false;
    } else if (c === '"') quoted = true;
    else if (c === "{") depth++;
    else if (c === "}" && --depth === 0) return JSON.parse(text.slice(start, at + 1));
  }
  throw new Error("The binary has no description of itself");
}

Deno.test("src reads no variable and runs no program that a binary may not", () => {
  const list = (name: string) => PERMISSIONS.find((p) => p.startsWith(`${name}=`))!.split("=")[1]!.split(",");
  const variables = list("--allow-env"), programs = list("--allow-run");
  let seen = 0;
  for (const { path, text } of sources([".ts"])) {
    if (!/^(src|ffi|devices)\//.test(path) || path.endsWith("_test.ts") || path.endsWith("/ext4_root.ts")) continue;
    const { code } = split(text);
    for (const [call, name] of code.matchAll(/\bDeno\.env\.\w+\(([^)]*)\)/g)) {
      assert(variables.some((v) => name === JSON.stringify(v)), `${path}: ${call}`);
      seen++;
    }
    for (const [call, name] of code.matchAll(/\b(?:new Deno\.Command|spawn)\((\w*"[^"]*"|\w+)(?=[,)])/g)) {
      if (name === "command") continue; // the function that starts them
      assert(programs.some((p) => name === JSON.stringify(p)), `${path}: ${call}`);
      seen++;
    }
  }
  assert(seen >= 3, "nothing was found: the patterns no longer fit");
});

Deno.test("tasks that run trike give V8 the same options as a binary", async () => {
  const { tasks } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`)) as { tasks: Record<string, string> };
  const flags = V8_FLAGS.length > 0 ? [`--v8-flags=${V8_FLAGS.join(",")}`] : [];
  const runs = Object.values(tasks).filter((task) => task.includes(" src/main.ts"));
  assert(runs.length > 0);
  for (const task of runs) assertEquals(task.split(" ").filter((word) => word.startsWith("--v8-flags")), flags);
});
