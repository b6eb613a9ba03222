/**
 * SMBIOS: what the machine is, for those who take stock.
 *
 * Spec: [smbios §5.2.1] the 32-bit entry point; [smbios §7] the structures, by type: 0 firmware, 1 system, 2 board, 3 chassis,
 * 4 processor, 16 memory array, 17 memory device, 19 mapped address, 32 boot status, 127 end.
 */
import { ascii, join, le } from "./acpi/aml.ts";

export interface SmbiosFacts {
  readonly cpus: number;
  readonly memoryBytes: number;
  /** Sixteen bytes, or all zeroes: not told. */
  readonly uuid: Uint8Array;
  /** The firmware is UEFI. */
  readonly uefi: boolean;
}

export interface Smbios {
  readonly anchor: Uint8Array;
  readonly table: Uint8Array;
}

/** A UUID as SMBIOS has it: the first three groups little-endian [smbios §7.2.1]; all zeroes if there is none. */
export function uuidBytes(text: string | undefined): Uint8Array {
  if (text === undefined) return new Uint8Array(16);
  const groups = text.split("-").map((group) => Uint8Array.fromHex(group));
  return join(...groups.map((group, i) => i < 3 ? group.toReversed() : group));
}

export const SMBIOS_ANCHOR_BYTES = 31;
const VERSION = [2, 8] as const;
const MAKER = "trike";
const RELEASE_DATE = "01/01/2025";
const HANDLE = {
  FIRMWARE: 0,
  SYSTEM: 0x100,
  BOARD: 0x200,
  CHASSIS: 0x300,
  CPU: 0x400,
  ARRAY: 0x1000,
  DIMM: 0x1100,
} as const;
const MAPPED = 0x1300, BOOT = 0x2000, END = 0x7f00;
/** "None" where a handle or a value of 16 bits is asked for. */
const NO_ERRORS = 0xfffe, NO_CACHE = 0xffff, OTHER = 1, UNKNOWN = 2, SAFE = 3;
const KIB = 1024, MIB = 1024 * 1024;

/** The entry point and the structures it leads to, which lie at `tableAt`. */
export function buildSmbios(facts: SmbiosFacts, tableAt: number): Smbios {
  const structures = all(facts);
  const table = join(...structures);
  const longest = Math.max(...structures.map((s) => s.length));
  const anchor = join(
    ascii("_SM_"),
    0, // checksum of all of it
    SMBIOS_ANCHOR_BYTES,
    VERSION,
    le(longest, 2),
    0,
    [0, 0, 0, 0, 0],
    ascii("_DMI_"),
    0, // checksum from here on
    le(table.length, 2),
    le(tableAt, 4),
    le(structures.length, 2),
    VERSION[0] << 4 | VERSION[1],
  );
  anchor[21] = complement(anchor.subarray(16));
  anchor[4] = complement(anchor);
  return { anchor, table };
}

const ANCHOR_ALIGNMENT = 16;

/** Entry point and structures together, to be put at `base`, a multiple of 16. */
export function placedSmbios(facts: SmbiosFacts, base: number): Uint8Array {
  const room = Math.ceil(SMBIOS_ANCHOR_BYTES / ANCHOR_ALIGNMENT) * ANCHOR_ALIGNMENT;
  const { anchor, table } = buildSmbios(facts, base + room);
  return join(anchor, new Uint8Array(room - anchor.length), table);
}

function complement(bytes: Uint8Array): number {
  return -bytes.reduce((sum, b) => sum + b, 0) & 0xff;
}

/** A structure: its formatted part after the header, then its strings, which the former counts from 1. */
function structure(type: number, handle: number, body: Uint8Array, strings: readonly string[] = []): Uint8Array {
  const text = strings.length === 0 ? [0, 0] : [...strings.flatMap((s) => [...ascii(s), 0]), 0];
  return join(type, 4 + body.length, le(handle, 2), body, text);
}

function all({ cpus, memoryBytes, uuid, uefi }: SmbiosFacts): Uint8Array[] {
  const NOT_SUPPORTED = 1 << 3; // in the firmware's characteristics
  const VIRTUAL_MACHINE = 1 << 4, TARGETED = 1 << 2, UEFI = 1 << 3; // in their second extension byte
  const firmware = join(
    [1, 2],
    le(0xe800, 2),
    3,
    0, // 64 KiB
    le(NOT_SUPPORTED, 8),
    [0, VIRTUAL_MACHINE | TARGETED | (uefi ? UEFI : 0)],
    [0, 1, 0xff, 0xff], // release 0.1, no embedded controller
  );
  const system = join([1, 2, 3, 0], uuid, [6, 0, 4]); // woken by the power switch
  const board = join([1, 2, 3, 0, 0, 1, 0], le(HANDLE.CHASSIS, 2), [0x0a, 0]); // hosting, a motherboard
  const chassis = join([1, OTHER, 2, 0, 0, SAFE, SAFE, SAFE, UNKNOWN], le(0, 4), [0, 0, 0, 0, 0]);
  const POPULATED_ENABLED = 0x41, CAPABLE_64BIT = 1 << 2;
  const cpu = join(
    [1, 3, OTHER, 2], // a central processor
    le(0, 8), // its identification is CPUID's to tell
    [3, 0], // no voltage
    le(0, 2),
    le(0, 2),
    le(0, 2),
    [POPULATED_ENABLED, OTHER],
    le(NO_CACHE, 2),
    le(NO_CACHE, 2),
    le(NO_CACHE, 2),
    [0, 0, 0],
    [Math.min(cpus, 0xff), Math.min(cpus, 0xff), Math.min(cpus, 0xff)],
    le(CAPABLE_64BIT, 2),
    le(OTHER, 2),
  );
  const SYSTEM_MEMORY = 3, NO_ECC = 3;
  const array = join([OTHER, SYSTEM_MEMORY, NO_ECC], le(memoryBytes / KIB, 4), le(NO_ERRORS, 2), le(1, 2), le(0, 8));
  const DIMM = 9, RAM = 7, WIDTH = 64;
  const dimm = join(
    le(HANDLE.ARRAY, 2),
    le(NO_ERRORS, 2),
    le(WIDTH, 2),
    le(WIDTH, 2),
    le(Math.ceil(memoryBytes / MIB), 2), // below 32 GiB, as all RAM here is
    [DIMM, 0, 1, 0, RAM],
    le(1 << 1, 2), // other
    le(0, 2),
    [2, 0, 0, 0, 0],
    le(0, 4),
    le(0, 2),
    le(0, 2),
    le(0, 2),
    le(0, 2),
  );
  const mapped = join(le(0, 4), le(Math.ceil(memoryBytes / KIB) - 1, 4), le(HANDLE.ARRAY, 2), 1, le(0, 8), le(0, 8));
  return [
    structure(0, HANDLE.FIRMWARE, firmware, [MAKER, "0.1", RELEASE_DATE]),
    structure(1, HANDLE.SYSTEM, system, [MAKER, "trike PC (Q35 + ICH9)", "0.1", "Virtual Machine"]),
    structure(2, HANDLE.BOARD, board, [MAKER, "trike PC", "0.1"]),
    structure(3, HANDLE.CHASSIS, chassis, [MAKER, "0.1"]),
    structure(4, HANDLE.CPU, cpu, ["CPU 0", MAKER, "virtual"]),
    structure(16, HANDLE.ARRAY, array),
    structure(17, HANDLE.DIMM, dimm, ["DIMM 0", MAKER]),
    structure(19, MAPPED, mapped),
    structure(32, BOOT, new Uint8Array(7)),
    structure(127, END, new Uint8Array()),
  ];
}
