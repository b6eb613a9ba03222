import { assert, assertEquals } from "@std/assert";
import { FORM } from "../handlers.ts";
import { STATUS } from "../ops.ts";
import { S } from "../state.ts";
import { rowFixture } from "../simd/fixture.ts";
import { CPU, RAM } from "../system/fixture.ts";
import { defineAvx, ROWS as AVX_ROWS } from "./avx.ts";
import { defineBit } from "./bit.ts";
import { defineSimd, ROWS as SSE_ROWS } from "./simd.ts";

const fix = rowFixture([...SSE_ROWS, ...AVX_ROWS], (m, f) => {
  defineBit(m, f);
  defineAvx(m, f, defineSimd(m, f));
});
const M128 = (1n << 128n) - 1n;

let seed = 2463534242;
function random(): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return seed >>> 0;
}
const words = (n: number) => Array.from({ length: n }, random).reduce((v, w) => (v << 32n) | BigInt(w), 0n);

const high = (n: number) =>
  fix.view.getBigUint64(CPU + S.ymmHigh + 16 * n, true) |
  (fix.view.getBigUint64(CPU + S.ymmHigh + 16 * n + 8, true) << 64n);
const ymm = (n: number) => fix.xmm(n) | (high(n) << 128n);
function setYmm(n: number, v: bigint): void {
  fix.setXmm(n, v & M128);
  for (const [i, part] of [v >> 128n, v >> 192n].entries()) {
    fix.view.setBigUint64(CPU + S.ymmHigh + 16 * n + 8 * i, BigInt.asUintN(64, part), true);
  }
}
/** Lanes of a 256-bit value, lowest first, and back. */
const split = (v: bigint, bits: number, total = 256) =>
  Array.from({ length: total / bits }, (_, i) => BigInt.asUintN(bits, v >> BigInt(i * bits)));
const join = (lanes: readonly bigint[], bits: number) =>
  lanes.reduceRight((v, lane) => (v << BigInt(bits)) | BigInt.asUintN(bits, lane), 0n);

const rowOf = (name: string, op = "VEX") => fix.row(name, op);
/** d = 1, s = 2, x = 3. */
function run(name: string, op: string, a: bigint, b: bigint, imm = 0): bigint {
  setYmm(2, a);
  setYmm(3, b);
  assertEquals(fix.run(rowOf(name, op), FORM.REG, { d: 16, s: 32, x: 48, imm }), STATUS.NEXT, name);
  return ymm(1);
}

Deno.test("VEX.128 does what the SSE instruction does, with a destination of its own, and clears the upper half", () => {
  let compared = 0;
  for (const row of AVX_ROWS) {
    const sse = SSE_ROWS.find((r) =>
      `V${r.name}` === row.name && r.unit === "sse" && r.args?.replace("+", "=").split(",")[0] === "Vdq="
    );
    const args = row.args?.split(",") ?? [];
    if (!row.op.startsWith("VEX L0") || !sse || args[0] !== "Vu=" || row.is4 || row.name.startsWith("VMOVNT")) continue;
    const takes = (args[1] === "Hu" ? args[2] : args[1])![0]!, reads = sse.args!.includes("+");
    if (takes !== "W" || reads !== (args[1] === "Hu")) continue;
    for (let k = 0; k < 4; k++) {
      const a = words(8), b = words(8), imm = random() & 0xff;
      setYmm(1, words(8));
      setYmm(2, a);
      setYmm(3, b);
      fix.set("mxcsr", 0x1fbf);
      const fields = reads ? { d: 16, s: 32, x: 48, imm } : { d: 16, s: 48, imm };
      assertEquals(fix.run(row, FORM.REG, fields), STATUS.NEXT, row.name);
      fix.setXmm(4, a & M128);
      assertEquals(fix.run(sse, FORM.REG, { d: 64, s: 48, imm }), STATUS.NEXT, sse.name);
      assertEquals(ymm(1), fix.xmm(4), `${row.name} ${a.toString(16)} ${b.toString(16)} ${imm}`);
      assertEquals([ymm(2), ymm(3)], [a, b], row.name);
    }
    compared++;
  }
  assert(compared > 150, `${compared} rows`);
});

