/**
 * The ACPI tables as firmware takes them: blobs whose pointers are offsets, and a script that says where to put them, which
 * words to make addresses, and which checksums to mend.
 *
 * Spec: [fw-cfg] "etc/table-loader": the commands ALLOCATE, ADD_POINTER and ADD_CHECKSUM, of 128 bytes each.
 */
import { layOutTables } from "./acpi.ts";
import { ascii, join, le } from "./aml.ts";
import type { BoardDescription } from "./board.ts";
import { rsdp, RSDP_BYTES } from "./tables.ts";

export const LOADER_FILES = {
  tables: "etc/acpi/tables",
  rsdp: "etc/acpi/rsdp",
  script: "etc/table-loader",
} as const;

const COMMAND = { ALLOCATE: 1, ADD_POINTER: 2, ADD_CHECKSUM: 3 } as const;
const COMMAND_BYTES = 128;
const NAME_BYTES = 56;
const ZONE = { HIGH: 1, FSEG: 2 } as const;
/** Of the FACS, which wants the most. */
const TABLE_ALIGNMENT = 64;
const RSDP_ALIGNMENT = 16;
/** In a table's header and, twice, in the RSDP: the second checksum is of all of it. [acpi §5.2.6, §5.2.5.3] */
const CHECKSUM_AT = 9;
const RSDP_AT = { CHECKSUM: 8, RSDT: 16, XSDT: 24, EXTENDED_CHECKSUM: 32 } as const;
const RSDP_V1_BYTES = 20;

export interface LoaderBlobs {
  readonly tables: Uint8Array;
  readonly rsdp: Uint8Array;
  readonly script: Uint8Array;
}

export function buildLoaderBlobs(board: BoardDescription): LoaderBlobs {
  const set = layOutTables(board, 0);
  const { tables, rsdp: root } = LOADER_FILES;
  const script = [
    allocate(tables, TABLE_ALIGNMENT, ZONE.HIGH),
    allocate(root, RSDP_ALIGNMENT, ZONE.FSEG),
    ...set.tables.flatMap((t) => t.pointers.map((p) => addPointer(tables, tables, t.at + p.at, p.sizeBytes))),
    ...set.tables.filter((t) => t.checksummed).map((t) => addChecksum(tables, t.at + CHECKSUM_AT, t.at, t.sizeBytes)),
    addPointer(root, tables, RSDP_AT.RSDT, 4),
    addPointer(root, tables, RSDP_AT.XSDT, 8),
    addChecksum(root, RSDP_AT.CHECKSUM, 0, RSDP_V1_BYTES),
    addChecksum(root, RSDP_AT.EXTENDED_CHECKSUM, 0, RSDP_BYTES),
  ];
  // Some firmware takes what stands in a checksum's place for a part of the sum: zero suits everybody.
  const blob = set.bytes.slice(), pointer = rsdp(set.rsdtAt, set.xsdtAt);
  for (const t of set.tables) if (t.checksummed) blob[t.at + CHECKSUM_AT] = 0;
  pointer[RSDP_AT.CHECKSUM] = pointer[RSDP_AT.EXTENDED_CHECKSUM] = 0;
  return { tables: blob, rsdp: pointer, script: join(...script) };
}

function command(...parts: readonly (number | Uint8Array)[]): Uint8Array {
  const bytes = new Uint8Array(COMMAND_BYTES);
  bytes.set(join(...parts));
  return bytes;
}

function file(name: string): Uint8Array {
  const bytes = new Uint8Array(NAME_BYTES);
  bytes.set(ascii(name));
  return bytes;
}

function allocate(name: string, alignment: number, zone: number): Uint8Array {
  return command(le(COMMAND.ALLOCATE, 4), file(name), le(alignment, 4), zone);
}

/** The word at `at` of file `into` becomes an address: that of file `of` is added to it. */
function addPointer(into: string, of: string, at: number, sizeBytes: 4 | 8): Uint8Array {
  return command(le(COMMAND.ADD_POINTER, 4), file(into), file(of), le(at, 4), sizeBytes);
}

function addChecksum(name: string, at: number, from: number, sizeBytes: number): Uint8Array {
  return command(le(COMMAND.ADD_CHECKSUM, 4), file(name), le(at, 4), le(from, 4), le(sizeBytes, 4));
}
