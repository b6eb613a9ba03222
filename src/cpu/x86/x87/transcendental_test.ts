import { assert, assertEquals } from "@std/assert";
import { type Real, x87Fixture, type X87State } from "./fixture.ts";
import * as oracle from "./oracle.ts";
import { DE, EXTENDED, fixed, IE, LN2, OE, PE, PI, round, toReal, UE, UNIT, valueOf, WORK, ZE } from "./oracle.ts";
import { Random } from "./random.ts";

const fix = x87Fixture();
const hex = (r: Real | undefined) => r ? `${r.se.toString(16)}:${r.sig.toString(16)}` : "empty";
const real = (sign: number, exponent: number, sig: bigint): Real => ({ sig, se: (sign << 15) | (0x3fff + exponent) });
const ONE = real(0, 0, 1n << 63n), MINUS_ONE = real(1, 0, 1n << 63n);
const NIL: Real = { sig: 0n, se: 0 }, MINUS_NIL: Real = { sig: 0n, se: 0x8000 };
const INF: Real = { sig: 1n << 63n, se: 0x7fff }, MINUS_INF: Real = { sig: 1n << 63n, se: 0xffff };
const INDEFINITE: Real = { sig: 3n << 62n, se: 0xffff };
const C2 = 0x400;

function run(op: string, fcw: number, ...st: Real[]): X87State {
  fix.load({ fcw, fsw: 0, top: 0, regs: Array.from({ length: 8 }, (_, i) => st[i]) });
  assertEquals(fix.run(op), 0);
  return fix.state();
}
/** The oracle's result, rounded. */
function rounded(v: bigint, rc: number): { text: string; fsw: number } {
  const negative = v < 0n;
  const r = round({ num: negative ? -v : v, den: UNIT }, negative, EXTENDED, rc);
  return { text: hex(toReal(r, negative, 64)), fsw: r.flags };
}
const signedFixed = (r: Real): bigint => (r.se & 0x8000 ? -fixed(valueOf(r)) : fixed(valueOf(r)));
/** 66 bits of π. */
const PI_66 = 0x3243f6a8885a308d3n << (WORK - 64n);
/** sin and cos of x, the processor's way: by quadrants of its own π. */
function circular(x: bigint): { s: bigint; c: bigint } {
  const quarter = PI_66 / 2n, size = x < 0n ? -x : x;
  const q = (size + quarter / 2n) / quarter, r = size - q * quarter;
  const s = oracle.sin(r), c = oracle.cos(r);
  const [a, b] = [[s, c], [c, -s], [-s, -c], [-c, s]][Number(q & 3n)] as [bigint, bigint];
  return { s: x < 0n ? -a : a, c: b };
}

// The instructions work with some 110 bits, so the one rounding comes out as that of the true value, but for one case in 2^40.

Deno.test("FSIN, FCOS and FPTAN are those of the argument less a multiple of half the 66-bit π", () => {
  const random = new Random(3);
  for (let i = 0; i < 600; i++) {
    const a = real(random.below(2), random.below(i % 3 ? 66 : 130) - (i % 3 ? 3 : 67), random.significand());
    if ((a.se & 0x7fff) >= 0x3fff + 63) continue;
    const rc = random.below(4), fcw = 0x7f | rc << 10, { s, c } = circular(signedFixed(a));
    const sine = run("D9 FE", fcw, a), want = rounded(s, rc);
    assertEquals([hex(sine.regs[0]), sine.fsw], [want.text, want.fsw], `sin ${hex(a)} rc ${rc}`);
    const cosine = run("D9 FF", fcw, a), wantC = rounded(c, rc);
    assertEquals([hex(cosine.regs[0]), cosine.fsw], [wantC.text, wantC.fsw], `cos ${hex(a)} rc ${rc}`);
    const both = run("D9 FB", fcw, a);
    assertEquals([both.top, hex(both.regs[0]), hex(both.regs[7])], [7, want.text, wantC.text]);
    const tangent = run("D9 F2", fcw, a);
    const wantT = rounded((s << WORK) / c, rc);
    assertEquals([hex(tangent.regs[0]), hex(tangent.regs[7])], [wantT.text, hex(ONE)], `tan ${hex(a)} rc ${rc}`);
  }
});

