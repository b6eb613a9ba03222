/** All ACPI tables of a board, laid out for one place in guest memory. */
import { Bug } from "../../base/errors.ts";
import type { BoardDescription } from "./board.ts";
import { dsdt } from "./dsdt.ts";
import { facs, fadt, madt, mcfg, rsdp, RSDP_BYTES, rsdt, table, xsdt } from "./tables.ts";

/** The FACS wants 64, everything else less. [acpi §5.2.10] */
const ALIGNMENT = 64;

export interface AcpiTables {
  /** Belongs at the physical base asked for, in memory that the guest does not take for free. */
  readonly bytes: Uint8Array;
  /** The physical address of the RSDP: the base itself, so that a scan for it may find it. */
  readonly rsdp: number;
}

export function buildAcpiTables(board: BoardDescription, physicalBase: number): AcpiTables {
  if (physicalBase % ALIGNMENT !== 0) throw new Bug(`ACPI tables cannot start at ${physicalBase}`);
  const placed: { at: number; bytes: Uint8Array }[] = [];
  let next = physicalBase + RSDP_BYTES;
  const place = (bytes: Uint8Array) => {
    const at = Math.ceil(next / ALIGNMENT) * ALIGNMENT;
    next = at + bytes.length;
    placed.push({ at, bytes });
    return at;
  };
  const facsAt = place(facs());
  const dsdtAt = place(table("DSDT", 2, dsdt(board)));
  const tables = [fadt(board, facsAt, dsdtAt), madt(board), mcfg(board)].map(place);
  const rsdtAt = place(rsdt(tables));
  const xsdtAt = place(xsdt(tables));
  placed.push({ at: physicalBase, bytes: rsdp(rsdtAt, xsdtAt) });
  const bytes = new Uint8Array(next - physicalBase);
  for (const p of placed) bytes.set(p.bytes, p.at - physicalBase);
  return { bytes, rsdp: physicalBase };
}
