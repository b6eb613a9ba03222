import { assertEquals } from "@std/assert";
import { FORM } from "../handlers.ts";
import { STATUS } from "../ops.ts";
import { rowFixture } from "../simd/fixture.ts";
import { CPU } from "../system/fixture.ts";
import { sbox } from "./aes.ts";
import { defineSimd, ROWS } from "./simd.ts";

const fix = rowFixture(ROWS, defineSimd);
const M128 = (1n << 128n) - 1n;
const fromBytes = (b: ArrayLike<number>): bigint => Array.from(b).reduceRight((v, x) => (v << 8n) | BigInt(x), 0n);
const fromHex = (text: string): bigint => fromBytes(text.match(/../g)!.map((x) => parseInt(x, 16)));
const toHex = (v: bigint): string => v.toString(16).padStart(32, "0").match(/../g)!.reverse().join("");
function run(name: string, a: bigint, b: bigint, imm = 0): bigint {
  fix.setXmm(1, a);
  fix.setXmm(2, b);
  assertEquals(fix.run(fix.row(name), FORM.REG, { d: 16, s: 32, imm }), STATUS.NEXT);
  return fix.xmm(1);
}

let seed = 77;
function random(): number {
  seed ^= seed << 13;
  seed ^= seed >>> 17;
  seed ^= seed << 5;
  return seed >>> 0;
}
const random128 = () => [0, 1, 2, 3].reduce((v) => (v << 32n) | BigInt(random()), 0n);

Deno.test("the substitution box is the standard's", () => {
  const box = sbox();
  assertEquals([box[0], box[1], box[0x53], box[0xff]], [0x63, 0x7c, 0xed, 0x16]);
  assertEquals(new Set(box).size, 256);
});

/** The ten round keys after the first, by AESKEYGENASSIST. */
function expand(key: bigint): bigint[] {
  const keys = [key];
  for (const rcon of [1, 2, 4, 8, 0x10, 0x20, 0x40, 0x80, 0x1b, 0x36]) {
    const previous = keys[keys.length - 1]!;
    let word = run("AESKEYGENASSIST", 0n, previous, rcon) >> 96n, next = 0n;
    for (let i = 0n; i < 4n; i++) {
      word ^= (previous >> (32n * i)) & 0xffff_ffffn;
      next |= word << (32n * i);
    }
    keys.push(next);
  }
  return keys;
}

Deno.test("AES-128 of the standard's example, and back [fips197 appendix C.1]", () => {
  const keys = expand(fromHex("000102030405060708090a0b0c0d0e0f"));
  assertEquals(toHex(keys[10]!), "13111d7fe3944a17f307a78b4d2b30c5");
  let state = fromHex("00112233445566778899aabbccddeeff") ^ keys[0]!;
  for (let i = 1; i < 10; i++) state = run("AESENC", state, keys[i]!);
  state = run("AESENCLAST", state, keys[10]!);
  assertEquals(toHex(state), "69c4e0d86a7b0430d8cdb78070b4c55a");
  state ^= keys[10]!;
  for (let i = 9; i > 0; i--) state = run("AESDEC", state, run("AESIMC", 0n, keys[i]!));
  state = run("AESDECLAST", state, keys[0]!);
  assertEquals(toHex(state), "00112233445566778899aabbccddeeff");
});

Deno.test("PCLMULQDQ is the product of polynomials over GF(2)", () => {
  for (let i = 0; i < 200; i++) {
    const a = random128(), b = random128(), imm = random() & 0x11;
    const x = imm & 1 ? a >> 64n : a & (M128 >> 64n), y = imm & 16 ? b >> 64n : b & (M128 >> 64n);
    let product = 0n;
    for (let n = 0n; n < 64n; n++) if ((y >> n) & 1n) product ^= x << n;
    assertEquals(run("PCLMULQDQ", a, b, imm), product);
  }
});

