/** The vector families together, and what they define, in the order they need each other. */
import type { Module } from "../../../wasm/module.ts";
import type { CpuFuncs } from "../ops.ts";
import type { Row } from "../row.ts";
import * as fxsave from "./fxsave.ts";
import * as convert from "./sse_convert.ts";
import * as float from "./sse_float.ts";
import * as int from "./sse_int.ts";
import * as move from "./sse_move.ts";

export const ROWS: readonly Row[] = [
  ...move.ROWS,
  ...int.ROWS,
  ...float.ROWS,
  ...convert.ROWS,
  ...fxsave.ROWS,
];

export function defineSimd(m: Module, f: CpuFuncs): void {
  int.defineSseInt(m, f);
  convert.defineSseConvert(m, f, float.defineSseFloat(m, f));
  fxsave.defineFxsave(m, f);
}
