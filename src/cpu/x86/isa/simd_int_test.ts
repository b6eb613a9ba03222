import { assertEquals } from "@std/assert";
import { FORM } from "../handlers.ts";
import { STATUS } from "../ops.ts";
import { EXC, S } from "../state.ts";
import { CPU, RAM } from "../system/fixture.ts";
import { rowFixture } from "../simd/fixture.ts";
import { defineSimd, ROWS } from "./simd.ts";

/** One register file for all tests here. */
const fix = rowFixture(ROWS, defineSimd);
const AT = 0x3000;

let seed = 0x1234567;
function random(): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return seed >>> 0;
}
/** Bytes that like the edges of lanes. */
function vector(): bigint {
  let v = 0n;
  for (let i = 0; i < 16; i++) {
    v = (v << 8n) | BigInt(random() & 1 ? random() & 255 : [0, 1, 127, 128, 255][random() % 5]!);
  }
  return v;
}
const mask = (bits: number) => (1n << BigInt(bits)) - 1n;
/** Lanes of a register of `total` bits, lowest first. */
const split = (v: bigint, bits: number, total: number, signed = false): bigint[] =>
  Array.from({ length: total / bits }, (_, i) => {
    const x = (v >> BigInt(i * bits)) & mask(bits);
    return signed ? BigInt.asIntN(bits, x) : x;
  });
const join = (list: readonly bigint[], bits: number): bigint =>
  list.reduce((v, x, i) => v | (BigInt.asUintN(bits, x) << BigInt(i * bits)), 0n);
const clamp = (x: bigint, bits: number, signed: boolean): bigint => {
  const low = signed ? -(1n << BigInt(bits - 1)) : 0n, high = signed ? -low - 1n : mask(bits);
  return x < low ? low : x > high ? high : x;
};

type Oracle = (a: bigint, b: bigint, total: number, imm: number) => bigint;
const byLane = (bits: number, f: (x: bigint, y: bigint) => bigint, signed = false): Oracle => (a, b, total) => {
  const y = split(b, bits, total, signed);
  return join(split(a, bits, total, signed).map((x, i) => f(x, y[i]!)), bits);
};
const packed = (bits: number, signed: boolean): Oracle => (a, b, total) =>
  join(
    [...split(a, bits, total, true), ...split(b, bits, total, true)].map((x) => clamp(x, bits / 2, signed)),
    bits / 2,
  );
const unpacked = (bits: number, high: boolean): Oracle => (a, b, total) => {
  const x = split(a, bits, total), y = split(b, bits, total), n = x.length / 2, from = high ? n : 0;
  return join(Array.from({ length: 2 * n }, (_, i) => (i & 1 ? y : x)[from + (i >> 1)]!), bits);
};
const horizontal = (bits: number, f: (x: bigint, y: bigint) => bigint): Oracle => (a, b, total) => {
  const all = [...split(a, bits, total, true), ...split(b, bits, total, true)];
  return join(Array.from({ length: all.length / 2 }, (_, i) => f(all[2 * i]!, all[2 * i + 1]!)), bits);
};
const shifted = (bits: number, f: (x: bigint, n: bigint) => bigint, signed = false): Oracle => (a, b, total) => {
  const n = b & mask(64);
  return join(split(a, bits, total, signed).map((x) => f(x, n)), bits);
};
const left = (bits: number) => shifted(bits, (x, n) => n < bits ? x << n : 0n);
const right = (bits: number) => shifted(bits, (x, n) => n < bits ? x >> n : 0n);
const arithmetic = (bits: number) => shifted(bits, (x, n) => x >> (n < bits ? n : BigInt(bits - 1)), true);
const pairs = (list: bigint[]) =>
  Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i]!, list[2 * i + 1]!] as const);
const less = (x: bigint, y: bigint) => (x < y ? x : y), more = (x: bigint, y: bigint) => (x > y ? x : y);
const ones = (c: boolean) => (c ? -1n : 0n);

