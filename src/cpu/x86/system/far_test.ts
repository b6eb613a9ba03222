/** Expectations from [sdm2 IRET, CALL, JMP, RET, SYSCALL, SYSRET, SYSENTER, SYSEXIT] and [sdm3 5.8, 8.3]. */
import { assertEquals } from "@std/assert";
import { CS, DS, ES, FS, GS, LDTR, SS, TR } from "../state.ts";
import { AT, callGate, descriptor, gate32, raiseIn, SEL, type World, world } from "./world.ts";

const JUMP = 2, RESYNC = 7, IF = 0x200, NT = 0x4000, VM = 0x20000, IOPL3 = 0x3000;

/** Puts items on the stack, first on top. */
function stack(w: World, bytes: 2 | 4 | 8, ...items: (number | bigint)[]): void {
  items.forEach((x, i) => w.poke(w.rsp() + i * bytes, x, bytes));
}
/** The fault that was left pending, as text. */
const fault = (w: World) => `#${w.get("excVector")}(${w.get("excError").toString(16)})`;

Deno.test("IRETQ to user code loads all five items and drops data segments of inner levels", () => {
  const w = world("64");
  stack(w, 8, 0x40_1000n, SEL.code3, 0x246n | 0x3000n, 0x7fff_0000n, SEL.data3);
  w.put(FS, SEL.data3);
  assertEquals(w.call("iret", 8, 0n), JUMP);
  assertEquals(w.where(), "1b:401000 23:7fff0000 cpl 3");
  assertEquals(w.get("eflags"), 0x3202);
  assertEquals(w.call("iret", 8, 0n), 1); // PF and ZF were loaded; the user stack is not mapped above 1 GiB
  assertEquals([DS, ES].map((n) => [w.get("segSelector", n), w.get("segRights", n)]), [[0, 1 << 16], [0, 1 << 16]]);
  assertEquals(w.get("segSelector", FS), SEL.data3);
});

Deno.test("IRETQ within the kernel may have a null SS", () => {
  const w = world("64");
  stack(w, 8, 0x40_1000n, SEL.code0, 2, 0x7000n, 0);
  assertEquals(w.call("iret", 8, 0n), JUMP);
  assertEquals(w.where(), "8:401000 0:7000 cpl 0");
  assertEquals(w.get("segRights", SS) >> 16, 1);
});

Deno.test("IRETQ faults leave everything as it was", () => {
  const cases: [string, (number | bigint)[]][] = [
    ["#13(0)", [0x8000_0000_0000n, SEL.code3, 2, 0x7000n, SEL.data3]],
    ["#13(0)", [0x1000n, 0, 2, 0x7000n, SEL.data3]],
    ["#13(0)", [0x1000n, SEL.code3, 2, 0x7000n, 0]],
    ["#13(10)", [0x1000n, SEL.data0, 2, 0x7000n, 0]],
    ["#13(20)", [0x1000n, SEL.code3, 2, 0x7000n, SEL.data3 - 2]],
    ["#13(48)", [0x1000n, SEL.code3, 2, 0x7000n, SEL.readOnly | 3]],
    ["#13(18)", [0x1000n, SEL.code3 & ~1, 2, 0x7000n, SEL.data3]],
    ["#13(200)", [0x1000n, 0x200, 2, 0x7000n, SEL.data3]],
  ];
  for (const [expected, items] of cases) {
    const w = world("64");
    stack(w, 8, ...items);
    const before = w.where() + w.segment(CS) + w.segment(SS) + w.segment(DS);
    assertEquals(w.call("iret", 8, 0n), 1);
    assertEquals(fault(w), expected);
    assertEquals(w.where() + w.segment(CS) + w.segment(SS) + w.segment(DS), before);
  }
  const n = world("64");
  n.set("eflags", 2 | NT);
  assertEquals([n.call("iret", 8, 0n), fault(n)], [1, "#13(0)"]);
});

Deno.test("IRET changes IOPL only at level 0 and IF only up to IOPL", () => {
  for (
    const [cpl, old, popped, expected] of [
      [0, 2, IF | IOPL3, IF | IOPL3 | 2],
      [3, 2, IF | IOPL3, 2],
      [3, IOPL3 | 2, IF, IF | IOPL3 | 2],
      [3, IF | 2, 0, IF | 2],
    ] as const
  ) {
    const w = world("32", cpl);
    w.set("eflags", old);
    stack(w, 4, 0x5000, cpl ? SEL.code3 : SEL.code0, popped);
    assertEquals(w.call("iret", 4, 0n), JUMP);
    assertEquals(w.get("eflags"), expected);
    assertEquals(w.rsp(), (cpl ? AT.stack3 : AT.stack0 - 0x100) + 12);
  }
});

