/** REP MOVS and REP STOS beside a model that moves an element at a time, as [sdm2 REP, MOVS, STOS] has it. */
import { assertEquals } from "@std/assert";
import { CR0, DF, DS, ES, IF } from "../state.ts";
import { RAM } from "../system/fixture.ts";
import { AT, rowFixture } from "./rows_fixture.ts";
import { ROWS } from "./string.ts";

const fix = rowFixture(ROWS, () => {});
/** Programs move within these bytes; the fixture has 64 pages. */
const ARENA = 0x4000, ARENA_BYTES = 0x4000;
const RCX = 1, RSI = 6, RDI = 7;

interface Case {
  readonly stos: boolean;
  readonly bytes: 1 | 2 | 4 | 8;
  readonly addressBytes: 2 | 4 | 8;
  readonly down: boolean;
  readonly bases: { readonly ds: number; readonly es: number };
  readonly esLimit: number;
  readonly count: number;
  readonly from: number;
  readonly to: number;
}

/** The memory and the registers afterwards, and whether an element was beyond the limit. */
function model(c: Case, memory: Uint8Array): { rcx: number; rsi: number; rdi: number; fault: boolean } {
  const mask = c.addressBytes === 2 ? 0xffff : 0xffff_ffff, step = c.down ? -c.bytes : c.bytes;
  let { count: rcx, from: rsi, to: rdi } = c;
  for (; rcx > 0; rcx--) {
    if (c.addressBytes < 8 && rdi + c.bytes - 1 > c.esLimit) return { rcx, rsi, rdi, fault: true };
    const element = c.stos
      ? new Uint8Array(8).fill(0xa5).subarray(0, c.bytes)
      : memory.slice(c.bases.ds + rsi, c.bases.ds + rsi + c.bytes);
    memory.set(element, c.bases.es + rdi);
    if (!c.stos) rsi = ((rsi + step) & mask) >>> 0;
    rdi = ((rdi + step) & mask) >>> 0;
  }
  return { rcx, rsi, rdi, fault: false };
}

function start(c: Case): Uint8Array {
  fix.set64("cr0", CR0.PE), fix.set64("efer", 0);
  fix.set("eflags", 2 | (c.down ? DF : 0)), fix.set("budget", 100_000), fix.setEvents(0);
  for (const [n, base, limit] of [[ES, c.bases.es, c.esLimit], [DS, c.bases.ds, 0xffff_ffff]] as const) {
    fix.set("segRights", 0xc093, n), fix.set("segLimit", limit, n), fix.set64("segBase", base, n);
  }
  fix.call("updateMode"), fix.call("flushTlb");
  fix.setReg(0, 0xa5a5_a5a5_a5a5_a5a5n);
  fix.setReg(RCX, c.count), fix.setReg(RSI, c.from), fix.setReg(RDI, c.to);
  const memory = new Uint8Array(fix.view.buffer, RAM, ARENA + 2 * ARENA_BYTES);
  for (let i = 0, x = 1; i < memory.length; i++) memory[i] = (x = (Math.imul(x, 1103515245) + 12345) >>> 0) >>> 16;
  return memory;
}

function name(c: Case): string {
  const size = 8 * c.bytes;
  const opcode = c.stos ? (c.bytes === 1 ? "AA STOSB" : "AB STOS") : c.bytes === 1 ? "A4 MOVSB" : "A5 MOVS";
  return `${opcode}.${size}r${c.addressBytes === 8 ? "" : ".legacy"}`;
}

Deno.test("REP MOVS and STOS of runs are those of elements: both directions, overlaps, pages, bases, limits", () => {
  let seed = 7;
  const random = (below: number) => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return Math.floor(seed / 2 ** 32 * below);
  };
  const pick = <T>(...of: readonly T[]) => of[random(of.length)]!;
  let faults = 0;
  for (let n = 0; n < 2500; n++) {
    const addressBytes = pick(2, 4, 8), long = addressBytes === 8;
    const base = () => long ? 0 : pick(0, 0x1000, 0x123, 0x10);
    const bases = { ds: base(), es: base() };
    const bytes = long ? pick(1, 2, 4, 8) : pick(1, 2, 4);
    const count = pick(0, 1, 2, 3, random(40), random(3000));
    const place = () => ARENA + pick(random(ARENA_BYTES - 1), 0x1000 - random(16), 0x2000 + random(16));
    // all elements lie within the memory, for both directions
    const fit = (at: number) => Math.min(Math.max(at, ARENA / 2 + 0x1200), ARENA + ARENA_BYTES - 0x1200);
    const from = fit(place()), to = fit(pick(place(), from + random(9) - 4, from + random(300) - 150));
    const most = Math.floor(0x1100 / bytes);
    const c: Case = {
      ...{ stos: random(3) === 0, bytes, addressBytes, down: random(2) === 0, bases, from, to },
      count: Math.min(count, most),
      esLimit: long || random(4) > 0 ? 0xffff_ffff : to + random(200) - 20,
    };
    const memory = start(c), expected = memory.slice();
    const after = model(c, expected);
    const outcome = fix.outcome(fix.run(name(c), { b: DS, x: c.addressBytes, imm: 1 }));
    const told = `seed 7, case ${n}: ${JSON.stringify(c)}`;
    assertEquals(outcome, after.fault ? "#13(0)" : "next", told);
    assertEquals([RCX, RSI, RDI].map((r) => Number(fix.reg(r))), [after.rcx, after.rsi, after.rdi], told);
    const differs = memory.findIndex((byte, i) => byte !== expected[i]);
    assertEquals(differs, -1, told);
    if (after.fault) faults++;
  }
  assertEquals(faults > 50, true, "some elements were beyond a limit");
});

Deno.test("an interrupt that waits ends a repeated move between elements with IF set, and does not with IF clear", () => {
  const c: Case = {
    ...{ stos: false, bytes: 1, addressBytes: 4, down: true, esLimit: 0xffff_ffff, bases: { ds: 0, es: 0 } },
    ...{ count: 100, from: 0x5000, to: 0x5001 }, // an overlap that goes by elements or runs alike
  };
  start(c);
  fix.setEvents(1);
  assertEquals(fix.outcome(fix.run(name(c), { b: DS, x: 4, imm: 1 })), "next");
  assertEquals(fix.reg(RCX), 0n);
  start({ ...c, down: false });
  fix.set("eflags", 2 | IF);
  fix.setEvents(1);
  assertEquals(fix.outcome(fix.run(name(c), { b: DS, x: 4, imm: 1 })), "resync");
  assertEquals([fix.get64("rip"), fix.reg(RCX) > 0n], [BigInt(AT), true]);
});

Deno.test("a repeated move whose budget is used up stops, resumable, whatever IF says", () => {
  const c: Case = {
    ...{ stos: false, bytes: 1, addressBytes: 4, down: false, esLimit: 0xffff_ffff, bases: { ds: 0, es: 0 } },
    ...{ count: 100, from: 0x5000, to: 0x5001 },
  };
  start(c);
  fix.set("budget", 9);
  assertEquals(fix.outcome(fix.run(name(c), { b: DS, x: 4, imm: 1 })), "resync");
  assertEquals(fix.get64("rip"), BigInt(AT));
  assertEquals([fix.reg(RCX) + fix.reg(RSI), fix.reg(RCX) > 80n, fix.reg(RCX) < 100n], [100n + 0x5000n, true, true]);
});
