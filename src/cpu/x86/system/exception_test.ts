/** Expectations from the tables and figures of [sdm3 6.12-6.15]. */
import { assertEquals } from "@std/assert";
import { SS, TR } from "../state.ts";
import { AT, descriptor, gate32, gate64, raiseIn, SEL, world } from "./world.ts";

const TF = 0x100, IF = 0x200, NT = 0x4000, RF = 0x10000, VM = 0x20000;
const HANDLER = 0xffff_8000_1234_5678n;

Deno.test("long mode: a fault from user code switches to RSP0 and pushes seven items", () => {
  const w = world("64", 3);
  gate64(w, 14, SEL.code0, HANDLER);
  w.set("eflags", 0x202 | TF | NT);
  w.set64("rip", 0x7fff_1234_5678n);
  assertEquals(raiseIn(w, 14, 7), 0);
  // SS becomes null with the new level; RSP0 is aligned already.
  assertEquals(w.where(), `8:${HANDLER.toString(16)} 0:${(AT.stack0 - 48).toString(16)} cpl 0`);
  const frame = [0, 8, 16, 24, 32, 40].map((i) => w.peek(w.rsp() + i));
  assertEquals(frame, [
    7n,
    0x7fff_1234_5678n,
    BigInt(SEL.code3),
    BigInt(0x202 | TF | NT | RF),
    BigInt(AT.stack3),
    BigInt(SEL.data3),
  ]);
  assertEquals(w.get("eflags"), 2);
  // The accessed flag of the code descriptor is set.
  assertEquals((w.peek(AT.gdt + SEL.code0) >> 40n) & 0xffn, 0x9bn);
});

Deno.test("long mode: the same level keeps SS and aligns RSP to 16; trap gates keep IF", () => {
  const w = world("64");
  gate64(w, 3, SEL.code0, HANDLER, 0xf);
  w.rsp(0x7f0b);
  assertEquals(raiseIn(w, 3), 0);
  assertEquals(w.where(), `8:${HANDLER.toString(16)} 10:${(0x7f00 - 40).toString(16)} cpl 0`);
  assertEquals(w.peek(w.rsp() + 24), 0x7f0bn);
  assertEquals(w.get("eflags") & IF, IF);
});

Deno.test("long mode: an IST entry is used at any level", () => {
  const w = world("64");
  gate64(w, 2, SEL.code0, HANDLER, 0xe, 0, 1);
  assertEquals(w.call("interrupt", 2), 0);
  assertEquals(w.rsp(), AT.ist - 40);
  // No RF for interrupts.
  assertEquals(w.peek(w.rsp() + 16), 0x202n);
});

Deno.test("long mode: a conforming handler keeps the level", () => {
  const w = world("64", 3);
  gate64(w, 0x40, SEL.conforming, 0x5000n);
  assertEquals(w.call("interrupt", 0x40), 0);
  assertEquals(w.where(), `3b:5000 23:${(AT.stack3 - 40).toString(16)} cpl 3`);
});

Deno.test("INT n checks the gate's DPL; its fault names the gate without EXT", () => {
  const w = world("64", 3);
  gate64(w, 0x80, SEL.code0, HANDLER, 0xe, 0);
  gate64(w, 0x81, SEL.code0, HANDLER, 0xe, 3);
  const before = w.where();
  assertEquals(w.call("softInt", 0x80, 0x1236n), 1);
  assertEquals([w.get("excVector"), w.get("excError"), w.where()], [13, 0x80 * 8 + 2, before]);
  assertEquals(w.call("softInt", 0x81, 0x1236n), 2);
  assertEquals(w.peek(w.rsp()), 0x1236n);
  assertEquals(w.peek(w.rsp() + 16) & BigInt(RF), 0n);
});

Deno.test("a fault while an exception is delivered has EXT, and pairs make a double fault by their classes", () => {
  // First, what its delivery meets (a gate that is missing: #GP; a gate not present: #NP; a table not mapped: #PF), the result.
  const GP = 13, NP = 11, PF = 14, UD = 6, DE = 0, TS = 10;
  for (
    const [first, second, last, error] of [
      [UD, GP, GP, UD * 8 + 3],
      [UD, NP, NP, UD * 8 + 3],
      [DE, GP, 8, 0],
      [TS, NP, 8, 0],
      [PF, GP, 8, 0],
      [NP, GP, 8, 0],
      [GP, GP, 8, 0],
    ] as const
  ) {
    const w = world("64", 3);
    for (const v of [8, 10, 11, 13, 14]) gate64(w, v, SEL.code0, BigInt(v << 12));
    if (second === GP) w.poke(AT.idt + first * 16, 0);
    else w.poke(AT.idt + first * 16, w.peek(AT.idt + first * 16) & ~(1n << 47n) | (0xen << 40n));
    assertEquals(raiseIn(w, first, 0), 0, `${first} ${second}`);
    assertEquals(w.get64("rip"), BigInt(last << 12), `${first} ${second}`);
    assertEquals(w.peek(w.rsp()), BigInt(error), `${first} ${second}`);
  }
});

