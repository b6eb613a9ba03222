import { assertEquals } from "@std/assert";
import { CR0, DF, DS, ES, TR, VM } from "../state.ts";
import { RAM } from "../system/fixture.ts";
import { defineIo, ROWS } from "./io.ts";
import { AT, NEXT, rowFixture } from "./rows_fixture.ts";

/** What a device answers, in turn. */
const answers: number[] = [];
const fix = rowFixture(ROWS, defineIo, ["ioCheck"], { ioRead: () => answers.shift() ?? -1 });

const TSS = 0x2000, MAP = 0x68;

function start(cpl = 0, flags = 2, cr0: number = CR0.PE): void {
  fix.set64("cr0", cr0), fix.set64("efer", 0), fix.set("cpl", cpl), fix.set("eflags", flags);
  for (const n of [ES, DS]) {
    fix.set("segRights", 0xc093, n), fix.set("segLimit", 0xffff_ffff, n), fix.set64("segBase", 0, n);
  }
  fix.set("segRights", 0x8b, TR), fix.set("segLimit", MAP + 0x2000, TR), fix.set64("segBase", TSS, TR);
  fix.view.setUint16(RAM + TSS + 0x66, MAP, true);
  new Uint8Array(fix.view.buffer, RAM + TSS + MAP, 0x2001).fill(0);
  fix.log.length = 0, answers.length = 0;
  fix.setEvents(0);
  fix.set("budget", 1000);
  fix.call("updateMode");
}
const io = () => fix.log.filter((line) => line.startsWith("io"));

Deno.test("IN merges by size: 8 and 16 bits keep the rest of RAX, 32 bits clear it", () => {
  const cases: [row: string, answer: number, rax: bigint, call: string][] = [
    ["E4 IN.8r", 0x1ff, 0xffff_ffff_ffff_ffffn, "ioRead 60 1"],
    ["E4 IN.8r", 0x12, 0xffff_ffff_ffff_ff12n, "ioRead 60 1"],
    ["E5 IN.16r", 0x1234, 0xffff_ffff_ffff_1234n, "ioRead 60 2"],
    ["E5 IN.32r", -2, 0xffff_fffen, "ioRead 60 4"],
    ["E5 IN.64r", -2, 0xffff_fffen, "ioRead 60 4"],
    ["EC IN.8r", 0x12, 0xffff_ffff_ffff_ff12n, "ioRead cf8 1"],
    ["ED IN.16r", 0x1234, 0xffff_ffff_ffff_1234n, "ioRead cf8 2"],
    ["ED IN.32r", 0x7654_3210, 0x7654_3210n, "ioRead cf8 4"],
  ];
  for (const [row, answer, rax, call] of cases) {
    start();
    answers.push(answer);
    fix.setReg(0, -1), fix.setReg(2, 0xabcd_0cf8);
    assertEquals(fix.outcome(fix.run(row, { imm: 0x60 })), "next");
    assertEquals([fix.reg(0), io()], [rax, [call]], row);
  }
});

Deno.test("OUT hands over what the size covers, and leaves if something happened", () => {
  for (
    const [row, call] of [
      ["E6 OUT.8r", "ioWrite 80 1 78"],
      ["E7 OUT.16r", "ioWrite 80 2 5678"],
      ["E7 OUT.32r", "ioWrite 80 4 12345678"],
      ["E7 OUT.64r", "ioWrite 80 4 12345678"],
      ["EE OUT.8r", "ioWrite 3f8 1 78"],
      ["EF OUT.16r", "ioWrite 3f8 2 5678"],
      ["EF OUT.32r", "ioWrite 3f8 4 12345678"],
    ] as const
  ) {
    start();
    fix.setReg(0, 0xaaaa_aaaa_1234_5678n), fix.setReg(2, 0x3f8);
    assertEquals(fix.outcome(fix.run(row, { imm: 0x80 })), "next");
    assertEquals(io(), [call], row);
    fix.setEvents(2);
    assertEquals(fix.outcome(fix.run(row, { imm: 0x80 })), "resync");
    assertEquals(fix.get64("rip"), BigInt(NEXT));
  }
});

Deno.test("ports are open by IOPL, else by the task's bitmap [sdm1 §19.5]", () => {
  /** Bits of the map that are set, and the model's answer: every byte of the access must be clear. */
  const check = (port: number, bytes: number) => fix.outcome(fix.call("ioCheck", port, bytes));
  start(3, 2 | 3 << 12);
  assertEquals(check(0x60, 1), "next");
  start(2, 2 | 2 << 12);
  assertEquals(check(0x60, 1), "next");
  // Virtual-8086 mode asks the map even so; real mode never does.
  start(3, 2 | 3 << 12 | VM);
  fix.view.setUint8(RAM + TSS + MAP + 0xc, 1);
  assertEquals([check(0x60, 1), check(0x61, 1)], ["#13(0)", "next"]);
  start(0, 2, 0);
  fix.view.setUint8(RAM + TSS + MAP + 0xc, 1);
  assertEquals(check(0x60, 1), "next");

  for (const closed of [0x60, 0x67, 0x68, 0x3ff, 0xffff]) {
    start(3);
    fix.view.setUint8(RAM + TSS + MAP + (closed >> 3), 1 << (closed & 7));
    for (let port = closed - 5; port <= Math.min(closed + 3, 0xffff); port++) {
      for (const bytes of [1, 2, 4]) {
        if (port + bytes > 0x10000) continue;
        const hit = port <= closed && closed < port + bytes;
        assertEquals(check(port, bytes), hit ? "#13(0)" : "next", `${port} ${bytes}`);
      }
    }
  }
});

