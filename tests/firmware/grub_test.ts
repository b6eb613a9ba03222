/** GRUB from its master boot record: INT 13h, INT 15h, real mode and back, and ACPI's way to power off. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { Trike, withFolder } from "../boot/guests.ts";
import { which } from "../guest/which.ts";
import { firmwareOrSkip } from "./images.ts";

const seabios = firmwareOrSkip("seabios", "/usr/share/seabios/bios-256k.bin");
const boot = firmwareOrSkip("grub-pc-bin", "/usr/lib/grub/i386-pc/boot.img");
const mkimage = which("grub-mkimage");
if (!mkimage) console.log("skipped: GRUB: the package grub-common is not installed");

const mkrescue = which("grub-mkrescue");
if (!mkrescue || !which("xorriso") || !which("mformat")) {
  console.log("skipped: GRUB's rescue CD: one of the packages grub-common, xorriso and mtools is not installed");
}

const CONFIG = `
serial --unit=0 --speed=115200
terminal_output serial
terminal_input serial
set timeout=30
menuentry "not this one" { true; }
menuentry "say hello, then halt" {
  echo "hello from GRUB"
  lsmmap
  halt
}
`;
const MODULES = "biosdisk memdisk tar normal serial terminal echo halt test true lsmmap".split(" ");

/** A disk that starts GRUB's menu: the boot sector, and the core image behind it with its configuration inside. */
async function grubDisk(folder: string): Promise<string> {
  await Deno.mkdir(`${folder}/boot/grub`, { recursive: true });
  await Deno.writeTextFile(`${folder}/boot/grub/grub.cfg`, CONFIG);
  const run = async (program: string, args: string[]) => {
    const { code, stderr } = await new Deno.Command(program, { args, cwd: folder, stderr: "piped" }).output();
    assertEquals(code, 0, new TextDecoder().decode(stderr));
  };
  await run("tar", ["cf", "memdisk.tar", "boot"]);
  const where = ["-O", "i386-pc", "-p", "(memdisk)/boot/grub", "-m", "memdisk.tar", "-o", "core.img"];
  await run(mkimage!, [...where, ...MODULES]);
  const [mbr, core] = await Promise.all([boot.path, `${folder}/core.img`].map((path) => Deno.readFile(path)));
  const disk = new Uint8Array(Math.ceil((mbr!.length + core!.length) / 2 ** 20) * 2 ** 20);
  disk.set(mbr!);
  disk.set(core!, mbr!.length);
  await Deno.writeFile(`${folder}/disk.img`, disk);
  return `${folder}/disk.img`;
}

/** A rescue CD with the same configuration. */
async function grubCd(folder: string): Promise<string> {
  await Deno.mkdir(`${folder}/cd/boot/grub`, { recursive: true });
  await Deno.writeTextFile(`${folder}/cd/boot/grub/grub.cfg`, CONFIG);
  const args = ["-d", boot.path.replace("/boot.img", ""), "-o", `${folder}/rescue.iso`, `${folder}/cd`];
  const { code, stderr } = await new Deno.Command(mkrescue!, { args, stdout: "null", stderr: "piped" }).output();
  assertEquals(code, 0, new TextDecoder().decode(stderr));
  return `${folder}/rescue.iso`;
}

Deno.test({
  name: "GRUB's rescue CD in an AHCI drive: SeaBIOS starts it, and its menu is on COM1",
  ignore: seabios.ignore || boot.ignore || !mkrescue || !which("xorriso") || !which("mformat"),
  fn: () =>
    withFolder(async (folder) => {
      const machine = ["--memory", "64M", "--engine", "soft", "--timeout", "180"];
      const disk = `${await grubCd(folder)},controller=cdrom`;
      await using trike = new Trike(["run", "--quiet", "--firmware", seabios.path, "--disk", disk, ...machine]);
      await trike.talk.until("say hello, then halt", 90);
      await trike.talk.until("executed automatically", 90);
      await trike.talk.type("\x1b[B\r");
      const { code, stdout, stderr } = await trike.end();
      assertEquals([code, stderr], [0, ""]);
      assertStringIncludes(stdout, "hello from GRUB");
    }),
});

Deno.test({
  name: "GRUB: its menu on COM1, the entry that a key chooses, and power off by way of the DSDT",
  ignore: seabios.ignore || boot.ignore || !mkimage,
  fn: () =>
    withFolder(async (folder) => {
      const machine = ["--memory", "64M", "--engine", "soft", "--timeout", "180"];
      const disk = await grubDisk(folder);
      await using trike = new Trike(["run", "--quiet", "--firmware", seabios.path, "--disk", disk, ...machine]);
      await trike.talk.until("say hello, then halt", 90);
      await trike.talk.until("executed automatically", 90);
      await trike.talk.type("\x1b[B\r");
      const { code, stdout, stderr } = await trike.end();
      assertEquals([code, stderr], [0, ""]);
      assertStringIncludes(stdout, "hello from GRUB");
      assertStringIncludes(stdout, "base_addr = 0x100000, length = 0x3e");
    }),
});
