/** Expectations from the pages of [sdm2] for each instruction. */
import { assertEquals } from "@std/assert";
import { DS, GS, INHIBIT, LDTR, RAX, RBX, reg, RSP, SS, ZF } from "../state.ts";
import { RAM } from "../system/fixture.ts";
import { descriptor } from "../system/world.ts";
import { AT, NEXT, type RowFixture, rowFixture } from "./rows_fixture.ts";
import { defineSegment, ROWS } from "./segment.ts";

const GDT = 0x2000, MEM = 0x4000n;

function machine(mode: "real" | "32" | "64", cpl = 0): RowFixture {
  const f = rowFixture(ROWS, defineSegment);
  const put = (selector: number, d: bigint) => f.view.setBigUint64(RAM + GDT + selector, d, true);
  put(0x08, descriptor(0, 0xfffff, 0x9b, mode === "64" ? 0xa : 0xc));
  put(0x10, descriptor(0, 0xfffff, 0x93, 0xc));
  put(0x18, descriptor(0, 0xfffff, 0xf3, 0xc));
  put(0x20, descriptor(0, 0x123, 0xf9, 0x4)); // execute-only, level 3
  put(0x28, descriptor(0, 0x67, 0xeb, 0)); // busy TSS, level 3
  put(0x30, descriptor(0, 0xffff, 0xe1, 0)); // 16-bit TSS, level 3
  put(0x38, descriptor(0, 0xffff, 0x9f, 0)); // conforming, level 0
  put(0x40, descriptor(0, 0xffff, 0xf1, 0)); // read-only, level 3
  put(0x48, descriptor(0, 0xffff, 0xee, 0)); // an interrupt gate
  put(0x50, descriptor(0, 0xffff, 0x92, 0)); // 16-bit stack
  f.set64("gdtrBase", GDT);
  f.set("gdtrLimit", 0x5f);
  f.set64("cr0", mode === "real" ? 0x10 : 0x11);
  f.set64("efer", mode === "64" ? 0x500 : 0);
  for (let n = 0; n < 6; n++) {
    f.set("segSelector", mode === "real" ? 0 : (n === 1 ? 0x08 : 0x10) | cpl, n);
    f.set("segLimit", mode === "real" ? 0xffff : 0xffff_ffff, n);
    f.set("segRights", n === 1 ? (mode === "64" ? 0xa09b : 0xc09b) : mode === "real" ? 0x93 : 0xc093, n);
  }
  f.set("segRights", 1 << 16, LDTR);
  f.set("cpl", cpl);
  f.set64("fRes", 1);
  f.set("fKind", 1);
  f.call("updateMode");
  f.call("flushTlb");
  return f;
}
const zf = (f: RowFixture) => f.get64("fRes") === 0n ? 1 : 0;
const regs = { d: reg(RAX), s: reg(RBX) };

Deno.test("LAR and LSL: kinds, levels, and what long mode leaves out", () => {
  const L = undefined;
  // selector, CPL, then rights and limit outside of long mode and in it; undefined: ZF cleared, the destination kept.
  const cases: readonly (number | undefined)[][] = [
    [0x10, 0, 0x00cf_9300, 0xffff_ffff, 0x00cf_9300, 0xffff_ffff],
    [0x10, 3, L, L, L, L],
    [0x13, 0, L, L, L, L],
    [0x1b, 3, 0x00cf_f300, 0xffff_ffff, 0x00cf_f300, 0xffff_ffff],
    [0x23, 3, 0x0040_f900, 0x123, 0x0040_f900, 0x123],
    [0x28, 3, 0x0000_eb00, 0x67, 0x0000_eb00, 0x67],
    [0x30, 3, 0x0000_e100, 0xffff, L, L],
    [0x3b, 3, 0x0000_9f00, 0xffff, 0x0000_9f00, 0xffff],
    [0x48, 0, L, L, L, L],
    [0x00, 0, L, L, L, L],
    [0x60, 0, L, L, L, L],
    [0x14, 0, L, L, L, L],
  ];
  for (const [selector, cpl, lar32, lsl32, lar64, lsl64] of cases as [number, number, ...(number | undefined)[]][]) {
    for (const [mode, lar, lsl] of [["32", lar32, lsl32], ["64", lar64, lsl64]] as const) {
      const f = machine(mode, cpl), suffix = mode === "64" ? "" : ".legacy";
      for (const [name, expected] of [[`0F 02 LAR.32r${suffix}`, lar], [`0F 03 LSL.32r${suffix}`, lsl]] as const) {
        f.setReg(RAX, 0x55);
        f.setReg(RBX, selector);
        assertEquals(f.outcome(f.run(name, regs)), "next");
        const what = `${name} ${selector.toString(16)} cpl ${cpl}`;
        assertEquals([zf(f), f.reg(RAX)], expected === undefined ? [0, 0x55n] : [1, BigInt(expected)], what);
      }
    }
  }
});

