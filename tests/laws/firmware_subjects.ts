/** What a board has for firmware's and a display's sake, mounted for the laws. */
import { FW_CFG_BYTES, FW_CFG_PORTS, FwCfg, FwCfgItem, FwCfgRecord } from "../../devices/fw_cfg.ts";
import { HPET, Hpet, HPET_BYTES, HPET_FIRST_GSI, HPET_GSIS, HPET_TIMERS, HpetRecord } from "../../devices/hpet.ts";
import { PciFunctionRecord } from "../../devices/pci/function.ts";
import { Vga, VGA_WINDOW } from "../../devices/vga.ts";
import { DISPI_PORT_BYTES, VGA_PCI, VGA_PORT, VgaRecord } from "../../devices/vga_registers.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { record } from "../../src/base/record.ts";
import type { Subject } from "./bench.ts";

const RAM_BYTES = 4096, VRAM_BYTES = 32 * 1024;
const RamRecord = record("law-fw-ram", 1, { bytes: { array: "u8", length: RAM_BYTES } });
const VramRecord = record("law-vram", 1, { bytes: { array: "u8", length: VRAM_BYTES } });

export const FIRMWARE_SUBJECTS: readonly Subject[] = [
  {
    name: "fw-cfg",
    mount(bench) {
      const { bytes } = bench.arena.place("ram", RamRecord);
      const ram = new GuestRam(bytes.buffer, bytes.byteOffset, RAM_BYTES);
      const dev = new FwCfg(bench.arena.place("fw-cfg", FwCfgRecord), ram, {
        items: { [FwCfgItem.NB_CPUS]: () => Uint8Array.of(1, 0) },
        files: { "etc/a": () => new Uint8Array(5000).fill(0x61), "etc/b": () => new Uint8Array() },
      });
      return {
        targets: [{ name: "fw-cfg", region: dev.region, bytes: FW_CFG_BYTES, registers: FW_CFG_PORTS }],
        inputs: [
          // A transfer that may well work: random words are seldom addresses.
          (random) => {
            [(random.below(0x24) << 16) | random.below(32), random.below(6000), 0, random.below(5000)].forEach((w, i) =>
              new DataView(bytes.buffer, bytes.byteOffset).setUint32(64 + 4 * i, w)
            );
            dev.region.write(4, 4, 0);
            dev.region.write(8, 4, 64 << 24);
          },
        ],
      };
    },
  },
  {
    name: "hpet",
    mount(bench) {
      const timer = bench.timer("hpet", () => dev.settle());
      const dev: Hpet = new Hpet(bench.arena.place("hpet", HpetRecord), {
        clock: bench.time,
        timer,
        gsi: Array.from(
          { length: HPET_TIMERS },
          (_, n) => Array.from({ length: HPET_GSIS }, (_, i) => bench.irq(`timer${n} gsi${HPET_FIRST_GSI + i}`)),
        ),
        legacy: [bench.irq("irq0"), bench.irq("irq8")],
        onLegacy: () => bench.note("legacy"),
      });
      return {
        targets: [{ name: "hpet", region: dev.mmio, bytes: HPET_BYTES, registers: HPET }],
        settle: () => dev.settle(),
      };
    },
  },
  {
    name: "vga",
    mount(bench) {
      const vram = bench.arena.place("vram", VramRecord).bytes;
      const parts = { clock: bench.time, vram, rom: new Uint8Array(4096) };
      const dev = new Vga(bench.arena.place("vga", VgaRecord), bench.arena.place("pci", PciFunctionRecord), parts);
      const bar = (n: number) => ({
        read: (offset: number, size: number) => dev.barRead(n, offset, size),
        write: (offset: number, size: number, value: number) => dev.barWrite(n, offset, size, value),
      });
      return {
        targets: [
          { name: "ports", region: dev.legacyPorts, bytes: VGA_PORT.BYTES },
          { name: "dispi", region: dev.dispiPorts, bytes: DISPI_PORT_BYTES },
          { name: "window", region: dev.window, bytes: VGA_WINDOW.BYTES },
          { name: "registers", region: bar(VGA_PCI.REGISTERS_BAR), bytes: VGA_PCI.REGISTERS_BYTES },
          { name: "framebuffer", region: bar(VGA_PCI.FRAMEBUFFER_BAR), bytes: VRAM_BYTES },
        ],
        inputs: [
          (random) => {
            dev.dispiPorts.write(0, 2, random.below(12));
            dev.dispiPorts.write(1, 2, random.pick([0, 1, 8, 32, 0x41, 320, 200, 640, random.below(65536)]));
          },
        ],
      };
    },
  },
];
