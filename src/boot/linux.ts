/**
 * The Linux boot protocol: boot_params (the "zero page"), and the entry by its address in rsi.
 *
 * A bzImage is unpacked here and its vmlinux entered in long mode at startup_64 (at startup_32 in a 32-bit kernel), because
 * the host does it many times faster than a guest would. If the packing is unknown, the guest does it, by the 32-bit protocol.
 *
 * Spec: [linux-boot] and "zero page".
 */
import type { GuestRam } from "../base/ram.ts";
import type { InitialState } from "../engine/engine.ts";
import { BOOT_FLAG, type BzImage, HDR, HDR_MAGIC, protocol, unpackVmlinux } from "./bzimage.ts";
import { state32, state64 } from "./entry_state.ts";
import { cannotLoad, type Named } from "./host_file.ts";
import { type ElfImage, elfImage } from "./kernel_image.ts";
import { clearLowMemory, LOW, type MapEntry, memoryMap, type Region } from "./low_memory.ts";
import {
  type Framebuffer,
  type LoadOptions,
  placeAcpi,
  placeCommandLine,
  placeInitrd,
  placeSegments,
  requireRam,
} from "./place.ts";

/** Offsets in boot_params' screen_info, for a linear framebuffer that is there already. */
const SCREEN = {
  orig_video_isVGA: 0x0f,
  lfb_width: 0x12,
  lfb_height: 0x14,
  lfb_depth: 0x16,
  lfb_base: 0x18,
  lfb_size: 0x1c,
  lfb_linelength: 0x24,
  /** Size and position of red, green, blue and what is reserved. */
  colors: 0x26,
} as const;
const VIDEO_TYPE_VLFB = 0x23;

/** Offsets in boot_params outside the setup header. */
export const BOOT_PARAMS = { acpi_rsdp_addr: 0x070, e820_entries: 0x1e8, hdr: 0x1f1, e820_table: 0x2d0 } as const;
const E820_ENTRY_BYTES = 20;

const LOADER_UNDEFINED = 0xff;
const VIDEO_NORMAL = 0xffff;
const LOADFLAGS = { LOADED_HIGH: 1 << 0, KASLR_FLAG: 1 << 1, CAN_USE_HEAP: 1 << 7 } as const;
const MIB = 1 << 20;

/** What a vmlinux without a setup header takes: x86's COMMAND_LINE_SIZE less the zero, and initrds below 2 GiB. */
const PLAIN = { commandLineMax: 2047, initrdMax: 0x7fffffff, version: 0x20c, kernelAlignment: 2 * MIB } as const;

/** A kernel that lies in RAM. */
interface Placed {
  readonly entry: number;
  readonly bits: 32 | 64;
  readonly end: number;
}

/** Loads a vmlinux that came as it is. */
export function loadVmlinux(ram: GuestRam, image: ElfImage, name: Named, options: LoadOptions): InitialState {
  clearLowMemory(ram);
  const placed: Placed = { entry: image.entry, bits: image.elf.bits, end: placeSegments(ram, image, name) };
  const at = LOW.BOOT_PARAMS;
  ram.write(at + HDR.boot_flag, 2, BOOT_FLAG);
  ram.write(at + HDR.header, 4, HDR_MAGIC);
  ram.write(at + HDR.version, 2, PLAIN.version);
  ram.write(at + HDR.initrd_addr_max, 4, PLAIN.initrdMax);
  ram.write(at + HDR.kernel_alignment, 4, PLAIN.kernelAlignment);
  ram.write(at + HDR.cmdline_size, 4, PLAIN.commandLineMax);
  return finish(ram, placed, PLAIN, options);
}

/** Loads a bzImage. */
export function loadBzImage(ram: GuestRam, image: BzImage, name: Named, options: LoadOptions): InitialState {
  clearLowMemory(ram);
  ram.copyIn(LOW.BOOT_PARAMS + BOOT_PARAMS.hdr, image.header);
  // What the kernel reserves for itself when it starts is more than its segments: nothing else may be put there.
  const reservedEnd = image.prefAddress + image.initSize;
  requireRam(ram, reservedEnd, name);
  if (image.initSize > 0 && image.prefAddress < LOW.END) {
    throw cannotLoad(name, `it wants to run at ${image.prefAddress.toString(16)}h, below 1 MiB`);
  }
  const bytes = unpackVmlinux(image, ram, options.memory, name);
  if (bytes === null) return finish(ram, placePacked(ram, image, name), image, options);
  const vmlinux = elfImage(bytes, name, "in its payload, ");
  if (vmlinux.entry === 0) throw cannotLoad(name, "the entry point of its payload is in none of its segments");
  const end = Math.max(placeSegments(ram, vmlinux, name), reservedEnd);
  clearBetween(ram, vmlinux, image.prefAddress, reservedEnd);
  return finish(ram, { entry: vmlinux.entry, bits: vmlinux.elf.bits, end }, image, options);
}

