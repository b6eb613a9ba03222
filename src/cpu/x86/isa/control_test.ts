import { assertEquals } from "@std/assert";
import { CR0, CR4, CS, EFER, S } from "../state.ts";
import { CPU, RAM } from "../system/fixture.ts";
import { defineControl, ROWS } from "./control.ts";
import { NEXT, type RowFixture, rowFixture } from "./rows_fixture.ts";

const CODE64 = 0xa09b, CODE32 = 0xc09b, TSS32 = 0x8b, TSS16 = 0x83;
const { PE, PG, WP, NW, CD, ET, TS, EM, MP, NE, AM } = CR0;
const tpr = { value: 0 };

const fix = rowFixture(ROWS, defineControl, [], {
  readTpr: () => tpr.value,
  writeTpr: (v) => void (tpr.value = v),
});

type Start = Partial<{ cr0: number; cr3: number; cr4: number; efer: number; cpl: number; cs: number; tr: number }>;

function start(s: Start): RowFixture {
  fix.set64("cr0", (s.cr0 ?? ET) >>> 0);
  fix.set64("cr3", s.cr3 ?? 0);
  fix.set64("cr4", s.cr4 ?? 0);
  fix.set64("efer", s.efer ?? 0);
  fix.set("cpl", s.cpl ?? 0);
  fix.set("segRights", s.cs ?? CODE32, CS);
  fix.set("segRights", s.tr ?? TSS32, 7);
  fix.set64("rip", 0);
  fix.setEvents(0);
  fix.call("updateMode");
  return fix;
}

/** 64-bit mode, 4-level paging. */
const LONG = { cr0: ET | PE | PG, cr4: CR4.PAE, efer: EFER.LME | EFER.LMA, cs: CODE64 };
const COMPATIBILITY = { ...LONG, cs: CODE32 };
/** Where a table of PDPTEs may lie. */
const TABLE = 0x3000;

function mov(what: "20" | "21" | "22" | "23", number: number, value: bigint, wide: boolean): string {
  fix.setReg(1, value);
  const name = `0F ${what} MOV.${wide ? "64r" : "32r.legacy"}`;
  return fix.outcome(fix.run(name, { d: 8, s: number }));
}

interface WriteCase {
  readonly what: string;
  readonly from: Start;
  readonly cr: number;
  readonly value: number | bigint;
  readonly outcome: "jump" | "#13(0)" | "#6";
  readonly pdpte?: bigint;
}

