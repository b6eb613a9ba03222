/** Which guest registers a region uses and changes: those become locals. */
import { isMemoryLetter } from "../arg.ts";
import { RSP } from "../state.ts";
import { IMPLICIT, VECTOR_OPERANDS } from "./inline_rows.ts";
import type { RegionState } from "./jit_ops.ts";
import type { RegionHost } from "./lower.ts";
import { End, fieldRegister, isRegister, type Region } from "./region.ts";

/** `inline`: the rows that are expanded; what the others touch is in the state while they run. */
export function findRegisters(region: Region, host: RegionHost, inline: readonly boolean[], s: RegionState): void {
  const use = (n: number, write: boolean) => {
    s.registers[n] ??= s.c.variable("i64");
    if (write) s.written[n] = 1;
  };
  for (const b of region.blocks) {
    for (const i of b.instructions) {
      const row = host.decoder.rows[i.row]!;
      if (i.hasMemory) {
        if (isRegister(i.base)) use(fieldRegister(i.base), false);
        if (isRegister(i.index)) use(fieldRegister(i.index), false);
      }
      if (!inline[i.row]) {
        if (b.end !== End.Fall && i === b.instructions[b.instructions.length - 1]) {
          if (b.end === End.Call || b.end === End.Ret || b.end === End.IndirectCall) use(RSP, true);
          if ((b.end === End.IndirectCall || b.end === End.IndirectJmp) && !i.hasMemory) use(fieldRegister(i.d), false);
        }
        continue;
      }
      for (const a of host.variants.args[i.row]!) {
        const field = a.slot === 0 ? i.d : a.slot === 1 ? i.s : i.x;
        if (a.letter === "CL") use(1, false);
        if (VECTOR_OPERANDS.has(a.letter) && !(isMemoryLetter(a.letter) && i.hasMemory)) {
          const n = field >> 4;
          s.vectors[n] ??= s.c.variable("v128");
          if (a.access !== "r") s.vectorWritten[n] = 1;
        }
        if ("ERGZBA".includes(a.letter) && a.slot >= 0 && !(isMemoryLetter(a.letter) && i.hasMemory)) {
          use(fieldRegister(field), a.access !== "r");
        }
      }
      for (const n of IMPLICIT[row.name] ?? []) use(n, true);
    }
  }
}