Deno.test("VERR and VERW", () => {
  const cases = [[0x10, 0, 1, 1], [0x10, 3, 0, 0], [0x08, 0, 1, 0], [0x23, 3, 0, 0], [0x43, 3, 1, 0], [0x28, 3, 0, 0], [
    0x3b,
    3,
    1,
    0,
  ], [0, 0, 0, 0]];
  for (const [selector, cpl, read, write] of cases) {
    const f = machine("32", cpl);
    f.setReg(RAX, selector!);
    f.run("0F 00 /4 VERR.16r.legacy", regs);
    assertEquals(zf(f), read, `VERR ${selector!.toString(16)}`);
    f.run("0F 00 /5 VERW.16r.legacy", regs);
    assertEquals(zf(f), write, `VERW ${selector!.toString(16)}`);
  }
});

Deno.test("instructions of protected mode are #UD in real mode", () => {
  const f = machine("real");
  for (
    const name of [
      "0F 02 LAR.32r.legacy",
      "0F 00 /4 VERR.16r.legacy",
      "0F 00 /0 SLDT.32r.legacy",
      "0F 00 /2 LLDT.16r.legacy",
      "63 ARPL.16r.legacy",
    ]
  ) {
    assertEquals(f.outcome(f.run(name, regs)), "#6", name);
  }
});

Deno.test("ARPL raises RPL to that of the source", () => {
  const f = machine("32");
  for (const [a, b, result, z] of [[0x10, 3, 0x13, 1], [0x13, 2, 0x13, 0], [0x11, 1, 0x11, 0]] as const) {
    f.setReg(RAX, a);
    f.setReg(RBX, b);
    f.run("63 ARPL.16r.legacy", regs);
    assertEquals([f.reg(RAX), zf(f)], [BigInt(result), z]);
  }
  assertEquals(ZF, 0x40);
});

Deno.test("MOV to a segment register: CS and unknown numbers are #UD, SS holds interrupts off and may change the mode", () => {
  const f = machine("32");
  f.setReg(RAX, 0x18);
  assertEquals(f.outcome(f.run("8E MOV.16r.legacy", { d: DS, s: reg(RAX) })), "next");
  assertEquals([f.get("segSelector", DS), f.get("inhibit")], [0x18, 0]);
  for (const n of [1, 6, 7]) assertEquals(f.outcome(f.run("8E MOV.16r.legacy", { d: n, s: reg(RAX) })), "#6");
  f.setReg(RAX, 0x10);
  assertEquals(f.outcome(f.run("8E MOV.16r.legacy", { d: SS, s: reg(RAX) })), "next");
  assertEquals(f.get("inhibit"), INHIBIT.MOV_SS);
  f.setReg(RAX, 0x50);
  assertEquals(f.outcome(f.run("8E MOV.16r.legacy", { d: SS, s: reg(RAX) })), "jump");
  assertEquals([f.get("mode"), f.get64("rip")], [1, BigInt(NEXT)]);
  f.setReg(RAX, 0x60);
  assertEquals(f.outcome(f.run("8E MOV.16r.legacy", { d: DS, s: reg(RAX) })), "#13(96)");
});

Deno.test("MOV from a segment register: zero-extended in a register, 16 bits in memory", () => {
  const f = machine("64");
  f.set("segSelector", 0x1234, GS);
  f.setReg(RAX, -1);
  f.run("8C MOV.64r", { d: reg(RAX), s: GS });
  assertEquals(f.reg(RAX), 0x1234n);
  f.setReg(RAX, -1);
  f.run("8C MOV.16r", { d: reg(RAX), s: GS });
  assertEquals(f.reg(RAX), 0xffff_ffff_ffff_1234n);
  f.view.setUint32(RAM + Number(MEM), 0xaaaa_aaaa, true);
  f.run("8C MOV.64m", { d: 0, s: GS }, MEM);
  assertEquals(f.view.getUint32(RAM + Number(MEM), true), 0xaaaa_1234);
  assertEquals(f.outcome(f.run("8C MOV.64r", { d: reg(RAX), s: 6 })), "#6");
});

Deno.test("PUSH and POP of segment registers; a POP that faults leaves the stack pointer", () => {
  const f = machine("32");
  f.setReg(RSP, 0x5000);
  f.view.setUint32(RAM + 0x4ffc, 0xffff_ffff, true);
  assertEquals(f.outcome(f.run("0E PUSH.32r.legacy")), "next");
  assertEquals([f.reg(RSP), f.view.getUint32(RAM + 0x4ffc, true)], [0x4ffcn, 8]);
  f.view.setUint32(RAM + 0x4ffc, 0x18, true);
  assertEquals(f.outcome(f.run("1F POP.32r.legacy")), "next");
  assertEquals([f.reg(RSP), f.get("segSelector", DS)], [0x5000n, 0x18]);
  f.view.setUint32(RAM + 0x5000, 0x60, true);
  assertEquals(f.outcome(f.run("1F POP.32r.legacy")), "#13(96)");
  assertEquals(f.reg(RSP), 0x5000n);
});

