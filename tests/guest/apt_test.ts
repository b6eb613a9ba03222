/**
 * How packages are fetched and kept, with a stand-in for apt-get in front of the real one's place: a script that notes each
 * call and "downloads" packages made on the spot.
 */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { which } from "./which.ts";

const ignore = which("dpkg-deb") === null;
if (ignore) console.log("skipped: the fetching of packages, as there is no dpkg-deb here to make some");

const FETCH = new URL("./fetch.ts", import.meta.url).pathname;

interface Fixture {
  readonly folder: string;
  /** Runs a fetch of these packages in a process of its own; its output, one line. */
  fetch(...names: string[]): Promise<string>;
  start(...names: string[]): Deno.ChildProcess;
  /** What apt-get was asked to do, call by call: "update", "download NAME…". */
  calls(): Promise<string[]>;
  /** Names in the cache but for the lock. */
  cached(): Promise<string[]>;
}

/** `behaviour` is the shell code of `apt-get download`, in the folder the packages should go to; $@ are their names. */
async function withApt(behaviour: string, body: (fixture: Fixture) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/bin:${Deno.env.get("PATH")}`;
  const start = (...names: string[]): Deno.ChildProcess =>
    new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-prompt",
        "--allow-read",
        "--allow-write",
        "--allow-run=apt-get",
        FETCH,
        `${folder}/cache`,
        ...names,
      ],
      env: { PATH: path },
      stdout: "piped",
      stderr: "inherit",
    }).spawn();
  try {
    await Deno.mkdir(`${folder}/bin`);
    await Deno.mkdir(`${folder}/made`);
    for (
      const [name, depends] of [["linux-image-cloud-amd64", "linux-image-6.1.0-9-cloud-amd64 (= 1:6.1-1)"], [
        "linux-image-6.1.0-9-cloud-amd64",
        "kmod | x",
      ], ["busybox-static", ""]]
    ) {
      await Deno.mkdir(`${folder}/tree/DEBIAN`, { recursive: true });
      await Deno.writeTextFile(
        `${folder}/tree/DEBIAN/control`,
        `Package: ${name}\nVersion: 1:6.1-1\nArchitecture: amd64\nMaintainer: x <x@example.org>\n` +
          `${depends ? `Depends: ${depends}\n` : ""}Description: x\n`,
      );
      const file = `${folder}/made/${name}_1%3a6.1-1_amd64.deb`;
      const { success } = await new Deno.Command("dpkg-deb", { args: ["-b", `${folder}/tree`, file], stdout: "null" })
        .output();
      assert(success);
    }
    await Deno.writeTextFile(
      `${folder}/bin/apt-get`,
      `#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in
    -q) shift ;;
    -c|-o) shift 2 ;;
    *) break ;;
  esac
