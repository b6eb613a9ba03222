/** Every row, and the deep functions they call. A family that is not listed here does not exist. */
import type { Module } from "../../../wasm/module.ts";
import type { Imports } from "../imports.ts";
import type { CpuFuncs } from "../ops.ts";
import type { Row } from "../row.ts";
import type { CpuLimits } from "../system/cpu_model.ts";
import { NO_LIMITS } from "../system/cpu_model.ts";
import * as alu from "./alu.ts";
import * as avx from "./avx.ts";
import * as bit from "./bit.ts";
import * as branch from "./branch.ts";
import * as control from "./control.ts";
import * as far from "./far.ts";
import * as flagops from "./flagops.ts";
import * as io from "./io.ts";
import * as misc from "./misc.ts";
import * as monitor from "./monitor.ts";
import * as move from "./move.ts";
import * as msr from "./msr.ts";
import * as muldiv from "./muldiv.ts";
import * as random from "./random.ts";
import * as segment from "./segment.ts";
import * as shift from "./shift.ts";
import * as simd from "./simd.ts";
import * as stack from "./stack.ts";
import * as string from "./string.ts";
import * as x87 from "./x87.ts";
import { defineUnits } from "../units.ts";

/** Of a processor without AVX. */
export const BASE_ROWS: readonly Row[] = [
  ...alu.ROWS,
  ...move.ROWS,
  ...shift.ROWS,
  ...muldiv.ROWS,
  ...bit.ROWS,
  ...stack.ROWS,
  ...branch.ROWS,
  ...string.ROWS,
  ...far.ROWS,
  ...segment.ROWS,
  ...control.ROWS,
  ...flagops.ROWS,
  ...io.ROWS,
  ...misc.ROWS,
  ...monitor.ROWS,
  ...msr.ROWS,
  ...random.ROWS,
  ...simd.ROWS,
  ...x87.ROWS,
];
export const ROWS: readonly Row[] = [...BASE_ROWS, ...avx.ROWS];

export function define(m: Module, f: CpuFuncs, imports: Imports, limits: CpuLimits = NO_LIMITS): void {
  defineUnits(m, f);
  far.defineFar(m, f, imports);
  muldiv.defineMulDiv(m, f);
  bit.defineBit(m, f);
  stack.defineStack(m, f);
  string.defineString(m, f);
  segment.defineSegment(m, f, imports);
  control.defineControl(m, f, imports, limits);
  flagops.defineFlagOps(m, f);
  io.defineIo(m, f, imports);
  misc.defineMisc(m, f, imports);
  monitor.defineMonitor(m, f, imports);
  msr.defineMsr(m, f, imports);
  random.defineRandom(m, f, imports);
  const floats = simd.defineSimd(m, f);
  if (limits.avx) avx.defineAvx(m, f, floats);
  x87.defineX87(m, f);
}