Deno.test("contributory after #PF and #PF after #PF make a double fault; #PF after contributory does not", () => {
  const w = world("64", 3);
  gate64(w, 8, SEL.code0, 0x8000n);
  gate64(w, 14, SEL.code0, 0xe000n);
  // The gate of #GP leads to a stack that is not mapped: #PF.
  gate64(w, 13, SEL.code0, 0xd000n, 0xe, 0, 2);
  w.poke(AT.tss + 0x2c, 0x50_0000_0000n);
  assertEquals(raiseIn(w, 13, 0), 0);
  assertEquals(w.get64("rip"), 0xe000n);
  assertEquals(w.get64("cr2"), 0x50_0000_0000n - 8n);

  const p = world("64", 3);
  gate64(p, 8, SEL.code0, 0x8000n);
  gate64(p, 14, SEL.code0, 0xe000n, 0xe, 0, 2);
  p.poke(AT.tss + 0x2c, 0x50_0000_0000n);
  assertEquals(raiseIn(p, 14, 0), 0);
  assertEquals(p.get64("rip"), 0x8000n);
});

Deno.test("a fault in the double fault's delivery shuts down, and changes nothing", () => {
  const w = world("64", 3);
  w.set("idtrLimit", 0);
  const before = w.where();
  assertEquals(raiseIn(w, 6), 6);
  assertEquals(w.where(), before);
  assertEquals(w.call("interrupt", 0x30), 6);
});

Deno.test("long mode refuses gates and handlers that are not 64-bit", () => {
  for (
    const [selector, type] of [[SEL.code32, 0xe], [SEL.code0, 0x6], [SEL.code0, 0x5], [SEL.data0, 0xe], [0, 0xe], [
      SEL.code3,
      0xe,
    ]]
  ) {
    const w = world("64");
    gate64(w, 13, SEL.code0, 0xd000n);
    gate64(w, 6, selector!, 0x6000n, type!);
    assertEquals(raiseIn(w, 6), 0);
    assertEquals(w.get64("rip"), 0xd000n);
    const expected = type !== 0xe ? 6 * 8 + 3 : (selector! & 0xfffc) + 1;
    assertEquals(w.peek(w.rsp()), BigInt(expected), `${selector} ${type}`);
  }
});

Deno.test("a stack that is not canonical is #SS, a task state too short is #TS", () => {
  const w = world("64", 3);
  for (const v of [10, 12]) gate64(w, v, SEL.code0, BigInt(v << 12), 0xe, 0, 1);
  gate64(w, 6, SEL.code0, 0x6000n);
  w.poke(AT.tss + 4, 0x8000_0000_0100n);
  assertEquals(raiseIn(w, 6), 0);
  assertEquals([w.get64("rip"), w.peek(w.rsp())], [0xc000n, 1n]);
  const t = world("64", 3);
  for (const v of [10, 12]) gate64(t, v, SEL.conforming, BigInt(v << 12));
  gate64(t, 6, SEL.code0, 0x6000n);
  t.set("segLimit", 10, TR);
  assertEquals(raiseIn(t, 6), 0);
  assertEquals([t.get64("rip"), t.peek(t.rsp())], [0xa000n, BigInt(SEL.tss + 1)]);
});

Deno.test("protected mode: interrupt and trap gates, with and without a change of stack, 32 and 16 bits", () => {
  for (const cpl of [0, 3] as const) {
    for (const type of [0xe, 0xf, 0x6, 0x7]) {
      const w = world("32", cpl);
      gate32(w, 13, SEL.code0, 0x4455_6677, type);
      w.set64("rip", 0x12_3456);
      assertEquals(raiseIn(w, 13, 0x28), 0);
      const size = type & 8 ? 4 : 2, items = cpl ? 6 : 4;
      const top = cpl ? AT.stack0 : AT.stack0 - 0x100;
      const target = type & 8 ? "44556677" : "6677";
      assertEquals(w.where(), `8:${target} 10:${(top - size * items).toString(16)} cpl 0`);
      const mask = size === 4 ? 0xffff_ffffn : 0xffffn;
      const old = [0x28, 0x12_3456, cpl ? SEL.code3 : SEL.code0, 0x202 | RF, AT.stack3, SEL.data3];
      for (let i = 0; i < items; i++) {
        assertEquals(w.peek(w.rsp() + i * size, size as 2 | 4), BigInt(old[i]!) & mask, `${i}`);
      }
      assertEquals(w.get("eflags") & IF, type & 1 ? IF : 0);
      assertEquals(w.get("segRights", SS) & 0x60, 0);
    }
  }
});