Deno.test("VEX.256 does on both halves what VEX.128 does on one", () => {
  const across =
    /^(VPERM|VBROADCAST|VPBROADCAST|VINSERT|VEXTRACT|VPMOV|VCVT|VMOVMSK|VBLENDP|VPBLENDD|VPERMILPD|VSHUFPD|VMPSADBW)/;
  let compared = 0;
  for (const row of AVX_ROWS) {
    const args = row.args?.split(",") ?? [];
    if (!row.op.startsWith("VEX L1") || args[0] !== "Vqq=" || across.test(row.name) || row.is4 || row.elements) {
      continue;
    }
    const small = AVX_ROWS.find((r) => r.name === row.name && r.op === row.op.replace("L1", "L0"));
    if (!small || !args.at(-1)!.match(/W|I/) || args.some((a) => /^[MU]/.test(a))) continue;
    const three = args[1] === "Hqq", whole = args[2] === "Wu";
    for (let k = 0; k < 4; k++) {
      const a = words(8), b = words(8), imm = random() & 0xff;
      fix.set("mxcsr", 0x1fbf);
      const go = (r: typeof row, x: bigint, y: bigint) => {
        setYmm(2, x);
        setYmm(3, y);
        assertEquals(fix.run(r, FORM.REG, { d: 16, s: three ? 32 : 48, x: 48, imm }), STATUS.NEXT, row.name);
        return ymm(1);
      };
      // A shift count is the same for both.
      const [low, top] = [go(small, a & M128, b & M128), go(small, a >> 128n, whole ? b & M128 : b >> 128n)];
      assertEquals(go(row, a, b), low | (top << 128n), row.name);
    }
    compared++;
  }
  assert(compared > 120, `${compared} rows`);
});

Deno.test("what moves lanes across the halves", () => {
  for (let k = 0; k < 20; k++) {
    const a = words(8), b = words(8), imm = random() & 0xff;
    const a32 = split(a, 32), b32 = split(b, 32), b64 = split(b, 64), half = [a & M128, a >> 128n, b & M128, b >> 128n];
    assertEquals(run("VPERMD", "VEX L1", a, b), join(a32.map((n) => b32[Number(n & 7n)]!), 32));
    setYmm(2, b);
    assertEquals(fix.run(rowOf("VPERMQ"), FORM.REG, { d: 16, s: 32, imm }), STATUS.NEXT);
    assertEquals(ymm(1), join([0, 2, 4, 6].map((s) => b64[(imm >> s) & 3]!), 64));
    const chosen = [0, 4].map((s) => (imm >> s) & 8 ? 0n : half[(imm >> s) & 3]!);
    assertEquals(run("VPERM2I128", "VEX L1", a, b, imm), join(chosen, 128));
    const into = [a & M128, a >> 128n];
    into[imm & 1] = b & M128;
    assertEquals(run("VINSERTI128", "VEX L1", a, b, imm), join(into, 128));
    assertEquals(
      run("VPERMILPS", "VEX L1 W0 66 0F 38", a, b),
      join(b32.map((n, i) => a32[(i & 4) | Number(n & 3n)]!), 32),
    );
    for (
      const [name, bits, f] of [
        ["VPSRLVD", 32, (x: bigint, n: bigint) => x >> n],
        ["VPSLLVQ", 64, (x: bigint, n: bigint) => x << n],
        ["VPSRAVD", 32, (x: bigint, n: bigint) => BigInt.asIntN(32, x) >> n],
      ] as const
    ) {
      // Counts around the width, and any.
      const counts = split(words(8), bits).map((n, i) => i % 3 ? n % 80n : n), most = BigInt(bits) * 2n;
      const want = split(a, bits).map((x, i) => f(x, counts[i]! < most ? counts[i]! : most));
      assertEquals(run(name, "VEX L1", a, join(counts, bits)), join(want, bits), name);
    }
  }
});

