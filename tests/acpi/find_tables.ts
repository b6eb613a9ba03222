import { HEADER_BYTES } from "../../src/boot/acpi/tables.ts";

/** The tables in `bytes` by signature: what an operating system sees that starts at the RSDP. */
export function findTables(bytes: Uint8Array, physicalBase: number): Map<string, Uint8Array> {
  const dv = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found = new Map<string, Uint8Array>();
  const add = (at: number) => {
    const from = at - physicalBase;
    const signature = String.fromCharCode(...bytes.subarray(from, from + 4));
    found.set(signature, bytes.subarray(from, from + dv.getUint32(from + 4, true)));
    return from;
  };
  const xsdtFrom = add(dv.getUint32(24, true));
  const count = (dv.getUint32(xsdtFrom + 4, true) - HEADER_BYTES) / 8;
  for (let i = 0; i < count; i++) {
    const from = add(dv.getUint32(xsdtFrom + HEADER_BYTES + 8 * i, true));
    if (found.has("FACP") && !found.has("DSDT")) {
      add(dv.getUint32(from + 36, true));
      add(dv.getUint32(from + 40, true));
    }
  }
  return found;
}