Deno.test("IRETD into VM86 mode, and IRET there", () => {
  const w = world("32");
  stack(w, 4, 0x100, 0x2000, IF | IOPL3 | VM | 2, 0xfff0, 0x3000, 0x4000, 0x5000, 0x6000, 0x7000);
  assertEquals(w.call("iret", 4, 0n), JUMP);
  assertEquals(w.where(), "2000:100 3000:fff0 cpl 3");
  assertEquals([ES, DS, FS, GS].map((n) => w.segment(n)), [
    "4000 40000 ffff f3",
    "5000 50000 ffff f3",
    "6000 60000 ffff f3",
    "7000 70000 ffff f3",
  ]);
  assertEquals(w.get("mode"), 8);
  // The stack is at 30000h + FFF0h.
  [0x42, 0x1111, 2].forEach((x, i) => w.poke(0x3fff0 + 2 * i, x, 2));
  assertEquals(w.call("iret", 2, 0n), JUMP);
  assertEquals(w.where(), "1111:42 3000:fff6 cpl 3");
  assertEquals(w.get("eflags"), IOPL3 | VM | 2);
  w.set("eflags", VM | 2);
  assertEquals([w.call("iret", 2, 0n), fault(w)], [1, "#13(0)"]);
});

Deno.test("IRETQ to compatibility code changes the mode and takes 32 bits of RSP", () => {
  const w = world("64");
  stack(w, 8, 0x8000_1000n, SEL.user32, 2, 0x1_2345_6780n, SEL.data3);
  assertEquals(w.get("mode"), 2);
  assertEquals(w.call("iret", 8, 0n), JUMP);
  assertEquals(w.where(), "33:80001000 23:23456780 cpl 3");
  assertEquals(w.get("mode"), 5);
});

Deno.test("far JMP and CALL to code segments: rights and limits", () => {
  const cases: [number, number, string][] = [
    [SEL.code0, 0x5000, "8:5000 cpl 0"],
    [SEL.code3, 0x5000, "#13(18)"],
    [SEL.conforming, 0x5000, "38:5000 cpl 0"],
    [SEL.data0, 0x5000, "#13(10)"],
    [SEL.absent, 0x5000, "#13(40)"],
    [0, 0x5000, "#13(0)"],
    [0x100, 0x5000, "#13(100)"],
    [0x104, 0x5000, "#13(104)"],
  ];
  for (const name of ["far.jump", "far.call"]) {
    for (const [selector, offset, expected] of cases) {
      const w = world("32");
      const status = w.call(name, selector, BigInt(offset), 4, 0x1239n);
      const got = status === 1 ? fault(w) : w.where().replace(/ [^ ]*:[^ ]*/, "");
      assertEquals(got, expected, `${name} ${selector.toString(16)}`);
      assertEquals(w.rsp(), AT.stack0 - 0x100 - (name === "far.call" && status === JUMP ? 8 : 0));
      if (name === "far.call" && status === JUMP) assertEquals(w.peek(w.rsp()), 0x8_0000_1239n);
    }
  }
  const w = world("32", 3);
  assertEquals([w.call("far.jump", SEL.narrow | 3, 0xffn, 4, 0n), w.segment(CS)], [JUMP, "53 40000 ff 40fb"]);
  assertEquals([w.call("far.jump", SEL.narrow | 3, 0x100n, 4, 0n), fault(w)], [1, "#13(0)"]);
});

Deno.test("a call gate to an inner level switches stacks and copies its parameters; RET undoes it", () => {
  const w = world("32", 3);
  w.gdt(SEL.gate, callGate(SEL.code0, 0x7777, 0xc, 3, 2));
  stack(w, 4, 0xaaaa, 0xbbbb);
  assertEquals(w.call("far.call", SEL.gate | 3, 0n, 4, 0x1239n), JUMP);
  assertEquals(w.where(), `8:7777 10:${(AT.stack0 - 24).toString(16)} cpl 0`);
  assertEquals([0, 4, 8, 12, 16, 20].map((i) => Number(w.peek(w.rsp() + i, 4))), [
    0x1239,
    SEL.code3,
    0xaaaa,
    0xbbbb,
    AT.stack3,
    SEL.data3,
  ]);
  assertEquals(w.call("far.ret", 4, 8), JUMP);
  assertEquals(w.where(), `1b:1239 23:${(AT.stack3 + 8).toString(16)} cpl 3`);
});

