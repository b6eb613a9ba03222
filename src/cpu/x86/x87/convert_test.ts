import { assertEquals } from "@std/assert";
import { type Real, x87Fixture, type X87State } from "./fixture.ts";
import {
  C1,
  DE,
  exponentOf,
  EXTENDED,
  type Format,
  IE,
  OE,
  PE,
  round,
  roundAt,
  scale,
  toReal,
  UE,
  valueOf,
  ZE,
} from "./oracle.ts";
import { Random } from "./random.ts";

const fix = x87Fixture();
const hex = (r: Real | undefined) => r ? `${r.se.toString(16)}:${r.sig.toString(16)}` : "empty";
const isNegative = (r: Real) => r.se >= 0x8000;
const isDenormal = (r: Real) => (r.se & 0x7fff) === 0 && r.sig !== 0n;
const real = (sign: number, exponent: number, sig: bigint): Real => ({ sig, se: (sign << 15) | (0x3fff + exponent) });
const INDEFINITE: Real = { sig: 3n << 62n, se: 0xffff };
const NAN: Real = { sig: (3n << 62n) | 0x1234_5678_9abc_def0n, se: 0x7fff };
const SNAN: Real = { sig: (1n << 63n) | 0x1234_5678_9abc_def0n, se: 0x7fff };
const NIL: Real = { sig: 0n, se: 0 };
const INF: Real = { sig: 1n << 63n, se: 0x7fff };

function load(fcw: number, ...st: (Real | undefined)[]): void {
  fix.load({ fcw: fcw | 0x40, fsw: 0, top: 0, regs: Array.from({ length: 8 }, (_, i) => st[i]) });
}
function run(op: string, fcw: number, ...st: (Real | undefined)[]): X87State {
  load(fcw, ...st);
  assertEquals(fix.run(op), 0);
  return fix.state();
}

const NARROW: [string, string, Format, number][] = [
  ["FSTP m32", "D9 /3", { bits: 24, min: -126, max: 127 }, 32],
  ["FSTP m64", "DD /3", { bits: 53, min: -1022, max: 1023 }, 64],
];
for (const [name, op, format, size] of NARROW) {
  const { bits, min, max } = format;
  const read = () => size === 32 ? BigInt(fix.operand.getUint32(0, true)) : fix.operand.getBigUint64(0, true);
  Deno.test(`${name} rounds once into the narrower range`, () => {
    const random = new Random(size);
    for (let i = 0; i < 6000; i++) {
      const near = random.pick([0, min, min - bits + 1, max]);
      const a = random.below(20)
        ? real(random.below(2), near + random.below(7) - 3, random.significand())
        : random.finite(0x3fff);
      const rc = random.below(4), masks = 0x7 | (random.below(3) ? 0x38 : random.u32() & 0x38);
      fix.operand.setBigUint64(0, 0x5555_5555_5555_5555n, true);
      const s = run(op, masks | rc << 10, a);
      const r = round(valueOf(a), isNegative(a), format, rc, masks);
      const trapped = r.flags & ~masks & (OE | UE);
      const what = `${hex(a)} rc ${rc} masks ${masks.toString(16)}`;
      if (trapped) {
        assertEquals(s.fsw, (r.flags & (OE | UE)) | 0x8080, what);
        assertEquals(
          [s.top, read()],
          [0, BigInt.asUintN(size, 0x5555_5555_5555_5555n)],
          "nothing stored, nothing popped",
        );
        continue;
      }
      const e = r.sig >> BigInt(bits - 1) ? r.exponent - min + 1 : 0;
      const want = (isNegative(a) ? 1n << BigInt(size - 1) : 0n) | BigInt(e) << BigInt(bits - 1) |
        BigInt.asUintN(bits - 1, r.sig);
      assertEquals(read().toString(16), want.toString(16), what);
      assertEquals([s.fsw, s.top], [r.flags | (r.flags & ~masks & PE ? 0x8080 : 0), 1], what);
    }
  });
}

Deno.test("FLD m64 and FSTP m64 bring back every double, and give what arithmetic on doubles gives", () => {
  const random = new Random(8);
  for (let i = 0; i < 2000; i++) {
    const bits = random.below(4) ? random.u64() : random.u64() & 0x800f_ffff_ffff_ffffn;
    fix.operand.setBigUint64(0, bits, true);
    const value = fix.operand.getFloat64(0, true);
    if (Number.isNaN(value)) continue;
    const s = run("DD /0", 0x7f);
    assertEquals(s.fsw, (bits & 0x7ff0_0000_0000_0000n) === 0n && value !== 0 ? DE : 0);
    fix.operand.setBigUint64(0, 0n, true);
    load(0x7f, s.regs[7]);
    fix.run("DD /3");
    assertEquals(fix.operand.getBigUint64(0, true), bits);
    fix.operand.setFloat32(0, Math.fround(value), true);
    const want = fix.operand.getUint32(0, true);
    load(0x7f, s.regs[7]);
    fix.run("D9 /3");
    assertEquals(fix.operand.getUint32(0, true), want, `${value} to single`);
  }
});

