import { assertEquals } from "@std/assert";
import { CR0, CR4, EFER, FS, GS, S } from "../state.ts";
import { CPU } from "../system/fixture.ts";
import { MSR } from "../system/msr.ts";
import { defineMsr, ROWS } from "./msr.ts";
import { NEXT, rowFixture } from "./rows_fixture.ts";

/** Outside the state: a file that keeps what it is given, and guest time. */
const outside = new Map<number, bigint>();
let now = 1_000_000n;
let writable = true;

const fix = rowFixture(ROWS, defineMsr, [], {
  readTsc: () => fix.set64("answer", now),
  readMsr: (msr) => {
    const v = outside.get(msr! >>> 0);
    if (v === undefined) return 0;
    fix.set64("answer", v);
    return 1;
  },
  writeMsr: (msr, lo, hi) => {
    if (writable) outside.set(msr! >>> 0, (BigInt(hi! >>> 0) << 32n) | BigInt(lo! >>> 0));
    return writable ? 1 : 0;
  },
});

function reset(): void {
  outside.clear();
  outside.set(MSR.TSC_DEADLINE, 0n);
  writable = true;
  now = 1_000_000n;
  for (const f of ["tscOffset", "tscAdjust", "efer", "cr0", "cr4"] as const) fix.set64(f, 0);
  fix.set("cpl", 0);
  fix.setEvents(0);
  fix.call("updateMode");
}

function read(msr: number): bigint | string {
  fix.setReg(1, 0xabcd_0000_0000n | BigInt(msr >>> 0));
  fix.setReg(0, -1), fix.setReg(2, -1);
  const outcome = fix.outcome(fix.run("0F 32 RDMSR.32r"));
  if (outcome !== "next") return outcome;
  assertEquals([fix.reg(0) >> 32n, fix.reg(2) >> 32n], [0n, 0n]);
  return (fix.reg(2) << 32n) | fix.reg(0);
}
function write(msr: number, value: bigint): string {
  fix.setReg(1, msr >>> 0);
  // Upper halves of RAX and RDX do not count.
  fix.setReg(0, (value & 0xffff_ffffn) | (0xdead_0000n << 32n));
  fix.setReg(2, (value >> 32n) | (0xbeef_0000n << 32n));
  return fix.outcome(fix.run("0F 30 WRMSR.32r"));
}

const TOP = 0xffff_8000_0000_0000n, HOLE = 0x8000_0000_0000n;

const FIELDS: [name: string, msr: number, offset: number, good: bigint[], bad: bigint[]][] = [
  ["IA32_FS_BASE", MSR.FS_BASE, S.segBase + 8 * FS, [0n, TOP, HOLE - 1n], [HOLE, TOP - 1n]],
  ["IA32_GS_BASE", MSR.GS_BASE, S.segBase + 8 * GS, [0n, TOP], [HOLE]],
  ["IA32_KERNEL_GS_BASE", MSR.KERNEL_GS_BASE, S.kernelGsBase, [TOP], [HOLE]],
  ["IA32_TSC_AUX", MSR.TSC_AUX, S.tscAux, [0xffff_ffffn], [1n << 32n]],
  ["IA32_STAR", MSR.STAR, S.star, [0xffff_ffff_ffff_ffffn], []],
  ["IA32_LSTAR", MSR.LSTAR, S.lstar, [TOP], [HOLE]],
  ["IA32_CSTAR", MSR.CSTAR, S.cstar, [TOP], [HOLE]],
  ["IA32_FMASK", MSR.FMASK, S.fmask, [0xffff_ffffn], [1n << 32n]],
  ["IA32_SYSENTER_CS", MSR.SYSENTER_CS, S.sysenterCs, [0x10n], [1n << 32n]],
  ["IA32_SYSENTER_ESP", MSR.SYSENTER_ESP, S.sysenterEsp, [TOP], [HOLE]],
  ["IA32_SYSENTER_EIP", MSR.SYSENTER_EIP, S.sysenterEip, [TOP], [HOLE]],
  [
    "IA32_PAT",
    MSR.PAT,
    S.pat,
    [0x0007_0406_0007_0406n, 0x0706_0504_0100_0607n],
    [0x0207_0406_0007_0406n, 3n, 8n, 0x8000_0000_0000_0000n],
  ],
];
for (const [name, msr, offset, good, bad] of FIELDS) {
  Deno.test(`${name} takes ${good.length} values and refuses ${bad.length} [sdm4 table 2-2]`, () => {
    reset();
    for (const v of good) {
      assertEquals(write(msr, v), "next");
      assertEquals(fix.view.getBigUint64(CPU + offset, true), v);
      assertEquals(read(msr), v);
    }
    const kept = read(msr);
    for (const v of bad) assertEquals(write(msr, v), "#13(0)", v.toString(16));
    assertEquals(read(msr), kept);
  });
}

Deno.test("IA32_EFER: reserved bits and LME under paging fault, LMA is read-only", () => {
  reset();
  assertEquals(write(MSR.EFER, BigInt(EFER.SCE | EFER.LME | EFER.NXE | EFER.LMA)), "next");
  assertEquals(read(MSR.EFER), BigInt(EFER.SCE | EFER.LME | EFER.NXE));
  for (const n of [1n, 9n, 12n, 14n, 32n, 63n]) assertEquals(write(MSR.EFER, 1n << n), "#13(0)", `${n}`);
  fix.set64("cr0", (CR0.PE | CR0.PG) >>> 0);
  fix.set64("efer", EFER.LME | EFER.LMA);
  assertEquals(write(MSR.EFER, BigInt(EFER.LME | EFER.SCE)), "next");
  assertEquals(read(MSR.EFER), BigInt(EFER.LME | EFER.LMA | EFER.SCE));
  assertEquals(write(MSR.EFER, BigInt(EFER.SCE)), "#13(0)");
});

