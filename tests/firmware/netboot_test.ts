/** Boots from the network: option ROMs of iPXE, UEFI's own PXE, and files that the gateway gives by TFTP. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { Trike, withFolder } from "../boot/guests.ts";
import { which } from "../guest/which.ts";
import { bootableDisk, SECOND_SECTOR } from "./boot_sector.ts";
import { efiProgram, HELLO } from "./efi_program.ts";
import { firmwareOrSkip } from "./images.ts";

const seabios = firmwareOrSkip("seabios", "/usr/share/seabios/bios-256k.bin");
const code = firmwareOrSkip("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd");
const vars = firmwareOrSkip("ovmf", "/usr/share/OVMF/OVMF_VARS_4M.fd");
const ipxe = firmwareOrSkip("ipxe-qemu", "/usr/lib/ipxe/qemu/pxe-virtio.rom");
const mtools = which("mformat") && which("mcopy") && which("mmd");
if (!mtools) console.log("skipped: UEFI's order of disk and network: the package mtools is not installed");

const ALLOW = ["--allow-read", "--allow-write", "--allow-env", "--allow-net"];

/** The last lines of a machine that resets itself may stay in SeaBIOS's buffer. */
const SCRIPT = "#!ipxe\necho ${filename} by ${net0/chip} from ${next-server} for ${ip}:\n" +
  "echo ${user-class} ${manufacturer}\necho\necho goodbye\necho\nreboot\n";

/** Boots with a folder that holds an iPXE script and a UEFI program; what the console said. */
async function boot(folder: string, ...args: readonly string[]): Promise<string> {
  const machine = ["--no-reboot", "--engine", "soft", "--timeout", "400"];
  await using trike = new Trike(["run", "--quiet", ...args, ...machine], ALLOW);
  const { code, stdout, stderr } = await trike.end();
  assertEquals([code, stderr], [0, ""], folder);
  return stdout;
}

async function tftpFolder(folder: string): Promise<string> {
  await Deno.mkdir(`${folder}/tftp/boot`, { recursive: true });
  await Deno.writeTextFile(`${folder}/tftp/boot/script.ipxe`, SCRIPT);
  await Deno.writeFile(`${folder}/tftp/hello.efi`, efiProgram());
  return `user,tftp=${folder}/tftp,bootfile=boot/script.ipxe,bootfile-uefi=hello.efi`;
}

Deno.test({
  name: "SeaBIOS and iPXE's ROM on a virtio card: --boot net,disk loads a script by TFTP, past a disk that would boot",
  ignore: seabios.ignore || ipxe.ignore,
  fn: () =>
    withFolder(async (folder) => {
      await Deno.writeFile(`${folder}/disk.img`, bootableDisk());
      const disk = ["--disk", `${folder}/disk.img`, "--boot", "net,disk", "--memory", "64M"];
      const said = await boot(folder, "--firmware", seabios.path, "--net", await tftpFolder(folder), ...disk);
      assertStringIncludes(said, "boot/script.ipxe by virtio-net from 10.0.2.2 for 10.0.2.15:\n");
      assert(!said.includes(SECOND_SECTOR));
    }),
});

Deno.test({
  name: "SeaBIOS and iPXE's ROM on an e1000: the network comes after a disk that does not boot",
  ignore: seabios.ignore || ipxe.ignore,
  fn: () =>
    withFolder(async (folder) => {
      await Deno.writeFile(`${folder}/disk.img`, new Uint8Array(1 << 20));
      const net = `${await tftpFolder(folder)},model=e1000`;
      const disk = ["--disk", `${folder}/disk.img`, "--memory", "64M"];
      const said = await boot(folder, "--firmware", seabios.path, "--net", net, ...disk);
      assertStringIncludes(said, "boot/script.ipxe by 82545em from 10.0.2.2 for 10.0.2.15:\n");
    }),
});

/** A FAT disk that UEFI boots, with another program than that of the network. */
async function uefiDisk(folder: string): Promise<string> {
  const image = `${folder}/disk.img`, program = `${folder}/bootx64.efi`;
  const bytes = efiProgram(), from = new TextEncoder().encode(HELLO.slice(0, 14).split("").join("\0"));
  const at = bytes.findIndex((_, i) => from.every((byte, j) => bytes[i + j] === byte));
  bytes.set(new TextEncoder().encode("loaded by DISK".split("").join("\0")), at);
  await Deno.writeFile(program, bytes);
  await Deno.writeFile(image, new Uint8Array(4 << 20));
  for (
    const [command, ...args] of [
      ["mformat", "-i", image, "::"],
      ["mmd", "-i", image, "::/EFI", "::/EFI/BOOT"],
      ["mcopy", "-i", image, program, "::/EFI/BOOT/BOOTX64.EFI"],
    ] as const
  ) {
    const { code, stderr } = await new Deno.Command(command, { args: [...args], stderr: "piped" }).output();
    assertEquals(code, 0, new TextDecoder().decode(stderr));
  }
  return image;
}

// OVMF takes about 6 s to its boot order, and no less for a part of what is asked here.
for (
  const [order, model] of [
    ["net,disk", "virtio"], // by OVMF's own driver and PXE
    ["net", "e1000"], // by the driver in the option ROM
  ] as const
) {
  Deno.test({
    name: `OVMF, --boot ${order}, ${model}: a UEFI program by TFTP, past a disk that would boot`,
    ignore: code.ignore || vars.ignore || !mtools || (model === "e1000" && ipxe.ignore),
    fn: () =>
      withFolder(async (folder) => {
        await Deno.copyFile(vars.path, `${folder}/vars.fd`);
        const firmware = ["--firmware", code.path, "--firmware-vars", `${folder}/vars.fd`, "--boot", order];
        const net = ["--net", `${await tftpFolder(folder)},model=${model}`, "--disk", await uefiDisk(folder)];
        const said = await boot(folder, ...firmware, ...net, "--memory", "128M");
        assertEquals(said.match(/loaded by \w+, run by UEFI/g), [HELLO]);
      }),
  });
}
