import { assert, assertEquals, assertMatch, assertNotMatch } from "@std/assert";
import { buildAcpiTables } from "../../src/boot/acpi/acpi.ts";
import { HEADER_BYTES, table } from "../../src/boot/acpi/tables.ts";
import * as aml from "../../src/boot/acpi/aml.ts";
import * as r from "../../src/boot/acpi/resources.ts";
import { BARE, BOARD } from "./board.ts";
import { findTables } from "./find_tables.ts";
import { compile, disassemble, iaslTest, withoutComments } from "./iasl.ts";

const BASE = 0xe0000;
const GOLDEN = new URL("./dsdt.golden.dsl", import.meta.url);

function tablesOf(board: typeof BOARD) {
  return findTables(buildAcpiTables(board, BASE).bytes, BASE);
}

iaslTest("iasl disassembles every table without a warning", (dir) => {
  for (const board of [BOARD, BARE]) {
    for (const [signature, bytes] of tablesOf(board)) {
      const { says, text } = disassemble(dir, bytes);
      assertNotMatch(says, /warning|error|invalid|incorrect/i, signature);
      assertNotMatch(text, /warning|\berror\b(?! )|invalid|incorrect|unknown/i, signature);
    }
  }
});

iaslTest("the disassembled DSDT is the golden text", (dir) => {
  const text = withoutComments(disassemble(dir, tablesOf(BOARD).get("DSDT")!).text);
  if (Deno.args.includes("--accept")) Deno.writeTextFileSync(GOLDEN, text);
  assertEquals(text, Deno.readTextFileSync(GOLDEN));
});

iaslTest("iasl compiles the disassembled DSDT back into the same AML, with nothing to remark", (dir) => {
  for (const board of [BOARD, BARE]) {
    const ours = tablesOf(board).get("DSDT")!;
    const { says, table } = compile(dir, disassemble(dir, ours).text);
    assertMatch(says, /0 Errors, 0 Warnings, 0 Remarks/);
    assertEquals(dump(table.subarray(HEADER_BYTES)), dump(ours.subarray(HEADER_BYTES)));
  }
});

/** Sixteen bytes a line. */
function dump(bytes: Uint8Array): string[] {
  return [...bytes.toHex().matchAll(/.{1,32}/g)].map((m) => m[0]);
}

/** The value iasl prints after `label`, in each place. */
function values(text: string, label: string): string[] {
  return [...text.matchAll(new RegExp(`^(?:\\[.*?\\])? *${label} : (.*)`, "gm"))].map((m) => m[1]!.trim());
}

iaslTest("the FADT says what the board has", (dir) => {
  const { text } = disassemble(dir, tablesOf(BOARD).get("FACP")!);
  const one = (label: string) => {
    const found = values(text, label);
    assert(found.length > 0, label);
    return found[0];
  };
  assertEquals(one("SCI Interrupt"), "0009");
  assertEquals(one("SMI Command Port"), "000000B2");
  assertEquals([one("ACPI Enable Value"), one("ACPI Disable Value")], ["F1", "F0"]);
  assertEquals(one("PM1A Event Block Address"), "00000600");
  assertEquals(one("PM1A Control Block Address"), "00000604");
  assertEquals(one("PM Timer Block Address"), "00000608");
  assertEquals(one("Value to cause reset"), "06");
  assertEquals(one("RTC Century Index"), "32");
  assertEquals(values(text, "Address"), [
    "0000000000000CF9",
    "0000000000000600",
    "0000000000000000",
    "0000000000000604",
    ...Array(2).fill("0000000000000000"),
    "0000000000000608",
    ...Array(4).fill("0000000000000000"),
  ]);
  for (
    const flag of [
      "Legacy Devices Supported \\(V2\\)",
      "8042 Present on ports 60/64 \\(V2\\)",
      "VGA Not Present \\(V4\\)",
      "Reset Register Supported \\(V2\\)",
      "Control Method Sleep Button \\(V1\\)",
    ]
  ) assertEquals(one(flag), "1");
  for (
    const flag of [
      "Control Method Power Button \\(V1\\)",
      "Hardware Reduced \\(V5\\)",
      "32-bit PM Timer \\(V1\\)",
      "CMOS RTC Not Present \\(V5\\)",
    ]
  ) assertEquals(one(flag), "0");
});

iaslTest("the MADT lists processors, the I/O APIC, the overrides and the NMI", (dir) => {
  const { text } = disassemble(dir, tablesOf(BOARD).get("APIC")!);
  assertEquals(values(text, "Local Apic ID"), ["00", "01", "02"]);
  assertEquals(values(text, "Processor ID"), ["00", "01", "02", "FF"]);
  assertEquals(values(text, "Local Apic Address"), ["FEE00000"]);
  assertEquals(values(text, "Address"), ["FEC00000"]);
  assertEquals(values(text, "Source"), ["00", "09"]);
  assertEquals(values(text, "Interrupt"), ["00000000", "00000002", "00000009"]); // the first: the I/O APIC's base
  assertEquals(values(text, "Polarity"), ["0", "1", "0"]);
  assertEquals(values(text, "Trigger Mode"), ["0", "3", "0"]);
  assertEquals(values(text, "Interrupt Input LINT"), ["01"]);
  assertEquals(values(text, "PC-AT Compatibility"), ["1"]);
});

iaslTest("processors past ID 254 get x2APIC entries", (dir) => {
  const { text, says } = disassemble(dir, tablesOf({ ...BOARD, cpus: 257 }).get("APIC")!);
  assertNotMatch(says, /warning|error/i);
  assertEquals(values(text, "Processor x2Apic ID"), ["000000FF", "00000100"]);
  assertEquals(values(text, "Local Apic ID").length, 255);
  assertEquals(values(text, "Interrupt Input LINT"), ["01", "01"]);
});

