/** The portable form that is a shell script, which macOS gets, with this host's Deno in it. */
import { assertEquals, assertMatch, assertNotEquals, assertStringIncludes } from "@std/assert";
import { buildScript } from "../../scripts/build/portable.ts";
import { namesIn, run, withFolder } from "./build.ts";

const ignore = Deno.build.os === "windows";
if (ignore) console.log("skipped: the portable form as a script: the host has no POSIX shell");

Deno.test({
  name: "the script unpacks its runtime once, and is given its arguments as they are",
  ignore,
  async fn() {
    await withFolder(async (top) => {
      const cwd = `${top}/a folder`, cache = `${top}/a cache`, trike = `${cwd}/trike`;
      await Deno.mkdir(cwd);
      await buildScript(Deno.execPath(), trike);
      const env = { PATH: "/usr/bin:/bin", XDG_CACHE_HOME: cache };
      const help = await run(trike, ["--help"], { cwd, env });
      assertEquals([help.code, help.stderr], [0, ""]);
      assertMatch(help.stdout, /^Usage: trike run/m);

      const runtimes = `${cache}/trike/runtime`;
      const [name, ...more] = namesIn(runtimes);
      assertEquals(more, []);
      const { ino, mtime } = await Deno.stat(`${runtimes}/${name}`);
      assertEquals(await sha256(`${runtimes}/${name}`), name);
      assertEquals(await sha256(Deno.execPath()), name);
      const missing = await run(trike, ["run", "--quiet", "--kernel", "ä  $(b)'"], { cwd, env });
      assertEquals(missing.code, 2);
      assertStringIncludes(missing.stderr, `"ä  $(b)'"`);
      const again = await Deno.stat(`${runtimes}/${name}`);
      assertEquals([again.ino, again.mtime], [ino, mtime]);

      const refused = await run(trike, ["--help"], { cwd, env: { ...env, XDG_CACHE_HOME: "/dev/null" } });
      assertNotEquals(refused.code, 0);
      assertMatch(refused.stderr, /^trike: Cannot unpack the runtime into \/dev\/null\/trike\/runtime/m);
    });
  },
});

async function sha256(path: string): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", await Deno.readFile(path))).toHex();
}
