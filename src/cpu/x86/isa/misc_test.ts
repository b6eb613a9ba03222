import { assertEquals } from "@std/assert";
import { CF, CR0, DS } from "../state.ts";
import { CPU, RAM } from "../system/fixture.ts";
import { defineMisc, ROWS as MISC } from "./misc.ts";
import { defineRandom, ROWS as RANDOM } from "./random.ts";
import { rowFixture } from "./rows_fixture.ts";

const RAM_BYTES = 64n * 4096n;
const fix = rowFixture(
  [...MISC, ...RANDOM, { op: "00", name: "READ", sem: (o) => o.st32("misc", o.rflags()) }],
  (m, f, imports) => {
    defineMisc(m, f, imports);
    defineRandom(m, f, imports);
  },
  [],
  {
    cpuid: () => {
      // The low halves only: what the upper ones become is the instruction's business.
      for (const n of [0, 1, 2, 3]) fix.view.setUint32(CPU + 8 * n, 0x8000_0000 + n, true);
    },
    random: () => fix.set64("answer", 0x0123_4567_89ab_cdefn),
  },
);

Deno.test("CPUID clears the upper halves of its registers", () => {
  for (const n of [0, 1, 2, 3]) fix.setReg(n, -1);
  assertEquals(fix.outcome(fix.run("0F A2 CPUID.32r")), "next");
  assertEquals([0, 1, 2, 3].map((n) => fix.reg(n)), [0n, 1n, 2n, 3n].map((n) => 0x8000_0000n + n));
});

Deno.test("RDRAND and RDSEED set CF alone, and their register at its width", () => {
  for (const row of ["0F C7 /6 RDRAND", "0F C7 /7 RDSEED"]) {
    for (
      const [size, value] of [
        ["16r", 0xffff_ffff_ffff_cdefn],
        ["32r", 0x89ab_cdefn],
        ["64r", 0x0123_4567_89ab_cdefn],
      ] as const
    ) {
      fix.set("fKind", 1), fix.set64("fB", 0x8d5), fix.set64("fRes", 0);
      fix.setReg(3, -1);
      assertEquals(fix.outcome(fix.run(`${row}.${size}`, { d: 24 })), "next");
      assertEquals(fix.reg(3), value);
      fix.run("00 READ.32r");
      assertEquals(fix.get("misc") & 0x8d5, CF);
    }
  }
});

Deno.test("hints and fences do nothing, whatever their address", () => {
  const hints = MISC.filter((r) => r.name === "NOP" || r.name === "PAUSE" || r.name.endsWith("FENCE"));
  assertEquals(hints.length, 13);
  const before = new Uint8Array(fix.view.buffer, CPU, 0x800).slice();
  for (const r of hints) {
    const name = `${r.op.replace(" /r", "")} ${r.name}.32r`;
    assertEquals(fix.outcome(fix.run(name, {}, 0x8000_0000_0000_0000n)), "next", name);
  }
  assertEquals(new Uint8Array(fix.view.buffer, CPU, 0x800), before);
});

Deno.test("cache line instructions need a readable line, and change no byte", () => {
  fix.set64("cr0", CR0.PE);
  fix.call("updateMode");
  fix.view.setUint32(RAM + 0x5000, 0x12345678, true);
  for (const name of ["NP 0F AE /7 CLFLUSH", "66 0F AE /7 CLFLUSHOPT", "66 0F AE /6 CLWB"]) {
    assertEquals(fix.outcome(fix.run(`${name}.8m`, { b: DS }, 0x5000n)), "next");
    assertEquals(fix.view.getUint32(RAM + 0x5000, true), 0x12345678);
  }
  // With paging on and an empty page directory nothing is mapped.
  fix.set64("cr0", (CR0.PE | CR0.PG) >>> 0), fix.set64("cr3", RAM_BYTES);
  fix.call("flushTlb");
  for (const name of ["NP 0F AE /7 CLFLUSH", "66 0F AE /7 CLFLUSHOPT", "66 0F AE /6 CLWB"]) {
    assertEquals(fix.outcome(fix.run(`${name}.8m`, { b: DS }, 0x5000n)), "#14(0)");
    assertEquals(fix.get64("cr2"), 0x5000n);
  }
  fix.set64("cr0", CR0.PE);
});

Deno.test("UD0, UD1 and UD2 are undefined for good", () => {
  for (const name of ["0F 0B UD2", "0F B9 UD1", "0F FF UD0"]) assertEquals(fix.outcome(fix.run(`${name}.32r`)), "#6");
});