/** Mnemonic → what the manual says, for 64- and 128-bit registers. */
const ORACLES: Record<string, Oracle> = {
  PADDUSB: byLane(8, (x, y) => clamp(x + y, 8, false)),
  PADDSW: byLane(16, (x, y) => clamp(x + y, 16, true), true),
  PSUBUSW: byLane(16, (x, y) => clamp(x - y, 16, false)),
  PSUBSB: byLane(8, (x, y) => clamp(x - y, 8, true), true),
  PADDB: byLane(8, (x, y) => x + y),
  PSUBD: byLane(32, (x, y) => x - y),
  PADDQ: byLane(64, (x, y) => x + y),
  PAND: (a, b) => a & b,
  PANDN: (a, b) => (a ^ mask(128)) & b,
  POR: (a, b) => a | b,
  PXOR: (a, b) => a ^ b,
  PCMPEQW: byLane(16, (x, y) => ones(x === y)),
  PCMPGTD: byLane(32, (x, y) => ones(x > y), true),
  PMINUB: byLane(8, less),
  PMAXSW: byLane(16, more, true),
  PAVGB: byLane(8, (x, y) => (x + y + 1n) >> 1n),
  PMULLW: byLane(16, (x, y) => x * y),
  PMULHW: byLane(16, (x, y) => (x * y) >> 16n, true),
  PMULHUW: byLane(16, (x, y) => (x * y) >> 16n),
  PMULHRSW: byLane(16, (x, y) => (((x * y) >> 14n) + 1n) >> 1n, true),
  PMULUDQ: byLane(64, (x, y) => (x & mask(32)) * (y & mask(32))),
  PMADDWD: (a, b, total) => {
    const x = pairs(split(a, 16, total, true)), y = pairs(split(b, 16, total, true));
    return join(x.map(([p, q], i) => p * y[i]![0] + q * y[i]![1]), 32);
  },
  PMADDUBSW: (a, b, total) => {
    const x = pairs(split(a, 8, total)), y = pairs(split(b, 8, total, true));
    return join(x.map(([p, q], i) => clamp(p * y[i]![0] + q * y[i]![1], 16, true)), 16);
  },
  PSADBW: (a, b, total) => {
    const x = split(a, 8, total), y = split(b, 8, total);
    const d = x.map((p, i) => (p > y[i]! ? p - y[i]! : y[i]! - p));
    return join(Array.from({ length: total / 64 }, (_, i) => d.slice(8 * i, 8 * i + 8).reduce((s, p) => s + p)), 64);
  },
  PACKSSWB: packed(16, true),
  PACKUSWB: packed(16, false),
  PACKSSDW: packed(32, true),
  PUNPCKLBW: unpacked(8, false),
  PUNPCKHWD: unpacked(16, true),
  PUNPCKLDQ: unpacked(32, false),
  PUNPCKHDQ: unpacked(32, true),
  PHADDW: horizontal(16, (x, y) => x + y),
  PHSUBD: horizontal(32, (x, y) => x - y),
  PHADDSW: horizontal(16, (x, y) => clamp(x + y, 16, true)),
  PSIGNW: byLane(16, (x, y) => (y < 0n ? -x : y ? x : 0n), true),
  PABSB: byLane(8, (_x, y) => (y < 0n ? -y : y), true),
  PSHUFB: (a, b, total) => {
    const x = split(a, 8, total);
    return join(split(b, 8, total).map((n) => (n & 128n ? 0n : x[Number(n) & (total / 8 - 1)]!)), 8);
  },
  PSLLW: left(16),
  PSLLQ: left(64),
  PSRLD: right(32),
  PSRAW: arithmetic(16),
  PSRAD: arithmetic(32),
};

Deno.test("packed integers are the manual's, lane by lane, in XMM and MMX registers and memory", () => {
  let rows = 0;
  for (const row of fix.rows) {
    const oracle = ORACLES[row.name];
    if (!oracle || !/^(Vdq|Pq)\+,(Wdq|Q[qd])$/.test(row.args!)) continue;
    rows++;
    const mmx = row.args!.startsWith("P"), total = mmx ? 64 : 128;
    for (let i = 0; i < 40; i++) {
      const a = vector() & mask(total);
      let b = vector() & mask(total);
      if (/^PS[LR]/.test(row.name) && i % 4) b = BigInt(random() % 70);
      const want = oracle(a, b, total, 0) & mask(total);
      for (const form of [FORM.REG, FORM.EA]) {
        for (const n of [1, 2]) {
          fix.setMm(n, n === 1 ? a & mask(64) : b & mask(64));
          fix.setXmm(n, n === 1 ? a : b);
        }
        for (let n = 0; n < 2; n++) fix.view.setBigUint64(RAM + AT + 8 * n, (b >> BigInt(64 * n)) & mask(64), true);
        assertEquals(fix.run(row, form, { d: 16, s: 32 }, AT), STATUS.NEXT);
        const got = mmx ? fix.mm(1) : fix.xmm(1);
        assertEquals(got.toString(16), want.toString(16), `${row.op} ${row.name} ${a.toString(16)} ${b.toString(16)}`);
      }
    }
  }
  assertEquals(rows, 2 * Object.keys(ORACLES).length);
});

