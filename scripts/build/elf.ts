/**
 * A program put into an ELF executable: bytes behind it, and a segment whose code runs first and gives the executable its
 * arguments.
 *
 * Spec: the System V ABI's ELF-64 object file format: file header, program header table, dynamic section, relocations.
 * The PT_NOTE entry of the program header table, which only tells a build's name, becomes the new segment's PT_LOAD.
 */
import { HostError } from "../../src/base/errors.ts";
import { BLOCK, ENTRY_CODE } from "./entry_code.ts";

const PT_LOAD = 1, PT_DYNAMIC = 2, PT_NOTE = 4;
const PF_X = 1, PF_R = 4;
const DT_NULL = 0, DT_STRTAB = 5, DT_SYMTAB = 6, DT_RELA = 7, DT_RELASZ = 8;
/** R_X86_64_GLOB_DAT, R_AARCH64_GLOB_DAT, by machine: a word that holds a symbol's address. */
const GLOB_DAT: Readonly<Record<number, number>> = { 62: 6, 183: 1025 };
const MACHINES: Readonly<Record<number, string>> = { 62: "x86_64", 183: "aarch64" };
const EHDR_BYTES = 64, PHDR_BYTES = 56, RELA_BYTES = 24, SYM_BYTES = 24;
/** Pages have up to 64 KiB on aarch64. */
const ALIGN = 0x1_0000;

interface Segment {
  readonly type: number;
  readonly flags: number;
  readonly offset: number;
  readonly vaddr: number;
  readonly paddr: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
  readonly align: number;
}

/** What the segment gives the executable: words between argv[0] and the user's, and variables. */
export interface Words {
  readonly args: readonly string[];
  readonly env: readonly string[];
}

export interface ElfFile {
  readonly arch: string;
  readonly sizeBytes: number;
  readonly machine: number;
  readonly entry: number;
  readonly phoff: number;
  readonly segments: readonly Segment[];
  /** Where the address of the C library's `environ` is, once linked. */
  readonly environ: number;
}

/** The position of what is put behind a file of that size. */
export function alignedEnd(sizeBytes: number): number {
  return Math.ceil(sizeBytes / ALIGN) * ALIGN;
}

/** Reads what is needed of an executable. Throws HostError if a program cannot be put into it. */
export function readElf(path: string, bytes: Uint8Array): ElfFile {
  const refuse = (why: string): never => {
    throw new HostError(`Cannot put a program into "${path}": ${why}`);
  };
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const inside = (at: number, length: number) =>
    at + length <= bytes.length ? at : refuse("it is cut short or damaged");
  const u64 = (at: number) => Number(view.getBigUint64(inside(at, 8), true));
  const u32 = (at: number) => view.getUint32(inside(at, 4), true);
  if (bytes.length < EHDR_BYTES || view.getUint32(0) !== 0x7f454c46) refuse("not an ELF file");
  if (bytes[4] !== 2 || bytes[5] !== 1) refuse("expected 64 bits and little endian");
  const machine = view.getUint16(18, true);
  const arch = MACHINES[machine] ?? refuse(`machine ${machine}, expected x86_64 or aarch64`);
  const phoff = u64(32), count = view.getUint16(56, true);
  if (view.getUint16(54, true) !== PHDR_BYTES) refuse("its program headers are not of the usual size");
  inside(phoff, count * PHDR_BYTES);
  const segments = Array.from({ length: count }, (_, i) => readSegment(view, phoff + i * PHDR_BYTES));
  if (!segments.some(({ type }) => type === PT_NOTE)) refuse("no PT_NOTE whose place a segment could take");

  const fileOffset = (vaddr: number): number => {
    const s = segments.find((s) => s.type === PT_LOAD && vaddr >= s.vaddr && vaddr < s.vaddr + s.fileBytes);
    return s ? vaddr - s.vaddr + s.offset : refuse("its dynamic section points nowhere");
  };
  const dynamic = segments.find(({ type }) => type === PT_DYNAMIC) ?? refuse("not linked dynamically");
  const tags = new Map<number, number>();
  for (let at = dynamic.offset; at < dynamic.offset + dynamic.fileBytes && u64(at) !== DT_NULL; at += 16) {
    tags.set(u64(at), u64(at + 8));
  }
  const tag = (number: number) => tags.get(number) ?? refuse(`no dynamic tag ${number}`);
  const rela = fileOffset(tag(DT_RELA)), symtab = fileOffset(tag(DT_SYMTAB)), strtab = fileOffset(tag(DT_STRTAB));
  const nameOf = (symbol: number) => {
    const start = strtab + u32(symtab + symbol * SYM_BYTES);
    return new TextDecoder().decode(bytes.subarray(start, bytes.indexOf(0, start)));
  };
  let environ = 0;
  for (let at = rela; at < rela + tag(DT_RELASZ); at += RELA_BYTES) {
    if (u32(at + 8) !== GLOB_DAT[machine]) continue;
    if (/^(__)?environ$/.test(nameOf(u32(at + 12)))) environ = u64(at);
  }
  if (environ === 0) refuse("it does not import the C library's environ");
  return { arch, sizeBytes: bytes.length, machine, entry: u64(24), phoff, segments, environ };
}

