/** Which guest registers a region uses and changes: those become locals; and where they may differ from the state. */
import { isMemoryLetter } from "../arg.ts";
import { RSP } from "../state.ts";
import { IMPLICIT, VECTOR_OPERANDS } from "./inline_rows.ts";
import type { RegionHost } from "./region_host.ts";
import { doesNothing, End, fieldRegister, isRegister, type Region } from "./region.ts";
import type { RegionState } from "./region_state.ts";

/**
 * `inline`: the rows that are expanded; what the others touch is in the state while they run. Gives for each block what may be
 * dirty where it begins: bit n for register n, bit 16 + n for vector register n.
 */
export function findRegisters(
  region: Region,
  host: RegionHost,
  inline: readonly boolean[],
  s: RegionState,
): Int32Array {
  /** What a block makes dirty itself, and whether all is in the state somewhere within it. */
  const makes = new Int32Array(region.blocks.length), settles = new Uint8Array(region.blocks.length);
  let made = 0;
  const use = (n: number, write: boolean) => {
    s.registers[n] ??= s.c.variable("i64");
    if (!write) return;
    s.written[n] = 1;
    made |= 1 << n;
  };
  for (const b of region.blocks) {
    made = 0;
    const settle = () => {
      made = 0;
      settles[b.number] = 1;
    };
    for (const i of b.instructions) {
      const row = host.decoder.rows[i.row]!;
      if (doesNothing(row, i)) continue;
      if (i.hasMemory) {
        if (isRegister(i.base)) use(fieldRegister(i.base), false);
        if (isRegister(i.index)) use(fieldRegister(i.index), false);
      }
      if (!inline[i.row]) {
        const branch = b.end !== End.Fall && b.end !== End.Leave && i === b.instructions[b.instructions.length - 1];
        if (branch) {
          if (b.end === End.Call || b.end === End.Ret || b.end === End.IndirectCall) use(RSP, true);
          if ((b.end === End.IndirectCall || b.end === End.IndirectJmp) && !i.hasMemory) use(fieldRegister(i.d), false);
          if (b.end === End.Call || b.end === End.IndirectCall) settle();
        } else settle();
        continue;
      }
      for (const a of host.variants.args[i.row]!) {
        const field = a.slot === 0 ? i.d : a.slot === 1 ? i.s : i.x;
        if (a.letter === "CL") use(1, false);
        if (VECTOR_OPERANDS.has(a.letter) && !(isMemoryLetter(a.letter) && i.hasMemory)) {
          const n = field >> 4;
          s.vectors[n] ??= s.c.variable("v128");
          if (row.unit === "avx") s.vectorHighs[n] ??= s.c.variable("v128");
          if (a.access !== "r") {
            s.vectorWritten[n] = 1;
            made |= 1 << (16 + n);
          }
        }
        if ("ERGZBA".includes(a.letter) && a.slot >= 0 && !(isMemoryLetter(a.letter) && i.hasMemory)) {
          use(fieldRegister(field), a.access !== "r");
        }
      }
      for (const n of IMPLICIT[row.name] ?? []) use(n, true);
    }
    makes[b.number] = made;
  }
  const dirty = new Int32Array(region.blocks.length);
  for (let changed = true; changed;) {
    changed = false;
    for (const b of region.blocks) {
      const out = makes[b.number]! | (settles[b.number] ? 0 : dirty[b.number]!);
      for (const to of [b.targetBlock, b.nextBlock, ...b.jumps.map((jump) => jump.block)]) {
        if (to < 0 || (dirty[to]! | out) === dirty[to]) continue;
        dirty[to]! |= out;
        changed = true;
      }
    }
  }
  return dirty;
}