const WRITES: readonly WriteCase[] = [
  { what: "paging on without protection", from: {}, cr: 0, value: PG, outcome: "#13(0)" },
  { what: "protection on", from: {}, cr: 0, value: PE, outcome: "jump" },
  { what: "32-bit paging on", from: { cr0: ET | PE }, cr: 0, value: PE | PG, outcome: "jump" },
  { what: "NW without CD", from: {}, cr: 0, value: NW, outcome: "#13(0)" },
  { what: "NW with CD", from: {}, cr: 0, value: NW | CD, outcome: "jump" },
  { what: "upper half of CR0", from: LONG, cr: 0, value: 0x1_8000_0001n, outcome: "#13(0)" },
  { what: "reserved bits of CR0 are ignored", from: LONG, cr: 0, value: PE | PG | 1 << 9, outcome: "jump" },
  { what: "paging off in 64-bit mode", from: LONG, cr: 0, value: PE, outcome: "#13(0)" },
  { what: "paging off in compatibility mode", from: COMPATIBILITY, cr: 0, value: PE, outcome: "jump" },
  {
    what: "paging off with PCIDs",
    from: { ...COMPATIBILITY, cr4: CR4.PAE | CR4.PCIDE },
    cr: 0,
    value: PE,
    outcome: "#13(0)",
  },
  { what: "LME without PAE", from: { cr0: ET | PE, efer: EFER.LME }, cr: 0, value: PE | PG, outcome: "#13(0)" },
  {
    what: "LME with CS.L",
    from: { cr0: ET | PE, cr4: CR4.PAE, efer: EFER.LME, cs: CODE64 },
    cr: 0,
    value: PE | PG,
    outcome: "#13(0)",
  },
  {
    what: "LME with a 16-bit TSS",
    from: { cr0: ET | PE, cr4: CR4.PAE, efer: EFER.LME, tr: TSS16 },
    cr: 0,
    value: PE | PG,
    outcome: "#13(0)",
  },
  { what: "IA-32e on", from: { cr0: ET | PE, cr4: CR4.PAE, efer: EFER.LME }, cr: 0, value: PE | PG, outcome: "jump" },
  {
    what: "PAE paging on, a PDPTE with a reserved bit",
    from: { cr0: ET | PE, cr4: CR4.PAE, cr3: TABLE },
    cr: 0,
    value: PE | PG,
    pdpte: 3n,
    outcome: "#13(0)",
  },
  {
    what: "PAE paging on, that PDPTE not present",
    from: { cr0: ET | PE, cr4: CR4.PAE, cr3: TABLE },
    cr: 0,
    value: PE | PG,
    pdpte: 2n,
    outcome: "jump",
  },
  { what: "a number that no register has", from: LONG, cr: 1, value: 0, outcome: "#6" },
  { what: "CR5", from: LONG, cr: 5, value: 0, outcome: "#6" },
  { what: "CR15", from: LONG, cr: 15, value: 0, outcome: "#6" },
  { what: "user mode", from: { ...LONG, cpl: 3 }, cr: 0, value: PE | PG, outcome: "#13(0)" },
  { what: "CR2 takes anything", from: LONG, cr: 2, value: 0xdead_beef_0123_4567n, outcome: "jump" },
  { what: "CR3 beyond MAXPHYADDR", from: LONG, cr: 3, value: 1n << 40n, outcome: "#13(0)" },
  { what: "CR3 with ignored low bits", from: LONG, cr: 3, value: 0x5fff, outcome: "jump" },
  { what: "CR3 bit 63 without PCIDs", from: LONG, cr: 3, value: 1n << 63n, outcome: "#13(0)" },
  {
    what: "CR3 bit 63 with PCIDs",
    from: { ...LONG, cr4: CR4.PAE | CR4.PCIDE },
    cr: 3,
    value: (1n << 63n) | 0x5001n,
    outcome: "jump",
  },
  {
    what: "CR3 in PAE paging, a PDPTE with a reserved bit",
    from: { cr0: ET | PE | PG, cr4: CR4.PAE },
    cr: 3,
    value: TABLE,
    pdpte: 1n | (1n << 45n),
    outcome: "#13(0)",
  },
  {
    what: "CR3 in PAE paging, a good PDPTE",
    from: { cr0: ET | PE | PG, cr4: CR4.PAE },
    cr: 3,
    value: TABLE,
    pdpte: 0xff_ffff_fe19n,
    outcome: "jump",
  },
  { what: "a reserved flag of CR4", from: LONG, cr: 4, value: CR4.PAE | 1 << 12, outcome: "#13(0)" },
  { what: "VMXE, which is not here", from: LONG, cr: 4, value: CR4.PAE | 1 << 13, outcome: "#13(0)" },
  { what: "VME, which is not here", from: LONG, cr: 4, value: CR4.PAE | CR4.VME, outcome: "#13(0)" },
  { what: "PVI, which is not here", from: LONG, cr: 4, value: CR4.PAE | CR4.PVI, outcome: "#13(0)" },
  { what: "upper half of CR4", from: LONG, cr: 4, value: (1n << 32n) | BigInt(CR4.PAE), outcome: "#13(0)" },
  { what: "PAE off in IA-32e mode", from: LONG, cr: 4, value: 0, outcome: "#13(0)" },
  { what: "PAE on in 32-bit paging", from: { cr0: ET | PE | PG }, cr: 4, value: CR4.PAE, outcome: "jump" },
  { what: "PCIDs in IA-32e mode", from: LONG, cr: 4, value: CR4.PAE | CR4.PCIDE, outcome: "jump" },
  {
    what: "PCIDs with one already in CR3",
    from: { ...LONG, cr3: 5 },
    cr: 4,
    value: CR4.PAE | CR4.PCIDE,
    outcome: "#13(0)",
  },
  { what: "PCIDs outside IA-32e mode", from: { cr4: CR4.PAE }, cr: 4, value: CR4.PAE | CR4.PCIDE, outcome: "#13(0)" },
  {
    what: "PGE in PAE paging reads the PDPTEs",
    from: { cr0: ET | PE | PG, cr4: CR4.PAE, cr3: TABLE },
    cr: 4,
    value: CR4.PAE | CR4.PGE,
    pdpte: 3n,
    outcome: "#13(0)",
  },
  {
    what: "TSD in PAE paging does not",
    from: { cr0: ET | PE | PG, cr4: CR4.PAE, cr3: TABLE },
    cr: 4,
    value: CR4.PAE | CR4.TSD,
    pdpte: 3n,
    outcome: "jump",
  },
  { what: "CR8 of 16", from: LONG, cr: 8, value: 16, outcome: "#13(0)" },
  { what: "CR8 of 15", from: LONG, cr: 8, value: 15, outcome: "jump" },
];

