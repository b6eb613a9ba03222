/** Native code of BMI1, BMI2, MOVBE and CRC32: the same instructions, with the host's registers. */
import { type Arg, argBits, parseOp, type Pattern } from "../arg.ts";
import type { Decoder } from "../decode.ts";
import type { Variants } from "../handlers.ts";
import { fieldRegister, type Instruction } from "../jit/region.ts";
import { S } from "../state.ts";
import { MAP_0F, type Vex } from "./assembler.ts";
import { type Emitter, isHigh } from "./emitter.ts";
import { fits } from "./integer.ts";
import { FLAG, From } from "./kept.ts";
import { field, HOST_OF, slot, T, U } from "./registers.ts";

/** What the host must have, by the name that Linux gives it. */
const NEEDS: Readonly<Record<string, string>> = {
  ANDN: "bmi1",
  BEXTR: "bmi1",
  BLSI: "bmi1",
  BLSMSK: "bmi1",
  BLSR: "bmi1",
  BZHI: "bmi2",
  MULX: "bmi2",
  PDEP: "bmi2",
  PEXT: "bmi2",
  RORX: "bmi2",
  SARX: "bmi2",
  SHLX: "bmi2",
  SHRX: "bmi2",
  MOVBE: "movbe",
  CRC32: "sse4_2",
};
/** Flags follow from the result; of RES, but for CF. Those that are undefined are what this makes of them. */
const FORMS: Readonly<Record<string, "LOGIC" | "RES">> = {
  ANDN: "LOGIC",
  BEXTR: "LOGIC",
  BLSI: "RES",
  BLSMSK: "RES",
  BLSR: "RES",
  BZHI: "RES",
};

interface Plan {
  readonly name: string;
  readonly args: readonly Arg[];
  readonly pattern: Pattern;
}

export class Bmi {
  readonly #plans: (Plan | undefined)[];

  constructor(decoder: Decoder, variants: Variants, features: ReadonlySet<string>) {
    this.#plans = decoder.rows.map(({ name, ...row }, n) => {
      const needs = NEEDS[name];
      if (needs === undefined || !features.has(needs) || row.unit) return undefined;
      return { name, args: variants.args[n]!, pattern: parseOp({ name, ...row }) };
    });
  }

  emitterOf(i: Instruction): ((e: Emitter) => boolean) | undefined {
    const plan = this.#plans[i.row];
    if (!plan || (i.hasMemory && !fits(i))) return undefined;
    if (plan.args.some((a) => argBits(a, i.size) === 8 && a.letter === "E" && !i.hasMemory && isHigh(fieldOf(i, a)))) {
      return undefined;
    }
    return (e) => {
      emit(e, i, plan);
      return true;
    };
  }
}

const fieldOf = (i: Instruction, a: Arg) => a.slot === 0 ? i.d : a.slot === 1 ? i.s : i.x;

function emit(e: Emitter, i: Instruction, { name, args, pattern: p }: Plan): void {
  const a = e.a, number = (arg: Arg) => fieldRegister(fieldOf(i, arg));
  const rm = args.find((x) => x.letter === "E" || x.letter === "M")!, memory = i.hasMemory;
  if (memory) e.operand(argBits(rm, i.size) >> 3, rm.access !== "r");
  const written = args.filter((x) => x.access !== "r" && (x !== rm || !memory));
  for (const x of written) e.flags.beforeWrite(number(x));
  const form = FORMS[name];
  if (form) e.flags.pending = null;
  /** The host's register with an operand: `temporary` if it is one that stays in the state. */
  const host = (x: Arg | undefined, temporary: number) => {
    if (!x) return 0;
    const n = number(x);
    if (HOST_OF[n]! >= 0) return HOST_OF[n]!;
    if (x.access !== "w" || i.size === 16) a.load(temporary, slot(n), 64);
    return temporary;
  };
  const G = args.find((x) => x.letter === "G"), B = args.find((x) => x.letter === "B");
  const from = memory ? -1 : host(rm, T);
  // Of two that are written, or read and written: the temporary of the other is read before it is written.
  const source = host(B, U), reg = p.digit >= 0 ? p.digit : host(G, B?.access === "w" ? T : U);
  if (p.vex) {
    const vex: Vex = { map: p.map, pp: Math.max(p.prefix, 0), w: i.size === 64 ? 1 : 0, l: 0 };
    if (memory) a.vexRM(vex, p.opcode, reg, source, e.memory);
    else a.vexRR(vex, p.opcode, reg, source, from);
    if (args.some((x) => x.letter === "I")) a.byte(i.imm & 0xff);
  } else {
    const prefix = name === "CRC32" ? 0xf2 : 0, byte = argBits(rm, i.size) === 8;
    if (memory) a.rm(i.size, p.map, p.opcode, reg, e.memory, false, prefix);
    else a.rr(i.size, p.map, p.opcode, reg, from, false, byte, prefix);
  }
  // The lower half of a product first: both may go to one register.
  for (const x of [B, G]) {
    if (!x || x.access === "r" || HOST_OF[number(x)]! >= 0) continue;
    const narrow = name === "MOVBE" && i.size === 16;
    a.store(slot(number(x)), x === B ? source : reg, narrow ? 16 : 64);
  }
  if (form) flags(e, form, i.size, number(written[0]!), name === "BEXTR");
}

function flags(e: Emitter, form: "LOGIC" | "RES", size: number, register: number, fewer: boolean): void {
  const a = e.a;
  e.flags.host = FLAG.Z | FLAG.C | FLAG.O | (fewer ? 0 : FLAG.S);
  if (e.live === 0) return;
  if (form === "RES") {
    a.storeI(field(S.nativeExtra), 0, 32);
    a.rm(8, MAP_0F, 0x92, 0, field(S.nativeExtra)); // SETC
  }
  e.flags.pending = { form, size, from: From.Self, a: { register }, y: undefined };
}
