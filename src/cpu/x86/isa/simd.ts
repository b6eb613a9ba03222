/** The vector families together, and what they define, in the order they need each other. */
import type { Module } from "../../../wasm/module.ts";
import type { CpuFuncs } from "../ops.ts";
import type { Row } from "../row.ts";
import type { FloatFuncs } from "../simd/float.ts";
import * as aes from "./aes.ts";
import * as fxsave from "./fxsave.ts";
import * as sha from "./sha.ts";
import * as sse4 from "./sse4.ts";
import * as convert from "./sse_convert.ts";
import * as float from "./sse_float.ts";
import * as int from "./sse_int.ts";
import * as move from "./sse_move.ts";
import * as text from "./sse_string.ts";
import * as ssse3 from "./ssse3.ts";

export const ROWS: readonly Row[] = [
  ...move.ROWS,
  ...int.ROWS,
  ...float.ROWS,
  ...convert.ROWS,
  ...ssse3.ROWS,
  ...sse4.ROWS,
  ...text.ROWS,
  ...aes.ROWS,
  ...sha.ROWS,
  ...fxsave.ROWS,
];

/** Gives what the floating-point families beyond SSE build on. */
export function defineSimd(m: Module, f: CpuFuncs): FloatFuncs {
  int.defineSseInt(m, f);
  const floats = float.defineSseFloat(m, f);
  convert.defineSseConvert(m, f, floats);
  text.defineSseString(m, f);
  aes.defineAes(m, f);
  fxsave.defineFxsave(m, f);
  return floats;
}
