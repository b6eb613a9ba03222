import { assertEquals, assertMatch } from "@std/assert";
import { buildSmbios, SMBIOS_ANCHOR_BYTES, uuidBytes } from "../../src/boot/smbios.ts";
import { which } from "../guest/which.ts";

const FACTS = {
  cpus: 3,
  memoryBytes: 768 * 2 ** 20,
  uuid: Uint8Array.from({ length: 16 }, (_, i) => i + 1),
  uefi: false,
};
const AT = 0x20;
const dmidecode = which("dmidecode");
if (!dmidecode) console.log("skipped: SMBIOS as dmidecode reads it: the package dmidecode is not installed");

const sum = (bytes: Uint8Array) => bytes.reduce((a, b) => a + b, 0) & 0xff;

Deno.test("SMBIOS: both checksums of the entry point are right, and it tells the table's length and count", () => {
  const { anchor, table } = buildSmbios(FACTS, 0xf0000);
  const view = new DataView(anchor.buffer, anchor.byteOffset);
  assertEquals([anchor.length, sum(anchor), sum(anchor.subarray(16))], [SMBIOS_ANCHOR_BYTES, 0, 0]);
  assertEquals([view.getUint16(0x16, true), view.getUint32(0x18, true)], [table.length, 0xf0000]);
  // Walk it as a reader does: header, then strings to two zeroes.
  const types: number[] = [];
  for (let at = 0; at < table.length;) {
    types.push(table[at]!);
    at += table[at + 1]!;
    while (table[at] !== 0 || table[at + 1] !== 0) at++;
    at += 2;
  }
  assertEquals(types, [0, 1, 2, 3, 4, 16, 17, 19, 32, 127]);
  assertEquals(view.getUint16(0x1c, true), types.length);
});

Deno.test("a UUID is laid out as the specification's example is", () => {
  // [smbios §7.2.1]: "00112233-4455-6677-8899-AABBCCDDEEFF".
  const bytes = uuidBytes("00112233-4455-6677-8899-aabbccddeeff");
  assertEquals(bytes.toHex(), "33221100554477668899aabbccddeeff");
  assertEquals(uuidBytes(undefined), new Uint8Array(16));
});

Deno.test({
  name: "SMBIOS: dmidecode reads every structure without complaint",
  ignore: !dmidecode,
  fn: async () => {
    const { anchor, table } = buildSmbios(FACTS, AT);
    const file = await Deno.makeTempFile();
    try {
      const dump = new Uint8Array(AT + table.length);
      dump.set(anchor);
      dump.set(table, AT);
      await Deno.writeFile(file, dump);
      const { stdout, stderr, code } = await new Deno.Command(dmidecode!, { args: ["--from-dump", file] }).output();
      const text = new TextDecoder().decode(stdout);
      assertEquals([code, new TextDecoder().decode(stderr)], [0, ""]);
      for (
        const line of [
          /SMBIOS 2\.8 present/,
          /Vendor: trike/,
          /System is a virtual machine/,
          /Product Name: trike PC \(Q35 \+ ICH9\)/,
          /UUID: 04030201-0605-0807-090a-0b0c0d0e0f10/,
          /Type: Motherboard/,
          /Core Count: 3/,
          /64-bit capable/,
          /Maximum Capacity: 768 MB/,
          /\tSize: 768 MB/,
          /Form Factor: DIMM/,
          /Starting Address: 0x00000000000/,
          /Ending Address: 0x0002FFFFFFF/,
          /Status: No errors detected/,
          /End Of Table/,
        ]
      ) assertMatch(text, line);
      assertEquals(/<BAD|<OUT OF SPEC>|[Ww]rong|[Bb]roken/.exec(text), null);
    } finally {
      await Deno.remove(file);
    }
  },
});
