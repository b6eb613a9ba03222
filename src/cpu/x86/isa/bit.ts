/** BT family, BSF/BSR, TZCNT/LZCNT, POPCNT, CRC32, BMI1, PDEP/PEXT/BZHI: [sdm2]. */
import type { Module } from "../../../wasm/module.ts";
import { i64, select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { CF } from "../state.ts";

/** CF from a bit; everything else stays (ZF by the manual; OF, SF, AF, PF are undefined). */
function setCarry(o: Ops, cf: Value): void {
  o.replaceFlags(CF, o.let(cf));
}

type BitOp = "BT" | "BTS" | "BTR" | "BTC";

function change(o: Ops, kind: BitOp, x: Value, mask: Value): Value {
  void o;
  return kind === "BTS" ? x.or(mask) : kind === "BTR" ? x.and(mask.not()) : x.xor(mask);
}

/** BT r/m, r: with memory, the bit offset is a signed number that reaches beyond the operand. */
function bitTest(kind: BitOp, immediate: boolean) {
  return (o: Ops, a: Operand, b: Operand) => {
    const size = o.size, y = o.let(o.size === 64 ? b.get().zx() : b.get());
    const one = (bit: Value): Value => size === 64 ? i64(1).shl(bit) : bit.sub(bit).add(1).shl(bit);
    const bit = o.let(y.and(size - 1));
    if (!a.isMemory || immediate) {
      if (kind === "BT") return setCarry(o, a.get().shrU(bit).lo().and(1));
      let carry: Value | undefined;
      a.update((x) => {
        carry = o.let(x.shrU(bit).lo().and(1));
        return o.let(change(o, kind, x, o.let(one(bit))));
      });
      return setCarry(o, carry!);
    }
    const bytes = size / 8;
    const shift = Math.log2(size);
    const address = o.let(o.ea.get().add(o.sext(y).shrS(shift).mul(bytes)));
    if (kind === "BT") return setCarry(o, o.read(address, size).shrU(bit).lo().and(1));
    let carry: Value | undefined;
    o.modify(address, size, (x) => {
      carry = o.let(x.shrU(bit).lo().and(1));
      return change(o, kind, x, o.let(one(bit)));
    });
    setCarry(o, carry!);
  };
}

/** BSF and BSR: a zero source sets ZF and leaves the destination as it was. */
function scan(forward: boolean) {
  return (o: Ops, a: Operand, b: Operand) => {
    const x = o.let(b.get()), zero = o.let(x.eqz());
    const index = forward ? x.ctz() : (x.type === "i64" ? i64(63).sub(x.clz()) : x.sub(x).add(31).sub(x.clz()));
    const found = o.let(index);
    o.c.if(zero.eqz(), () => a.set(found));
    o.flagsResult(o.let(zero.eqz()), () => o.let(zero.and(0)), 32);
  };
}
/** TZCNT and LZCNT: CF = source zero, ZF = result zero. */
function count(trailing: boolean) {
  return (o: Ops, a: Operand, b: Operand) => {
    const x = o.let(b.get()), size = o.size;
    let n: Value;
    if (size === 16) n = trailing ? x.or(0x10000).ctz() : x.clz().sub(16);
    else n = trailing ? x.ctz() : x.clz();
    const r = o.let(n);
    a.set(r);
    o.setFlags(x.eqz().or(r.eqz().shl(6)));
  };
}
function popcnt(o: Ops, a: Operand, b: Operand): void {
  const x = o.let(b.get());
  a.set(x.popcnt());
  o.setFlags(x.eqz().shl(6));
}

/** ANDN, BLSI, BLSMSK, BLSR, BEXTR, BZHI set SF, ZF from the result, clear OF, and give CF their own meaning. */
function andn(o: Ops, a: Operand, b: Operand, c: Operand): void {
  const r = o.let(b.get().not().and(c.get()));
  a.set(r);
  o.flagsLogic(r);
}
function lowest(kind: "BLSI" | "BLSMSK" | "BLSR") {
  return (o: Ops, a: Operand, b: Operand) => {
    const x = o.let(b.get());
    const r = o.let(kind === "BLSI" ? x.neg().and(x) : kind === "BLSMSK" ? x.sub(1).xor(x) : x.sub(1).and(x));
    a.set(r);
    o.flagsResult(r, () => kind === "BLSI" ? x.bool() : x.eqz());
  };
}
function bextr(o: Ops, a: Operand, b: Operand, c: Operand): void {
  const x = o.let(b.get().zx()), control = o.let(c.get().lo());
  const start = o.let(control.and(0xff)), length = o.let(control.shrU(8).and(0xff));
  const shifted = o.let(select(start.ltU(64), x.shrU(start.zx()), i64(0)));
  const mask = select(length.ltU(64), o.let(i64(1).shl(length.zx()).sub(1)), i64(-1));
  const r = o.let(shifted.and(mask));
  const cut = o.size === 64 ? r : o.let(r.lo());
  a.set(cut);
  o.flagsResult(cut, () => o.let(start.and(0)));
}
function bzhi(o: Ops, a: Operand, b: Operand, c: Operand): void {
  const x = o.let(b.get()), n = o.let(c.get().lo().and(0xff)), size = o.size;
  const wide = o.let(x.zx());
  const kept = select(n.ltU(size), o.let(wide.and(i64(1).shl(n.zx()).sub(1))), wide);
  const r = o.let(size === 64 ? kept : kept.lo());
  a.set(r);
  o.flagsResult(r, () => n.geU(size));
}

export function defineBit(m: Module, f: CpuFuncs): void {
  // PDEP: source bits go to the mask's set bits, low first. PEXT: the reverse. One step a set bit of the mask.
  f.more.set(
    "pdep",
    m.func("pdep", ["i64", "i64"], ["i64"], (c) => {
      const source = c.paramVar(0), mask = c.paramVar(1), r = c.variable("i64", 0);
      c.block((end) =>
        c.loop((again) => {
          c.brIf(end, mask.get().eqz());
          const bit = c.let(mask.get().neg().and(mask.get()));
          r.set(r.get().or(select(source.get().lo().and(1), bit, 0)));
          source.set(source.get().shrU(1));
          mask.set(mask.get().xor(bit));
          c.br(again);
        })
      );
      c.return(r.get());
    }),
  );
  f.more.set(
    "pext",
    m.func("pext", ["i64", "i64"], ["i64"], (c) => {
      const source = c.param(0), mask = c.paramVar(1), r = c.variable("i64", 0), to = c.variable("i64", 1);
      c.block((end) =>
        c.loop((again) => {
          c.brIf(end, mask.get().eqz());
          const bit = c.let(mask.get().neg().and(mask.get()));
          r.set(r.get().or(select(source.and(bit).bool(), to.get(), 0)));
          to.set(to.get().shl(1));
          mask.set(mask.get().xor(bit));
          c.br(again);
        })
      );
      c.return(r.get());
    }),
  );
  // CRC-32C of one byte more, bit-reflected polynomial 82F63B78h. (crc, value, bytes).
  f.more.set(
    "crc32c",
    m.func("crc32c", ["i32", "i64", "i32"], ["i32"], (c) => {
      const crc = c.paramVar(0), value = c.paramVar(1), left = c.paramVar(2);
      c.loop((again) => {
        crc.set(crc.get().xor(value.get().lo().and(0xff)));
        for (let i = 0; i < 8; i++) {
          crc.set(crc.get().shrU(1).xor(crc.get().and(1).neg().and(0x82f63b78 | 0)));
        }
        value.set(value.get().shrU(8));
        left.set(left.get().sub(1));
        c.brIf(again, left.get());
      });
      c.return(crc.get());
    }),
  );
}

function deposit(name: "pdep" | "pext") {
  return (o: Ops, a: Operand, b: Operand, c: Operand) => {
    const r = o.c.call1(o.deep(name), b.get().zx(), c.get().zx());
    a.set(o.size === 64 ? r : r.lo());
  };
}
function crc32(o: Ops, a: Operand, b: Operand): void {
  const r = o.c.call1(o.deep("crc32c"), a.get().lo(), b.get().zx(), b.bits / 8);
  a.set(a.bits === 64 ? r.zx() : r);
}

const KINDS: [number, BitOp, number][] = [[4, "BT", 0xa3], [5, "BTS", 0xab], [6, "BTR", 0xb3], [7, "BTC", 0xbb]];
const BT_FLAGS = { flags: "OSAPC", undef: "OSAP" } as const;
const BMI = { flags: "OSZAPC", undef: "AP" } as const;
const hex2 = (n: number) => n.toString(16).toUpperCase();

export const ROWS: readonly Row[] = [
  ...KINDS.flatMap(([n, name, code]): Row[] => {
    const mark = name === "BT" ? "" : "+", lock = name !== "BT";
    return [
      { op: `0F ${hex2(code)} /r`, name, args: `Ev${mark},Gv`, ...BT_FLAGS, lock, sem: bitTest(name, false) },
      { op: `0F BA /${n}`, name, args: `Ev${mark},Iub`, ...BT_FLAGS, lock, sem: bitTest(name, true) },
    ];
  }),
  { op: "0F BC /r", name: "BSF", args: "Gv+,Ev", flags: "OSZAPC", undef: "OSAPC", sem: scan(true) },
  { op: "0F BD /r", name: "BSR", args: "Gv+,Ev", flags: "OSZAPC", undef: "OSAPC", sem: scan(false) },
  { op: "F3 0F BC /r", name: "TZCNT", args: "Gv=,Ev", flags: "OSZAPC", undef: "OSAP", sem: count(true) },
  { op: "F3 0F BD /r", name: "LZCNT", args: "Gv=,Ev", flags: "OSZAPC", undef: "OSAP", sem: count(false) },
  { op: "F3 0F B8 /r", name: "POPCNT", args: "Gv=,Ev", flags: "OSZAPC", sem: popcnt },
  { op: "F2 0F 38 F0 /r", name: "CRC32", args: "Gy+,Eb", sem: crc32 },
  { op: "F2 0F 38 F1 /r", name: "CRC32", args: "Gd+,Ev", sem: crc32 },
  { op: "VEX L0 NP 0F 38 F2 /r", name: "ANDN", args: "Gy=,By,Ey", ...BMI, sem: andn },
  { op: "VEX L0 NP 0F 38 F3 /1", name: "BLSR", args: "By=,Ey", ...BMI, sem: lowest("BLSR") },
  { op: "VEX L0 NP 0F 38 F3 /2", name: "BLSMSK", args: "By=,Ey", ...BMI, sem: lowest("BLSMSK") },
  { op: "VEX L0 NP 0F 38 F3 /3", name: "BLSI", args: "By=,Ey", ...BMI, sem: lowest("BLSI") },
  { op: "VEX L0 NP 0F 38 F7 /r", name: "BEXTR", args: "Gy=,Ey,By", flags: "OSZAPC", undef: "SAP", sem: bextr },
  { op: "VEX L0 NP 0F 38 F5 /r", name: "BZHI", args: "Gy=,Ey,By", ...BMI, sem: bzhi },
  { op: "VEX L0 F2 0F 38 F5 /r", name: "PDEP", args: "Gy=,By,Ey", sem: deposit("pdep") },
  { op: "VEX L0 F3 0F 38 F5 /r", name: "PEXT", args: "Gy=,By,Ey", sem: deposit("pext") },
];
