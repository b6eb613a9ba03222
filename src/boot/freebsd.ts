/**
 * FreeBSD's kernel for amd64, as its own loader starts it: entered in long mode at its virtual address, with the first GiB
 * mapped at every GiB, and told of the machine by records behind it.
 *
 * Spec: the preload metadata of FreeBSD's <sys/linker.h> and <machine/metadata.h>, its boot flags in reboot(2) and boot(8), its
 * environment in loader(8) and kenv(1). Emulated: one file in memory (`--initrd`, an image for md(4)), flags and variables
 * (`--append`). Absent: kernel modules, which are object files that a loader links; symbols for the debugger; i386.
 */
import { ConfigError } from "../base/errors.ts";
import type { GuestRam } from "../base/ram.ts";
import { describeSize } from "../base/size.ts";
import type { InitialState } from "../engine/engine.ts";
import { isElf } from "./elf.ts";
import { state64 } from "./entry_state.ts";
import { cannotLoad, type Named, readInto, withFile } from "./host_file.ts";
import type { ElfImage } from "./kernel_image.ts";
import { clearLowMemory, LOW, memoryMap } from "./low_memory.ts";
import { type LoadOptions, placeAcpi, placeSegments } from "./place.ts";

/** Where the kernel is linked: physical 0 is there. */
const KERNBASE = 0xffff_ffff_8000_0000n;
const GIB = 1 << 30;
const PAGE_BYTES = 4096;
/** The EI_OSABI of an ELF file, and the value that is FreeBSD's. */
const EI_OSABI = 7, ELFOSABI_FREEBSD = 9;
const ELF_HEADER_BYTES = 64, CLASS_64 = 2, E_ENTRY = 24;

/** Types of records: a doubleword each, then the length of what follows, which is padded to eight bytes. */
export const MODINFO = { END: 0, NAME: 1, TYPE: 2, ADDR: 3, SIZE: 4, METADATA: 0x8000 } as const;
/** Types of records of one file's own, with METADATA. */
export const MODINFOMD = { ELFHDR: 2, ENVP: 6, HOWTO: 7, KERNEND: 8, SMAP: 0x1001, MODULEP: 0x1006 } as const;

/** boothowto: by the letter that boot(8) has for it. */
const FLAGS: Readonly<Record<string, number>> = {
  a: 0x1, // RB_ASKNAME
  s: 0x2, // RB_SINGLE
  r: 0x20, // RB_DFLTROOT
  d: 0x40, // RB_KDB
  v: 0x800, // RB_VERBOSE
  h: 0x1000, // RB_SERIAL
  C: 0x2000, // RB_CDROM
  g: 0x8000, // RB_GDB
  m: 0x10000, // RB_MUTE
  p: 0x100000, // RB_PAUSE
  D: 0x20000000, // RB_MULTIPLE
};

/** What the kernel is told unless the user says otherwise: above all, that COM1 is its console. */
const VARIABLES = {
  kernelname: "/boot/kernel/kernel",
  console: "comconsole",
  "hint.uart.0.at": "isa",
  "hint.uart.0.port": "0x3F8",
  "hint.uart.0.flags": "0x10",
  "hint.uart.0.irq": "4",
} as const;
/** The type of an image for md(4), which a kernel takes as its root if it is told to. */
const IMAGE = "md_image";
/** What trike gives kernels that the user names no command line for: Linux's word for what is the default here. */
const LINUX_CONSOLE = "ttyS0";
/** The kernel's KENV_SIZE and its limit of a name and of a value. */
const MAX_ENVIRONMENT = 65536, MAX_TEXT = 128;

/** Code that a register takes to an address beyond what a loader's state can hold. */
const TRAMPOLINE = LOW.START_INFO;
const STACK = LOW.STACK_TOP - 16;
const TABLE_ENTRIES = 512, TABLE_BYTES = 4096;
const PRESENT_WRITABLE = 0x3, LARGE = 0x80, LARGE_BYTES = 0x200000;

/** A file in memory that a record tells of. */
interface Preloaded {
  readonly name: string;
  readonly type: string;
  readonly gpa: number;
  readonly sizeBytes: number;
}

/** Whether a file is FreeBSD's kernel for amd64, by its header and where it is entered. */
export function isFreeBsd(bytes: Uint8Array): boolean {
  if (!isElf(bytes) || bytes.length < ELF_HEADER_BYTES || bytes[4] !== CLASS_64) return false;
  const entry = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(E_ENTRY, true);
  return bytes[EI_OSABI] === ELFOSABI_FREEBSD && entry >= KERNBASE;
}

