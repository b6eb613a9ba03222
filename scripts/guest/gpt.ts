/** A GUID partition table as [uefi §5.2.3, §5.3] have it: a protective MBR, the primary table and its copy at the end. */
import { crc32 } from "node:zlib";

export const SECTOR = 512;

/** Types of partitions, by GUID. The BIOS boot partition is GRUB's own: where it keeps what does not fit an MBR. */
export const PARTITION_TYPE = {
  EFI_SYSTEM: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
  BIOS_BOOT: "21686148-6449-6e6f-744e-656564454649",
  LINUX_ROOT_X86_64: "4f68bce3-e8cd-4db1-96e7-fbcaf984b709",
} as const;

export interface Partition {
  readonly type: string;
  readonly guid: string;
  readonly name: string;
  readonly firstLba: number;
  readonly sectors: number;
}

const ENTRIES = 128;
const ENTRY_BYTES = 128;
const TABLE_SECTORS = ENTRIES * ENTRY_BYTES / SECTOR;
const HEADER_BYTES = 92;

/** What a table takes at either end of a disk; the MBR is part of the first. */
export const GPT_SECTORS = 2 + TABLE_SECTORS;

/**
 * The sectors 0 to GPT_SECTORS - 1 of a disk, and those of its end from `backupLba` on. The first 440 bytes of the MBR, a
 * boot loader's code, are zero.
 */
export function guidPartitionTable(
  diskSectors: number,
  diskGuid: string,
  partitions: readonly Partition[],
): { start: Uint8Array<ArrayBuffer>; end: Uint8Array<ArrayBuffer>; backupLba: number } {
  const entries = new Uint8Array(ENTRIES * ENTRY_BYTES);
  const dv = new DataView(entries.buffer);
  for (const [n, { type, guid, name, firstLba, sectors }] of partitions.entries()) {
    const at = n * ENTRY_BYTES;
    entries.set(guidBytes(type), at);
    entries.set(guidBytes(guid), at + 16);
    dv.setBigUint64(at + 32, BigInt(firstLba), true);
    dv.setBigUint64(at + 40, BigInt(firstLba + sectors - 1), true);
    for (let i = 0; i < Math.min(name.length, 35); i++) dv.setUint16(at + 56 + 2 * i, name.charCodeAt(i), true);
  }
  const last = diskSectors - 1, backupLba = last - TABLE_SECTORS;
  const header = (own: number, other: number, table: number) => {
    const bytes = new Uint8Array(SECTOR);
    const dv = new DataView(bytes.buffer);
    bytes.set(new TextEncoder().encode("EFI PART"));
    dv.setUint32(8, 0x0001_0000, true); // revision 1.0
    dv.setUint32(12, HEADER_BYTES, true);
    dv.setBigUint64(24, BigInt(own), true);
    dv.setBigUint64(32, BigInt(other), true);
    dv.setBigUint64(40, BigInt(GPT_SECTORS), true); // first and last usable
    dv.setBigUint64(48, BigInt(backupLba - 1), true);
    bytes.set(guidBytes(diskGuid), 56);
    dv.setBigUint64(72, BigInt(table), true);
    dv.setUint32(80, ENTRIES, true);
    dv.setUint32(84, ENTRY_BYTES, true);
    dv.setUint32(88, crc32(entries), true);
    dv.setUint32(16, crc32(bytes.subarray(0, HEADER_BYTES)), true); // over the header with this field zero
    return bytes;
  };
  const start = new Uint8Array(GPT_SECTORS * SECTOR), end = new Uint8Array((TABLE_SECTORS + 1) * SECTOR);
  start.set(protectiveMbr(diskSectors));
  start.set(header(1, last, 2), SECTOR);
  start.set(entries, 2 * SECTOR);
  end.set(entries);
  end.set(header(last, 1, backupLba), TABLE_SECTORS * SECTOR);
  return { start, end, backupLba };
}

/** One partition of type EEh over all of the disk, so that who knows no GPT leaves it alone. */
function protectiveMbr(diskSectors: number): Uint8Array {
  const bytes = new Uint8Array(SECTOR);
  const dv = new DataView(bytes.buffer);
  bytes.set([0x00, 0x00, 0x02, 0x00, 0xee, 0xff, 0xff, 0xff], 446);
  dv.setUint32(454, 1, true);
  dv.setUint32(458, Math.min(diskSectors - 1, 0xffff_ffff), true);
  dv.setUint16(510, 0xaa55, true);
  return bytes;
}

/** A GUID's sixteen bytes: of its five fields the first three are little-endian [uefi A]. */
function guidBytes(text: string): Uint8Array {
  const bytes = Uint8Array.fromHex(text.replaceAll("-", ""));
  for (const [from, to] of [[0, 4], [4, 6], [6, 8]] as const) bytes.subarray(from, to).reverse();
  return bytes;
}
