/** Shifts and rotates, double shifts, and the BMI2 forms without flags: [sdm2 SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR, SHLD, SHRD]. */
import { i32, i64, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { CF, OF } from "../state.ts";

/** The count as an i64, masked as the operand size asks. */
function maskedCount(o: Ops, b: Operand): Value {
  return o.let(b.get().and(o.size === 64 ? 63 : 31).zx());
}

/**
 * SHL, SHR, SAR. Values narrower than 64 bits are widened first (zero- or sign-extended), so that one 64-bit shift gives both
 * the result and, one place further, the bit that went into CF.
 */
function shift(kind: "shl" | "shr" | "sar") {
  const name = kind === "shl" ? "SHL" : kind === "shr" ? "SHR" : "SAR";
  return (o: Ops, a: Operand, b: Operand) => {
    const n = maskedCount(o, b), size = o.size;
    a.update((x0) => {
      const x = o.let(kind === "sar" ? o.sext(x0) : x0.zx());
      const wide = o.let(kind === "shl" ? x.shl(n) : kind === "shr" ? x.shrU(n) : x.shrS(n));
      const r = size === 64 ? wide : o.let(o.zext(wide.lo()));
      if (o.flagsLive) o.c.if(n.eqz().eqz(), () => o.flagsLate(name, r, x, n));
      return r;
    });
  };
}

/** Replaces CF and OF, keeps the rest. */
function rotateFlags(o: Ops, cf: Value, of: Value): void {
  if (!o.flagsLive) return;
  o.replaceFlags(CF | OF, o.let(o.cfOf(cf, of)));
}

function rotate(left: boolean) {
  return (o: Ops, a: Operand, b: Operand) => {
    const n = maskedCount(o, b), size = o.size;
    a.update((x) => {
      let r: Value;
      if (size === 64) r = o.let(left ? x.rotl(n) : x.rotr(n));
      else if (size === 32) r = o.let(left ? x.rotl(n.lo()) : x.rotr(n.lo()));
      else {
        const k = o.let(n.lo().and(size - 1)), other = i32(size).sub(k).and(size - 1);
        r = o.let(o.zext(left ? x.shl(k).or(x.shrU(other)) : x.shrU(k).or(x.shl(other))));
      }
      if (o.flagsLive) o.c.if(n.eqz().eqz(), () => o.flagsRotated(left ? "ROL" : "ROR", r));
      return r;
    });
  };
}

/** RCL and RCR: a rotate of size + 1 bits through CF. */
function rotateCarry(left: boolean) {
  return (o: Ops, a: Operand, b: Operand) => {
    const size = o.size, masked = maskedCount(o, b);
    const n = size < 32 ? o.let(masked.remU(size + 1)) : masked;
    a.update((x0) => {
      const c = o.c, x = o.let(x0.zx()), r = c.variable("i64", x);
      c.if(n.eqz().eqz(), () => {
        const carry = o.let(o.cf().zx());
        const cf = c.variable("i32");
        // n is 1..size. The part that wraps goes one further, round CF; a shift of exactly 64 is two shifts.
        if (left) {
          const wrapped = x.shrU(1).shrU(i64(size).sub(n));
          r.set(x.shl(n).or(carry.shl(n.sub(1))).or(wrapped));
          cf.set(x.shrU(i64(size).sub(n)).lo().and(1));
        } else {
          const wrapped = x.shl(1).shl(i64(size).sub(n));
          r.set(x.shrU(n).or(carry.shl(i64(size).sub(n))).or(wrapped));
          cf.set(x.shrU(n.sub(1)).lo().and(1));
        }
        // A 64-bit rotate never has n = 64 (counts are masked to 63), so the shifts above are in range.
        const top = o.let(r.get().shrU(size - 1).lo().and(1));
        rotateFlags(o, cf.get(), left ? top.xor(cf.get()) : top.xor(r.get().shrU(size - 2).lo().and(1)));
      });
      return size === 64 ? r.get() : o.let(o.zext(r.get().lo()));
    });
  };
}

/** SHLD and SHRD. For 16 bits a count above 16 is undefined: what processors do is shift the concatenation round again. */
function doubleShift(left: boolean) {
  return (o: Ops, a: Operand, b: Operand, count: Operand) => {
    const size = o.size, n = maskedCount(o, count);
    const y0 = b.get();
    a.update((x0) => {
      const c = o.c, x = o.let(x0.zx()), y = o.let(y0.zx());
      const r = c.variable("i64", x), cf = c.variable("i32", 0);
      c.if(n.eqz().eqz(), () => {
        if (size === 64) {
          r.set(left ? x.shl(n).or(y.shrU(i64(64).sub(n))) : x.shrU(n).or(y.shl(i64(64).sub(n))));
          cf.set(left ? x.shrU(i64(64).sub(n)).lo().and(1) : x.shrU(n.sub(1)).lo().and(1));
        } else if (size === 32) {
          const both = o.let(left ? x.shl(32).or(y) : y.shl(32).or(x));
          r.set(left ? both.shl(n).shrU(32) : both.shrU(n));
          cf.set(left ? x.shrU(i64(32).sub(n)).lo().and(1) : x.shrU(n.sub(1)).lo().and(1));
        } else {
          const three = o.let(left ? x.shl(32).or(y.shl(16)).or(x) : x.shl(32).or(y.shl(16)).or(x));
          r.set(left ? three.shl(n).shrU(32) : three.shrU(n));
          cf.set(left ? three.shrU(i64(48).sub(n)).lo().and(1) : three.shrU(n.sub(1)).lo().and(1));
        }
        const result = size === 64 ? r.get() : o.let(o.zext(r.get().lo()));
        o.flagsResult(result, () => o.cfOf(cf.get(), o.signBit(result).xor(o.signBit(x, size))));
      });
      return size === 64 ? r.get() : o.let(o.zext(r.get().lo()));
    });
  };
}

/** SHLX, SHRX, SARX, RORX. */
function flagless(kind: "shl" | "shrU" | "shrS" | "rotr") {
  return (o: Ops, a: Operand, b: Operand, count: Operand) => {
    const n = count.get();
    a.set(b.get()[kind](o.size === 64 ? n.zx() : n));
  };
}

function shiftRows(): Row[] {
  const kinds: [number, string, ReturnType<typeof shift>, Partial<Row>][] = [
    [0, "ROL", rotate(true), { flags: "OC" }],
    [1, "ROR", rotate(false), { flags: "OC" }],
    [2, "RCL", rotateCarry(true), { flags: "OC", reads: "C" }],
    [3, "RCR", rotateCarry(false), { flags: "OC", reads: "C" }],
    [4, "SHL", shift("shl"), { flags: "OSZAPC", undef: "AO" }],
    [5, "SHR", shift("shr"), { flags: "OSZAPC", undef: "AO" }],
    [6, "SAL", shift("shl"), { flags: "OSZAPC", undef: "AO" }],
    [7, "SAR", shift("sar"), { flags: "OSZAPC", undef: "AO" }],
  ];
  const rows: Row[] = [];
  for (const [n, name, sem, extra] of kinds) {
    const hot = n === 4 || n === 5 || n === 7 ? { hot: 1 as const } : {};
    const base = { name, maybe: true, undef: "O", ...extra, sem };
    rows.push(
      { ...base, op: `C0 /${n}`, args: "Eb+,Iub" },
      { ...base, op: `C1 /${n}`, args: "Ev+,Iub", ...hot },
      { ...base, op: `D0 /${n}`, args: "Eb+,1" },
      { ...base, op: `D1 /${n}`, args: "Ev+,1", ...hot },
      { ...base, op: `D2 /${n}`, args: "Eb+,CL" },
      { ...base, op: `D3 /${n}`, args: "Ev+,CL", ...hot },
    );
  }
  return rows;
}

export const ROWS: readonly Row[] = [
  ...shiftRows(),
  {
    op: "0F A4 /r",
    name: "SHLD",
    args: "Ev+,Gv,Iub",
    flags: "OSZAPC",
    undef: "OA",
    maybe: true,
    sem: doubleShift(true),
  },
  {
    op: "0F A5 /r",
    name: "SHLD",
    args: "Ev+,Gv,CL",
    flags: "OSZAPC",
    undef: "OA",
    maybe: true,
    sem: doubleShift(true),
  },
  {
    op: "0F AC /r",
    name: "SHRD",
    args: "Ev+,Gv,Iub",
    flags: "OSZAPC",
    undef: "OA",
    maybe: true,
    sem: doubleShift(false),
  },
  {
    op: "0F AD /r",
    name: "SHRD",
    args: "Ev+,Gv,CL",
    flags: "OSZAPC",
    undef: "OA",
    maybe: true,
    sem: doubleShift(false),
  },
  { op: "VEX L0 66 0F 38 F7 /r", name: "SHLX", args: "Gy=,Ey,By", sem: flagless("shl") },
  { op: "VEX L0 F2 0F 38 F7 /r", name: "SHRX", args: "Gy=,Ey,By", sem: flagless("shrU") },
  { op: "VEX L0 F3 0F 38 F7 /r", name: "SARX", args: "Gy=,Ey,By", sem: flagless("shrS") },
  { op: "VEX L0 F2 0F 3A F0 /r", name: "RORX", args: "Gy=,Ey,Iub", sem: flagless("rotr") },
];
