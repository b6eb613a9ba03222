/** An old firmware and a display under the engine hvf, on the double: ROM, shadow RAM and video memory by mappings. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { screenText } from "../../../src/host/screen.ts";
import { startMachine } from "../../../src/machine/machine.ts";
import { withFolder } from "../../boot/guests.ts";
import { bootableDisk, SECOND_SECTOR } from "../../firmware/boot_sector.ts";
import { firmwareOrSkip } from "../../firmware/images.ts";
import { biosMachine } from "../../firmware/machine.ts";
import { refusal } from "./double.ts";
import { doubled } from "./machine.ts";

if (refusal !== null) console.log(`skipped: ${refusal}`);
const seabios = firmwareOrSkip("seabios", "/usr/share/seabios/bios-256k.bin");

Deno.test({
  name: "hvf: SeaBIOS with a display reads a disk's first sector, and runs it",
  ignore: refusal !== null || seabios.ignore,
  fn: () =>
    withFolder(async (folder) => {
      const disk = `${folder}/disk.img`;
      await Deno.writeFile(disk, bootableDisk());
      const disks = [{ path: disk, readonly: true, format: "raw" }] as const;
      const machine = await startMachine({ ...biosMachine(seabios.path, { disks }), engine: "hvf" }, doubled);
      const limit = setTimeout(() => machine.stop(), 300_000);
      const { kind } = await machine.ended;
      clearTimeout(limit);
      const text = screenText(machine.screen!)!;
      assertEquals(kind, "poweroff", text);
      assertStringIncludes(text, "SeaBIOS (version ");
      assertStringIncludes(text, `${SECOND_SECTOR}63 MiB`);
    }),
});