iaslTest("the MCFG covers bus 0 to 255 at the ECAM", (dir) => {
  const { text } = disassemble(dir, tablesOf(BOARD).get("MCFG")!);
  assertEquals(values(text, "Base Address"), ["00000000E0000000"]);
  assertEquals([values(text, "Start Bus Number"), values(text, "End Bus Number")], [["00"], ["FF"]]);
});

iaslTest("every term and descriptor of the builders is what iasl makes of its ASL", (dir) => {
  const level = { level: true, activeLow: true, shared: true },
    edge = { level: false, activeLow: false, shared: false };
  const pairs: readonly (readonly [string, aml.Aml])[] = [
    ["Name (A, 0)", aml.name("A", aml.integer(0))],
    ["Name (B, 1)", aml.name("B", aml.integer(1))],
    ["Name (C, 0xFF)", aml.name("C", aml.integer(0xff))],
    ["Name (D, 0x1234)", aml.name("D", aml.integer(0x1234))],
    ["Name (E, 0x12345678)", aml.name("E", aml.integer(0x12345678))],
    ["Name (F, 0x1000000000)", aml.name("F", aml.integer(0x1000000000))],
    ['Name (G, "text")', aml.name("G", aml.string("text"))],
    ["Name (\\H, Package () { 2, Package () {} })", aml.name("\\H", aml.pkg(aml.integer(2), aml.pkg()))],
    [
      "Scope (\\_SB) { Device (X) { Name (_ADR, 3) Name (Y, 2) } }",
      aml.scope(
        "\\_SB",
        aml.device("X", aml.name("_ADR", aml.integer(3)), aml.name("Y", aml.integer(2))),
      ),
    ],
    ["Name (\\_SB.X.Z, 2)", aml.name("\\_SB.X.Z", aml.integer(2))],
    ["Name (\\_SB.Z, 2)", aml.name("\\_SB.Z", aml.integer(2))],
    ['Name (I, EisaId ("PNP0A08"))', aml.name("I", aml.eisaId("PNP0A08"))],
    [
      'Name (J, ToUUID ("33DB4D5B-1FF7-401C-9657-7441C03DD766"))',
      aml.name("J", aml.uuid("33DB4D5B-1FF7-401C-9657-7441C03DD766")),
    ],
    [
      "Method (K, 2, Serialized) { CreateDWordField (Arg0, 4, L) If (!(Arg1 == 2)) { L = (L & 6) } Else { L = (L | 6) } Return (Arg0) }",
      aml.method(
        "K",
        2,
        aml.createDWordField(aml.arg(0), 4, "L"),
        aml.when(
          aml.not(aml.equal(aml.arg(1), aml.integer(2))),
          aml.and(aml.path("L"), aml.integer(6), aml.path("L")),
        ),
        aml.otherwise(aml.or(aml.path("L"), aml.integer(6), aml.path("L"))),
        aml.ret(aml.arg(0)),
      ),
    ],
    [
      `Name (M, Buffer (300) { ${Array(300).fill("7").join(",")} })`,
      aml.name("M", aml.buffer(new Uint8Array(300).fill(7))),
    ],
    [
      `Name (N, ResourceTemplate () {
         IO (Decode16, 0x3F8, 0x3F8, 1, 8)
         IRQNoFlags () { 4, 12 }
         IRQ (Level, ActiveLow, Shared) { 9 }
         IRQ (Edge, ActiveHigh, Exclusive) { 5 }
         Interrupt (ResourceConsumer, Level, ActiveLow, Shared) { 16, 23 }
         Interrupt (ResourceConsumer, Edge, ActiveHigh, Exclusive) { 40 }
         Memory32Fixed (ReadWrite, 0xE0000000, 0x10000000)
         Memory32Fixed (ReadOnly, 0xFED00000, 0x400)
         WordBusNumber (ResourceProducer, MinFixed, MaxFixed, PosDecode, 0, 0, 0xFF, 0, 0x100)
         WordIO (ResourceProducer, MinFixed, MaxFixed, PosDecode, EntireRange, 0, 0xD00, 0xFFFF, 0, 0xF300)
         DWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, 0, 0xC0000000, 0xDFFFFFFF, 0, 0x20000000)
         QWordMemory (ResourceProducer, PosDecode, MinFixed, MaxFixed, NonCacheable, ReadWrite, 0, 0x8000000000, 0x8FFFFFFFFF, 0, 0x1000000000)
       })`,
      aml.name(
        "N",
        r.resourceTemplate(
          r.io(0x3f8, 8),
          r.irqNoFlags(4, 12),
          r.irq(level, 9),
          r.irq(edge, 5),
          r.interrupt(level, 16, 23),
          r.interrupt(edge, 40),
          r.memory32Fixed(0xe0000000, 0x10000000, true),
          r.memory32Fixed(0xfed00000, 0x400, false),
          r.wordBusNumber(0, 256),
          r.wordIo(0xd00, 0xf300),
          r.dwordMemory(0xc0000000, 0x20000000),
          r.qwordMemory(0x8000000000, 0x1000000000),
        ),
      ),
    ],
  ];
  const source = `DefinitionBlock ("", "DSDT", 2, "TRIKE ", "TRIKEPC ", 1) { ${pairs.map((p) => p[0]).join("\n")} }`;
  const theirs = compile(dir, source).table.subarray(HEADER_BYTES);
  const ours = table("DSDT", 2, aml.join(...pairs.map((p) => p[1]))).subarray(HEADER_BYTES);
  assertEquals(dump(ours), dump(theirs));
});