done
echo "$*" >>${folder}/calls
[ "$1" = update ] && exit 0
shift
made=${folder}/made
${behaviour}
`,
      { mode: 0o755 },
    );
    await body({
      folder,
      start,
      fetch: async (...names) => new TextDecoder().decode((await start(...names).output()).stdout).trim(),
      calls: async () =>
        (await Deno.readTextFile(`${folder}/calls`).catch(() => "")).trim().split("\n").filter((line) => line),
      cached: async () => {
        const names: string[] = [];
        for await (const entry of Deno.readDir(`${folder}/cache`)) names.push(entry.name);
        return names.filter((name) => name !== "lock").sort();
      },
    });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const WORKS = 'for name in "$@"; do cp "$made/${name}_"* .; done';
const BOTH = ["linux-image-cloud-amd64", "busybox-static"];

Deno.test({
  name: "a kernel's metapackage stands for its kernel, and what is in the cache is not fetched again",
  ignore,
}, async () => {
  await withApt(WORKS, async ({ folder, fetch, calls, cached }) => {
    const expected = JSON.stringify([
      `${folder}/cache/debs/linux-image-6.1.0-9-cloud-amd64_1%3a6.1-1_amd64.deb`,
      `${folder}/cache/debs/busybox-static_1%3a6.1-1_amd64.deb`,
    ]);
    const asked = [
      "update",
      "download linux-image-cloud-amd64 busybox-static",
      "download linux-image-6.1.0-9-cloud-amd64",
    ];
    assertEquals(await fetch(...BOTH), expected);
    assertEquals(await calls(), asked);
    assertEquals(await fetch(...BOTH), expected);
    assertEquals(await calls(), asked);
    assertEquals(await cached(), ["debs"]);

    await Deno.remove(`${folder}/cache/debs/busybox-static_1%3a6.1-1_amd64.deb`);
    assertEquals(await fetch(...BOTH), expected);
    assertEquals((await calls()).length, 6);
  });
});

Deno.test({ name: "of runs at the same time one fetches and all have it", ignore }, async () => {
  await withApt(`sleep 0.3; ${WORKS}`, async ({ fetch, calls, cached }) => {
    const answers = await Promise.all([fetch(...BOTH), fetch(...BOTH), fetch(...BOTH)]);
    assertEquals(new Set(answers).size, 1);
    assertStringIncludes(answers[0]!, "busybox-static_");
    assertEquals((await calls()).filter((call) => call === "update").length, 1);
    assertEquals(await cached(), ["debs"]);
  });
});

Deno.test({ name: "a run cut short leaves nothing that a later one could take for whole", ignore }, async () => {
  // the first download stops half way through a file and waits; the next goes well
  const behaviour = `if [ ! -e $made/stopped ]; then
    touch $made/stopped
    for name in "$@"; do head -c 100 "$made/\${name}_"* >"\${name}_1%3a6.1-1_amd64.deb"; done
    exec sleep 5
  fi
  ${WORKS}`;
  await withApt(behaviour, async ({ folder, start, fetch, cached }) => {
    const child = start(...BOTH);
    while (!await Deno.stat(`${folder}/made/stopped`).then(() => true, () => false)) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    child.kill("SIGKILL");
    await child.output();
    assertEquals((await cached()).filter((name) => name === "debs"), []);
    assertStringIncludes(await fetch(...BOTH), "busybox-static_");
    assertEquals(await cached(), ["debs"]);
  });
});

Deno.test({ name: "apt-get's own complaint is passed on, with the way out", ignore }, async () => {
  await withApt('echo "E: Unable to locate package $1" >&2; exit 100', async ({ fetch, cached }) => {
    const answer = await fetch("no-such-package");
    assertEquals(
      answer,
      "HostError Cannot download the package no-such-package: apt-get says: Unable to locate package no-such-package " +
        "(to run a kernel of your own, pass --kernel FILE)",
    );
    assertEquals(await cached(), []);
  });
});

async function lookUp(args: string[], env: Record<string, string>): Promise<string> {
  const path = new URL("./lookup.ts", import.meta.url).pathname;
  const options = { args: ["run", "--no-prompt", ...args, path], env, clearEnv: true };
  return new TextDecoder().decode((await new Deno.Command(Deno.execPath(), options).output()).stdout).trim();
}

Deno.test("without apt-get the error says so, and how to run a kernel of one's own", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const deno = { DENO_DIR: denoDir() };
    const answer = await lookUp(["-A"], { ...deno, PATH: folder, XDG_CACHE_HOME: folder });
    assertStringIncludes(answer, "HostError Cannot make the default guest: this host has no apt-get");
    assertStringIncludes(answer, "--kernel FILE");
    assertStringIncludes(await lookUp(["-A"], deno), "neither XDG_CACHE_HOME nor HOME names a folder");

    await Deno.writeTextFile(`${folder}/apt-get`, "#!/bin/sh\n", { mode: 0o755 });
    const unableToRun = ["--allow-read", "--allow-env", "--allow-write"];
    const denied = await lookUp(unableToRun, { ...deno, PATH: folder, XDG_CACHE_HOME: folder });
    assertStringIncludes(denied, "HostError Cannot make the default guest: Requires run access");
    assertStringIncludes(denied, "--kernel FILE");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

/** Where Deno keeps the npm packages, when the variables that say so are taken away. */
function denoDir(): string {
  return Deno.env.get("DENO_DIR") ?? `${Deno.env.get("XDG_CACHE_HOME") ?? `${Deno.env.get("HOME")}/.cache`}/deno`;
}
