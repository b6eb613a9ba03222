/** All ACPI tables of a board, laid out for one place in guest memory. */
import { Bug } from "../../base/errors.ts";
import type { BoardDescription } from "./board.ts";
import { dsdt } from "./dsdt.ts";
import { facs, fadt, HEADER_BYTES, hpet, madt, mcfg, rsdp, rsdt, table, xsdt } from "./tables.ts";

/** The FACS wants 64, everything else less. [acpi §5.2.10] */
const ALIGNMENT = 64;

export interface AcpiTables {
  /** Belongs at the physical base asked for, in memory that the guest does not take for free. */
  readonly bytes: Uint8Array;
  /** The physical address of the RSDP: the base itself, so that a scan for it may find it. */
  readonly rsdp: number;
}

/** Where a table is among the others, and what in it are addresses. */
export interface PlacedTable {
  /** From the first byte of all. */
  readonly at: number;
  readonly sizeBytes: number;
  /** The FACS has none. */
  readonly checksummed: boolean;
  /** Addresses of other tables: where in this one, and of how many bytes. */
  readonly pointers: readonly { readonly at: number; readonly sizeBytes: 4 | 8 }[];
}

/** The tables but for the RSDP, and where in them the root tables are. */
export interface TableSet {
  readonly bytes: Uint8Array;
  readonly tables: readonly PlacedTable[];
  readonly rsdtAt: number;
  readonly xsdtAt: number;
}

/** [acpi §5.2.9] FIRMWARE_CTRL, DSDT, X_DSDT */
const FADT_POINTERS = [{ at: 36, sizeBytes: 4 }, { at: 40, sizeBytes: 4 }, { at: 140, sizeBytes: 8 }] as const;

/** Lays the tables out from `base` on, a multiple of 64. */
export function layOutTables(board: BoardDescription, base: number): TableSet {
  if (base % ALIGNMENT !== 0) throw new Bug(`ACPI tables cannot start at ${base}`);
  const placed: { at: number; bytes: Uint8Array }[] = [], tables: PlacedTable[] = [];
  let next = base;
  const place = (bytes: Uint8Array, pointers: PlacedTable["pointers"] = [], checksummed = true) => {
    const at = Math.ceil(next / ALIGNMENT) * ALIGNMENT;
    next = at + bytes.length;
    placed.push({ at, bytes });
    tables.push({ at: at - base, sizeBytes: bytes.length, checksummed, pointers });
    return at;
  };
  const facsAt = place(facs(), [], false);
  const dsdtAt = place(table("DSDT", 2, dsdt(board)));
  const named = [
    place(fadt(board, facsAt, dsdtAt), FADT_POINTERS),
    place(madt(board)),
    place(mcfg(board)),
    ...(board.hpet ? [place(hpet(board.hpet))] : []),
  ];
  const entries = (sizeBytes: 4 | 8) => named.map((_, i) => ({ at: HEADER_BYTES + i * sizeBytes, sizeBytes }));
  const rsdtAt = place(rsdt(named), entries(4));
  const xsdtAt = place(xsdt(named), entries(8));
  const bytes = new Uint8Array(next - base);
  for (const p of placed) bytes.set(p.bytes, p.at - base);
  return { bytes, tables, rsdtAt: rsdtAt - base, xsdtAt: xsdtAt - base };
}

export function buildAcpiTables(board: BoardDescription, physicalBase: number): AcpiTables {
  const tablesAt = physicalBase + ALIGNMENT;
  const set = layOutTables(board, tablesAt);
  const bytes = new Uint8Array(ALIGNMENT + set.bytes.length);
  bytes.set(rsdp(tablesAt + set.rsdtAt, tablesAt + set.xsdtAt));
  bytes.set(set.bytes, ALIGNMENT);
  return { bytes, rsdp: physicalBase };
}
