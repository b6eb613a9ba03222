/** ADD OR ADC SBB AND SUB XOR CMP, TEST, INC, DEC, NEG, NOT, XADD, CMPXCHG, ADCX, ADOX, decimal adjusts: [sdm2]. */
import { select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { AF, CF, EXC, reg, ZF } from "../state.ts";

type Alu = (o: Ops, a: Value, b: Value) => Value;

const add: Alu = (o, a, b) => {
  const r = o.let(a.add(b));
  o.flagsAdd(a, b, r);
  return r;
};
const sub: Alu = (o, a, b) => {
  const r = o.let(a.sub(b));
  o.flagsSub(a, b, r);
  return r;
};
const logic = (name: "and" | "or" | "xor"): Alu => (o, a, b) => {
  const r = o.let(a[name](b));
  o.flagsLogic(r);
  return r;
};
const adc: Alu = (o, a, b) => {
  const carry = o.cf();
  const r = o.let(a.add(b).add(o.size === 64 ? carry.zx() : carry));
  o.flagsLate("ADC", r, a.zx(), b.zx(), carry);
  return r;
};
const sbb: Alu = (o, a, b) => {
  const carry = o.cf();
  const r = o.let(a.sub(b).sub(o.size === 64 ? carry.zx() : carry));
  o.flagsLate("SBB", r, a.zx(), b.zx(), carry);
  return r;
};

const OPERATIONS: [string, Alu, "" | "C"][] = [
  ["ADD", add, ""],
  ["OR", logic("or"), ""],
  ["ADC", adc, "C"],
  ["SBB", sbb, "C"],
  ["AND", logic("and"), ""],
  ["SUB", sub, ""],
  ["XOR", logic("xor"), ""],
  ["CMP", sub, ""],
];

function aluRows(): Row[] {
  const rows: Row[] = [];
  OPERATIONS.forEach(([name, f, reads], n) => {
    const compare = name === "CMP";
    const dst = compare ? "" : "+";
    const sem = compare
      ? (o: Ops, a: Operand, b: Operand) => {
        const y = b.get();
        f(o, a.get(), y);
      }
      : (o: Ops, a: Operand, b: Operand) => {
        const y = b.get();
        a.update((x) => f(o, x, y));
      };
    const common = {
      name,
      flags: "OSZAPC",
      ...(reads ? { reads } : {}),
      ...(name === "AND" || name === "OR" || name === "XOR" ? { undef: "A" } : {}),
      lock: !compare,
      sem,
      ...(reads ? {} : { hot: 1 as const }),
    };
    const at = (k: number) => (n * 8 + k).toString(16).toUpperCase().padStart(2, "0");
    // The register forms of "Ev,Gv" and "Gv,Ev" differ only in bytes.
    rows.push(
      { op: `${at(0)} /r`, args: `Eb${dst},Gb`, ...common },
      { op: `${at(1)} /r`, args: `Ev${dst},Gv`, ...common },
      { op: `${at(2)} /r`, args: `Gb${dst},Eb`, ...common, lock: false },
      { op: `${at(3)} /r`, args: `Gv${dst},Ev`, ...common, lock: false },
      { op: at(4), args: `Ab${dst},Ib`, ...common, lock: false },
      { op: at(5), args: `Av${dst},Iz`, ...common, lock: false },
      { op: `80 /${n}`, args: `Eb${dst},Ib`, ...common },
      { op: `81 /${n}`, args: `Ev${dst},Iz`, ...common },
      { op: `82 /${n}`, args: `Eb${dst},Ib`, ...common, only: "legacy", hot: undefined as never },
      { op: `83 /${n}`, args: `Ev${dst},Ib`, ...common },
    );
  });
  return rows.map((r) => {
    const { hot, ...rest } = r;
    return hot ? r : rest;
  });
}

function test(o: Ops, a: Operand, b: Operand): void {
  const y = b.get();
  o.flagsLogic(o.let(a.get().and(y)));
}

function incDec(by: 1 | -1) {
  return (o: Ops, a: Operand) => {
    a.update((x) => {
      const r = o.let(x.add(by));
      if (o.flagsLive) o.flagsLate(by > 0 ? "INC" : "DEC", r, 0, 0, o.cf());
      return r;
    });
  };
}

function neg(o: Ops, a: Operand): void {
  a.update((x) => {
    const r = o.let(x.neg());
    const zero = o.let(x.sub(x));
    o.flagsSub(zero, x, r);
    return r;
  });
}

function not(_o: Ops, a: Operand): void {
  a.update((x) => x.not());
}

function xadd(o: Ops, a: Operand, b: Operand): void {
  const y = b.get();
  let old: Value | undefined;
  a.update((x) => {
    old = x;
    return add(o, x, y);
  });
  // With the same register twice the sum stays: it is written last.
  if (a.isMemory) b.set(old!);
  else {
    b.set(old!);
    a.set(o.let(old!.add(y)));
  }
}

function cmpxchg(o: Ops, a: Operand, b: Operand): void {
  const acc = o.gprAt(0, o.size);
  const y = b.get();
  const equal = o.c.variable("i32");
  if (!a.isMemory) {
    // A register that does not match is not written at all: its upper half stays, and on success that of RAX does.
    const old = o.let(a.get());
    o.flagsSub(acc, old, o.let(acc.sub(old)));
    o.c.if(old.eq(acc), () => a.set(y), () => o.setGprAt(0, o.size, old));
    return;
  }
  let old: Value | undefined;
  a.update((x) => {
    old = x;
    equal.set(x.eq(acc));
    return select(equal.get(), y, x);
  });
  o.flagsSub(acc, old!, o.let(acc.sub(old!)));
  o.c.if(equal.get().eqz(), () => o.setGprAt(0, o.size, old!));
}

/** CMPXCHG8B and CMPXCHG16B: only ZF changes. */
function cmpxchgPair(o: Ops, bits: 32 | 64): void {
  const c = o.c, bytes = bits / 8;
  const ea = c.let(o.ea.get());
  if (bits === 64) o.gpIf(ea.and(15).bool());
  let equal: Value, lo: Value, hi: Value;
  if (o.locked && bits === 64) {
    const at = o.writeAt(ea, 16);
    [equal, lo, hi] = c.call(o.deep("locked.pair"), o.cpu, at, ...[0, 2, 3, 1].map((n) => o.gpr(n))) as [
      Value,
      Value,
      Value,
    ];
  } else if (o.locked) {
    const pair = (high: number, low: number) => o.let(o.gprAt(high, 32).zx().shl(32).or(o.gprAt(low, 32).zx()));
    const expected = pair(2, 0), wanted = pair(1, 3), same = c.variable("i32"), old = c.variable("i64");
    o.modify(ea, 64, (x) => {
      old.set(x);
      same.set(x.eq(expected));
      return select(same.get(), wanted, x);
    });
    [equal, lo, hi] = [same.get(), old.get().lo(), old.get().shrU(32).lo()];
  } else {
    const at = o.writeAt(ea, 2 * bytes);
    lo = o.loadAt(at, bits), hi = o.loadAt(at, bits, bytes);
    equal = o.let(lo.eq(o.gprAt(0, bits)).and(hi.eq(o.gprAt(2, bits))));
    o.storeAt(at, bits, select(equal, o.gprAt(3, bits), lo));
    o.storeAt(at, bits, select(equal, o.gprAt(1, bits), hi), bytes);
    o.commit(at);
  }
  const flags = o.let(o.getFlags().and(~ZF));
  o.c.if(equal, () => {}, () => {
    o.setGprAt(0, bits, lo);
    o.setGprAt(2, bits, hi);
  });
  o.setFlags(flags.or(equal.shl(6)));
}

/** ADCX (flag bit 0) and ADOX (flag bit 11): one carry chain, no other flag. */
function adx(bit: 0 | 11) {
  return (o: Ops, a: Operand, b: Operand) => {
    const flags = o.let(o.getFlags());
    const carry = o.let(flags.shrU(bit).and(1));
    const x = a.get(), y = b.get();
    const partial = o.let(x.add(y));
    const r = o.let(partial.add(o.size === 64 ? carry.zx() : carry));
    const out = partial.ltU(x).or(r.ltU(partial));
    a.set(r);
    o.setFlags(flags.and(~(1 << bit)).or(out.shl(bit)));
  };
}

/** DAA and DAS: [sdm2 DAA]. */
function decimalAdjust(subtract: boolean) {
  return (o: Ops) => {
    const c = o.c, flags = o.let(o.getFlags()), old = o.gprAt(0, 8);
    const al = c.variable("i32", old), cf = c.variable("i32", 0), af = c.variable("i32", 0);
    const step = (n: number) => al.set(subtract ? al.get().sub(n) : al.get().add(n));
    c.if(old.and(15).gtU(9).or(flags.and(AF)), () => {
      step(6);
      cf.set(flags.and(CF).or(al.get().shrU(8).and(1)));
      af.set(1);
    });
    c.if(old.gtU(0x99).or(flags.and(CF)), () => {
      step(0x60);
      cf.set(1);
    });
    o.setGprAt(0, 8, al.get());
    o.flagsResult(o.let(al.get().and(0xff)), () => cf.get().or(af.get().shl(4)), 8);
  };
}
/** AAA and AAS: [sdm2 AAA]. */
function asciiAdjust(subtract: boolean) {
  return (o: Ops) => {
    const c = o.c, flags = o.let(o.getFlags()), ax = c.variable("i32", o.gprAt(0, 16));
    const adjust = o.let(ax.get().and(15).gtU(9).or(flags.shrU(4).and(1)));
    c.if(adjust, () => ax.set(subtract ? ax.get().sub(0x106) : ax.get().add(0x106)));
    o.setGprAt(0, 16, ax.get().and(0xff0f));
    o.flagsResult(o.let(ax.get().and(0xf)), () => select(adjust, o.let(adjust.or(adjust).mul(CF | AF)), 0), 8);
  };
}
function aam(o: Ops, b: Operand): void {
  const d = b.get();
  o.faultIf(d.eqz(), EXC.DE);
  const al = o.gprAt(0, 8);
  o.c.st8(o.cpu, al.divU(d), reg(0) + 1);
  o.setGprAt(0, 8, o.let(al.remU(d)));
  o.flagsLogic(o.gprAt(0, 8), 8);
}
function aad(o: Ops, b: Operand): void {
  const r = o.let(o.gprAt(0, 8).add(o.c.ld8u(o.cpu, reg(0) + 1).mul(b.get())).and(0xff));
  o.setGprAt(0, 16, r);
  o.flagsLogic(r, 8);
}

export const ROWS: readonly Row[] = [
  ...aluRows(),
  { op: "84 /r", name: "TEST", args: "Eb,Gb", flags: "OSZAPC", undef: "A", hot: 1, sem: test },
  { op: "85 /r", name: "TEST", args: "Ev,Gv", flags: "OSZAPC", undef: "A", hot: 1, sem: test },
  { op: "A8", name: "TEST", args: "Ab,Ib", flags: "OSZAPC", undef: "A", hot: 1, sem: test },
  { op: "A9", name: "TEST", args: "Av,Iz", flags: "OSZAPC", undef: "A", hot: 1, sem: test },
  { op: "F6 /0", name: "TEST", args: "Eb,Ib", flags: "OSZAPC", undef: "A", hot: 1, sem: test },
  { op: "F7 /0", name: "TEST", args: "Ev,Iz", flags: "OSZAPC", undef: "A", hot: 1, sem: test },
  { op: "F6 /1", name: "TEST", args: "Eb,Ib", flags: "OSZAPC", undef: "A", sem: test },
  { op: "F7 /1", name: "TEST", args: "Ev,Iz", flags: "OSZAPC", undef: "A", sem: test },
  { op: "FE /0", name: "INC", args: "Eb+", flags: "OSZAP", lock: true, sem: incDec(1) },
  { op: "FF /0", name: "INC", args: "Ev+", flags: "OSZAP", lock: true, hot: 1, sem: incDec(1) },
  { op: "FE /1", name: "DEC", args: "Eb+", flags: "OSZAP", lock: true, sem: incDec(-1) },
  { op: "FF /1", name: "DEC", args: "Ev+", flags: "OSZAP", lock: true, hot: 1, sem: incDec(-1) },
  { op: "40 +r", name: "INC", args: "Zv+", flags: "OSZAP", only: "legacy", sem: incDec(1) },
  { op: "48 +r", name: "DEC", args: "Zv+", flags: "OSZAP", only: "legacy", sem: incDec(-1) },
  { op: "F6 /2", name: "NOT", args: "Eb+", lock: true, sem: not },
  { op: "F7 /2", name: "NOT", args: "Ev+", lock: true, hot: 1, sem: not },
  { op: "F6 /3", name: "NEG", args: "Eb+", flags: "OSZAPC", lock: true, sem: neg },
  { op: "F7 /3", name: "NEG", args: "Ev+", flags: "OSZAPC", lock: true, hot: 1, sem: neg },
  { op: "0F C0 /r", name: "XADD", args: "Eb+,Gb+", flags: "OSZAPC", lock: true, sem: xadd },
  { op: "0F C1 /r", name: "XADD", args: "Ev+,Gv+", flags: "OSZAPC", lock: true, sem: xadd },
  { op: "0F B0 /r", name: "CMPXCHG", args: "Eb+,Gb", flags: "OSZAPC", lock: true, sem: cmpxchg },
  { op: "0F B1 /r", name: "CMPXCHG", args: "Ev+,Gv", flags: "OSZAPC", lock: true, sem: cmpxchg },
  { op: "W0 0F C7 /1", name: "CMPXCHG8B", args: "Mq+", flags: "Z", lock: true, sem: (o) => cmpxchgPair(o, 32) },
  {
    op: "W1 0F C7 /1",
    name: "CMPXCHG16B",
    args: "Mu+",
    flags: "Z",
    lock: true,
    only: "64",
    sem: (o) => cmpxchgPair(o, 64),
  },
  { op: "66 0F 38 F6 /r", name: "ADCX", args: "Gy+,Ey", flags: "C", reads: "C", no16: true, sem: adx(0) },
  { op: "F3 0F 38 F6 /r", name: "ADOX", args: "Gy+,Ey", flags: "O", reads: "O", no16: true, sem: adx(11) },
  { op: "27", name: "DAA", flags: "OSZAPC", undef: "O", only: "legacy", sem: decimalAdjust(false) },
  { op: "2F", name: "DAS", flags: "OSZAPC", undef: "O", only: "legacy", sem: decimalAdjust(true) },
  { op: "37", name: "AAA", flags: "OSZAPC", undef: "OSZP", only: "legacy", sem: asciiAdjust(false) },
  { op: "3F", name: "AAS", flags: "OSZAPC", undef: "OSZP", only: "legacy", sem: asciiAdjust(true) },
  { op: "D4", name: "AAM", args: "Iub", flags: "OSZAPC", undef: "OAC", only: "legacy", sem: aam },
  { op: "D5", name: "AAD", args: "Iub", flags: "OSZAPC", undef: "OAC", only: "legacy", sem: aad },
];
