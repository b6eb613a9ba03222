/** RDRAND, RDSEED: [sdm2]. The host's generator never runs dry, so CF is always 1. */
import type { Module } from "../../../wasm/module.ts";
import { i32 } from "../../../wasm/value.ts";
import type { Imports } from "../imports.ts";
import type { Operand } from "../operand.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { CF, S } from "../state.ts";

export function defineRandom(m: Module, f: CpuFuncs, imports: Imports): void {
  f.more.set(
    "random",
    m.func("random", ["i32"], ["i64"], (c) => {
      c.call(imports.random);
      c.return(c.ld64(c.param(0), S.answer));
    }),
  );
}

function random(o: Ops, a: Operand): void {
  const v = o.c.call1(o.deep("random"), o.cpu);
  a.set(a.bits === 64 ? v : o.zext(v.lo(), a.bits));
  o.setFlags(i32(CF));
}

const common = { args: "Rv=", flags: "OSZAPC", noHost: "random", sem: random } as const;

export const ROWS: readonly Row[] = [
  { op: "0F C7 /6", name: "RDRAND", feature: "RDRAND", ...common },
  { op: "0F C7 /7", name: "RDSEED", feature: "RDSEED", ...common },
];
