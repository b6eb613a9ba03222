/** x87 instructions on the top of the stack that do more than arithmetic: [sdm2]. */
import type { Module } from "../../../wasm/module.ts";
import { i64, select, type Value } from "../../../wasm/value.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import {
  callFloat,
  callX,
  exponent,
  finish,
  finishThen,
  type Float,
  type Fpu,
  fpuOp,
  FSW,
  isUnsupported,
  ONE,
  stackFault,
} from "../x87/fpu.ts";

/** Exponent of 2^63: arguments of trigonometric functions are less. */
const TOO_FAR = 16383 + 63;

export function defineX87Special(m: Module, f: CpuFuncs): void {
  /** A register among `needed` is empty: the stack fault, and the indefinite number into ST(0). */
  const orUnderflow = (o: Ops, x: Fpu, missing: Value, otherwise: () => void) => {
    o.c.if(missing, () => {
      stackFault(x, false);
      finishThen(o, x, () => x.set(0, x.indefinite()));
    }, otherwise);
  };
  for (const [name, nearest] of [["fprem", 0], ["fprem1", 1]] as const) {
    fpuOp(m, f, name, [], (o, x) => {
      const c = o.c;
      x.clear();
      x.setFsw(x.fsw().and(~FSW.C2));
      orUnderflow(o, x, x.empty(0).or(x.empty(1)), () => {
        const a = x.get(0), b = x.get(1);
        const [sig, se, cc] = callX(x, f, "remainder", a.sig, a.se, b.sig, b.se, nearest);
        const whole = o.let(cc!.ne(-1));
        c.if(whole, () => x.raise(cc!.and(FSW.C1)));
        finishThen(o, x, () => {
          x.set(0, { sig: sig!, se: se! });
          c.if(whole, () => x.setConditions(cc!.and(~FSW.C1)));
        });
      });
    });
  }
  fpuOp(m, f, "fscale", [], (o, x) => {
    x.clear();
    x.setDenormalSource(0);
    orUnderflow(o, x, x.empty(0).or(x.empty(1)), () => {
      const a = x.get(0), b = x.get(1);
      const r = callFloat(x, f, "scale", a.sig, a.se, b.sig, b.se);
      finishThen(o, x, () => x.set(0, r));
    });
  });
  fpuOp(m, f, "fxtract", [], (o, x) => {
    const c = o.c;
    const twice = () => {
      x.set(0, x.indefinite());
      x.push(x.indefinite());
    };
    x.clear();
    c.if(x.empty(0), () => {
      stackFault(x, false);
      finishThen(o, x, twice);
    }, () => {
      c.if(x.empty(-1).eqz(), () => {
        stackFault(x, true);
        finishThen(o, x, twice);
      }, () => {
        const a = x.get(0);
        const [sig, se, sig2, se2] = callX(x, f, "extract", a.sig, a.se);
        finishThen(o, x, () => {
          x.set(0, { sig: sig!, se: se! });
          x.push({ sig: sig2!, se: se2! });
        });
      });
    });
  });

  for (const [name, func] of [["fpatan", "atan2"], ["fyl2x", "yLog2x"], ["fyl2xp1", "yLog2xp1"]] as const) {
    // Two operands, one result in the place of the second.
    fpuOp(m, f, name, [], (o, x) => {
      const c = o.c;
      x.clear();
      x.setDenormalSource(0);
      const give = (r: Float) => {
        x.set(1, r);
        x.pop();
      };
      c.if(x.empty(0).or(x.empty(1)), () => {
        stackFault(x, false);
        finishThen(o, x, () => give(x.indefinite()));
      }, () => {
        const top = x.get(0), next = x.get(1);
        const [a, b] = name === "fpatan" ? [next, top] : [top, next];
        const r = callFloat(x, f, func, a.sig, a.se, b.sig, b.se);
        finishThen(o, x, () => give(r));
      });
    });
  }
  fpuOp(m, f, "f2xm1", [], (o, x) => {
    x.clear();
    x.setDenormalSource(0);
    orUnderflow(o, x, x.empty(0), () => {
      const a = x.get(0), r = callFloat(x, f, "exp2m1", a.sig, a.se);
      finishThen(o, x, () => x.set(0, r));
    });
  });

  // FSIN 0, FCOS 1, FPTAN 2, FSINCOS 3: the last two push a second result.
  (["fsin", "fcos", "fptan", "fsincos"] as const).forEach((name, kind) => {
    const pushes = kind >= 2;
    fpuOp(m, f, name, [], (o, x) => {
      const c = o.c;
      x.clear();
      x.setDenormalSource(0);
      x.setFsw(x.fsw().and(~FSW.C2));
      const give = (first: Float, second: Float) => {
        x.set(0, first);
        if (pushes) x.push(second);
      };
      const fault = (overflow: boolean) => () => {
        stackFault(x, overflow);
        finishThen(o, x, () => give(x.indefinite(), x.indefinite()));
      };
      const compute = () => {
        const a = x.get(0);
        // Too far from zero to be reduced: C2, and nothing else.
        c.if(exponent(a).geU(TOO_FAR).and(exponent(a).ne(0x7fff)).and(isUnsupported(a).eqz()), () => {
          finish(o);
          x.setFsw(x.fsw().or(FSW.C2));
        }, () => {
          const first = callFloat(x, f, "trigOf", a.sig, a.se, kind === 3 ? 0 : kind);
          const nan = c.let(exponent(first).eq(0x7fff));
          // C1 tells of the last rounding.
          if (kind === 3) x.lower(FSW.C1);
          const second = kind === 3 ? callFloat(x, f, "trigOf", a.sig, a.se, 1) : {
            // FPTAN pushes 1, or the NaN again.
            sig: c.let(select(nan, first.sig, i64(ONE))),
            se: c.let(select(nan, first.se, 0x3fff)),
          };
          finishThen(o, x, () => give(first, second));
        });
      };
      c.if(x.empty(0), fault(false), () => {
        if (pushes) c.if(x.empty(-1).eqz(), fault(true), compute);
        else compute();
      });
    });
  });
}

const call = (name: string) => (o: Ops) => {
  o.callF(o.deep(`x87.${name}`), o.cpu);
};
const x87 = { unit: "x87" } as const;
/** Within one unit in the last place, as processors are, but not of the same processor's making. */
const close = { unit: "x87", noHost: "transcendental: right to one unit in the last place, not bit for bit" } as const;

export const ROWS: readonly Row[] = [
  { op: "D9 F0", name: "F2XM1", ...close, sem: call("f2xm1") },
  { op: "D9 F1", name: "FYL2X", ...close, sem: call("fyl2x") },
  { op: "D9 F2", name: "FPTAN", ...close, sem: call("fptan") },
  { op: "D9 F3", name: "FPATAN", ...close, sem: call("fpatan") },
  { op: "D9 F4", name: "FXTRACT", ...x87, sem: call("fxtract") },
  { op: "D9 F5", name: "FPREM1", ...x87, sem: call("fprem1") },
  { op: "D9 F8", name: "FPREM", ...x87, sem: call("fprem") },
  { op: "D9 F9", name: "FYL2XP1", ...close, sem: call("fyl2xp1") },
  { op: "D9 FB", name: "FSINCOS", ...close, sem: call("fsincos") },
  { op: "D9 FD", name: "FSCALE", ...x87, sem: call("fscale") },
  { op: "D9 FE", name: "FSIN", ...close, sem: call("fsin") },
  { op: "D9 FF", name: "FCOS", ...close, sem: call("fcos") },
];
