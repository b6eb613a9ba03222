/** The oracle is a model of paging in bigints, written from the tables of [sdm3 4.3-4.7]. */
import { assertEquals } from "@std/assert";
import { CPU, type Fixture, fixture, RAM } from "./fixture.ts";
import { S } from "../state.ts";
import { ACCESS } from "./walk.ts";

const RAM_PAGES = 48;

function random(seed: number): (n: number) => number {
  let x = seed | 1;
  return (n) => {
    x ^= x << 13, x ^= x >>> 17, x ^= x << 5;
    return (x >>> 0) % n;
  };
}

interface Mode {
  readonly kind: "off" | "32" | "pae" | "4level";
  readonly wp: boolean;
  readonly pse: boolean;
  readonly nxe: boolean;
  readonly smep: boolean;
  readonly smap: boolean;
}
type Answer = { gp: true } | { error: number } | { physical: bigint; writable: boolean; marks: Map<number, bigint> };

/** Levels as the manual draws them: shift of the index, its width, whether the PS flag maps a page here. */
const LEVELS = {
  "4level": [[39, 9, "never"], [30, 9, "maps"], [21, 9, "maps"], [12, 9, "last"]],
  pae: [[30, 2, "pdpte"], [21, 9, "maps"], [12, 9, "last"]],
  "32": [[22, 10, "pse"], [12, 10, "last"]],
} as const;

function bits(high: number, low: number): bigint {
  return high < low ? 0n : ((1n << BigInt(high - low + 1)) - 1n) << BigInt(low);
}

function model(
  read: (at: number) => bigint | undefined,
  mode: Mode,
  cr3: bigint,
  address: bigint,
  access: number,
): Answer {
  const write = !!(access & ACCESS.WRITE), user = !!(access & ACCESS.USER), fetch = !!(access & ACCESS.FETCH);
  const tells = mode.smep || (mode.nxe && (mode.kind === "pae" || mode.kind === "4level"));
  const errorBits = (write ? 2 : 0) | (user ? 4 : 0) | (fetch && tells ? 16 : 0);
  if (mode.kind === "off") return { physical: address & bits(31, 0), writable: true, marks: new Map() };
  if (mode.kind === "4level" && BigInt.asUintN(64, BigInt.asIntN(48, address)) !== address) return { gp: true };
  const size = mode.kind === "32" ? 4 : 8;
  let table = mode.kind === "pae" ? cr3 & bits(31, 5) : mode.kind === "32" ? cr3 & bits(31, 12) : cr3 & bits(39, 12);
  let canWrite = true, canUser = true, xd = false;
  const used: [number, bigint][] = [];
  for (const [shift, width, ps] of LEVELS[mode.kind]) {
    const at = Number(table + ((address >> BigInt(shift)) & bits(width - 1, 0)) * BigInt(size));
    const e = read(at);
    if (e === undefined || !(e & 1n)) return { error: errorBits };
    let reserved = 0n;
    if (size === 8) {
      reserved = bits(51, 40);
      if (!mode.nxe) reserved |= bits(63, 63);
      if (mode.kind === "pae") reserved |= bits(62, 52);
      if (ps === "never") reserved |= bits(7, 7);
      if (ps === "pdpte") reserved |= bits(2, 1) | bits(8, 5) | bits(63, 63);
    }
    const large = (ps === "maps" || (ps === "pse" && mode.pse)) && !!(e & 128n);
    if (large) reserved |= size === 8 ? bits(shift - 1, 13) : bits(21, 21);
    if (e & reserved) return { error: errorBits | 9 };
    if (ps !== "pdpte") {
      canWrite &&= !!(e & 2n);
      canUser &&= !!(e & 4n);
      if (size === 8) xd ||= !!(e & bits(63, 63));
      used.push([at, e]);
    }
    if (large || ps === "last") {
      const low = bits(shift - 1, 0);
      const base = size === 8
        ? e & bits(39, shift)
        : large
        ? (e & bits(31, 22)) | (((e >> 13n) & 0xffn) << 32n)
        : e & bits(31, 12);
      const mayWrite = canWrite || (!user && !mode.wp);
      const bad = (user && !canUser) || (write && !mayWrite) || (fetch && xd) ||
        (!user && canUser && (fetch ? mode.smep : mode.smap && !(access & ACCESS.AC)));
      if (bad) return { error: errorBits | 1 };
      const marks = new Map<number, bigint>();
      used.forEach(([at, e], i) => marks.set(at, e | 32n | (write && i === used.length - 1 ? 64n : 0n)));
      return { physical: base | (address & low), writable: mayWrite && (write || !!(e & 64n)), marks };
    }
    table = size === 8 ? e & bits(39, 12) : e & bits(31, 12);
  }
  throw new Error("unreachable");
}

function setMode(f: Fixture, mode: Mode, cr3: bigint): void {
  f.set64("cr0", mode.kind === "off" ? 1 : (0x8000_0001 | (mode.wp ? 1 << 16 : 0)) >>> 0);
  const pae = mode.kind === "pae" || mode.kind === "4level";
  f.set64("cr4", (pae ? 32 : 0) | (mode.pse ? 16 : 0) | (mode.smep ? 1 << 20 : 0) | (mode.smap ? 1 << 21 : 0));
  f.set64("efer", (mode.kind === "4level" ? 0x500 : 0) | (mode.nxe ? 0x800 : 0));
  f.set64("cr3", cr3);
}

