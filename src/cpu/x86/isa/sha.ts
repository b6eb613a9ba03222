/** SHA extensions: [sdm2], [fips180]. Doubleword 3 of a register is the first of four words. */
import { i32, select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { S } from "../state.ts";
import { binary, dword, type VectorOp, zeros } from "../simd/vector.ts";

/** A vector from four doublewords, lowest first. */
const join = (...d: Value[]): Value => d.reduce((v, x, i) => v.lane("i32x4.replace_lane", i, x), zeros());
const take = (o: Ops, v: Value): Value[] => [0, 1, 2, 3].map((i) => o.let(dword(v, i)));

const choose = (x: Value, y: Value, z: Value) => x.and(y.xor(z)).xor(z);
const majority = (x: Value, y: Value, z: Value) => x.and(y.or(z)).or(y.and(z));
const parity = (x: Value, y: Value, z: Value) => x.xor(y).xor(z);
const sigma = (x: Value, a: number, b: number, c: number) => x.rotr(a).xor(x.rotr(b)).xor(x.rotr(c));
const schedule = (x: Value, a: number, b: number, c: number) => x.rotr(a).xor(x.rotr(b)).xor(x.shrU(c));

/** Four rounds of SHA-1; imm chooses the function and the constant of twenty rounds. E of the first is in the source. */
function sha1rnds4(o: Ops, x: Operand, y: Operand, imm: Operand): void {
  const words = take(o, y.get()).reverse(), which = o.let(imm.get().and(3));
  let [d, cc, b, a] = take(o, x.get()) as [Value, Value, Value, Value];
  // [fips180 §4.2.1]
  const [k0, k1, k2, k3] = [0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6].map((k) => i32(k)) as [
    Value,
    Value,
    Value,
    Value,
  ];
  const k = o.let(select(which.and(2), select(which.and(1), k3, k2), select(which.and(1), k1, k0)));
  let e: Value = i32(0);
  for (const word of words) {
    const odd = o.let(parity(b, cc, d));
    const even = select(which, o.let(majority(b, cc, d)), o.let(choose(b, cc, d)));
    const f = select(which.and(1), odd, even);
    const next = o.let(f.add(a.rotl(5)).add(word).add(e).add(k));
    [e, d, cc, b, a] = [d, cc, o.let(b.rotl(30)), a, next];
  }
  x.set(join(d, cc, b, a));
}
const sha1nexte: VectorOp = (_o, a, b) => b.lane("i32x4.replace_lane", 3, dword(b, 3).add(dword(a, 3).rotl(30)));
const sha1msg1: VectorOp = (_o, a, b) => a.xor(a.shuffle(b, [24, 25, 26, 27, 28, 29, 30, 31, 0, 1, 2, 3, 4, 5, 6, 7]));
const sha1msg2: VectorOp = (o, a, b) => {
  const x = take(o, a), y = take(o, b);
  const w16 = o.let(x[3]!.xor(y[2]!).rotl(1)), w17 = x[2]!.xor(y[1]!).rotl(1), w18 = x[1]!.xor(y[0]!).rotl(1);
  return join(x[0]!.xor(w16).rotl(1), w18, w17, w16);
};

/** Two rounds of SHA-256; XMM0's low half holds words with their constants added. */
const sha256rnds2: VectorOp = (o, x, y) => {
  const wk = take(o, o.c.ldV(o.cpu, S.xmm));
  let [f, e, b, a] = take(o, y) as [Value, Value, Value, Value];
  let [h, g, d, cc] = take(o, x) as [Value, Value, Value, Value];
  for (const word of wk.slice(0, 2)) {
    const t1 = o.let(choose(e, f, g).add(sigma(e, 6, 11, 25)).add(word).add(h));
    const t2 = majority(a, b, cc).add(sigma(a, 2, 13, 22));
    [h, g, f, e, d, cc, b, a] = [g, f, e, o.let(t1.add(d)), cc, b, a, o.let(t1.add(t2))];
  }
  return join(f, e, b, a);
};
const sha256msg1: VectorOp = (o, a, b) => {
  const x = take(o, a), next = [x[1]!, x[2]!, x[3]!, o.let(dword(b, 0))];
  return join(...x.map((w, i) => w.add(schedule(next[i]!, 7, 18, 3))));
};
const sha256msg2: VectorOp = (o, a, b) => {
  const x = take(o, a), y = take(o, b);
  const plus = (w: Value, from: Value) => o.let(w.add(schedule(from, 17, 19, 10)));
  const w16 = plus(x[0]!, y[2]!), w17 = plus(x[1]!, y[3]!);
  return join(w16, w17, plus(x[2]!, w16), plus(x[3]!, w17));
};

const sha = { unit: "sse", feature: "SHA" } as const;
const misaligned = "processors differ in whether a misaligned operand is #GP(0)";

/** Opcode, mnemonic, further operands, meaning. */
const INSTRUCTIONS: [string, string, string, Row["sem"]][] = [
  ["0F 3A CC", "SHA1RNDS4", ",Iub", sha1rnds4],
  ["0F 38 C8", "SHA1NEXTE", "", binary(sha1nexte)],
  ["0F 38 C9", "SHA1MSG1", "", binary(sha1msg1)],
  ["0F 38 CA", "SHA1MSG2", "", binary(sha1msg2)],
  ["0F 38 CB", "SHA256RNDS2", "", binary(sha256rnds2)],
  ["0F 38 CC", "SHA256MSG1", "", binary(sha256msg1)],
  ["0F 38 CD", "SHA256MSG2", "", binary(sha256msg2)],
];
export const ROWS: readonly Row[] = INSTRUCTIONS.flatMap(([code, name, more, sem]): Row[] => [
  { op: `NP ${code} /r`, name, args: `Vdq+,Udq${more}`, ...sha, sem },
  { op: `NP ${code} /r`, name, args: `Vdq+,Mdq${more}`, ...sha, noHost: misaligned, sem },
]);
