/**
 * The parts of a 64-bit Mach-O file that a signature touches: the load command that tells where it is, and __LINKEDIT, which
 * ends with it. Format: Apple's <mach-o/loader.h>, whose names these are; little-endian.
 */
import { HostError } from "../../src/base/errors.ts";
import { codeSignature, signatureBytes, type Signing } from "./code_directory.ts";

const MH_MAGIC_64 = 0xfeedfacf;
const MH_EXECUTE = 2;
const LC_SEGMENT_64 = 0x19;
const LC_CODE_SIGNATURE = 0x1d;
const HEADER_BYTES = 32, SEGMENT_BYTES = 72, SECTION_BYTES = 80, LINKEDIT_DATA_BYTES = 16;
const SIGNATURE_ALIGN = 16;
/** Of arm64; of x86-64 a multiple. */
const VM_PAGE_BYTES = 0x4000;

interface Segment {
  /** Of its load command. */
  readonly at: number;
  readonly vmaddr: number;
  readonly fileoff: number;
  readonly filesize: number;
}

interface Layout {
  readonly main: boolean;
  readonly text: Segment;
  readonly linkedit: Segment;
  /** Of LC_CODE_SIGNATURE, or null. */
  readonly signature: number | null;
  /** The end of the load commands. */
  readonly commandsEnd: number;
  /** The bytes that there is room for behind them. */
  readonly room: number;
  /** The end of all that is to be signed. */
  readonly contentEnd: number;
}

function refuse(why: string): never {
  throw new HostError(`Cannot sign the file: ${why}`);
}

/** One executable of one architecture, signed; a signature that it has is replaced. */
export function signThin(file: Uint8Array<ArrayBuffer>, signing: Signing): Uint8Array<ArrayBuffer> {
  const layout = readLayout(file);
  const dataoff = align(layout.contentEnd, SIGNATURE_ALIGN);
  const datasize = align(signatureBytes(dataoff, signing), SIGNATURE_ALIGN);
  if (dataoff + datasize > 0xffff_ffff) refuse("it is larger than 4 GiB");
  const signed = new Uint8Array(dataoff + datasize);
  signed.set(file.subarray(0, layout.contentEnd));
  const view = new DataView(signed.buffer);
  const command = layout.signature ?? addCommand(view, layout);
  view.setUint32(command + 8, dataoff, true);
  view.setUint32(command + 12, datasize, true);
  const filesize = dataoff + datasize - layout.linkedit.fileoff;
  view.setBigUint64(layout.linkedit.at + 32, BigInt(align(filesize, VM_PAGE_BYTES)), true); // vmsize
  view.setBigUint64(layout.linkedit.at + 48, BigInt(filesize), true);
  const segment = { base: layout.text.fileoff, limit: layout.text.filesize, main: layout.main };
  signed.set(codeSignature(signed.subarray(0, dataoff), signing, segment), dataoff);
  return signed;
}

/** Puts an LC_CODE_SIGNATURE behind the load commands; gives its position. */
function addCommand(view: DataView, { commandsEnd, room }: Layout): number {
  if (room < LINKEDIT_DATA_BYTES) refuse("it has no room for another load command");
  view.setUint32(commandsEnd, LC_CODE_SIGNATURE, true);
  view.setUint32(commandsEnd + 4, LINKEDIT_DATA_BYTES, true);
  view.setUint32(16, view.getUint32(16, true) + 1, true); // ncmds
  view.setUint32(20, view.getUint32(20, true) + LINKEDIT_DATA_BYTES, true); // sizeofcmds
  return commandsEnd;
}

function readLayout(file: Uint8Array<ArrayBuffer>): Layout {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  if (file.length < HEADER_BYTES || view.getUint32(0, true) !== MH_MAGIC_64) refuse("it is no 64-bit Mach-O file");
  const commandsEnd = HEADER_BYTES + view.getUint32(20, true);
  if (commandsEnd > file.length) refuse("its load commands are cut short");
  const segments = new Map<string, Segment>();
  let signature: number | null = null, firstSection = file.length;
  let at = HEADER_BYTES;
  for (let n = view.getUint32(16, true); n > 0; n--) {
    const size = at + 8 <= commandsEnd ? view.getUint32(at + 4, true) : 0;
    if (size < 8 || at + size > commandsEnd) refuse("a load command is damaged");
    const kind = view.getUint32(at, true);
    if (kind === LC_SEGMENT_64 && size >= SEGMENT_BYTES) {
      segments.set(name(file.subarray(at + 8, at + 24)), readSegment(view, at));
      firstSection = Math.min(firstSection, ...sectionOffsets(view, at, size));
    } else if (kind === LC_CODE_SIGNATURE && size === LINKEDIT_DATA_BYTES) signature = at;
    at += size;
  }
  const text = segments.get("__TEXT") ?? refuse("it has no __TEXT");
  const linkedit = segments.get("__LINKEDIT") ?? refuse("it has no __LINKEDIT");
  const linkeditEnd = linkedit.fileoff + linkedit.filesize;
  if (linkeditEnd !== file.length) refuse("__LINKEDIT is not what it ends with");
  if ([...segments.values()].some(({ vmaddr }) => vmaddr > linkedit.vmaddr)) {
    refuse("__LINKEDIT is not its last segment");
  }
  const contentEnd = signature === null ? linkeditEnd : view.getUint32(signature + 8, true);
  if (contentEnd < linkedit.fileoff || contentEnd > linkeditEnd) refuse("its signature is not in __LINKEDIT");
  const main = view.getUint32(12, true) === MH_EXECUTE;
  return { main, text, linkedit, signature, commandsEnd, room: firstSection - commandsEnd, contentEnd };
}

function readSegment(view: DataView, at: number): Segment {
  const u64 = (offset: number) => Number(view.getBigUint64(at + offset, true));
  return { at, vmaddr: u64(24), fileoff: u64(40), filesize: u64(48) };
}

/** Where the sections that are in the file begin. */
function sectionOffsets(view: DataView, segment: number, size: number): number[] {
  const offsets: number[] = [];
  for (let at = segment + SEGMENT_BYTES; at + SECTION_BYTES <= segment + size; at += SECTION_BYTES) {
    const offset = view.getUint32(at + 48, true);
    if (offset > 0) offsets.push(offset);
  }
  return offsets;
}

function name(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes).replace(/\0.*$/s, "");
}

export function align(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
