/** The encoder and the decoder are each other's inverse, for every row. */
import { assert, assertEquals } from "@std/assert";
import { isMemoryLetter, rowSizes } from "./arg.ts";
import { AH, assemble, BH, immediateBytes, type MemoryForm, type Operands, operands, shapeOf } from "./assemble.ts";
import { DECODED, Decoder } from "./decode.ts";
import { Variants } from "./handlers.ts";
import { ROWS } from "./isa/index.ts";
import { SPECIALS } from "./specials.ts";
import { FS, MODE_32, MODE_64, RBP, reg, RSP, SS, VBASE, ZERO } from "./state.ts";

const decoder = new Decoder(ROWS, new Variants(ROWS, SPECIALS));
let state = 12345;
const below = (n: number): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0, (state >>> 8) % n);

/** Another row may stand for the same bytes: 90h is NOP and XCHG, and some rows differ only in name. */
function decode(bytes: readonly number[], is64: boolean): string {
  const result = decoder.decode(Uint8Array.from(bytes), 0, bytes.length, is64 ? MODE_64 : MODE_32);
  if (result !== DECODED.OK) return `result ${result}`;
  return `${ROWS[decoder.row]!.op} ${ROWS[decoder.row]!.name}`;
}

function registers(o: Operands, row: ReturnType<typeof shapeOf>): number[] {
  return row.args.map((a) => {
    const whole = "PQNFS".includes(a.letter) || !o.is64 ? below(8) : below(16);
    if (a.size !== "b" || !"ERGZ".includes(a.letter)) return whole;
    // Without REX, byte registers are AL..BL and AH..BH.
    return o.is64 ? whole : below(2) ? below(4) : AH + below(4);
  });
}

function memory(is64: boolean): MemoryForm {
  const n = is64 ? 16 : 8, form = below(5);
  const m: MemoryForm = {
    base: below(n),
    index: -1,
    scale: 0,
    disp: below(2) ? below(256) - 128 : below(1 << 30),
    dispBytes: 0,
    ripRelative: false,
  };
  if (form === 0) return { ...m, base: -1, disp: below(1 << 30) };
  if (form === 1 && is64) return { ...m, base: -1, ripRelative: true };
  if (form >= 2) {
    do m.index = below(n); while (m.index === RSP);
    m.scale = below(4);
  }
  return form === 4 ? { ...m, base: -1 } : m;
}

for (const is64 of [true, false]) {
  Deno.test(`${is64 ? "64" : "32"}-bit code: every row encodes, and decodes to itself`, () => {
    const rows = ROWS.filter((r) => r.only !== (is64 ? "legacy" : "64"));
    for (const row of rows) {
      const shape = shapeOf(row), { args, pattern } = shape;
      if (!is64 && pattern.w === 1 && !pattern.vex) continue;
      // Vector registers as indices have a test of their own.
      if (row.elements === "index") continue;
      const memoryArg = args.findIndex((a) => isMemoryLetter(a.letter));
      const only = args.some((a) => a.letter === "M" || a.letter === "O");
      for (const size of rowSizes(row, args, is64)) {
        // 66h before a near branch does nothing in 64-bit mode.
        if (is64 && size === 16 && row.d64 && (row.ends || args.some((a) => a.letter === "J"))) continue;
        // A row without 66h is never 16 bits wide, its twin with 66h never 32.
        if (
          (pattern.prefix === 0 && size === 16) ||
          (pattern.prefix === 1 && args.some((a) => a.size === "v") && size === 32)
        ) continue;
        for (let n = 0; n < 24; n++) {
          const inMemory = memoryArg >= 0 && (only || n % 2 === 1);
          const o = operands(size, { is64, imm: below(256), immHigh: 0, shortVex: n % 3 === 0 });
          o.regs = registers(o, shape);
          if (inMemory && args[memoryArg]!.letter !== "O") o.memory = memory(is64);
          const bytes = assemble(shape, o);
          const text = `${row.name} ${row.op} ${size}: ${bytes.map((b) => b.toString(16).padStart(2, "0")).join(" ")}`;
          const got = decode(bytes, is64);
          // A NOP that is an exchange, by name or by meaning.
          if (row.op === "90 +r" && got.startsWith("F3 90")) continue;
          assertEquals(got, `${row.op} ${row.name}`, text);
          assertEquals(decoder.length, bytes.length, text);
          if (args.some((a) => "vyz".includes(a.size)) || row.sizes) assertEquals(decoder.size, size, text);
          checkOperands(shape, o, text);
        }
      }
    }
  });
}