for (const t of WRITES) {
  Deno.test(`MOV to CR${t.cr}, ${t.what}: ${t.outcome} [sdm2 MOV, sdm3 §2.5]`, () => {
    start(t.from);
    fix.view.setBigUint64(RAM + TABLE + 8, t.pdpte ?? 0n, true);
    const before = ["cr0", "cr3", "cr4", "efer"].map((n) => fix.get64(n as keyof typeof S));
    const wide = t.from.cs === CODE64;
    const value = typeof t.value === "number" ? BigInt(t.value >>> 0) : t.value;
    assertEquals(mov("22", t.cr, value, wide), t.outcome);
    if (t.outcome === "jump") assertEquals(fix.get64("rip"), BigInt(NEXT));
    else assertEquals(["cr0", "cr3", "cr4", "efer"].map((n) => fix.get64(n as keyof typeof S)), before);
  });
}

Deno.test("CR0 keeps ET, and its reserved bits stay clear", () => {
  start(LONG);
  mov("22", 0, BigInt((PE | PG | WP | 0x1f80) >>> 0), true);
  assertEquals(fix.get64("cr0"), BigInt((PE | PG | WP | ET) >>> 0));
});

Deno.test("CR0.PG with EFER.LME switches EFER.LMA both ways", () => {
  start({ cr0: ET | PE, cr4: CR4.PAE, efer: EFER.LME });
  mov("22", 0, BigInt((PE | PG) >>> 0), false);
  assertEquals(fix.get("efer"), EFER.LME | EFER.LMA);
  mov("22", 0, BigInt(PE), false);
  assertEquals(fix.get("efer"), EFER.LME);
});

Deno.test("CR3's bit 63 is not kept", () => {
  start({ ...LONG, cr4: CR4.PAE | CR4.PCIDE });
  mov("22", 3, (1n << 63n) | 0x7003n, true);
  assertEquals(fix.get64("cr3"), 0x7003n);
});

Deno.test("MOV from CR reads at the mode's width", () => {
  start(LONG);
  fix.set64("cr2", 0xffff_8000_1234_5678n);
  assertEquals(mov("20", 2, 0n, true), "next");
  assertEquals(fix.reg(1), 0xffff_8000_1234_5678n);
  assertEquals(mov("20", 2, 0n, false), "next");
  assertEquals(fix.reg(1), 0x1234_5678n);
  tpr.value = 9;
  mov("20", 8, 0n, true);
  assertEquals(fix.reg(1), 9n);
  assertEquals(mov("20", 7, 0n, true), "#6");
  start({ ...LONG, cpl: 3 });
  assertEquals(mov("20", 0, 0n, true), "#13(0)");
});

