/**
 * The Multiboot conventions: a kernel with a header that says how to load it is entered in 32-bit protected mode with a magic
 * number in eax and the address of what it is told in ebx.
 *
 * Spec: [multiboot1 §3], [multiboot2 §3].
 * Honoured: memory map, one module (--initrd), command line, a framebuffer if the machine has a display and the kernel asks
 * for one, ACPI's RSDP (2), loading by the header's addresses or as ELF, an entry address other than ELF's (2).
 * Absent: symbols, APM, VBE's and drives' tables; moving a relocatable kernel (2), which lies where it is linked.
 */
import type { GuestRam } from "../base/ram.ts";
import type { InitialState } from "../engine/engine.ts";
import { state32 } from "./entry_state.ts";
import { cannotLoad, type Named } from "./host_file.ts";
import type { ElfImage } from "./kernel_image.ts";
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

const MAGIC1 = 0x1badb002, MAGIC2 = 0xe85250d6;
/** How far into the file a header may be, and on what multiples. */
const SEARCH1 = 8192, SEARCH2 = 32768;
/** What a kernel finds in eax. */
export const BOOT_MAGIC1 = 0x2badb002, BOOT_MAGIC2 = 0x36d76289;
const LOADER_NAME = "trike";

const FLAG1 = { PAGE_ALIGN: 1 << 0, MEMORY: 1 << 1, VIDEO: 1 << 2, ADDRESSES: 1 << 16 } as const;
/** Of the first 16 flags, which a loader must know. */
const KNOWN_FLAGS1 = FLAG1.PAGE_ALIGN | FLAG1.MEMORY | FLAG1.VIDEO;
const INFO1 = {
  MEMORY: 1 << 0,
  COMMAND_LINE: 1 << 2,
  MODULES: 1 << 3,
  MAP: 1 << 6,
  NAME: 1 << 9,
  FRAMEBUFFER: 1 << 12,
} as const;

const TAG2 = {
  END: 0,
  REQUEST: 1,
  ADDRESSES: 2,
  ENTRY: 3,
  FLAGS: 4,
  FRAMEBUFFER: 5,
  ALIGN: 6,
  EFI_BS: 7,
  RELOCATABLE: 10,
} as const;
const INFO2 = { COMMAND_LINE: 1, NAME: 2, MODULE: 3, MEMORY: 4, MAP: 6, FRAMEBUFFER: 8, RSDP1: 14, RSDP2: 15 } as const;
const OPTIONAL = 1 << 0; // in a tag's flags
const RSDP1_BYTES = 20, RSDP2_BYTES = 36;

/** Where the header says that parts of the file go. */
interface Addresses {
  readonly header: number;
  readonly load: number;
  /** 0: to the end of the file. */
  readonly loadEnd: number;
  /** 0: there is no more than what is loaded. */
  readonly bssEnd: number;
}

export interface MultibootHeader {
  readonly version: 1 | 2;
  /** Where in the file it is. */
  readonly at: number;
  readonly addresses: Addresses | null;
  readonly entry: number | null;
  /** Width, height, depth; 0 where the kernel does not mind. Null: it wants none. */
  readonly framebuffer: readonly [number, number, number] | null;
}

/** The header of a kernel, or null. A header that asks for what there is not is an error. */
export function multibootHeader(bytes: Uint8Array, name: Named): MultibootHeader | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0; at + 12 <= Math.min(bytes.length, SEARCH2); at += 4) {
    const magic = view.getUint32(at, true);
    if (magic === MAGIC1 && at + 12 <= SEARCH1) {
      const flags = view.getUint32(at + 4, true);
      if (((magic + flags + view.getUint32(at + 8, true)) | 0) === 0) return header1(view, at, flags, name);
    }
    if (magic === MAGIC2 && at % 8 === 0 && at + 16 <= bytes.length) {
      const sum = [0, 4, 8, 12].reduce((n, i) => (n + view.getUint32(at + i, true)) | 0, 0);
      if (sum === 0) return header2(view, at, name);
    }
  }
  return null;
}

function header1(view: DataView, at: number, flags: number, name: Named): MultibootHeader {
  const unknown = flags & 0xffff & ~KNOWN_FLAGS1;
  if (unknown) {
    throw cannotLoad(name, `its Multiboot header needs a feature that is not known: flags ${unknown.toString(16)}h`);
  }
  const word = (i: number) => at + i + 4 <= view.byteLength ? view.getUint32(at + i, true) : 0;
  const own = (flags & FLAG1.ADDRESSES) !== 0;
  return {
    version: 1,
    at,
    addresses: own ? { header: word(12), load: word(16), loadEnd: word(20), bssEnd: word(24) } : null,
    entry: own ? word(28) : null,
    framebuffer: flags & FLAG1.VIDEO ? [word(36), word(40), word(44)] : null,
  };
}

