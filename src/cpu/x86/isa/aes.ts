/** AES-NI and PCLMULQDQ: [sdm2], [fips197]. */
import type { Module } from "../../../wasm/module.ts";
import { select, v128, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { allBytes, binary, low, qword, unary, type VectorOp } from "../simd/vector.ts";

/** The substitution box from its definition: the inverse in GF(2^8), then an affine map. [fips197 §5.1.1] */
export function sbox(): Uint8Array {
  const multiply = (a: number, b: number): number => {
    let r = 0;
    for (; b; b >>= 1, a = (a << 1) ^ (a & 0x80 ? 0x11b : 0)) if (b & 1) r ^= a;
    return r;
  };
  return Uint8Array.from({ length: 256 }, (_, x) => {
    // x to the power of 254.
    let inverse = 1;
    for (let i = 0; i < 254; i++) inverse = multiply(inverse, x);
    const rotated = [0, 1, 2, 3, 4].map((n) => (inverse << n) | (inverse >> (8 - n)));
    return (rotated.reduce((r, n) => r ^ n, 0x63)) & 0xff;
  });
}
export function inverseSbox(): Uint8Array {
  const inverse = new Uint8Array(256);
  sbox().forEach((y, x) => inverse[y] = x);
  return inverse;
}

/** State bytes go down the columns: row r of column c is byte 4c + r. Row r moves by r columns. */
const shiftedRows = (direction: 1 | -1): number[] =>
  Array.from({ length: 16 }, (_, i) => (i + 4 * direction * (i & 3)) & 15);
const shiftRows = (v: Value) => v.shuffle(v, shiftedRows(1));
const unshiftRows = (v: Value) => v.shuffle(v, shiftedRows(-1));

/** Each byte times x in GF(2^8). */
const double = (v: Value): Value => v.op("i8x16.shl", 1).xor(v.op("i8x16.shr_s", 7).and(allBytes(0x1b)));
/** Byte r + n of each column in place of byte r. */
const rotateColumns = (v: Value, n: number): Value =>
  v.shuffle(v, Array.from({ length: 16 }, (_, i) => (i & 12) | ((i + n) & 3)));

export function defineAes(m: Module, f: CpuFuncs): void {
  const define = (name: string, body: (let_: (v: Value) => Value, v: Value) => Value) =>
    f.more.set(name, m.func(name, ["v128"], ["v128"], (c) => c.return(body((v) => c.let(v), c.param(0)))));
  // A table of 256 bytes is sixteen vectors; a byte finds itself in the one its high half names, and zero in the others.
  const lookup = (table: Uint8Array) => (let_: (v: Value) => Value, v: Value): Value => {
    let result: Value | undefined;
    for (let i = 0; i < 16; i++) {
      const part = v128(table.subarray(16 * i, 16 * i + 16))
        .op("i8x16.swizzle", i ? v.op("i8x16.sub", allBytes(16 * i)) : v);
      result = let_(result ? result.or(part) : part);
    }
    return result!;
  };
  define("aes.sub", lookup(sbox()));
  define("aes.unsub", lookup(inverseSbox()));
  const mix = (let_: (v: Value) => Value, v: Value): Value => {
    const next = let_(rotateColumns(v, 1)), both = let_(v.xor(next));
    return double(both).xor(next).xor(rotateColumns(both, 2));
  };
  define("aes.mix", mix);
  // The inverse matrix is the matrix times one that adds 4 (s0 + s2) and 4 (s1 + s3).
  define("aes.unmix", (let_, v) => {
    const pairs = let_(double(let_(v.xor(rotateColumns(v, 2)))));
    return mix(let_, let_(v.xor(double(pairs))));
  });
  // Carry-less product of 32-bit numbers, in an i64. With every fourth bit only, no sum of eight products reaches the next
  // bit that is looked at.
  const product = m.func("clmul32", ["i64", "i64"], ["i64"], (c) => {
    const masks = [0, 1, 2, 3].map((n) => 0x1111_1111n << BigInt(n));
    const x = masks.map((k) => c.let(c.param(0).and(k))), y = masks.map((k) => c.let(c.param(1).and(k)));
    let result: Value | undefined;
    for (let n = 0; n < 4; n++) {
      const sum = [0, 1, 2, 3].map((i) => x[i]!.mul(y[(n - i) & 3]!)).reduce((p, q) => p.xor(q));
      const part = sum.and(BigInt.asIntN(64, 0x1111_1111_1111_1111n << BigInt(n)));
      result = c.let(result ? result.or(part) : part);
    }
    c.return(result!);
  });
  // 64 × 64 bits: three products.
  f.more.set(
    "clmul64",
    m.func("clmul64", ["i64", "i64"], ["i64", "i64"], (c) => {
      const [a, b] = [c.param(0), c.param(1)];
      const al = c.let(a.and(0xffff_ffff)),
        ah = c.let(a.shrU(32)),
        bl = c.let(b.and(0xffff_ffff)),
        bh = c.let(b.shrU(32));
      const lowest = c.call1(product, al, bl), highest = c.call1(product, ah, bh);
      const middle = c.let(c.call1(product, al.xor(ah), bl.xor(bh)).xor(lowest).xor(highest));
      c.return(lowest.xor(middle.shl(32)), highest.xor(middle.shrU(32)));
    }),
  );
}

const call = (o: Ops, name: string, v: Value): Value => o.c.call1(o.deep(name), v);

export const encrypt = (last: boolean): VectorOp => (o, a, key) => {
  const v = call(o, "aes.sub", shiftRows(a));
  return (last ? v : call(o, "aes.mix", v)).xor(key);
};
export const decrypt = (last: boolean): VectorOp => (o, a, key) => {
  const v = call(o, "aes.unsub", unshiftRows(a));
  return (last ? v : call(o, "aes.unmix", v)).xor(key);
};
export const mixColumns = (o: Ops, v: Value): Value => call(o, "aes.unmix", v);
/** Doublewords 1 and 3 substituted, and the same rotated by a byte with the round constant. */
export function keySchedule(o: Ops, x: Value, imm: Value): Value {
  const v = call(o, "aes.sub", x);
  const words = v.shuffle(v, [4, 5, 6, 7, 5, 6, 7, 4, 12, 13, 14, 15, 13, 14, 15, 12]);
  const constant = o.let(imm.zx().shl(32).op("i64x2.splat"));
  return words.xor(constant);
}
function keyAssist(o: Ops, a: Operand, b: Operand, imm: Operand): void {
  a.set(keySchedule(o, b.get(), imm.get()));
}

/** imm bit 0 chooses the half of the first operand, bit 4 that of the second. */
export function multiply(o: Ops, x: Value, y: Value, n: Value): Value {
  const p = select(n.and(1), qword(x, 1), qword(x, 0)), q = select(n.and(16), qword(y, 1), qword(y, 0));
  const [lowest, highest] = o.c.call(o.deep("clmul64"), p, q) as [Value, Value];
  return low(lowest).lane("i64x2.replace_lane", 1, highest);
}
function pclmulqdq(o: Ops, a: Operand, b: Operand, imm: Operand): void {
  const y = b.get();
  a.set(multiply(o, a.get(), y, imm.get()));
}

const sse = { unit: "sse", feature: "AESNI" } as const;
export const ROWS: readonly Row[] = [
  { op: "66 0F 38 DB /r", name: "AESIMC", args: "Vdq=,Wdq", ...sse, sem: unary(mixColumns) },
  { op: "66 0F 38 DC /r", name: "AESENC", args: "Vdq+,Wdq", ...sse, sem: binary(encrypt(false)) },
  { op: "66 0F 38 DD /r", name: "AESENCLAST", args: "Vdq+,Wdq", ...sse, sem: binary(encrypt(true)) },
  { op: "66 0F 38 DE /r", name: "AESDEC", args: "Vdq+,Wdq", ...sse, sem: binary(decrypt(false)) },
  { op: "66 0F 38 DF /r", name: "AESDECLAST", args: "Vdq+,Wdq", ...sse, sem: binary(decrypt(true)) },
  { op: "66 0F 3A DF /r", name: "AESKEYGENASSIST", args: "Vdq=,Wdq,Iub", ...sse, sem: keyAssist },
  { op: "66 0F 3A 44 /r", name: "PCLMULQDQ", args: "Vdq+,Wdq,Iub", unit: "sse", feature: "PCLMULQDQ", sem: pclmulqdq },
];