Deno.test("SHA-1 and SHA-256 of 'abc' [fips180]", async () => {
  const block = new Uint8Array(64);
  block.set([0x61, 0x62, 0x63, 0x80]);
  block[63] = 24;
  const view = new DataView(block.buffer);
  const words = (bits: 1 | -1) => (i: number) => {
    // SHA-1 keeps its first word in the highest lane, SHA-256 in the lowest.
    const w = [0, 1, 2, 3].map((k) => BigInt(view.getUint32(16 * i + 4 * k)));
    return (bits > 0 ? w : w.reverse()).reduceRight((v, x) => (v << 32n) | x, 0n);
  };
  const lanes = (v: bigint) => [0n, 32n, 64n, 96n].map((n) => (v >> n) & 0xffff_ffffn);
  const add = (a: bigint, b: bigint) =>
    lanes(a).reduceRight((v, x, i) => (v << 32n) | ((x + lanes(b)[i]!) & 0xffff_ffffn), 0n);
  const hex8 = (x: bigint) => x.toString(16).padStart(8, "0");
  const digest = async (name: string) =>
    [...new Uint8Array(await crypto.subtle.digest(name, new TextEncoder().encode("abc")))]
      .map((x) => x.toString(16).padStart(2, "0")).join("");

  // SHA-1.
  const abcd0 = 0x67452301_efcdab89_98badcfe_10325476n, e0 = 0xc3d2e1f0n << 96n;
  let message = [0, 1, 2, 3].map(words(-1)), abcd = abcd0, before = abcd0;
  for (let g = 0; g < 20; g++) {
    if (g >= 4) {
      const partial = run("SHA1MSG1", message[0]!, message[1]!) ^ message[2]!;
      message = [...message.slice(1), run("SHA1MSG2", partial, message[3]!)];
    }
    const w = g < 4 ? message[g]! : message[3]!;
    const input = g === 0 ? add(w, e0) : run("SHA1NEXTE", before, w);
    before = abcd;
    abcd = run("SHA1RNDS4", abcd, input, Math.floor(g / 5));
  }
  const last = run("SHA1NEXTE", before, e0);
  assertEquals(lanes(add(abcd, abcd0)).reverse().map(hex8).join("") + hex8(last >> 96n), await digest("SHA-1"));

  // SHA-256: ABEF and CDGH.
  const fraction = (x: number) => BigInt(Math.floor((x % 1) * 2 ** 32));
  const primes = Array.from({ length: 400 }, (_, i) => i).filter((n) =>
    n > 1 && ![2, 3, 5, 7, 11, 13, 17, 19].some((p) => p < n && n % p === 0)
  ).slice(0, 64);
  // The cube root's fraction, in integers so that no bit is lost.
  const cube = (p: number): bigint => {
    let r = 0n;
    for (let bit = 1n << 36n; bit; bit >>= 1n) if ((r + bit) ** 3n <= BigInt(p) << 96n) r += bit;
    return r & 0xffff_ffffn;
  };
  const h = primes.slice(0, 8).map((p) => fraction(Math.sqrt(p)));
  const pick = (...i: number[]) => i.reduceRight((v, n) => (v << 32n) | h[n]!, 0n);
  let abef = pick(5, 4, 1, 0), cdgh = pick(7, 6, 3, 2);
  let w = [0, 1, 2, 3].map(words(1));
  for (let g = 0; g < 16; g++) {
    if (g >= 4) {
      const shifted = ((w[3]! << 128n | w[2]!) >> 32n) & M128;
      w = [...w.slice(1), run("SHA256MSG2", add(run("SHA256MSG1", w[0]!, w[1]!), shifted), w[3]!)];
    }
    const now = add(
      g < 4 ? w[g]! : w[3]!,
      [0, 1, 2, 3].reduceRight((v, k) => (v << 32n) | cube(primes[4 * g + k]!), 0n),
    );
    for (const wk of [now, now >> 64n]) {
      fix.setXmm(0, wk);
      const next = run("SHA256RNDS2", cdgh, abef);
      [cdgh, abef] = [abef, next];
    }
  }
  const [f, ee, b, a] = lanes(add(abef, pick(5, 4, 1, 0))), [hh, g, d, c] = lanes(add(cdgh, pick(7, 6, 3, 2)));
  assertEquals([a, b, c, d, ee, f, g, hh].map((x) => hex8(x!)).join(""), await digest("SHA-256"));
});