Deno.test("VCMP: each of the 32 predicates, by the relation between the numbers [sdm2 table 3-1]", () => {
  // Names as in the table: what is compared, and whether unordered counts.
  const holds = [
    ...["E", "L", "LE", "U", "LGU", "GEU", "GU", "LGE"],
    ...["EU", "LU", "LEU", "", "LG", "GE", "G", "LEGU"],
  ];
  const pairs: [number, number, string][] = [[1, 2, "L"], [2, 2, "E"], [3, 2, "G"], [NaN, 2, "U"], [-0, 0, "E"]];
  const bits = (x: number) => new BigUint64Array(new Float64Array([x]).buffer)[0]!;
  for (let p = 0; p < 32; p++) {
    for (const [x, y, relation] of pairs) {
      fix.set("mxcsr", 0x1f80);
      const all = (v: number) => join([v, v, v, v].map(bits), 64);
      const want = holds[p & 15]!.includes(relation) ? (1n << 256n) - 1n : 0n;
      assertEquals(run("VCMPPD", "VEX L1", all(x), all(y), p), want, `predicate ${p} of ${x}, ${y}`);
      // LT, LE and what is made of them signal in the first half, the others in the second.
      const signals = ((p & 3) === 1 || (p & 3) === 2) !== p > 15;
      assertEquals(fix.get("mxcsr") & 1, relation === "U" && signals ? 1 : 0, `predicate ${p}`);
    }
  }
});

/** The double nearest to an exact number m × 2^e, ties to even. */
function nearest(m: bigint, e: number): number {
  const sign = m < 0n ? -1 : 1, x = m < 0n ? -m : m, length = x.toString(2).length;
  if (x === 0n) return 0;
  const cut = Math.max(length - 53, -1074 - e);
  if (cut <= 0) return sign * Number(x) * 2 ** e;
  const kept = x >> BigInt(cut), rest = x - (kept << BigInt(cut)), halfway = 1n << BigInt(cut - 1);
  const up = rest > halfway || (rest === halfway && (kept & 1n) === 1n);
  // In two steps: one power may be too small by itself.
  return sign * Number(up ? kept + 1n : kept) * 2 ** (e + cut + 500) * 2 ** -500;
}
function exact(x: number): [bigint, number] {
  const bits = new BigUint64Array(new Float64Array([x]).buffer)[0]!, field = Number((bits >> 52n) & 0x7ffn);
  const m = (bits & ((1n << 52n) - 1n)) | (field ? 1n << 52n : 0n);
  return [x < 0 ? -m : m, Math.max(field, 1) - 1075];
}

Deno.test("VFMADD rounds once: against exact arithmetic", () => {
  const row = rowOf("VFMADD213SD"), view = new DataView(new ArrayBuffer(8));
  const number = () => {
    view.setUint32(0, (random() & 0x800f_ffff) | ((1023 - 40 + random() % 80) << 20));
    view.setUint32(4, random() & (random() & 1 ? -1 : 0xf800_0000));
    return view.getFloat64(0);
  };
  const bits = (x: number) => new BigUint64Array(new Float64Array([x]).buffer)[0]!;
  for (const mxcsr of [0x1f80, 0x1fa0]) {
    for (let k = 0; k < 3000; k++) {
      const x = number(), y = number(), p = x * y;
      const z = [number(), -p, -p * (1 + 2 ** -52), p * 2 ** (random() % 110 - 55), 2 ** -120][random() % 5]!;
      const [mx, ex] = exact(x), [my, ey] = exact(y), [mz, ez] = exact(z), e = Math.min(ex + ey, ez);
      const want = nearest(((mx * my) << BigInt(ex + ey - e)) + (mz << BigInt(ez - e)), e);
      fix.set("mxcsr", mxcsr);
      fix.setXmm(1, bits(y));
      fix.setXmm(2, bits(x));
      fix.setXmm(3, bits(z));
      assertEquals(fix.run(row, FORM.REG, { d: 16, s: 32, x: 48 }), STATUS.NEXT);
      assertEquals(fix.xmm(1), bits(want), `${x} × ${y} + ${z}`);
    }
  }
});

