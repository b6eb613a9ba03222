import { assertEquals } from "@std/assert";
import { dedicate } from "../../src/boot/option_rom.ts";
import { bootOrder } from "../../src/machine/boot_order.ts";
import type { DiskController, DiskSpec, MachineSpec } from "../../src/machine/spec.ts";

const disk = (controller: DiskController): DiskSpec => ({ path: "d", readonly: false, format: "raw", controller });
const spec: MachineSpec = {
  engine: "soft",
  memoryBytes: 64 << 20,
  cpus: 1,
  kernel: "",
  initrd: null,
  append: "",
  disks: [disk("cdrom"), disk("virtio"), disk("ahci"), disk("nvme")],
  net: { kind: "switch", name: "a", mac: [2, 0, 0, 0, 0, 1], pcap: null },
  serial: [],
  noReboot: true,
  icount: false,
  trace: null,
};

Deno.test("the boot order has a path for each device of a source, then HALT, and a NUL at its end", () => {
  assertEquals(bootOrder(spec, ["net", "disk"]).split("\n"), [
    "/pci@i0cf8/ethernet@13/ethernet-phy@0",
    "/pci@i0cf8/scsi@4/disk@0,0",
    "/pci@i0cf8/pci8086,2922@1f,2/drive@1/disk@0",
    "/pci@i0cf8/pci8086,5845@6/namespace@1,0",
    "HALT\0",
  ]);
  assertEquals(bootOrder(spec, ["cdrom"]), "/pci@i0cf8/pci8086,2922@1f,2/drive@0/disk@0\nHALT\0");
});

/** An image of `blocks` times 512 bytes, its PCI data structure at 40h, its entry a jump if there is one. */
function image(codeType: number, last: boolean, entry = 0xe9): Uint8Array {
  const bytes = new Uint8Array(1024);
  bytes.set([0x55, 0xaa, 2, entry, 0x10, 0x00, 0]);
  bytes.set([0x40, 0], 0x18);
  bytes.set([..."PCIR"].map((c) => c.charCodeAt(0)), 0x40);
  bytes.set([0xf4, 0x1a, 0x00, 0x10], 0x44);
  bytes.set([2, 0], 0x50);
  bytes.set([codeType, last ? 0x80 : 0], 0x54);
  bytes[1023] = -bytes.reduce((a, b) => a + b, 0);
  return bytes;
}
const sum = (bytes: Uint8Array) => bytes.reduce((a, b) => a + b, 0) & 0xff;

Deno.test("an option ROM is made one for the card: each image has its identifiers, a BIOS's still sums to nothing", () => {
  const rom = new Uint8Array(4096);
  rom.set(image(0, false));
  rom.set(image(3, true), 1024);
  dedicate(rom, 0x8086, 0x100f);
  for (const at of [0, 1024]) assertEquals([...rom.subarray(at + 0x44, at + 0x48)], [0x86, 0x80, 0x0f, 0x10]);
  assertEquals([rom[0], rom[3], rom[4], sum(rom.subarray(0, 1024))], [0x55, 0xe9, 0x10, 0]);
  // What stands at the entry may be code up to anywhere: then nothing can be changed.
  const other = image(0, true, 0xfa);
  dedicate(other, 0x8086, 0x100f);
  assertEquals(other, image(0, true, 0xfa));
});

Deno.test("an option ROM that leads nowhere is left alone", () => {
  for (const [at, ...bytes] of [[0x18, 0xff, 0x0f], [0x18, 0x00, 0x05], [0x50, 0, 0], [0x50, 0xff, 0xff], [2, 0xff]]) {
    const rom = new Uint8Array(2048);
    rom.set(image(0, false));
    rom.set(bytes, at);
    const before = rom.slice();
    dedicate(rom, 1, 2);
    // Without a data structure nothing is known to be an identifier; else nothing but those and the spare byte changes.
    if (at !== 0x18) { for (const b of [rom, before]) b.fill(0, 0x44, 0x48), b.fill(0, 6, 7); }
    assertEquals(rom, before);
  }
});
