/** SSSE3, in MMX and XMM registers: [sdm2]. */
import type { Operand } from "../operand.ts";
import type { Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import {
  abs,
  alignRight,
  horizontal,
  horizontalMmx,
  mulAddBytes,
  mulRound,
  shuffleBytes,
  shuffleBytesMmx,
  sign,
} from "../simd/integer.ts";
import { binary, binaryMmx, joinLow, low, qword, setMmx, type VectorOp, zeros } from "../simd/vector.ts";

/** Opcode after 0F 38, mnemonic, meaning, meaning for MMX if it differs. */
export const SSSE3_OPS: readonly (readonly [string, string, VectorOp, VectorOp?])[] = [
  ["00", "PSHUFB", shuffleBytes, shuffleBytesMmx],
  ["01", "PHADDW", horizontal(2, "i16x8.add"), horizontalMmx(2, "i16x8.add")],
  ["02", "PHADDD", horizontal(4, "i32x4.add"), horizontalMmx(4, "i32x4.add")],
  ["03", "PHADDSW", horizontal(2, "i16x8.add_sat_s"), horizontalMmx(2, "i16x8.add_sat_s")],
  ["04", "PMADDUBSW", mulAddBytes],
  ["05", "PHSUBW", horizontal(2, "i16x8.sub"), horizontalMmx(2, "i16x8.sub")],
  ["06", "PHSUBD", horizontal(4, "i32x4.sub"), horizontalMmx(4, "i32x4.sub")],
  ["07", "PHSUBSW", horizontal(2, "i16x8.sub_sat_s"), horizontalMmx(2, "i16x8.sub_sat_s")],
  ["08", "PSIGNB", sign(8)],
  ["09", "PSIGNW", sign(16)],
  ["0A", "PSIGND", sign(32)],
  ["0B", "PMULHRSW", mulRound],
  ["1C", "PABSB", abs(8)],
  ["1D", "PABSW", abs(16)],
  ["1E", "PABSD", abs(32)],
];

function palignr(o: Ops, a: Operand, b: Operand, imm: Operand): void {
  const y = b.get();
  a.set(alignRight(o, a.get(), y, imm.get()));
}
/** Both registers fit one vector, which shifts right. */
function palignrMmx(o: Ops, a: Operand, b: Operand, imm: Operand): void {
  const y = o.let(low(b.get())), both = o.let(joinLow(y, o.let(low(a.get()))));
  setMmx(o, qword(alignRight(o, zeros(), both, imm.get()), 0));
}

export const ROWS: readonly Row[] = [
  ...SSSE3_OPS.flatMap(([code, name, f, mmx]): Row[] => [
    { op: `66 0F 38 ${code} /r`, name, args: "Vdq+,Wdq", unit: "sse", feature: "SSSE3", sem: binary(f) },
    { op: `NP 0F 38 ${code} /r`, name, args: "Pq+,Qq", unit: "mmx", feature: "SSSE3", sem: binaryMmx(mmx ?? f) },
  ]),
  { op: "66 0F 3A 0F /r", name: "PALIGNR", args: "Vdq+,Wdq,Iub", unit: "sse", feature: "SSSE3", sem: palignr },
  { op: "NP 0F 3A 0F /r", name: "PALIGNR", args: "Pq+,Qq,Iub", unit: "mmx", feature: "SSSE3", sem: palignrMmx },
];
