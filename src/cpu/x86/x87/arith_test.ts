import { assertEquals } from "@std/assert";
import { type Real, x87Fixture, type X87State } from "./fixture.ts";
import {
  DE,
  exponentOf,
  type Fraction,
  IE,
  isqrt,
  OE,
  PE,
  round,
  scale,
  toReal,
  UE,
  valueOf,
  withPrecision,
  ZE,
} from "./oracle.ts";
import { Random } from "./random.ts";

const fix = x87Fixture();
const BITS = [24, 64, 53, 64];
const INDEFINITE: Real = { sig: 3n << 62n, se: 0xffff };
const hex = (r: Real | undefined) => r ? `${r.se.toString(16)}:${r.sig.toString(16)}` : "empty";
const isNegative = (r: Real) => r.se >= 0x8000;
const isDenormal = (r: Real) => (r.se & 0x7fff) === 0 && r.sig !== 0n;

function state(fcw: number, ...st: (Real | undefined)[]): X87State {
  return { fcw: fcw | 0x40, fsw: 0, top: 0, regs: Array.from({ length: 8 }, (_, i) => st[i]) };
}

interface Signed {
  readonly negative: boolean;
  readonly f: Fraction;
}
const signed = (r: Real): Signed => ({ negative: isNegative(r), f: valueOf(r) });
function sum(a: Signed, b: Signed): Signed {
  const x = (v: Signed, den: bigint) => (v.negative ? -1n : 1n) * v.f.num * den;
  const num = x(a, b.f.den) + x(b, a.f.den);
  return { negative: num < 0n, f: { num: num < 0n ? -num : num, den: a.f.den * b.f.den } };
}
const product = (a: Signed, b: Signed): Signed => ({
  negative: a.negative !== b.negative,
  f: { num: a.f.num * b.f.num, den: a.f.den * b.f.den },
});
const inverse = (a: Signed): Signed => ({ negative: a.negative, f: { num: a.f.den, den: a.f.num } });
const minus = (a: Signed): Signed => ({ negative: !a.negative, f: a.f });

const OPERATIONS: [string, string, (a: Signed, b: Signed) => Signed][] = [
  ["FADD", "D8 C0+", sum],
  ["FMUL", "D8 C8+", product],
  ["FSUB", "D8 E0+", (a, b) => sum(a, minus(b))],
  ["FSUBR", "D8 E8+", (a, b) => sum(b, minus(a))],
  ["FDIV", "D8 F0+", (a, b) => product(a, inverse(b))],
  ["FDIVR", "D8 F8+", (a, b) => product(b, inverse(a))],
];

for (const [name, op, exact] of OPERATIONS) {
  Deno.test(`${name} rounds once, in every precision, direction and mask`, () => {
    const random = new Random(name.length * 77 + op.charCodeAt(3));
    for (let i = 0; i < 6000; i++) {
      const exponent = random.pick([0x3fff, 0x3fff, 40, 0x7fc0, 0x2000, 0x5fff]);
      const a = random.finite(exponent);
      let b = random.finite(exponent);
      // Cancellation, and results that lie between numbers.
      if (i % 5 === 0) b = { sig: a.sig ^ BigInt(random.below(4)), se: a.se ^ (random.below(2) << 15) };
      if (b.sig === 0n || ((b.sig >> 63n) === 0n && b.se & 0x7fff)) continue;
      const masks = 0x7 | (random.below(2) ? 0x38 : random.u32() & 0x38);
      const pc = random.below(4), rc = random.below(4);
      fix.load(state(masks | pc << 8 | rc << 10, a, b));
      assertEquals(fix.run(op, 1), 0);
      const s = fix.state();
      const { negative, f } = exact(signed(a), signed(b));
      let want: Real = { sig: 0n, se: rc === 1 ? 0x8000 : 0 }, flags = 0;
      if (f.num !== 0n) {
        const r = round(f, negative, withPrecision(BITS[pc]!), rc, masks);
        want = toReal(r, negative, BITS[pc]!);
        flags = r.flags;
      }
      if (isDenormal(a) || isDenormal(b)) flags |= DE;
      if (flags & ~masks & (OE | UE | PE)) flags |= 0x8080;
      const what = `${hex(a)} ${name} ${hex(b)} fcw=${s.fcw.toString(16)}`;
      assertEquals([hex(s.regs[0]), s.fsw], [hex(want), flags], what);
    }
  });
}