/** Clears what unpacking left in [from, to) outside the kernel's segments. */
function clearBetween(ram: GuestRam, { elf }: ElfImage, from: number, to: number): void {
  const clear = (start: number, end: number) => {
    if (end <= start) return;
    ram.bytes(start, end - start)!.fill(0);
    ram.wrote(start, end - start);
  };
  let at = from;
  for (const { paddr, memoryBytes } of elf.segments.toSorted((a, b) => a.paddr - b.paddr)) {
    clear(at, Math.min(paddr, to));
    at = Math.max(at, paddr + memoryBytes);
  }
  clear(at, to);
}

/** The 32-bit protocol: the image unpacks itself where it wants to run, from where we put it. */
function placePacked(ram: GuestRam, image: BzImage, name: Named): Placed {
  if (image.initSize === 0) {
    throw cannotLoad(
      name,
      `its payload is packed in an unknown way, and boot protocol ${
        protocol(image.version)
      } does not say how much memory ` +
        "it needs to unpack itself (2.10 does)",
    );
  }
  const start = image.relocatable ? Math.max(image.prefAddress, MIB) : image.code32Start;
  if (start < MIB) throw cannotLoad(name, `it wants to be loaded at ${start.toString(16)}h, below 1 MiB`);
  const end = Math.max(start, image.prefAddress) + Math.max(image.initSize, image.protectedMode.length);
  requireRam(ram, end, name);
  ram.copyIn(start, image.protectedMode);
  ram.write(LOW.BOOT_PARAMS + HDR.code32_start, 4, start);
  return { entry: start, bits: 32, end };
}

function finish(
  ram: GuestRam,
  kernel: Placed,
  limits: { readonly commandLineMax: number; readonly initrdMax: number },
  options: LoadOptions,
): InitialState {
  placeCommandLine(ram, options.append, limits.commandLineMax);
  const initrd = placeInitrd(ram, options.initrd, kernel.end, limits.initrdMax + 1);
  const rsdp = placeAcpi(ram, options);
  const framebuffer = options.framebuffer?.(0, 0, 0) ?? null;
  if (framebuffer) writeScreenInfo(ram, framebuffer);
  writeBootParams(ram, memoryMap(ram.sizeBytes, options.reserved ?? []), initrd, rsdp);
  if (kernel.bits === 64) return state64(ram, kernel.entry, { rsi: LOW.BOOT_PARAMS });
  return state32(ram, kernel.entry, { rsi: LOW.BOOT_PARAMS });
}

/** Tells of a display in a linear mode, so that the kernel can speak on it before it has a driver. */
function writeScreenInfo(ram: GuestRam, { gpa, pitch, width, height }: Framebuffer): void {
  const at = LOW.BOOT_PARAMS;
  ram.write(at + SCREEN.orig_video_isVGA, 1, VIDEO_TYPE_VLFB);
  ram.write(at + SCREEN.lfb_width, 2, width);
  ram.write(at + SCREEN.lfb_height, 2, height);
  ram.write(at + SCREEN.lfb_depth, 2, 32);
  ram.write(at + SCREEN.lfb_base, 4, gpa);
  ram.write(at + SCREEN.lfb_size, 4, Math.ceil(pitch * height / 65536)); // in units of 64 KiB
  ram.write(at + SCREEN.lfb_linelength, 2, pitch);
  ram.copyIn(at + SCREEN.colors, Uint8Array.of(8, 16, 8, 8, 8, 0, 8, 24));
}

/** Fills boot_params around a setup header that is there already. */
function writeBootParams(ram: GuestRam, map: readonly MapEntry[], initrd: Region | null, rsdp: number): void {
  const at = LOW.BOOT_PARAMS;
  ram.write(at + HDR.type_of_loader, 1, LOADER_UNDEFINED);
  // KASLR_FLAG would say that the kernel was moved by its own loader.
  const loadflags = ram.read(at + HDR.loadflags, 1) & ~LOADFLAGS.KASLR_FLAG & ~LOADFLAGS.CAN_USE_HEAP;
  ram.write(at + HDR.loadflags, 1, loadflags | LOADFLAGS.LOADED_HIGH);
  ram.write(at + HDR.vid_mode, 2, VIDEO_NORMAL);
  ram.write(at + HDR.cmd_line_ptr, 4, LOW.COMMAND_LINE);
  ram.write(at + HDR.ramdisk_image, 4, initrd?.gpa ?? 0);
  ram.write(at + HDR.ramdisk_size, 4, initrd?.sizeBytes ?? 0);
  ram.write64(at + BOOT_PARAMS.acpi_rsdp_addr, rsdp);
  ram.write(at + BOOT_PARAMS.e820_entries, 1, map.length);
  for (const [i, { gpa, sizeBytes, type }] of map.entries()) {
    const entry = at + BOOT_PARAMS.e820_table + i * E820_ENTRY_BYTES;
    ram.write64(entry, gpa);
    ram.write64(entry + 8, sizeBytes);
    ram.write(entry + 16, 4, type);
  }
}