Deno.test("RDMSR and WRMSR are the supervisor's, and unknown registers fault", () => {
  reset();
  assertEquals([read(0x1234), read(0x1234_5678)], ["#13(0)", "#13(0)"]);
  writable = false;
  assertEquals(write(0x1234, 0n), "#13(0)");
  fix.set("cpl", 3);
  assertEquals([read(MSR.EFER), write(MSR.EFER, 0n)], ["#13(0)", "#13(0)"]);
});

Deno.test("MSRs outside the state, x2APIC's among them, go through with their 64 bits", () => {
  reset();
  for (const msr of [MSR.APIC_BASE, 0x830, 0x80b, MSR.MISC_ENABLE, 0x1ff]) {
    assertEquals(write(msr, 0x1234_5678_9abc_def0n), "next");
    assertEquals(outside.get(msr), 0x1234_5678_9abc_def0n);
    assertEquals(read(msr), 0x1234_5678_9abc_def0n);
  }
  fix.setEvents(1);
  assertEquals(write(0x80b, 0n), "resync");
  assertEquals(fix.get64("rip"), BigInt(NEXT));
});

Deno.test("RDTSC, RDTSCP and IA32_TIME_STAMP_COUNTER tell guest time plus the offset", () => {
  reset();
  fix.set64("tscOffset", 1n << 40n);
  assertEquals(read(MSR.TSC), now + (1n << 40n));
  assertEquals(fix.outcome(fix.run("0F 31 RDTSC.32r")), "next");
  assertEquals((fix.reg(2) << 32n) | fix.reg(0), now + (1n << 40n));
  fix.set64("tscAux", 0x55);
  fix.setReg(1, -1);
  assertEquals(fix.outcome(fix.run("0F 01 F9 RDTSCP.32r")), "next");
  assertEquals([(fix.reg(2) << 32n) | fix.reg(0), fix.reg(1)], [now + (1n << 40n), 0x55n]);
  for (const [name, d] of [["F3 0F C7 /7 RDPID.64r", 8], ["F3 0F C7 /7 RDPID.32r.legacy", 8]] as const) {
    fix.setReg(1, -1);
    fix.run(name, { d });
    assertEquals(fix.reg(1), 0x55n);
  }
});

Deno.test("RDTSC faults in user mode under CR4.TSD", () => {
  reset();
  fix.set64("cr4", CR4.TSD);
  assertEquals(fix.outcome(fix.run("0F 31 RDTSC.32r")), "next");
  fix.set("cpl", 3);
  assertEquals(fix.outcome(fix.run("0F 31 RDTSC.32r")), "#13(0)");
  assertEquals(fix.outcome(fix.run("0F 01 F9 RDTSCP.32r")), "#13(0)");
  fix.set64("cr4", 0);
  assertEquals(fix.outcome(fix.run("0F 31 RDTSC.32r")), "next");
});

Deno.test("writing the counter moves IA32_TSC_ADJUST by the same amount, and the reverse [sdm3 §18.17.3]", () => {
  reset();
  assertEquals(write(MSR.TSC, 5n), "next");
  assertEquals([read(MSR.TSC), read(MSR.TSC_ADJUST)], [5n, BigInt.asUintN(64, 5n - now)]);
  now += 10n;
  assertEquals(read(MSR.TSC), 15n);
  assertEquals(write(MSR.TSC_ADJUST, 0n), "next");
  assertEquals([read(MSR.TSC), read(MSR.TSC_ADJUST)], [now, 0n]);
});

Deno.test("IA32_TSC_DEADLINE is in the counter's terms; the APIC's is in guest time", () => {
  const set = (offset: bigint, v: bigint) => {
    fix.set64("tscOffset", offset);
    assertEquals(write(MSR.TSC_DEADLINE, v), "next");
    return outside.get(MSR.TSC_DEADLINE);
  };
  reset();
  assertEquals(set(0n, 777n), 777n);
  assertEquals(set(1000n, 5000n), 4000n);
  assertEquals(read(MSR.TSC_DEADLINE), 5000n);
  assertEquals(set(-1000n, 5000n), 6000n);
  assertEquals(set(1000n, 0n), 0n);
  assertEquals(read(MSR.TSC_DEADLINE), 0n);
  // Before guest time began, and after its end: at once, and never.
  assertEquals(set(1000n, 10n), 1n);
  assertEquals(set(1000n, 1000n), 1n);
  assertEquals(set(-1000n, (1n << 64n) - 1n), (1n << 64n) - 1n);
  assertEquals(set(1000n, (1n << 64n) - 1n), (1n << 64n) - 1001n);
});

Deno.test("an armed deadline keeps its value when the counter is moved", () => {
  reset();
  write(MSR.TSC_DEADLINE, 2_000_000n);
  write(MSR.TSC_ADJUST, 300_000n);
  assertEquals([outside.get(MSR.TSC_DEADLINE), read(MSR.TSC_DEADLINE)], [1_700_000n, 2_000_000n]);
  outside.delete(MSR.TSC_DEADLINE);
  assertEquals(write(MSR.TSC_ADJUST, 5n), "next");
});

Deno.test("RDPMC names no counter that exists", () => {
  reset();
  assertEquals(fix.outcome(fix.run("0F 33 RDPMC.32r")), "#13(0)");
});
