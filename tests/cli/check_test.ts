/** What a request names on the host, checked before anything starts. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { checkFiles } from "../../src/cli/check.ts";
import { parseCommandLine } from "../../src/cli/parse.ts";
import { withFiles } from "./trike.ts";

function check(...args: string[]): void {
  const command = parseCommandLine(["run", ...args]);
  if (command.kind !== "run") throw new Error(`expected run, got ${command.kind}`);
  checkFiles(command.request);
}

Deno.test("files that are missing, empty, directories, or no disks are mistakes that name flag and file", () =>
  withFiles(async ({ dir, kernel }) => {
    await Deno.writeTextFile(`${dir}/empty`, "");
    await Deno.writeFile(`${dir}/disk`, new Uint8Array(1024));
    await Deno.writeFile(`${dir}/odd`, new Uint8Array(1025));
    await Deno.symlink(`${dir}/disk`, `${dir}/link`);
    await Deno.symlink(`${dir}/gone`, `${dir}/dangling`);
    check("--kernel", kernel, "--initrd", kernel, "--disk", `${dir}/disk`, "--stats", `${dir}/new`);
    check("--disk", `${dir}/disk,readonly`, "--disk", `${dir}/link,readonly`);
    check("--trace", "pio:/dev/null", "--stats", "/dev/null", "--serial", "file:/dev/null");
    const mistakes: [string[], ...string[]][] = [
      [["--kernel", `${dir}/gone`], "--kernel", "/gone"],
      [["--kernel", `${kernel}/x`], "--kernel", "/x"],
      [["--kernel", dir], "--kernel", "found a directory"],
      [["--kernel", `${dir}/empty`], "--kernel", "empty"],
      [["--initrd", `${dir}/dangling`], "--initrd", "/dangling"],
      [["--initrd", "/dev/null"], "--initrd", "found a device"],
      [["--disk", `${dir}/gone`], "--disk", "/gone"],
      [["--disk", dir], "--disk", "found a directory"],
      [["--disk", `${dir}/empty`], "--disk", "found 0 bytes"],
      [["--disk", `${dir}/odd`], "--disk", "512", "found 1025 bytes"],
      [["--stats", dir], "--stats", "found a directory"],
      [["--stats", `${dir}/no/such`], "--stats", `${dir}/no`],
      [["--trace", `pio:${dir}/no/such`], "--trace", `${dir}/no`],
      [["--serial", `file:${dir}/no/such`], "--serial", `${dir}/no`],
      [["--serial", `unix:${kernel}/sock`], "--serial", "directory"],
      [["--kernel", `x\0y`], "--kernel"],
    ];
    for (const [args, ...names] of mistakes) {
      const error = assertThrows(() => check(...args), ConfigError) as ConfigError;
      for (const name of names) assert(error.message.includes(name), `${error.message} lacks ${name}`);
    }
  }));

Deno.test("no file is written that something else reads or writes, by whatever name", () =>
  withFiles(async ({ dir, kernel }) => {
    const disk = `${dir}/disk`, link = `${dir}/link`;
    await Deno.writeFile(disk, new Uint8Array(512));
    await Deno.symlink(disk, link);
    for (
      const args of [
        ["--disk", disk, "--disk", link],
        ["--disk", disk, "--disk", `${link},readonly`],
        ["--disk", disk, "--serial", `file:${link}`],
        ["--kernel", kernel, "--stats", `${dir}/./vmlinuz`],
        ["--stats", `${dir}/new`, "--trace", `pio:${dir}/./new`],
        ["--serial", `file:${dir}/new`, "--serial", `file:${dir}/new`],
        ["--serial", `unix:${dir}/new`, "--serial", `unix:${dir}/new`],
      ]
    ) {
      const error = assertThrows(() => check(...args), ConfigError) as ConfigError;
      assert(error.message.includes("is the same"), error.message);
    }
    assertEquals(await Deno.readTextFile(kernel), "kernel");
  }));