Deno.test("a 64-bit call gate pushes eight bytes each and makes SS null", () => {
  const w = world("64", 3);
  w.gdt(SEL.gate, callGate(SEL.code0, 0x1234_5678, 0xc, 3));
  w.gdt(SEL.gate + 8, 0xffff_8000n);
  assertEquals(w.call("far.call", SEL.gate | 3, 0n, 8, 0x1239n), JUMP);
  assertEquals(w.where(), `8:ffff800012345678 0:${(AT.stack0 - 32).toString(16)} cpl 0`);
  assertEquals([0, 8, 16, 24].map((i) => Number(w.peek(w.rsp() + i))), [0x1239, SEL.code3, AT.stack3, SEL.data3]);
  assertEquals(w.call("far.ret", 8, 0), JUMP);
  assertEquals(w.where(), `1b:1239 23:${AT.stack3.toString(16)} cpl 3`);
});

Deno.test("gates refuse callers below their DPL, jumps that would change the level, and wrong targets", () => {
  const cases: ["far.jump" | "far.call", bigint, string][] = [
    ["far.call", callGate(SEL.code0, 0x10, 0xc, 0), "#13(90)"],
    ["far.jump", callGate(SEL.code0, 0x10, 0xc, 3), "#13(8)"],
    ["far.call", callGate(SEL.data0, 0x10, 0xc, 3), "#13(10)"],
    ["far.call", callGate(0, 0x10, 0xc, 3), "#13(0)"],
    ["far.call", callGate(SEL.code0, 0x10, 0xc, 3) & ~(1n << 47n), "#11(90)"],
    ["far.call", callGate(SEL.code0, 0x10, 0xe, 3), "#13(90)"],
  ];
  for (const [name, gate, expected] of cases) {
    const w = world("32", 3);
    w.gdt(SEL.gate, gate);
    assertEquals([w.call(name, SEL.gate | 3, 0n, 4, 0n), fault(w)], [1, expected]);
  }
});

Deno.test("real mode far transfers set the base to 16 times the selector", () => {
  const w = world("real");
  w.rsp(0x1000);
  assertEquals(w.call("far.call", 0x1234, 0x10n, 2, 0x55n), JUMP);
  assertEquals([w.where(), w.get64("segBase", CS)], ["1234:10 0:ffc cpl 0", 0x12340n]);
  assertEquals(w.call("far.ret", 2, 6), JUMP);
  assertEquals(w.where(), "0:55 0:1006 cpl 0");
  assertEquals([w.call("far.jump", 0x1000, 0x1_0000n, 4, 0n), fault(w)], [1, "#13(0)"]);
});

Deno.test("SYSCALL and SYSRET swap RIP and RFLAGS with RCX and R11", () => {
  const w = world("64", 3);
  w.set64("star", (0x1bn << 48n) | (0x08n << 32n));
  w.set64("lstar", 0xffff_8000_0000_1000n);
  w.set64("fmask", 0x4_7700);
  w.set("eflags", 0x4_0302);
  w.set("fKind", 1);
  w.set64("fB", 0x81);
  assertEquals(w.call("syscall", 0x40_1002n), JUMP);
  assertEquals(w.where(), `8:ffff800000001000 10:${AT.stack3.toString(16)} cpl 0`);
  assertEquals([w.get64("gpr", 1), w.get64("gpr", 11), w.get("eflags")], [0x40_1002n, 0x4_0383n, 2]);
  assertEquals([w.segment(CS), w.segment(SS)], ["8 0 ffffffff a09b", "10 0 ffffffff c093"]);
  // TF comes back: the next instruction is to be run by itself.
  assertEquals(w.call("sysret", 1), RESYNC);
  assertEquals(w.where(), `2b:401002 23:${AT.stack3.toString(16)} cpl 3`);
  assertEquals([w.get("eflags"), w.segment(CS), w.segment(SS)], [0x4_0302, "2b 0 ffffffff a0fb", "23 0 ffffffff c0f3"]);
  // Not at level 3; not to where no code can be; not without SCE.
  assertEquals([w.call("sysret", 1), fault(w)], [1, "#13(0)"]);
  const k = world("64");
  k.set64("gpr", 0x8000_0000_0000n, 1);
  assertEquals([k.call("sysret", 1), fault(k)], [1, "#13(0)"]);
  k.set64("efer", 0xd00);
  assertEquals([k.call("sysret", 1), fault(k)], [1, "#6(ffffffff)"]);
  assertEquals([k.call("syscall", 0n), fault(k)], [1, "#6(ffffffff)"]);
  const c = world("64");
  c.set64("star", 0x1bn << 48n);
  c.set64("gpr", 0x1_2345_6789n, 1);
  assertEquals([c.call("sysret", 0), c.get64("rip"), c.segment(CS), c.get("mode")], [
    JUMP,
    0x2345_6789n,
    "1b 0 ffffffff c0fb",
    5,
  ]);
});

