/** The oracle is a model of the flags in numbers written from the pages of [sdm2]. */
import { assertEquals } from "@std/assert";
import {
  AC,
  CF,
  CR0,
  CR4,
  DF,
  DTLB,
  DTLB_BYTES,
  ID,
  IF,
  IOPL,
  MMU_SUPERVISOR_AC,
  NT,
  OF,
  PF,
  RF,
  S,
  SF,
  SS,
  STATUS_FLAGS,
  TF,
  VIF,
  VIP,
  VM,
  ZF,
} from "../state.ts";
import { CPU, RAM } from "../system/fixture.ts";
import { defineFlagOps, ROWS } from "./flagops.ts";
import { NEXT, rowFixture } from "./rows_fixture.ts";

const fix = rowFixture([...ROWS, { op: "00", name: "READ", sem: (o) => o.st32("misc", o.rflags()) }], defineFlagOps);
const STACK = 0x8000n;
const NONE = 1 << 1;

interface Mode {
  readonly name: string;
  readonly cr0: number;
  readonly vm: boolean;
  readonly cpl: number;
  readonly wide: boolean;
}
const MODES: readonly Mode[] = [
  { name: "real mode", cr0: 0, vm: false, cpl: 0, wide: false },
  { name: "supervisor", cr0: CR0.PE, vm: false, cpl: 0, wide: true },
  { name: "protected, CPL 1", cr0: CR0.PE, vm: false, cpl: 1, wide: false },
  { name: "user", cr0: CR0.PE, vm: false, cpl: 3, wide: true },
  { name: "legacy user", cr0: CR0.PE, vm: false, cpl: 3, wide: false },
  { name: "virtual-8086", cr0: CR0.PE, vm: true, cpl: 3, wide: false },
];

function set(flags: number): void {
  fix.set("eflags", (flags & ~STATUS_FLAGS) | NONE);
  // Status flags in their explicit form.
  fix.set("fKind", 1);
  fix.set64("fB", flags & STATUS_FLAGS);
  fix.set64("fRes", flags & ZF ? 0 : 1);
}
function flags(): number {
  assertEquals(fix.outcome(fix.run("00 READ.32r")), "next");
  return fix.get("misc");
}
function enter(mode: Mode, value: number, cr4 = 0): void {
  fix.set64("cr0", mode.cr0), fix.set64("cr4", cr4), fix.set64("efer", 0);
  fix.set("cpl", mode.cpl);
  set(value | (mode.vm ? VM : 0));
  fix.set("segRights", 0xc093, SS), fix.set("segLimit", 0xffff_ffff, SS), fix.set64("segBase", 0, SS);
  fix.setReg(4, STACK);
  fix.set("inhibit", 0), fix.set64("rip", 0);
  fix.setEvents(0);
  fix.call("updateMode");
}
const allows = (mode: Mode, value: number) => mode.cpl <= (value & IOPL) >> 12;

for (const mode of MODES) {
  Deno.test(`CLI and STI in ${mode.name} [sdm2 CLI, STI]`, () => {
    for (let bits = 0; bits < 32; bits++) {
      const old = ((bits & 3) << 12) | (bits & 4 ? IF : 0) | (bits & 8 ? VIF | VIP : 0) | NONE;
      const on = (bits & 16) !== 0;
      enter(mode, old);
      const outcome = fix.outcome(fix.run(on ? `FB STI.32r${mode.wide ? "" : ".legacy"}` : "FA CLI.32r"));
      if (!allows(mode, old)) {
        assertEquals([outcome, fix.get("eflags") & ~VM], ["#13(0)", old]);
        continue;
      }
      assertEquals([outcome, fix.get("eflags") & ~VM], ["next", on ? old | IF : old & ~IF], `${bits}`);
      // Interrupts stay off for one more instruction only if they were off.
      assertEquals(fix.get("inhibit"), on && !(old & IF) ? 1 : 0);
    }
  });

  for (const bits of [16, 32, 64]) {
    if (bits === (mode.wide ? 32 : 64)) continue;
    const suffix = `${bits}r${mode.wide ? "" : ".legacy"}`;

    Deno.test(`PUSHF of ${bits} bits in ${mode.name}`, () => {
      for (let level = 0; level < 4; level++) {
        const old = (level << 12) | IF | RF | NT | AC | ID | CF | ZF | NONE;
        enter(mode, old);
        const outcome = fix.outcome(fix.run(`9C PUSHF.${suffix}`));
        if (mode.vm && level < 3) {
          assertEquals([outcome, fix.reg(4)], ["#13(0)", STACK]);
          continue;
        }
        assertEquals([outcome, fix.reg(4)], ["next", STACK - BigInt(bits / 8)]);
        const at = RAM + Number(STACK) - bits / 8, image = old & ~RF;
        const found = bits === 16 ? fix.view.getUint16(at, true) : fix.view.getUint32(at, true);
        assertEquals(found, bits === 16 ? image & 0xffff : image);
      }
    });

    Deno.test(`POPF of ${bits} bits in ${mode.name}`, () => {
      let seed = 12345;
      for (let i = 0; i < 400; i++) {
        const random = () => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) >>> 8;
        const changeable = STATUS_FLAGS | TF | IF | DF | IOPL | NT | AC | ID | VIP | VIF;
        const old = ((random() << 8) ^ random()) & changeable | NONE | (random() & 1 ? RF : 0);
        const image = ((random() << 8) ^ random()) | 0;
        enter(mode, old);
        fix.view.setBigUint64(RAM + Number(STACK), BigInt(image >>> 0) | (0x7fff_ffffn << 32n), true);
        const outcome = fix.outcome(fix.run(`9D POPF.${suffix}`));
        if (mode.vm && (old & IOPL) !== IOPL) {
          assertEquals([outcome, fix.reg(4), flags() & ~VM], ["#13(0)", STACK, old]);
          continue;
        }
        const expected = popf(mode, old, image, bits);
        assertEquals(flags() & ~VM, expected, `${old.toString(16)} ${(image >>> 0).toString(16)}`);
        assertEquals(fix.reg(4), STACK + BigInt(bits / 8));
        assertEquals(outcome, (old ^ expected) & TF ? "resync" : "next");
        if (outcome === "resync") assertEquals(fix.get64("rip"), BigInt(NEXT));
      }
    });
  }
}

