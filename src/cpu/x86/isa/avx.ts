/** What VEX-encoded vector instructions are: AVX, AVX2, FMA, F16C. Their rows come last: a processor without AVX has none of them. */
import type { Module } from "../../../wasm/module.ts";
import type { CpuFuncs } from "../ops.ts";
import type { Row } from "../row.ts";
import type { FloatFuncs } from "../simd/float.ts";
import * as convert from "./avx_convert.ts";
import * as float from "./avx_float.ts";
import * as int from "./avx_int.ts";
import * as memory from "./avx_memory.ts";
import * as move from "./avx_move.ts";
import * as permute from "./avx_permute.ts";
import * as f16c from "./f16c.ts";
import * as fma from "./fma.ts";

export const ROWS: readonly Row[] = [
  ...move.ROWS,
  ...int.ROWS,
  ...permute.ROWS,
  ...memory.ROWS,
  ...float.ROWS,
  ...convert.ROWS,
  ...fma.ROWS,
  ...f16c.ROWS,
];

/** Needs the deep functions of SSE. */
export function defineAvx(m: Module, f: CpuFuncs, base: FloatFuncs): void {
  memory.defineAvxMemory(m, f);
  float.defineAvxFloat(m, f, base);
  convert.defineAvxConvert(m, f, base);
  fma.defineFma(m, f, base);
  f16c.defineF16c(m, f, base);
}
