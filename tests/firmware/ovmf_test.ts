import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { guestOrSkip, script, Trike, withFolder } from "../boot/guests.ts";
import { which } from "../guest/which.ts";
import { firmwareOrSkip } from "./images.ts";

const code = firmwareOrSkip("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd");
const vars = firmwareOrSkip("ovmf", "/usr/share/OVMF/OVMF_VARS_4M.fd");

const { guest, ignore: noGuest } = await guestOrSkip("cloud");
const mtools = which("mformat") && which("mcopy");
if (!mtools) console.log("skipped: Linux under UEFI: the package mtools is not installed");

/** Starts the UEFI shell, has it do `commands`, and returns what the console said. */
async function shell(varsFile: string, commands: readonly string[]): Promise<string> {
  const machine = ["--memory", "128M", "--engine", "soft", "--timeout", "180"];
  await using trike = new Trike(["run", "--quiet", "--firmware", code.path, "--firmware-vars", varsFile, ...machine]);
  await trike.talk.until("seconds to skip", 90);
  await trike.talk.type("\x1b");
  let said = await trike.talk.until("Shell> ", 90);
  for (const command of commands) {
    await trike.talk.type(command + "\r");
    if (command !== "reset -s") said += await trike.talk.until("Shell> ", 90);
  }
  const { code: status, stdout, stderr } = await trike.end();
  assertEquals([status, stderr], [0, ""]);
  return said + stdout;
}

if (noGuest || mtools === null) {
  Deno.test({
    name: "OVMF: the UEFI shell on COM1, and a variable that outlives the machine in --firmware-vars",
    // About 8 s: nothing shorter runs all of a UEFI firmware. Where the other test runs, it shows the same.
    ignore: code.ignore || vars.ignore,
    fn: async () => {
      const dir = await Deno.makeTempDir();
      try {
        await Deno.copyFile(vars.path, `${dir}/vars.fd`);
        const said = await shell(`${dir}/vars.fd`, ["memmap", "set kept through-flash", "reset -s"]);
        assertStringIncludes(said, "Total Memory:            127 MB"); // what OVMF leaves of 128
        await checkVars(`${dir}/vars.fd`);
      } finally {
        await Deno.remove(dir, { recursive: true });
      }
    },
  });
}

/** The file still has its size, and holds what the shell has set; UEFI names variables in UTF-16, and the shell keeps text so. */
async function checkVars(path: string): Promise<void> {
  const [before, after] = await Promise.all([vars.path, path].map((name) => Deno.readFile(name)));
  assertEquals(after!.length, before!.length);
  const text = new TextDecoder("utf-16le").decode(after);
  assertEquals([text.includes("kept\0"), text.includes("through-flash")], [true, true]);
}

/** A FAT disk with a kernel that is a UEFI program, its initial file system, and a script that the shell starts by itself. */
async function uefiDisk(folder: string, append: string): Promise<string> {
  const image = `${folder}/disk.img`, label = `${folder}/startup.nsh`;
  await Deno.writeFile(image, new Uint8Array(0));
  await Deno.truncate(image, 64 << 20);
  await Deno.writeTextFile(label, `set kept through-flash\r\nfs0:\r\nvmlinuz.efi initrd=\\initrd ${append}\r\n`);
  const run = async (program: string, ...args: string[]) => {
    const { code, stderr } = await new Deno.Command(program, { args, stderr: "piped" }).output();
    assertEquals(code, 0, new TextDecoder().decode(stderr));
  };
  await run("mformat", "-i", image, "-F", "::");
  await run("mcopy", "-i", image, guest.kernel, "::/vmlinuz.efi");
  await run("mcopy", "-i", image, guest.initrd, "::/initrd");
  await run("mcopy", "-i", image, label, "::/startup.nsh");
  return image;
}

Deno.test({
  // About 15 s: a UEFI firmware, then a Linux.
  name: "OVMF starts Debian's kernel from a FAT disk; it finds ACPI, HPET, SMBIOS and UEFI's variables, and powers off",
  ignore: code.ignore || vars.ignore || noGuest || !mtools,
  fn: () =>
    withFolder(async (folder) => {
      await Deno.copyFile(vars.path, `${folder}/vars.fd`);
      const wanted = "cat /sys/devices/system/clocksource/*/available_clocksource; ls /sys/firmware/acpi/tables; " +
        "cat /sys/class/dmi/id/sys_vendor; ls /sys/firmware/efi";
      const disk = await uefiDisk(folder, `${guest.append} ${script(wanted)}`);
      const firmware = ["--firmware", code.path, "--firmware-vars", `${folder}/vars.fd`, "--disk", disk];
      const machine = ["--memory", "512M", "--engine", "soft", "--timeout", "180"];
      await using trike = new Trike(["run", "--quiet", ...firmware, ...machine]);
      const { code: status, stdout, stderr } = await trike.end();
      assertEquals([status, stderr], [0, ""]);
      assertMatch(stdout, /tsc hpet acpi_pm/);
      for (const word of ["APIC", "DSDT", "FACP", "HPET", "MCFG", "trike", "runtime-map"]) {
        assertStringIncludes(stdout, word);
      }
      assertStringIncludes(stdout, "UEFI Interactive Shell");
      await checkVars(`${folder}/vars.fd`);
    }),
});
