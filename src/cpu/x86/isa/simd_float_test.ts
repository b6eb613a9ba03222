import { assert, assertEquals } from "@std/assert";
import { FORM } from "../handlers.ts";
import { STATUS } from "../ops.ts";
import type { Row } from "../row.ts";
import { CR4, EXC } from "../state.ts";
import { rowFixture } from "../simd/fixture.ts";
import { CPU } from "../system/fixture.ts";
import { defineSimd, ROWS } from "./simd.ts";

const fix = rowFixture(ROWS.filter((r) => !r.op.includes("0F AE")), defineSimd);
fix.set("cr4", CR4.OSXMMEXCPT);

const PE = 0x20, DEFAULT = 0x1f80;
const view = new DataView(new ArrayBuffer(16));
function singles(...list: number[]): bigint {
  list.forEach((x, i) => view.setFloat32(4 * i, x, true));
  return view.getBigUint64(0, true) | (view.getBigUint64(8, true) << 64n);
}
function doubles(...list: number[]): bigint {
  list.forEach((x, i) => view.setFloat64(8 * i, x, true));
  return view.getBigUint64(0, true) | (view.getBigUint64(8, true) << 64n);
}
function unpack(v: bigint, bits: 32 | 64): number[] {
  view.setBigUint64(0, v & ((1n << 64n) - 1n), true);
  view.setBigUint64(8, v >> 64n, true);
  return bits === 32 ? [0, 4, 8, 12].map((i) => view.getFloat32(i, true)) : [0, 8].map((i) => view.getFloat64(i, true));
}
/** xmm1 op xmm2 into xmm1. */
function run(
  row: Row,
  a: bigint,
  b: bigint,
  mxcsr = DEFAULT,
  imm = 0,
): { status: number; value: bigint; mxcsr: number } {
  fix.setXmm(1, a);
  fix.setXmm(2, b);
  fix.set("mxcsr", mxcsr);
  const status = fix.run(row, FORM.REG, { d: 16, s: 32, imm });
  return { status, value: fix.xmm(1), mxcsr: fix.get("mxcsr") };
}

let seed = 0x9e3779b9 | 0;
function random(): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return seed >>> 0;
}
function operand(): bigint {
  const x = () => (random() / 2 ** 31 - 1) * 2 ** (random() % 12 - 4);
  switch (random() % 6) {
    case 0:
      return singles(x(), x(), x(), x());
    case 1:
      return doubles(x(), x());
    case 2:
      return singles(Math.round(x()), Math.round(x()), 0, -0);
    case 3:
      return doubles(Math.round(x()), random() & 1 ? 0 : -0);
    case 4:
      return singles(Infinity, 2 ** -126, 2 ** -140, 3e38);
    default:
      return doubles(2 ** -1022, random() & 1 ? Number.MAX_VALUE : -5e-324);
  }
}

Deno.test("with PE set already, which lets the fast paths run, every result is that of the exact path", () => {
  let rows = 0;
  for (const row of fix.rows) {
    if (
      row.unit !== "sse" || row.noHost ||
      !/^(ADD|SUB|MUL|DIV|SQRT|MIN|MAX|CMP|HADD|HSUB|ADDSUB|ROUND|DP|CVT)[A-Z0-9]+$/.test(row.name)
    ) continue;
    if (/[EM]/.test(row.args!)) continue;
    rows++;
    for (let i = 0; i < 60; i++) {
      const a = operand(), b = operand(), imm = random() & 255;
      const exact = run(row, a, b, DEFAULT, imm), fast = run(row, a, b, DEFAULT | PE, imm);
      const what = `${row.name} ${a.toString(16)} ${b.toString(16)} ${imm}`;
      assertEquals(fast.value.toString(16), exact.value.toString(16), what);
      assertEquals(fast.mxcsr, exact.mxcsr | PE, what);
    }
  }
  assert(rows > 50, `${rows} rows`);
});

Deno.test("double arithmetic in the default mode is the host's", () => {
  const operations: Record<string, (x: number, y: number) => number> = {
    ADDPD: (x, y) => x + y,
    SUBPD: (x, y) => x - y,
    MULPD: (x, y) => x * y,
    DIVPD: (x, y) => x / y,
  };
  for (const [name, f] of Object.entries(operations)) {
    for (let i = 0; i < 200; i++) {
      const x = [1, 2].map(() => (random() - 2 ** 31) * 2 ** (random() % 80 - 40)), y = x.map((v) => v * 3 + random());
      const { value } = run(fix.row(name), doubles(...x), doubles(...y), i & 1 ? DEFAULT : DEFAULT | PE);
      assertEquals(unpack(value, 64), x.map((v, k) => f(v, y[k]!)), `${name} ${x} ${y}`);
    }
  }
});

Deno.test("an unmasked exception writes no result, notes its flag and is #XM; #UD without CR4.OSXMMEXCPT", () => {
  const row = fix.row("DIVPS"), a = singles(1, 1, 1, 1), b = singles(3, 0, 3, 3);
  const masked = run(row, a, b);
  assertEquals([masked.status, masked.mxcsr], [STATUS.NEXT, DEFAULT | PE | 4]);
  const unmasked = run(row, a, b, DEFAULT & ~0x200);
  // Found before anything is computed: no PE from the other lanes.
  assertEquals([unmasked.status, fix.get("excVector"), unmasked.value, unmasked.mxcsr], [
    STATUS.FAULT,
    EXC.XM,
    a,
    (DEFAULT & ~0x200) | 4,
  ]);
  fix.set("cr4", 0);
  assertEquals([run(row, a, b, DEFAULT & ~0x200).status, fix.get("excVector")], [STATUS.FAULT, EXC.UD]);
  fix.set("cr4", CR4.OSXMMEXCPT);
});

