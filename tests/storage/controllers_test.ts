/** Linux' own drivers for AHCI, ATAPI and NVMe, on disks of both formats: what it writes is read, here and from outside. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { openImage } from "../../src/host/disk/open.ts";
import { createImage } from "../../src/host/disk/work.ts";
import { guestOrSkip, pattern, runGuest, script, sha256, trike, withFolder } from "../boot/guests.ts";
import { assertSound, noQemuImg } from "./qemu_img.ts";

const { guest, ignore } = await guestOrSkip("generic");
const MIB = 1 << 20;
const DISK_BYTES = 32 * MIB;

/** Writes with and without a cache, reads back past the cache, and gives a part up. */
const WORK = `for n in $(seq 50); do [ -b /dev/sda ] && [ -b /dev/sr0 ] && break; sleep 0.1; done
dd if=/dev/urandom of=/tmp/noise bs=64k count=64 2>/dev/null
for disk in sda nvme0n1 vda; do
  dd if=/tmp/noise of=/dev/$disk bs=64k seek=16 conv=fsync 2>/dev/null
  dd if=/tmp/noise of=/dev/$disk bs=4k count=64 seek=2048 oflag=direct 2>/dev/null
  blockdev --flushbufs /dev/$disk
  dd if=/dev/$disk bs=64k skip=16 count=64 2>/dev/null | cmp - /tmp/noise && echo $disk same
  blkdiscard -o 1048576 -l 1048576 /dev/$disk && echo $disk discarded
  dd if=/dev/$disk bs=1M skip=1 count=1 2>/dev/null | tr -d '\\0' | wc -c
done
sha256sum /dev/sr0
echo later $(tail -c +1048577 /tmp/noise | sha256sum) first $(head -c 262144 /tmp/noise | sha256sum)
cat /sys/block/sda/device/model /sys/block/nvme0n1/device/model /sys/block/nvme0n1/device/serial
cat /sys/class/scsi_device/0:0:0:0/device/queue_depth
dmesg | grep -iE '(ata|sd|sr|nvme).*(error|exception|failed|timeout|reset)' || echo no complaint
sync`;

Deno.test(
  { name: "Linux reads, writes and discards on AHCI, NVMe and virtio, and reads a CD-ROM", ignore },
  () =>
    withFolder(async (folder) => {
      const disks = ["sda", "nvme0n1", "vda"].map((name) => `${folder}/${name}.qcow2`);
      const [sda, nvme, vda] = disks;
      for (const path of disks) {
        createImage(path, { format: "qcow2", sizeBytes: DISK_BYTES, backing: null, backingFormat: null });
      }
      const disc = pattern(2 * MIB);
      await Deno.writeFile(`${folder}/cd.iso`, disc);
      const { code, stdout, stderr } = await trike(
        runGuest(
          guest,
          script(WORK),
          ...["--disk", `${sda},controller=ahci`, "--disk", `${folder}/cd.iso,controller=cdrom`],
          ...["--disk", `${nvme},controller=nvme,serial=EXTRA-42`, "--disk", vda!],
        ),
      );
      assertEquals([code, stderr], [0, ""], stdout);
      for (const name of ["sda", "nvme0n1", "vda"]) {
        assertMatch(stdout, new RegExp(`^${name} same\n${name} discarded\n0$`, "m"), stdout);
      }
      assert(stdout.includes(`${await sha256(disc)}  /dev/sr0`), stdout);
      assertMatch(stdout, /^trike disk\s*\ntrike disk\s*\nEXTRA-42\s*\n32$/m);
      assertMatch(stdout, /^no complaint$/m);

      const [, later, first] = /^later (\w+) - first (\w+) -$/m.exec(stdout)!;
      for (const path of disks) {
        const image = openImage({ path, writable: false });
        const part = (offset: number, sizeBytes: number) => {
          const bytes = new Uint8Array(sizeBytes);
          image.read(offset, bytes);
          return bytes;
        };
        assertEquals(part(MIB, MIB).every((byte) => byte === 0), true, `${path}: what was discarded is zero`);
        assertEquals(await sha256(part(2 * MIB, 3 * MIB)), later);
        assertEquals(await sha256(part(8 * MIB, MIB / 4)), first);
        image.close();
        if (!noQemuImg) await assertSound(path);
      }
    }),
);
