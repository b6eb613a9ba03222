import { assertEquals } from "@std/assert";
import { FORM } from "../handlers.ts";
import { STATUS } from "../ops.ts";
import { CR4, EXC, MODE_32, S } from "../state.ts";
import { CPU, RAM } from "../system/fixture.ts";
import { type RowFixture, rowFixture } from "../simd/fixture.ts";
import { defineFxsave, ROWS } from "./fxsave.ts";

const AT = 0x3000;
/** A vCPU with a distinct value in every register, TOP = 3 and ST(1) (physical 4) empty. */
function filled(): RowFixture {
  const fix = rowFixture(ROWS, defineFxsave);
  for (let n = 0; n < 16; n++) fix.setXmm(n, (BigInt(n + 1) << 120n) | BigInt(n));
  for (let n = 0; n < 8; n++) {
    fix.setMm(n, 0x8000_0000_0000_0000n + BigInt(n));
    fix.view.setUint16(CPU + S.fpr + 16 * n + 8, 0x4000 + n, true);
    fix.view.setUint8(CPU + S.fempty + n, n === 4 ? 1 : 0);
  }
  fix.view.setUint16(CPU + S.fcw, 0x27f, true);
  fix.view.setUint16(CPU + S.fsw, 0x4100, true);
  fix.set("ftop", 3);
  fix.view.setUint16(CPU + S.fop, 0x123, true);
  fix.set64("fip", 0x1122_3344_5566n);
  fix.set64("fdp", 0x7788_99aa_bbccn);
  fix.view.setUint16(CPU + S.fcs, 0x33, true);
  fix.view.setUint16(CPU + S.fds, 0x2b, true);
  fix.set("mxcsr", 0x1fa1);
  fix.set("cr4", CR4.OSXSAVE);
  fix.set64("xcr0", 7);
  return fix;
}
const run = (fix: RowFixture, name: string, at = AT) => fix.run(fix.row(name), FORM.EA, {}, at);
const u16 = (fix: RowFixture, at: number) => fix.view.getUint16(RAM + AT + at, true);
const u32 = (fix: RowFixture, at: number) => fix.view.getUint32(RAM + AT + at, true);
const u64 = (fix: RowFixture, at: number) => fix.view.getBigUint64(RAM + AT + at, true);
const registers = (fix: RowFixture) => fix.view.buffer.slice(CPU + S.xmm, CPU + S.mxcsr + 4);
function request(fix: RowFixture, mask: number): void {
  fix.view.setBigUint64(CPU, BigInt(mask), true);
  fix.view.setBigUint64(CPU + 16, 0n, true);
}
const fill = (fix: RowFixture, byte: number, size = 1024) => new Uint8Array(fix.view.buffer, RAM + AT, size).fill(byte);

Deno.test("FXSAVE64 lays the state out as the manual's table", () => {
  const fix = filled();
  fill(fix, 0xee);
  assertEquals(run(fix, "FXSAVE64"), STATUS.NEXT);
  assertEquals([u16(fix, 0), u16(fix, 2), u16(fix, 4), u16(fix, 6)], [0x27f, 0x4100 | (3 << 11), 0xef, 0x123]);
  assertEquals([u64(fix, 8), u64(fix, 16)], [0x1122_3344_5566n, 0x7788_99aa_bbccn]);
  assertEquals([u32(fix, 24), u32(fix, 28)], [0x1fa1, 0xffff]);
  // ST(0) is physical register 3, ST(7) physical 2.
  assertEquals([u64(fix, 32), u64(fix, 40)], [0x8000_0000_0000_0003n, 0x4003n]);
  assertEquals([u64(fix, 144), u64(fix, 152)], [0x8000_0000_0000_0002n, 0x4002n]);
  assertEquals([u64(fix, 160 + 15 * 16), u64(fix, 168 + 15 * 16)], [15n, 16n << 56n]);
  // Bytes 416..511 are the software's.
  assertEquals(u64(fix, 416), 0xeeee_eeee_eeee_eeeen);
});

Deno.test("FXSAVE without REX.W keeps 32-bit offsets and selectors; outside 64-bit mode only eight XMM registers", () => {
  const fix = filled();
  fill(fix, 0xee);
  assertEquals(run(fix, "FXSAVE"), STATUS.NEXT);
  assertEquals([u32(fix, 8), u32(fix, 12), u32(fix, 16), u32(fix, 20)], [0x3344_5566, 0x33, 0x99aa_bbcc, 0x2b]);
  fill(fix, 0xee);
  fix.set("mode", MODE_32);
  assertEquals(run(fix, "FXSAVE"), STATUS.NEXT);
  assertEquals(u64(fix, 160 + 7 * 16), 7n);
  assertEquals(u64(fix, 160 + 8 * 16), 0xeeee_eeee_eeee_eeeen);
});

Deno.test("FXRSTOR64 undoes FXSAVE64", () => {
  const fix = filled(), before = new Uint8Array(registers(fix));
  run(fix, "FXSAVE64");
  new Uint8Array(fix.view.buffer, CPU + S.xmm, 256).fill(0x55);
  new Uint8Array(fix.view.buffer, CPU + S.fpr, S.mxcsr + 4 - S.fpr).fill(0x55);
  assertEquals(run(fix, "FXRSTOR64"), STATUS.NEXT);
  const after = new Uint8Array(registers(fix));
  // The selectors are not in this form; padding between x87 registers is nobody's.
  for (let n = 0; n < 8; n++) after.fill(0, S.fpr - S.xmm + 16 * n + 10, S.fpr - S.xmm + 16 * n + 16);
  after.set(before.subarray(S.fcs - S.xmm, S.mxcsr - S.xmm), S.fcs - S.xmm);
  for (const gap of [[S.fop + 2, S.fip]]) after.set(before.subarray(gap[0]! - S.xmm, gap[1]! - S.xmm), gap[0]! - S.xmm);
  assertEquals(after, before);
});