Deno.test("LSS loads both or nothing", () => {
  const f = machine("32");
  f.view.setUint32(RAM + Number(MEM), 0x1234_5678, true);
  f.view.setUint16(RAM + Number(MEM) + 4, 0x10, true);
  assertEquals(f.outcome(f.run("0F B2 LSS.32m.legacy", { d: reg(RSP) }, MEM)), "next");
  assertEquals([f.reg(RSP), f.get("segSelector", SS)], [0x1234_5678n, 0x10]);
  f.view.setUint16(RAM + Number(MEM) + 4, 0x18, true);
  assertEquals(f.outcome(f.run("0F B2 LSS.32m.legacy", { d: reg(RSP) }, MEM)), "#13(24)");
  assertEquals(f.reg(RSP), 0x1234_5678n);
});

Deno.test("descriptor table registers: sizes of the base, canonical form, UMIP", () => {
  const at = RAM + Number(MEM);
  const f = machine("64");
  f.set64("gdtrBase", 0xffff_8000_1234_5678n);
  f.set("gdtrLimit", 0x7f);
  f.run("0F 01 /0 SGDT.32m", {}, MEM);
  assertEquals([f.view.getUint16(at, true), f.view.getBigUint64(at + 2, true)], [0x7f, 0xffff_8000_1234_5678n]);
  assertEquals(f.outcome(f.run("0F 01 /3 LIDT.64m", {}, MEM)), "next");
  assertEquals([f.get("idtrLimit"), f.get64("idtrBase")], [0x7f, 0xffff_8000_1234_5678n]);
  f.view.setBigUint64(at + 2, 0x8000_0000_0000n, true);
  assertEquals(f.outcome(f.run("0F 01 /3 LIDT.64m", {}, MEM)), "#13(0)");
  const r = machine("real");
  r.view.setUint32(at + 2, 0xab12_3456, true);
  r.run("0F 01 /2 LGDT.16m.legacy", {}, MEM);
  assertEquals(r.get64("gdtrBase"), 0x12_3456n);
  r.run("0F 01 /2 LGDT.32m.legacy", {}, MEM);
  assertEquals(r.get64("gdtrBase"), 0xab12_3456n);
  const u = machine("64", 3);
  u.set64("cr4", 1 << 11);
  for (
    const name of [
      "0F 01 /0 SGDT.32m",
      "0F 01 /1 SIDT.32m",
      "0F 01 /4 SMSW.64m",
      "0F 00 /0 SLDT.64m",
      "0F 00 /1 STR.64m",
    ]
  ) {
    assertEquals(u.outcome(u.run(name, {}, MEM)), "#13(0)", name);
  }
  assertEquals(u.outcome(u.run("0F 01 /2 LGDT.64m", {}, MEM)), "#13(0)");
});

Deno.test("SWAPGS, and FS and GS bases by instruction", () => {
  const f = machine("64");
  f.set64("segBase", 0x1111n, GS);
  f.set64("kernelGsBase", 0x2222n);
  f.run("0F 01 F8 SWAPGS.32r");
  assertEquals([f.get64("segBase", GS), f.get64("kernelGsBase")], [0x2222n, 0x1111n]);
  assertEquals(f.outcome(f.run("F3 0F AE /1 RDGSBASE.64r", regs)), "#6");
  f.set64("cr4", 1 << 16);
  f.run("F3 0F AE /1 RDGSBASE.64r", regs);
  assertEquals(f.reg(RAX), 0x2222n);
  f.setReg(RAX, 0xffff_ffff_8765_4321n);
  f.run("F3 0F AE /3 WRGSBASE.32r", regs);
  assertEquals(f.get64("segBase", GS), 0x8765_4321n);
  f.setReg(RAX, 0x8000_0000_0000n);
  assertEquals(f.outcome(f.run("F3 0F AE /3 WRGSBASE.64r", regs)), "#13(0)");
});

Deno.test("LMSW sets PE and never clears it", () => {
  const f = machine("real");
  f.setReg(RAX, 0xffff_fff1);
  assertEquals(f.outcome(f.run("0F 01 /6 LMSW.16r.legacy", regs)), "jump");
  assertEquals([f.get64("cr0"), f.get("mode") & 8, f.get64("rip")], [0x11n, 0, BigInt(NEXT)]);
  f.setReg(RAX, 0xa);
  f.run("0F 01 /6 LMSW.16r.legacy", regs);
  assertEquals(f.get64("cr0"), 0x1bn);
  assertEquals(AT < NEXT, true);
});

Deno.test("BOUND is signed and inclusive", () => {
  const f = machine("32");
  f.view.setInt32(RAM + Number(MEM), -2, true);
  f.view.setInt32(RAM + Number(MEM) + 4, 5, true);
  for (const [index, expected] of [[-2, "next"], [5, "next"], [-3, "#5"], [6, "#5"]] as const) {
    f.setReg(RAX, index & 0xffff_ffff);
    assertEquals(f.outcome(f.run("62 BOUND.32m.legacy", regs, MEM)), expected);
  }
});