function readSegment(view: DataView, at: number): Segment {
  const u64 = (offset: number) => Number(view.getBigUint64(at + offset, true));
  return {
    type: view.getUint32(at, true),
    flags: view.getUint32(at + 4, true),
    offset: u64(8),
    vaddr: u64(16),
    paddr: u64(24),
    fileBytes: u64(32),
    memoryBytes: u64(40),
    align: u64(48),
  };
}

/** A change to a file: bytes, and where they go. */
export interface Patch {
  readonly at: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** What makes `elf` start with the words given; the new segment's bytes go to `at`, a multiple of 64 KiB. */
export function entryPatches(elf: ElfFile, at: number, words: Words): Patch[] {
  const loads = elf.segments.filter(({ type }) => type === PT_LOAD);
  const vaddr = alignedEnd(Math.max(...loads.map((s) => s.vaddr + s.memoryBytes)));
  const bytes = entrySegment(elf, vaddr, words);
  const segment: Segment = {
    type: PT_LOAD,
    flags: PF_R | PF_X,
    offset: at,
    vaddr,
    paddr: vaddr,
    fileBytes: bytes.length,
    memoryBytes: bytes.length,
    align: ALIGN,
  };
  // Loadable segments stand in the order of their addresses: the new one comes behind the last.
  const rest = elf.segments.toSpliced(elf.segments.findIndex(({ type }) => type === PT_NOTE), 1);
  const table = rest.toSpliced(rest.findLastIndex(({ type }) => type === PT_LOAD) + 1, 0, segment);
  const entry = new Uint8Array(8);
  new DataView(entry.buffer).setBigUint64(0, BigInt(vaddr), true);
  return [{ at: 24, bytes: entry }, { at: elf.phoff, bytes: tableBytes(table) }, { at, bytes }];
}

function tableBytes(table: readonly Segment[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(table.length * PHDR_BYTES);
  const view = new DataView(bytes.buffer);
  table.forEach((s, i) => {
    const at = i * PHDR_BYTES;
    view.setUint32(at, s.type, true);
    view.setUint32(at + 4, s.flags, true);
    [s.offset, s.vaddr, s.paddr, s.fileBytes, s.memoryBytes, s.align].forEach((value, n) =>
      view.setBigUint64(at + 8 + n * 8, BigInt(value), true)
    );
  });
  return bytes;
}

function entrySegment(elf: ElfFile, vaddr: number, { args, env }: Words): Uint8Array<ArrayBuffer> {
  const strings = [...args, ...env].map((text) => new TextEncoder().encode(`${text}\0`));
  const start = BLOCK.STRINGS + strings.length * 8;
  const bytes = new Uint8Array(strings.reduce((sum, { length }) => sum + length, start));
  const view = new DataView(bytes.buffer);
  const put = (at: number, value: number) => view.setBigInt64(at, BigInt(value), true);
  bytes.set(ENTRY_CODE[elf.machine]!);
  put(BLOCK.ARGUMENTS, args.length);
  put(BLOCK.VARIABLES, env.length);
  put(BLOCK.GROWTH, strings.length * 8);
  put(BLOCK.ENVIRON, elf.environ - vaddr);
  put(BLOCK.ENTRY, elf.entry - vaddr);
  let at = start;
  strings.forEach((text, i) => {
    put(BLOCK.STRINGS + i * 8, at);
    bytes.set(text, at);
    at += text.length;
  });
  return bytes;
}
