import { assertEquals } from "@std/assert";
import { MSR, MsrFile, VARIABLE_MTRRS } from "./msr.ts";

/** A local APIC that knows one register and keeps a log. */
function file(): { msrs: MsrFile; log: string[] } {
  const log: string[] = [];
  const board = {
    msrLo: 0,
    msrHi: 0,
    readMsr(vcpu: number, msr: number) {
      log.push(`${vcpu} reads ${msr.toString(16)}`);
      this.msrLo = 0xfee0_0900, this.msrHi = 7;
      return msr !== 0x810;
    },
    writeMsr(vcpu: number, msr: number, lo: number, hi: number) {
      log.push(`${vcpu} writes ${msr.toString(16)} ${hi.toString(16)}:${lo.toString(16)}`);
      return msr !== 0x802;
    },
  };
  const msrs = new MsrFile(board, 3);
  msrs.reset();
  return { msrs, log };
}

function value(msrs: MsrFile, msr: number): [number, number] | undefined {
  return msrs.read(msr) ? [msrs.hi, msrs.lo] : undefined;
}

Deno.test("the local APIC's MSRs go to the board", () => {
  const { msrs, log } = file();
  assertEquals(value(msrs, MSR.APIC_BASE), [7, 0xfee0_0900]);
  assertEquals(value(msrs, 0x810), undefined);
  assertEquals(msrs.write(0x830, -1, 2), true);
  assertEquals(msrs.write(0x802, 0, 0), false);
  assertEquals(msrs.write(MSR.TSC_DEADLINE, 5, 0), true);
  assertEquals(log, ["3 reads 1b", "3 reads 810", "3 writes 830 2:ffffffff", "3 writes 802 0:0", "3 writes 6e0 0:5"]);
});

Deno.test("MSRs that do not exist fault", () => {
  const { msrs } = file();
  // MPERF, APERF, XSS, PERFEVTSEL0, MC0_CTL, VMX_BASIC, HWCR, a hypervisor's own, past both ends.
  for (const msr of [0xe7, 0xe8, 0xda0, 0x186, 0x400, 0x480, 0xc001_0015, 0x4b56_4d00, 0x7ff, 0x900, -1]) {
    assertEquals([msrs.read(msr), msrs.write(msr, 0, 0)], [false, false], msr.toString(16));
  }
});

Deno.test("read-only MSRs refuse writes", () => {
  const { msrs } = file();
  for (
    const msr of [MSR.PLATFORM_ID, MSR.MTRRCAP, MSR.ARCH_CAPABILITIES, MSR.MCG_CAP, MSR.FEATURE_CONTROL]
  ) {
    assertEquals([msrs.read(msr), msrs.write(msr, 0, 0)], [true, false], msr.toString(16));
  }
  assertEquals([msrs.read(MSR.PRED_CMD), msrs.write(MSR.PRED_CMD, 1, 0), msrs.write(MSR.PRED_CMD, 2, 0)], [
    false,
    true,
    false,
  ]);
});

Deno.test("FEATURE_CONTROL is locked, the microcode has a revision, no machine-check bank", () => {
  const { msrs } = file();
  assertEquals(value(msrs, MSR.FEATURE_CONTROL), [0, 1]);
  assertEquals(value(msrs, MSR.BIOS_SIGN_ID)![0] > 0, true);
  assertEquals(value(msrs, MSR.MCG_CAP), [0, 0]);
});

Deno.test("MTRRs take defined types and addresses only [sdm3 §12.11]", () => {
  const { msrs } = file();
  assertEquals(value(msrs, MSR.MTRRCAP), [0, VARIABLE_MTRRS | 0x500]);
  assertEquals(value(msrs, MSR.MTRR_DEF_TYPE), [0, 0x806]);
  for (const type of [0, 1, 4, 5, 6]) assertEquals(msrs.write(MSR.MTRR_DEF_TYPE, 0xc00 | type, 0), true);
  for (const bad of [2, 3, 7, 8, 0x100, 0x200, 0x1000, 0x8000_0000]) {
    assertEquals(msrs.write(MSR.MTRR_DEF_TYPE, bad, 0), false, bad.toString(16));
  }
  assertEquals(msrs.write(MSR.MTRR_DEF_TYPE, 0, 1), false);
  assertEquals(value(msrs, MSR.MTRR_DEF_TYPE), [0, 0xc06]);

  const last = MSR.MTRR_PHYSBASE0 + 2 * VARIABLE_MTRRS - 2;
  assertEquals(msrs.write(last, 0xfffff006, 0xff), true);
  assertEquals(value(msrs, last), [0xff, 0xfffff006]);
  assertEquals(msrs.write(last, 0x6, 0x100), false);
  assertEquals(msrs.write(last, 0x106, 0), false);
  assertEquals(msrs.write(last, 0x2, 0), false);
  assertEquals(msrs.write(last + 1, 0xfffff800, 0xff), true);
  assertEquals(msrs.write(last + 1, 0xfffff801, 0xff), false);
  assertEquals(msrs.write(last + 2, 0, 0), false);

  for (const msr of [0x250, 0x258, 0x259, 0x268, 0x26f]) {
    assertEquals(msrs.write(msr, 0x06050401, 0), true);
    assertEquals(value(msrs, msr), [0, 0x06050401]);
    assertEquals([msrs.write(msr, 0x06020406, 0), msrs.write(msr, 0, 0x0300_0000)], [false, false]);
  }
  for (const hole of [0x251, 0x25a, 0x267, 0x270]) assertEquals(msrs.read(hole), false);
});

Deno.test("SPEC_CTRL keeps IBRS, STIBP and BHI_DIS_S, and nothing else", () => {
  const { msrs } = file();
  assertEquals(
    [msrs.write(MSR.SPEC_CTRL, 0x403, 0), msrs.write(MSR.SPEC_CTRL, 4, 0), msrs.write(MSR.SPEC_CTRL, 0, 1)],
    [
      true,
      false,
      false,
    ],
  );
  assertEquals(value(msrs, MSR.SPEC_CTRL), [0, 0x403]);
});

Deno.test("MISC_ENABLE: fast strings can be switched, execute disable cannot", () => {
  const { msrs } = file();
  assertEquals(value(msrs, MSR.MISC_ENABLE), [0, 0x1801]);
  assertEquals(msrs.write(MSR.MISC_ENABLE, 0, 4), true);
  assertEquals(value(msrs, MSR.MISC_ENABLE), [0, 0x1800]);
  assertEquals(msrs.write(MSR.MISC_ENABLE, 0x8000_0000, 0), false);
});

Deno.test("MSRs in a store of somebody else's come back from it", () => {
  const store = new Uint32Array(MsrFile.WORDS);
  const board = { msrLo: 0, msrHi: 0, readMsr: () => false, writeMsr: () => false };
  const first = new MsrFile(board, 0, store);
  first.reset();
  first.write(MSR.SPEC_CTRL, 1, 0);
  assertEquals(value(new MsrFile(board, 0, store), MSR.SPEC_CTRL), [0, 1]);
});