Deno.test("reserved bits of MXCSR and a misaligned image are #GP(0) and change nothing", () => {
  const fix = filled(), before = new Uint8Array(registers(fix));
  fill(fix, 0);
  fix.view.setUint32(RAM + AT + 24, 0x1_1f80, true);
  for (const [name, at] of [["FXRSTOR64", AT], ["FXSAVE64", AT + 8], ["FXRSTOR64", AT + 8]] as const) {
    assertEquals([run(fix, name, at), fix.get("excVector"), fix.get("excError")], [STATUS.FAULT, EXC.GP, 0], name);
    assertEquals(new Uint8Array(registers(fix)), before);
  }
});

Deno.test("XSAVE writes what EDX:EAX and XCR0 share, and its bits of XSTATE_BV", () => {
  const fix = filled();
  fill(fix, 0, 576);
  fix.view.setBigUint64(RAM + AT + 512, 5n, true);
  request(fix, 2);
  assertEquals(run(fix, "XSAVE64"), STATUS.NEXT);
  // x87's part is untouched, SSE's is there, and the other bits of XSTATE_BV stay.
  assertEquals([u16(fix, 0), u32(fix, 24), u64(fix, 160 + 16)], [0, 0x1fa1, 1n]);
  assertEquals([u64(fix, 512), u64(fix, 520)], [7n, 0n]);
});

Deno.test("XSAVE and XRSTOR carry the upper halves of YMM; components not in the image are initialised", () => {
  const fix = filled();
  for (let n = 0; n < 16; n++) fix.view.setBigUint64(CPU + S.ymmHigh + 16 * n, BigInt(100 + n), true);
  fill(fix, 0);
  request(fix, -1 >>> 0);
  assertEquals(run(fix, "XSAVE"), STATUS.NEXT);
  assertEquals([u64(fix, 512), u64(fix, 576), u64(fix, 576 + 240)], [7n, 100n, 115n]);
  // Without x87 and AVX in the image those are reset, SSE is loaded.
  fix.view.setUint8(RAM + AT + 512, 2);
  fix.setXmm(3, 0n);
  assertEquals(run(fix, "XRSTOR"), STATUS.NEXT);
  assertEquals(fix.xmm(3), (4n << 120n) | 3n);
  assertEquals([fix.view.getUint16(CPU + S.fcw, true), fix.view.getUint8(CPU + S.fempty), fix.get("ftop")], [
    0x37f,
    1,
    0,
  ]);
  assertEquals(fix.view.getBigUint64(CPU + S.ymmHigh + 240, true), 0n);
});

Deno.test("XSAVEC's compacted image goes back through XRSTOR; MXCSR belongs to SSE there", () => {
  const fix = filled();
  fill(fix, 0);
  request(fix, 7);
  assertEquals(run(fix, "XSAVEC64"), STATUS.NEXT);
  // The YMM halves are all zero: not in use, not saved.
  assertEquals([u64(fix, 512), u64(fix, 520)], [3n, (1n << 63n) | 7n]);
  fix.view.setUint8(RAM + AT + 512, 1);
  assertEquals(run(fix, "XRSTOR64"), STATUS.NEXT);
  assertEquals([fix.get("mxcsr"), fix.xmm(5), fix.get("ftop")], [0x1f80, 0n, 3]);
});

Deno.test("XRSTOR refuses bad headers with #GP(0)", () => {
  const bad: [string, number, bigint][] = [
    ["a component outside XCR0", 512, 8n],
    ["XCOMP_BV in the standard format", 520, 1n],
    ["reserved bytes of the header", 528, 1n],
    ["a component outside XCR0 in the compacted format", 520, (1n << 63n) | 8n],
    ["a component that the compacted format does not name", 520, (1n << 63n) | 1n],
  ];
  for (const [what, at, value] of bad) {
    const fix = filled();
    fill(fix, 0);
    fix.view.setBigUint64(RAM + AT + 512, 3n, true);
    fix.view.setBigUint64(RAM + AT + at, value, true);
    request(fix, 7);
    const before = new Uint8Array(registers(fix));
    assertEquals([run(fix, "XRSTOR64"), fix.get("excVector")], [STATUS.FAULT, EXC.GP], what);
    assertEquals(new Uint8Array(registers(fix)), before, what);
  }
});

Deno.test("XSAVE without CR4.OSXSAVE is #UD, with CR0.TS #NM, at 16-byte alignment #GP(0)", () => {
  const fix = filled();
  request(fix, 3);
  assertEquals([run(fix, "XSAVE64", AT + 16), fix.get("excVector")], [STATUS.FAULT, EXC.GP]);
  fix.set64("cr0", 8);
  assertEquals([run(fix, "XSAVE64"), fix.get("excVector")], [STATUS.FAULT, EXC.NM]);
  fix.set64("cr4", 0);
  assertEquals([run(fix, "XSAVE64"), fix.get("excVector")], [STATUS.FAULT, EXC.UD]);
});

Deno.test("an image across two pages is whole", () => {
  const fix = filled(), before = fix.xmm(15), at = 0x4000 - 128;
  fix.set64("xcr0", 3);
  request(fix, 3);
  new Uint8Array(fix.view.buffer, RAM + at, 600).fill(0);
  assertEquals(run(fix, "XSAVE64", at), STATUS.NEXT);
  fix.setXmm(15, 0n);
  assertEquals(run(fix, "XRSTOR64", at), STATUS.NEXT);
  assertEquals(fix.xmm(15), before);
});