/** PCMPxSTRx as the manual's pseudocode has it: IntRes2, and the two lengths. */
function reference(a: bigint, b: bigint, imm: number, explicit: [number, number] | undefined) {
  const bits = imm & 1 ? 16 : 8, n = 128 / bits;
  const list = (v: bigint) =>
    Array.from({ length: n }, (_, i) => {
      const x = Number((v >> BigInt(i * bits)) & BigInt((1 << bits) - 1));
      return imm & 2 && x >> (bits - 1) ? x - (1 << bits) : x;
    });
  const x = list(a), y = list(b);
  const zero = (l: number[]) => (l.indexOf(0) < 0 ? n : l.indexOf(0));
  const la = explicit ? Math.min(n, Math.abs(explicit[0])) : zero(x);
  const lb = explicit ? Math.min(n, Math.abs(explicit[1])) : zero(y);
  let result = 0;
  for (let j = 0; j < n; j++) {
    let r: boolean;
    const valid = j < lb;
    switch ((imm >> 2) & 3) {
      case 0:
        r = valid && x.slice(0, la).includes(y[j]!);
        break;
      case 1:
        r = false;
        for (let i = 0; i + 1 < la; i += 2) if (valid && y[j]! >= x[i]! && y[j]! <= x[i + 1]!) r = true;
        break;
      case 2:
        r = j < la && valid ? x[j] === y[j] : j >= la && !valid;
        break;
      default:
        r = true;
        for (let i = 0; i + j < n; i++) if (i < la && !(i + j < lb && x[i] === y[i + j])) r = false;
    }
    if (imm & 0x10 && (!(imm & 0x20) || valid)) r = !r;
    if (r) result |= 1 << j;
  }
  return { result, la, lb, n };
}

Deno.test("string comparisons in all modes, lengths and outputs", () => {
  for (let i = 0; i < 4000; i++) {
    // Few different characters, so that there are matches.
    const text = () =>
      fromBytes(Array.from({ length: 16 }, () => [0, 1, 2, 3, 0x80, 0xff][random() % (i % 3 ? 6 : 4)]! + (i & 1)));
    const a = text(), b = text(), imm = random() & 127, explicit = random() & 1 ? true : false;
    const lengths: [number, number] = [random() % 40 - 20, random() % 40 - 20];
    fix.view.setBigUint64(CPU, BigInt.asUintN(32, BigInt(lengths[0])), true);
    fix.view.setBigUint64(CPU + 16, BigInt.asUintN(32, BigInt(lengths[1])), true);
    const { result, la, lb, n } = reference(a, b, imm, explicit ? lengths : undefined);
    const what = `${a.toString(16)} ${b.toString(16)} ${imm} ${lengths} ${explicit}`;
    run(explicit ? "PCMPESTRI" : "PCMPISTRI", a, b, imm);
    const index = result === 0 ? n : imm & 64 ? 31 - Math.clz32(result) : 31 - Math.clz32(result & -result);
    assertEquals(fix.view.getBigUint64(CPU + 8, true), BigInt(index), what);
    const flags = (result ? 1 : 0) | (lb < n ? 0x40 : 0) | (la < n ? 0x80 : 0) | (result & 1 ? 0x800 : 0);
    assertEquals(fix.get("fB") & 0x8d5, flags, what);
    run(explicit ? "PCMPESTRM" : "PCMPISTRM", a, b, imm);
    let mask = BigInt(result);
    if (imm & 64) {
      mask = 0n;
      const width = 128 / n;
      for (let k = 0; k < n; k++) if ((result >> k) & 1) mask |= ((1n << BigInt(width)) - 1n) << BigInt(k * width);
    }
    assertEquals(fix.xmm(0), mask, what);
  }
});
