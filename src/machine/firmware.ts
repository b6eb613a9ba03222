/**
 * What a board has for firmware's sake: ROM below 4 GiB and below 1 MiB, RAM that shadows it, a PCI hole that firmware lays
 * out, and the configuration device that tells it about the machine.
 */
import { Flash, FlashRecord } from "../../devices/flash.ts";
import { FW_CFG_BYTES, FwCfg, type FwCfgContents, FwCfgItem, FwCfgRecord } from "../../devices/fw_cfg.ts";
import type { PciHost } from "../../devices/pci/host.ts";
import type { MemoryController } from "../../devices/pci/mch.ts";
import type { Arena } from "../base/arena.ts";
import { type Bus, ones, type Region } from "../base/bus.ts";
import { DEVICE, LEGACY_PAGES, type Mapping } from "../base/memory_map.ts";
import type { GuestRam } from "../base/ram.ts";
import type { Range } from "../boot/acpi/board.ts";
import { buildLoaderBlobs, LOADER_FILES, type LoaderBlobs } from "../boot/acpi/loader.ts";
import { buildSmbios, type Smbios, uuidBytes } from "../boot/smbios.ts";
import { MemoryType } from "../boot/low_memory.ts";
import { ADDRESS, PHYSICAL_ADDRESS_BITS, PORT } from "./addresses.ts";
import { bootOrder } from "./boot_order.ts";
import { describeBoard } from "./board_description.ts";
import { PAGE_BYTES } from "./memory.ts";
import type { MachineSpec } from "./spec.ts";

const FOUR_GIB = 0x1_0000_0000;
/** The end of the ROM also answers below 1 MiB: this much of it at most. */
const LOW_ROM_BYTES = 128 * 1024;
const MIB = 1 << 20;
/** No RAM is above 4 GiB with firmware; OVMF puts 64-bit BARs there. */
const HIGH_PCI: Range = { base: FOUR_GIB, length: 2 ** PHYSICAL_ADDRESS_BITS - FOUR_GIB };

/** Bytes of the second CMOS bank's notes to firmware: the boot order, the number of processors. */
const CMOS_NOTES = { BOOT_FLAGS_1: 0x38, BOOT_FLAGS_2: 0x3d, OTHER_CPUS: 0x5f } as const;
const BOOT = { DISK: 2, CD: 3, NETWORK: 4 } as const;

/** What a thread has to know of firmware to assemble the board. */
export interface FirmwareInfo {
  readonly romBytes: number;
  /** Where in the memory after guest RAM the ROM is. */
  readonly romAt: number;
  /** Of the flash chip before the ROM, 0 if there is none, and where its array is. */
  readonly varsBytes: number;
  readonly varsAt: number;
}

export interface FirmwareParts {
  readonly arena: Arena;
  readonly ram: GuestRam;
  readonly ports: Bus;
  readonly mmio: Bus;
  readonly pci: PciHost;
  readonly mch: MemoryController;
  readonly spec: MachineSpec;
}

/** 640 KiB to 768 KiB: the display's, if there is one. */
export const VIDEO_WINDOW: Mapping = {
  first: LEGACY_PAGES.first,
  pages: ADDRESS.SHADOW / PAGE_BYTES - LEGACY_PAGES.first,
  backing: DEVICE,
  writable: false,
};

/** Adds the parts. The same in every thread. */
export function assembleFirmware(info: FirmwareInfo, parts: FirmwareParts) {
  const { arena, ram, ports, mmio, pci, mch, spec } = parts;
  const fwCfg = new FwCfg(arena.place("fw-cfg", FwCfgRecord), ram, contents(spec, mch));
  ports.add("fw-cfg", PORT.FW_CFG, FW_CFG_BYTES, fwCfg.region);
  const base = ADDRESS.FIRMWARE_PCI;
  mmio.add("pci-hole", base, ADDRESS.IO_APIC - base, pciHole(base, pci, mch));
  mmio.add("high-pci-hole", HIGH_PCI.base, HIGH_PCI.length, pci.memoryWindow(HIGH_PCI.base));
  const changes = new Int32Array(arena.buffer, arena.raw(4), 1);
  const array = ram.extra(info.varsAt, info.varsBytes);
  if (info.varsBytes > 0) {
    const onChange = () => void Atomics.add(changes, 0, 1);
    const flash = new Flash(arena.place("flash", FlashRecord), { bytes: array, onChange });
    mmio.add("flash", FOUR_GIB - info.romBytes - info.varsBytes, info.varsBytes, flash.region);
  }
  mmio.add("shadow", ADDRESS.SHADOW, MIB - ADDRESS.SHADOW, shadow(ram, mch));
  return {
    fwCfg,
    /** What the memory map says because of firmware, as PAM has it now. */
    mappings: () => mappings(info, ram, mch),
    /** Puts the image where the processor will find it. */
    load: (rom: Uint8Array, vars: Uint8Array) => {
      ram.extra(info.romAt, info.romBytes).set(rom);
      ram.wrote(ram.sizeBytes + info.romAt, info.romBytes);
      array.set(vars);
    },
    /** The variables, and the count of their changes. */
    vars: { bytes: array, changes },
  };
}

/** Leaves notes in CMOS: firmware boots disks, then CDs, then from the network. */
export function writeCmosNotes(set: (index: number, value: number) => void, cpus: number): void {
  set(CMOS_NOTES.BOOT_FLAGS_2, BOOT.DISK | (BOOT.CD << 4));
  set(CMOS_NOTES.BOOT_FLAGS_1, BOOT.NETWORK << 4);
  set(CMOS_NOTES.OTHER_CPUS, cpus - 1);
}