export function loadFreeBsd(ram: GuestRam, image: ElfImage, name: Named, options: LoadOptions): InitialState {
  const segments = image.elf.segments.map((segment) => ({ ...segment, paddr: physical(segment.vaddr, name) }));
  if (segments.some(({ paddr, memoryBytes }) => paddr + memoryBytes > GIB)) {
    throw cannotLoad(name, "it is linked above the first GiB, which is all that a loader maps for it");
  }
  clearLowMemory(ram);
  const start = Math.min(...segments.map(({ paddr }) => paddr));
  const end = placeSegments(ram, { ...image, elf: { ...image.elf, segments } }, name);
  const kernel: Preloaded = {
    name: VARIABLES.kernelname,
    type: "elf kernel",
    gpa: start,
    sizeBytes: end - start,
  };
  const files: Preloaded[] = [];
  let filesEnd = end;
  const preload = (what: Named["what"], path: string, type: string) => {
    const file = placeFile(ram, { what, path }, type, pageAfter(filesEnd));
    files.push(file);
    filesEnd = file.gpa + file.sizeBytes;
  };
  if (options.initrd !== null) preload("initrd", options.initrd, IMAGE);
  for (const { path, type } of options.modules ?? []) preload("module", path, type);
  const rsdp = placeAcpi(ram, options);
  const { howto, environment } = readWords(options, rsdp);

  // Records, environment, and the end of all of it, which the records tell as well: their length does not depend on it.
  const modulep = pageAfter(filesEnd);
  const map = memoryMap(ram.sizeBytes, options.reserved ?? []);
  const records = (envp: number, kernend: number) => {
    const list = new Records();
    list.file(kernel);
    list.add(MODINFO.METADATA | MODINFOMD.ELFHDR, image.bytes.slice(0, ELF_HEADER_BYTES));
    list.add(MODINFO.METADATA | MODINFOMD.HOWTO, words32(howto));
    list.add(MODINFO.METADATA | MODINFOMD.ENVP, words64(envp));
    list.add(MODINFO.METADATA | MODINFOMD.KERNEND, words64(kernend));
    list.add(MODINFO.METADATA | MODINFOMD.MODULEP, words64(modulep));
    const entries = map.map(({ gpa, sizeBytes, type }) => [...words64(gpa, sizeBytes), ...words32(type)]);
    list.add(MODINFO.METADATA | MODINFOMD.SMAP, Uint8Array.from(entries.flat()));
    for (const file of files) list.file(file);
    list.add(MODINFO.END, new Uint8Array(0));
    return list.bytes;
  };
  const envp = pageAfter(modulep + records(0, 0).length);
  const kernend = pageAfter(envp + environment.length);
  if (kernend > Math.min(GIB, ram.sizeBytes)) {
    const room = describeSize(Math.min(GIB, ram.sizeBytes));
    throw cannotLoad(name, `with what it is told it needs memory up to ${describeSize(kernend)}, and there is ${room}`);
  }
  ram.copyIn(modulep, records(envp, kernend));
  ram.copyIn(envp, environment);
  return enter(ram, image.elf.entry, modulep, kernend);
}

/** Long mode at a virtual address; the kernel finds two doublewords behind a return address that nobody uses. */
function enter(ram: GuestRam, entry: bigint, modulep: number, kernend: number): InitialState {
  ram.copyIn(STACK, words32(0, modulep, kernend));
  const code = new DataView(new ArrayBuffer(12));
  code.setUint16(0, 0x48b8); // MOV RAX, the entry
  code.setBigUint64(2, entry, true);
  code.setUint16(10, 0xffe0); // JMP RAX
  ram.copyIn(TRAMPOLINE, new Uint8Array(code.buffer));
  const state = state64(ram, TRAMPOLINE, { rsp: STACK });
  const pml4 = LOW.PAGE_TABLES, pdpt = pml4 + TABLE_BYTES, directory = pdpt + TABLE_BYTES;
  for (let i = 0; i < TABLE_ENTRIES; i++) {
    ram.write64(pml4 + 8 * i, pdpt + PRESENT_WRITABLE);
    ram.write64(pdpt + 8 * i, directory + PRESENT_WRITABLE);
    ram.write64(directory + 8 * i, i * LARGE_BYTES + (PRESENT_WRITABLE | LARGE));
  }
  return state;
}

class Records {
  readonly #bytes: number[] = [];

