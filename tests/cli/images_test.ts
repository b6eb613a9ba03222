/** The software engine's image in the user's cache, as processes leave it to each other. */
import { assertEquals } from "@std/assert";
import { TRIKE, trike, withFiles } from "./trike.ts";

/** A ROM whose processor writes 15h to the debug-exit port, F4h: status 15h * 2 + 1. */
function rom(): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(65536);
  bytes.set([0xb0, 0x15, 0xe6, 0xf4, 0xeb, 0xfe], 0xfff0);
  return bytes;
}
/** Deno's own cache stays where it is. */
const userCache = Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME")}/.cache`;
const DENO_DIR = Deno.env.get("DENO_DIR") ?? `${userCache}/deno`;
const REST = ["--net", "none", "--timeout", "60"];
const EXIT = 0x15 * 2 + 1;

Deno.test("a start leaves an image, the next one uses it, and one that is damaged is made anew", () =>
  withFiles(async ({ dir }) => {
    await Deno.writeFile(`${dir}/rom`, rom());
    const allow = ["--allow-read", "--allow-write", "--allow-env"];
    const run = async () => {
      const args = ["run", "--engine", "soft", "--firmware", `${dir}/rom`, "--memory", "16M", ...REST];
      const { code, stderr } = await trike(args, {
        allow,
        program: TRIKE,
        env: { DENO_DIR, XDG_CACHE_HOME: `${dir}/cache` },
      });
      assertEquals([code, stderr], [EXIT, ""]);
    };
    const images = () => {
      const root = `${dir}/cache/trike/images`;
      return [...Deno.readDirSync(root)].flatMap(({ name: fingerprint }) =>
        [...Deno.readDirSync(`${root}/${fingerprint}`)].map(({ name }) => `${root}/${fingerprint}/${name}`)
      );
    };
    await run();
    const [file] = images();
    assertEquals(images().map((path) => path.slice(path.lastIndexOf("/") + 1)), ["one"]);
    const whole = await Deno.readFile(file!), { ino } = await Deno.stat(file!);
    await run();
    assertEquals((await Deno.stat(file!)).ino, ino, "an image that was used was written again");
    await Deno.writeFile(file!, whole.subarray(0, 1000));
    await run();
    assertEquals(await Deno.readFile(file!), whole);
  }));

Deno.test("without a cache that can be written, or the permission to, a machine starts all the same", () =>
  withFiles(async ({ dir }) => {
    await Deno.writeFile(`${dir}/rom`, rom());
    const args = ["run", "--engine", "soft", "--firmware", `${dir}/rom`, "--memory", "16M", ...REST];
    const env = { DENO_DIR, XDG_CACHE_HOME: `${dir}/rom/cache` };
    for (const allow of [["--allow-read", "--allow-write", "--allow-env"], ["--allow-read", "--allow-env"]]) {
      const { code, stderr } = await trike(args, { allow, program: TRIKE, env });
      assertEquals([code, stderr], [EXIT, ""]);
    }
  }));
