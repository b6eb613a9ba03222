/** F16C: half precision, stored and converted only: [sdm2 VCVTPH2PS, VCVTPS2PH], [sdm1 §14.4]. */
import type { Module } from "../../../wasm/module.ts";
import { i64, select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { type FloatFuncs, PS, softCall } from "../simd/float.ts";
import { defineRound, HALF, infinity, KIND, MXCSR, quietBit, signOf, SINGLE, withSign } from "../simd/soft_float.ts";
import { lanes, low, zeros } from "../simd/vector.ts";
import { type Length, LENGTHS, lengths, register, setRegister } from "../simd/wide.ts";
import { callWide, deepWide } from "../simd/wide_float.ts";

export function defineF16c(m: Module, f: CpuFuncs, { soft }: FloatFuncs): void {
  // (half) → single, flags. Every half is a normal single; denormals raise nothing, whatever MXCSR says.
  const widen = m.func("soft.fromHalf", ["i64"], ["i64", "i32"], (c) => {
    const x = c.param(0), exponent = c.let(x.shrU(10).and(0x1f)), fraction = c.let(x.and(0x3ff));
    const sign = c.let(x.shrU(15).lo().and(1)), kept = c.let(fraction.shl(13));
    c.if(exponent.eq(0x1f), () => {
      c.if(fraction.eqz(), () => c.return(withSign(sign, SINGLE, infinity(SINGLE)), 0));
      c.return(withSign(sign, SINGLE, kept.or(infinity(SINGLE) | quietBit(SINGLE))), fraction.and(0x200).eqz());
    });
    c.if(exponent.eqz(), () => {
      c.if(fraction.eqz(), () => c.return(withSign(sign, SINGLE, 0n), 0));
      const shift = c.let(fraction.clz().sub(53));
      const significand = fraction.shl(shift).and(0x3ff).shl(13);
      c.return(withSign(sign, SINGLE, c.let(i64(113).sub(shift).shl(23).or(significand))), 0);
    });
    c.return(withSign(sign, SINGLE, c.let(exponent.add(112).shl(23).or(kept))), 0);
  });
  const round = defineRound(m, HALF);
  // (single, mxcsr) → half, flags. Results are never flushed to zero.
  const narrow = m.func("soft.toHalf", ["i64", "i32"], ["i64", "i32"], (c) => {
    const x = c.param(0), mxcsr = c.let(c.param(1).and(~MXCSR.FTZ));
    const [kind, exponent, s] = c.call(soft[32].unpack, x, mxcsr) as [Value, Value, Value];
    const sign = c.let(signOf(x, SINGLE));
    c.if(kind.and(KIND.NAN), () => {
      const payload = x.shrU(13).and(0x3ff);
      c.return(withSign(sign, HALF, c.let(payload.or(infinity(HALF) | quietBit(HALF)))), kind.shrU(5));
    });
    c.if(kind.eq(KIND.INF), () => c.return(withSign(sign, HALF, infinity(HALF)), 0));
    c.if(kind.eq(KIND.ZERO), () => c.return(withSign(sign, HALF, 0n), 0));
    const [bits, flags] = c.call(round, sign, exponent, s, mxcsr) as [Value, Value];
    c.return(bits, flags.or(kind.and(KIND.DENORMAL).shrU(1)));
  });
  for (const length of LENGTHS) {
    deepWide(m, f, "fromHalf", PS, length, 1, (o, [x]) => softCall(o, widen, x!));
    // With the rounding of the immediate, or MXCSR's.
    deepWide(
      m,
      f,
      "toHalf",
      PS,
      length,
      1,
      (o, [x, rounding], mx) => {
        const own = o.let(mx.and(~MXCSR.RC).or(rounding!));
        return softCall(o, narrow, x!, own);
      },
      undefined,
      1,
      (o, [imm]) => [
        o.let(select(imm!.and(4), o.let(o.ld32("mxcsr").and(MXCSR.RC)), o.let(imm!.and(3).shl(13)))),
      ],
    );
  }
}

/** Halves in the low words of doublewords. */
const fromHalf = (length: Length) => (o: Ops, _a: Operand, w: Operand) => {
  const raw = w.get(), x = length === 1 ? o.let(low(raw)) : raw;
  const halves = (["low", "high"] as const).slice(0, length).map((part) => o.let(x.op(`i32x4.extend_${part}_i16x8_u`)));
  setRegister(o, callWide(o, "fromHalf", PS, [halves]));
};
const toHalf = (length: Length) => (o: Ops, a: Operand, _b: Operand, imm: Operand) => {
  // A store that cannot be comes before what the numbers raise.
  const at = a.isMemory ? o.writeAt(o.ea.get(), 8 * length, false) : undefined;
  const r = callWide(o, "toHalf", PS, [register(o, 1, length)], imm.get());
  const v = o.let(r[0]!.shuffle(r[1] ?? zeros(), lanes(2, 0, 2, 4, 6, 8, 10, 12, 14)));
  if (!at) return setRegister(o, [v]);
  if (length === 1) o.c.st64(at, v.lane("i64x2.extract_lane", 0));
  else o.c.stV(at, v);
  o.commit(at);
};

const feature = ["F16C", "F16C"] as const;
export const ROWS: readonly Row[] = [
  ...lengths("W0 66 0F 38 13 /r", "VCVTPH2PS", "V=,W", feature, fromHalf)
    .map((row, i) => ({ ...row, args: i ? "Vqq=,Wu" : "Vu=,Wq" })),
  ...lengths("W0 66 0F 3A 1D /r", "VCVTPS2PH", "W=,V,Iub", feature, toHalf)
    .map((row, i) => ({ ...row, args: i ? "Wu=,Vqq,Iub" : "Wq=,Vu,Iub" })),
];
