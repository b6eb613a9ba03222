/** The shared libraries that a 64-bit ELF file names: DT_NEEDED of its dynamic section. */
import { HostError } from "../../src/base/errors.ts";

const PT_LOAD = 1, PT_DYNAMIC = 2;
const DT_NULL = 0, DT_NEEDED = 1, DT_STRTAB = 5;
const DYNAMIC_BYTES = 16;

interface Segment {
  readonly type: number;
  readonly offset: number;
  readonly address: number;
  readonly sizeBytes: number;
}

/** Their names, such as `libc.so.6`; none for a static program. Throws HostError for a file that is none. */
export function neededLibraries(bytes: Uint8Array): string[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (view.getUint32(0) !== 0x7f454c46 || view.getUint8(4) !== 2) throw new RangeError("no 64-bit ELF file");
    const segments = programHeaders(view);
    const dynamic = segments.find(({ type }) => type === PT_DYNAMIC);
    if (dynamic === undefined) return [];
    const names: number[] = [];
    let strings = 0;
    for (let at = dynamic.offset; at < dynamic.offset + dynamic.sizeBytes; at += DYNAMIC_BYTES) {
      const tag = Number(view.getBigInt64(at, true)), value = Number(view.getBigUint64(at + 8, true));
      if (tag === DT_NULL) break;
      if (tag === DT_NEEDED) names.push(value);
      if (tag === DT_STRTAB) strings = offsetOf(segments, value);
    }
    return names.map((name) => text(bytes, strings + name));
  } catch (error) {
    if (error instanceof RangeError) {
      throw new HostError("Cannot tell the libraries of a program: it is no whole ELF file");
    }
    throw error;
  }
}

function programHeaders(view: DataView): Segment[] {
  const at = Number(view.getBigUint64(0x20, true)),
    size = view.getUint16(0x36, true),
    count = view.getUint16(0x38, true);
  return Array.from({ length: count }, (_, n) => {
    const header = at + n * size;
    return {
      type: view.getUint32(header, true),
      offset: Number(view.getBigUint64(header + 0x08, true)),
      address: Number(view.getBigUint64(header + 0x10, true)),
      sizeBytes: Number(view.getBigUint64(header + 0x20, true)),
    };
  });
}

function offsetOf(segments: readonly Segment[], address: number): number {
  const segment = segments.find((one) =>
    one.type === PT_LOAD && address >= one.address && address < one.address + one.sizeBytes
  );
  if (segment === undefined) throw new RangeError("an address that is in no segment");
  return address - segment.address + segment.offset;
}

function text(bytes: Uint8Array, at: number): string {
  const end = bytes.indexOf(0, at);
  if (end < 0 || at >= bytes.length) throw new RangeError("a name without an end");
  return new TextDecoder().decode(bytes.subarray(at, end));
}
