/**
 * A writer of shared objects for x86-64 Linux: ELF-64 with a symbol table, one segment of code and one of data, as the gABI
 * and the psABI of x86-64 have them.
 *
 * What it writes needs no other library and no linker: code refers to data relative to RIP, and pointers within the data are
 * the only relocations.
 */

/** A name that `dlsym` finds. */
export interface Exported {
  readonly name: string;
  readonly kind: "function" | "object";
  /** From the start of the text for functions, of the data for objects. */
  readonly at: number;
  readonly size: number;
}

export interface SharedObject {
  readonly soname: string;
  readonly symbols: readonly Exported[];
  /** Makes the code, whose size does not depend on where it and the data lie. */
  text(textAddress: number, dataAddress: number): Uint8Array;
  readonly data: Uint8Array;
  /** Bytes of zeros behind the data. */
  readonly zeros: number;
  /** 64-bit words of the data that hold the address of another place in the data: [at, target]. */
  readonly pointers: readonly (readonly [at: number, target: number])[];
}

const PAGE = 4096;
const EHDR = 64, PHDR = 56, SHDR = 64, SYM = 24, RELA = 24, DYN = 16;
const EM_X86_64 = 62, ET_DYN = 3;
const PT_LOAD = 1, PT_DYNAMIC = 2, PT_GNU_STACK = 0x6474_e551;
const PF_X = 1, PF_W = 2, PF_R = 4;
const SHT = { NULL: 0, PROGBITS: 1, STRTAB: 3, RELA: 4, HASH: 5, DYNAMIC: 6, NOBITS: 8, DYNSYM: 11 } as const;
const SHF_WRITE = 1, SHF_ALLOC = 2, SHF_EXECINSTR = 4;
const DT = {
  HASH: 4,
  STRTAB: 5,
  SYMTAB: 6,
  RELA: 7,
  RELASZ: 8,
  RELAENT: 9,
  STRSZ: 10,
  SYMENT: 11,
  SONAME: 14,
} as const;
const STB_GLOBAL = 1, STT_OBJECT = 1, STT_FUNC = 2;
const R_X86_64_RELATIVE = 8;

/** The hash of the System V gABI's symbol hash table. */
export function sysvHash(name: string): number {
  let h = 0;
  for (const byte of new TextEncoder().encode(name)) {
    h = ((h << 4) + byte) >>> 0;
    const g = h & 0xf000_0000;
    if (g !== 0) h ^= g >>> 24;
    h = (h & ~g) >>> 0;
  }
  return h;
}

