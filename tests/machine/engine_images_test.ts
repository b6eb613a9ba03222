/** Images of engines, kept in a folder: found again as they were, and not found where they could be wrong. */
import { assertEquals, assertNotEquals } from "@std/assert";
import { hashOf, Images } from "../../src/machine/engine_images.ts";

const IMAGE = Uint8Array.from({ length: 5000 }, (_, i) => i * 7);
const NOTHING = () => null;

/** What stands for the program's sources. */
async function sourcesIn(folder: string): Promise<URL> {
  for (const name of ["base", "wasm", "cpu/x86", "engine/soft", "machine"]) {
    await Deno.mkdir(`${folder}/src/${name}`, { recursive: true });
  }
  await Deno.writeTextFile(`${folder}/src/machine/memory.ts`, "memory");
  await Deno.writeTextFile(`${folder}/src/cpu/x86/row.ts`, "row");
  return new URL(`file://${folder}/src/`);
}

async function withFolder(body: (folder: string, sources: URL, kept: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder, await sourcesIn(folder), `${folder}/kept`);
  } finally {
    await Deno.chmod(`${folder}/kept`, 0o700).catch(() => {});
    await Deno.remove(folder, { recursive: true });
  }
}

function onlyFile(kept: string): string {
  const [fingerprint] = [...Deno.readDirSync(kept)].map(({ name }) => `${kept}/${name}`);
  const files = [...Deno.readDirSync(fingerprint!)].map(({ name }) => `${fingerprint}/${name}`);
  assertEquals(files.length, 1);
  return files[0]!;
}

Deno.test("an image that was kept is found by another process, under its name alone", () =>
  withFolder(async (_, sources, kept) => {
    await new Images(NOTHING, kept, sources).keep("one", IMAGE);
    assertEquals(await new Images(NOTHING, kept, sources).find("one"), IMAGE);
    assertEquals(await new Images(NOTHING, kept, sources).find("one-avx"), null);
    const file = onlyFile(kept);
    assertEquals([(await Deno.stat(file)).mode! & 0o777, (await Deno.stat(kept)).mode! & 0o777], [0o600, 0o700]);
  }));

Deno.test("an image is not found when a source has changed, come or gone; tests are no sources", () =>
  withFolder(async (folder, sources, kept) => {
    await new Images(NOTHING, kept, sources).keep("one", IMAGE);
    const found = () => new Images(NOTHING, kept, sources).find("one");
    const row = `${folder}/src/cpu/x86/row.ts`;
    const { atime, mtime } = await Deno.stat(row);
    await Deno.writeTextFile(row, "raw");
    await Deno.utime(row, atime!, mtime!); // as old and as long as before
    assertEquals(await found(), null);
    await Deno.writeTextFile(row, "row");
    assertEquals(await found(), IMAGE);
    await Deno.writeTextFile(`${folder}/src/wasm/new.ts`, "");
    assertEquals(await found(), null);
    await Deno.rename(`${folder}/src/wasm/new.ts`, `${folder}/src/wasm/new_test.ts`);
    assertEquals(await found(), IMAGE);
    await Deno.remove(row);
    assertEquals(await found(), null);
  }));

Deno.test("text that moves from one source to the next changes the fingerprint", () =>
  withFolder(async (folder, sources) => {
    const write = async (a: string, b: string) => {
      await Deno.writeTextFile(`${folder}/src/wasm/a.ts`, a);
      await Deno.writeTextFile(`${folder}/src/wasm/b.ts`, b);
      return await hashOf(sources);
    };
    assertNotEquals(await write("12", "3"), await write("1", "23"));
  }));

Deno.test("an image is not found if any byte of its file is damaged or missing, and is then kept anew", () =>
  withFolder(async (_, sources, kept) => {
    const images = new Images(NOTHING, kept, sources);
    await images.keep("one", IMAGE);
    const file = onlyFile(kept), whole = await Deno.readFile(file);
    for (const at of [0, 31, 32, 33, 2000, whole.length - 1]) {
      const bad = whole.slice();
      bad[at]! ^= 1;
      await Deno.writeFile(file, bad);
      assertEquals(await images.find("one"), null, `byte ${at}`);
      await Deno.writeFile(file, whole.subarray(0, at));
      assertEquals(await images.find("one"), null, `cut at ${at}`);
    }
    await images.keep("one", IMAGE);
    assertEquals(await images.find("one"), IMAGE);
  }));

Deno.test("a file that others may write, or that is a link, is not an image", () =>
  withFolder(async (folder, sources, kept) => {
    const images = new Images(NOTHING, kept, sources);
    await images.keep("one", IMAGE);
    const file = onlyFile(kept);
    await Deno.chmod(file, 0o622);
    assertEquals(await images.find("one"), null);
    await Deno.chmod(file, 0o600);
    assertEquals(await images.find("one"), IMAGE);
    await Deno.rename(file, `${folder}/elsewhere`);
    await Deno.symlink(`${folder}/elsewhere`, file);
    assertEquals(await images.find("one"), null);
  }));

Deno.test("what cannot be kept is not, and nobody hears of it", () =>
  withFolder(async (folder, sources) => {
    await Deno.writeTextFile(`${folder}/file`, "");
    const images = new Images(NOTHING, `${folder}/file/kept`, sources);
    await images.keep("one", IMAGE);
    assertEquals(await images.find("one"), null);
    const nowhere = new Images(NOTHING, null, sources);
    await nowhere.keep("one", IMAGE);
    assertEquals(await nowhere.find("one"), null);
  }));

Deno.test("what a build carries is found without a folder; the rest is kept by the build's own fingerprint", () =>
  withFolder(async (_, __, kept) => {
    const build = (fingerprint: string) => (name: string) =>
      name === "fingerprint" ? new TextEncoder().encode(fingerprint) : name === "one" ? IMAGE : null;
    assertEquals(await new Images(build("a"), null).find("one"), IMAGE);
    await new Images(build("a"), kept).keep("several-0", IMAGE);
    assertEquals(await new Images(build("a"), kept).find("several-0"), IMAGE);
    assertEquals(await new Images(build("b"), kept).find("several-0"), null);
  }));

Deno.test("the images of four programs stay, those of older ones go", () =>
  withFolder(async (_, __, kept) => {
    const program = (n: number) => new Images((name) => name === "fingerprint" ? Uint8Array.of(0x30 + n) : null, kept);
    for (let n = 0; n < 6; n++) {
      await program(n).keep("one", IMAGE);
      await Deno.utime(`${kept}/${n}`, 1000 + n, 1000 + n);
    }
    const left = [...Deno.readDirSync(kept)].map(({ name }) => name).sort();
    assertEquals(left, ["2", "3", "4", "5"]);
  }));
