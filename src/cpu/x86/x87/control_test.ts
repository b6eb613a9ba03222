import { assertEquals } from "@std/assert";
import { DecodeTable } from "../decode_table.ts";
import { ROWS } from "../isa/x87.ts";
import { CPU } from "../system/fixture.ts";
import { CR0, EXC, S } from "../state.ts";
import { x87Fixture, type X87State } from "./fixture.ts";

const fix = x87Fixture();
const ONE = { sig: 1n << 63n, se: 0x3fff };
const fresh = (): X87State => ({ fcw: 0x37f, fsw: 0, top: 0, regs: new Array(8).fill(undefined) });
const words = (n: number) => Array.from({ length: n }, (_, i) => fix.operand.getUint16(2 * i, true));
const dwords = (n: number) => Array.from({ length: n }, (_, i) => fix.operand.getUint32(4 * i, true));

Deno.test("FNINIT gives the default control word and an empty stack", () => {
  fix.load({ fcw: 0x1f40, fsw: 0x47ff, top: 3, regs: new Array(8).fill(ONE) });
  assertEquals(fix.run("DB E3"), 0);
  assertEquals(fix.state(), fresh());
});

Deno.test("FLDCW keeps bit 6 set and reserved bits clear, FNSTCW shows it", () => {
  fix.load(fresh());
  fix.operand.setUint16(0, 0xff80, true);
  assertEquals(fix.run("D9 /5"), 0);
  fix.run("D9 /7");
  assertEquals(words(1), [0x1f40]);
});

Deno.test("FLDCW that unmasks a recorded exception sets ES and B, and one that masks it clears them", () => {
  fix.load({ ...fresh(), fsw: 0x04 });
  fix.operand.setUint16(0, 0x37b, true);
  fix.run("D9 /5");
  assertEquals(fix.state().fsw, 0x8084);
  fix.run("DB E2");
  assertEquals(fix.state().fsw, 0);
});

Deno.test("an unmasked exception is #MF at the next waiting instruction with CR0.NE, and nothing without", () => {
  fix.load({ ...fresh(), fcw: 0x37b, fsw: 0x8084 });
  assertEquals(fix.run("D9 E8"), 1);
  assertEquals(fix.get("excVector"), EXC.MF);
  assertEquals(fix.run("9B"), 1);
  assertEquals(fix.run("DF E0"), 0, "FNSTSW does not wait");
  assertEquals(fix.view.getUint16(CPU, true), 0x8084);
  fix.set("cr0", CR0.PE);
  assertEquals(fix.run("D9 E8"), 0);
  fix.set("cr0", CR0.PE | CR0.NE);
});

Deno.test("FWAIT is #NM with CR0.TS and CR0.MP together", () => {
  fix.load(fresh());
  for (const [bits, status] of [[CR0.TS, 0], [CR0.MP, 0], [CR0.TS | CR0.MP, 1]] as const) {
    fix.set("cr0", CR0.PE | CR0.NE | bits);
    assertEquals(fix.run("9B"), status);
  }
  assertEquals(fix.get("excVector"), EXC.NM);
  fix.set("cr0", CR0.PE | CR0.NE);
});

Deno.test("FNSTENV stores tags by register and pointers, then masks everything", () => {
  const regs = fresh().regs;
  regs[7] = ONE;
  regs[0] = { sig: 0n, se: 0x8000 };
  regs[1] = { sig: 1n, se: 0 };
  fix.load({ fcw: 0x340, fsw: 0x4100, top: 7, regs });
  fix.set64("fip", 0x12345678);
  fix.set64("fdp", 0x9abcdef0);
  fix.view.setUint16(CPU + S.fop, 0x5a5, true);
  fix.view.setUint16(CPU + S.fcs, 0x23, true);
  fix.view.setUint16(CPU + S.fds, 0x2b, true);
  fix.run("D9 /6", 0, 32);
  assertEquals(dwords(7), [0xffff0340, 0xffff7900, 0xffff3ff9, 0x12345678, 0x05a50023, 0x9abcdef0, 0xffff002b]);
  assertEquals(fix.state().fcw, 0x37f);
  fix.load({ fcw: 0x340, fsw: 0x4100, top: 7, regs });
  fix.run("D9 /6", 0, 16);
  assertEquals(words(7), [0x340, 0x7900, 0x3ff9, 0x5678, 0x23, 0xdef0, 0x2b]);
});