Deno.test("every half is a single, and comes back", () => {
  for (let h = 0; h < 0x10000; h++) {
    const sign = h >> 15 ? -1 : 1, e = (h >> 10) & 31, f = h & 1023;
    const value = e === 31 ? (f ? NaN : sign * Infinity) : sign * (e ? (1024 + f) * 2 ** (e - 25) : f * 2 ** -24);
    fix.setXmm(2, BigInt(h));
    fix.set("mxcsr", 0x1f80);
    fix.run(rowOf("VCVTPH2PS", "VEX L0"), FORM.REG, { d: 16, s: 32 });
    const single = new Float32Array(new Uint32Array([Number(fix.xmm(1) & 0xffff_ffffn)]).buffer)[0]!;
    assert(Object.is(single, value), `${h.toString(16)}: ${single}`);
    fix.run(rowOf("VCVTPS2PH", "VEX L0"), FORM.REG, { d: 32, s: 16, imm: 0 });
    // NaNs become quiet.
    assertEquals(fix.xmm(2), BigInt(e === 31 && f ? h | 0x200 : h));
  }
});

Deno.test("masked moves touch what the mask asks for; gathers clear the mask as they go", () => {
  const at = 0x800, memory = (i: number) => fix.view.getUint32(RAM + at + 4 * i, true);
  const ELEMENTS = 3 << 8; // DS
  for (let i = 0; i < 8; i++) fix.view.setUint32(RAM + at + 4 * i, 0x100 + i, true);
  const mask = join([0n, -1n, 1n << 31n, 0x7fff_ffffn, 0n, -1n, 0n, -5n], 32);
  setYmm(2, mask);
  assertEquals(fix.run(rowOf("VPMASKMOVD", "VEX L1 W0 66 0F 38 8C"), FORM.EA, { d: 16, s: 32, imm: ELEMENTS }, at), 0);
  assertEquals(split(ymm(1), 32), [0n, 0x101n, 0x102n, 0n, 0n, 0x105n, 0n, 0x107n]);
  setYmm(3, join([1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n], 32));
  const store = rowOf("VPMASKMOVD", "VEX L1 W0 66 0F 38 8E");
  assertEquals(fix.run(store, FORM.EA, { s: 32, x: 48, imm: ELEMENTS }, at), STATUS.NEXT);
  assertEquals([0, 1, 2, 3, 4, 5, 6, 7].map(memory), [0x100, 2, 3, 0x103, 0x104, 6, 0x106, 8]);
  // Index register 4, scale 4.
  setYmm(4, join([7n, 6n, 5n, 4n, 3n, 2n, 1n, -1n], 32));
  fix.view.setUint32(RAM + at - 4, 0xabc, true);
  setYmm(1, join([9n, 9n, 9n, 9n, 9n, 9n, 9n, 9n], 32));
  const gather = rowOf("VPGATHERDD", "VEX L1");
  assertEquals(fix.run(gather, FORM.EA, { d: 16, s: 32, imm: ELEMENTS | (2 << 4) | 4 }, at), STATUS.NEXT);
  assertEquals(split(ymm(1), 32), [9n, 0x106n, 6n, 9n, 9n, 3n, 9n, 0xabcn]);
  assertEquals(ymm(2), 0n);
});

Deno.test("VZEROUPPER and VZEROALL; outside 64-bit mode the upper eight registers stay", () => {
  const fill = () => [...Array(16).keys()].forEach((n) => setYmm(n, (1n << 256n) - 1n));
  for (const [mode, count] of [[2, 16], [1, 8]] as const) {
    for (const [name, want] of [["VZEROUPPER", M128], ["VZEROALL", 0n]] as const) {
      fill();
      fix.set("mode", mode);
      assertEquals(fix.run(rowOf(name), FORM.REG, {}), STATUS.NEXT);
      fix.set("mode", 2);
      for (let n = 0; n < 16; n++) assertEquals(ymm(n), n < count ? want : (1n << 256n) - 1n, `${name} ${n}`);
    }
  }
});
