/** x87 arithmetic and comparison: [sdm2]. */
import type { Module } from "../../../wasm/module.ts";
import { i32, select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { CF, PF, ZF } from "../state.ts";
import { COMPARED } from "../x87/arith.ts";
import {
  callFloat,
  callX,
  finish,
  finishThen,
  type Float,
  type Fpu,
  fpuOp,
  FSW,
  setOperandPointer,
  stackFault,
} from "../x87/fpu.ts";

/** ADD MUL – – SUB SUBR DIV DIVR, by the reg field of ModRM: a is the destination, b the source. */
const OPERATIONS: readonly (readonly [number, string, (x: Fpu, f: CpuFuncs, a: Float, b: Float) => Float])[] = [
  [0, "ADD", (x, f, a, b) => callFloat(x, f, "add", a.sig, a.se, b.sig, b.se, 0)],
  [1, "MUL", (x, f, a, b) => callFloat(x, f, "mul", a.sig, a.se, b.sig, b.se)],
  [4, "SUB", (x, f, a, b) => callFloat(x, f, "add", a.sig, a.se, b.sig, b.se, 0x8000)],
  [5, "SUBR", (x, f, a, b) => callFloat(x, f, "add", b.sig, b.se, a.sig, a.se, 0x8000)],
  [6, "DIV", (x, f, a, b) => callFloat(x, f, "div", a.sig, a.se, b.sig, b.se)],
  [7, "DIVR", (x, f, a, b) => callFloat(x, f, "div", b.sig, b.se, a.sig, a.se)],
];

export function defineX87Arith(m: Module, f: CpuFuncs): void {
  for (const [, name, operation] of OPERATIONS) {
    // (destination, source, 1 to pop)
    fpuOp(m, f, `f${name}`, ["i32", "i32", "i32"], (o, x, to, from, pop) => {
      x.clear();
      x.setDenormalSource(0);
      o.c.if(x.empty(to!).or(x.empty(from!)), () => {
        stackFault(x, false);
        finishThen(o, x, () => {
          x.set(to!, x.indefinite());
          o.c.if(pop!, () => x.pop());
        });
      }, () => {
        const r = operation(x, f, x.get(to!), x.get(from!));
        finishThen(o, x, () => {
          x.set(to!, r);
          o.c.if(pop!, () => x.pop());
        });
      });
    });
    // (number from memory)
    fpuOp(m, f, `f${name}.m`, ["i64", "i32"], (o, x, sig, se) => {
      x.clear();
      o.c.if(x.empty(0), () => {
        stackFault(x, false);
        finishThen(o, x, () => x.set(0, x.indefinite()));
      }, () => {
        const r = operation(x, f, x.get(0), { sig: sig!, se: se! });
        finishThen(o, x, () => x.set(0, r));
      });
    });
  }

  // (ST(0)'s partner, 1 if quiet NaNs are invalid, registers to pop)
  const popped = (o: Ops, x: Fpu, pops: Value) => {
    o.c.if(pops, () => x.pop());
    o.c.if(pops.eq(2), () => x.pop());
  };
  const compare = (
    o: Ops,
    x: Fpu,
    missing: Value,
    b: () => Float,
    quietToo: Value,
    pops: Value,
    give: (cc: Value) => void,
  ) => {
    const c = o.c, cc = c.variable("i32", COMPARED.UNORDERED);
    x.clear();
    c.if(missing, () => stackFault(x, false), () => {
      const a = x.get(0), other = b();
      cc.set(callX(x, f, "compare", a.sig, a.se, other.sig, other.se, quietToo)[0]!);
    });
    finish(o);
    give(cc.get());
    c.if(x.unmasked(FSW.IE | FSW.DE).eqz(), () => popped(o, x, pops));
  };
  fpuOp(m, f, "fcom", ["i32", "i32", "i32"], (o, x, i, quietToo, pops) => {
    x.setDenormalSource(0);
    compare(o, x, x.empty(0).or(x.empty(i!)), () => x.get(i!), quietToo!, pops!, (cc) => x.setConditions(cc));
  });
  fpuOp(m, f, "fcom.m", ["i64", "i32", "i32"], (o, x, sig, se, pops) => {
    compare(o, x, x.empty(0), () => ({ sig: sig!, se: se! }), i32(1), pops!, (cc) => x.setConditions(cc));
  });
  fpuOp(m, f, "fcomi", ["i32", "i32", "i32"], (o, x, i, quietToo, pops) => {
    x.setDenormalSource(0);
    // Intel's manual clears C1 here; AMD's processors leave it alone unless the stack faults.
    const b = () => {
      x.keepC1();
      return x.get(i!);
    };
    compare(o, x, x.empty(0).or(x.empty(i!)), b, quietToo!, pops!, (cc) => {
      const equal = select(cc.and(FSW.C3), i32(ZF), 0), unordered = select(cc.and(FSW.C2), i32(PF), 0);
      o.setFlags(equal.or(unordered).or(select(cc.and(FSW.C0), i32(CF), 0)));
    });
  });

  for (const [name, func] of [["fsqrt", "sqrt"], ["frndint", "roundInt"]] as const) {
    fpuOp(m, f, name, [], (o, x) => {
      x.clear();
      x.setDenormalSource(0);
      o.c.if(x.empty(0), () => {
        stackFault(x, false);
        finishThen(o, x, () => x.set(0, x.indefinite()));
      }, () => {
        const a = x.get(0), r = callFloat(x, f, func, a.sig, a.se);
        finishThen(o, x, () => x.set(0, r));
      });
    });
  }
}

// ---- semantics -------------------------------------------------------------------------------------------------------------

type Source = "F32" | "F64" | 16 | 32;
function source(o: Ops, a: Operand, kind: Source): Float {
  return typeof kind === "string"
    ? callFloat(o, o.f, `from${kind}`, a.get())
    : callFloat(o, o.f, "fromInt", o.sext(a.get(), kind));
}
const withMemory = (name: string, kind: Source, ...more: number[]) => (o: Ops, a: Operand) => {
  const b = source(o, a, kind);
  o.callF(o.deep(`x87.${name}`), o.cpu, b.sig, b.se, ...more);
  setOperandPointer(o);
};
const toTop = (name: string) => (o: Ops, i: Value) => {
  o.callF(o.deep(`x87.${name}`), o.cpu, 0, i, 0);
};
const toRegister = (name: string, pop: 0 | 1) => (o: Ops, i: Value) => {
  o.callF(o.deep(`x87.${name}`), o.cpu, i, 0, pop);
};
const com = (name: "fcom" | "fcomi", quietToo: 0 | 1, pops: 0 | 1) => (o: Ops, i: Value) => {
  o.callF(o.deep(`x87.${name}`), o.cpu, i, quietToo, pops);
};
const comTwo = (quietToo: 0 | 1) => (o: Ops) => {
  o.callF(o.deep("x87.fcom"), o.cpu, 1, quietToo, 2);
};
/** With +0.0. */
function ftst(o: Ops): void {
  o.c.call(o.deep("x87.fromInt"), o.cpu, 0);
  o.callF(o.deep("x87.fcom.m"), o.cpu, 0, 0, 0);
}
const call = (name: string) => (o: Ops) => {
  o.callF(o.deep(`x87.${name}`), o.cpu);
};

const x87 = { unit: "x87" } as const;
const hex = (n: number) => n.toString(16).toUpperCase();

/** Memory forms: escape byte, letters, format, and whether the mnemonic has an I. */
const MEMORY: readonly (readonly [string, string, Source, string])[] = [
  ["D8", "Md", "F32", "F"],
  ["DC", "Mq", "F64", "F"],
  ["DA", "Md", 32, "FI"],
  ["DE", "Mw", 16, "FI"],
];

function arithRows(): Row[] {
  return OPERATIONS.flatMap(([n, name]): Row[] => {
    // To ST(i), SUB and SUBR, and DIV and DIVR, change places in the encoding.
    const reversed = n >= 4 ? n ^ 1 : n;
    return [
      ...MEMORY.map(([escape, args, kind, letter]): Row => ({
        op: `${escape} /${n}`,
        name: letter + name,
        args,
        ...x87,
        sem: withMemory(`f${name}.m`, kind),
      })),
      { op: `D8 ${hex(0xc0 + 8 * n)}+`, name: `F${name}`, args: "F", ...x87, sem: toTop(`f${name}`) },
      { op: `DC ${hex(0xc0 + 8 * reversed)}+`, name: `F${name}`, args: "F", ...x87, sem: toRegister(`f${name}`, 0) },
      { op: `DE ${hex(0xc0 + 8 * reversed)}+`, name: `F${name}P`, args: "F", ...x87, sem: toRegister(`f${name}`, 1) },
    ];
  });
}
function compareRows(): Row[] {
  return MEMORY.flatMap(([escape, args, kind, letter]): Row[] => [
    { op: `${escape} /2`, name: `${letter}COM`, args, ...x87, sem: withMemory("fcom.m", kind, 0) },
    { op: `${escape} /3`, name: `${letter}COMP`, args, ...x87, sem: withMemory("fcom.m", kind, 1) },
  ]);
}

export const ROWS: readonly Row[] = [
  ...arithRows(),
  ...compareRows(),
  { op: "D8 D0+", name: "FCOM", args: "F", ...x87, sem: com("fcom", 1, 0) },
  { op: "D8 D8+", name: "FCOMP", args: "F", ...x87, sem: com("fcom", 1, 1) },
  // Other encodings of the same.
  { op: "DC D0+", name: "FCOM", args: "F", ...x87, sem: com("fcom", 1, 0) },
  { op: "DC D8+", name: "FCOMP", args: "F", ...x87, sem: com("fcom", 1, 1) },
  { op: "DE D0+", name: "FCOMP", args: "F", ...x87, sem: com("fcom", 1, 1) },
  { op: "DE D9", name: "FCOMPP", ...x87, sem: comTwo(1) },
  { op: "DD E0+", name: "FUCOM", args: "F", ...x87, sem: com("fcom", 0, 0) },
  { op: "DD E8+", name: "FUCOMP", args: "F", ...x87, sem: com("fcom", 0, 1) },
  { op: "DA E9", name: "FUCOMPP", ...x87, sem: comTwo(0) },
  { op: "DB F0+", name: "FCOMI", args: "F", flags: "OSZAPC", ...x87, sem: com("fcomi", 1, 0) },
  { op: "DF F0+", name: "FCOMIP", args: "F", flags: "OSZAPC", ...x87, sem: com("fcomi", 1, 1) },
  { op: "DB E8+", name: "FUCOMI", args: "F", flags: "OSZAPC", ...x87, sem: com("fcomi", 0, 0) },
  { op: "DF E8+", name: "FUCOMIP", args: "F", flags: "OSZAPC", ...x87, sem: com("fcomi", 0, 1) },
  { op: "D9 E4", name: "FTST", ...x87, sem: ftst },
  { op: "D9 FA", name: "FSQRT", ...x87, sem: call("fsqrt") },
  { op: "D9 FC", name: "FRNDINT", ...x87, sem: call("frndint") },
];