function popf(mode: Mode, old: number, image: number, bits: number): number {
  const mask = STATUS_FLAGS | TF | DF | NT | (bits > 16 ? AC | ID : 0) | (allows(mode, old) ? IF : 0) |
    (mode.cpl === 0 ? IOPL : 0);
  return (image & mask) | (old & ~mask & ~RF);
}

Deno.test("STI and POPF leave when the event word asks for attention", () => {
  enter(MODES[1]!, NONE);
  fix.setEvents(1);
  assertEquals(fix.outcome(fix.run("FB STI.32r")), "resync");
  assertEquals([fix.get64("rip"), fix.get("inhibit")], [BigInt(NEXT), 1]);
  enter(MODES[1]!, NONE);
  fix.setEvents(1);
  fix.view.setBigUint64(RAM + Number(STACK), BigInt(IF | NONE), true);
  assertEquals(fix.outcome(fix.run("9D POPF.64r")), "resync");
  assertEquals([fix.get64("rip"), fix.reg(4), fix.get("inhibit")], [BigInt(NEXT), STACK + 8n, 0]);
  enter(MODES[1]!, IF | NONE);
  fix.setEvents(1);
  assertEquals(fix.outcome(fix.run("9D POPF.64r")), "next");
});

Deno.test("a stack that cannot be read keeps POPF's flags", () => {
  enter(MODES[4]!, CF | NONE);
  fix.set("segLimit", 0x7000, SS);
  assertEquals(fix.outcome(fix.run("9D POPF.32r.legacy")), "#12(0)");
  assertEquals([flags(), fix.reg(4)], [CF | NONE, STACK]);
});

Deno.test("STAC and CLAC switch the data TLB at CPL 0, and are #UD elsewhere", () => {
  enter(MODES[1]!, NONE, CR4.SMAP);
  const supervisor = fix.get("dtlb");
  assertEquals(fix.outcome(fix.run("NP 0F 01 CB STAC.32r")), "next");
  assertEquals(fix.get("eflags") & AC, AC);
  assertEquals(fix.get("dtlb"), CPU + DTLB + MMU_SUPERVISOR_AC * DTLB_BYTES);
  const open = fix.get("dtlb");
  fix.call("updateMode");
  assertEquals(fix.get("dtlb"), open);
  assertEquals(fix.outcome(fix.run("NP 0F 01 CA CLAC.32r")), "next");
  assertEquals([fix.get("eflags") & AC, fix.get("dtlb")], [0, supervisor]);
  fix.view.setBigUint64(RAM + Number(STACK), BigInt(AC | NONE), true);
  fix.run("9D POPF.64r");
  assertEquals(fix.get("dtlb"), open);
  enter(MODES[3]!, NONE, CR4.SMAP);
  assertEquals(fix.outcome(fix.run("NP 0F 01 CB STAC.32r")), "#6");
});

Deno.test("CLC, STC, CMC, CLD, STD, LAHF, SAHF touch their flags only", () => {
  const cases: [row: string, change: (f: number) => number][] = [
    ["F8 CLC", (f) => f & ~CF],
    ["F9 STC", (f) => f | CF],
    ["F5 CMC", (f) => f ^ CF],
    ["FC CLD", (f) => f & ~DF],
    ["FD STD", (f) => f | DF],
  ];
  for (let bits = 0; bits < 128; bits++) {
    const start = [CF, PF, 1 << 4, ZF, SF, OF, DF].reduce((f, flag, i) => f | (bits & (1 << i) ? flag : 0), NONE);
    for (const [row, change] of cases) {
      enter(MODES[1]!, start);
      fix.run(`${row}.32r`);
      assertEquals(flags(), change(start), row);
    }
    enter(MODES[1]!, start);
    fix.setReg(0, -1);
    fix.run("9F LAHF.32r");
    assertEquals(fix.reg(0), 0xffff_ffff_ffff_00ffn | BigInt((start & 0xd5) | 2) << 8n);
    for (const ah of [0, 0xff, 0x55, 0xaa]) {
      enter(MODES[1]!, start);
      fix.setReg(0, ah << 8);
      fix.run("9E SAHF.32r");
      assertEquals(flags(), (start & (OF | DF)) | (ah & 0xd5) | NONE);
    }
  }
  assertEquals(fix.view.getUint32(CPU + S.cpl, true), 0);
});
