/**
 * ELF files as kernels are linked: program headers and notes, for x86 in 32 or 64 bits. Whatever the file says is checked
 * against its own size before it is followed.
 *
 * Spec: [elf] the gABI's "Object Files" and "Program Loading".
 */

const ET_EXEC = 2;
const ET_DYN = 3;
const EM_386 = 3;
const EM_X86_64 = 62;
const PT_LOAD = 1;
const PT_NOTE = 4;
/** A kernel has five program headers; one with more than this is no kernel. */
const MAX_SEGMENTS = 128;
const MAX_NOTES = 1024;

export interface ElfSegment {
  readonly offset: number;
  /** A bigint, because a kernel's lie where a number loses its low bits. */
  readonly vaddr: bigint;
  readonly paddr: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
}

export interface ElfNote {
  readonly name: string;
  readonly type: number;
  readonly bytes: Uint8Array;
}

export interface Elf {
  readonly bits: 32 | 64;
  /** As the file says it: physical or virtual. `physicalEntry` tells. */
  readonly entry: bigint;
  /** What is to be loaded, in the file's order, empty ones left out. */
  readonly segments: readonly ElfSegment[];
  readonly notes: readonly ElfNote[];
}

/** An ELF file that cannot be what it says. The message completes "…: it is an ELF file, but …". */
export class ElfError extends Error {
  override name = "ElfError";
}

export function isElf(bytes: Uint8Array): boolean {
  return bytes.length >= 4 && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

export function parseElf(bytes: Uint8Array): Elf {
  if (!isElf(bytes)) throw new ElfError("its magic is not there");
  if (bytes.length < 52) throw new ElfError("its header is cut short");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const wide = bytes[4] === 2;
  if (!wide && bytes[4] !== 1) throw new ElfError(`its class is ${bytes[4]}, neither 32 nor 64 bits`);
  if (wide && bytes.length < 64) throw new ElfError("its header is cut short");
  if (bytes[5] !== 1) throw new ElfError("it is not little-endian");
  const machine = view.getUint16(18, true);
  if (machine !== (wide ? EM_X86_64 : EM_386)) throw new ElfError(`it is for machine ${machine}, not x86`);
  const type = view.getUint16(16, true);
  if (type !== ET_EXEC && type !== ET_DYN) throw new ElfError(`it is of type ${type}, not an executable`);

  /** A 64-bit field. What is too large to be exact is too large for any file or memory, and fails the checks. */
  const u64 = (at: number) => view.getUint32(at, true) + view.getUint32(at + 4, true) * 0x1_0000_0000;
  const headersAt = wide ? u64(32) : view.getUint32(28, true);
  const headerBytes = view.getUint16(wide ? 54 : 42, true);
  const count = view.getUint16(wide ? 56 : 44, true);
  if (count > MAX_SEGMENTS) throw new ElfError(`it has ${count} program headers, more than ${MAX_SEGMENTS}`);
  if (count > 0 && headerBytes < (wide ? 56 : 32)) {
    throw new ElfError(`its program headers are ${headerBytes} bytes long`);
  }
  if (headersAt + count * headerBytes > bytes.length) throw new ElfError("its program headers lie past its end");

  const segments: ElfSegment[] = [];
  const notes: ElfNote[] = [];
  for (let i = 0; i < count; i++) {
    const at = headersAt + i * headerBytes;
    const kind = view.getUint32(at, true);
    if (kind !== PT_LOAD && kind !== PT_NOTE) continue;
    const segment = wide
      ? {
        offset: u64(at + 8),
        vaddr: view.getBigUint64(at + 16, true),
        paddr: u64(at + 24),
        fileBytes: u64(at + 32),
        memoryBytes: u64(at + 40),
      }
      : {
        offset: view.getUint32(at + 4, true),
        vaddr: BigInt(view.getUint32(at + 8, true)),
        paddr: view.getUint32(at + 12, true),
        fileBytes: view.getUint32(at + 16, true),
        memoryBytes: view.getUint32(at + 20, true),
      };
    if (segment.offset + segment.fileBytes > bytes.length) {
      throw new ElfError(
        `segment ${i} ends at byte ${segment.offset + segment.fileBytes} of a file of ${bytes.length}`,
      );
    }
    if (kind === PT_NOTE) {
      readNotes(bytes.subarray(segment.offset, segment.offset + segment.fileBytes), notes);
      continue;
    }
    if (segment.fileBytes > segment.memoryBytes) {
      throw new ElfError(`segment ${i} is longer in the file than in memory`);
    }
    if (segment.memoryBytes > 0) segments.push(segment);
  }
  const entry = wide ? view.getBigUint64(24, true) : BigInt(view.getUint32(24, true));
  return { bits: wide ? 64 : 32, entry, segments, notes };
}

/** Adds the notes in `bytes`: name size, descriptor size, type, then both, each padded to four bytes. A broken one ends them. */
function readNotes(bytes: Uint8Array, notes: ElfNote[]): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  while (at + 12 <= bytes.length && notes.length < MAX_NOTES) {
    const nameBytes = view.getUint32(at, true);
    const descBytes = view.getUint32(at + 4, true);
    const type = view.getUint32(at + 8, true);
    const descAt = at + 12 + Math.ceil(nameBytes / 4) * 4;
    if (descAt + descBytes > bytes.length) return;
    const name = nameBytes === 0
      ? ""
      : String.fromCharCode(...bytes.subarray(at + 12, at + 12 + Math.min(nameBytes - 1, 64)));
    notes.push({ name, type, bytes: bytes.subarray(descAt, descAt + descBytes) });
    at = descAt + Math.ceil(descBytes / 4) * 4;
  }
}

/** Where execution starts in physical memory, or null if that is in no segment. Linkers put either kind of address there. */
export function physicalEntry(elf: Elf): number | null {
  const entry = Number(elf.entry);
  if (isLoaded(elf, entry)) return entry;
  for (const { vaddr, paddr, memoryBytes } of elf.segments) {
    if (elf.entry >= vaddr && elf.entry < vaddr + BigInt(memoryBytes)) return paddr + Number(elf.entry - vaddr);
  }
  return null;
}

/** Whether a physical address lies in a segment. */
export function isLoaded(elf: Elf, gpa: number): boolean {
  return elf.segments.some(({ paddr, memoryBytes }) => gpa >= paddr && gpa < paddr + memoryBytes);
}
