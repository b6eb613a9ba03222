/** Packed integers of AVX (128 bits) and AVX2 (256 bits), AES, PCLMULQDQ and string comparisons in their VEX encoding: [sdm2]. */
import type { Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { CF, S, ZF } from "../state.ts";
import { alignRight, dwordOrder, type Shift, shift, shiftBytes } from "../simd/integer.ts";
import { laneMask, lanes, low, qword, type VectorOp, zeros } from "../simd/vector.ts";
import {
  AVX,
  AVX2,
  AVX2_WIDE,
  type Length,
  lengths,
  ONLY_128,
  register,
  setRegister,
  single,
  source,
  three,
  threeImm,
  two,
} from "../simd/wide.ts";
import { decrypt, encrypt, keySchedule, mixColumns, multiply } from "./aes.ts";
import { phminposuw, SSE4_OPS, sumsOfDifferences, WIDENINGS } from "./sse4.ts";
import { INTEGER_OPS } from "./sse_int.ts";
import { compareStrings } from "./sse_string.ts";
import { SSSE3_OPS } from "./ssse3.ts";

const SHIFTS = /^PS(LL|RL|RA)[WDQ]$/;
/** Rows of "V=,H,W" from a family's table. */
const family = (map: string, ops: readonly (readonly [string, string, VectorOp, VectorOp?])[]): Row[] =>
  ops.flatMap(([code, name, f]) => {
    const op = `66 ${map} ${code} /r`;
    if (name.startsWith("PABS")) return lengths(op, `V${name}`, "V=,W", AVX2_WIDE, (n) => two((o, v) => f(o, v, v), n));
    if (SHIFTS.test(name)) return lengths(op, `V${name}`, "V=,H,Wu", AVX2_WIDE, (n) => shiftByVector(f, n));
    return lengths(op, `V${name}`, "V=,H,W", AVX2_WIDE, (n) => three(f, n));
  });

/** One count for both halves, from 128 bits. */
function shiftByVector(f: VectorOp, length: Length): Row["sem"] {
  return (o: Ops, _a: Operand, _b: Operand, w: Operand) => {
    const count = w.get(), x = register(o, 1, length);
    setRegister(o, x.map((v) => f(o, v, count)));
  };
}
function shiftByImmediate(f: (o: Ops, v: Value, count: Value) => Value, length: Length): Row["sem"] {
  return (o: Ops, _a: Operand, _b: Operand, imm: Operand) => {
    const count = o.let(imm.get());
    setRegister(o, register(o, 1, length).map((v) => f(o, v, count)));
  };
}
function shiftRows(): Row[] {
  const list: [string, string, (o: Ops, v: Value, n: Value) => Value][] = [];
  const add = (code: string, name: string, kind: Shift, bits: number) =>
    list.push([code, name, (o, v, n) => shift(o, v, kind, bits, n)]);
  add("71 /2", "VPSRLW", "shr_u", 16);
  add("71 /4", "VPSRAW", "shr_s", 16);
  add("71 /6", "VPSLLW", "shl", 16);
  add("72 /2", "VPSRLD", "shr_u", 32);
  add("72 /4", "VPSRAD", "shr_s", 32);
  add("72 /6", "VPSLLD", "shl", 32);
  add("73 /2", "VPSRLQ", "shr_u", 64);
  add("73 /6", "VPSLLQ", "shl", 64);
  list.push(["73 /3", "VPSRLDQ", (o, v, n) => shiftBytes(o, v, false, n)]);
  list.push(["73 /7", "VPSLLDQ", (o, v, n) => shiftBytes(o, v, true, n)]);
  return list.flatMap(([code, name, f]) =>
    lengths(`66 0F ${code}`, name, "H=,U,Iub", AVX2_WIDE, (n) => shiftByImmediate(f, n))
  );
}

/** Each lane by its own count, which may be of any size. */
function shiftEach(kind: Shift, bits: 32 | 64, length: Length): Row["sem"] {
  const name = bits === 64 ? "i64x2" : "i32x4", get = `${name}.extract_lane` as const;
  return three((o, a, b) => {
    let result = zeros();
    for (let i = 0; i < 128 / bits; i++) {
      const count = o.let(b.lane(get, i));
      const lane = o.c.variable(bits === 64 ? "i64" : "i32");
      const x = a.lane(get, i);
      if (kind === "shr_s") {
        o.c.if(count.ltU(bits), () => lane.set(x.shrS(count)), () => lane.set(x.shrS(bits - 1)));
      } else {
        o.c.if(count.ltU(bits), () => lane.set(kind === "shl" ? x.shl(count) : x.shrU(count)), () => lane.set(0));
      }
      result = o.let(result.lane(`${name}.replace_lane`, i, lane.get()));
    }
    return result;
  }, length);
}

const shuffleDwords = (length: Length) => two((o, v, imm) => v.op("i8x16.swizzle", dwordOrder(o, imm!)), length);
const shuffleHalf = (high: 0 | 1) => (length: Length) =>
  two((o, v, imm) => {
    const words = o.c.call1(o.deep("shuffleWords"), qword(v, high), imm!);
    return v.lane("i64x2.replace_lane", high, words);
  }, length);
const quads = (first: 0 | 1) => (length: Length) =>
  three((_o, a, b) => a.shuffle(b, lanes(8, first, first + 2)), length);

/** Lanes of the second where a bit of the immediate is set; `bits` of it for each half. */
const blend = (width: 16 | 32 | 64, bits: number) => (length: Length) =>
  threeImm((o, a, b, imm, half) => {
    const mask = o.let(laneMask(half ? imm.shrU(bits) : imm, width));
    return b.op("v128.bitselect", a, mask);
  }, length);
/** By the sign bits of a fourth register. */
const blendVariable =
  (shape: string, bits: number) => (length: Length) => (o: Ops, _a: Operand, _b: Operand, w: Operand, is4: Operand) => {
    const y = source(o, w, 2, length), x = register(o, 1, length);
    const at = o.let(o.cpu.add(is4.get().shrU(4).shl(4)));
    const mask = [S.xmm, S.ymmHigh].slice(0, length).map((field) => o.c.ldV(at, field));
    setRegister(o, x.map((v, i) => y[i]!.op("v128.bitselect", v, mask[i]!.op(`${shape}.shr_s`, bits - 1))));
  };

/** ZF: no bit of the second is in the first; CF: no bit of the second is missing in the first. `mask`: bits that count. */
const test = (mask: (v: Value) => Value) => (length: Length) => (o: Ops, _a: Operand, w: Operand) => {
  const y = source(o, w, 1, length), x = register(o, 0, length);
  const any = (f: (a: Value, b: Value) => Value): Value =>
    x.map((v, i) => o.let(mask(f(v, y[i]!)).op("v128.any_true"))).reduce((p, q) => p.or(q));
  const zero = any((a, b) => a.and(b)).eqz(), carry = any((a, b) => b.op("v128.andnot", a)).eqz();
  o.setFlags(zero.mul(ZF).or(carry.mul(CF)));
};
const signBits = (shape: string, bits: number) => (v: Value) => v.op(`${shape}.shr_s`, bits - 1);

/** PMOVSX and PMOVZX: the source has half the bits of the destination, or less. */
function widenRows(): Row[] {
  return (["s", "u"] as const).flatMap((sign) =>
    WIDENINGS.flatMap(([digit, end, size, steps]) => {
      const code = `66 0F 38 ${sign === "s" ? 2 : 3}${digit} /r`, name = `VPMOV${sign === "s" ? "S" : "Z"}X${end}`;
      const widen = (v: Value) => steps.reduce((x, step) => x.op(`${step}_${sign}`), v);
      const wide = { w: "d", d: "q", q: "u" }[size as "w" | "d" | "q"];
      return [
        single(code, name, `Vu=,W${size}`, (o: Ops, _a: Operand, w: Operand) => setRegister(o, [widen(low(w.get()))])),
        {
          ...single(code, name, `Vqq=,W${wide}`, (o: Ops, _a: Operand, w: Operand) => {
            const raw = w.get(), v = raw.type === "v128" ? raw : o.let(low(raw));
            // The lanes that the upper half is made from, moved to where the lower half's are.
            const from = 8 / 2 ** (steps.length - 1), order = Array.from({ length: 16 }, (_, i) => (i + from) & 15);
            setRegister(o, [widen(v), widen(v.shuffle(v, order))]);
          }, { feature: "AVX2" }),
          op: `VEX L1 ${code}`,
        },
      ];
    })
  );
}

const stringRows: Row[] = ([["60", "VPCMPESTRM", true, false], ["61", "VPCMPESTRI", true, true], [
  "62",
  "VPCMPISTRM",
  false,
  false,
], ["63", "VPCMPISTRI", false, true]] as const).map(([code, name, explicit, index]) =>
  single(`66 0F 3A ${code} /r`, name, "Vu,Wu,Iub", (o: Ops, a: Operand, b: Operand, imm: Operand) => {
    compareStrings(explicit, index)(o, a, b, imm);
    // A mask is a vector in register 0.
    if (!index) o.c.stV(o.cpu, zeros(), S.ymmHigh);
  }, { flags: "OSZAPC", inState: true, ...(explicit ? { sizes: "y" as const } : {}) })
);

const aes = { feature: "AESNI" } as const;
const aesRound = (f: VectorOp): Row["sem"] => three(f, 1);

export const ROWS: readonly Row[] = [
  ...family("0F", INTEGER_OPS),
  ...family("0F 38", SSSE3_OPS),
  ...family("0F 38", SSE4_OPS),
  ...shiftRows(),
  ...lengths("66 0F 6C /r", "VPUNPCKLQDQ", "V=,H,W", AVX2_WIDE, quads(0)),
  ...lengths("66 0F 6D /r", "VPUNPCKHQDQ", "V=,H,W", AVX2_WIDE, quads(1)),
  ...lengths("66 0F 70 /r", "VPSHUFD", "V=,W,Iub", AVX2_WIDE, shuffleDwords),
  ...lengths("F3 0F 70 /r", "VPSHUFHW", "V=,W,Iub", AVX2_WIDE, shuffleHalf(1)),
  ...lengths("F2 0F 70 /r", "VPSHUFLW", "V=,W,Iub", AVX2_WIDE, shuffleHalf(0)),
  ...lengths(
    "66 0F 3A 0F /r",
    "VPALIGNR",
    "V=,H,W,Iub",
    AVX2_WIDE,
    (n) => threeImm((o, a, b, i) => alignRight(o, a, b, i), n),
  ),
  ...lengths(
    "66 0F 3A 42 /r",
    "VMPSADBW",
    "V=,H,W,Iub",
    AVX2_WIDE,
    (n) => threeImm((o, a, b, imm, half) => sumsOfDifferences(o, a, b, half ? o.let(imm.shrU(3)) : imm), n),
  ),
  ...lengths("66 0F 38 41 /r", "VPHMINPOSUW", "V=,W", ONLY_128, (n) => two(phminposuw, n)),
  ...lengths("66 0F 3A 0C /r", "VBLENDPS", "V=,H,W,Iub", AVX, blend(32, 4)),
  ...lengths("66 0F 3A 0D /r", "VBLENDPD", "V=,H,W,Iub", AVX, blend(64, 2)),
  ...lengths("66 0F 3A 0E /r", "VPBLENDW", "V=,H,W,Iub", AVX2_WIDE, blend(16, 0)),
  ...lengths("W0 66 0F 3A 02 /r", "VPBLENDD", "V=,H,W,Iub", AVX2, blend(32, 4)),
  ...lengths("W0 66 0F 3A 4A /r", "VBLENDVPS", "V=,H,W,Iub", AVX, blendVariable("i32x4", 32)).map(is4),
  ...lengths("W0 66 0F 3A 4B /r", "VBLENDVPD", "V=,H,W,Iub", AVX, blendVariable("i64x2", 64)).map(is4),
  ...lengths("W0 66 0F 3A 4C /r", "VPBLENDVB", "V=,H,W,Iub", AVX2_WIDE, blendVariable("i8x16", 8)).map(is4),
  ...lengths("66 0F 38 17 /r", "VPTEST", "V,W", AVX, test((v) => v), { flags: "OSZAPC" }),
  ...lengths("W0 66 0F 38 0E /r", "VTESTPS", "V,W", AVX, test(signBits("i32x4", 32)), { flags: "OSZAPC" }),
  ...lengths("W0 66 0F 38 0F /r", "VTESTPD", "V,W", AVX, test(signBits("i64x2", 64)), { flags: "OSZAPC" }),
  ...lengths("W0 66 0F 38 45 /r", "VPSRLVD", "V=,H,W", AVX2, (n) => shiftEach("shr_u", 32, n)),
  ...lengths("W1 66 0F 38 45 /r", "VPSRLVQ", "V=,H,W", AVX2, (n) => shiftEach("shr_u", 64, n)),
  ...lengths("W0 66 0F 38 46 /r", "VPSRAVD", "V=,H,W", AVX2, (n) => shiftEach("shr_s", 32, n)),
  ...lengths("W0 66 0F 38 47 /r", "VPSLLVD", "V=,H,W", AVX2, (n) => shiftEach("shl", 32, n)),
  ...lengths("W1 66 0F 38 47 /r", "VPSLLVQ", "V=,H,W", AVX2, (n) => shiftEach("shl", 64, n)),
  ...widenRows(),
  ...stringRows,
  single("66 0F 38 DB /r", "VAESIMC", "Vu=,Wu", two((o, v) => mixColumns(o, v), 1), aes),
  single("66 0F 38 DC /r", "VAESENC", "Vu=,Hu,Wu", aesRound(encrypt(false)), aes),
  single("66 0F 38 DD /r", "VAESENCLAST", "Vu=,Hu,Wu", aesRound(encrypt(true)), aes),
  single("66 0F 38 DE /r", "VAESDEC", "Vu=,Hu,Wu", aesRound(decrypt(false)), aes),
  single("66 0F 38 DF /r", "VAESDECLAST", "Vu=,Hu,Wu", aesRound(decrypt(true)), aes),
  single("66 0F 3A DF /r", "VAESKEYGENASSIST", "Vu=,Wu,Iub", two((o, v, imm) => keySchedule(o, v, imm!), 1), aes),
  single("66 0F 3A 44 /r", "VPCLMULQDQ", "Vu=,Hu,Wu,Iub", threeImm(multiply, 1), { feature: "PCLMULQDQ" }),
];

function is4(row: Row): Row {
  return { ...row, is4: true, inState: true };
}