/** Configuration space where PCIEXBAR says, memory BARs around it. */
function pciHole(base: number, pci: PciHost, mch: MemoryController): Region {
  const bars = pci.memoryWindow(base);
  const inEcam = (offset: number) => {
    const ecam = mch.ecam;
    const at = ecam ? base + offset - ecam.base : -1;
    return at >= 0 && at < ecam!.sizeBytes ? at : -1;
  };
  return {
    read(offset, size) {
      const at = inEcam(offset);
      return at >= 0 ? pci.ecam.read(at, size) : bars.read(offset, size);
    },
    write(offset, size, value) {
      const at = inEcam(offset);
      if (at >= 0) pci.ecam.write(at, size, value);
      else bars.write(offset, size, value);
    },
  };
}

/** What the memory map leaves to a device of the legacy BIOS area: writes to RAM where ROM is read. */
function shadow(ram: GuestRam, mch: MemoryController): Region {
  return {
    read: (_offset, size) => ones(size),
    write(offset, size, value) {
      const gpa = ADDRESS.SHADOW + offset;
      const range = mch.pam.find((r) => gpa >= r.base && gpa < r.base + r.sizeBytes);
      if (range?.writesRam) ram.write(gpa, size as 1 | 2 | 4, value);
    },
  };
}

function mappings({ romBytes, romAt }: FirmwareInfo, ram: GuestRam, mch: MemoryController): Mapping[] {
  const page = (bytes: number) => bytes / PAGE_BYTES;
  const rom = page(ram.sizeBytes + romAt), romEnd = rom + page(romBytes);
  const low = Math.min(LOW_ROM_BYTES, romBytes);
  const legacy = mch.pam.flatMap((r): Mapping[] => {
    const first = page(r.base), pages = page(r.sizeBytes);
    if (r.readsRam) return r.writesRam ? [] : [{ first, pages, backing: first, writable: false }];
    const isRom = r.base >= MIB - low;
    return [{ first, pages, backing: isRom ? romEnd - (LEGACY_PAGES.end - first) : DEVICE, writable: false }];
  });
  return [
    ...legacy,
    { first: page(FOUR_GIB - romBytes), pages: page(romBytes), backing: rom, writable: false },
  ];
}

/** What the configuration device has to tell. */
function contents(spec: MachineSpec, mch: MemoryController): FwCfgContents {
  // The tables tell where firmware has put configuration space: they are made anew each time one of them is opened.
  const blobs = (): LoaderBlobs => {
    const { FIRMWARE_PCI, IO_APIC, ECAM, ECAM_RESERVED_BYTES } = ADDRESS;
    const found = mch.ecam;
    const ecam = found && found.base >= FIRMWARE_PCI && found.base + found.sizeBytes <= IO_APIC
      ? found
      : { base: ECAM, sizeBytes: ECAM_RESERVED_BYTES };
    const end = ecam.base + ecam.sizeBytes;
    return buildLoaderBlobs(describeBoard(spec, {
      ecam: { base: ecam.base, buses: ecam.sizeBytes / MIB, claimed: ecam.sizeBytes },
      memory32: [{ base: FIRMWARE_PCI, length: ecam.base - FIRMWARE_PCI }, { base: end, length: IO_APIC - end }]
        .filter((r) => r.length > 0),
      memory64: [HIGH_PCI],
    }));
  };
  const boot = spec.firmware?.boot;
  return {
    items: {
      [FwCfgItem.UUID]: () => new Uint8Array(16),
      [FwCfgItem.RAM_SIZE]: () => words(spec.memoryBytes, 0),
      [FwCfgItem.NOGRAPHIC]: () => Uint8Array.of(spec.vga ? 0 : 1, 0),
      [FwCfgItem.NB_CPUS]: () => Uint8Array.of(spec.cpus, 0),
      [FwCfgItem.MAX_CPUS]: () => Uint8Array.of(spec.cpus, 0),
      [FwCfgItem.BOOT_MENU]: () => Uint8Array.of(0, 0),
    },
    files: {
      [LOADER_FILES.tables]: () => blobs().tables,
      [LOADER_FILES.rsdp]: () => blobs().rsdp,
      [LOADER_FILES.script]: () => blobs().script,
      "etc/smbios/smbios-anchor": () => smbios(spec).anchor,
      "etc/smbios/smbios-tables": () => smbios(spec).table,
      "etc/e820": () => words(0, 0, spec.memoryBytes, 0, MemoryType.RAM),
      ...(boot ? { bootorder: () => new TextEncoder().encode(bootOrder(spec, boot)) } : {}),
      // Where there is no display, the firmware's text goes to COM1.
      ...(spec.vga ? {} : { "etc/sercon-port": () => Uint8Array.of(PORT.COM[0] & 0xff, PORT.COM[0] >> 8) }),
    },
  };
}

/** Where the structures go, firmware decides. */
function smbios({ cpus, memoryBytes, firmware, uuid }: MachineSpec): Smbios {
  return buildSmbios({ cpus, memoryBytes, uuid: uuidBytes(uuid), uefi: firmware?.vars != null }, 0);
}

/** Doublewords, little-endian. */
function words(...values: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((v, i) => view.setUint32(4 * i, v, true));
  return new Uint8Array(view.buffer);
}
