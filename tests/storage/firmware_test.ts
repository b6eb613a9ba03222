/** SeaBIOS' own drivers for AHCI and NVMe, which ask by polling: it boots from either. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { Trike, withFolder } from "../boot/guests.ts";
import { bootableDisk, SECOND_SECTOR } from "../firmware/boot_sector.ts";
import { firmwareOrSkip } from "../firmware/images.ts";

const seabios = firmwareOrSkip("seabios", "/usr/share/seabios/bios-256k.bin");

for (const controller of ["ahci", "nvme"]) {
  Deno.test(
    { name: `SeaBIOS boots a disk on ${controller}, and INT 13h reads it`, ignore: seabios.ignore },
    () =>
      withFolder(async (folder) => {
        await Deno.writeFile(`${folder}/disk.img`, bootableDisk());
        const machine = ["--memory", "64M", "--engine", "soft", "--timeout", "60"];
        const files = ["--firmware", seabios.path, "--disk", `${folder}/disk.img,controller=${controller}`];
        await using trike = new Trike(["run", "--quiet", ...files, ...machine]);
        const { code, stdout, stderr } = await trike.end();
        assertEquals([code, stderr], [0, ""], stdout);
        assertStringIncludes(stdout, "boot sector: hello");
        assertStringIncludes(stdout, SECOND_SECTOR);
      }),
  );
}
