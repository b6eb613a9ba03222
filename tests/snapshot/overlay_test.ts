/** Disks with an overlay in snapshots: what was written goes with them, as often as they are saved, and images stay what they are. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { FileBlock } from "../../src/host/block.ts";
import { createImage } from "../../src/host/disk/work.ts";
import { guestOrSkip, pattern, runGuest, sha256, Trike, trike, withFolder } from "../boot/guests.ts";
import { assertSound, noQemuImg, qemu } from "../storage/qemu_img.ts";

const { guest, ignore } = await guestOrSkip("cloud");
const MIB = 1 << 20;

for (const format of ["raw", "qcow2"] as const) {
  Deno.test(`what overlays on a ${format} disk hold is an image that QEMU reads, zeros and layers among it`, () =>
    withFolder(async (folder) => {
      const path = `${folder}/base.${format}`, sizeBytes = 4 * MIB + 512, model = pattern(sizeBytes);
      createImage(path, { format, sizeBytes, backing: null, backingFormat: null });
      const base = FileBlock.open({ path, readonly: false, format });
      base.write(0, model);
      base.flush();
      base.close();
      const before = await Deno.readFile(path);
      const change = (disk: FileBlock, offset: number, size: number, value: number): void => {
        const bytes = new Uint8Array(size).fill(value);
        if (value === 0) disk.writeZeroes(offset, size, true);
        else disk.write(offset, bytes);
        model.set(bytes, offset);
      };
      const read = (disk: FileBlock): Uint8Array => {
        const bytes = new Uint8Array(sizeBytes);
        assert(disk.read(0, bytes));
        return bytes;
      };
      let layer: string | undefined;
      for (let n = 0; n < 3; n++) {
        const disk = FileBlock.open({ path, readonly: false, format, overlay: true, ...layer ? { layer } : {} });
        assertEquals(read(disk), model, `at the start of life ${n}`);
        change(disk, 512 * (3 + n), 512, 0x41 + n);
        change(disk, MIB + 65536 * n, 3 * 65536, n === 1 ? 0x61 : 0);
        change(disk, sizeBytes - 1024 + 512 * (n & 1), 512, 0x71 + n);
        layer = `${folder}/layer${n & 1}.qcow2`; // the last one is written over the first
        disk.saveOverlay(layer);
        assertEquals(read(disk), model, "which goes on");
        disk.close();
        assertEquals((await Deno.stat(layer)).mode! & 0o777, 0o600);
        if (noQemuImg) continue;
        await assertSound(layer);
        await qemu("convert", "-f", "qcow2", "-O", "raw", layer, `${folder}/raw`);
        assertEquals(await Deno.readFile(`${folder}/raw`), model);
      }
      assertEquals(await Deno.readFile(path), before, "the disk's own file");
      if (format === "raw") {
        assertThrows(() => FileBlock.open({ path, readonly: false, format, overlay: true, layer: path }));
      }
    }));
}

Deno.test(
  { name: "a guest with an overlay is saved and resumed, twice, and its disk's file is as it was", ignore },
  () =>
    withFolder(async (folder) => {
      const disk = `${folder}/disk.img`, file = `${folder}/s`, bytes = pattern(MIB);
      await Deno.writeFile(disk, bytes);
      const write = (word: string, at: number) =>
        `printf ${word} | dd of=/dev/vda bs=512 seek=${at} conv=notrunc,fsync 2>/dev/null`;
      const model = bytes.slice();
      const wrote = (word: string, at: number) => model.set(new TextEncoder().encode(word), 512 * at);
      const keep = ["--snapshot-on-exit", file];
      const leave = async (run: Trike) => {
        run.kill("SIGQUIT");
        const { code, stderr } = await run.end();
        assertEquals([code, stderr.includes(`go on with: trike resume ${file}`)], [131, true], stderr);
      };
      {
        await using run = new Trike(runGuest(guest, "", "--disk", `${disk},overlay`, ...keep));
        await run.talk.prompt();
        await run.talk.run(write("first", 1));
        await leave(run);
        wrote("first", 1);
      }
      const resumed = async (body: (run: Trike) => Promise<void>) => {
        await using run = new Trike(["resume", file, "--quiet", "--timeout", "90", ...keep]);
        await run.talk.type("\r");
        await run.talk.prompt();
        await run.talk.run("echo 1 >/proc/sys/vm/drop_caches");
        const [sum] = (await run.talk.run("sha256sum /dev/vda")).split(" ");
        assertEquals(sum, await sha256(model));
        await body(run);
        await leave(run);
      };
      await resumed(async ({ talk }) => {
        await talk.run(write("again", 1));
        await talk.run(write("second", 7));
        wrote("again", 1);
        wrote("second", 7);
      });
      // Moved together, they still belong together.
      await Deno.mkdir(`${folder}/elsewhere`);
      for (const name of ["s", "s.disk0.qcow2"]) await Deno.rename(`${folder}/${name}`, `${folder}/elsewhere/${name}`);
      await Deno.rename(`${folder}/elsewhere/s`, file);
      const lost = await trike(["resume", file, "--quiet", "--timeout", "5"]);
      assertEquals(lost.code, 2);
      assert(lost.stderr.includes(`"${file}.disk0.qcow2" has 0 bytes, and had `), lost.stderr);
      await Deno.rename(`${folder}/elsewhere/s.disk0.qcow2`, `${file}.disk0.qcow2`);
      await resumed(async () => {});
      assertEquals(await Deno.readFile(disk), bytes);
      assertEquals([...Deno.readDirSync(folder)].map(({ name }) => name).sort(), [
        "disk.img",
        "elsewhere",
        "s",
        "s.disk0.qcow2",
      ]);
    }),
);
