/** The portable form, alone in a folder, with neither Deno nor Node on the path: it starts, and boots the default guest. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { guestOrSkip, runGuest, script } from "../boot/guests.ts";
import { build, namesIn, run, withFolder } from "./build.ts";

const ignore = Deno.build.os !== "linux";
if (ignore) console.log("skipped: the portable form as an ELF file: the host is not Linux");
const { guest, ignore: noGuest } = await guestOrSkip("cloud");

/** Built once, with the tests' own Deno; removed when the tests have run. */
let built: Promise<string> | null = null;

async function portable(): Promise<string> {
  const path = await Deno.makeTempFile({ prefix: "trike-portable-" });
  globalThis.addEventListener("unload", () => Deno.removeSync(path));
  const { code, stderr } = await build("--portable", "--output", path);
  assertEquals(code, 0, stderr);
  return path;
}

/** A folder with trike and nothing else, and one for a home. */
async function alone(body: (trike: string, folder: string, home: string) => Promise<void>): Promise<void> {
  const original = await (built ??= portable());
  await withFolder(async (top) => {
    const folder = `${top}/a folder`, home = `${top}/home`;
    await Deno.mkdir(folder);
    await Deno.mkdir(home);
    await Deno.copyFile(original, `${folder}/trike`);
    await body(`${folder}/trike`, folder, home);
  });
}

Deno.test({
  name: "the portable form needs nothing around it: no PATH, no home, not a variable",
  ignore,
  async fn() {
    await alone(async (trike, cwd) => {
      const help = await run(trike, ["--help"], { cwd });
      assertEquals([help.code, help.stderr], [0, ""]);
      assertMatch(help.stdout, /^Usage: trike run/m);
      const { code, stdout, stderr } = await run(trike, ["engines"], { cwd });
      assertEquals([code, stderr], [0, ""]);
      assertMatch(stdout, /^soft +available/m);
      assertEquals(namesIn(cwd), ["trike"]);
    });
  },
});

Deno.test({
  name: "the portable form boots the default guest, two processors, a disk and a network",
  ignore: ignore || noGuest,
  async fn() {
    await alone(async (trike, cwd, home) => {
      await Deno.writeFile(`${cwd}/disk`, new TextEncoder().encode("on the disk".padEnd(4096)));
      const commands =
        "echo $((6 * 7)) $(nproc); head -c 11 /dev/vda; echo; ifconfig eth0 | grep 10.0.2.15; tr x y </dev/vda >/dev/null";
      const args = runGuest(guest, script(commands), "--cpus", "2", "--disk", "disk");
      const { code, stdout, stderr } = await run(trike, args, { cwd, env: { HOME: home, PATH: "/nowhere" } });
      assertEquals([code, stderr], [0, ""], stdout);
      assertStringIncludes(stdout, "42 2\n");
      assertStringIncludes(stdout, "on the disk\n");
      assertStringIncludes(stdout, "10.0.2.15");
      // Nothing is unpacked, cached or left behind.
      assertEquals([namesIn(cwd), namesIn(home)], [["disk", "trike"], []]);
    });
  },
});

Deno.test({
  name: "the portable form is given its arguments and its environment as they are",
  ignore,
  async fn() {
    await alone(async (trike, cwd) => {
      for (const word of ["--allow-all", "--v8-flags=--help"]) {
        const { code, stderr } = await run(trike, ["run", word], { cwd });
        assertEquals(code, 2, stderr);
        assertStringIncludes(stderr, word.split("=")[0]!);
      }
      const missing = await run(trike, ["run", "--quiet", "--kernel", "ä  b"], { cwd });
      assertStringIncludes(missing.stderr, '"ä  b"');
      // Its own name too: called as xhyve, it takes xhyve's options.
      await Deno.symlink(trike, `${cwd}/xhyve`);
      const called = await run(`${cwd}/xhyve`, ["-h"], { cwd });
      assertStringIncludes(called.stdout, "Usage: trike xhyve ");
      // The whole of a large environment is there, its last variable too.
      const many = Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`V${i}`, "x".repeat(i)]));
      const homeless = await run(trike, ["guest"], { cwd, env: many });
      assertMatch(homeless.stderr, /neither XDG_CACHE_HOME nor HOME/);
      const home = await run(trike, ["guest", "--quiet"], { cwd, env: { ...many, XDG_CACHE_HOME: "/dev/null/x" } });
      assertStringIncludes(home.stderr, "/dev/null/x");
    });
  },
});

Deno.test({
  name: "the portable form does not look at what lies about for Deno",
  ignore,
  async fn() {
    await alone(async (trike, cwd, home) => {
      for (const name of ["deno.json", "package.json", "deno.lock", ".npmrc", ".env"]) {
        await Deno.writeTextFile(`${cwd}/${name}`, "{ no such syntax");
        await Deno.writeTextFile(`${home}/${name}`, "{ no such syntax");
      }
      const { code, stdout, stderr } = await run(trike, ["--version"], { cwd, env: { HOME: home } });
      assertEquals([code, stderr], [0, ""]);
      assertMatch(stdout, /^trike \d+\.\d+\.\d+\n$/);
    });
  },
});
