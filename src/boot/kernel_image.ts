/** What `--kernel` names: a bzImage, or an ELF kernel that is entered by the Linux or the PVH convention. */
import { messageOf } from "../base/errors.ts";
import { type BzImage, isBzImage, parseBzImage } from "./bzimage.ts";
import { packingOf } from "./decompress/mod.ts";
import { type MultibootHeader, multibootHeader } from "./multiboot.ts";
import { type Elf, ElfError, isElf, isLoaded, parseElf, physicalEntry } from "./elf.ts";
import { isFreeBsd } from "./freebsd.ts";
import { cannotLoad, type Named, readInto, withFile } from "./host_file.ts";

/** XEN_ELFNOTE_PHYS32_ENTRY: where a PVH kernel is entered, in physical memory and 32-bit protected mode. [xen-elfnote] */
const PHYS32_ENTRY = 18;

/** An ELF file, parsed and checked, and where it is entered. */
export interface ElfImage {
  readonly elf: Elf;
  readonly bytes: Uint8Array;
  readonly entry: number;
}

export type KernelImage =
  | { readonly kind: "bzImage"; readonly image: BzImage }
  | { readonly kind: "vmlinux" | "pvh" | "freebsd"; readonly image: ElfImage }
  | {
    readonly kind: "multiboot";
    readonly bytes: Uint8Array;
    readonly header: MultibootHeader;
    readonly elf: ElfImage | null;
  };

/** Reads the whole file. */
export function readKernel(path: string): { name: Named; bytes: Uint8Array<ArrayBuffer> } {
  const name: Named = { what: "kernel", path };
  const bytes = withFile(name, (file, sizeBytes) => {
    if (sizeBytes > MAX_FILE_BYTES) throw cannotLoad(name, `${sizeBytes} bytes is too large for a kernel`);
    const all = new Uint8Array(new ArrayBuffer(Math.max(sizeBytes, MIN_BUFFER_BYTES)), 0, sizeBytes);
    readInto(name, file, all);
    return all;
  });
  return { name, bytes };
}

/**
 * The buffer is let go when the kernel is in RAM. What is freed in one piece of up to 32 MiB makes glibc keep twice as much of
 * everything that is freed later (mallopt(3), M_MMAP_THRESHOLD), which costs 30 MiB until the guest's shell. Only what is read
 * takes memory of the host.
 */
const MIN_BUFFER_BYTES = 33 << 20;

/** A vmlinux with debug information is below this; a disk image named by mistake should not be read whole. */
const MAX_FILE_BYTES = 2 ** 31 - 1;

/** Tells what kind of kernel `bytes` are. */
export function recognise(bytes: Uint8Array, name: Named): KernelImage {
  if (isBzImage(bytes)) return { kind: "bzImage", image: parseBzImage(bytes, name) };
  // Before other conventions it may know: its PVH entry is for Xen alone.
  if (isFreeBsd(bytes)) return { kind: "freebsd", image: elfImage(bytes, name) };
  const header = multibootHeader(bytes, name);
  if (header && !(isElf(bytes) && pvhEntryOf(elfImage(bytes, name).elf) !== null)) {
    return { kind: "multiboot", bytes, header, elf: isElf(bytes) && !header.addresses ? elfImage(bytes, name) : null };
  }
  if (isElf(bytes)) {
    const image = elfImage(bytes, name);
    const pvhEntry = pvhEntryOf(image.elf);
    if (pvhEntry === null) return { kind: "vmlinux", image };
    if (!isLoaded(image.elf, pvhEntry)) {
      throw cannotLoad(name, `its PVH entry point ${pvhEntry.toString(16)}h is in none of its segments`);
    }
    return { kind: "pvh", image: { ...image, entry: pvhEntry } };
  }
  throw cannotLoad(
    name,
    `it is not a kernel: ${describe(bytes)}; a bzImage (vmlinuz), an x86 ELF kernel or a Multiboot kernel was expected`,
  );
}

/** Parses an ELF kernel; `inside` says where it was found, if not in the file itself. */
export function elfImage(bytes: Uint8Array, name: Named, inside = ""): ElfImage {
  try {
    const elf = parseElf(bytes);
    if (elf.segments.length === 0) throw new ElfError("it has nothing to load");
    const entry = physicalEntry(elf);
    if (entry === null && pvhEntryOf(elf) === null) {
      throw new ElfError(`its entry point ${elf.entry.toString(16)}h is in none of its segments`);
    }
    return { elf, bytes, entry: entry ?? 0 };
  } catch (error) {
    if (!(error instanceof ElfError)) throw error;
    throw cannotLoad(name, `${inside}it is an ELF file, but ${messageOf(error)}`, error);
  }
}

function pvhEntryOf(elf: Elf): number | null {
  const note = elf.notes.find(({ name, type, bytes }) => name === "Xen" && type === PHYS32_ENTRY && bytes.length >= 4);
  if (note === undefined) return null;
  return new DataView(note.bytes.buffer, note.bytes.byteOffset).getUint32(0, true);
}

/** What a file that is no kernel looks like. */
function describe(bytes: Uint8Array): string {
  const packing = packingOf(bytes);
  if (packing !== null) return `it looks like a ${packing} file`;
  if (bytes.length >= 6 && String.fromCharCode(...bytes.subarray(0, 5)) === "07070") {
    return "it looks like a cpio archive";
  }
  if (bytes[0] === 0x4d && bytes[1] === 0x5a) return "it looks like an EFI or DOS program";
  if (bytes.length >= 512 && bytes[510] === 0x55 && bytes[511] === 0xaa) return "it looks like a disk image";
  const first = [...bytes.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
  return `its first bytes are ${first}`;
}
