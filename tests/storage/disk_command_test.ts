/** `trike disk` as its users see it. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { diskCommand, diskHelp } from "../../src/cli/disk.ts";
import { ImageLock } from "../../src/host/block_lock.ts";
import { noise, Random } from "./model.ts";
import { assertSound, noQemuImg, qemu } from "./qemu_img.ts";

async function withFolder(body: (folder: string) => Promise<void> | void): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "trike-disk-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function disk(...words: string[]): { status: number; text: string } {
  let text = "";
  const status = diskCommand(words, (more) => text += more);
  return { status, text };
}

Deno.test(
  { name: "create, convert, commit and snapshot make what qemu-img agrees with", ignore: noQemuImg },
  () =>
    withFolder(async (folder) => {
      const raw = `${folder}/a.img`,
        packed = `${folder}/a.qcow2`,
        over = `${folder}/over.qcow2`,
        back = `${folder}/b.img`;
      const content = new Uint8Array(3 << 20);
      content.set(noise(new Random(1), 100_000 & ~511), 1 << 20);
      content.fill(7, 2 << 20, (2 << 20) + 70_000);
      await Deno.writeFile(raw, content);
      for (const more of [[], ["--compress"], ["--compress", "--compression", "zstd", "--cluster-size", "4K"]]) {
        assertEquals(disk("convert", raw, packed, ...more).status, 0);
        await assertSound(packed);
        await qemu("compare", raw, packed);
        assertEquals(disk("convert", packed, back).status, 0);
        assertEquals(await Deno.readFile(back), content);
      }
      assert(Deno.statSync(packed).size < 300_000, "zeros take no space");

      assertEquals(disk("create", over, "--backing", "a.qcow2").status, 0);
      assertEquals(disk("map", over).text, `0\t${3 << 20}\tabsent\n`);
      disk("snapshot", "create", over, "empty");
      await qemu("convert", "-n", "-O", "qcow2", packed, over); // writes all that is not zero
      assertEquals(/backing file: a.qcow2/.test(disk("info", over).text), true);
      assertEquals(disk("commit", over).status, 0);
      await assertSound(over);
      await assertSound(packed);
      await qemu("compare", raw, over);
      assertEquals(disk("map", over).text, `0\t${3 << 20}\tabsent\n`);
      disk("resize", over, "+1M");
      assertEquals(JSON.parse(disk("info", over, "--json").text).virtualBytes, 4 << 20);
      disk("snapshot", "apply", over, "empty");
      disk("snapshot", "delete", over, "empty");
      assertEquals(disk("snapshot", "list", over).text, "");
      assertEquals(JSON.parse(disk("info", over, "--json").text).virtualBytes, 3 << 20);
      await assertSound(over);
    }),
);

Deno.test(
  { name: "check finds damage and leaks that qemu-img finds, and mends both", ignore: noQemuImg },
  () =>
    withFolder(async (folder) => {
      const path = `${folder}/a.qcow2`;
      await qemu("create", "-q", "-f", "qcow2", "-o", "preallocation=metadata", path, "1M");
      assertEquals(disk("check", path).status, 0);
      using file = Deno.openSync(path, { read: true, write: true });
      const poke = (at: number, ...bytes: number[]) => {
        file.seekSync(at, Deno.SeekMode.Start);
        file.writeSync(Uint8Array.from(bytes));
      };
      const blockAt = 2 << 16; // header, refcount table, refcount block
      poke(blockAt + 2 * 200, 0, 5);
      assertEquals(disk("check", path), { status: 4, text: "21 clusters in use, 0 corruptions, 1 leaked clusters\n" });
      poke(blockAt + 2 * 6, 0, 0);
      assertEquals(disk("check", path).status, 3);
      assertEquals(disk("check", path, "--repair").status, 0);
      assertEquals(disk("check", path).status, 0);
      await assertSound(path);
    }),
);

Deno.test("mistakes are one sentence, and an image in use is left alone", () =>
  withFolder((folder) => {
    const path = `${folder}/a.qcow2`;
    const refused = (words: string[], says: string) => assertThrows(() => disk(...words), ConfigError, says);
    refused(["make"], 'Unknown command "disk" "make": expected create');
    refused(["create", path], "expected FILE SIZE, or --backing FILE");
    refused(["create", path, "12"], 'SIZE "12": expected a size');
    refused(["create", path, "1G", "--cluster-size", "5K"], '--cluster-size "5K": expected a power of two');
    refused(["create", path, "1G", "--format", "vmdk"], '--format "vmdk": expected raw or qcow2');
    refused(["create", path, "1G", "--size"], 'Unknown option "--size"');
    refused(["create", `${folder}/a.img`, "--backing", path], "a raw image has nothing behind it");
    refused(["check", path], "there is no such file");
    disk("create", path, "1G");
    refused(["resize", path, "1M"], "--shrink");
    refused(["snapshot", "apply", path, "none"], 'there is no snapshot "none"');
    refused(["commit", path], "no backing file");
    const lock = ImageLock.take({ path, readonly: false });
    refused(["snapshot", "create", path, "one"], "another machine uses it");
    refused(["create", path, "2G"], "another machine uses it");
    lock?.release();
    for (const word of ["create", "info", "check", "convert", "resize", "commit", "snapshot", "map"]) {
      assert(diskHelp().includes(`trike disk ${word}`));
    }
    assert(diskHelp().split("\n").every((line) => line.length <= 100), "the help fits 100 columns");
  }));
