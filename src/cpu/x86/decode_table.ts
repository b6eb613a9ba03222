/**
 * From opcode bytes to rows: one flat table, indexed by everything that selects a row except whole ModRM bytes.
 *
 * Index: map × opcode × prefix (none, 66, F3, F2) × W × memory × /digit. Maps 0..3 are the legacy ones; the VEX maps 1..3 are
 * 4 higher with VEX.L = 0 and 8 higher with VEX.L = 1.
 */
import { Bug } from "../../base/errors.ts";
import { parseArgs, parseOp, type Pattern } from "./arg.ts";
import type { Row } from "./row.ts";

/** What VEX.L adds to a map's number. */
export const VEX_MAPS = [4, 8] as const;
const MAPS = 12;

export interface FixedRow {
  readonly pattern: Pattern;
  readonly row: number;
}

export class DecodeTable {
  readonly patterns: Pattern[];
  /** By row: which of two rows in one place prevails. */
  readonly #ranks: Uint8Array;
  readonly #table64: Int16Array;
  readonly #tableLegacy: Int16Array;
  /** Whole-ModRM rows by map × 256 + opcode. */
  readonly fixed = new Map<number, FixedRow[]>();
  /** Per map × 256 + opcode: 1 if a ModRM byte follows, 2 if whole-ModRM rows exist. */
  readonly shape = new Uint8Array(MAPS * 256);

  /** `has`: rows that it says no to are undefined instructions. */
  constructor(rows: readonly Row[], has: (row: Row) => boolean = () => true) {
    this.patterns = rows.map(parseOp);
    this.#ranks = Uint8Array.from(this.patterns, (p) => (p.prefix < 0 ? 0 : 1) + (p.w < 0 ? 0 : 2));
    this.#table64 = new Int16Array(MAPS * 256 * 128).fill(-1);
    this.#tableLegacy = new Int16Array(MAPS * 256 * 128).fill(-1);
    // Rows that any prefix selects first, so that a row with a prefix of its own prevails; the same for W.
    const order = rows.map((_, i) => i).sort((a, b) => this.#ranks[a]! - this.#ranks[b]!);
    for (const i of order) {
      const { l, vex } = this.patterns[i]!;
      for (const add of !vex ? [0] : l < 0 ? VEX_MAPS : [VEX_MAPS[l]!]) this.#enter(i, rows[i]!, add, has(rows[i]!));
    }
  }

  #enter(i: number, row: Row, mapOffset: number, available: boolean): void {
    const p = this.patterns[i]!;
    const args = parseArgs(row);
    const mem = args.some((a) => a.letter === "M"),
      memOrReg = args.some((a) => "EWQ".includes(a.letter) && a.letter.length === 1);
    const map = p.map + mapOffset;
    for (let low = 0; low < (p.plusR ? 8 : 1); low++) {
      const opcode = map * 256 + p.opcode + low;
      if (p.modrm) this.shape[opcode]! |= 1;
      if (!available) continue;
      if (p.fixed >= 0) {
        this.shape[opcode]! |= 2;
        const list = this.fixed.get(opcode) ?? [];
        list.push({ pattern: p, row: i });
        this.fixed.set(opcode, list);
        continue;
      }
      // A row with a ModRM byte but no r/m operand at all takes both forms.
      const both = memOrReg || (!mem && !args.some((a) => "RUN".includes(a.letter)));
      const fromMem = mem ? 1 : 0, toMem = mem || both ? 1 : 0;
      const [fromDigit, toDigit] = p.digit < 0 ? [0, 7] : [p.digit, p.digit];
      for (let prefix = Math.max(p.prefix, 0); prefix <= (p.prefix < 0 ? 3 : p.prefix); prefix++) {
        for (let w = Math.max(p.w, 0); w <= (p.w < 0 ? 1 : p.w); w++) {
          for (let isMem = fromMem; isMem <= toMem; isMem++) {
            const at = (((opcode * 4 + prefix) * 2 + w) * 2 + isMem) * 8;
            if (row.only !== "legacy") this.#set(this.#table64, at + fromDigit, at + toDigit, i, row);
            if (row.only !== "64") this.#set(this.#tableLegacy, at + fromDigit, at + toDigit, i, row);
          }
        }
      }
    }
  }

  #set(table: Int16Array, from: number, to: number, number: number, row: Row): void {
    const ranks = this.#ranks, rank = ranks[number]!;
    for (let at = from; at <= to; at++) {
      const old = table[at]!;
      if (old >= 0 && ranks[old] === rank) {
        throw new Bug(`Row ${number} (${row.op} ${row.name}) takes the place of row ${old}`);
      }
      table[at] = number;
    }
  }

  /** The row's number, or -1. `isMem` and `digit` are 0 for opcodes without a ModRM byte. */
  find(is64: boolean, map: number, opcode: number, prefix: number, w: number, isMem: number, digit: number): number {
    const at = (((((map * 256 + opcode) * 4 + prefix) * 2 + w) * 2 + isMem) * 8) + digit;
    return (is64 ? this.#table64 : this.#tableLegacy)[at]!;
  }

  /** The row of a whole ModRM byte (mod 3), or -1. */
  findFixed(rows: readonly Row[], is64: boolean, map: number, opcode: number, prefix: number, modrm: number): number {
    for (const { pattern, row } of this.fixed.get(map * 256 + opcode)!) {
      if ((modrm & pattern.fixedMask) !== (pattern.fixed & pattern.fixedMask)) continue;
      if (pattern.prefix >= 0 && pattern.prefix !== prefix) continue;
      const only = rows[row]!.only;
      if (only && (only === "64") !== is64) continue;
      return row;
    }
    return -1;
  }
}