Deno.test("arguments of 2^63 and more set C2 and stay", () => {
  const a = real(1, 63, 1n << 63n);
  for (const op of ["D9 FE", "D9 FF", "D9 FB", "D9 F2"]) {
    const s = run(op, 0x37f, a);
    assertEquals([s.top, hex(s.regs[0]), s.fsw], [0, hex(a), C2]);
  }
});

Deno.test("trigonometric functions of zero are exact, of an infinity invalid", () => {
  for (
    const [op, a, want, flags] of [
      ["D9 FE", MINUS_NIL, MINUS_NIL, 0],
      ["D9 FF", MINUS_NIL, ONE, 0],
      ["D9 FE", INF, INDEFINITE, IE],
      ["D9 FF", MINUS_INF, INDEFINITE, IE],
    ] as const
  ) {
    const s = run(op, 0x37f, a);
    assertEquals([hex(s.regs[0]), s.fsw], [hex(want), flags], `${op} ${hex(a)}`);
  }
  const t = run("D9 F2", 0x37f, MINUS_NIL);
  assertEquals([hex(t.regs[0]), hex(t.regs[7]), t.fsw], [hex(MINUS_NIL), hex(ONE), 0]);
});

Deno.test("the smallest numbers are their own sines, or one less towards zero, which underflows", () => {
  const a = real(0, -16382, 1n << 63n);
  assertEquals([hex(run("D9 FE", 0x37f, a).regs[0]), fix.state().fsw & ~0x200], [hex(a), PE]);
  const down = run("D9 FE", 0xf7f, a);
  assertEquals([hex(down.regs[0]), down.fsw], ["0:7fffffffffffffff", PE | UE]);
  const denormal: Real = { sig: 5n, se: 0x8000 };
  const s = run("D9 FE", 0x37f, denormal);
  assertEquals([hex(s.regs[0]), s.fsw & ~0x200], [hex(denormal), PE | UE | DE]);
  assertEquals(hex(run("D9 F2", 0xf7f, a).regs[0]), hex(a), "but a tangent is never less than its argument");
});

Deno.test("FPATAN is the angle in all four quadrants", () => {
  const random = new Random(11);
  for (let i = 0; i < 400; i++) {
    const spread = i % 4 ? 6 : 150;
    const y = real(random.below(2), random.below(spread) - spread / 2, random.significand());
    const x = real(random.below(2), random.below(spread) - spread / 2, i % 7 ? random.significand() : y.sig);
    const rc = random.below(4);
    const fy = fixed(valueOf(y)), fx = fixed(valueOf(x));
    let angle = fy > fx ? PI / 2n - oracle.atan((fx << WORK) / fy) : oracle.atan((fy << WORK) / fx);
    if (x.se & 0x8000) angle = PI - angle;
    const want = rounded(y.se & 0x8000 ? -angle : angle, rc);
    const s = run("D9 F3", 0x7f | rc << 10, x, y);
    assertEquals([s.top, hex(s.regs[1]), s.fsw], [1, want.text, want.fsw], `atan2 ${hex(y)} ${hex(x)} rc ${rc}`);
  }
});

Deno.test("FPATAN of zeros and infinities gives zero or multiples of π/4", () => {
  const near = (v: bigint) => rounded(v, 0).text;
  for (
    const [y, x, want] of [
      [NIL, ONE, hex(NIL)],
      [MINUS_NIL, NIL, hex(MINUS_NIL)],
      [NIL, MINUS_NIL, near(PI)],
      [MINUS_NIL, MINUS_ONE, near(-PI)],
      [ONE, NIL, near(PI / 2n)],
      [INF, INF, near(PI / 4n)],
      [MINUS_INF, MINUS_INF, near(-3n * PI / 4n)],
      [ONE, INF, hex(NIL)],
      [ONE, MINUS_INF, near(PI)],
      [MINUS_INF, ONE, near(-PI / 2n)],
      [ONE, ONE, near(PI / 4n)],
    ] as const
  ) assertEquals(hex(run("D9 F3", 0x37f, x, y).regs[1]), want, `atan2 ${hex(y)} ${hex(x)}`);
});

