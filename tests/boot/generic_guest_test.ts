/** Debian's kernel for any machine, from a root file system on a virtio disk: what it writes is there at the next boot. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { EXT4_ROOT_APPEND, ext4Root } from "../../src/guest/ext4_root.ts";
import { which } from "../guest/which.ts";
import { guestOrSkip, runGuest, script, trike, withFolder } from "./guests.ts";

const { guest, ignore } = await guestOrSkip("generic");
const e2fsck = which("e2fsck");
if (e2fsck === null) console.log("skipped: the check of the file system from outside: there is no e2fsck here");

/** A check that changes nothing, by the file system's own authors. */
async function assertClean(image: string): Promise<void> {
  if (e2fsck === null) return;
  const { code, stdout } = await new Deno.Command(e2fsck, { args: ["-f", "-n", image] }).output();
  const said = new TextDecoder().decode(stdout);
  assertEquals(code, 0, said);
  assert(!/not clean|recovering|WARNING/.test(said), said);
}

Deno.test(
  { name: "the generic guest keeps what it wrote on its ext4 root from one boot to the next", ignore },
  () =>
    withFolder(async (folder) => {
      const image = `${folder}/root.img`;
      await Deno.copyFile(await ext4Root(() => {}), image);
      const boot = async (text: string, ...more: string[]) => {
        const append = `${EXT4_ROOT_APPEND} ${script(text)}`;
        const { code, stdout, stderr } = await trike(runGuest(guest, append, "--disk", image, ...more));
        assertEquals([code, stderr], [0, ""], stdout);
        assertStringIncludes(stdout, "TRIKE-MARK:exit-0", "the script's last command succeeded");
        return stdout;
      };

      const first = await boot(`uname -r
grep ' / ' /proc/mounts
mkdir -p /data/deep/er
for n in $(seq 40); do seq $n $((n + 500)) >/data/file$n; done
dd if=/dev/urandom of=/data/noise bs=64k count=64 2>/dev/null
mv /data/file7 /data/deep/er/seven; ln -s ../file8 /data/deep/eight; rm /data/file9
cd /data; sha256sum noise file8 deep/er/seven >/sums
sync`);
      assertMatch(first, /^\d\S*-amd64$/m);
      assert(!/cloud/.test(first), first);
      assertMatch(first, /^\/dev\/vda \/ ext4 rw/m);
      await assertClean(image);

      const second = await boot(`cd /data; sha256sum -c /sums && ls | wc -l && cat deep/eight | tail -n1
dmesg | grep -i 'ext4-fs.*\\(error\\|recover\\|warning\\)' || echo nothing to recover
dmesg | grep -iE "pci.*(can't claim|bogus|no space|failed to assign)" || echo resources fit`);
      assertMatch(second, /^noise: OK\nfile8: OK\ndeep\/er\/seven: OK\n40\n508\nnothing to recover\nresources fit$/m);
      await assertClean(image);
    }),
);

Deno.test(
  { name: "a root that is stopped at once comes back through its journal, with what was synced", ignore },
  () =>
    withFolder(async (folder) => {
      const image = `${folder}/root.img`;
      await Deno.copyFile(await ext4Root(() => {}), image);
      // sysrq-b resets without another word to the disk, as a pulled plug would.
      const text = `seq 20000 >/kept; sync; seq 30000 >/maybe; echo b >/proc/sysrq-trigger`;
      const append = (text: string) => `${EXT4_ROOT_APPEND} ${script(text)}`;
      const pulled = await trike(runGuest(guest, append(text), "--disk", image, "--no-reboot"));
      assertEquals([pulled.code, pulled.stderr], [0, ""], pulled.stdout);
      const { code, stdout } = await trike(runGuest(guest, append("cat /kept | wc -l; sync"), "--disk", image));
      assertEquals(code, 0);
      assertMatch(stdout, /^20000\nTRIKE-MARK:exit-0$/m);
      await assertClean(image);
    }),
);