Deno.test("protected mode: the inner stack is checked, with #TS and #SS", () => {
  const cases: [number, bigint | undefined, number, number][] = [
    [0, undefined, 10, 1],
    [SEL.data3, undefined, 10, SEL.data3 - 3 + 1],
    [SEL.readOnly, undefined, 10, SEL.readOnly + 1],
    [0x200, undefined, 10, 0x201],
    [SEL.data0, descriptor(0, 0xfffff, 0x12, 0xc), 12, SEL.data0 + 1],
    [SEL.data0, descriptor(0, 0x7, 0x92, 0xc), 12, SEL.data0 + 1],
  ];
  for (const [selector, d, vector, error] of cases) {
    const w = world("32", 3);
    if (d !== undefined) w.gdt(SEL.data0, d);
    gate32(w, 6, SEL.code0, 0x6000);
    for (const v of [10, 12]) gate32(w, v, SEL.conforming, v << 12);
    w.poke(AT.tss + 8, selector, 2);
    w.poke(AT.tss + 4, 0x9000, 4);
    assertEquals(raiseIn(w, 6), 0);
    assertEquals(
      [w.get64("rip"), w.peek(w.rsp(), 4)],
      [BigInt(vector << 12), BigInt(error)],
      `${selector.toString(16)}`,
    );
  }
});

Deno.test("protected mode: out of VM86 mode the data segments are pushed and cleared", () => {
  const w = world("32", 3);
  gate32(w, 0x21, SEL.code0, 0x6000, 0xe, 3);
  w.set("eflags", 0x3202 | VM);
  for (const n of [0, 1, 2, 3, 4, 5]) {
    w.set("segSelector", 0x100 + n, n);
    w.set64("segBase", 0x1000 + n * 16, n);
    w.set("segLimit", 0xffff, n);
    w.set("segRights", 0xf3, n);
  }
  w.rsp(0x500);
  w.call("updateMode");
  assertEquals(w.get("mode"), 8);
  assertEquals(w.call("softInt", 0x21, 0x77n), 2);
  assertEquals(w.where(), `8:6000 10:${(AT.stack0 - 36).toString(16)} cpl 0`);
  const pushed = Array.from({ length: 9 }, (_, i) => Number(w.peek(w.rsp() + 4 * i, 4)));
  assertEquals(pushed, [0x77, 0x101, 0x3202 | VM, 0x500, 0x102, 0x100, 0x103, 0x104, 0x105]);
  for (const n of [0, 3, 4, 5]) assertEquals([w.get("segSelector", n), w.get("segRights", n)], [0, 1 << 16]);
  assertEquals(w.get("mode"), 5);
});

Deno.test("real mode: three words, IF and TF cleared; beyond the table's limit the processor shuts down", () => {
  const w = world("real");
  w.poke(0x21 * 4, 0xf000_1234, 4);
  w.set("segSelector", 0x1000, 1);
  w.set64("segBase", 0x10000, 1);
  w.set64("segBase", 0x20000, SS);
  w.rsp(0x1_0002);
  w.set("eflags", 0x202 | TF);
  assertEquals(w.call("softInt", 0x21, 0x55n), 2);
  assertEquals([w.get64("rip"), w.get("segSelector", 1), w.get64("segBase", 1)], [0x1234n, 0xf000, 0xf0000n]);
  // SP wraps at 64 KiB; the upper half of ESP stays.
  assertEquals(w.rsp(), 0x1_fffc);
  assertEquals([w.peek(0x2fffc, 2), w.peek(0x2fffe, 2), w.peek(0x20000, 2)], [0x55n, 0x1000n, BigInt(0x202 | TF)]);
  assertEquals(w.get("eflags"), 2);
  const t = world("real");
  t.set("idtrLimit", 0);
  assertEquals(raiseIn(t, 6), 6);
});

Deno.test("a trap behind an instruction sets DR6.BS and pushes no RF", () => {
  const w = world("64");
  gate64(w, 1, SEL.code0, HANDLER);
  w.set("eflags", 0x202 | TF);
  assertEquals(w.call("trapDb", 0x4000), 0);
  assertEquals(w.get64("dr", 6) & 0x4000n, 0x4000n);
  assertEquals(w.peek(w.rsp() + 16), BigInt(0x202 | TF));
  assertEquals(w.get("eflags") & TF, 0);
});
