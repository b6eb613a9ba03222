/** Small Mach-O files, unsigned, for what real ones do not show: written from <mach-o/loader.h> and <mach-o/fat.h>. */

export interface MachO {
  readonly cpu?: number;
  /** Bytes between the load commands and the first section. */
  readonly room?: number;
  readonly linkeditBytes?: number;
  /** Bytes behind __LINKEDIT, which no file of a linker's has. */
  readonly tail?: number;
  readonly textBytes?: number;
}

export const X86_64 = 0x0100_0007, ARM64 = 0x0100_000c;
const HEADER = 32, SEGMENT = 72, SECTION = 80;

/** __PAGEZERO, __TEXT with one section, __LINKEDIT. */
export function machO({ cpu = ARM64, room = 64, linkeditBytes = 100, tail = 0, textBytes = 0x4000 }: MachO = {}) {
  const commands = SEGMENT * 3 + SECTION;
  const file = new Uint8Array(textBytes + linkeditBytes + tail);
  const view = new DataView(file.buffer);
  for (let i = 0; i < file.length; i++) file[i] = i * 31 >> 3;
  file.fill(0, 0, HEADER + commands + room);
  const u32 = (at: number, ...values: number[]) => values.forEach((v, i) => view.setUint32(at + i * 4, v, true));
  const u64 = (at: number, ...values: number[]) =>
    values.forEach((v, i) => view.setBigUint64(at + i * 8, BigInt(v), true));
  const name = (at: number, text: string) => file.set(new TextEncoder().encode(text), at);
  u32(0, 0xfeedfacf, cpu, 0, 2, 3, commands, 0x0020_0085, 0);
  let at = HEADER;
  const segment = (title: string, sections: number, ...where: number[]) => {
    u32(at, 0x19, SEGMENT + sections * SECTION);
    name(at + 8, title);
    u64(at + 24, ...where); // vmaddr, vmsize, fileoff, filesize
    u32(at + 56, 5, 5, sections, 0);
    at += SEGMENT;
  };
  const base = 0x1_0000_0000;
  segment("__PAGEZERO", 0, 0, base, 0, 0);
  segment("__TEXT", 1, base, textBytes, 0, textBytes);
  name(at, "__text");
  name(at + 16, "__TEXT");
  const start = HEADER + commands + room;
  u64(at + 32, base + start, textBytes - start);
  u32(at + 48, start);
  at += SECTION;
  segment("__LINKEDIT", 0, base + textBytes, Math.ceil(linkeditBytes / 0x4000) * 0x4000, textBytes, linkeditBytes);
  return file;
}

/** Several architectures in one file, each at a multiple of `2 ** log2`. */
export function fat(parts: readonly Uint8Array[], { wide = false, log2 = 14 } = {}): Uint8Array<ArrayBuffer> {
  const entry = wide ? 32 : 20;
  const places: number[] = [];
  let end = 8 + entry * parts.length;
  for (const part of parts) {
    places.push(Math.ceil(end / 2 ** log2) * 2 ** log2);
    end = places.at(-1)! + part.length;
  }
  const file = new Uint8Array(end);
  const view = new DataView(file.buffer);
  view.setUint32(0, wide ? 0xcafebabf : 0xcafebabe);
  view.setUint32(4, parts.length);
  parts.forEach((part, i) => {
    const at = 8 + i * entry, inner = new DataView(part.buffer, part.byteOffset);
    view.setUint32(at, inner.getUint32(4, true));
    view.setUint32(at + 4, inner.getUint32(8, true));
    if (wide) {
      view.setBigUint64(at + 8, BigInt(places[i]!));
      view.setBigUint64(at + 16, BigInt(part.length));
    } else {
      view.setUint32(at + 8, places[i]!);
      view.setUint32(at + 12, part.length);
    }
    view.setUint32(at + (wide ? 24 : 16), log2);
    file.set(part, places[i]!);
  });
  return file;
}
