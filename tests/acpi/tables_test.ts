import { assertEquals, assertThrows } from "@std/assert";
import { Bug } from "../../src/base/errors.ts";
import { buildAcpiTables } from "../../src/boot/acpi/acpi.ts";
import { HEADER_BYTES } from "../../src/boot/acpi/tables.ts";
import { BARE, BOARD } from "./board.ts";
import { findTables } from "./find_tables.ts";

const BASE = 0xe0000;
const sum = (bytes: Uint8Array) => bytes.reduce((a, b) => (a + b) & 0xff, 0);
const view = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
const text = (bytes: Uint8Array, from: number, to: number) => String.fromCharCode(...bytes.subarray(from, to));

Deno.test("the RSDP stands at the base, with both its checksums right [acpi §5.2.5.3]", () => {
  const { bytes, rsdp } = buildAcpiTables(BOARD, BASE);
  assertEquals(rsdp, BASE);
  assertEquals(text(bytes, 0, 8), "RSD PTR ");
  assertEquals(bytes[15], 2);
  assertEquals([sum(bytes.subarray(0, 20)), sum(bytes.subarray(0, 36))], [0, 0]);
  assertEquals(view(bytes).getUint32(20, true), 36);
});

Deno.test("XSDT and RSDT lead to the same tables, all whole and with right checksums", () => {
  for (const board of [BOARD, BARE]) {
    const { bytes } = buildAcpiTables(board, BASE);
    const found = findTables(bytes, BASE);
    assertEquals([...found.keys()].toSorted(), ["APIC", "DSDT", "FACP", "FACS", "MCFG", "XSDT"]);
    for (const [signature, t] of found) {
      if (signature !== "FACS") assertEquals(sum(t), 0, signature);
      assertEquals(view(t).getUint32(4, true), t.length, signature);
    }
    const rsdt = bytes.subarray(view(bytes).getUint32(16, true) - BASE);
    const xsdt = found.get("XSDT")!;
    const entries = (xsdt.length - HEADER_BYTES) / 8;
    assertEquals(text(rsdt, 0, 4), "RSDT");
    assertEquals(view(rsdt).getUint32(4, true), HEADER_BYTES + 4 * entries);
    assertEquals(sum(rsdt.subarray(0, HEADER_BYTES + 4 * entries)), 0);
    for (let i = 0; i < entries; i++) {
      assertEquals(
        BigInt(view(rsdt).getUint32(HEADER_BYTES + 4 * i, true)),
        view(xsdt).getBigUint64(HEADER_BYTES + 8 * i, true),
      );
    }
  }
});

Deno.test("the FADT names one FACS, on 64 bytes, and one DSDT twice [acpi §5.2.9]", () => {
  const fadt = view(findTables(buildAcpiTables(BOARD, BASE).bytes, BASE).get("FACP")!);
  assertEquals(fadt.byteLength, 276);
  assertEquals(fadt.getUint32(36, true) % 64, 0);
  assertEquals(fadt.getBigUint64(132, true), 0n);
  assertEquals(fadt.getBigUint64(140, true), BigInt(fadt.getUint32(40, true)));
});

Deno.test("a bare board says what it lacks", () => {
  const tables = findTables(buildAcpiTables(BARE, BASE).bytes, BASE);
  const fadt = view(tables.get("FACP")!);
  assertEquals(fadt.getUint16(109, true) & ((1 << 1) | (1 << 5)), 1 << 5); // no 8042, no CMOS RTC
  assertEquals(view(tables.get("APIC")!).getUint32(40, true), 0); // no 8259A pair
});

Deno.test("every PCI pin of 32 devices has a route, to the interrupt the board says [acpi §6.2.13]", () => {
  const dsdt = findTables(buildAcpiTables(BOARD, BASE).bytes, BASE).get("DSDT")!;
  const at = text(dsdt, 0, dsdt.length).indexOf("_PRT") + 4;
  // DefPackage: opcode, two bytes of length, 128 elements; each a package of four integers.
  let p = at;
  const next = () => dsdt[p++]!;
  const int = () => {
    const op = next();
    const size = [1, 2, 4][op - 0x0a];
    if (size === undefined) return op; // Zero, One
    let value = 0;
    for (let i = 0; i < size; i++) value += next() * 256 ** i;
    return value;
  };
  assertEquals([next(), next() >> 6, (next(), next())], [0x12, 1, 128]);
  for (let device = 0; device < 32; device++) {
    for (let pin = 0; pin < 4; pin++) {
      assertEquals([next(), next() >> 6, next()], [0x12, 0, 4]);
      assertEquals([int(), int(), int(), int()], [device * 65536 + 65535, pin, 0, 16 + (device + pin) % 8]);
    }
  }
});

Deno.test("the tables go where they are asked to, on a multiple of 64", () => {
  for (const base of [0, 0xf0000, 0x7ffe0000]) assertEquals(buildAcpiTables(BOARD, base).rsdp, base);
  assertThrows(() => buildAcpiTables(BOARD, 0xe0010), Bug);
});