Deno.test("FSQRT rounds once, in every precision and direction", () => {
  const random = new Random(5);
  for (let i = 0; i < 4000; i++) {
    const r = random.finite(random.pick([0x3fff, 3, 0x7fc0]));
    const a: Real = { sig: i % 9 ? r.sig : (r.sig >> 32n) ** 2n | 1n << 63n, se: r.se & 0x7fff };
    const pc = random.below(4), rc = random.below(4);
    fix.load(state(0x3f | pc << 8 | rc << 10, a));
    fix.run("D9 FA");
    // 200 bits of the root, and one that says whether more follow.
    const v = valueOf(a), e = exponentOf(v), shift = 400 - (e - (e & 1));
    const { num, den } = scale(v, shift);
    const radicand = num / den, root = isqrt(radicand);
    const f = scale(
      { num: root * 2n + (root * root === radicand && radicand * den === num ? 0n : 1n), den: 2n },
      -shift / 2,
    );
    const w = round(f, false, withPrecision(BITS[pc]!), rc);
    const s = fix.state();
    assertEquals(
      [hex(s.regs[0]), s.fsw],
      [hex(toReal(w, false, BITS[pc]!)), w.flags | (isDenormal(a) ? DE : 0)],
      hex(a),
    );
  }
});

const ONE: Real = { sig: 1n << 63n, se: 0x3fff };
const INF: Real = { sig: 1n << 63n, se: 0x7fff };
const MINUS_INF: Real = { sig: 1n << 63n, se: 0xffff };
const NIL: Real = { sig: 0n, se: 0 };
const DENORMAL: Real = { sig: 1n, se: 0 };
const UNNORMAL: Real = { sig: 1n, se: 0x3fff };
const PSEUDO_INF: Real = { sig: 0n, se: 0x7fff };
const qnan = (payload: bigint, se = 0x7fff): Real => ({ sig: (3n << 62n) | payload, se });
const snan = (payload: bigint, se = 0x7fff): Real => ({ sig: (1n << 63n) | payload, se });
const quiet = (r: Real): Real => ({ sig: r.sig | (1n << 62n), se: r.se });

Deno.test("invalid operations give the indefinite NaN and IE", () => {
  const cases: [string, Real, Real][] = [
    ["D8 C0+", INF, MINUS_INF],
    ["D8 E0+", INF, INF],
    ["D8 C8+", INF, NIL],
    ["D8 C8+", NIL, MINUS_INF],
    ["D8 F0+", INF, INF],
    ["D8 F0+", NIL, NIL],
    ["D8 C0+", UNNORMAL, ONE],
    ["D8 C8+", ONE, PSEUDO_INF],
    ["D8 F0+", qnan(1n), UNNORMAL],
  ];
  for (const [op, a, b] of cases) {
    fix.load(state(0x37f, a, b));
    fix.run(op, 1);
    const s = fix.state();
    assertEquals([hex(s.regs[0]), s.fsw], [hex(INDEFINITE), IE], `${op} ${hex(a)} ${hex(b)}`);
    fix.load(state(0x37e, a, b));
    fix.run(op, 1);
    assertEquals([hex(fix.state().regs[0]), fix.state().fsw], [hex(a), IE | 0x8080], "unmasked: nothing is stored");
  }
});

