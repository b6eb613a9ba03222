/**
 * The first MiB of guest RAM as a loader leaves it, and the map of all memory that the guest is told.
 *
 * The kernel is told that everything here below the EBDA is free RAM: it has copied what it needs before it allocates.
 */
import type { GuestRam } from "../base/ram.ts";

/** Guest-physical addresses. What lies below GDT is the interrupt vector table and the BIOS data area. */
export const LOW = {
  GDT: 0x500,
  TSS: 0x600,
  START_INFO: 0x6000, // PVH: one page with the memory map and the module list
  BOOT_PARAMS: 0x7000, // Linux: one page
  STACK_TOP: 0x9000,
  PAGE_TABLES: 0x9000, // six pages
  COMMAND_LINE: 0x10000,
  COMMAND_LINE_END: 0x20000,
  EBDA: 0x9fc00,
  VGA: 0xa0000,
  ACPI: 0xe0000, // where an operating system without a loader's word looks for the RSDP
  SMBIOS: 0xf0000, // where one without UEFI looks for it, and for the MP tables
  END: 0x100000,
} as const;

/** Words of the BIOS data area that say how much base memory there is. */
const BDA_EBDA_SEGMENT = 0x40e;
const BDA_BASE_MEMORY_KIB = 0x413;

export interface Region {
  readonly gpa: number;
  readonly sizeBytes: number;
}

/** Types of memory: the same numbers in E820 and PVH. */
export const MemoryType = { RAM: 1, RESERVED: 2 } as const;

export interface MapEntry extends Region {
  readonly type: number;
}

/** The guest's memory map: RAM but for the EBDA and what a BIOS would occupy, then what the board reserves, in order. */
export function memoryMap(ramBytes: number, reserved: readonly Region[]): MapEntry[] {
  return [
    { gpa: 0, sizeBytes: LOW.EBDA, type: MemoryType.RAM },
    { gpa: LOW.EBDA, sizeBytes: LOW.END - LOW.EBDA, type: MemoryType.RESERVED },
    { gpa: LOW.END, sizeBytes: ramBytes - LOW.END, type: MemoryType.RAM },
    ...reserved.map(({ gpa, sizeBytes }) => ({ gpa, sizeBytes, type: MemoryType.RESERVED })),
  ].sort((a, b) => a.gpa - b.gpa);
}

/** Clears what a loader uses, which a machine that was reset may have left full, and writes the BIOS data area. */
export function clearLowMemory(ram: GuestRam): void {
  const bytes = ram.bytes(0, LOW.COMMAND_LINE_END)!;
  bytes.fill(0);
  ram.wrote(0, bytes.length);
  const high = ram.bytes(LOW.EBDA, LOW.END - LOW.EBDA)!;
  high.fill(0);
  ram.wrote(LOW.EBDA, high.length);
  ram.write(BDA_EBDA_SEGMENT, 2, LOW.EBDA >> 4);
  ram.write(BDA_BASE_MEMORY_KIB, 2, LOW.EBDA >> 10);
}
