/** Disks of a machine that runs: who may open them, and what a pause leaves in their files. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { openImage } from "../../src/host/disk/open.ts";
import { createImage } from "../../src/host/disk/work.ts";
import { guestOrSkip, runGuest, script, Trike, trike, withFolder } from "../boot/guests.ts";

const { guest, ignore } = await guestOrSkip("cloud");

Deno.test(
  { name: "a disk in use by one machine is refused to another, but for reading in both", ignore },
  () =>
    withFolder(async (folder) => {
      const path = `${folder}/disk.qcow2`;
      createImage(path, { format: "qcow2", sizeBytes: 1 << 20, backing: null, backingFormat: null });
      const idle = "echo TRIKE-UP; sleep 60";
      await using first = new Trike(runGuest(guest, script(idle), "--disk", path));
      await first.talk.until("TRIKE-UP");
      const second = await trike(runGuest(guest, script("true"), "--disk", path));
      assertEquals(second.code, 2);
      assertMatch(
        second.stderr,
        /^trike: --disk .*: another machine uses it; expected an image that nobody else has open\n$/,
      );
      const overlay = await trike(runGuest(guest, script("true"), "--disk", `${path},overlay`));
      assertEquals(overlay.code, 2, "its content would change under the overlay");
    }),
);

Deno.test(
  { name: "Linux gives storage back: what it discards is free in the image, and used again", ignore },
  () =>
    withFolder(async (folder) => {
      const path = `${folder}/disk.qcow2`;
      createImage(path, { format: "qcow2", sizeBytes: 64 << 20, backing: null, backingFormat: null });
      const text = `ls /sys/block/vda/mq | wc -l
cat /sys/block/vda/queue/discard_max_bytes
for n in 1 2 3 4; do
  dd if=/dev/urandom of=/dev/vda bs=1M count=8 conv=fsync 2>/dev/null && blkdiscard /dev/vda && sync
done
head -c 65536 /dev/vda | tr -d '\\0' | wc -c`;
      const { code, stdout } = await trike(runGuest(guest, script(text), "--cpus", "2", "--disk", path));
      assertEquals(code, 0, stdout);
      assertMatch(stdout, /^2\n[1-9]\d*\n0$/m, "a queue for each CPU, and discard");
      assert(Deno.statSync(path).size < 20 << 20, "the file grew by what was discarded");
      const image = openImage({ path, writable: false });
      assertEquals(image.extentAt(0, image.sizeBytes).kind, "absent");
      image.close();
    }),
);