Deno.test("of two NaNs the larger significand prevails, a quiet one over a signaling one", () => {
  const cases: [Real, Real, Real, number][] = [
    [qnan(5n), ONE, qnan(5n), 0],
    [ONE, snan(5n), quiet(snan(5n)), IE],
    [qnan(5n), qnan(6n, 0xffff), qnan(6n, 0xffff), 0],
    [qnan(5n, 0xffff), qnan(5n), qnan(5n), 0],
    [snan(9n), qnan(6n), qnan(6n), IE],
    [snan(9n), snan(8n, 0xffff), quiet(snan(9n)), IE],
    [qnan(1n), DENORMAL, qnan(1n), 0],
  ];
  for (const [a, b, want, flags] of cases) {
    for (const op of ["D8 C0+", "D8 C8+", "D8 E0+", "D8 F8+"]) {
      fix.load(state(0x37f, a, b));
      fix.run(op, 1);
      assertEquals([hex(fix.state().regs[0]), fix.state().fsw], [hex(want), flags], `${op} ${hex(a)} ${hex(b)}`);
    }
  }
});

Deno.test("division by zero is ZE and an infinity, or nothing if unmasked", () => {
  fix.load(state(0x37f, { ...ONE, se: 0xbfff }, NIL));
  fix.run("D8 F0+", 1);
  assertEquals([hex(fix.state().regs[0]), fix.state().fsw], [hex(MINUS_INF), ZE]);
  fix.load(state(0x37b, ONE, NIL));
  fix.run("D8 F0+", 1);
  assertEquals([hex(fix.state().regs[0]), fix.state().fsw], [hex(ONE), ZE | 0x8080]);
});

Deno.test("an empty register is a stack underflow: C1 clear, SF and IE, the indefinite NaN, and the pop still happens", () => {
  fix.load(state(0x37f, ONE));
  fix.run("DE C0+", 1);
  const s = fix.state();
  assertEquals([s.top, hex(s.regs[1]), s.regs[0], s.fsw], [1, hex(INDEFINITE), undefined, 0x41]);
  fix.load(state(0x37e, ONE));
  fix.run("DE C0+", 1);
  assertEquals(fix.state(), { ...state(0x37e, ONE), fsw: 0x80c1 });
});

Deno.test("a comparison sets C3, C2, C0, and FCOMI the flags", () => {
  const L = 0x100, G = 0, E = 0x4000, U = 0x4500;
  const cases: [Real, Real, number, number, number][] = [
    [ONE, NIL, G, 0, 0],
    [NIL, { sig: 0n, se: 0x8000 }, E, 0, 0],
    [MINUS_INF, { ...ONE, se: 0xbfff }, L, 0, 0],
    [{ ...ONE, se: 0xbfff }, { ...ONE, se: 0xc000 }, G, 0, 0],
    [DENORMAL, ONE, L, DE, DE],
    [{ sig: 1n << 63n, se: 0 }, { sig: 1n << 63n, se: 1 }, E, DE, DE],
    [qnan(0n), ONE, U, IE, 0],
    [snan(1n), ONE, U, IE, IE],
    [UNNORMAL, ONE, U, IE, IE],
  ];
  for (const [a, b, cc, flags, quietFlags] of cases) {
    for (const [op, f, pops] of [["D8 D0+", flags, 0], ["D8 D8+", flags, 1], ["DD E0+", quietFlags, 0]] as const) {
      fix.load(state(0x37f, a, b));
      fix.run(op, 1);
      assertEquals([fix.state().fsw, fix.state().top], [cc | f, pops], `${op} ${hex(a)} ${hex(b)}`);
    }
    fix.load(state(0x37f, a, b));
    fix.run("DF E8+", 1);
    const eflags = Number(fix.get64("fB")) & 0x8b5;
    const want = cc === L ? 1 : cc === E ? 0x40 : cc === U ? 0x45 : 0;
    assertEquals([eflags & 0x5, fix.get64("fRes") === 0n, fix.state().top], [want & 5, !!(want & 0x40), 1]);
  }
});
