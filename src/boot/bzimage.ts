/**
 * bzImage: the real-mode setup header, the protected-mode loader, and in it the packed vmlinux.
 *
 * Spec: [linux-boot] "The Real-Mode Kernel Header", protocol 2.08 and later.
 */
import { messageOf } from "../base/errors.ts";
import type { GuestRam } from "../base/ram.ts";
import { describeSize } from "../base/size.ts";
import { decompress, DecompressError, packingOf } from "./decompress/mod.ts";
import { decompressLz4InPlace } from "./decompress/lz4_in_place.ts";
import { cannotLoad, type Named } from "./host_file.ts";

/** Offsets of the header's fields, in the file and in boot_params alike. */
export const HDR = {
  setup_sects: 0x1f1,
  syssize: 0x1f4,
  vid_mode: 0x1fa,
  boot_flag: 0x1fe,
  jump: 0x200, // its second byte is the distance to the header's end
  header: 0x202,
  version: 0x206,
  type_of_loader: 0x210,
  loadflags: 0x211,
  code32_start: 0x214,
  ramdisk_image: 0x218,
  ramdisk_size: 0x21c,
  cmd_line_ptr: 0x228,
  initrd_addr_max: 0x22c,
  kernel_alignment: 0x230,
  relocatable_kernel: 0x234,
  cmdline_size: 0x238,
  payload_offset: 0x248,
  payload_length: 0x24c,
  pref_address: 0x258,
  init_size: 0x260,
} as const;

export const BOOT_FLAG = 0xaa55;
export const HDR_MAGIC = 0x53726448; // "HdrS"
const HEADER_END_MAX = 0x290; // where boot_params has the next field
const SECTOR = 512;
const LOADED_HIGH = 1;

export interface BzImage {
  /** From setup_sects to the header's end: what boot_params takes over. */
  readonly header: Uint8Array;
  readonly version: number;
  /** The part that is loaded at 1 MiB when the guest is to unpack itself. */
  readonly protectedMode: Uint8Array;
  /** The packed kernel; empty if the header does not say where it is. */
  readonly payload: Uint8Array;
  readonly code32Start: number;
  readonly initrdMax: number;
  readonly commandLineMax: number;
  readonly relocatable: boolean;
  /** Where the kernel wants to run and how much memory it needs from there; 0 before protocol 2.10. */
  readonly prefAddress: number;
  readonly initSize: number;
}

/** Whether the file has a Linux setup header of any version. */
export function isBzImage(bytes: Uint8Array): boolean {
  if (bytes.length < HDR.type_of_loader) return false;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return view.getUint16(HDR.boot_flag, true) === BOOT_FLAG && view.getUint32(HDR.header, true) === HDR_MAGIC;
}

export function parseBzImage(bytes: Uint8Array, name: Named): BzImage {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint16(HDR.version, true);
  if (version < 0x208) {
    throw cannotLoad(
      name,
      `it speaks boot protocol ${protocol(version)}, and 2.08 (Linux 2.6.26) is the oldest that works`,
    );
  }
  const headerEnd = HDR.header + bytes[HDR.jump + 1]!;
  const setupBytes = ((bytes[HDR.setup_sects] || 4) + 1) * SECTOR;
  const claimed = setupBytes + view.getUint32(HDR.syssize, true) * 16;
  // syssize counts in units of 16 bytes, and the file need not fill the last.
  if (claimed - 15 > bytes.length || headerEnd > bytes.length) {
    throw cannotLoad(
      name,
      `it is cut short: its header says ${claimed} bytes (${describeSize(claimed)}), the file has ${bytes.length}`,
    );
  }
  if (headerEnd <= HDR.payload_length + 3 || headerEnd > HEADER_END_MAX) {
    throw cannotLoad(name, `its setup header ends at ${headerEnd}, which boot protocol ${protocol(version)} rules out`);
  }
  if ((bytes[HDR.loadflags]! & LOADED_HIGH) === 0) {
    throw cannotLoad(name, "it is a zImage, which is loaded below 1 MiB; only bzImage is supported");
  }
  const protectedMode = bytes.subarray(setupBytes, claimed);
  const payloadAt = view.getUint32(HDR.payload_offset, true);
  const payloadBytes = view.getUint32(HDR.payload_length, true);
  if (payloadAt + payloadBytes > protectedMode.length) {
    throw cannotLoad(
      name,
      `it is cut short: its header says the payload ends at byte ${setupBytes + payloadAt + payloadBytes}, ` +
        `the kernel ends at ${setupBytes + protectedMode.length}`,
    );
  }
  const recent = version >= 0x20a && headerEnd >= HDR.init_size + 4;
  return {
    header: bytes.subarray(HDR.setup_sects, headerEnd),
    version,
    protectedMode,
    payload: protectedMode.subarray(payloadAt, payloadAt + payloadBytes),
    code32Start: view.getUint32(HDR.code32_start, true),
    initrdMax: view.getUint32(HDR.initrd_addr_max, true),
    commandLineMax: view.getUint32(HDR.cmdline_size, true),
    relocatable: bytes[HDR.relocatable_kernel] !== 0,
    prefAddress: recent ? Number(view.getBigUint64(HDR.pref_address, true)) : 0,
    initSize: recent ? view.getUint32(HDR.init_size, true) : 0,
  };
}

/** "2.15" for 020Fh. */
export function protocol(version: number): string {
  return `${version >> 8}.${String(version & 0xff).padStart(2, "0")}`;
}

/**
 * The vmlinux in the image, or null if it is packed with something unknown. The payload's last four bytes are the size it
 * unpacks to: part of the gzip format, and put after the others by the kernel's build.
 *
 * It is unpacked in RAM where the kernel wants to run, as its own loader would: init_size says that there is room. A buffer
 * beside it would cost as much time again for its pages and for the copy.
 */
export function unpackVmlinux(
  image: BzImage,
  ram: GuestRam,
  memory: WebAssembly.Memory | undefined,
  name: Named,
): Uint8Array | null {
  const { payload } = image;
  const packing = packingOf(payload);
  if (packing === null || payload.length < 8) return null;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.byteLength);
  const sizeBytes = view.getUint32(payload.length - 4, true);
  const limit = image.initSize === 0 ? ram.sizeBytes : Math.min(ram.sizeBytes, image.initSize);
  if (sizeBytes > limit) {
    throw cannotLoad(
      name,
      `its ${packing} payload says it unpacks to ${describeSize(sizeBytes)}, and ${describeSize(limit)} is the most`,
    );
  }
  const out = image.initSize === 0 ? new Uint8Array(sizeBytes) : ram.bytes(image.prefAddress, sizeBytes)!;
  const packed = packing === "gzip" ? payload : payload.subarray(0, -4);
  if (packing === "lz4" && image.initSize > 0 && memory?.buffer === ram.buffer) {
    const base = ram.base + image.prefAddress;
    if (decompressLz4InPlace(memory, base, sizeBytes, image.initSize, packed)) return out;
  }
  try {
    return decompress(packing, packed, out);
  } catch (error) {
    if (!(error instanceof DecompressError)) throw error;
    throw cannotLoad(name, `its ${packing} payload is damaged: ${messageOf(error)}`, error);
  }
}