Deno.test("FNSTENV in real mode stores linear pointers and the opcode", () => {
  fix.load(fresh());
  fix.set("mode", 8);
  fix.set64("fip", 0x678);
  fix.set64("fdp", 0x12340);
  fix.view.setUint16(CPU + S.fop, 0x5a5, true);
  fix.view.setUint16(CPU + S.fcs, 0xf000, true);
  fix.view.setUint16(CPU + S.fds, 0, true);
  fix.run("D9 /6", 0, 16);
  assertEquals(words(7), [0x37f, 0, 0xffff, 0x0678, 0xf5a5, 0x2340, 0x1000]);
  fix.run("D9 /6", 0, 32);
  assertEquals(dwords(7), [0xffff037f, 0xffff0000, 0xffffffff, 0xffff0678, 0xf5a5, 0xffff2340, 0x1000]);
  fix.run("D9 /4", 0, 32);
  assertEquals([fix.get64("fip"), fix.get64("fdp")], [0xf0678n, 0x12340n]);
  fix.set("mode", 1);
});

for (const size of [16, 32]) {
  Deno.test(`FNSAVE and FRSTOR bring everything back, ${size}-bit`, () => {
    const regs = fresh().regs.map((_, i) =>
      i === 3 ? undefined : { sig: 0x8000_0000_0000_0001n + BigInt(i), se: 0x4000 + i }
    );
    const before: X87State = { fcw: 0x0f7e, fsw: 0x4120, top: 5, regs };
    fix.load(before);
    fix.run("DD /6", 0, size);
    assertEquals(fix.state(), fresh());
    fix.run("DD /4", 0, size);
    assertEquals(fix.state(), before);
  });
}

Deno.test("the stack top goes round, and FFREE empties without moving it", () => {
  fix.load({ ...fresh(), fsw: 0x200, regs: new Array(8).fill(ONE) });
  fix.run("D9 F6");
  assertEquals([fix.state().top, fix.state().fsw], [7, 0]);
  fix.run("D9 F7");
  assertEquals(fix.state().top, 0);
  fix.run("DD C0+", 2);
  assertEquals(fix.state().regs.map((r) => !r), [false, false, true, false, false, false, false, false]);
});

Deno.test("an instruction records where it and its operand are, a control instruction does not", () => {
  fix.load(fresh());
  fix.set64("fip", 0);
  fix.set64("fdp", 0);
  fix.run("D9 /7");
  assertEquals([fix.get64("fip"), fix.get64("fdp")], [0n, 0n]);
  fix.run("D9 /0");
  assertEquals([fix.get64("fip"), fix.get64("fdp")], [0x1000n, 0x2000n]);
});

Deno.test("an unmasked exception records the opcode", () => {
  fix.load({ ...fresh(), fcw: 0x37e });
  fix.run("D9 E1"); // FABS of an empty register
  assertEquals(fix.state().fsw, 0x80c1);
  assertEquals(fix.view.getUint16(CPU + S.fop, true), 0x1e1);
});

/** ModRM bytes after D8..DF that no processor knows: [sdm2 appendix A.5]. Memory forms by their reg field. */
const RESERVED: Record<number, readonly (readonly [number, number])[]> = {
  0xd8: [],
  0xd9: [[0x08, 0x0f], [0xd1, 0xd7], [0xe2, 0xe3], [0xe6, 0xe7], [0xef, 0xef]],
  0xda: [[0xe0, 0xe8], [0xea, 0xff]],
  0xdb: [[0x20, 0x27], [0x30, 0x37], [0xe5, 0xe7], [0xf8, 0xff]],
  0xdc: [],
  0xdd: [[0x28, 0x2f], [0xf0, 0xff]],
  0xde: [[0xd8, 0xd8], [0xda, 0xdf]],
  0xdf: [[0xe1, 0xe7], [0xf8, 0xff]],
};

Deno.test("every escape but the reserved ones is an instruction", () => {
  const table = new DecodeTable(ROWS);
  for (let opcode = 0xd8; opcode <= 0xdf; opcode++) {
    for (let modrm = 0; modrm < 256; modrm++) {
      const memory = modrm < 0xc0, digit = (modrm >> 3) & 7;
      const shape = memory ? digit << 3 : modrm;
      const reserved = RESERVED[opcode]!.some(([from, to]) => shape >= from && shape <= to);
      let row = memory ? -1 : table.findFixed(ROWS, true, 0, opcode, 0, modrm);
      if (row < 0) row = table.find(true, 0, opcode, 0, 0, memory ? 1 : 0, digit);
      assertEquals(row < 0, reserved, `${opcode.toString(16)} ${modrm.toString(16)}`);
    }
  }
});
