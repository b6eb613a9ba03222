/** Signs Mach-O files for macOS without an identity, on any system: one architecture, or several in one ("fat") file. */
import { HostError } from "../../src/base/errors.ts";
import type { Signing } from "./code_directory.ts";
import { align, signThin } from "./macho.ts";

/** Apple's <mach-o/fat.h>; big-endian. */
const FAT_MAGIC = 0xcafebabe, FAT_MAGIC_64 = 0xcafebabf;
/** More are a Java class file, which begins the same. */
const MAX_ARCHS = 16;

/** The file, signed; signatures that it has are replaced. Throws HostError for what it cannot sign. */
export function signMachO(file: Uint8Array<ArrayBuffer>, signing: Signing): Uint8Array<ArrayBuffer> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const magic = file.length >= 8 ? view.getUint32(0) : 0;
  if (magic !== FAT_MAGIC && magic !== FAT_MAGIC_64) return signThin(file, signing);
  const wide = magic === FAT_MAGIC_64;
  const count = view.getUint32(4), entryBytes = wide ? 32 : 20;
  if (count > MAX_ARCHS || 8 + count * entryBytes > file.length) {
    throw new HostError("Cannot sign the file: it is no Mach-O file");
  }
  let end = 8 + count * entryBytes;
  const header = file.slice(0, end);
  const out = new DataView(header.buffer);
  const slices = Array.from({ length: count }, (_, i) => {
    const at = 8 + i * entryBytes;
    const u = (offset: number) => wide ? Number(view.getBigUint64(at + offset)) : view.getUint32(at + offset);
    const offset = u(8), size = u(wide ? 16 : 12), log2 = view.getUint32(at + (wide ? 24 : 16));
    if (offset + size > file.length || log2 > 20) throw new HostError("Cannot sign the file: a part of it is damaged");
    const bytes = signThin(file.slice(offset, offset + size), signing);
    const start = align(end, 2 ** log2);
    end = start + bytes.length;
    if (!wide && end > 0xffff_ffff) throw new HostError("Cannot sign the file: it is larger than 4 GiB");
    const put = (where: number, value: number) =>
      wide ? out.setBigUint64(at + where, BigInt(value)) : out.setUint32(at + where, value);
    put(8, start);
    put(wide ? 16 : 12, bytes.length);
    return { start, bytes };
  });
  const signed = new Uint8Array(end);
  signed.set(header);
  for (const { start, bytes } of slices) signed.set(bytes, start);
  return signed;
}