for (const kind of ["off", "32", "pae", "4level"] as const) {
  Deno.test(`walks with random tables agree with the manual: ${kind}`, () => {
    const f = fixture(RAM_PAGES, ["walk"]);
    const r = random(kind.length * 7919 + 5);
    const size = kind === "32" ? 4 : 8;
    const outcomes = { fault: 0, fine: 0, reserved: 0, gp: 0 };
    for (let round = 0; round < 6000; round++) {
      const one = () => r(2) === 1;
      const mode: Mode = { kind, wp: one(), pse: one(), nxe: one(), smep: one(), smap: one() };
      const tables: number[] = [];
      let cr3 = BigInt(r(RAM_PAGES) * 4096);
      if (kind === "pae") cr3 |= BigInt(r(128) * 32);
      let address = BigInt(r(2 ** 32)) | (BigInt(r(2 ** 16)) << 32n);
      if (kind !== "4level") address &= 0xffff_ffffn;
      else if (r(20) > 0) address = BigInt.asUintN(64, BigInt.asIntN(48, address));
      else address |= BigInt(r(65536)) << 48n;
      const access = [0, 1, 4, 2, 3, 6, 16, 17][r(8)]! | (r(8) === 0 ? ACCESS.QUIET : 0);

      // A chain of entries along the address, mostly present and permissive, so that deep levels are reached.
      let table = kind === "pae" ? cr3 : cr3 & ~0xfffn;
      for (const [shift, width] of kind === "off" ? [] : LEVELS[kind]) {
        const at = Number(table + ((address >> BigInt(shift)) & bits(width - 1, 0)) * BigInt(size));
        const frame = BigInt(r(RAM_PAGES + 1));
        let e = (frame << 12n) | (r(30) ? 1n : 0n) | (r(4) ? 2n : 0n) | (r(4) ? 4n : 0n) | BigInt(r(4)) << 5n;
        if (r(4) === 0) e |= 128n;
        if (r(6) === 0) e |= 1n << BigInt(r(size * 8));
        if (r(12) === 0) e |= bits(63, 63);
        if (kind === "pae" && shift === 30 && r(10)) e &= ~0x1e6n & bits(39, 0);
        if ((e & 128n) && r(2)) e = (e & ~bits(39, 12)) | (BigInt(r(256)) << BigInt(shift));
        if (size === 4) {
          e &= bits(31, 0);
          f.view.setUint32(RAM + at, Number(e), true);
        } else f.view.setBigUint64(RAM + at, e, true);
        tables.push(at);
        table = frame << 12n;
        if (frame >= RAM_PAGES) break;
      }
      const read = (at: number) =>
        at >= RAM_PAGES * 4096
          ? undefined
          : size === 4
          ? BigInt(f.view.getUint32(RAM + at, true))
          : f.view.getBigUint64(RAM + at, true);
      const before = new Map(tables.map((at) => [at, read(at)!]));
      const expected = model(read, mode, cr3, address, access);
      setMode(f, mode, cr3);
      f.set64("cr2", 0x1234n);
      const [status, physical, info] = f.call("walk", address, access) as [number, bigint, number];
      const what = `round ${round} ${JSON.stringify(mode)} address ${address.toString(16)} access ${access}`;
      const quiet = !!(access & ACCESS.QUIET);
      if ("gp" in expected) {
        assertEquals([status, f.get("excVector"), f.get("excError")], [1, 13, 0], what);
        outcomes.gp++;
      } else if ("error" in expected) {
        assertEquals([status, f.get("excVector"), f.get("excError")], [1, 14, expected.error], what);
        assertEquals(f.get64("cr2"), quiet ? 0x1234n : address, what);
        if (expected.error & 8) outcomes.reserved++;
        else outcomes.fault++;
      } else {
        assertEquals([status, BigInt.asUintN(64, physical)], [0, expected.physical], what);
        // Without marks, a quiet write walk must not promise that D is set; with them, W needs both.
        if (!quiet) assertEquals(info & 1, expected.writable ? 1 : 0, what);
        outcomes.fine++;
        if (!quiet) { for (const [at, e] of expected.marks) before.set(at, e); }
      }
      for (const at of new Set(tables)) assertEquals(read(at), before.get(at), `${what}: entry at ${at.toString(16)}`);
    }
    const least = kind === "off" ? 0 : 100;
    if (outcomes.fine < least || outcomes.fault < least) throw new Error(`poor mix: ${JSON.stringify(outcomes)}`);
    if (size === 8 && kind !== "off" && outcomes.reserved < 100) {
      throw new Error(`poor mix: ${JSON.stringify(outcomes)}`);
    }
  });
}

Deno.test("the state of a vCPU fits below its bounce buffer", () => {
  assertEquals(S.END < 0x1000 && CPU % 16 === 0, true);
});