Deno.test("SYSENTER and SYSEXIT", () => {
  const w = world("32", 3);
  assertEquals([w.call("sysenter"), fault(w)], [1, "#13(0)"]);
  w.set64("sysenterCs", 0x08);
  w.set64("sysenterEsp", 0x6000);
  w.set64("sysenterEip", 0x7000);
  assertEquals(w.call("sysenter"), JUMP);
  assertEquals([w.where(), w.get("eflags"), w.segment(CS)], ["8:7000 10:6000 cpl 0", 2, "8 0 ffffffff c09b"]);
  w.set64("gpr", 0x9000, 1);
  w.set64("gpr", 0x1239, 2);
  assertEquals([w.call("sysexit", 0), w.where()], [JUMP, "1b:1239 23:9000 cpl 3"]);
  assertEquals([w.call("sysexit", 0), fault(w)], [1, "#13(0)"]);
});

Deno.test("segment loads: kinds, levels, presence, the accessed flag", () => {
  const cases: [0 | 3, number, number, string][] = [
    [0, DS, SEL.data0, "10 0 ffffffff c093"],
    [0, DS, SEL.data3, "23 0 ffffffff c0f3"],
    [3, DS, SEL.data0 | 3, "#13(10)"],
    [3, DS, SEL.data3, "23 0 ffffffff c0f3"],
    [3, DS, SEL.conforming, "38 0 ffffffff c09f"],
    [3, DS, SEL.code0, "#13(8)"],
    [0, DS, SEL.absent, "#11(40)"],
    [0, DS, SEL.tss, "#13(60)"],
    [0, DS, 0x104, "#13(104)"],
    [3, DS, 3, "3 0 0 10060"],
    [0, SS, SEL.data0, "10 0 ffffffff c093"],
    [0, SS, SEL.data3, "#13(20)"],
    [0, SS, SEL.data0 | 1, "#13(10)"],
    [3, SS, SEL.readOnly | 3, "#13(48)"],
    [0, SS, SEL.absent, "#12(40)"],
    [0, SS, 0, "#13(0)"],
    [0, SS, SEL.code0, "#13(8)"],
  ];
  for (const [cpl, seg, selector, expected] of cases) {
    const w = world("32", cpl);
    const status = w.call("loadSegment", seg, selector);
    assertEquals(status ? fault(w) : w.segment(seg), expected, `cpl ${cpl} ${seg} ${selector.toString(16)}`);
    if (!status && selector & ~7) assertEquals((w.peek(AT.gdt + (selector & ~7)) >> 40n) & 1n, 1n);
  }
  const execOnly = world("32");
  execOnly.gdt(SEL.absent, descriptor(0, 1, 0x98, 0));
  assertEquals([execOnly.call("loadSegment", DS, SEL.absent), fault(execOnly)], [1, "#13(40)"]);
});

Deno.test("real mode segment loads keep the limit that protected mode set", () => {
  const w = world("real");
  w.set("segLimit", 0xffff_ffff, DS);
  w.call("loadSegment", DS, 0x1234);
  assertEquals(w.segment(DS), "1234 12340 ffffffff 93");
});

