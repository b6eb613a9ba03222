/** MUL, IMUL, DIV, IDIV, MULX: [sdm2]. */
import type { Module } from "../../../wasm/module.ts";
import { select } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import { type CpuFuncs, deepFunc, type Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { CF, EXC, OF } from "../state.ts";

const CF_OF = CF | OF;

export function defineMulDiv(m: Module, f: CpuFuncs): void {
  // The upper 64 bits of an unsigned 64 × 64 product, from four 32-bit ones.
  const high = m.func("mulHighU", ["i64", "i64"], ["i64"], (c) => {
    const a = c.param(0), b = c.param(1);
    const a0 = c.let(a.and(0xffff_ffff)),
      a1 = c.let(a.shrU(32)),
      b0 = c.let(b.and(0xffff_ffff)),
      b1 = c.let(b.shrU(32));
    const middle = c.let(a1.mul(b0).add(a0.mul(b0).shrU(32)));
    const cross = c.let(a0.mul(b1).add(middle.and(0xffff_ffff)));
    c.return(a1.mul(b1).add(middle.shrU(32)).add(cross.shrU(32)));
  });
  f.more.set("mulHighU", high);
  f.more.set(
    "mulHighS",
    m.func("mulHighS", ["i64", "i64"], ["i64"], (c) => {
      const a = c.param(0), b = c.param(1);
      const h = c.call1(high, a, b);
      c.return(h.sub(a.shrS(63).and(b)).sub(b.shrS(63).and(a)));
    }),
  );

  // 128 / 64 → 64, unsigned; #DE if the quotient does not fit. Schoolbook, one bit a step; a zero high half takes one step.
  deepFunc(m, f, "div128U", ["i64", "i64", "i64"], ["i64", "i64"], (o, hi, lo, d) => {
    const c = o.c;
    o.faultIf(hi.geU(d), EXC.DE); // covers d = 0
    c.if(hi.eqz(), () => c.return(0, lo.divU(d), lo.remU(d)));
    const r = c.variable("i64", hi), q = c.variable("i64", lo), i = c.variable("i32", 64);
    c.loop((again) => {
      const out = c.let(r.get().shrU(63));
      r.set(r.get().shl(1).or(q.get().shrU(63)));
      q.set(q.get().shl(1));
      c.if(out.lo().or(r.get().geU(d)), () => {
        r.set(r.get().sub(d));
        q.set(q.get().or(1));
      });
      i.set(i.get().sub(1));
      c.brIf(again, i.get());
    });
    c.return(0, q.get(), r.get());
  });
  deepFunc(m, f, "div128S", ["i64", "i64", "i64"], ["i64", "i64"], (o, hi, lo, d) => {
    const c = o.c;
    const negative = c.let(hi.shrU(63).lo()), negativeD = c.let(d.shrU(63).lo());
    const absLo = c.let(select(negative, lo.neg(), lo));
    const absHi = c.let(select(negative, hi.not().add(lo.eqz().zx()), hi));
    const absD = c.let(select(negativeD, d.neg(), d));
    const [q0, r0] = o.callF(f.more.get("div128U")!, o.cpu, absHi, absLo, absD);
    const flip = c.let(negative.xor(negativeD));
    // The magnitude may reach 2^63 only for a negative quotient.
    o.faultIf(q0!.gtU(flip.zx().add(0x7fff_ffff_ffff_ffffn)), EXC.DE);
    c.return(0, select(flip, q0!.neg(), q0!), select(negative, r0!.neg(), r0!));
  });
}

/** The accumulator pair gets the double-width product; CF = OF = the upper half matters. SF, ZF, AF, PF: as if from the low half. */
function multiply(signed: boolean) {
  return (o: Ops, b: Operand) => {
    const size = o.size, y0 = b.get();
    if (size === 64) {
      const x = o.gpr(0), y = o.let(y0);
      const high = o.c.call1(o.deep(signed ? "mulHighS" : "mulHighU"), x, y);
      const low = o.let(x.mul(y));
      o.setGpr(0, low);
      o.setGpr(2, high);
      o.flagsResult(low, () => (signed ? high.ne(low.shrS(63)) : high.bool()).mul(CF_OF));
      return;
    }
    const x = o.gprAt(0, size);
    const product = o.let(signed ? o.sext(x).mul(o.sext(y0)) : x.zx().mul(y0.zx()));
    if (size === 8) o.setGprAt(0, 16, product.lo());
    else {
      o.setGprAt(0, size, product.lo());
      o.setGprAt(2, size, product.shrU(size).lo());
    }
    const matters = signed ? o.sext(product).ne(product) : product.shrU(size).bool();
    o.flagsResult(product.lo(), () => matters.mul(CF_OF));
  };
}
function imul(o: Ops, a: Operand, b: Operand, third?: Operand): void {
  const x = third ? b.get() : a.get(), y = third ? third.get() : b.get();
  if (!o.flagsLive) return a.set(x.mul(y));
  const p = o.let(o.sext(x).mul(o.sext(y)));
  a.set(o.size === 64 ? p : p.lo());
  o.flagsLate("IMUL", p, o.sext(x), o.sext(y));
}

function divide(signed: boolean) {
  return (o: Ops, b: Operand) => {
    const size = o.size, d0 = b.get();
    if (size === 64) {
      const [q, r] = o.callF(o.deep(signed ? "div128S" : "div128U"), o.cpu, o.gpr(2), o.gpr(0), d0);
      o.setGpr(0, q!);
      o.setGpr(2, r!);
      return;
    }
    const d = o.let(signed ? o.sext(d0) : d0.zx());
    o.faultIf(d.eqz(), EXC.DE);
    const n = o.let(
      size === 8
        ? (signed ? o.gprAt(0, 16).ext16().sx() : o.gprAt(0, 16).zx())
        : size === 16
        ? (signed ? o.gprAt(2, 16).shl(16).or(o.gprAt(0, 16)).sx() : o.gprAt(2, 16).shl(16).or(o.gprAt(0, 16)).zx())
        : o.gpr(2).shl(32).or(o.gprAt(0, 32).zx()),
    );
    if (signed && size === 32) o.faultIf(n.eq(-(2n ** 63n)).and(d.eq(-1)), EXC.DE);
    const q = o.let(signed ? n.divS(d) : n.divU(d));
    o.faultIf(signed ? o.sext(q).ne(q) : q.shrU(size).bool(), EXC.DE);
    const r = o.let(signed ? n.remS(d) : n.remU(d));
    if (size === 8) o.setGprAt(0, 16, q.lo().and(0xff).or(r.lo().and(0xff).shl(8)));
    else {
      o.setGprAt(0, size, q.lo());
      o.setGprAt(2, size, r.lo());
    }
  };
}

/** MULX: high half to the first, low half to the second destination (the first wins if they are the same). */
function mulx(o: Ops, a: Operand, b: Operand, c: Operand): void {
  if (o.size === 64) {
    const x = o.gpr(2), y = o.let(c.get());
    const high = o.c.call1(o.deep("mulHighU"), x, y);
    b.set(o.let(x.mul(y)));
    a.set(high);
    return;
  }
  const p = o.let(o.gprAt(2, 32).zx().mul(c.get().zx()));
  b.set(p.lo());
  a.set(p.shrU(32).lo());
}

const MUL = { flags: "OSZAPC", undef: "SZAP" } as const;
const DIV = { flags: "OSZAPC", undef: "OSZAPC", faults: true } as const;

export const ROWS: readonly Row[] = [
  { op: "F6 /4", name: "MUL", args: "Eb", ...MUL, sem: multiply(false) },
  { op: "F7 /4", name: "MUL", args: "Ev", ...MUL, sem: multiply(false) },
  { op: "F6 /5", name: "IMUL", args: "Eb", ...MUL, sem: multiply(true) },
  { op: "F7 /5", name: "IMUL", args: "Ev", ...MUL, sem: multiply(true) },
  { op: "0F AF /r", name: "IMUL", args: "Gv+,Ev", ...MUL, hot: 1, sem: imul },
  { op: "69 /r", name: "IMUL", args: "Gv=,Ev,Iz", ...MUL, hot: 1, sem: imul },
  { op: "6B /r", name: "IMUL", args: "Gv=,Ev,Ib", ...MUL, hot: 1, sem: imul },
  { op: "F6 /6", name: "DIV", args: "Eb", ...DIV, sem: divide(false) },
  { op: "F7 /6", name: "DIV", args: "Ev", ...DIV, sem: divide(false) },
  { op: "F6 /7", name: "IDIV", args: "Eb", ...DIV, sem: divide(true) },
  { op: "F7 /7", name: "IDIV", args: "Ev", ...DIV, sem: divide(true) },
  { op: "VEX L0 F2 0F 38 F6 /r", name: "MULX", args: "Gy=,By=,Ey", sem: mulx },
];
