/**
 * The PVH convention: an ELF kernel is entered in 32-bit protected mode with the address of hvm_start_info in ebx.
 *
 * Spec: [pvh] "x86/HVM direct boot ABI"; [hvm-start-info] version 1.
 */
import type { GuestRam } from "../base/ram.ts";
import type { InitialState } from "../engine/engine.ts";
import { state32 } from "./entry_state.ts";
import type { Named } from "./host_file.ts";
import type { ElfImage } from "./kernel_image.ts";
import { clearLowMemory, LOW, memoryMap } from "./low_memory.ts";
import { type LoadOptions, placeAcpi, placeCommandLine, placeInitrd, placeSegments } from "./place.ts";

export const START_INFO = {
  magic: 0x00,
  version: 0x04,
  flags: 0x08,
  nr_modules: 0x0c,
  modlist_paddr: 0x10,
  cmdline_paddr: 0x18,
  rsdp_paddr: 0x20,
  memmap_paddr: 0x28,
  memmap_entries: 0x30,
} as const;
export const START_MAGIC = 0x336ec578;
const VERSION = 1;
const MODLIST = LOW.START_INFO + 0x40;
const MEMMAP = LOW.START_INFO + 0x80;
const MEMMAP_ENTRY_BYTES = 24;

/** The convention has no limit; this is all the room there is. */
const COMMAND_LINE_MAX = LOW.COMMAND_LINE_END - LOW.COMMAND_LINE - 1;
/** Addresses of modules have 64 bits, but a kernel that has just left its 32-bit entry maps little above 2 GiB. */
const INITRD_LIMIT = 0x80000000;

export function loadPvh(ram: GuestRam, image: ElfImage, name: Named, options: LoadOptions): InitialState {
  clearLowMemory(ram);
  const kernelEnd = placeSegments(ram, image, name);
  placeCommandLine(ram, options.append, COMMAND_LINE_MAX);
  const initrd = placeInitrd(ram, options.initrd, kernelEnd, INITRD_LIMIT);
  const rsdp = placeAcpi(ram, options);

  const at = LOW.START_INFO;
  ram.write(at + START_INFO.magic, 4, START_MAGIC);
  ram.write(at + START_INFO.version, 4, VERSION);
  ram.write64(at + START_INFO.cmdline_paddr, LOW.COMMAND_LINE);
  ram.write64(at + START_INFO.rsdp_paddr, rsdp);
  if (initrd !== null) {
    ram.write(at + START_INFO.nr_modules, 4, 1);
    ram.write64(at + START_INFO.modlist_paddr, MODLIST);
    ram.write64(MODLIST, initrd.gpa);
    ram.write64(MODLIST + 8, initrd.sizeBytes);
  }
  const map = memoryMap(ram.sizeBytes, options.reserved ?? []);
  ram.write64(at + START_INFO.memmap_paddr, MEMMAP);
  ram.write(at + START_INFO.memmap_entries, 4, map.length);
  for (const [i, { gpa, sizeBytes, type }] of map.entries()) {
    const entry = MEMMAP + i * MEMMAP_ENTRY_BYTES;
    ram.write64(entry, gpa);
    ram.write64(entry + 8, sizeBytes);
    ram.write(entry + 16, 4, type);
  }
  return state32(ram, image.entry, { rbx: LOW.START_INFO });
}