Deno.test("CR8 that lets an interrupt in leaves the trace", () => {
  start(LONG);
  fix.setEvents(1);
  assertEquals(mov("22", 8, 3n, true), "resync");
  assertEquals([tpr.value, fix.get64("rip")], [3, BigInt(NEXT)]);
});

Deno.test("TLBs are flushed by CR3 and by the paging flags, not by TS, MP or TSD [sdm3 §4.10.4.1]", () => {
  const flushed = (from: Start, cr: number, value: number) => {
    start(from);
    fix.call("flushTlb");
    // A read fills an entry; tlbMisses tells whether it is still there.
    fix.set64("cr0", ET | PE), fix.call("updateMode");
    const read = () => {
      const before = fix.get("tlbMisses");
      fix.run("66 0F 38 82 INVPCID.64m", { d: 8 }, 0x5000n);
      return fix.get("tlbMisses") - before;
    };
    fix.setReg(1, 9); // no such type: #GP(0) after the operand has been read
    read();
    assertEquals(read(), 0);
    start(from);
    assertEquals(mov("22", cr, BigInt(value >>> 0), true), "jump");
    fix.set64("cr0", ET | PE), fix.call("updateMode");
    fix.setReg(1, 9);
    return read() > 0;
  };
  assertEquals(flushed(LONG, 3, 0x2000), true);
  assertEquals(flushed(LONG, 0, PE | PG | WP), true);
  assertEquals(flushed(LONG, 0, PE | PG | TS | MP | NE | AM | EM), false);
  for (const flag of [CR4.PGE, CR4.SMEP, CR4.SMAP, CR4.PCIDE, CR4.PSE]) {
    assertEquals(flushed(LONG, 4, CR4.PAE | flag), true, `${flag}`);
  }
  for (const flag of [CR4.TSD, CR4.DE, CR4.OSFXSR, CR4.UMIP, CR4.FSGSBASE]) {
    assertEquals(flushed(LONG, 4, CR4.PAE | flag), false, `${flag}`);
  }
});

Deno.test("CLTS clears TS and lets vector instructions through again", () => {
  start({ ...LONG, cr0: LONG.cr0 | TS, cr4: CR4.PAE | CR4.OSFXSR });
  assertEquals(fix.get("unitTraps") & 1, 1);
  assertEquals(fix.outcome(fix.run("0F 06 CLTS.32r")), "next");
  assertEquals([fix.get("cr0") & TS, fix.get("unitTraps") & 1], [0, 0]);
  start({ ...LONG, cpl: 3 });
  assertEquals(fix.outcome(fix.run("0F 06 CLTS.32r")), "#13(0)");
});

Deno.test("MOV DR: aliases, reserved bits, general detect [sdm3 §18.2]", () => {
  start(LONG);
  fix.set64("dr", 0xffff_0ff0n, 6), fix.set64("dr", 0x400n, 7);
  assertEquals(mov("23", 0, 0xffff_8000_0000_1000n, true), "jump");
  assertEquals(fix.get64("dr", 0), 0xffff_8000_0000_1000n);
  // Its breakpoints hold from the next instruction on.
  assertEquals(mov("23", 7, 0xffff_dfffn, true), "resync");
  assertEquals(fix.get64("dr", 7), 0xffff_07ffn | 0x400n);
  assertEquals(mov("23", 6, 0xffffn, true), "resync");
  assertEquals(fix.get64("dr", 6), 0xffff_efffn);
  assertEquals(mov("23", 6, 0x1_0000_0000n, true), "#13(0)");
  assertEquals(mov("23", 8, 0n, true), "#6");
  // DR4 and DR5 are DR6 and DR7 unless CR4.DE says they are not.
  assertEquals(mov("23", 5, 0n, true), "resync");
  assertEquals(fix.get64("dr", 7), 0x400n);
  assertEquals(mov("21", 4, 0n, true), "next");
  assertEquals(fix.reg(1), 0xffff_efffn);
  start({ ...LONG, cr4: CR4.PAE | CR4.DE });
  assertEquals(mov("21", 4, 0n, true), "#6");
  start({ ...LONG, cpl: 3 });
  assertEquals(mov("21", 0, 0n, true), "#13(0)");
  start(LONG);
  assertEquals(mov("23", 7, 0x2000n, true), "jump");
  assertEquals(mov("21", 0, 0n, true), "#1");
  assertEquals(fix.get64("dr", 6) & 0x2000n, 0x2000n);
  assertEquals(fix.get64("dr", 7), 0x400n);
});