function header2(view: DataView, at: number, name: Named): MultibootHeader {
  const end = Math.min(at + view.getUint32(at + 8, true), view.byteLength);
  if (view.getUint32(at + 4, true) !== 0) throw cannotLoad(name, "its Multiboot2 header is for another architecture");
  let header: MultibootHeader = { version: 2, at, addresses: null, entry: null, framebuffer: null };
  for (let tag = at + 16; tag + 8 <= end;) {
    const type = view.getUint16(tag, true), flags = view.getUint16(tag + 2, true), size = view.getUint32(tag + 4, true);
    const word = (i: number) => tag + i + 4 <= end ? view.getUint32(tag + i, true) : 0;
    if (type === TAG2.END) return header;
    if (size < 8) break;
    if (type === TAG2.REQUEST && !(flags & OPTIONAL)) {
      const known: readonly number[] = Object.values(INFO2);
      for (let i = 8; i + 4 <= size; i += 4) {
        if (!known.includes(word(i))) {
          throw cannotLoad(name, `its Multiboot2 header asks for information of type ${word(i)}`);
        }
      }
    } else if (type === TAG2.ADDRESSES) {
      header = { ...header, addresses: { header: word(8), load: word(12), loadEnd: word(16), bssEnd: word(20) } };
    } else if (type === TAG2.ENTRY) header = { ...header, entry: word(8) };
    else if (type === TAG2.FRAMEBUFFER) header = { ...header, framebuffer: [word(8), word(12), word(16)] };
    else if (!(flags & OPTIONAL) && !(Object.values(TAG2) as number[]).includes(type)) {
      throw cannotLoad(name, `its Multiboot2 header has a tag of type ${type}, which is not known`);
    }
    tag += Math.ceil(size / 8) * 8;
  }
  throw cannotLoad(name, "the tags of its Multiboot2 header do not end");
}

/** What a kernel is told, whichever version. */
interface Facts {
  readonly ram: GuestRam;
  readonly map: readonly MapEntry[];
  readonly module: Region | null;
  readonly framebuffer: Framebuffer | null;
  readonly rsdp: number;
  readonly append: string;
}

/** Loads a kernel that has a header; `elf` if it is an ELF file. */
export function loadMultiboot(
  ram: GuestRam,
  bytes: Uint8Array,
  header: MultibootHeader,
  elf: ElfImage | null,
  name: Named,
  options: LoadOptions,
): InitialState {
  clearLowMemory(ram);
  const placed = header.addresses ? placeFlat(ram, bytes, header, name) : elf ? placeSegments(ram, elf, name) : null;
  if (placed === null) throw cannotLoad(name, "it is no ELF file, and its Multiboot header does not say where it goes");
  const entry = header.entry ?? elf?.entry;
  if (!entry) throw cannotLoad(name, "its Multiboot header names no entry point");
  placeCommandLine(ram, options.append, LOW.COMMAND_LINE_END - LOW.COMMAND_LINE - 1);
  const module = placeInitrd(ram, options.initrd, placed, ram.sizeBytes);
  const rsdp = placeAcpi(ram, options);
  const map = memoryMap(ram.sizeBytes, options.reserved ?? []);
  const framebuffer = header.framebuffer ? options.framebuffer?.(...header.framebuffer) ?? null : null;
  const facts = { ram, map, module, framebuffer, rsdp, append: options.append };
  if (header.version === 1) {
    writeInfo1(facts);
    return state32(ram, entry, { rax: BOOT_MAGIC1, rbx: LOW.START_INFO });
  }
  const info = info2(facts);
  if (info.length > LOW.COMMAND_LINE_END - LOW.COMMAND_LINE) throw cannotLoad(name, "what it is told does not fit");
  ram.copyIn(LOW.COMMAND_LINE, info);
  return state32(ram, entry, { rax: BOOT_MAGIC2, rbx: LOW.COMMAND_LINE });
}

/** Loads by the header's addresses; returns where the kernel ends. */
function placeFlat(ram: GuestRam, bytes: Uint8Array, header: MultibootHeader, name: Named): number {
  const { header: headerAt, load, loadEnd, bssEnd } = header.addresses!;
  const from = header.at - (headerAt - load);
  const count = loadEnd === 0 ? bytes.length - from : loadEnd - load;
  if (headerAt < load || from < 0 || count <= 0 || from + count > bytes.length) {
    throw cannotLoad(name, "the addresses in its Multiboot header are not those of parts of the file");
  }
  if (load < LOW.END) throw cannotLoad(name, `it wants to be at ${load.toString(16)}h, below 1 MiB`);
  const end = Math.max(load + count, bssEnd);
  requireRam(ram, end, name);
  ram.copyIn(load, bytes.subarray(from, from + count));
  ram.bytes(load + count, end - load - count)!.fill(0);
  ram.wrote(load + count, end - load - count);
  return end;
}

/** Offsets in the information structure. [multiboot1 §3.3] */
export const MBI1 = {
  flags: 0,
  mem_lower: 4,
  mem_upper: 8,
  cmdline: 16,
  mods_count: 20,
  mods_addr: 24,
  mmap_length: 44,
  mmap_addr: 48,
  boot_loader_name: 64,
  framebuffer_addr: 88,
  framebuffer_pitch: 96,
  framebuffer_width: 100,
  framebuffer_height: 104,
  framebuffer_bpp: 108,
  framebuffer_type: 109,
  color_info: 110,
} as const;
const MBI1_BYTES = 116, MODULE_BYTES = 16, MAP1_BYTES = 24;
const FRAMEBUFFER_RGB = 1;
/** Position and size of red, green and blue in a pixel of 32 bits. */
const COLORS = [16, 8, 8, 8, 0, 8] as const;

