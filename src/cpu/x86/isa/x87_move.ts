/** x87 loads, stores, exchanges, constants, sign changes, FXAM: [sdm2]. */
import type { Module } from "../../../wasm/module.ts";
import { i64, select, type Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { S } from "../state.ts";
import { BCD_INDEFINITE } from "../x87/convert.ts";
import {
  callFloat,
  callX,
  finish,
  finishThen,
  type Float,
  type Fpu,
  fpuOp,
  FSW,
  INDEFINITE,
  isDenormal,
  isNan,
  isNegative,
  isSignaling,
  isSpecial,
  isUnsupported,
  isZero,
  ONE,
  QUIET,
  RC,
  setOperandPointer,
  stackFault,
} from "../x87/fpu.ts";

export function defineX87Move(m: Module, f: CpuFuncs): void {
  // A denormal is pushed even when DE is not masked.
  const push = (o: Ops, x: Fpu, value: (set: (r: Float) => void) => void) => {
    const c = o.c, sig = c.variable("i64", INDEFINITE.sig), se = c.variable("i32", INDEFINITE.se);
    c.if(x.empty(-1).eqz(), () => stackFault(x, true), () => {
      value((r) => {
        sig.set(r.sig);
        se.set(r.se);
      });
    });
    finish(o);
    c.if(x.unmasked(FSW.IE).eqz(), () => x.push({ sig: sig.get(), se: se.get() }));
  };
  // (number): as it is.
  fpuOp(m, f, "load", ["i64", "i32"], (o, x, sig, se) => {
    x.clear();
    push(o, x, (set) => set({ sig: sig!, se: se! }));
  });
  // (number): converted from a narrower format, so a signaling NaN and a denormal are noticed.
  fpuOp(m, f, "loadNarrow", ["i64", "i32"], (o, x, sig, se) => {
    x.clear();
    push(o, x, (set) => {
      const signaling = o.let(isSignaling({ sig: sig!, se: se! }));
      x.raise(signaling.or(x.denormalSource()));
      set({ sig: o.let(sig!.or(select(signaling, i64(QUIET), 0))), se: se! });
    });
  });
  fpuOp(m, f, "loadRegister", ["i32"], (o, x, i) => {
    x.clear();
    o.c.if(x.empty(i!), () => {
      stackFault(x, false);
      finishThen(o, x, () => x.push(x.indefinite()));
    }, () => push(o, x, (set) => set(x.get(i!))));
  });
  // (significand cut off, sign and exponent, rounding: 0 exact, 1 nearest is down, 2 nearest is up)
  fpuOp(m, f, "loadConstant", ["i64", "i32", "i32"], (o, x, sig, se, rounding) => {
    x.clear();
    push(o, x, (set) => {
      const rc = x.rc();
      const up = rc.eq(RC.UP).and(rounding!.bool()).or(rc.eqz().and(rounding!.eq(2)));
      set({ sig: o.let(sig!.add(up.zx())), se: se! });
    });
  });

  // Stores ST(0): (address, 1 to pop). `forbids`: the exceptions that, unmasked, leave memory and the stack as they are. `write`
  // converts the number and gives what stores it; `indefinite` stores the answer to an empty register.
  const store = (
    name: string,
    forbids: number,
    write: (o: Ops, x: Fpu, a: Float, address: Value) => () => void,
    indefinite: (o: Ops, address: Value) => void,
  ) => {
    fpuOp(m, f, name, ["i64", "i32"], (o, x, address, pop) => {
      const c = o.c;
      x.clear();
      c.if(x.empty(0), () => {
        stackFault(x, false);
        c.if(x.masked(FSW.IE), () => indefinite(o, address!));
      }, () => {
        const put = write(o, x, x.get(0), address!);
        c.if(x.unmasked(forbids).eqz(), put);
      });
      finish(o);
      c.if(pop!.and(x.unmasked(forbids).eqz()), () => x.pop());
    });
  };
  const NARROW = FSW.IE | FSW.OE | FSW.UE;
  store("fst32", NARROW, (o, x, a, at) => {
    const [bits] = callX(x, f, "toF32", a.sig, a.se);
    return () => o.write(at, 32, bits!);
  }, (o, at) => o.write(at, 32, o.let(i64(0xffc0_0000).lo())));
  store("fst64", NARROW, (o, x, a, at) => {
    const [bits] = callX(x, f, "toF64", a.sig, a.se);
    return () => o.write(at, 64, bits!);
  }, (o, at) => o.write(at, 64, i64(0xfff8n << 48n)));
  const write80 = (o: Ops, address: Value, low: Value, high: Value) => {
    const at = o.writeAt(address, 10, false);
    o.c.st64(at, low);
    o.c.st16(at, high, 8);
    o.commit(at);
  };
  store("fst80", FSW.IE, (o, _x, a, at) => () => write80(o, at, a.sig, a.se), (o, at) => {
    write80(o, at, i64(INDEFINITE.sig), o.let(i64(INDEFINITE.se).lo()));
  });
  store("fbstp", FSW.IE, (o, x, a, at) => {
    const [low, high] = callX(x, f, "toBcd", a.sig, a.se);
    return () => write80(o, at, low!, high!);
  }, (o, at) => write80(o, at, i64(BCD_INDEFINITE.low), o.let(i64(BCD_INDEFINITE.high).lo())));
  for (const bits of [16, 32, 64] as const) {
    const writeInt = (o: Ops, at: Value, v: Value) => o.write(at, bits, bits === 64 ? v : v.lo());
    for (const truncate of [false, true]) {
      store(`${truncate ? "fisttp" : "fist"}${bits}`, FSW.IE, (o, x, a, at) => {
        const [v] = callX(x, f, "toInt", a.sig, a.se, bits, truncate ? RC.ZERO : x.rc());
        return () => writeInt(o, at, v!);
      }, (o, at) => writeInt(o, at, o.let(i64(1n << BigInt(bits - 1)))));
    }
  }

  // (i, 1 to pop)
  fpuOp(m, f, "fstRegister", ["i32", "i32"], (o, x, i, pop) => {
    const c = o.c, sig = c.variable("i64", INDEFINITE.sig), se = c.variable("i32", INDEFINITE.se);
    x.clear();
    c.if(x.empty(0), () => stackFault(x, false), () => {
      const a = x.get(0);
      sig.set(a.sig);
      se.set(a.se);
    });
    finishThen(o, x, () => {
      x.set(i!, { sig: sig.get(), se: se.get() });
      c.if(pop!, () => x.pop());
    });
  });
  // FSTPNCE, "no check for empty": an empty ST(0) is popped and not copied.
  fpuOp(m, f, "fstpnce", ["i32"], (o, x, i) => {
    x.clear();
    finish(o);
    o.c.if(x.empty(0).eqz(), () => x.set(i!, x.get(0)));
    x.pop();
  });
  fpuOp(m, f, "fxch", ["i32"], (o, x, i) => {
    const c = o.c;
    x.clear();
    const read = (n: Value | number): Float => {
      const sig = c.variable("i64", INDEFINITE.sig), se = c.variable("i32", INDEFINITE.se);
      c.if(x.empty(n), () => stackFault(x, false), () => {
        const v = x.get(n);
        sig.set(v.sig);
        se.set(v.se);
      });
      return { sig: sig.get(), se: se.get() };
    };
    const a = read(0), b = read(i!);
    finishThen(o, x, () => {
      x.set(0, b);
      x.set(i!, a);
    });
  });
  // (i, 0 or not: the condition)
  fpuOp(m, f, "fcmov", ["i32", "i32"], (o, x, i, condition) => {
    const c = o.c;
    x.clear();
    c.if(x.empty(0).or(x.empty(i!)), () => {
      stackFault(x, false);
      finishThen(o, x, () => x.set(0, x.indefinite()));
    }, () => {
      x.keepC1();
      finish(o);
      c.if(condition!, () => x.set(0, x.get(i!)));
    });
  });

  const sign = (name: string, change: (se: Value) => Value) =>
    fpuOp(m, f, name, [], (o, x) => {
      x.clear();
      o.c.if(x.empty(0), () => {
        stackFault(x, false);
        finishThen(o, x, () => x.set(0, x.indefinite()));
      }, () => {
        const a = x.get(0);
        finish(o);
        x.set(0, { sig: a.sig, se: change(a.se) });
      });
    });
  sign("fchs", (se) => se.xor(0x8000));
  sign("fabs", (se) => se.and(0x7fff));

  fpuOp(m, f, "fxam", [], (o, x) => {
    const c = o.c, a = x.get(0), code = c.variable("i32", FSW.C2);
    x.clear();
    x.raise(isNegative(a).shl(9));
    const is = (condition: Value, bits: number) => c.if(condition, () => code.set(bits));
    is(isDenormal(a), FSW.C3 | FSW.C2);
    is(isZero(a), FSW.C3);
    is(isSpecial(a), FSW.C2 | FSW.C0);
    is(isNan(a), FSW.C0);
    is(isUnsupported(a), 0);
    is(x.empty(0), FSW.C3 | FSW.C0);
    finish(o);
    x.setConditions(code.get());
  });
}

// ---- semantics -------------------------------------------------------------------------------------------------------------

const call = (name: string, ...args: number[]) => (o: Ops) => {
  o.callF(o.deep(`x87.${name}`), o.cpu, ...args);
};
const callI = (name: string, ...more: number[]) => (o: Ops, i: Value) => {
  o.callF(o.deep(`x87.${name}`), o.cpu, i, ...more);
};
/** FLD m32, m64. */
const loadFloat = (bits: 32 | 64) => (o: Ops, a: Operand) => {
  const r = callFloat(o, o.f, `fromF${bits}`, a.get());
  o.callF(o.deep("x87.loadNarrow"), o.cpu, r.sig, r.se);
  setOperandPointer(o);
};
/** FILD. */
const loadInt = (bits: 16 | 32 | 64) => (o: Ops, a: Operand) => {
  const r = callFloat(o, o.f, "fromInt", o.sext(a.get(), bits));
  o.callF(o.deep("x87.load"), o.cpu, r.sig, r.se);
  setOperandPointer(o);
};
function read80(o: Ops): Float {
  const at = o.readAt(o.ea.get(), 10);
  return { sig: o.c.ld64(at), se: o.c.ld16u(at, 8) };
}
function fld80(o: Ops): void {
  const a = read80(o);
  o.callF(o.deep("x87.load"), o.cpu, a.sig, a.se);
  setOperandPointer(o);
}
function fbld(o: Ops): void {
  const a = read80(o), r = callFloat(o, o.f, "fromBcd", a.sig, a.se);
  o.callF(o.deep("x87.load"), o.cpu, r.sig, r.se);
  setOperandPointer(o);
}
const storeTo = (name: string, pop: 0 | 1) => (o: Ops) => {
  // A page fault goes before an unmasked exception that keeps the number from being stored.
  const bytes = name === "fbstp" ? 10 : Number(/\d+$/.exec(name)![0]) / 8;
  o.c.if(o.c.ld16u(o.cpu, S.fcw).and(0x3f).ne(0x3f), () => {
    o.callF(o.deep("probeWrite"), o.cpu, o.ea.get(), bytes);
  });
  o.callF(o.deep(`x87.${name}`), o.cpu, o.ea.get(), pop);
  setOperandPointer(o);
};
const constant = (sig: bigint, se: number, rounding: 0 | 1 | 2) => (o: Ops) => {
  o.callF(o.deep("x87.loadConstant"), o.cpu, i64(sig), se, rounding);
};
const fcmov = (cc: number) => (o: Ops, i: Value) => {
  o.callF(o.deep("x87.fcmov"), o.cpu, i, o.let(o.cond(cc).bool()));
};

const x87 = { unit: "x87" } as const;

/** Seven constants: significands cut off at 64 bits. */
const CONSTANTS: [string, string, bigint, number, 0 | 1 | 2][] = [
  ["D9 E8", "FLD1", ONE, 0x3fff, 0],
  ["D9 E9", "FLDL2T", 0xd49a784bcd1b8afen, 0x4000, 1],
  ["D9 EA", "FLDL2E", 0xb8aa3b295c17f0bbn, 0x3fff, 2],
  ["D9 EB", "FLDPI", 0xc90fdaa22168c234n, 0x4000, 2],
  ["D9 EC", "FLDLG2", 0x9a209a84fbcff798n, 0x3ffd, 2],
  ["D9 ED", "FLDLN2", 0xb17217f7d1cf79abn, 0x3ffe, 2],
  ["D9 EE", "FLDZ", 0n, 0, 0],
];
/** FCMOVcc by opcode, with the condition of Jcc. */
const MOVES: [string, string, number, string][] = [
  ["DA C0+", "FCMOVB", 2, "C"],
  ["DA C8+", "FCMOVE", 4, "Z"],
  ["DA D0+", "FCMOVBE", 6, "CZ"],
  ["DA D8+", "FCMOVU", 10, "P"],
  ["DB C0+", "FCMOVNB", 3, "C"],
  ["DB C8+", "FCMOVNE", 5, "Z"],
  ["DB D0+", "FCMOVNBE", 7, "CZ"],
  ["DB D8+", "FCMOVNU", 11, "P"],
];

export const ROWS: readonly Row[] = [
  { op: "D9 /0", name: "FLD", args: "Md", ...x87, sem: loadFloat(32) },
  { op: "DD /0", name: "FLD", args: "Mq", ...x87, sem: loadFloat(64) },
  { op: "DB /5", name: "FLD", args: "Mt", ...x87, sem: fld80 },
  { op: "D9 C0+", name: "FLD", args: "F", ...x87, sem: callI("loadRegister") },
  { op: "DF /0", name: "FILD", args: "Mw", ...x87, sem: loadInt(16) },
  { op: "DB /0", name: "FILD", args: "Md", ...x87, sem: loadInt(32) },
  { op: "DF /5", name: "FILD", args: "Mq", ...x87, sem: loadInt(64) },
  { op: "DF /4", name: "FBLD", args: "Mt", ...x87, sem: fbld },
  { op: "D9 /2", name: "FST", args: "Md=", ...x87, sem: storeTo("fst32", 0) },
  { op: "D9 /3", name: "FSTP", args: "Md=", ...x87, sem: storeTo("fst32", 1) },
  { op: "DD /2", name: "FST", args: "Mq=", ...x87, sem: storeTo("fst64", 0) },
  { op: "DD /3", name: "FSTP", args: "Mq=", ...x87, sem: storeTo("fst64", 1) },
  { op: "DB /7", name: "FSTP", args: "Mt=", ...x87, sem: storeTo("fst80", 1) },
  { op: "DF /6", name: "FBSTP", args: "Mt=", ...x87, sem: storeTo("fbstp", 1) },
  { op: "DF /2", name: "FIST", args: "Mw=", ...x87, sem: storeTo("fist16", 0) },
  { op: "DF /3", name: "FISTP", args: "Mw=", ...x87, sem: storeTo("fist16", 1) },
  { op: "DB /2", name: "FIST", args: "Md=", ...x87, sem: storeTo("fist32", 0) },
  { op: "DB /3", name: "FISTP", args: "Md=", ...x87, sem: storeTo("fist32", 1) },
  { op: "DF /7", name: "FISTP", args: "Mq=", ...x87, sem: storeTo("fist64", 1) },
  { op: "DF /1", name: "FISTTP", args: "Mw=", ...x87, sem: storeTo("fisttp16", 1) },
  { op: "DB /1", name: "FISTTP", args: "Md=", ...x87, sem: storeTo("fisttp32", 1) },
  { op: "DD /1", name: "FISTTP", args: "Mq=", ...x87, sem: storeTo("fisttp64", 1) },
  { op: "DD D0+", name: "FST", args: "F", ...x87, sem: callI("fstRegister", 0) },
  { op: "DD D8+", name: "FSTP", args: "F", ...x87, sem: callI("fstRegister", 1) },
  { op: "D9 D8+", name: "FSTPNCE", args: "F", ...x87, sem: callI("fstpnce") },
  // Other encodings of the same, that every processor has.
  { op: "DF D0+", name: "FSTP", args: "F", ...x87, sem: callI("fstRegister", 1) },
  { op: "DF D8+", name: "FSTP", args: "F", ...x87, sem: callI("fstRegister", 1) },
  { op: "D9 C8+", name: "FXCH", args: "F", ...x87, sem: callI("fxch") },
  { op: "DD C8+", name: "FXCH", args: "F", ...x87, sem: callI("fxch") },
  { op: "DF C8+", name: "FXCH", args: "F", ...x87, sem: callI("fxch") },
  { op: "D9 E0", name: "FCHS", ...x87, sem: call("fchs") },
  { op: "D9 E1", name: "FABS", ...x87, sem: call("fabs") },
  { op: "D9 E5", name: "FXAM", ...x87, sem: call("fxam") },
  ...CONSTANTS.map(([op, name, sig, se, rounding]): Row => ({ op, name, ...x87, sem: constant(sig, se, rounding) })),
  ...MOVES.map(([op, name, cc, reads]): Row => ({ op, name, args: "F", reads, ...x87, sem: fcmov(cc) })),
];
