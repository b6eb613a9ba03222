/** The x87 instructions: rows and functions of all their families. */
import type { Module } from "../../../wasm/module.ts";
import type { CpuFuncs } from "../ops.ts";
import type { Row } from "../row.ts";
import { defineArith } from "../x87/arith.ts";
import { defineConvert } from "../x87/convert.ts";
import { defineFpu } from "../x87/fpu.ts";
import { defineLogarithm } from "../x87/logarithm.ts";
import { defineRemainder } from "../x87/remainder.ts";
import { defineRound } from "../x87/round.ts";
import { defineTrigonometry } from "../x87/trigonometry.ts";
import { defineFractions, defineWide } from "../x87/wide.ts";
import * as arith from "./x87_arith.ts";
import * as control from "./x87_control.ts";
import * as move from "./x87_move.ts";
import * as special from "./x87_special.ts";

export const ROWS: readonly Row[] = [...control.ROWS, ...move.ROWS, ...arith.ROWS, ...special.ROWS];

export function defineX87(m: Module, f: CpuFuncs): void {
  defineFpu(m, f);
  defineWide(m, f);
  defineRound(m, f);
  defineConvert(m, f);
  defineArith(m, f);
  defineRemainder(m, f);
  defineFractions(m, f);
  defineTrigonometry(m, f);
  defineLogarithm(m, f);
  control.defineX87Control(m, f);
  move.defineX87Move(m, f);
  arith.defineX87Arith(m, f);
  special.defineX87Special(m, f);
}