function memoryKib(ram: GuestRam): [number, number] {
  return [LOW.EBDA >> 10, (ram.sizeBytes - LOW.END) / 1024];
}

function writeInfo1({ ram, map, module, framebuffer }: Facts): void {
  const at = LOW.START_INFO;
  const moduleAt = at + MBI1_BYTES + (-MBI1_BYTES & 7),
    mapAt = moduleAt + MODULE_BYTES,
    nameAt = mapAt + MAP1_BYTES * map.length;
  const put = (field: keyof typeof MBI1, value: number) => ram.write(at + MBI1[field], 4, value >>> 0);
  const [lower, upper] = memoryKib(ram);
  put(
    "flags",
    INFO1.MEMORY | INFO1.COMMAND_LINE | INFO1.MODULES | INFO1.MAP | INFO1.NAME |
      (framebuffer ? INFO1.FRAMEBUFFER : 0),
  );
  put("mem_lower", lower);
  put("mem_upper", upper);
  put("cmdline", LOW.COMMAND_LINE);
  put("mods_count", module ? 1 : 0);
  put("mods_addr", moduleAt);
  if (module) {
    // Start, end, its command line (an empty one, at the structure's own zeroes).
    [module.gpa, module.gpa + module.sizeBytes, moduleAt + 12, 0].forEach((v, i) => ram.write(moduleAt + 4 * i, 4, v));
  }
  put("mmap_length", MAP1_BYTES * map.length);
  put("mmap_addr", mapAt);
  map.forEach(({ gpa, sizeBytes, type }, i) => {
    const entry = mapAt + MAP1_BYTES * i;
    ram.write(entry, 4, MAP1_BYTES - 4);
    ram.write64(entry + 4, gpa);
    ram.write64(entry + 12, sizeBytes);
    ram.write(entry + 20, 4, type);
  });
  ram.copyIn(nameAt, new TextEncoder().encode(LOADER_NAME + "\0"));
  put("boot_loader_name", nameAt);
  if (!framebuffer) return;
  ram.write64(at + MBI1.framebuffer_addr, framebuffer.gpa);
  put("framebuffer_pitch", framebuffer.pitch);
  put("framebuffer_width", framebuffer.width);
  put("framebuffer_height", framebuffer.height);
  ram.write(at + MBI1.framebuffer_bpp, 1, 32);
  ram.write(at + MBI1.framebuffer_type, 1, FRAMEBUFFER_RGB);
  ram.copyIn(at + MBI1.color_info, Uint8Array.from(COLORS));
}

/** The information as tags, each on a multiple of 8. [multiboot2 §3.6] */
function info2({ ram, map, module, framebuffer, rsdp, append }: Facts): Uint8Array {
  const tags: Uint8Array[] = [];
  const u32 = (...values: readonly number[]) => new Uint8Array(Uint32Array.from(values).buffer);
  const u64 = (v: number) => u32(v >>> 0, Math.floor(v / 0x1_0000_0000));
  const tag = (type: number, ...parts: readonly Uint8Array[]) => {
    const size = 8 + parts.reduce((n, p) => n + p.length, 0);
    const bytes = new Uint8Array(Math.ceil(size / 8) * 8);
    bytes.set(u32(type, size));
    let at = 8;
    for (const p of parts) {
      bytes.set(p, at);
      at += p.length;
    }
    tags.push(bytes);
  };
  const text = (s: string) => new TextEncoder().encode(s + "\0");
  const END = 0, VERSION = 0, ENTRY_BYTES = 24;
  tag(INFO2.COMMAND_LINE, text(append));
  tag(INFO2.NAME, text(LOADER_NAME));
  if (module) tag(INFO2.MODULE, u32(module.gpa, module.gpa + module.sizeBytes), text(""));
  tag(INFO2.MEMORY, u32(...memoryKib(ram)));
  tag(INFO2.MAP, u32(ENTRY_BYTES, VERSION), ...map.flatMap((e) => [u64(e.gpa), u64(e.sizeBytes), u32(e.type, 0)]));
  if (framebuffer) {
    const { gpa, pitch, width, height } = framebuffer;
    tag(INFO2.FRAMEBUFFER, u64(gpa), u32(pitch, width, height), Uint8Array.of(32, FRAMEBUFFER_RGB, 0, 0, ...COLORS));
  }
  tag(INFO2.RSDP1, ram.bytes(rsdp, RSDP1_BYTES)!.slice());
  tag(INFO2.RSDP2, ram.bytes(rsdp, RSDP2_BYTES)!.slice());
  tag(END);
  const total = 8 + tags.reduce((n, t) => n + t.length, 0);
  const bytes = new Uint8Array(total);
  bytes.set(u32(total, 0));
  let at = 8;
  for (const t of tags) {
    bytes.set(t, at);
    at += t.length;
  }
  return bytes;
}
