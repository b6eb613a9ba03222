/** Which rows the host's processor can answer for, and why the others not. */
import { hasHostFeature } from "./host.ts";
import type { Row } from "../../src/cpu/x86/row.ts";
import { featuresOf } from "../../src/cpu/x86/system/features.ts";
import { rowSizes } from "../../src/cpu/x86/arg.ts";
import { type Shape, shapeOf } from "../../src/cpu/x86/assemble.ts";
import type { Native } from "./native.ts";
import { isApproximate } from "./undefined.ts";

const REASONS: [RegExp, string][] = [
  [/^(SYSCALL|SYSENTER|SYSRET|SYSEXIT|INT|INT1|INT3|IRET|JMPF|CALLF|RETF)$/, "leaves the code under test"],
  [
    /^(VM(CALL|FUNC|CLEAR|LAUNCH|RESUME|PTR|READ|WRITE|X|RUN|LOAD|SAVE|MCALL)|SK|ENCL|XABORT|XBEGIN|MONITOR|MWAIT|RSM)/,
    "a unit that is not emulated",
  ],
  [/^(UD0)$/, "processors differ in whether a ModRM byte follows"],
];

/** Rows whose `noHost` speaks of some operands only: what is left out is then the generator's business. */
const IN_PART = new Set(["BSWAP"]);

export interface Subject {
  readonly row: Row;
  readonly index: number;
  readonly shape: Shape;
  readonly sizes: readonly number[];
}

/** `legacy`: as 32-bit code. */
export function subjects(
  rows: readonly Row[],
  native: Native,
  legacy = false,
): { tested: Subject[]; skipped: [string, string][] } {
  const tested: Subject[] = [], skipped: [string, string][] = [];
  rows.forEach((row, index) => {
    const reason = skipReason(row, native, legacy);
    if (reason) return skipped.push([`${row.name} (${row.op})`, reason]);
    const shape = shapeOf(row);
    if (legacy && shape.pattern.w === 1 && !shape.pattern.vex) return;
    let sizes = rowSizes(row, shape.args, !legacy);
    // 66h before a near branch: vendors differ.
    if (!legacy && row.d64 && (row.ends || shape.args.some((a) => a.letter === "J"))) sizes = [64];
    if (row.name === "BSWAP") sizes = legacy ? [32] : [32, 64];
    tested.push({ row, index, shape, sizes });
  });
  return { tested, skipped };
}

function skipReason(row: Row, native: Native, legacy: boolean): string | null {
  if (row.op === "0F 0D /r") return "its register form is a NOP for one vendor and undefined for another";
  if (row.only === (legacy ? "64" : "legacy")) return legacy ? "only in 64-bit mode" : "only outside 64-bit mode";
  if (row.noHost && !IN_PART.has(row.name) && !isApproximate(row)) return row.noHost;
  for (const [pattern, reason] of REASONS) if (pattern.test(row.name)) return reason;
  for (const feature of featuresOf(row)) if (!hasHostFeature(native, feature)) return `the host has no ${feature}`;
  if (row.unit === "avx" && !native.avx) return "the host does not let user code use AVX";
  return null;
}
