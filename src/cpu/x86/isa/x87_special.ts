/** x87 instructions on the top of the stack that do more than arithmetic: [sdm2]. */
import type { Module } from "../../../wasm/module.ts";
import type { Value } from "../../../wasm/value.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { stackFault } from "../x87/convert.ts";
import { callFloat, callX, type Fpu, fpuOp, FSW } from "../x87/fpu.ts";
import { finishThen } from "./x87_move.ts";

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
}

const call = (name: string) => (o: Ops) => {
  o.callF(o.deep(`x87.${name}`), o.cpu);
};
const x87 = { unit: "x87" } as const;

export const ROWS: readonly Row[] = [
  { op: "D9 F4", name: "FXTRACT", ...x87, sem: call("fxtract") },
  { op: "D9 F5", name: "FPREM1", ...x87, sem: call("fprem1") },
  { op: "D9 F8", name: "FPREM", ...x87, sem: call("fprem") },
  { op: "D9 FD", name: "FSCALE", ...x87, sem: call("fscale") },
];
