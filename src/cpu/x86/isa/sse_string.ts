/** PCMPESTRI, PCMPESTRM, PCMPISTRI, PCMPISTRM: [sdm1 §12.1], [sdm2 §4.1]. */
import type { Code } from "../../../wasm/code.ts";
import type { Module } from "../../../wasm/module.ts";
import { i32, i64, select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { CF, OF, RAX, RCX, RDX, S, SF, ZF } from "../state.ts";
import { allBytes, allWords, laneMask, low, zeros } from "../simd/vector.ts";

/** What the immediate says. */
const IMM = { WORDS: 1, SIGNED: 2, NEGATE: 0x10, ONLY_VALID: 0x20, LAST: 0x40, MASK: 0x40 } as const;

/** Bits 0..n-1. */
const firstBits = (n: Value): Value => i32(1).shl(n).sub(1);

/** (a, b, length of a, length of b, imm) → bits, the manual's IntRes2, for bytes or words. */
function comparison(m: Module, f: CpuFuncs, words: boolean): void {
  const shape = words ? "i16x8" : "i8x16", count = words ? 8 : 16, full = (1 << count) - 1;
  f.more.set(
    `compareStrings.${shape}`,
    m.func(`compareStrings.${shape}`, ["v128", "v128", "i32", "i32", "i32"], ["i32"], (c) => {
      const a = c.param(0), b = c.param(1), la = c.param(2), lb = c.param(3), imm = c.param(4);
      const bits = (v: Value) => v.op(`${shape}.bitmask`);
      /** Element i of a, everywhere. */
      const spread = (v: Value, i: Value): Value => {
        const byte = words ? i.mul(0x0202).add(0x0100).op("i16x8.splat") : i.op("i8x16.splat");
        return v.op("i8x16.swizzle", byte);
      };
      const validA = c.let(firstBits(la)), validB = c.let(firstBits(lb));
      const result = c.variable("i32", 0), i = c.variable("i32", 0);
      /** body() for i = 0, step, … below the length of a. */
      const each = (step: number, body: () => void) => {
        c.block((end) =>
          c.loop((again) => {
            c.brIf(end, i.get().geU(la));
            body();
            i.set(i.get().add(step));
            c.br(again);
          })
        );
      };
      c.switch(imm.shrU(2).and(3), [
        () => {
          // Equal any.
          each(1, () => result.set(result.get().or(bits(b.op(`${shape}.eq`, spread(a, i.get()))))));
          result.set(result.get().and(validB));
        },
        () => {
          // Ranges: pairs of least and greatest. A bias makes unsigned order signed; the last bound may have no partner.
          const top = words ? allWords(0x8000) : allBytes(0x80);
          const bias = c.let(select(imm.and(IMM.SIGNED), zeros(), top));
          const x = c.let(a.xor(bias)), y = c.let(b.xor(bias));
          each(2, () => {
            const least = y.op(`${shape}.ge_s`, spread(x, i.get()));
            const inside = bits(least.and(y.op(`${shape}.le_s`, spread(x, i.get().add(1)))));
            result.set(result.get().or(select(i.get().add(1).ltU(la), inside, 0)));
          });
          result.set(result.get().and(validB));
        },
        () => {
          // Equal each: beyond both ends counts as equal, beyond one as different.
          const equal = bits(a.op(`${shape}.eq`, b)).and(validA).and(validB);
          result.set(equal.or(validA.or(validB).not().and(full)));
        },
      ], () => {
        // Equal ordered: a found in b from each place on, as far as b reaches.
        result.set(full);
        each(1, () => {
          const equal = bits(b.op(`${shape}.eq`, spread(a, i.get()))).and(validB);
          result.set(result.get().and(equal.or(-1 << count).shrS(i.get())));
        });
      });
      c.if(imm.and(IMM.NEGATE), () => {
        const flip = select(imm.and(IMM.ONLY_VALID), validB, full);
        result.set(result.get().xor(flip));
      });
      c.return(result.get().and(full));
    }),
  );
}

export function defineSseString(m: Module, f: CpuFuncs): void {
  comparison(m, f, false);
  comparison(m, f, true);
}

/** Number of elements before the first zero. */
function implicitLength(c: Code, v: Value, words: boolean): Value {
  const shape = words ? "i16x8" : "i8x16", count = words ? 8 : 16;
  return c.let(v.op(`${shape}.eq`, zeros()).op(`${shape}.bitmask`).or(1 << count).ctz());
}
/** The magnitude of a register, at most `count`. */
function explicitLength(o: Ops, n: number, count: number): Value {
  const x = o.let(o.size === 64 ? o.gpr(n) : o.gprAt(n, 32).sx());
  const magnitude = o.let(select(x.ltS(0), o.let(x.neg()), x));
  return o.let(select(magnitude.ltU(count), magnitude, i64(count)).lo());
}

export function compareStrings(explicit: boolean, index: boolean) {
  return (o: Ops, a: Operand, b: Operand, immediate: Operand) => {
    const c = o.c, y = b.get(), x = a.get(), imm = immediate.get();
    const run = (words: boolean) => {
      const shape = words ? "i16x8" : "i8x16", count = words ? 8 : 16;
      const la = explicit ? explicitLength(o, RAX, count) : implicitLength(c, x, words);
      const lb = explicit ? explicitLength(o, RDX, count) : implicitLength(c, y, words);
      const bits = c.call1(o.deep(`compareStrings.${shape}`), x, y, la, lb, imm);
      if (index) {
        const first = bits.or(1 << count).ctz();
        const last = c.let(i32(31).sub(bits.clz()));
        const found = select(imm.and(IMM.LAST).bool().and(bits.bool()), last, first);
        o.setGprAt(RCX, 32, c.let(found));
      } else {
        const elements = words ? laneMask(bits, 16) : byteMask(bits);
        c.stV(o.cpu, select(imm.and(IMM.MASK), elements, low(bits)), S.xmm);
      }
      const flags = bits.bool().mul(CF).or(lb.ltU(count).mul(ZF)).or(la.ltU(count).mul(SF)).or(bits.and(1).mul(OF));
      o.setFlags(flags);
    };
    c.if(imm.and(IMM.WORDS), () => run(true), () => run(false));
  };
}
/** Ones in the bytes whose bit of `bits` is set. */
function byteMask(bits: Value): Value {
  const both = bits.op("i16x8.splat");
  const spread = both.shuffle(both, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1]);
  const single = i64(0x8040_2010_0804_0201n).op("i64x2.splat");
  return spread.and(single).op("i8x16.eq", single);
}

const common = { unit: "sse", feature: "SSE4.2", flags: "OSZAPC" } as const;
export const ROWS: readonly Row[] = [
  {
    op: "66 0F 3A 60 /r",
    name: "PCMPESTRM",
    args: "Vdq,Wu,Iub",
    sizes: "y",
    ...common,
    sem: compareStrings(true, false),
  },
  {
    op: "66 0F 3A 61 /r",
    name: "PCMPESTRI",
    args: "Vdq,Wu,Iub",
    sizes: "y",
    ...common,
    sem: compareStrings(true, true),
  },
  { op: "66 0F 3A 62 /r", name: "PCMPISTRM", args: "Vdq,Wu,Iub", ...common, sem: compareStrings(false, false) },
  { op: "66 0F 3A 63 /r", name: "PCMPISTRI", args: "Vdq,Wu,Iub", ...common, sem: compareStrings(false, true) },
];
