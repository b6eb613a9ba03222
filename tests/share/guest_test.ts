/**
 * Linux's own 9P client on a shared folder. The guest has Debian's generic kernel, as the small one has no 9P, and its boot is
 * what takes the time of this test.
 */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { guestOrSkip, pattern, runGuest, script, sha256, trike, withFolder } from "../boot/guests.ts";

const { guest, ignore } = await guestOrSkip("generic");

Deno.test({ name: "Linux mounts shared folders and works in them", ignore }, () =>
  withFolder(async (folder) => {
    const share = `${folder}/share`, fixed = `${folder}/fixed`;
    for (const path of [share, fixed]) Deno.mkdirSync(path);
    const big = pattern(3_000_001), hash = await sha256(big);
    Deno.writeFileSync(`${fixed}/big`, big);
    Deno.writeTextFileSync(`${folder}/outside`, "not for guests");
    const text = `
set -e
modprobe -a -q 9pnet_virtio 9p
mkdir /tmp/m /tmp/r
mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share0 /tmp/m
mount -t 9p -o trans=virtio,version=9p2000.L fixed /tmp/r
sha256sum </tmp/r/big
touch /tmp/r/new 2>&1 | grep -o 'Read-only file system' || true
cd /tmp/m
cp -r /etc tree
(cd /etc; find . -type f | sort | xargs sha256sum) >/tmp/a
(cd tree; find . -type f | sort | xargs sha256sum) >/tmp/b
cmp /tmp/a /tmp/b && echo tree-same
cp /tmp/r/big big && sha256sum <big
echo one >f; echo two >>f; mv f g; cat g
truncate -s 4 g; cat g
ln g h; ln -s ../outside out; ln -s ${folder}/outside abs
cat out 2>/dev/null || cat abs 2>/dev/null || echo links-lead-nowhere
mkdir many; i=0; while [ $i -lt 250 ]; do : >many/n$i; i=$((i+1)); done
ls many | wc -l
rm many/n1; mv many more
chmod 640 g; touch -d '2020-01-02 03:04:05' g; stat -c '%a %u %g %Y' g
exec 3<>gone; rm gone; echo still >&3; exec 3>&-; [ -e gone ] || echo gone
mkfifo pipe 2>&1 | grep -o 'not permitted' || true
chown 5:5 g 2>&1 | grep -o 'not permitted' || true
sync; cd /; umount /tmp/m /tmp/r; echo unmounted
`;
    const args = runGuest(guest, script(text), "--share", share, "--share", `${fixed}:fixed,readonly`);
    const { code, stdout, stderr } = await trike(args);
    assertEquals([code, stderr], [0, ""], stdout);
    assertEquals(stdout.match(new RegExp(`^${hash} `, "gm"))?.length, 2, stdout);
    assertMatch(
      stdout,
      new RegExp(
        ["Read-only file system", "tree-same", `${hash}  -`, "one", "two", "one", "links-lead-nowhere", "250"]
          .join("\\n"),
      ),
    );
    assertMatch(stdout, /\n640 0 0 1577934245\ngone\nnot permitted\nnot permitted\nunmounted\n/);
    // What the guest did is so on the host.
    assertEquals(Deno.readTextFileSync(`${share}/h`), "one\n");
    assertEquals(await sha256(Deno.readFileSync(`${share}/big`)), hash);
    assertEquals(Deno.readLinkSync(`${share}/out`), "../outside");
    assertEquals([...Deno.readDirSync(`${share}/more`)].length, 249);
    const g = Deno.statSync(`${share}/g`);
    assertEquals([g.mode! & 0o7777, g.mtime!.getTime(), g.nlink], [0o640, 1577934245_000, 2]);
    assert(!Deno.readTextFileSync(`${share}/tree/passwd`).includes("outside"));
    assertEquals([...Deno.readDirSync(fixed)].map(({ name }) => name), ["big"]);
  }));