/** Bytes that grow, with strings and numbers in little-endian. */
class Bytes {
  readonly #parts: number[] = [];
  get length(): number {
    return this.#parts.length;
  }
  u(size: number, value: number | bigint): this {
    let v = BigInt.asUintN(64, BigInt(value));
    for (let i = 0; i < size; i++, v >>= 8n) this.#parts.push(Number(v & 0xffn));
    return this;
  }
  string(text: string): this {
    for (const byte of new TextEncoder().encode(text)) this.#parts.push(byte);
    return this.u(1, 0);
  }
  get bytes(): Uint8Array {
    return Uint8Array.from(this.#parts);
  }
}

/** Strings by their offset in a table that starts with an empty one. */
class Strings {
  readonly out = new Bytes().u(1, 0);
  add(text: string): number {
    const at = this.out.length;
    this.out.string(text);
    return at;
  }
}

interface Section {
  readonly name: string;
  readonly type: number;
  readonly flags: number;
  readonly at: number;
  readonly bytes: Uint8Array;
  /** Differs from the length of `bytes` only for sections without any. */
  readonly size: number;
  readonly link: number;
  readonly info: number;
  readonly entry: number;
  readonly align: number;
}

const TEXT = 5, DATA = 7;

/** The file's bytes. Addresses are offsets in the file, up to what follows the data. */
export function writeSharedObject(o: SharedObject): Uint8Array {
  const names = new Strings(), soname = names.add(o.soname);
  const nameAt = o.symbols.map((s) => names.add(s.name));
  const hash = hashTable(o.symbols.map((s) => s.name));
  const textSize = o.text(0, 0).length;
  let next = EHDR + 4 * PHDR;
  const place = (size: number, align: number) => {
    const at = Math.ceil(next / align) * align;
    next = at + size;
    return at;
  };
  const hashAt = place(hash.length, 8), symAt = place((o.symbols.length + 1) * SYM, 8);
  const strAt = place(names.out.length, 1), relaAt = place(o.pointers.length * RELA, 8);
  const textAt = place(textSize, 64), codeEnd = next;
  const dynamicAt = place(10 * DYN, PAGE), dataAt = place(o.data.length, 64), fileEnd = next;

  const symbols = new Bytes();
  for (let i = 0; i < SYM; i++) symbols.u(1, 0);
  o.symbols.forEach((s, i) => {
    const isFunction = s.kind === "function";
    symbols.u(4, nameAt[i]!).u(1, (STB_GLOBAL << 4) | (isFunction ? STT_FUNC : STT_OBJECT)).u(1, 0);
    symbols.u(2, isFunction ? TEXT : DATA).u(8, (isFunction ? textAt : dataAt) + s.at).u(8, s.size);
  });
  const relocations = new Bytes();
  for (const [at, target] of o.pointers) relocations.u(8, dataAt + at).u(8, R_X86_64_RELATIVE).u(8, dataAt + target);
  const dynamic = new Bytes();
  const entries: [number, number][] = [
    [DT.SONAME, soname],
    [DT.HASH, hashAt],
    [DT.STRTAB, strAt],
    [DT.SYMTAB, symAt],
    [DT.STRSZ, names.out.length],
    [DT.SYMENT, SYM],
    [DT.RELA, relaAt],
    [DT.RELASZ, o.pointers.length * RELA],
    [DT.RELAENT, RELA],
    [0, 0],
  ];
  for (const [tag, value] of entries) dynamic.u(8, tag).u(8, value);

  const A = SHF_ALLOC;
  const section = (name: string, type: number, flags: number, at: number, bytes: Uint8Array, more: Partial<Section>) =>
    ({ name, type, flags, at, bytes, size: bytes.length, link: 0, info: 0, entry: 0, align: 8, ...more }) as Section;
  const sections: Section[] = [
    section("", SHT.NULL, 0, 0, new Uint8Array(0), { align: 0 }),
    section(".hash", SHT.HASH, A, hashAt, hash, { link: 2, entry: 4 }),
    section(".dynsym", SHT.DYNSYM, A, symAt, symbols.bytes, { link: 3, info: 1, entry: SYM }),
    section(".dynstr", SHT.STRTAB, A, strAt, names.out.bytes, { align: 1 }),
    section(".rela.dyn", SHT.RELA, A, relaAt, relocations.bytes, { link: 2, entry: RELA }),
    section(".text", SHT.PROGBITS, A | SHF_EXECINSTR, textAt, o.text(textAt, dataAt), { align: 64 }),
    section(".dynamic", SHT.DYNAMIC, A | SHF_WRITE, dynamicAt, dynamic.bytes, { link: 3, entry: DYN }),
    section(".data", SHT.PROGBITS, A | SHF_WRITE, dataAt, o.data, { align: 64 }),
    section(".bss", SHT.NOBITS, A | SHF_WRITE, fileEnd, new Uint8Array(0), { size: o.zeros, align: 1 }),
  ];
  const titles = new Strings();
  const titleAt = sections.map((s) => s.name === "" ? 0 : titles.add(s.name));
  const titlesAt = titles.add(".shstrtab");
  const stringsAt = fileEnd, headersAt = Math.ceil((stringsAt + titles.out.length) / 8) * 8;
  const file = new Uint8Array(headersAt + (sections.length + 1) * SHDR);
  sections.push(section(".shstrtab", SHT.STRTAB, 0, stringsAt, titles.out.bytes, { align: 1 }));
  titleAt.push(titlesAt);

  const header = new Bytes().u(4, 0x464c_457f).u(1, 2).u(1, 1).u(1, 1).u(9, 0);
  header.u(2, ET_DYN).u(2, EM_X86_64).u(4, 1).u(8, 0).u(8, EHDR).u(8, headersAt).u(4, 0);
  header.u(2, EHDR).u(2, PHDR).u(2, 4).u(2, SHDR).u(2, sections.length).u(2, sections.length - 1);
  const segment = (type: number, flags: number, at: number, inFile: number, inMemory: number, align: number) =>
    header.u(4, type).u(4, flags).u(8, at).u(8, at).u(8, at).u(8, inFile).u(8, inMemory).u(8, align);
  segment(PT_LOAD, PF_R | PF_X, 0, codeEnd, codeEnd, PAGE);
  segment(PT_LOAD, PF_R | PF_W, dynamicAt, fileEnd - dynamicAt, fileEnd - dynamicAt + o.zeros, PAGE);
  segment(PT_DYNAMIC, PF_R | PF_W, dynamicAt, dynamic.length, dynamic.length, 8);
  // Without this the loader would want an executable stack.
  segment(PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 16);
  file.set(header.bytes, 0);

  const table = new Bytes();
  sections.forEach((s, i) => {
    file.set(s.bytes, s.at);
    table.u(4, titleAt[i]!).u(4, s.type).u(8, s.flags).u(8, s.flags & A ? s.at : 0).u(8, s.at).u(8, s.size);
    table.u(4, s.link).u(4, s.info).u(8, s.align).u(8, s.entry);
  });
  file.set(table.bytes, headersAt);
  return file;
}

/** The gABI's hash table over symbols 1.. with these names. */
function hashTable(names: readonly string[]): Uint8Array {
  const buckets = Math.max(1, names.length >> 1);
  const first = new Uint32Array(buckets), chain = new Uint32Array(names.length + 1);
  names.forEach((name, i) => {
    const bucket = sysvHash(name) % buckets;
    chain[i + 1] = first[bucket]!;
    first[bucket] = i + 1;
  });
  const out = new Bytes().u(4, buckets).u(4, chain.length);
  for (const word of first) out.u(4, word);
  for (const word of chain) out.u(4, word);
  return out.bytes;
}
