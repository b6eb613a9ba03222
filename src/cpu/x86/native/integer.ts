/** Which instructions on general registers are done natively, and by what. */
import { type Arg, argBits, isMemoryLetter } from "../arg.ts";
import type { Decoder } from "../decode.ts";
import type { Variants } from "../handlers.ts";
import { fieldRegister, type Instruction } from "../jit/region.ts";
import type { Row } from "../row.ts";
import { reg, VBASE } from "../state.ts";
import { alu, HIGH, neg, not, step, test } from "./alu.ts";
import { ALU } from "./assembler.ts";
import { cmpxchg, cmpxchg16b, lockedAlu, xadd, xchg } from "./atomic.ts";
import { type Emitter, isHigh } from "./emitter.ts";
import { bswap, cmov, extend, lea, leave, mov, pop, push, setcc, widen } from "./move.ts";
import { divide, imul, multiply } from "./muldiv.ts";
import type { Emit, Operand } from "./pieces.ts";
import { bitTest, scan, shift } from "./shift.ts";

const fence = (last: number): Emit => (e) => {
  e.a.raw(0x0f, 0xae, last);
  return true;
};

const nothing: Emit = () => true;

const BY_NAME: Record<string, Emit> = {
  MOV: mov,
  MOVNTI: mov,
  LEA: lea,
  TEST: test,
  INC: step("INC"),
  DEC: step("DEC"),
  NEG: neg,
  NOT: not,
  XCHG: xchg,
  XADD: xadd,
  CMPXCHG: cmpxchg,
  BSWAP: bswap,
  BT: bitTest(4),
  BTS: bitTest(5),
  BTR: bitTest(6),
  BTC: bitTest(7),
  PUSH: push,
  POP: pop,
  LEAVE: leave,
  CBW: widen(0x98),
  CWD: widen(0x99),
  NOP: nothing,
  PAUSE: nothing,
  LFENCE: fence(0xe8),
  MFENCE: fence(0xf0),
  SFENCE: fence(0xf8),
};

for (const [name, op] of Object.entries(ALU)) BY_NAME[name] = alu(op);

for (const name of ["SHL", "SAL", "SHR", "SAR", "ROL", "ROR"]) BY_NAME[name] = shift;

/** Locked forms of what has more to say than a prefix. */
const LOCKED: Record<string, Emit> = {
  XCHG: xchg,
  XADD: xadd,
  CMPXCHG: cmpxchg,
  BTS: bitTest(5),
  BTR: bitTest(6),
  BTC: bitTest(7),
};

for (const name of ["ADD", "OR", "AND", "SUB", "XOR"] as const) LOCKED[name] = lockedAlu(ALU[name]);

export class Integer {
  readonly #emits: (Emit | undefined)[];

  /** `features`: what the host's processor has, by the names that Linux gives it. */
  constructor(
    private readonly decoder: Decoder,
    private readonly variants: Variants,
    private readonly features: ReadonlySet<string>,
  ) {
    this.#emits = decoder.rows.map((row) => this.#find(row));
  }

  #find(row: Row): Emit | undefined {
    if (row.unit || row.cpl0 || row.string || row.inState || row.only === "legacy" || row.ends) return undefined;
    if (row.name === "CMPXCHG16B") return this.features.has("cx16") ? cmpxchg16b : undefined;
    if (row.locked) return LOCKED[row.name];
    const args = row.args ?? "";
    if (/[SCD]/.test(args.replace(/CL/g, ""))) return undefined;
    if (row.name === "MOVZX" || row.name === "MOVSX" || row.name === "MOVSXD") {
      return extend(row.name !== "MOVZX", row.name === "MOVSXD" ? 32 : args.endsWith("b") ? 8 : 16);
    }
    if (row.name === "IMUL") return args.includes(",") ? imul : args === "Ev" ? multiply(5) : undefined;
    if (row.name === "MUL") return args === "Ev" ? multiply(4) : undefined;
    if (row.name === "DIV" || row.name === "IDIV") return args === "Ev" ? divide(row.name === "IDIV") : undefined;
    if (row.name === "TZCNT") return this.features.has("bmi1") ? scan(0xf3, 0xbc) : undefined;
    if (row.name === "LZCNT") return this.features.has("abm") ? scan(0xf3, 0xbd) : undefined;
    if (row.name === "POPCNT") return this.features.has("popcnt") ? scan(0xf3, 0xb8) : undefined;
    if (row.name === "BSF") return scan(0, 0xbc);
    if (row.name === "BSR") return scan(0, 0xbd);
    if (/^(CMOV|SET)/.test(row.name)) {
      const cc = parseInt(row.op.slice(3, 5), 16) & 15;
      return row.name.startsWith("SET") ? setcc(cc) : cmov(cc);
    }
    if (row.name === "PUSH" || row.name === "POP") {
      if (!args || row.op === "8F /0") return undefined;
    }
    if (row.name === "XCHG" && row.op === "90 +r") return xchg;
    return BY_NAME[row.name];
  }

  /** The instruction's emitter, if it has one for these operands; whether it works with the flags at hand is seen later. */
  emitterOf(i: Instruction): ((e: Emitter) => boolean) | undefined {
    const emit = this.#emits[i.row];
    if (!emit) return undefined;
    const row = this.decoder.rows[i.row]!, args = this.variants.args[i.row]!;
    if (row.d64 && i.size !== 64) return undefined;
    if (["BSWAP", "DIV", "IDIV", "LEA"].includes(row.name) && i.size === 16) return undefined;
    if (i.hasMemory && !fits(i)) return undefined;
    const operands: Operand[] = [];
    for (const a of args) {
      const o = operandOf(i, a);
      if (!o) return undefined;
      operands.push(o);
    }
    // AH, CH, DH and BH: as a source of moves only.
    if (operands.some((o) => o.kind === "register" && o.high) && !highMove(row, operands)) {
      const own = HIGH[row.name];
      return own && operands[1]!.kind === "constant" ? (e) => own(e, i, operands, row) : undefined;
    }
    return (e) => emit(e, i, operands, row);
  }
}

function highMove(row: Row, [dst]: readonly Operand[]): boolean {
  return /^MOV([SZ]X)?$/.test(row.name) && !(dst!.kind === "register" && dst!.high);
}

const fieldOf = (i: Instruction, a: Arg) => a.slot === 0 ? i.d : a.slot === 1 ? i.s : i.x;

/** Displacements that are relative to the instruction may not fit an address any more. */
export function fits(i: Instruction): boolean {
  const d = i.base === reg(VBASE) ? i.disp + i.at + i.length : i.disp;
  return d === (d | 0);
}

function operandOf(i: Instruction, a: Arg): Operand | undefined {
  const bits = argBits(a, i.size);
  if (isMemoryLetter(a.letter) && (i.hasMemory || a.letter === "M")) return { kind: "memory", bits };
  switch (a.letter) {
    case "E":
    case "R":
    case "G":
    case "Z":
    case "A":
      return { kind: "register", n: fieldRegister(fieldOf(i, a)), bits, high: bits === 8 && isHigh(fieldOf(i, a)) };
    case "CL":
      return { kind: "register", n: 1, bits: 8, high: false };
    case "I":
      return { kind: "constant", value: i.imm };
    case "1":
      return { kind: "constant", value: 1 };
    default:
      return undefined;
  }
}