Deno.test("LTR marks the task busy; LLDT maps the local table", () => {
  const w = world("32");
  assertEquals(w.call("loadTr", SEL.tss2), 0);
  assertEquals(w.segment(TR), `70 ${AT.tss2.toString(16)} 67 8b`);
  assertEquals((w.peek(AT.gdt + SEL.tss2) >> 40n) & 15n, 11n);
  assertEquals([w.call("loadTr", SEL.tss2), fault(w)], [1, "#13(70)"]);
  assertEquals([w.call("loadTr", 0), fault(w)], [1, "#13(0)"]);
  assertEquals([w.call("loadLdtr", SEL.data0), fault(w)], [1, "#13(10)"]);
  assertEquals(w.call("loadLdtr", SEL.ldt), 0);
  assertEquals(w.segment(LDTR), `80 ${AT.ldt.toString(16)} 3f 82`);
  w.poke(AT.ldt + 0x38, descriptor(0x5_0000, 0xfff, 0x92, 4));
  assertEquals([w.call("loadSegment", DS, 0x3c), w.segment(DS)], [0, "3c 50000 fff 4093"]);
  assertEquals([w.call("loadSegment", DS, 0x44), fault(w)], [1, "#13(44)"]);
  assertEquals([w.call("loadLdtr", 0), w.get("segRights", LDTR)], [0, 1 << 16]);
  assertEquals([w.call("loadSegment", DS, 0x3c), fault(w)], [1, "#13(3c)"]);
  const l = world("64");
  l.gdt(SEL.tss2 + 8, 0xffff_8000n);
  assertEquals([l.call("loadTr", SEL.tss2), l.get64("segBase", TR)], [0, 0xffff_8000_0000_3400n]);
});

/** The state of a task that runs at level `cpl` from 5000h. */
function task(w: World, cs: number, ss: number, flags = 2): void {
  const t = AT.tss2;
  w.poke(t + 0x20, 0x5000, 4);
  w.poke(t + 0x24, flags, 4);
  for (let i = 0; i < 8; i++) w.poke(t + 0x28 + 4 * i, i === 4 ? 0xb000 : 0x1111_0000 + i, 4);
  [ss, cs, ss, ss, 0, 0].forEach((s, i) => w.poke(t + 0x48 + 4 * i, s, 4));
}

Deno.test("CALL to a task state saves, links and loads; IRET with NT goes back", () => {
  const w = world("32");
  task(w, SEL.code3, SEL.data3);
  w.set64("gpr", 0x77, 0);
  assertEquals(w.call("far.call", SEL.tss2, 0n, 4, 0x1239n), JUMP);
  assertEquals(w.where(), "1b:5000 23:b000 cpl 3");
  assertEquals([w.get64("gpr", 7), w.get("eflags"), w.segment(TR), w.get("cr0") & 8], [
    0x1111_0007n,
    NT | 2,
    "70 3400 67 8b",
    8,
  ]);
  assertEquals([w.peek(AT.tss2, 2), w.peek(AT.tss + 0x20, 4), w.peek(AT.tss + 0x28, 4), w.peek(AT.tss + 0x24, 4)], [
    96n,
    0x1239n,
    0x77n,
    0x202n,
  ]);
  assertEquals([SEL.tss, SEL.tss2].map((s) => (w.peek(AT.gdt + s) >> 40n) & 15n), [11n, 11n]);
  assertEquals(w.get("segRights", FS), 1 << 16);
  assertEquals(w.call("iret", 4, 0x5001n), JUMP);
  assertEquals(w.where(), `8:1239 10:${(AT.stack0 - 0x100).toString(16)} cpl 0`);
  assertEquals([w.get("eflags"), w.peek(AT.tss2 + 0x20, 4), w.peek(AT.tss2 + 0x24, 4)], [0x202, 0x5001n, 2n]);
  assertEquals([SEL.tss, SEL.tss2].map((s) => (w.peek(AT.gdt + s) >> 40n) & 15n), [11n, 9n]);
});

Deno.test("JMP to a task state leaves the old task available and does not nest", () => {
  const w = world("32");
  task(w, SEL.code0, SEL.data0);
  assertEquals(w.call("far.jump", SEL.tss2, 0n, 4, 0x1239n), JUMP);
  assertEquals([w.where(), w.get("eflags")], ["8:5000 10:b000 cpl 0", 2]);
  assertEquals([SEL.tss, SEL.tss2].map((s) => (w.peek(AT.gdt + s) >> 40n) & 15n), [9n, 11n]);
  assertEquals([w.call("far.jump", SEL.tss2, 0n, 4, 0n), fault(w)], [1, "#13(70)"]);
});