Deno.test("a signaling NaN is quieted with IE where it changes format, and kept where it does not", () => {
  fix.operand.setUint32(0, 0x7fa00001, true);
  const s = run("D9 /0", 0x7f);
  assertEquals([hex(s.regs[7]), s.fsw], ["7fff:e000010000000000", IE]);
  run("DD /3", 0x7f, SNAN);
  assertEquals([fix.operand.getBigUint64(0, true), fix.state().fsw], [0x7ffa_468a_cf13_579bn, IE]);
  run("DB /7", 0x7f, SNAN);
  assertEquals([fix.operand.getBigUint64(0, true), fix.operand.getUint16(8, true), fix.state().fsw], [
    SNAN.sig,
    0x7fff,
    0,
  ]);
  assertEquals(hex(run("D9 /2", 0x7f, NAN).regs[0]), hex(NAN));
  assertEquals(fix.operand.getUint32(0, true), 0x7fc00000 | Number((NAN.sig >> 40n) & 0x7f_ffffn));
});

const INTEGERS: [string, number, boolean][] = [
  ["DF /3", 16, false],
  ["DB /3", 32, false],
  ["DF /7", 64, false],
  ["DF /1", 16, true],
  ["DB /1", 32, true],
  ["DD /1", 64, true],
];
for (const [op, bits, truncates] of INTEGERS) {
  Deno.test(`${truncates ? "FISTTP" : "FISTP"} m${bits} rounds, or stores the indefinite integer with IE`, () => {
    const random = new Random(bits * 3 + (truncates ? 1 : 0));
    const limit = 1n << BigInt(bits - 1);
    for (let i = 0; i < 3000; i++) {
      const a = random.below(8)
        ? real(random.below(2), random.below(bits + 3) - 3, random.significand())
        : random.pick([NAN, SNAN, INF, INDEFINITE, { sig: 1n, se: 0x3fff }, NIL, random.finite(0x3fff)]);
      const rc = random.below(4);
      const s = run(op, 0x7f | rc << 10, a);
      const got = BigInt.asIntN(bits, fix.operand.getBigUint64(0, true));
      let want = -limit, flags = IE;
      const supported = (a.se & 0x7fff) !== 0x7fff && ((a.se & 0x7fff) === 0 || a.sig >> 63n);
      if (a.sig === 0n) (want = 0n), (flags = 0);
      else if (supported) {
        const r = roundAt(valueOf(a), 0, isNegative(a), truncates ? 3 : rc);
        const v = isNegative(a) ? -r.n : r.n;
        if (v >= -limit && v < limit) {
          want = v;
          flags = (r.inexact ? PE : 0) | (r.up ? C1 : 0);
        }
      }
      assertEquals([got, s.fsw, s.top], [want, flags, 1], `${hex(a)} rc ${rc}`);
    }
    fix.operand.setBigUint64(0, 7n, true);
    assertEquals(run(op, 0x7e, NAN).fsw, 0x8081);
    assertEquals(
      [fix.operand.getBigUint64(0, true), fix.state().top],
      [7n, 0],
      "unmasked: nothing stored, nothing popped",
    );
  });
}

Deno.test("FILD takes every integer exactly", () => {
  const random = new Random(4);
  for (let i = 0; i < 1500; i++) {
    const v = BigInt.asIntN(64, random.below(9) ? random.u64() >> BigInt(random.below(64)) : 1n << 63n) *
      (i & 1 ? 1n : -1n);
    const w = BigInt.asIntN(64, v);
    fix.operand.setBigInt64(0, w, true);
    for (const [op, bits] of [["DF /0", 16], ["DB /0", 32], ["DF /5", 64]] as const) {
      const n = BigInt.asIntN(bits, w), negative = n < 0n;
      const s = run(op, 0x7f);
      const want = n === 0n
        ? NIL
        : toReal(round({ num: negative ? -n : n, den: 1n }, negative, EXTENDED, 0), negative, 64);
      assertEquals([hex(s.regs[7]), s.fsw], [hex(want), 0]);
    }
  }
});

