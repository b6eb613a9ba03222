/** Which status flags an instruction leaves undefined for the operands at hand: [sdm2], [amd3]. */
import { AF, CF, OF, PF, SF, ZF } from "../../src/cpu/x86/state.ts";
import type { Row } from "../../src/cpu/x86/row.ts";

/** In the x87 status word. */
export const C1 = 0x200;

const BIT: Record<string, number> = { O: OF, S: SF, Z: ZF, A: AF, P: PF, C: CF };

const masks = new Map<Row, number>();
function always(row: Row): number {
  let m = masks.get(row);
  if (m === undefined) {
    m = [...(row.undef ?? "")].reduce((all, f) => all | BIT[f]!, 0);
    masks.set(row, m);
  }
  return m;
}

/** `count`: the shift count as given, for shifts and rotates. */
export function undefinedFlags(row: Row, size: number, count: number): number {
  const n = count & (size === 64 ? 63 : 31);
  switch (row.name) {
    case "ROL":
    case "ROR":
    case "RCL":
    case "RCR":
      return n <= 1 ? 0 : OF;
    case "SHL":
    case "SAL":
    case "SHR":
      return n === 0 ? 0 : AF | (n === 1 ? 0 : OF) | (n >= size ? CF : 0);
    case "SAR":
      return n === 0 ? 0 : AF | (n === 1 ? 0 : OF);
    case "SHLD":
    case "SHRD":
      if (n === 0) return 0;
      return n > size ? OF | SF | ZF | AF | PF | CF : AF | (n === 1 ? 0 : OF);
    default:
      return always(row);
  }
}

/** Whether the result itself is undefined, so that the case is worth nothing. */
export function undefinedResult(row: Row, size: number, count: number): boolean {
  return (row.name === "SHLD" || row.name === "SHRD") && (count & (size === 64 ? 63 : 31)) > size;
}

/** Transcendental functions: the last bit of the result, and so C1, is the processor's own. */
export function isApproximate(row: Row): boolean {
  return /^(F2XM1|FYL2X|FYL2XP1|FPTAN|FPATAN|FSIN|FCOS|FSINCOS)$/.test(row.name);
}
