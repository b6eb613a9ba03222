/** Whether AVX is there: CR0.TS, CR4.OSXSAVE, XCR0, the mode; and what XCR0 takes. */
import { assertEquals } from "@std/assert";
import { CR0, CR4 } from "../state.ts";
import { defineUnits } from "../units.ts";
import { ROWS as AVX_ROWS } from "./avx_move.ts";
import { defineControl, ROWS as CONTROL_ROWS } from "./control.ts";
import { rowFixture } from "./rows_fixture.ts";

const rows = [
  ...AVX_ROWS.filter((r) => r.name === "VZEROUPPER"),
  ...CONTROL_ROWS.filter((r) => /^XSETBV$/.test(r.name)),
];
const make = (avx: boolean) =>
  rowFixture(rows, (m, f, imports) => {
    defineUnits(m, f);
    defineControl(m, f, imports, { avx, reservedCr4: 0 });
  });

Deno.test("AVX instructions: #UD without OSXSAVE or XCR0[2:1], or in real mode; then #NM with CR0.TS [sdm2 table 2-21]", () => {
  const fix = make(true), { PE, TS, EM } = CR0, UD = "#6", NM = "#7";
  const cases: [number, number, number, string][] = [
    [PE, CR4.OSXSAVE, 7, "next"],
    [PE, CR4.OSXSAVE | CR4.OSFXSR, 7, "next"],
    [PE, CR4.OSFXSR, 7, UD],
    [PE, CR4.OSXSAVE, 3, UD],
    [PE, CR4.OSXSAVE, 5, UD],
    [PE | TS, CR4.OSXSAVE, 7, NM],
    [PE | TS, 0, 7, UD],
    [PE | TS, CR4.OSXSAVE, 3, UD],
    // CR0.EM says nothing about them.
    [PE | EM, CR4.OSXSAVE, 7, "next"],
    [PE | EM | TS, CR4.OSXSAVE, 7, NM],
    [0, CR4.OSXSAVE, 7, UD],
    [TS, CR4.OSXSAVE, 7, UD],
  ];
  for (const [cr0, cr4, xcr0, want] of cases) {
    fix.set("cr0", cr0);
    fix.set("cr4", cr4);
    fix.set("xcr0", xcr0);
    fix.call("updateMode");
    const outcome = fix.outcome(fix.run("VEX L0 NP 0F 77 VZEROUPPER.32r"));
    assertEquals(outcome, want, `CR0 ${cr0.toString(16)}, CR4 ${cr4.toString(16)}, XCR0 ${xcr0}`);
  }
});

Deno.test("XSETBV: x87 always, AVX only with SSE, nothing that is not there [sdm1 §13.3]", () => {
  for (const avx of [true, false]) {
    const fix = make(avx);
    fix.set("cr0", CR0.PE);
    fix.set("cr4", CR4.OSXSAVE);
    const write = (value: bigint, ecx = 0): string => {
      fix.set64("xcr0", 1);
      fix.setReg(0, value & 0xffff_ffffn);
      fix.setReg(2, value >> 32n);
      fix.setReg(1, ecx);
      const outcome = fix.outcome(fix.run("NP 0F 01 D1 XSETBV.32r"));
      assertEquals(fix.get64("xcr0"), outcome === "next" ? value : 1n);
      return outcome;
    };
    for (let v = 0n; v < 16n; v++) {
      const ok = v === 1n || v === 3n || (avx && v === 7n);
      assertEquals(write(v), ok ? "next" : "#13(0)", `${v}, AVX ${avx}`);
    }
    for (const v of [1n | (1n << 5n), 7n | (1n << 63n), 3n | (1n << 32n)]) assertEquals(write(v), "#13(0)");
    assertEquals(write(3n, 1), "#13(0)");
    fix.set("cr4", 0);
    assertEquals(write(3n), "#6");
  }
});
