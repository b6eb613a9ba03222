import { assertEquals } from "@std/assert";
import { buildAcpiTables } from "../../src/boot/acpi/acpi.ts";
import { buildLoaderBlobs, LOADER_FILES } from "../../src/boot/acpi/loader.ts";
import { BOARD } from "./board.ts";

const TABLES_AT = 0x7f000000;

/** Follows the script as firmware does: [fw-cfg] "etc/table-loader". `sum` decides what is done about a checksum. */
function load(sum: (bytes: Uint8Array, old: number) => number) {
  const { tables, rsdp, script } = buildLoaderBlobs({ ...BOARD, hpet: { base: 0xfed00000, id: 0x8086a201 } });
  const files = new Map([[LOADER_FILES.tables as string, tables.slice()], [LOADER_FILES.rsdp, rsdp.slice()]]);
  const at = new Map([[LOADER_FILES.tables as string, TABLES_AT], [LOADER_FILES.rsdp, TABLES_AT - 64]]);
  const allocated: string[] = [];
  for (let i = 0; i < script.length; i += 128) {
    const v = new DataView(script.buffer, script.byteOffset + i, 128);
    const name = (o: number) =>
      new TextDecoder().decode(new Uint8Array(v.buffer, v.byteOffset + o, 56)).replace(/\0.*/, "");
    switch (v.getUint32(0, true)) {
      case 1:
        allocated.push(`${name(4)} ${v.getUint32(60, true)} ${v.getUint8(64)}`);
        break;
      case 2: {
        const file = new DataView(files.get(name(4))!.buffer), where = v.getUint32(116, true);
        const address = at.get(name(60))!;
        if (v.getUint8(120) === 8) file.setBigUint64(where, file.getBigUint64(where, true) + BigInt(address), true);
        else file.setUint32(where, file.getUint32(where, true) + address, true);
        break;
      }
      case 3: {
        const file = files.get(name(4))!, result = v.getUint32(60, true), from = v.getUint32(64, true);
        file[result] = sum(file.subarray(from, from + v.getUint32(68, true)), file[result]!);
        break;
      }
    }
  }
  return { allocated, tables: files.get(LOADER_FILES.tables)!, rsdp: files.get(LOADER_FILES.rsdp)! };
}

const total = (bytes: Uint8Array) => bytes.reduce((a, b) => a + b, 0) & 0xff;

for (
  const [name, sum] of [
    ["takes the sum from what stands there", (bytes: Uint8Array, old: number) => old - total(bytes)],
    ["puts the sum's complement there", (bytes: Uint8Array) => -total(bytes)],
  ] as const
) {
  Deno.test(`ACPI loader: firmware that ${name} ends with the tables of that place`, () => {
    const { allocated, tables, rsdp } = load(sum);
    assertEquals(allocated, ["etc/acpi/tables 64 1", "etc/acpi/rsdp 16 2"]);
    // What a board without firmware gets, laid out for the same place: the RSDP comes 64 bytes before the others there.
    const whole = buildAcpiTables({ ...BOARD, hpet: { base: 0xfed00000, id: 0x8086a201 } }, TABLES_AT - 64);
    assertEquals(tables, whole.bytes.slice(64));
    assertEquals(rsdp, whole.bytes.slice(0, rsdp.length));
  });
}
