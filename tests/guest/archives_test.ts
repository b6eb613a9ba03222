/** Archives against the system's own tools: what we write they read, and what they write we read. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { HostError } from "../../src/base/errors.ts";
import { CpioWriter } from "../../src/guest/cpio.ts";
import { DebPackage } from "../../src/guest/deb.ts";
import { readTar, type TarEntry } from "../../src/guest/tar.ts";
import { which } from "./which.ts";

/** Options of a test that needs these programs. */
function needs(...programs: string[]): { ignore: boolean } {
  const missing = programs.filter((program) => which(program) === null);
  if (missing.length > 0) console.log(`skipped: a comparison with ${missing.join(" and ")}, not installed here`);
  return { ignore: missing.length > 0 };
}

const utf8 = new TextEncoder();
const LONG = `${"a-long-folder-name/".repeat(8)}${"file".repeat(30)}`;

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function sh(folder: string, script: string, stdin?: Uint8Array<ArrayBuffer>): Promise<string> {
  const child = new Deno.Command("sh", {
    args: ["-ec", script],
    cwd: folder,
    env: { LC_ALL: "C", TZ: "UTC" },
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const input = child.stdin.getWriter();
  if (stdin) await input.write(stdin);
  await input.close();
  const { code, stdout, stderr } = await child.output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

function sampleCpio(): CpioWriter {
  const cpio = new CpioWriter();
  cpio.file("bin/tool", new Uint8Array([1, 2, 3, 4, 5]), 0o4755);
  cpio.file("etc/empty", "");
  cpio.symlink("sbin", "bin");
  cpio.directory("tmp", 0o1777);
  cpio.device("dev/console", "char", 5, 1, 0o600);
  cpio.device("dev/vda", "block", 254, 0, 0o660);
  cpio.file(LONG, "deep");
  return cpio;
}

Deno.test({ name: "CpioWriter's archive reads in cpio as it was written", ...needs("cpio") }, async () => {
  await inFolder(async (folder) => {
    const listing = await sh(folder, "cpio --quiet -tvn", sampleCpio().finish());
    const seen = listing.trim().split("\n").map((line) => line.replaceAll(/\s+/g, " "));
    const date = "Jan 1 1970";
    assertEquals(seen.filter((line) => !line.includes(" a-long")), [
      `drwxr-xr-x 2 0 0 0 ${date} bin`,
      `-rwsr-xr-x 1 0 0 5 ${date} bin/tool`,
      `drwxr-xr-x 2 0 0 0 ${date} etc`,
      `-rw-r--r-- 1 0 0 0 ${date} etc/empty`,
      `lrwxrwxrwx 1 0 0 3 ${date} sbin -> bin`,
      `drwxrwxrwt 2 0 0 0 ${date} tmp`,
      `drwxr-xr-x 2 0 0 0 ${date} dev`,
      `crw------- 1 0 0 5, 1 ${date} dev/console`,
      `brw-rw---- 1 0 0 254, 0 ${date} dev/vda`,
    ]);
    await sh(folder, `cpio --quiet -id bin/tool 'a-long*'`, sampleCpio().finish());
    assertEquals(await Deno.readFile(`${folder}/bin/tool`), new Uint8Array([1, 2, 3, 4, 5]));
    assertEquals(await Deno.readTextFile(`${folder}/${LONG}`), "deep");
  });
});

Deno.test("CpioWriter gives the same bytes for the same entries, in whole blocks", () => {
  const bytes = sampleCpio().finish();
  assertEquals(bytes, sampleCpio().finish());
  assertEquals(bytes.length % 512, 0);
});

Deno.test("CpioWriter refuses paths that leave the root, and a path twice", () => {
  const cpio = sampleCpio();
  for (const path of ["/bin/x", "../x", "bin/../x", "bin//x", "", "bin/x\0y", "bin/tool"]) {
    assertThrows(() => cpio.file(path, ""), RangeError, path === "bin/tool" ? "twice" : "expected a path");
  }
});

/** A tree with everything a package may hold that does not need privilege. */
const TREE = `
  mkdir -p tree/${LONG.slice(0, LONG.lastIndexOf("/"))} tree/usr/bin
  printf one > tree/usr/bin/one; chmod 4755 tree/usr/bin/one
  ln tree/usr/bin/one tree/usr/bin/two
  ln -s ../bin/one tree/usr/link
  ln -s /${"target/".repeat(20)} tree/usr/longlink
  printf deep > tree/${LONG}
  printf 'gr\\303\\274n' > "tree/usr/gr\\303\\274n"
  head -c 100000 /dev/zero > tree/usr/zeros
  : > tree/usr/empty
  mkfifo tree/usr/fifo
`;

async function* whole(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  // borders in awkward places: the reader must not care
  for (let at = 0; at < bytes.length; at += 999) yield bytes.subarray(at, at + 999);
}

async function tarEntries(bytes: Uint8Array): Promise<Map<string, TarEntry>> {
  const entries = new Map<string, TarEntry>();
  for await (const entry of readTar(whole(bytes), () => true)) entries.set(entry.path, entry);
  return entries;
}

for (const format of ["gnu", "pax", "ustar"]) {
  Deno.test({ name: `readTar reads what tar writes in the ${format} format`, ...needs("tar") }, async () => {
    await inFolder(async (folder) => {
      // ustar has no way to write a name so long
      const tree = format === "ustar" ? TREE.replaceAll("file".repeat(30), "file").replaceAll("target/", "t/") : TREE;
      const long = format === "ustar" ? LONG.replace("file".repeat(30), "file") : LONG;
      await sh(folder, `${tree}\ntar -C tree --format=${format} -cf out.tar .`);
      const entries = await tarEntries(await Deno.readFile(`${folder}/out.tar`));
      const text = (path: string): string => new TextDecoder().decode(entries.get(path)?.data);

      const [first, second] = [...entries.values()].filter((entry) => /usr\/bin\/(one|two)/.test(entry.path));
      assertEquals([first?.kind, text(first!.path), first?.mode], ["file", "one", 0o4755]);
      assertEquals([second?.kind, second?.target], ["hardlink", first!.path]);
      assertEquals([entries.get("usr/link")?.kind, entries.get("usr/link")?.target], ["symlink", "../bin/one"]);
      assertEquals(entries.get("usr/longlink")?.target, `/${(format === "ustar" ? "t/" : "target/").repeat(20)}`);
      assertEquals(text(long), "deep");
      assertEquals(entries.get("usr/zeros")?.data.length, 100_000);
      assertEquals(entries.get("usr/empty")?.kind, "file");
      assertEquals(entries.get("usr/bin")?.kind, "directory");
      assertEquals(entries.get("usr/fifo")?.kind, "fifo");
      assert(
        [...entries.keys()].some((path) => path.includes("grün") || path.includes("gr\\")),
        "a name that is not ASCII",
      );
    });
  });
}

Deno.test({ name: "readTar refuses an archive that is cut short or altered", ...needs("tar") }, async () => {
  await inFolder(async (folder) => {
    await sh(folder, `mkdir t; printf 0123456789 > t/f; tar -C t -cf out.tar f`);
    const bytes = await Deno.readFile(`${folder}/out.tar`);
    await assertRejects(() => tarEntries(bytes.subarray(0, 515)), Error, "early");
    await assertRejects(() => tarEntries(bytes.subarray(0, 100)), Error, "early");
    const altered = bytes.slice();
    altered[0] = altered[0]! ^ 1;
    await assertRejects(() => tarEntries(altered), Error, "checksum");
  });
});

Deno.test({ name: "readTar refuses a path that leaves the archive", ...needs("tar") }, async () => {
  await inFolder(async (folder) => {
    await sh(folder, `mkdir t; : > f; cd t; tar -P -cf ../out.tar ../f`);
    await assertRejects(() => Deno.readFile(`${folder}/out.tar`).then(tarEntries), Error, `"../f" leaves the archive`);
  });
});

const CONTROL = `
  mkdir -p tree/DEBIAN
  printf 'Package: sample\\nVersion: 1.0-1\\nArchitecture: all\\nMaintainer: x <x@example.org>\\nDepends: one (>= 1),\\n two | three\\nDescription: x\\n' > tree/DEBIAN/control
`;

for (const compression of ["gzip", "xz", "zstd", "none"]) {
  Deno.test({ name: `DebPackage unpacks a package compressed by ${compression}`, ...needs("dpkg-deb") }, async () => {
    await inFolder(async (folder) => {
      await sh(
        folder,
        `${TREE}${CONTROL}rm tree/usr/fifo; dpkg-deb --root-owner-group -Z${compression} -b tree out.deb`,
      );
      const deb = await DebPackage.open(`${folder}/out.deb`);
      const control = await deb.control();
      assertEquals(control.get("Package"), "sample");
      assertEquals(control.get("Depends"), "one (>= 1), two | three");

      const files = await deb.files((path) => path === "usr/bin/two" || path === "usr/bin/one" || path === LONG);
      assertEquals([...files.keys()].sort(), [LONG, "usr/bin/one", "usr/bin/two"].sort());
      for (const path of ["usr/bin/one", "usr/bin/two"]) {
        assertEquals([files.get(path)?.kind, files.get(path)?.data], ["file", utf8.encode("one")]);
      }
      // each name alone: one of them is a hard link to a file nobody asked for
      for (const path of ["usr/bin/one", "usr/bin/two"]) {
        const alone = await deb.files((one) => one === path);
        assertEquals([...alone.values()].map((file) => [file.path, file.data]), [[path, utf8.encode("one")]]);
      }
    });
  });

  Deno.test(
    { name: `DebPackage refuses a damaged package compressed by ${compression}`, ...needs("dpkg-deb") },
    async () => {
      await inFolder(async (folder) => {
        await sh(
          folder,
          `${TREE}${CONTROL}rm tree/usr/fifo; dpkg-deb --root-owner-group -Z${compression} -b tree out.deb`,
        );
        const bytes = await Deno.readFile(`${folder}/out.deb`);
        assertThrows(() => new DebPackage("x.deb", bytes.slice(0, bytes.length - 50)), HostError, "cut short");
        assertThrows(() => new DebPackage("x.deb", bytes.slice(1)), HostError, `"x.deb": it is not a Debian package`);
        const zeroed = bytes.slice();
        zeroed.fill(0xff, zeroed.length - (zeroed.length >> 2)); // the header of data.tar is whole, its end is not
        await assertRejects(() => new DebPackage("x.deb", zeroed).files(() => true), HostError, "data.tar");
      });
    },
  );
}