function immediate(name: string, op: string, oracle: Oracle, total = 128): void {
  for (let i = 0; i < 300; i++) {
    const a = vector() & mask(total), b = vector() & mask(total), imm = random() & (i & 1 ? 255 : 31);
    fix.setXmm(1, a);
    fix.setXmm(2, b);
    fix.setMm(1, a & mask(64));
    fix.setMm(2, b & mask(64));
    assertEquals(fix.run(fix.row(name, op), FORM.REG, { d: 16, s: 32, imm }), STATUS.NEXT);
    const got = total === 64 ? fix.mm(1) : fix.xmm(1);
    assertEquals(got.toString(16), (oracle(a, b, total, imm) & mask(total)).toString(16), `${name} ${imm}`);
  }
}
Deno.test("PSHUFD, PSHUFLW, PSHUFHW, PSHUFW, SHUFPS, SHUFPD choose lanes by the immediate", () => {
  const order = (imm: number) => [0, 2, 4, 6].map((n) => (imm >> n) & 3);
  const words = (b: bigint, imm: number) => join(order(imm).map((n) => split(b, 16, 64)[n]!), 16);
  immediate("PSHUFD", "66", (_a, b, total, imm) => join(order(imm).map((n) => split(b, 32, total)[n]!), 32));
  immediate("PSHUFLW", "F2", (_a, b, _t, imm) => ((b >> 64n) << 64n) | words(b & mask(64), imm));
  immediate("PSHUFHW", "F3", (_a, b, _t, imm) => (b & mask(64)) | (words(b >> 64n, imm) << 64n));
  immediate("PSHUFW", "NP", (_a, b, _t, imm) => words(b, imm), 64);
  immediate("SHUFPS", "NP", (a, b, total, imm) => {
    const x = split(a, 32, total), y = split(b, 32, total);
    return join(order(imm).map((n, i) => (i < 2 ? x : y)[n]!), 32);
  });
  immediate(
    "SHUFPD",
    "66",
    (a, b, total, imm) => join([split(a, 64, total)[imm & 1]!, split(b, 64, total)[(imm >> 1) & 1]!], 64),
  );
});
Deno.test("PALIGNR takes sixteen of thirty-two bytes", () => {
  immediate("PALIGNR", "66", (a, b, _t, imm) => ((a << 128n) | b) >> BigInt(8 * imm));
  immediate("PALIGNR", "NP", (a, b, _t, imm) => ((a << 64n) | b) >> BigInt(8 * imm), 64);
});
Deno.test("immediate shifts, of lanes and of the whole register", () => {
  const run = (name: string, op: string, imm: number, v: bigint) => {
    fix.setXmm(2, v);
    fix.run(fix.row(name, op), FORM.REG, { d: 32, imm });
    return fix.xmm(2);
  };
  const v = 0x8123456789abcdef_fedcba9876543210n;
  for (let imm = 0; imm < 40; imm++) {
    assertEquals(run("PSRLDQ", "66", imm, v), imm > 15 ? 0n : v >> BigInt(8 * imm));
    assertEquals(run("PSLLDQ", "66", imm, v), imm > 15 ? 0n : (v << BigInt(8 * imm)) & mask(128));
    assertEquals(run("PSRAD", "66 0F 72", imm, v), arithmetic(32)(v, BigInt(imm), 128, 0));
    assertEquals(run("PSLLW", "66 0F 71", imm, v), left(16)(v, BigInt(imm), 128, 0));
  }
});

Deno.test("MMX instructions leave TOP 0, all registers valid, and the exponent of ones; EMMS empties them", () => {
  const empty = () => Array.from({ length: 8 }, (_, i) => fix.view.getUint8(CPU + S.fempty + i));
  fix.set("ftop", 5);
  for (let i = 0; i < 8; i++) fix.view.setUint8(CPU + S.fempty + i, 1);
  fix.view.setUint16(CPU + S.fpr + 16 + 8, 0x3fff, true);
  assertEquals(fix.run(fix.row("PADDB", "NP"), FORM.REG, { d: 16, s: 32 }), STATUS.NEXT);
  assertEquals([fix.get("ftop"), empty(), fix.view.getUint16(CPU + S.fpr + 24, true)], [
    0,
    new Array(8).fill(0),
    0xffff,
  ]);
  fix.run(fix.row("EMMS"), FORM.REG, {});
  assertEquals(empty(), new Array(8).fill(1));
});

