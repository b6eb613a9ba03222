/** What users get wrong and hosts refuse: one sentence each, and never a lost process with a guest in it. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { guestOrSkip, pattern, runGuest, script, Trike, trike, withFolder } from "./guests.ts";

const { guest, ignore } = await guestOrSkip("cloud");

const MIB = 1 << 20;

/** Runs trike on a mistake: the sentence it gives with this status, without a guest having run. */
async function complaint(status: number, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await trike(["run", "--quiet", "--timeout", "60", ...args]);
  assertEquals([code, stdout], [status, ""], stderr);
  assertMatch(stderr, /^trike: [^\n]*\n$/);
  return stderr;
}

/** A file system in memory, of the test's own; null, and why is said, where only root may mount and we are not. */
async function withTmpfs(folder: string, sizeBytes: number, body: (mount: string) => Promise<void>): Promise<void> {
  const mount = `${folder}/mount`;
  await Deno.mkdir(mount);
  const command = (name: string, ...args: string[]) => new Deno.Command(name, { args }).output();
  const mounted = Deno.uid() === 0 &&
    (await command("mount", "-t", "tmpfs", "-o", `size=${sizeBytes}`, "tmpfs", mount)).success;
  if (!mounted) return console.log("skipped: a file system of its own needs root, and the right to mount");
  try {
    await body(mount);
  } finally {
    await command("umount", mount);
  }
}

Deno.test(
  { name: "files that are no kernel, or not a whole one, are named with the reason", ignore },
  () =>
    withFolder(async (folder) => {
      const file = async (name: string, bytes: Uint8Array) => {
        await Deno.writeFile(`${folder}/${name}`, bytes);
        return `${folder}/${name}`;
      };
      const kernel = await Deno.readFile(guest.kernel);
      const cases: [string, string, string[]][] = [
        ["missing", `${folder}/none`, ["none", "there is none of this name"]],
        ["empty", await file("empty", new Uint8Array(0)), ["empty"]],
        ["a folder", folder, ["found a directory"]],
        ["a text", await file("text", new TextEncoder().encode("#!/bin/sh\n")), ["not a kernel"]],
        ["noise", await file("noise", pattern(MIB)), ["not a kernel"]],
        ["the initrd", guest.initrd, ["not a kernel", "cpio archive"]],
        ["cut in its header", await file("header", kernel.subarray(0, 600)), ["cut short"]],
        ["cut in half", await file("half", kernel.subarray(0, kernel.length >> 1)), ["cut short"]],
      ];
      const sentences = await Promise.all(cases.map(([, path]) => complaint(2, "--kernel", path)));
      for (const [i, [what, path, words]] of cases.entries()) {
        for (const word of [path, "kernel", ...words]) assertStringIncludes(sentences[i]!, word, what);
      }
    }),
);

Deno.test(
  { name: "memory that is none, too little, too much, or less than the initrd", ignore },
  () =>
    withFolder(async (folder) => {
      const own = ["--kernel", guest.kernel, "--initrd", guest.initrd];
      for (const size of ["0", "1M", "64G", "-1", "lots", ""]) {
        const sentence = await complaint(2, ...own, `--memory=${size}`);
        assertStringIncludes(sentence, `--memory "${size}": expected a size`);
      }
      const initrd = `${folder}/initrd`;
      await Deno.writeFile(initrd, new Uint8Array(0));
      await Deno.truncate(initrd, 600 * MIB);
      const big = await complaint(2, "--kernel", guest.kernel, "--initrd", initrd, "--memory", "512M");
      for (const word of [initrd, "600 MiB does not fit in 512 MiB"]) assertStringIncludes(big, word);
      assertStringIncludes(await complaint(2, ...own, "--memory", "32M"), guest.kernel);
    }),
);