  get bytes(): Uint8Array<ArrayBuffer> {
    return Uint8Array.from(this.#bytes);
  }

  /** A file begins with its name; the records up to the next name are its own. */
  file({ name, type, gpa, sizeBytes }: Preloaded): void {
    this.add(MODINFO.NAME, text(name));
    this.add(MODINFO.TYPE, text(type));
    this.add(MODINFO.ADDR, words64(gpa));
    this.add(MODINFO.SIZE, words64(sizeBytes));
  }

  add(type: number, data: Uint8Array): void {
    this.#bytes.push(...words32(type, data.length), ...data);
    while (this.#bytes.length % 8 !== 0) this.#bytes.push(0);
  }
}

function placeFile(ram: GuestRam, name: Named, type: string, gpa: number): Preloaded {
  return withFile(name, (file, sizeBytes) => {
    if (gpa + sizeBytes > Math.min(GIB, ram.sizeBytes)) {
      throw cannotLoad(name, `${describeSize(sizeBytes)} does not fit behind the kernel, in the first GiB of memory`);
    }
    const bytes = ram.bytes(gpa, sizeBytes)!;
    readInto(name, file, bytes);
    ram.wrote(gpa, sizeBytes);
    if (isElf(bytes)) throw cannotLoad(name, "it is an ELF file, which FreeBSD's own loader would have to link");
    return { name: name.path.replace(/.*\//s, ""), type, gpa, sizeBytes };
  });
}

/** `-sv name=value name="a b"`: flags as boot(8) has them, and variables. Throws ConfigError. */
function readWords({ append, env = [] }: LoadOptions, rsdp: number): { howto: number; environment: Uint8Array } {
  const variables = new Map<string, string>(Object.entries(VARIABLES));
  variables.set("hint.acpi.0.rsdp", `0x${rsdp.toString(16)}`);
  let howto = 0;
  for (const [word] of append.matchAll(/(?:[^\s"]|"[^"]*")+/g)) {
    const plain = word.replaceAll('"', "");
    const [, name, value = ""] = /^([\w.-]+)=(.*)$/s.exec(plain) ?? [];
    if (/^-[A-Za-z]+$/.test(plain)) {
      for (const letter of plain.slice(1)) {
        if (!Object.hasOwn(FLAGS, letter)) throw unknownWord(word);
        howto |= FLAGS[letter]!;
      }
    } else if (name === undefined || name.startsWith("-") || name.length >= MAX_TEXT || value.length >= MAX_TEXT) {
      throw unknownWord(word);
    } else if (name !== "console" || value !== LINUX_CONSOLE) variables.set(name, value);
  }
  for (const word of env) {
    const [, name = "", value = ""] = /^([^=]*)=(.*)$/s.exec(word) ?? [];
    if (!/^[\w.-]+$/.test(name) || name.length >= MAX_TEXT || value.length >= MAX_TEXT || value.includes("\0")) {
      throw new ConfigError(
        `--env ${JSON.stringify(word.slice(0, 200))}: expected NAME=VALUE of at most ${MAX_TEXT - 1} bytes each`,
      );
    }
    variables.set(name, value);
  }
  if (variables.get("console")?.includes("comconsole")) howto |= FLAGS.h!;
  const environment = text([...variables].map(([name, value]) => `${name}=${value}\0`).join(""));
  if (environment.length > MAX_ENVIRONMENT) {
    throw new ConfigError(`--append makes an environment of ${environment.length} bytes: expected ${MAX_ENVIRONMENT}`);
  }
  return { howto: howto >>> 0, environment };
}

function unknownWord(word: string): ConfigError {
  const flags = `-${Object.keys(FLAGS).join("")}`;
  return new ConfigError(
    `--append ${
      JSON.stringify(word.slice(0, 200))
    }: expected NAME=VALUE or flags out of ${flags}, for FreeBSD's kernel`,
  );
}

function physical(vaddr: bigint, name: Named): number {
  if (vaddr < KERNBASE) {
    throw cannotLoad(name, `a segment of it is linked at ${vaddr.toString(16)}h, below the kernel's`);
  }
  return Number(vaddr - KERNBASE);
}

function pageAfter(gpa: number): number {
  return Math.ceil(gpa / PAGE_BYTES) * PAGE_BYTES;
}

function text(value: string): Uint8Array {
  return new TextEncoder().encode(value + "\0");
}

function words32(...values: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(4 * values.length));
  values.forEach((value, i) => view.setUint32(4 * i, value, true));
  return new Uint8Array(view.buffer);
}

function words64(...values: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(8 * values.length));
  values.forEach((value, i) => view.setBigUint64(8 * i, BigInt(value), true));
  return new Uint8Array(view.buffer);
}