Deno.test("INVPCID checks its type, its descriptor and the address [sdm2 INVPCID]", () => {
  const cases: [type: number, low: bigint, address: bigint, pcide: boolean, outcome: string][] = [
    [0, 0n, 0x1000n, false, "jump"],
    [0, 0n, 1n << 47n, false, "#13(0)"],
    [1, 0n, 1n << 47n, false, "jump"],
    [0, 5n, 0n, false, "#13(0)"],
    [1, 5n, 0n, false, "#13(0)"],
    [0, 5n, 0n, true, "jump"],
    [1, 5n, 0n, true, "jump"],
    [2, 5n, 0n, false, "jump"],
    [3, 0n, 0n, false, "jump"],
    [4, 0n, 0n, false, "#13(0)"],
    [3, 0x1000n, 0n, true, "#13(0)"],
  ];
  for (const [type, low, address, pcide, outcome] of cases) {
    start({ cr0: ET | PE, cr4: pcide ? CR4.PCIDE : 0 });
    fix.view.setBigUint64(RAM + 0x5000, low, true);
    fix.view.setBigUint64(RAM + 0x5008, address, true);
    fix.setReg(1, type);
    assertEquals(fix.outcome(fix.run("66 0F 38 82 INVPCID.64m", { d: 8 }, 0x5000n)), outcome, `${type} ${low}`);
  }
});

Deno.test("XSETBV takes x87 with or without SSE; XGETBV reads it back", () => {
  const set = (ecx: number, value: bigint) => {
    fix.setReg(1, ecx), fix.setReg(0, value & 0xffff_ffffn), fix.setReg(2, value >> 32n);
    return fix.outcome(fix.run("NP 0F 01 D1 XSETBV.32r"));
  };
  start(LONG);
  assertEquals(set(0, 3n), "#6");
  start({ ...LONG, cr4: CR4.PAE | CR4.OSXSAVE, cpl: 3 });
  assertEquals(set(0, 3n), "#13(0)");
  start({ ...LONG, cr4: CR4.PAE | CR4.OSXSAVE });
  for (const bad of [0n, 2n, 7n, 0x1_0000_0003n]) assertEquals(set(0, bad), "#13(0)");
  assertEquals(set(1, 3n), "#13(0)");
  assertEquals(set(0, 1n), "next");
  assertEquals(set(0, 3n), "next");
  fix.setReg(1, 0), fix.setReg(0, -1), fix.setReg(2, -1);
  assertEquals(fix.outcome(fix.run("NP 0F 01 D0 XGETBV.32r")), "next");
  assertEquals([fix.reg(0), fix.reg(2)], [3n, 0n]);
  fix.setReg(1, 1);
  assertEquals(fix.outcome(fix.run("NP 0F 01 D0 XGETBV.32r")), "#13(0)");
});

Deno.test("HLT stops behind itself, and only the supervisor may", () => {
  start(LONG);
  assertEquals(fix.outcome(fix.run("F4 HLT.32r")), "halt");
  assertEquals(fix.get64("rip"), BigInt(NEXT));
  start({ cr0: ET | PE });
  fix.set64("segBase", 0x1000, CS);
  assertEquals(fix.outcome(fix.run("F4 HLT.32r.legacy")), "halt");
  assertEquals(fix.get64("rip"), BigInt(NEXT - 0x1000));
  fix.set64("segBase", 0, CS);
  start({ ...LONG, cpl: 3 });
  assertEquals(fix.outcome(fix.run("F4 HLT.32r")), "#13(0)");
  assertEquals(fix.view.getInt32(CPU + S.excVector, true), 13);
});
