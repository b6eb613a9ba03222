/** The starter of the portable form, over a file with small scripts. */
import { assertEquals } from "@std/assert";
import { type Scripts, starterUrl } from "../../scripts/build/starter.ts";
import { run, withFolder } from "./build.ts";

const utf8 = new TextEncoder();

/** Scripts in a file, and Deno running the first. */
async function start(
  texts: Readonly<Record<string, string>>,
  change: (file: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer> = (file) => file,
) {
  let result = { code: -1, stdout: "", stderr: "" };
  await withFolder(async (cwd) => {
    let at = 100;
    const scripts: Record<string, Scripts[string]> = {};
    for (const [name, text] of Object.entries(texts)) {
      scripts[name] = { at, bytes: utf8.encode(text).length };
      at += scripts[name].bytes;
    }
    const file = new Uint8Array(at);
    for (const [name, text] of Object.entries(texts)) file.set(utf8.encode(text), scripts[name]!.at);
    await Deno.writeFile(`${cwd}/file`, change(file));
    const url = starterUrl(scripts, { main: Object.keys(texts)[0]!, file: "Deno.args[0]", args: "Deno.args.slice(1)" });
    const env = { DENO_DIR: "/dev/null", DENO_NO_UPDATE_CHECK: "1", NO_COLOR: "1" };
    const words = [
      "run",
      "--quiet",
      "--no-config",
      "--no-prompt",
      "--allow-read=.",
      "--allow-write=.",
      url,
      "file",
      "a",
    ];
    result = await run(Deno.execPath(), words, { cwd, env });
  });
  return result;
}

const WORKER = `self.onmessage = ({ data }) => postMessage(data + " and back")`;
const MAIN = `console.log(TRIKE_ARGS.join(), __require("node:path").basename("/x/ä"));
  const worker = new Worker(new URL(TRIKE_WORKERS["worker"]), { type: "module" });
  worker.onmessage = ({ data }) => { console.log(data); Deno.exit(3); };
  worker.onerror = (e) => { e.preventDefault(); console.log(e.message); Deno.exit(4); };
  import("node:dgram").then(({ createSocket }) => worker.postMessage(typeof createSocket));`;

Deno.test("a script is given the words, built-in modules and its Workers", async () => {
  const { code, stdout, stderr } = await start({ main: MAIN, worker: WORKER });
  assertEquals([code, stdout, stderr], [3, "a ä\nfunction and back\n", ""]);
});

Deno.test("a file that is cut short is a sentence and status 1", async () => {
  const { code, stdout, stderr } = await start({ main: MAIN }, (file) => file.slice(0, 120));
  assertEquals([code, stdout, stderr], [1, "", 'trike: Cannot read the program in "file": it is cut short\n']);
});

Deno.test("a Worker does not start out of a file that was replaced", async () => {
  const { code, stdout } = await start({
    main: `Deno.writeTextFileSync("file", "x".repeat(5000));${MAIN}`,
    worker: WORKER,
  });
  assertEquals(code, 4);
  assertEquals(stdout.includes('Cannot read the program in "file": it was replaced meanwhile'), true, stdout);
});

Deno.test("a script is given the files that are carried, and null for others", async () => {
  const main = `console.log(new TextDecoder().decode(TRIKE_FILE("one")), TRIKE_FILE("two"));`;
  const { code, stdout, stderr } = await start({ main, "carried/one": "1 ä" });
  assertEquals([code, stdout, stderr], [0, "1 ä null\n", ""]);
});