Deno.test("a task gate delivers with the error code on the new stack", () => {
  const w = world("32", 3);
  task(w, SEL.code0, SEL.data0);
  gate32(w, 13, SEL.tss2, 0, 5);
  assertEquals(raiseIn(w, 13, 0x28), 0);
  assertEquals(w.where(), "8:5000 10:affc cpl 0");
  assertEquals([w.peek(w.rsp(), 4), w.peek(AT.tss + 0x20, 4)], [0x28n, 0x1234n]);
});

Deno.test("a bad segment in the new task is #TS in the new task; through its own gate, the processor shuts down", () => {
  const w = world("32");
  task(w, SEL.code0, SEL.data3);
  gate32(w, 10, SEL.code0, 0xa000);
  w.poke(AT.tss2 + 0x50, SEL.readOnly, 4);
  // #TS finds no usable stack: SS was not loaded.
  assertEquals(w.call("far.jump", SEL.tss2, 0n, 4, 0x1239n), 6);
  const d = world("32");
  task(d, SEL.code0, SEL.data0);
  d.poke(AT.tss2 + 0x54, SEL.tss, 4);
  gate32(d, 10, SEL.code0, 0xa000);
  assertEquals(d.call("far.jump", SEL.tss2, 0n, 4, 0x1239n), JUMP);
  assertEquals([d.get64("rip"), d.peek(d.rsp(), 4), d.peek(d.rsp() + 4, 4)], [0xa000n, BigInt(SEL.tss), 0x5000n]);
});

Deno.test("a task state too short, busy or absent is refused before anything changes", () => {
  for (
    const [d, expected] of [
      [descriptor(AT.tss2, 0x66, 0x89, 0), "#10(70)"],
      [descriptor(AT.tss2, 0x67, 0x09, 0), "#11(70)"],
      [descriptor(AT.tss2, 0x67, 0x8b, 0), "#13(70)"],
    ] as const
  ) {
    const w = world("32");
    w.gdt(SEL.tss2, d);
    const before = w.where();
    assertEquals([w.call("far.jump", SEL.tss2, 0n, 4, 0n), fault(w), w.where()], [1, expected, before]);
  }
});

Deno.test("a 16-bit task state: 16 bits of each register, no CR3, the upper halves all ones", () => {
  const w = world("32");
  w.gdt(SEL.tss2, descriptor(AT.tss2, 0x2b, 0x81, 0));
  const t = AT.tss2;
  w.poke(t + 0x0e, 0x5000, 2);
  w.poke(t + 0x10, 0x202, 2);
  for (let i = 0; i < 8; i++) w.poke(t + 0x12 + 2 * i, i === 4 ? 0xb000 : 0x1100 + i, 2);
  [SEL.data0, SEL.code0, SEL.data0, SEL.data0].forEach((s, i) => w.poke(t + 0x22 + 2 * i, s, 2));
  w.put(FS, SEL.data0);
  assertEquals(w.call("far.call", SEL.tss2, 0n, 4, 0x1239n), JUMP);
  assertEquals([w.where(), w.get("eflags")], ["8:5000 10:ffffb000 cpl 0", 0x4202]);
  assertEquals([w.get64("gpr", 3), w.get("segRights", FS), w.segment(TR)], [
    0xffff_1103n,
    1 << 16,
    `70 ${t.toString(16)} 2b 83`,
  ]);
  assertEquals(w.call("iret", 4, 0x5001n), JUMP);
  assertEquals([w.peek(t + 0x0e, 2), w.peek(t + 0x10, 2), w.get64("rip")], [0x5001n, 0x202n, 0x1239n]);
});

Deno.test("the T flag of a task state raises #DB with DR6.BT in the new task", () => {
  const w = world("32");
  task(w, SEL.code0, SEL.data0);
  w.poke(AT.tss2 + 0x64, 1, 2);
  gate32(w, 1, SEL.code0, 0xdb00);
  assertEquals(w.call("far.jump", SEL.tss2, 0n, 4, 0x1239n), JUMP);
  assertEquals([w.get64("rip"), w.peek(w.rsp(), 4), w.get64("dr", 6) & 0x8000n], [0xdb00n, 0x5000n, 0x8000n]);
});
