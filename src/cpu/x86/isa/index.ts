/** Every row, and the deep functions they call. A family that is not listed here does not exist. */
import type { Module } from "../../../wasm/module.ts";
import type { Imports } from "../imports.ts";
import type { CpuFuncs } from "../ops.ts";
import type { Row } from "../row.ts";
import * as alu from "./alu.ts";
import * as bit from "./bit.ts";
import * as branch from "./branch.ts";
import * as far from "./far.ts";
import * as move from "./move.ts";
import * as muldiv from "./muldiv.ts";
import * as shift from "./shift.ts";
import * as stack from "./stack.ts";
import * as string from "./string.ts";

export const ROWS: readonly Row[] = [
  ...alu.ROWS,
  ...move.ROWS,
  ...shift.ROWS,
  ...muldiv.ROWS,
  ...bit.ROWS,
  ...stack.ROWS,
  ...branch.ROWS,
  ...string.ROWS,
  ...far.ROWS,
];

export function define(m: Module, f: CpuFuncs, imports: Imports): void {
  far.defineFar(m, f, imports);
  muldiv.defineMulDiv(m, f);
  bit.defineBit(m, f);
  stack.defineStack(m, f);
  string.defineString(m, f);
}
