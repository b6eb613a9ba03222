import { assertEquals, assertStringIncludes } from "@std/assert";
import { probeKvm } from "../../src/engine/kvm/probe.ts";
import { screenText } from "../../src/host/screen.ts";
import { startMachine } from "../../src/machine/machine.ts";
import { Trike } from "../boot/guests.ts";
import { bootableDisk, SECOND_SECTOR } from "./boot_sector.ts";
import { firmwareOrSkip } from "./images.ts";
import { biosMachine } from "./machine.ts";

const seabios = firmwareOrSkip("seabios", "/usr/share/seabios/bios-256k.bin");
const small = firmwareOrSkip("seabios", "/usr/share/seabios/bios.bin");

/** True where the engine kvm can be had. */
function kvmOrSkip(): boolean {
  const { refusal } = probeKvm();
  if (refusal !== null) console.log(`skipped: SeaBIOS on the engine kvm: ${refusal}`);
  return refusal === null;
}

async function withDisk(body: (path: string, dir: string) => Promise<void>): Promise<void> {
  const dir = await Deno.makeTempDir();
  try {
    await Deno.writeFile(`${dir}/disk.img`, bootableDisk());
    await body(`${dir}/disk.img`, dir);
  } finally {
    await Deno.remove(dir, { recursive: true });
  }
}

const kvm = kvmOrSkip(); // an emulator's takes about 10 s; it is what runs ROM and shadow RAM by memory slots
for (const [engine, cpus, rom] of [["soft", 1, seabios], ["soft", 2, small], ["kvm", 1, seabios]] as const) {
  Deno.test({
    name:
      `SeaBIOS (${rom.name}, ${engine}, ${cpus} CPU): its banner, INT 10h, INT 13h on a virtio disk, INT 15h, INT 1Ah`,
    ignore: rom.ignore || (engine === "kvm" && !kvm),
    fn: () =>
      withDisk(async (disk, dir) => {
        const debug = `${dir}/debug.txt`;
        const machine = ["--memory", "64M", "--cpus", `${cpus}`, "--engine", engine, "--timeout", "180"];
        const allow = ["--allow-read", "--allow-write", "--allow-env", ...(engine === "kvm" ? ["--allow-ffi"] : [])];
        const files = ["--firmware", rom.path, "--debugcon", debug, "--disk", disk];
        await using trike = new Trike(["run", "--quiet", ...files, ...machine], allow);
        const { code, stdout, stderr } = await trike.end();
        assertEquals([code, stderr], [0, ""]);
        assertStringIncludes(stdout, "SeaBIOS (version ");
        assertStringIncludes(stdout, "boot sector: hello");
        assertStringIncludes(stdout, `${SECOND_SECTOR}63 MiB`); // the last of 64 MiB is what SeaBIOS keeps
        assertStringIncludes(stdout, "boot sector: time moves");
        const log = await Deno.readTextFile(debug);
        assertStringIncludes(log, "QEMU fw_cfg DMA interface supported");
        assertStringIncludes(log, `Found ${cpus} cpu(s) max supported ${cpus} cpu(s)`);
        if (rom === seabios) assertStringIncludes(log, "ACPI: parse DSDT"); // the small one leaves that out
      }),
  });
}

Deno.test({
  name: "SeaBIOS with a VGA display: the video BIOS sets mode 3, and INT 10h writes on the screen",
  ignore: seabios.ignore,
  fn: () =>
    withDisk(async (disk) => {
      const disks = [{ path: disk, readonly: true, format: "raw" }] as const;
      const machine = await startMachine(biosMachine(seabios.path, { disks }));
      const { kind } = await machine.ended;
      const text = screenText(machine.screen!)!;
      assertEquals(kind, "poweroff");
      assertStringIncludes(text, "SeaBIOS (version ");
      assertStringIncludes(text, `${SECOND_SECTOR}63 MiB`);
      const size = machine.screen!.size, pixels = new Uint32Array(size.width * size.height);
      machine.screen!.render(pixels, size);
      assertEquals([size.width, size.height], [720, 400]);
      // Light grey on black, and nothing else: what SeaBIOS's messages are written in.
      assertEquals([...new Set(pixels)].sort((a, b) => a - b), [0, 0xaaaaaa]);
    }),
});

/** Prints "once more" through INT 10h, waits for a tick, and resets the machine by port CF9h. */
const RESETS =
  "31c08ed8be2a7cac84c07409b40ebb0700cd10ebf2b400cd1a89d3b400cd1a39da74f8baf90cb006eef46f6e6365206d6f72650d0a";

Deno.test({
  name: "SeaBIOS starts again after each reset: ROM is back below 1 MiB, and PCI is laid out anew",
  ignore: seabios.ignore,
  fn: () =>
    withDisk(async (disk) => {
      const image = new Uint8Array(2 ** 20);
      image.set(Uint8Array.from(RESETS.match(/../g)!, (x) => parseInt(x, 16)));
      image.set([0x55, 0xaa], 510);
      await Deno.writeFile(disk, image);
      const machine = ["--memory", "64M", "--cpus", "2", "--engine", "soft", "--timeout", "180"];
      await using trike = new Trike(["run", "--quiet", "--firmware", seabios.path, "--disk", disk, ...machine]);
      for (let i = 0; i < 4; i++) await trike.talk.until("once more", 90);
    }),
});