Deno.test("FBSTP writes eighteen digits and FBLD reads them", () => {
  const random = new Random(6);
  const digits = () => {
    let text = (fix.operand.getUint8(8)).toString(16).padStart(2, "0");
    text += fix.operand.getBigUint64(0, true).toString(16).padStart(16, "0");
    return text;
  };
  for (let i = 0; i < 1500; i++) {
    const a = real(random.below(2), random.below(62) - 2, random.significand()), rc = random.below(4);
    const s = run("DF /6", 0x7f | rc << 10, a);
    const r = roundAt(valueOf(a), 0, isNegative(a), rc);
    if (r.n >= 10n ** 18n) {
      assertEquals([fix.operand.getBigUint64(0, true), fix.operand.getUint16(8, true), s.fsw], [3n << 62n, 0xffff, IE]);
      continue;
    }
    assertEquals(
      [digits(), fix.operand.getUint8(9)],
      [r.n.toString().padStart(18, "0"), isNegative(a) ? 0x80 : 0],
      hex(a),
    );
    assertEquals(s.fsw, (r.inexact ? PE : 0) | (r.up ? C1 : 0));
    const back = run("DF /4", 0x7f);
    const want = r.n === 0n
      ? { sig: 0n, se: a.se & 0x8000 }
      : toReal(round({ num: r.n, den: 1n }, isNegative(a), EXTENDED, 0), isNegative(a), 64);
    assertEquals(hex(back.regs[7]), hex(want));
  }
});

Deno.test("FRNDINT rounds to an integer in the direction of RC", () => {
  const random = new Random(9);
  for (let i = 0; i < 3000; i++) {
    const a = random.below(9)
      ? real(random.below(2), random.below(68) - 3, random.significand())
      : random.finite(0x3fff);
    const rc = random.below(4), s = run("D9 FC", 0x7f | rc << 10, a);
    const r = roundAt(valueOf(a), 0, isNegative(a), rc);
    const want = r.n === 0n
      ? { sig: 0n, se: a.se & 0x8000 }
      : toReal(round({ num: r.n, den: 1n }, isNegative(a), EXTENDED, rc), isNegative(a), 64);
    const flags = (r.inexact ? PE : 0) | (r.up ? C1 : 0) | (isDenormal(a) ? DE : 0);
    assertEquals([hex(s.regs[0]), s.fsw], [hex(want), flags], `${hex(a)} rc ${rc}`);
  }
});

for (const [name, op, nearest] of [["FPREM", "D9 F8", false], ["FPREM1", "D9 F5", true]] as const) {
  Deno.test(`${name} is exact, with the quotient's last bits in C0, C3, C1`, () => {
    const random = new Random(nearest ? 31 : 32);
    for (let i = 0; i < 4000; i++) {
      const a = random.finite(0x3fff), b = random.finite((a.se & 0x7fff) - random.below(70) + 35);
      const x = valueOf(a), y = valueOf(b);
      const distance = exponentOf(x) - exponentOf(y);
      const s = run(op, 0x7f, a, b);
      const ratio = { num: x.num * y.den, den: x.den * y.num };
      const denormal = isDenormal(a) || isDenormal(b) ? DE : 0;
      if (distance >= 64) {
        assertEquals(s.fsw & 0x4700, 0x400, "C2: to be done again");
        const rest = valueOf(s.regs[0]!);
        assertEquals(isNegative(s.regs[0]!), isNegative(a));
        assertEquals(s.regs[0]!.sig === 0n || exponentOf(rest) < exponentOf(x) - 31, true, "closer by 32 or more");
        // The difference is a multiple of the divisor.
        const left = x.num * rest.den - rest.num * x.den;
        assertEquals((left * y.den) % (x.den * rest.den * y.num), 0n);
        continue;
      }
      const { n: q } = roundAt(ratio, 0, false, nearest ? 0 : 3);
      // x - q y over x.den y.den.
      const num = x.num * y.den - q * y.num * x.den, size = num < 0n ? -num : num;
      const negative = isNegative(a) !== num < 0n;
      const want = num === 0n
        ? { sig: 0n, se: a.se & 0x8000 }
        : toReal(round({ num: size, den: x.den * y.den }, negative, EXTENDED, 0), negative, 64);
      const cc = (q & 1n ? C1 : 0) | (q & 2n ? 0x4000 : 0) | (q & 4n ? 0x100 : 0);
      assertEquals([hex(s.regs[0]), s.fsw], [hex(want), cc | denormal], `${hex(a)} rem ${hex(b)}`);
    }
  });
}