Deno.test("F2XM1 is 2^x - 1 within ±1", () => {
  const random = new Random(17);
  for (let i = 0; i < 500; i++) {
    const a = real(random.below(2), -1 - random.below(i % 3 ? 5 : 100), random.significand());
    const rc = random.below(4);
    const v = oracle.exp((signedFixed(a) * LN2) >> WORK) - UNIT;
    const want = rounded(v, rc), s = run("D9 F0", 0x7f | rc << 10, a);
    assertEquals([hex(s.regs[0]), s.fsw], [want.text, want.fsw], `2^ ${hex(a)} rc ${rc}`);
  }
  assertEquals(hex(run("D9 F0", 0x37f, ONE).regs[0]), hex(ONE));
  assertEquals(hex(run("D9 F0", 0x37f, MINUS_ONE).regs[0]), "bffe:8000000000000000");
  assertEquals(hex(run("D9 F0", 0x37f, MINUS_NIL).regs[0]), hex(MINUS_NIL));
  assertEquals(hex(run("D9 F0", 0x37f, MINUS_INF).regs[0]), hex(MINUS_ONE));
});

Deno.test("FYL2X is y × log2(x), near 1 and far from it", () => {
  const random = new Random(19);
  for (let i = 0; i < 400; i++) {
    const near: Real = random.below(2)
      ? real(0, 0, (1n << 63n) | (random.u64() >> BigInt(1 + random.below(63))))
      : real(0, -1, (1n << 64n) - 1n - (random.u64() >> BigInt(1 + random.below(63))));
    const a = i % 2 ? near : real(0, random.below(200) - 100, random.significand());
    const y = real(random.below(2), random.below(40) - 20, random.significand());
    if ((a.sig & (a.sig - 1n)) === 0n) continue;
    const rc = random.below(4);
    const log = (oracle.ln(fixed(valueOf(a))) << WORK) / LN2;
    const want = rounded((log * signedFixed(y)) >> WORK, rc), s = run("D9 F1", 0x7f | rc << 10, a, y);
    assertEquals([s.top, hex(s.regs[1]), s.fsw], [1, want.text, want.fsw], `${hex(y)} log ${hex(a)} rc ${rc}`);
  }
});

Deno.test("FYL2X of powers of 2 is exact; its special cases", () => {
  const eight = real(0, 3, 1n << 63n), three = real(0, 1, 3n << 62n);
  assertEquals(hex(run("D9 F1", 0x37f, eight, three).regs[1]), hex(real(0, 3, 9n << 60n)));
  for (
    const [x, y, want, flags] of [
      [MINUS_ONE, ONE, INDEFINITE, IE],
      [NIL, NIL, INDEFINITE, IE],
      [NIL, ONE, MINUS_INF, ZE],
      [MINUS_NIL, MINUS_ONE, INF, ZE],
      [NIL, INF, MINUS_INF, 0],
      [INF, NIL, INDEFINITE, IE],
      [ONE, INF, INDEFINITE, IE],
      [INF, MINUS_ONE, MINUS_INF, 0],
      [ONE, MINUS_ONE, MINUS_NIL, 0],
      [eight, MINUS_INF, MINUS_INF, 0],
      [real(0, -1, 1n << 63n), MINUS_INF, INF, 0],
      [eight, MINUS_NIL, MINUS_NIL, 0],
    ] as const
  ) {
    const s = run("D9 F1", 0x37f, x, y);
    assertEquals([hex(s.regs[1]), s.fsw], [hex(want), flags], `${hex(y)} log ${hex(x)}`);
  }
});

Deno.test("FYL2XP1 is y × log2(x + 1), however small x is", () => {
  const random = new Random(23);
  for (let i = 0; i < 400; i++) {
    const a = real(random.below(2), -2 - random.below(i % 2 ? 4 : 100), random.significand());
    const y = real(random.below(2), random.below(40) - 20, random.significand());
    const rc = random.below(4);
    const log = (oracle.ln(UNIT + signedFixed(a)) << WORK) / LN2;
    const want = rounded((log * signedFixed(y)) >> WORK, rc), s = run("D9 F9", 0x7f | rc << 10, a, y);
    assertEquals([s.top, hex(s.regs[1]), s.fsw], [1, want.text, want.fsw], `${hex(y)} log1p ${hex(a)} rc ${rc}`);
  }
});

Deno.test("a product that is too large overflows", () => {
  const s = run("D9 F1", 0x37f, real(0, 16000, 1n << 63n), real(0, 16380, 1n << 63n));
  assertEquals(hex(s.regs[1]), hex(INF));
  assert((s.fsw & (OE | PE)) === (OE | PE));
});