Deno.test("a bitmap beyond the TSS's limit, or no bitmap, closes all ports", () => {
  const check = (port: number) => fix.outcome(fix.call("ioCheck", port, 1));
  start(3);
  // Two bytes are read for any port, so the last byte of the map must not be the last of the segment.
  fix.set("segLimit", MAP + 1, TR);
  assertEquals([check(7), check(8)], ["next", "#13(0)"]);
  fix.set("segLimit", MAP, TR);
  assertEquals(check(0), "#13(0)");
  fix.view.setUint16(RAM + TSS + 0x66, 0xffff, true);
  fix.set("segLimit", 0x20ff, TR);
  assertEquals(check(0), "#13(0)");
  start(3);
  fix.set("segLimit", 0x66, TR);
  assertEquals(check(0), "#13(0)");
  for (const rights of [0x83, 0x82, 0x1008b]) {
    start(3);
    fix.set("segRights", rights, TR);
    assertEquals(check(0), rights === 0x1008b ? "next" : "#13(0)", rights.toString(16));
  }
});

Deno.test("REP INS stores what the port gives and keeps count", () => {
  for (const [row, bytes] of [["6C INSB.8r", 1], ["6D INS.16r", 2], ["6D INS.32r", 4], ["6D INS.64r", 4]] as const) {
    start();
    answers.push(0x11, 0x2222 & (2 ** (8 * bytes) - 1), 0x33);
    fix.setReg(1, 3), fix.setReg(2, 0x1f0), fix.setReg(7, 0x5000);
    new Uint8Array(fix.view.buffer, RAM + 0x5000, 16).fill(0xee);
    assertEquals(fix.outcome(fix.run(row, { b: DS, x: 8, imm: 1 })), "next");
    assertEquals([fix.reg(1), fix.reg(7)], [0n, BigInt(0x5000 + 3 * bytes)]);
    assertEquals(io(), new Array(3).fill(`ioRead 1f0 ${bytes}`));
    assertEquals(fix.view.getUint8(RAM + 0x5000), 0x11);
    assertEquals(fix.view.getUint8(RAM + 0x5000 + 2 * bytes), 0x33);
    assertEquals(fix.view.getUint8(RAM + 0x5000 + 3 * bytes), 0xee);
  }
});

Deno.test("INS does not ask the port if it cannot store", () => {
  start();
  fix.set("segLimit", 0x5001, ES);
  fix.setReg(1, 5), fix.setReg(2, 0x1f0), fix.setReg(7, 0x5000);
  assertEquals(fix.outcome(fix.run("6C INSB.8r.legacy", { b: DS, x: 4, imm: 1 })), "#13(0)");
  // Two bytes went in before the fault, and the registers say so.
  assertEquals([io().length, fix.reg(1), fix.reg(7)], [2, 3n, 0x5002n]);
});

Deno.test("OUTS goes down with DF, by 16-bit addresses, and stops for events between elements", () => {
  start(0, 2 | DF);
  new Uint8Array(fix.view.buffer, RAM + 0x10, 4).set([1, 2, 3, 4]);
  fix.setReg(1, 0xabc_0002n), fix.setReg(2, 0x70), fix.setReg(6, 0x5_0013n);
  assertEquals(fix.outcome(fix.run("6E OUTSB.8r.legacy", { b: DS, x: 2, imm: 1 })), "next");
  assertEquals(io(), ["ioWrite 70 1 4", "ioWrite 70 1 3"]);
  assertEquals([fix.reg(1), fix.reg(6)], [0xabc_0000n, 0x5_0011n]);

  start();
  fix.setReg(1, 3), fix.setReg(2, 0x70), fix.setReg(6, 0x10);
  fix.setEvents(1);
  assertEquals(fix.outcome(fix.run("6E OUTSB.8r", { b: DS, x: 8, imm: 1 })), "resync");
  assertEquals([fix.get64("rip"), fix.reg(1), io().length], [BigInt(AT), 2n, 1]);
  fix.setReg(1, 1);
  assertEquals(fix.outcome(fix.run("6E OUTSB.8r", { b: DS, x: 8, imm: 1 })), "resync");
  assertEquals([fix.get64("rip"), fix.reg(1)], [BigInt(NEXT), 0n]);
});

Deno.test("a repeated transfer ends with the budget, resumable", () => {
  start();
  fix.set("budget", 4);
  fix.setReg(1, 100), fix.setReg(2, 0x1f0), fix.setReg(7, 0x5000);
  assertEquals(fix.outcome(fix.run("6C INSB.8r", { b: DS, x: 8, imm: 1 })), "resync");
  assertEquals(fix.get64("rip"), BigInt(AT));
  assertEquals(fix.reg(1) + fix.reg(7), 100n + 0x5000n);
  assertEquals(fix.reg(1) > 90n, true);
});

Deno.test("a repeat count of zero touches nothing, not even a closed port", () => {
  start(3);
  new Uint8Array(fix.view.buffer, RAM + TSS + MAP, 0x2001).fill(0xff);
  fix.setReg(1, 0), fix.setReg(2, 0x1f0), fix.setReg(7, 0x5000);
  assertEquals(fix.outcome(fix.run("6C INSB.8r", { b: DS, x: 8, imm: 1 })), "next");
  fix.setReg(1, 1);
  assertEquals(fix.outcome(fix.run("6C INSB.8r", { b: DS, x: 8, imm: 1 })), "#13(0)");
  assertEquals(io(), []);
});