Deno.test("moves of part of a register: from memory the rest is cleared, from a register it stays", () => {
  const old = mask(128), value = 0x1111_2222_3333_4444_5555_6666_7777_8888n;
  for (let n = 0; n < 2; n++) fix.view.setBigUint64(RAM + AT + 8 * n, (value >> BigInt(64 * n)) & mask(64), true);
  const load = (name: string, op: string, form: number) => {
    const row = fix.rows.find((r) => r.name === name && r.op.startsWith(op) && r.args!.includes(form ? ",M" : ",U")) ??
      fix.row(name, op);
    fix.setXmm(1, old);
    fix.setXmm(2, value);
    assertEquals(fix.run(row, form, { d: 16, s: 32 }, AT), STATUS.NEXT);
    return fix.xmm(1);
  };
  assertEquals(load("MOVSS", "F3 0F 10", FORM.EA), value & mask(32));
  assertEquals(load("MOVSS", "F3 0F 10", FORM.REG), (old ^ mask(32)) | (value & mask(32)));
  assertEquals(load("MOVSD", "F2 0F 10", FORM.EA), value & mask(64));
  assertEquals(load("MOVSD", "F2 0F 10", FORM.REG), (old ^ mask(64)) | (value & mask(64)));
  assertEquals(load("MOVQ", "F3 0F 7E", FORM.REG), value & mask(64));
  assertEquals(load("MOVHPS", "NP 0F 16", FORM.EA), ((value & mask(64)) << 64n) | mask(64));
  assertEquals(load("MOVHLPS", "NP 0F 12", FORM.REG), (old ^ mask(64)) | (value >> 64n));
});

Deno.test("aligned operands must be aligned, unaligned ones need not", () => {
  for (const [name, at, want] of [["MOVAPS", AT + 8, STATUS.FAULT], ["MOVUPS", AT + 8, STATUS.NEXT]] as const) {
    assertEquals(fix.run(fix.row(name), FORM.EA, { d: 16 }, at), want, name);
  }
  assertEquals([fix.get("excVector"), fix.get("excError")], [EXC.GP, 0]);
  assertEquals(fix.run(fix.row("PADDB", "66"), FORM.EA, { d: 16 }, AT + 1), STATUS.FAULT);
});

Deno.test("MASKMOVDQU stores the bytes whose mask bit is set at DS:RDI, and touches nothing else", () => {
  const value = vector(), chosen = 0x80ff_0000_0000_0000_0000_0000_0000_8001n;
  new Uint8Array(fix.view.buffer, RAM + AT, 32).fill(0xaa);
  fix.setXmm(1, value);
  fix.setXmm(2, chosen);
  fix.view.setBigUint64(CPU + 7 * 8, BigInt(AT + 3), true);
  const row = fix.row("MASKMOVDQU");
  assertEquals(fix.run(row, FORM.REG, { d: 16, s: 32, b: 3, x: 8 }), STATUS.NEXT);
  const got = [...new Uint8Array(fix.view.buffer, RAM + AT, 20)];
  const want = new Array(20).fill(0xaa);
  for (const i of [1, 14, 15]) want[3 + i] = Number((value >> BigInt(8 * i)) & 255n);
  assertEquals(got, want);
  // With nothing to store there is no access, even where none is possible.
  fix.setXmm(2, 0n);
  fix.view.setBigUint64(CPU + 7 * 8, 1n << 60n, true);
  assertEquals(fix.run(row, FORM.REG, { d: 16, s: 32, b: 3, x: 8 }), STATUS.NEXT);
});

Deno.test("LDMXCSR refuses reserved bits", () => {
  fix.view.setUint32(RAM + AT, 0xffff, true);
  assertEquals([fix.run(fix.row("LDMXCSR"), FORM.EA, {}, AT), fix.get("mxcsr")], [STATUS.NEXT, 0xffff]);
  fix.view.setUint32(RAM + AT, 0x1_0000, true);
  assertEquals([fix.run(fix.row("LDMXCSR"), FORM.EA, {}, AT), fix.get("excVector")], [STATUS.FAULT, EXC.GP]);
  assertEquals(fix.get("mxcsr"), 0xffff);
  fix.set("mxcsr", 0x1f80);
});

Deno.test("an SSE instruction asks first whether the unit may be used", () => {
  fix.set("unitTraps", 1);
  assertEquals(fix.run(fix.row("PADDB", "66"), FORM.REG, { d: 16, s: 32 }), STATUS.HALT);
  assertEquals(fix.run(fix.row("PADDB", "NP"), FORM.REG, { d: 16, s: 32 }), STATUS.NEXT);
  fix.set("unitTraps", 4);
  assertEquals(fix.run(fix.row("PADDB", "NP"), FORM.REG, { d: 16, s: 32 }), STATUS.HALT);
  fix.set("unitTraps", 0);
});