function checkOperands(shape: ReturnType<typeof shapeOf>, o: Operands, text: string): void {
  shape.args.forEach((a, i) => {
    if (a.slot < 0 || (o.memory && isMemoryLetter(a.letter))) return;
    const field = a.slot === 0 ? decoder.d : a.slot === 1 ? decoder.s : decoder.x;
    // The accumulator is register 0 by itself.
    const n = a.letter === "A" ? 0 : o.regs[i]!;
    if ("VWUHPQN".includes(a.letter)) assertEquals(field, n * 16, text);
    else if ("ERGZB".includes(a.letter)) assertEquals(field, n >= AH ? reg(n - AH) + 1 : reg(n), text);
    else assertEquals(field, n, text);
  });
  const m = o.memory;
  if (!m) return;
  assertEquals(decoder.base, m.ripRelative ? reg(VBASE) : m.base < 0 ? reg(ZERO) : reg(m.base), text);
  assertEquals(decoder.index, m.index < 0 ? reg(ZERO) : reg(m.index), text);
  if (m.index >= 0) assertEquals(decoder.scale, m.scale, text);
  assertEquals(decoder.disp, m.disp, text);
  if (m.base === RSP || m.base === RBP) assertEquals(decoder.segment, SS, text);
}

Deno.test("immediates come back as the operand size wants them", () => {
  for (const row of ROWS.filter((r) => r.only !== "legacy")) {
    const shape = shapeOf(row), at = shape.args.findIndex((a) => a.letter === "I");
    if (at < 0 || shape.args.filter((a) => a.letter === "I").length > 1) continue;
    const arg = shape.args[at]!, first = shape.args[0]!;
    for (const size of rowSizes(row, shape.args, true)) {
      const bytes = immediateBytes(arg, size, true);
      for (const imm of [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0x7fff_ffff, -1, -0x8000_0000]) {
        const o = operands(size, { imm, immHigh: 0x1234_5678, regs: shape.args.map(() => 0) });
        if (shape.args.some((a) => a.letter === "M")) o.memory = { ...memory(true), base: 0, index: -1 };
        const text = `${row.name} ${row.op} ${size} imm ${imm}`;
        assertEquals(decode(assemble(shape, o), true), `${row.op} ${row.name}`, text);
        const cut = bytes === 1 ? (imm << 24) >> 24 : bytes === 2 ? (imm << 16) >> 16 : imm;
        if (bytes === 8) assertEquals(decoder.immHigh, 0x1234_5678, text);
        const bits = first.size === "b" && at > 0 ? 8 : size;
        let want = bits === 8 ? cut & 0xff : bits === 16 ? cut & 0xffff : cut;
        if (arg.size === "ub") want = imm & 0xff;
        else if (arg.size === "w") want = imm & 0xffff;
        assertEquals(decoder.imm | 0, want | 0, text);
      }
    }
  }
});

Deno.test("AH and its like exist only without REX", () => {
  const mov = shapeOf(ROWS.find((r) => r.op === "88 /r")!);
  assertEquals(assemble(mov, operands(8, { regs: [BH, 0] })), [0x88, 0xc7]);
  assertEquals(assemble(mov, operands(8, { regs: [7, 0] })), [0x40, 0x88, 0xc7]);
  let refused = false;
  try {
    assemble(mov, operands(8, { regs: [BH, 8] }));
  } catch {
    refused = true;
  }
  assert(refused);
});

Deno.test("encodings of the manual's examples", () => {
  const find = (op: string) => shapeOf(ROWS.find((r) => r.op === op)!);
  const at = (m: Partial<MemoryForm>): MemoryForm => ({
    base: -1,
    index: -1,
    scale: 0,
    disp: 0,
    dispBytes: 0,
    ripRelative: false,
    ...m,
  });
  const add = find("01 /r");
  // [sdm2 table 2-3] on: no displacement, RBP and R13 need one, RSP and R12 need a SIB byte.
  assertEquals(assemble(add, operands(64, { regs: [0, 1], memory: at({ base: 0 }) })), [0x48, 0x01, 0x08]);
  assertEquals(assemble(add, operands(32, { regs: [0, 1], memory: at({ base: 5 }) })), [0x01, 0x4d, 0x00]);
  assertEquals(assemble(add, operands(32, { regs: [0, 1], memory: at({ base: 13 }) })), [0x41, 0x01, 0x4d, 0x00]);
  assertEquals(assemble(add, operands(32, { regs: [0, 9], memory: at({ base: 4 }) })), [0x44, 0x01, 0x0c, 0x24]);
  assertEquals(assemble(add, operands(16, { regs: [0, 1], memory: at({ base: 12, disp: -1 }) })), [
    0x66,
    0x41,
    0x01,
    0x4c,
    0x24,
    0xff,
  ]);
  assertEquals(
    assemble(
      add,
      operands(32, { regs: [0, 1], memory: at({ index: 9, scale: 3, disp: 0x100 }), segment: FS, lock: true }),
    ),
    [0xf0, 0x64, 0x42, 0x01, 0x0c, 0xcd, 0x00, 0x01, 0x00, 0x00],
  );
  assertEquals(assemble(add, operands(32, { regs: [0, 1], memory: at({ ripRelative: true, disp: 0x10 }) })), [
    0x01,
    0x0d,
    0x10,
    0,
    0,
    0,
  ]);
  const andn = find("VEX L0 NP 0F 38 F2 /r");
  assertEquals(assemble(andn, operands(64, { regs: [0, 3, 1] })), [0xc4, 0xe2, 0xe0, 0xf2, 0xc1]);
  assertEquals(assemble(andn, operands(32, { regs: [9, 15, 10] })), [0xc4, 0x42, 0x00, 0xf2, 0xca]);
});
