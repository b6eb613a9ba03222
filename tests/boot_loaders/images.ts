/** Kernel images built byte by byte, for tests: the smallest files that are what they say. */
import { GuestRam } from "../../src/base/ram.ts";
import type { LoadOptions } from "../../src/boot/load_kernel.ts";

const MIB = 1 << 20;

export interface Segment {
  readonly paddr: number;
  readonly vaddr?: bigint;
  readonly bytes: Uint8Array;
  readonly memoryBytes?: number;
}

export interface ElfParts {
  readonly bits?: 32 | 64;
  readonly entry: bigint;
  readonly segments: readonly Segment[];
  /** The value of a PVH entry note. */
  readonly pvh?: number;
}

/** An x86 ELF executable. */
export function elfFile({ bits = 64, entry, segments, pvh }: ElfParts): Uint8Array<ArrayBuffer> {
  const wide = bits === 64;
  const headerBytes = wide ? 64 : 52;
  const phBytes = wide ? 56 : 32;
  const note = pvh === undefined ? new Uint8Array(0) : noteBytes("Xen", 18, pvh);
  const count = segments.length + (pvh === undefined ? 0 : 1);
  let at = headerBytes + count * phBytes;
  const out = new Uint8Array(at + note.length + segments.reduce((sum, { bytes }) => sum + bytes.length, 0));
  const view = new DataView(out.buffer);
  out.set([0x7f, 0x45, 0x4c, 0x46, wide ? 2 : 1, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, wide ? 62 : 3, true);
  view.setUint32(20, 1, true);
  if (wide) {
    view.setBigUint64(24, entry, true);
    view.setUint32(32, headerBytes, true);
  } else {
    view.setUint32(24, Number(entry), true);
    view.setUint32(28, headerBytes, true);
  }
  view.setUint16(wide ? 54 : 42, phBytes, true);
  view.setUint16(wide ? 56 : 44, count, true);

  let header = headerBytes;
  const add = (type: number, paddr: number, vaddr: bigint, bytes: Uint8Array, memoryBytes: number) => {
    view.setUint32(header, type, true);
    if (wide) {
      [[8, at], [24, paddr], [32, bytes.length], [40, memoryBytes], [48, 4]].forEach(([field, value]) =>
        view.setBigUint64(header + field!, BigInt(value!), true)
      );
      view.setBigUint64(header + 16, vaddr, true);
    } else {
      [[4, at], [8, Number(vaddr)], [12, paddr], [16, bytes.length], [20, memoryBytes], [28, 4]].forEach((
        [field, value],
      ) => view.setUint32(header + field!, value!, true));
    }
    out.set(bytes, at);
    at += bytes.length;
    header += phBytes;
  };
  for (const { paddr, vaddr = BigInt(paddr), bytes, memoryBytes = bytes.length } of segments) {
    add(1, paddr, vaddr, bytes, memoryBytes);
  }
  if (pvh !== undefined) add(4, 0, 0n, note, note.length);
  return out;
}

function noteBytes(name: string, type: number, value: number): Uint8Array {
  const out = new Uint8Array(20);
  const view = new DataView(out.buffer);
  [name.length + 1, 4, type].forEach((word, i) => view.setUint32(4 * i, word, true));
  out.set(new TextEncoder().encode(name), 12);
  view.setUint32(16, value, true);
  return out;
}

export interface BzImageParts {
  readonly payload: Uint8Array;
  readonly version?: number;
  readonly initSize?: number;
  readonly prefAddress?: number;
  readonly initrdMax?: number;
  readonly commandLineMax?: number;
}

/** Where the payload lies in the protected-mode part. */
export const PAYLOAD_OFFSET = 0x100;
const SETUP_BYTES = 2 * 512;

/** A bzImage of boot protocol 2.15 that holds `payload`. */
export function bzImageFile(parts: BzImageParts): Uint8Array<ArrayBuffer> {
  const units = Math.ceil((PAYLOAD_OFFSET + parts.payload.length) / 16);
  const out = new Uint8Array(SETUP_BYTES + units * 16);
  const view = new DataView(out.buffer);
  out[0x1f1] = 1; // setup_sects
  view.setUint32(0x1f4, units, true);
  view.setUint16(0x1fe, 0xaa55, true);
  out.set([0xeb, 0x6a], 0x200); // the header ends at 0x26c
  out.set(new TextEncoder().encode("HdrS"), 0x202);
  view.setUint16(0x206, parts.version ?? 0x20f, true);
  out[0x211] = 1; // LOADED_HIGH
  view.setUint32(0x214, MIB, true);
  view.setUint32(0x22c, parts.initrdMax ?? 0x7fffffff, true);
  view.setUint32(0x230, 2 * MIB, true);
  out[0x234] = 1;
  view.setUint32(0x238, parts.commandLineMax ?? 2047, true);
  view.setUint32(0x248, PAYLOAD_OFFSET, true);
  view.setUint32(0x24c, parts.payload.length, true);
  view.setUint32(0x258, parts.prefAddress ?? 2 * MIB, true);
  view.setUint32(0x260, parts.initSize ?? 4 * MIB, true);
  out.set(parts.payload, SETUP_BYTES + PAYLOAD_OFFSET);
  return out;
}

/** A payload as the kernel's build leaves it: the packed bytes, then the size they unpack to. */
export function withSize(packed: Uint8Array, sizeBytes: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(packed.length + 4);
  out.set(packed);
  new DataView(out.buffer).setUint32(packed.length, sizeBytes, true);
  return out;
}

/** Bytes that look a little like code: some repeat, some do not, and E8h and E9h are frequent. The same on every run. */
export function codeLike(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(length);
  let x = seed;
  for (let i = 0; i < length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    const kind = x >>> 28;
    out[i] = kind < 4
      ? x >>> 16
      : kind === 4
      ? 0xe8 + (x >>> 20 & 1)
      : kind < 7 || i < 300
      ? 0
      : kind === 15
      ? 0xff
      : out[i - 300]!;
  }
  return out;
}

/** A vmlinux of a text segment with `text` at 2 MiB and a data segment with a bss at 3 MiB. */
export function vmlinuxFile(text: Uint8Array): Uint8Array<ArrayBuffer> {
  return elfFile({
    entry: 0xffffffff81000010n, // virtual, as some linkers leave it
    segments: [
      { paddr: 2 * MIB, vaddr: 0xffffffff81000000n, bytes: text },
      { paddr: 3 * MIB, vaddr: 0xffffffff81100000n, bytes: Uint8Array.of(1, 2, 3, 4), memoryBytes: 0x2000 },
    ],
  });
}

/** Loads through files in a folder that is gone afterwards, into RAM that is full of ones before. */
export class Bench implements Disposable {
  readonly folder = Deno.makeTempDirSync({ prefix: "boot_loaders" });
  readonly ram: GuestRam;

  constructor(ramBytes = 16 * MIB) {
    this.ram = GuestRam.private(ramBytes);
    this.ram.bytes(0, ramBytes)!.fill(0xff);
  }

  file(name: string, bytes: Uint8Array): string {
    const path = `${this.folder}/${name}`;
    Deno.writeFileSync(path, bytes);
    return path;
  }

  options(kernel: string, more: Partial<LoadOptions> = {}): LoadOptions {
    const acpiTables = (base: number) => ({ bytes: new TextEncoder().encode("RSD PTR "), rsdp: base });
    return { kernel, initrd: null, append: "", acpiTables, ...more };
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.folder, { recursive: true });
  }
}