Deno.test(
  { name: "disks that are none, and a read-only one opened for writing", ignore },
  () =>
    withFolder(async (folder) => {
      const own = ["--kernel", guest.kernel];
      await Deno.writeFile(`${folder}/odd`, new Uint8Array(1000));
      for (
        const [path, word] of [[folder, "found a directory"], [`${folder}/none`, "no file"], [`${folder}/odd`, "1000"]]
      ) {
        const sentence = await complaint(2, ...own, "--disk", path!);
        for (const part of ["--disk", path!, word!]) assertStringIncludes(sentence, part);
      }
      await withTmpfs(folder, MIB, async (mount) => {
        await Deno.writeFile(`${mount}/disk`, new Uint8Array(4096));
        await new Deno.Command("mount", { args: ["-o", "remount,ro", mount] }).output();
        const sentence = await complaint(1, ...own, "--disk", `${mount}/disk`);
        for (const part of ["--disk", `${mount}/disk`, "',readonly'"]) assertStringIncludes(sentence, part);
      });
    }),
);

Deno.test(
  { name: "a disk that shrinks under a running guest gives it I/O errors, and the rest stays", ignore },
  () =>
    withFolder(async (folder) => {
      const path = `${folder}/disk.img`;
      await Deno.writeFile(path, pattern(8 * MIB));
      const text = `dd if=/dev/vda of=/dev/null bs=4k count=1 2>/dev/null && echo ready; read go
at() { dd "$@" bs=4k count=1 conv=fsync 2>&1 | grep -o 'Input/output error' || echo fine; }
echo "there $(at if=/dev/vda of=/dev/null skip=8)"
echo "gone $(at if=/dev/vda of=/dev/null skip=1900 iflag=direct)"
echo "lost $(at if=/dev/zero of=/dev/vda seek=1901 oflag=direct)"
echo "kept $(at if=/dev/zero of=/dev/vda seek=9 oflag=direct)"`;
      await using run = new Trike(runGuest(guest, script(text), "--disk", path));
      await run.talk.until("ready");
      await Deno.truncate(path, 4 * MIB);
      await run.talk.type("\n");
      const { code, stdout, stderr } = await run.end();
      const told = stdout.split("\n").filter((line) => /^(there|gone|lost|kept) /.test(line));
      assertEquals(told, ["there fine", "gone Input/output error", "lost Input/output error", "kept fine"], stdout);
      assertEquals(code, 0);
      assertMatch(
        stderr,
        /^trike: [^\n]*disk\.img: read at byte \d+: the file has become shorter; the guest sees an I\/O error\n/,
      );
      const left = await Deno.readFile(path);
      assertEquals(left.length, 4 * MIB, "a write past the end did not make it longer");
      assert(left.subarray(9 * 4096, 10 * 4096).every((byte) => byte === 0));
    }),
);

Deno.test(
  { name: "a full host disk gives the guest I/O errors, and what was flushed stays", ignore },
  () =>
    withFolder((folder) =>
      withTmpfs(folder, 4 * MIB, async (mount) => {
        const path = `${mount}/disk.img`;
        await Deno.writeFile(path, new Uint8Array(0));
        await Deno.truncate(path, 64 * MIB); // sparse: more than its file system holds
        const text = `put() { yes $1 | dd of=/dev/vda bs=64k count=16 iflag=fullblock oflag=direct seek=$2 2>&1; }
put flushed 0 | grep -c 'Input/output error'; sync
for n in 1 2 3 4 5; do put filler $((16 * n)); done | grep -o 'Input/output error' | head -n1
yes flushed | head -c 1048576 | cmp -n 1048576 - /dev/vda && echo still there`;
        const { code, stdout, stderr } = await trike(runGuest(guest, script(text), "--disk", path));
        assertMatch(stdout, /^0\n(\[.*\n)*Input\/output error\n(\[.*\n)*still there\nTRIKE-MARK:exit-0$/m);
        assertEquals(code, 0);
        assertMatch(
          stderr,
          /^trike: [^\n]*disk\.img: write at byte \d+: [^\n]*[Nn]o space left[^\n]*; the guest sees an I\/O error\n$/,
        );
        const first = (await Deno.readFile(path)).subarray(0, MIB);
        assertEquals(new TextDecoder().decode(first.subarray(0, 16)), "flushed\nflushed\n");
        assert(first.every((byte, i) => byte === "flushed\n".charCodeAt(i % 8)));
      })
    ),
);