Deno.test("FSCALE multiplies by a power of 2 and rounds where the range ends", () => {
  const random = new Random(41);
  for (let i = 0; i < 3000; i++) {
    const a = random.finite(0x3fff), b = real(random.below(2), random.below(17) - 1, random.significand());
    const rc = random.below(4), s = run("D9 FD", 0x7f | rc << 10, a, b);
    const by = Number(roundAt(valueOf(b), 0, false, 3).n) * (isNegative(b) ? -1 : 1);
    const r = round(scale(valueOf(a), by), isNegative(a), EXTENDED, rc);
    const flags = r.flags | (isDenormal(a) ? DE : 0);
    assertEquals([hex(s.regs[0]), s.fsw], [hex(toReal(r, isNegative(a), 64)), flags], `${hex(a)} by ${by} rc ${rc}`);
  }
});

Deno.test("FXTRACT takes a number apart; zero gives minus infinity and ZE", () => {
  const random = new Random(43);
  for (let i = 0; i < 500; i++) {
    const a = random.finite(0x3fff), s = run("D9 F4", 0x7f, a), e = exponentOf(valueOf(a));
    const want = e === 0 ? NIL : toReal(round({ num: BigInt(Math.abs(e)), den: 1n }, e < 0, EXTENDED, 0), e < 0, 64);
    const m = toReal(round(scale(valueOf(a), -e), isNegative(a), EXTENDED, 0), isNegative(a), 64);
    assertEquals([s.top, hex(s.regs[0]), hex(s.regs[7]), s.fsw], [7, hex(want), hex(m), isDenormal(a) ? DE : 0]);
  }
  const zero = run("D9 F4", 0x7f, { sig: 0n, se: 0x8000 });
  assertEquals([hex(zero.regs[0]), hex(zero.regs[7]), zero.fsw], ["ffff:8000000000000000", "8000:0", ZE]);
});

Deno.test("constants are rounded in the direction of RC", () => {
  // π, log2 10, log2 e, log10 2, ln 2 to 128 bits.
  const bits: [string, number, bigint][] = [
    ["D9 EB", 1, 0xc90fdaa22168c234c4c6628b80dc1cd1n],
    ["D9 E9", 1, 0xd49a784bcd1b8afe492bf6ff4dafdb4cn],
    ["D9 EA", 0, 0xb8aa3b295c17f0bbbe87fed0691d3e88n],
    ["D9 EC", -2, 0x9a209a84fbcff7988f8959ac0b7c9178n],
    ["D9 ED", -1, 0xb17217f7d1cf79abc9e3b39803f2f6afn],
  ];
  for (const [op, exponent, sig] of bits) {
    for (let rc = 0; rc < 4; rc++) {
      const want = round(scale({ num: sig, den: 1n }, exponent - 127), false, EXTENDED, rc);
      const s = run(op, 0x7f | rc << 10);
      assertEquals([hex(s.regs[7]), s.fsw], [hex(toReal(want, false, 64)), 0], `${op} rc ${rc}`);
    }
  }
});

Deno.test("FXAM names the class of what ST(0) holds, and its sign even when empty", () => {
  const classes: [Real, number][] = [
    [{ sig: 1n, se: 0x3fff }, 0],
    [NAN, 0x100],
    [real(0, 5, 1n << 63n), 0x400],
    [INF, 0x500],
    [NIL, 0x4000],
    [{ sig: 1n, se: 0 }, 0x4400],
    [{ sig: 1n << 63n, se: 0 }, 0x4400],
  ];
  for (const [a, cc] of classes) {
    assertEquals(run("D9 E5", 0x7f, a).fsw, cc);
    assertEquals(run("D9 E5", 0x7f, { ...a, se: a.se | 0x8000 }).fsw, cc | C1);
  }
  assertEquals(run("D9 E5", 0x7f).fsw, 0x4100);
});

Deno.test("a push onto a full stack is an overflow: C1 and SF with IE, the indefinite NaN if masked", () => {
  const full = new Array(8).fill(NIL);
  const s = run("D9 E8", 0x7f, ...full);
  assertEquals([s.top, hex(s.regs[7]), s.fsw], [7, hex(INDEFINITE), 0x241]);
  const t = run("D9 E8", 0x7e, ...full);
  assertEquals([t.top, hex(t.regs[7]), t.fsw], [0, hex(NIL), 0x82c1]);
});

Deno.test("FCMOVcc follows the flags and faults on an empty register whatever they are", () => {
  const one = real(0, 0, 1n << 63n);
  for (const [zero, taken] of [[true, one], [false, NIL]] as const) {
    fix.set64("fRes", zero ? 0 : 1);
    load(0x7f, NIL, one);
    fix.run("DA C8+", 1);
    assertEquals(hex(fix.state().regs[0]), hex(taken));
    load(0x7f, NIL);
    fix.run("DA C8+", 1);
    assertEquals([hex(fix.state().regs[0]), fix.state().fsw & ~C1], [hex(INDEFINITE), 0x41]);
  }
});
