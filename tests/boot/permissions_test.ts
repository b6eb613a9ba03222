/** A guest on the software CPU runs behind Deno's permissions: the files the user named, and nothing else of the host. */
import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { guestOrSkip, pattern, ROOT, runGuest, script, sha256, trike, withFolder } from "./guests.ts";

const { guest, ignore } = await guestOrSkip("cloud");

/** trike's own modules: its Workers load them with the program's permissions. */
const OWN = [`${ROOT}src`, `${ROOT}devices`];

Deno.test(
  { name: "--engine soft boots and serves its disks with read and write of the named files only", ignore },
  () =>
    withFolder(async (folder) => {
      const bytes = pattern(1 << 20);
      const [system, scratch, stats] = [`${folder}/system.img`, `${folder}/scratch.img`, `${folder}/stats.json`];
      await Deno.writeFile(system, bytes);
      await Deno.writeFile(scratch, bytes);
      const text = "sha256sum </dev/vda; cat /sys/block/vda/ro\n" +
        "dd if=/dev/vda of=/dev/vdb bs=64k seek=8 count=8 conv=notrunc,fsync 2>/dev/null; sha256sum </dev/vdb";
      const disks = ["--disk", `${system},readonly`, "--disk", scratch, "--stats", stats];
      const allow = [
        `--allow-read=${[guest.kernel, guest.initrd, system, scratch, stats, ...OWN].join()}`,
        `--allow-write=${[scratch, stats].join()}`,
      ];
      const { code, stdout, stderr } = await trike(runGuest(guest, script(text), ...disks), allow);
      assertEquals([code, stderr], [0, ""]);
      const copied = bytes.slice();
      copied.set(bytes.subarray(0, 8 << 16), 8 << 16);
      const sums = [await sha256(bytes), await sha256(copied)].map((sum) => `${sum}  -`);
      assertStringIncludes(stdout, [sums[0], "1", sums[1], "TRIKE-MARK:exit-0"].join("\n"));
      assertEquals(await Deno.readFile(scratch), copied);
      assertEquals(await Deno.readFile(system), bytes);
      assertMatch(await Deno.readTextFile(stats), /"end": "poweroff"/);
    }),
);

Deno.test(
  { name: "what is not granted is refused before the guest runs, and named", ignore },
  () =>
    withFolder(async (folder) => {
      const disk = `${folder}/disk.img`;
      await Deno.writeFile(disk, pattern(4096));
      const run = (...allow: string[]) => trike(runGuest(guest, script("true"), "--disk", disk), allow);
      const read = (...files: string[]) => `--allow-read=${[guest.kernel, ...files].join()}`;
      const [noInitrd, noDisk, noWrite] = await Promise.all([
        run(read(disk, ...OWN), `--allow-write=${disk}`),
        run(read(guest.initrd, ...OWN), `--allow-write=${disk}`),
        run(read(guest.initrd, disk, ...OWN)),
      ]);
      for (
        const [{ code, stdout, stderr }, flag, need] of [
          [noInitrd, "--initrd", "read"],
          [noDisk, "--disk", "read"],
          [noWrite, "--disk", "write"],
        ] as const
      ) {
        assertEquals([code, stdout], [1, ""], stderr);
        assertMatch(stderr, /^trike: .*\n$/);
        assertStringIncludes(stderr, flag);
        assertStringIncludes(stderr, `--allow-${need}`);
      }
    }),
);
