/** What both conventions put into guest RAM: the kernel's segments, the initrd, the command line, the ACPI tables. */
import { ConfigError } from "../base/errors.ts";
import type { GuestRam } from "../base/ram.ts";
import { describeSize } from "../base/size.ts";
import { cannotLoad, type Named, readInto, withFile } from "./host_file.ts";
import type { ElfImage } from "./kernel_image.ts";
import { LOW, type Region } from "./low_memory.ts";

const PAGE_BYTES = 4096;

/** Tables as the machine makes them for the address where they will lie; `rsdp` is the RSDP's guest-physical address. */
export type AcpiTables = (base: number) => { readonly bytes: Uint8Array; readonly rsdp: number };

/** Pixels of 32 bits, blue in the lowest byte. */
export interface Framebuffer {
  readonly gpa: number;
  /** Bytes from a row to the next. */
  readonly pitch: number;
  readonly width: number;
  readonly height: number;
}

export interface LoadOptions {
  readonly kernel: string;
  readonly initrd: string | null;
  readonly append: string;
  /** Files in memory that FreeBSD's kernel is told of, with its words for what they are. */
  readonly modules?: readonly { readonly path: string; readonly type: string }[];
  /** Variables for FreeBSD's kernel, NAME=VALUE. */
  readonly env?: readonly string[];
  readonly acpiTables: AcpiTables;
  /** Tables of other kinds, for where they will lie. */
  readonly otherTables?: (base: number) => Uint8Array;
  /** Sets the display to a mode like the one asked for; 0 where any will do. Null if there is no display. */
  readonly framebuffer?: (width: number, height: number, depth: number) => Framebuffer | null;
  /** What the board occupies outside RAM and the guest must leave alone: the ECAM window. */
  readonly reserved?: readonly Region[];
  /** The memory that RAM lies in. Only for speed: an LZ4 kernel is unpacked in it by WebAssembly. */
  readonly memory?: WebAssembly.Memory;
}

/**
 * Copies the segments and clears what follows each of them; returns where the last ends. The file may itself lie in RAM: then
 * it is gone afterwards.
 */
export function placeSegments(ram: GuestRam, image: ElfImage, name: Named): number {
  const { elf } = image;
  let end = 0;
  for (const { paddr, memoryBytes } of elf.segments) {
    if (paddr < LOW.END) {
      throw cannotLoad(name, `a segment of it lies at ${paddr.toString(16)}h, below 1 MiB, where the boot data goes`);
    }
    end = Math.max(end, paddr + memoryBytes);
  }
  requireRam(ram, end, name);
  const bytes = survivesPlacing(ram, image) ? image.bytes : image.bytes.slice();
  for (const { offset, paddr, fileBytes, memoryBytes } of elf.segments) {
    ram.copyIn(paddr, bytes.subarray(offset, offset + fileBytes));
    const rest = ram.bytes(paddr + fileBytes, memoryBytes - fileBytes)!;
    rest.fill(0);
    ram.wrote(paddr + fileBytes, rest.length);
  }
  return end;
}

/** Whether no segment, put in its place, overwrites what a later one is still to be copied from. */
function survivesPlacing(ram: GuestRam, { elf, bytes }: ElfImage): boolean {
  if (bytes.buffer !== ram.buffer) return true;
  const fileAt = bytes.byteOffset - ram.base;
  let placedTo = 0;
  for (const { offset, paddr, fileBytes, memoryBytes } of elf.segments) {
    if (fileBytes > 0 && placedTo > fileAt + offset) return false;
    placedTo = Math.max(placedTo, paddr + memoryBytes);
  }
  return true;
}

/** Fails unless RAM reaches `end`. */
export function requireRam(ram: GuestRam, end: number, name: Named): void {
  if (end <= ram.sizeBytes) return;
  throw cannotLoad(
    name,
    `it needs memory up to ${describeSize(end)}, and the machine has ${describeSize(ram.sizeBytes)}`,
  );
}

/** Reads the initrd into the highest pages below `limit` and the end of RAM; null without one. */
export function placeInitrd(ram: GuestRam, path: string | null, kernelEnd: number, limit: number): Region | null {
  if (path === null) return null;
  const name: Named = { what: "initrd", path };
  return withFile(name, (file, sizeBytes) => {
    const top = Math.min(ram.sizeBytes, limit);
    const gpa = Math.floor((top - sizeBytes) / PAGE_BYTES) * PAGE_BYTES;
    if (gpa < kernelEnd) {
      const free = Math.max(0, Math.floor(top / PAGE_BYTES) * PAGE_BYTES - kernelEnd);
      throw cannotLoad(
        name,
        `${describeSize(sizeBytes)} does not fit in ${describeSize(ram.sizeBytes)} of memory: ` +
          `${describeSize(free)} is free above the kernel`,
      );
    }
    readInto(name, file, ram.bytes(gpa, sizeBytes)!);
    ram.wrote(gpa, sizeBytes);
    return { gpa, sizeBytes };
  });
}

/** Writes the command line with its terminator; `max` is the longest that the kernel takes, without it. */
export function placeCommandLine(ram: GuestRam, append: string, max: number): void {
  const bytes = new TextEncoder().encode(append);
  const limit = Math.min(max, LOW.COMMAND_LINE_END - LOW.COMMAND_LINE - 1);
  if (bytes.length > limit) {
    throw new ConfigError(`--append is ${bytes.length} bytes long, and this kernel takes ${limit} at most`);
  }
  if (bytes.includes(0)) throw new ConfigError("--append holds a zero byte, where the kernel would stop reading");
  ram.copyIn(LOW.COMMAND_LINE, bytes);
}

/** Writes the ACPI tables and returns where the RSDP is. */
export function placeAcpi(ram: GuestRam, { acpiTables, otherTables }: LoadOptions): number {
  const { bytes, rsdp } = acpiTables(LOW.ACPI);
  // Behind ACPI's if those need their place.
  const others = Math.max(LOW.SMBIOS, Math.ceil((LOW.ACPI + bytes.length) / 16) * 16);
  const more = otherTables?.(others);
  if (more && others + more.length <= LOW.END) ram.copyIn(others, more);
  const room = LOW.END - LOW.ACPI;
  if (bytes.length > room) {
    throw new ConfigError(
      `The ACPI tables take ${describeSize(bytes.length)} of ${describeSize(room)}: give the machine fewer CPUs`,
    );
  }
  ram.copyIn(LOW.ACPI, bytes);
  return rsdp;
}