Deno.test("rounding modes, flush to zero, denormals are zeros", () => {
  const third = (mode: number) =>
    unpack(run(fix.row("DIVSD"), doubles(1, 0), doubles(3, 0), DEFAULT | (mode << 13)).value, 64)[0]!;
  assert(third(1) < third(2) && third(0) === 1 / 3 && third(3) === third(1));
  const tiny = doubles(2 ** -1022, 0), half = doubles(0.5, 0);
  assertEquals(unpack(run(fix.row("MULSD"), tiny, half).value, 64)[0], 2 ** -1023);
  const flushed = run(fix.row("MULSD"), tiny, half, DEFAULT | 0x8000);
  assertEquals([unpack(flushed.value, 64)[0], flushed.mxcsr], [0, DEFAULT | 0x8000 | 0x30]);
  const zeroed = run(fix.row("ADDSD"), doubles(5e-324, 0), doubles(0, 0), DEFAULT | 0x40);
  assertEquals([unpack(zeroed.value, 64)[0], zeroed.mxcsr], [0, DEFAULT | 0x40]);
});

Deno.test("the eight comparison predicates", () => {
  const a = singles(1, 2, 3, NaN), b = singles(2, 2, 2, 2);
  const want = ["EQ 0100", "LT 1000", "LE 1100", "UNORD 0001", "NEQ 1011", "NLT 0111", "NLE 0011", "ORD 1110"];
  want.forEach((text, imm) => {
    const { value } = run(fix.row("CMPPS"), a, b, DEFAULT, imm);
    const got = [0n, 32n, 64n, 96n].map((n) => {
      const lane = (value >> n) & 0xffffffffn;
      assert(lane === 0n || lane === 0xffffffffn);
      return lane ? "1" : "0";
    });
    assertEquals(got.join(""), text.split(" ")[1], text);
  });
});

Deno.test("COMISD and UCOMISD: flags, and which NaNs are invalid", () => {
  const flags = (name: string, x: number, y: number) => {
    const { mxcsr } = run(fix.row(name), doubles(x, 0), doubles(y, 0));
    return [fix.get("fB") & 0x8d5, mxcsr & 1];
  };
  assertEquals(flags("UCOMISD", 1, 2), [0x01, 0]);
  assertEquals(flags("UCOMISD", 2, 1), [0x00, 0]);
  assertEquals(flags("UCOMISD", -0, 0), [0x40, 0]);
  assertEquals(flags("UCOMISD", NaN, 1), [0x45, 0]);
  assertEquals(flags("COMISD", NaN, 1), [0x45, 1]);
});

Deno.test("conversions out of range give the integer indefinite, truncation truncates", () => {
  const convert = (name: string, x: number, size: 32 | 64) => {
    fix.setXmm(2, doubles(x, 0));
    fix.set("mxcsr", DEFAULT);
    fix.run(fix.row(name), FORM.REG, { d: 8, s: 32 }, 0n, size);
    return [BigInt.asIntN(size, fix.view.getBigUint64(CPU + 8, true)), fix.get("mxcsr") & 0x3f];
  };
  assertEquals(convert("CVTTSD2SI", -2.75, 32), [-2n, PE]);
  assertEquals(convert("CVTSD2SI", 2.5, 32), [2n, PE]);
  assertEquals(convert("CVTSD2SI", 3.5, 64), [4n, PE]);
  assertEquals(convert("CVTSD2SI", -(2 ** 31), 32), [-(2n ** 31n), 0]);
  assertEquals(convert("CVTTSD2SI", 2 ** 31, 32), [-(2n ** 31n), 1]);
  assertEquals(convert("CVTTSD2SI", -(2 ** 63), 64), [-(2n ** 63n), 0]);
  assertEquals(convert("CVTTSD2SI", NaN, 64), [-(2n ** 63n), 1]);
});

Deno.test("RCPPS and RSQRTPS keep their promise of 1.5 × 2^-12, and their special cases", () => {
  for (let i = 0; i < 500; i++) {
    const x = [1, 2, 3, 4].map(() => Math.fround((random() + 1) * 2 ** (random() % 100 - 60)));
    const rcp = unpack(run(fix.row("RCPPS"), 0n, singles(...x)).value, 32);
    const rsqrt = unpack(run(fix.row("RSQRTPS"), 0n, singles(...x)).value, 32);
    x.forEach((v, k) => {
      assert(Math.abs(rcp[k]! * v - 1) < 1.5 * 2 ** -12);
      assert(Math.abs(rsqrt[k]! * Math.sqrt(v) - 1) < 1.5 * 2 ** -12);
    });
  }
  assertEquals(unpack(run(fix.row("RCPPS"), 0n, singles(0, -0, Infinity, 2 ** -140)).value, 32), [
    Infinity,
    -Infinity,
    0,
    Infinity,
  ]);
  assertEquals(unpack(run(fix.row("RCPPS"), 0n, singles(3e38, -3e38, -Infinity, 1)).value, 32), [0, -0, -0, 1]);
  assertEquals(run(fix.row("RSQRTPS"), 0n, singles(-1, -0, Infinity, 2 ** -140)), {
    status: STATUS.NEXT,
    value: (singles(0, -Infinity, 0, Infinity) & ~0xffffffffn) | 0xffc00000n,
    mxcsr: DEFAULT,
  });
});

Deno.test("DPPS multiplies the chosen lanes and spreads the sum", () => {
  const { value } = run(fix.row("DPPS"), singles(1, 2, 3, 4), singles(10, 20, 30, 40), DEFAULT, 0b1011_0101);
  assertEquals(unpack(value, 32), [210, 0, 210, 0]);
});
