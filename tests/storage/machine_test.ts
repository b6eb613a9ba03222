/** Disks of a machine that runs: who may open them, what is thrown away, and what a guest gives back. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { ImageLock } from "../../src/host/block_lock.ts";
import { openImage } from "../../src/host/disk/open.ts";
import { createImage } from "../../src/host/disk/work.ts";
import { guestOrSkip, pattern, runGuest, script, sha256, Trike, trike, withFolder } from "../boot/guests.ts";

const { guest, ignore } = await guestOrSkip("cloud");
const MIB = 1 << 20;

Deno.test(
  { name: "a disk in use by one machine is refused to another, and is free when that ends", ignore },
  () =>
    withFolder(async (folder) => {
      const path = `${folder}/disk.qcow2`;
      createImage(path, { format: "qcow2", sizeBytes: MIB, backing: null, backingFormat: null });
      const free = () => {
        try {
          ImageLock.take({ path, readonly: true })?.release();
          return true;
        } catch (error) {
          if (!(error instanceof ConfigError)) throw error;
          return false;
        }
      };
      {
        await using _first = new Trike(runGuest(guest, "", "--disk", path));
        for (let n = 0; free(); n++) {
          assert(n < 300, "the machine does not lock its disk");
          await new Promise((resolve) => setTimeout(resolve, 100));
        }
        for (const more of ["", ",overlay"]) {
          const second = await trike(runGuest(guest, "", "--disk", `${path}${more}`));
          assertEquals(second.code, 2);
          assertMatch(
            second.stderr,
            /^trike: --disk .*: another machine uses it; expected an image that nobody else .*\n$/,
          );
        }
      }
      assertEquals(free(), true);
      assertThrows(() => ImageLock.take({ path: `${path}.none`, readonly: true }));
    }),
);

Deno.test({
  name: "an overlay takes what the guest writes; what it discards is free in the image, and used again",
  ignore,
}, () =>
  withFolder(async (folder) => {
    const path = `${folder}/disk.qcow2`, base = `${folder}/base.img`;
    createImage(path, { format: "qcow2", sizeBytes: 64 * MIB, backing: null, backingFormat: null });
    const content = pattern(4 * MIB);
    await Deno.writeFile(base, content);
    const text = `ls /sys/block/vda/mq | wc -l
cat /sys/block/vda/queue/discard_max_bytes
for n in 1 2 3 4; do
  dd if=/dev/urandom of=/dev/vda bs=1M count=8 conv=fsync 2>/dev/null && blkdiscard /dev/vda && sync
done
head -c 65536 /dev/vda | tr -d '\\0' | wc -c
dd if=/dev/zero of=/dev/vdb bs=1M count=2 conv=fsync 2>/dev/null
sha256sum /dev/vdb`;
    const disks = ["--disk", path, "--disk", `${base},overlay`];
    const { code, stdout } = await trike(runGuest(guest, script(text), "--cpus", "2", ...disks));
    assertEquals(code, 0, stdout);
    assertMatch(stdout, /^2\n[1-9]\d*\n0$/m, "a queue for each CPU, and discard");
    assert(Deno.statSync(path).size < 20 * MIB, "the file grew by what was discarded");
    const image = openImage({ path, writable: false });
    assertEquals(image.extentAt(0, image.sizeBytes).kind, "absent");
    image.close();

    const seen = content.slice();
    seen.fill(0, 0, 2 * MIB);
    assert(stdout.includes(`${await sha256(seen)}  /dev/vdb`), stdout);
    assertEquals(await sha256(await Deno.readFile(base)), await sha256(content));
  }));
