/**
 * Native code of SSE, AVX and their relatives: the guest's vector registers are the host's of the same numbers, so an
 * instruction is itself, with other general registers and another address.
 *
 * They are brought in by the first that needs them (S.vectorsIn), and with them MXCSR, whose exceptions are all masked or
 * nothing runs here. Where the state says that instructions trap, or an operand is not aligned as it must be, the interpreter
 * does it: nothing here ever faults on the host.
 */
import { type Arg, argBits, isMemoryLetter, parseOp } from "../arg.ts";
import type { Decoder } from "../decode.ts";
import type { Variants } from "../handlers.ts";
import { fieldRegister, type Instruction } from "../jit/region.ts";
import type { Row } from "../row.ts";
import { S } from "../state.ts";
import { ALU, MAP_0F, type Vex } from "./assembler.ts";
import type { Emitter } from "./emitter.ts";
import { fits } from "./integer.ts";
import { ASKED, From } from "./kept.ts";
import { field, HOST_OF, slot, T, U } from "./registers.ts";
import { MXCSR_MASKS, VECTORS } from "./routines.ts";

/** What CPUID calls it here, and what Linux calls what the host needs. SSE2 all have. */
const NEEDS: Readonly<Record<string, string>> = {
  "SSE3": "sse3",
  "SSSE3": "ssse3",
  "SSE4.1": "sse4_1",
  "SSE4.2": "sse4_2",
  "AESNI": "aes",
  "PCLMULQDQ": "pclmulqdq",
  "SHA": "sha_ni",
  "AVX": "avx",
  "AVX2": "avx2",
  "FMA": "fma",
  "F16C": "f16c",
};

/** Processors differ in their results; or they touch the MMX registers, whose state is not the host's. */
const NOT_ALIKE = /^V?R(CP|SQRT)[PS]S$|^CVTPI2P[SD]$/;
const ALIGNED = /^VMOV(APS|APD|DQA|NTPS|NTPD|NTDQ|NTDQA)$/;
const LENGTHS = /^V?PCMP[EI]STR[IM]$/;
/** Stores and loads around the caches, as plain ones: the order of what they do is then that of all others. */
const PLAIN: Readonly<Record<string, { readonly map: number; readonly opcode: number }>> = {
  MOVNTPS: { map: MAP_0F, opcode: 0x29 },
  MOVNTPD: { map: MAP_0F, opcode: 0x29 },
  MOVNTDQ: { map: MAP_0F, opcode: 0x7f },
  MOVNTDQA: { map: MAP_0F, opcode: 0x6f },
};
/** MXCSR's masks and the bits that must be zero. */
const MASKS_AND_ZEROS = 0xffff_0000 | MXCSR_MASKS;
const PREFIXES = [0, 0x66, 0xf3, 0xf2] as const;

/** How a row is encoded again. */
interface Plan {
  readonly row: Row;
  readonly args: readonly Arg[];
  readonly vex: boolean;
  readonly map: number;
  readonly opcode: number;
  /** 0 none, 1 66h, 2 F3h, 3 F2h. */
  readonly pp: number;
  readonly l: 0 | 1;
  /** -1: by the operand size, if that is one of the row's. */
  readonly w: number;
  readonly modrm: boolean;
  readonly digit: number;
  /** Operands in ModRM.reg, ModRM.rm and VEX.vvvv. */
  readonly reg: Arg | undefined;
  readonly rm: Arg | undefined;
  readonly source: Arg | undefined;
  readonly immediate: boolean;
  readonly level: number;
  readonly aligned: boolean;
}

const isGeneral = (a: Arg | undefined): a is Arg => a !== undefined && "EGRB".includes(a.letter);

export class Vector {
  readonly #plans: (Plan | undefined)[];

  /** `features`: what the host's processor has, by the names that Linux gives it. */
  constructor(decoder: Decoder, variants: Variants, features: ReadonlySet<string>) {
    this.#plans = decoder.rows.map((row, n) => planOf(row, variants.args[n]!, features));
  }

  emitterOf(i: Instruction): ((e: Emitter) => boolean) | undefined {
    const plan = this.#plans[i.row];
    if (!plan || (i.hasMemory && !fits(i))) return undefined;
    return (e) => {
      bring(e, plan.level);
      if (plan.row.name.endsWith("LDMXCSR")) loadMxcsr(e);
      else emit(e, i, plan);
      return true;
    };
  }
}

function planOf(row: Row, args: readonly Arg[], features: ReadonlySet<string>): Plan | undefined {
  if ((row.unit !== "sse" && row.unit !== "avx") || row.string || row.elements || NOT_ALIKE.test(row.name)) return;
  const needs = row.feature === undefined ? undefined : NEEDS[row.feature] ?? "unknown";
  if (needs !== undefined && !features.has(needs)) return;
  if (row.unit === "avx" && !features.has("avx")) return;
  if (args.some((a) => !"VWUHEGRMBIL".includes(a.letter) || (a.letter === "M" && a.size === ""))) return;
  const p = parseOp(row), find = (letters: string) => args.find((a) => letters.includes(a.letter));
  const plain = PLAIN[row.name.replace(/^V/, "")];
  return {
    row,
    args,
    vex: p.vex,
    map: plain?.map ?? p.map,
    opcode: plain?.opcode ?? p.opcode,
    pp: Math.max(p.prefix, 0),
    l: p.l === 1 ? 1 : 0,
    w: p.w >= 0 ? p.w : row.sizes === "y" || args.some((a) => a.size === "y") ? -1 : 0,
    modrm: p.modrm,
    digit: p.digit,
    reg: find("VG"),
    rm: find("WUEMR"),
    source: find("HB"),
    immediate: find("IL") !== undefined,
    level: row.unit === "avx" ? VECTORS.WHOLE : VECTORS.LOW,
    aligned: ALIGNED.test(row.name) || (!p.vex && find("WM")?.size === "dq"),
  };
}

/** Vector registers are the host's from here on, as far as `level` says. U and the host's flags may be lost. */
function bring(e: Emitter, level: number): void {
  if (e.vectors >= level) return;
  const a = e.a, load = a.label(), there = a.label(), exit = e.exit();
  a.aluMI(ALU.CMP, field(S.vectorsIn), level, 32);
  a.jcc(2, load);
  a.bind(there);
  e.vectors = level;
  e.flags.host = 0;
  const { loadVectors, loadWide } = e.routines;
  e.later(() => {
    a.bind(load);
    a.callTo(level === VECTORS.WHOLE ? loadWide : loadVectors);
    a.jmp(there);
    a.jmp(exit);
  });
}

/** Translates the memory operand, and leaves where it is not aligned as it must be. */
function reach(e: Emitter, bytes: number, write: boolean, aligned: boolean): void {
  e.operand(bytes, write);
  if (!aligned) return;
  e.a.testRI(T, bytes - 1, 8);
  e.a.jcc(5, e.exit());
}

function emit(e: Emitter, i: Instruction, p: Plan): void {
  const { rm, reg, source } = p, a = e.a;
  const numberOf = (arg: Arg) => {
    const n = arg.slot === 0 ? i.d : arg.slot === 1 ? i.s : i.x;
    return isGeneral(arg) ? fieldRegister(n) : n >> 4;
  };
  const memory = rm !== undefined && i.hasMemory && isMemoryLetter(rm.letter);
  if (memory) reach(e, argBits(rm, i.size) >> 3, rm.access !== "r", p.aligned);
  // At most one is a general register.
  const general = isGeneral(reg) ? reg : isGeneral(rm) && !memory ? rm : undefined;
  let stored = -1, host = U;
  if (general) {
    const n = numberOf(general);
    if (general.access !== "r") e.flags.beforeWrite(n);
    if (HOST_OF[n]! >= 0) host = HOST_OF[n]!;
    else if (general.access === "r") a.load(U, slot(n), 64);
    else stored = n;
  }
  const where = (arg: Arg | undefined) => arg === undefined ? 0 : arg === general ? host : numberOf(arg);
  const strings = LENGTHS.test(p.row.name);
  if (strings && p.row.name.endsWith("I")) e.flags.beforeWrite(1);
  // It replaces all flags.
  if (p.row.flags) e.flags.pending = null;
  encode(e, i, p, p.digit >= 0 ? p.digit : where(reg), where(source), memory ? null : where(rm));
  if (stored >= 0) a.store(slot(stored), U, 64);
  if (p.row.flags) flags(e);
}

/** `rm` null: in memory, where T says. */
function encode(e: Emitter, i: Instruction, p: Plan, reg: number, source: number, rm: number | null): void {
  const a = e.a, w = p.w >= 0 ? p.w : i.size === 64 ? 1 : 0;
  if (p.vex) {
    const vex: Vex = { map: p.map, pp: p.pp, w: w === 1 ? 1 : 0, l: p.l };
    // VZEROUPPER and VZEROALL have no operands.
    if (!p.modrm) a.raw(0xc5, 0xf8 | (p.l << 2), p.opcode);
    else if (rm === null) a.vexRM(vex, p.opcode, reg, source, e.memory);
    else a.vexRR(vex, p.opcode, reg, source, rm);
  } else if (rm === null) a.rm(w === 1 ? 64 : 32, p.map, p.opcode, reg, e.memory, false, PREFIXES[p.pp]!);
  else a.rr(w === 1 ? 64 : 32, p.map, p.opcode, reg, rm, false, false, PREFIXES[p.pp]!);
  if (p.immediate) a.byte(i.imm & 0xff);
}

/** All six are the host's now. */
function flags(e: Emitter): void {
  const a = e.a;
  if (e.live !== 0) {
    a.rm(8, MAP_0F, 0x95, 0, field(S.nativeX)); // SETNZ
    a.byte(0x9c); // PUSHFQ
    a.pop(U);
    a.store(field(S.nativeExtra), U, 32);
    e.flags.pending = { form: "EXPLICIT", size: 8, from: From.Self, a: "X", y: undefined };
  }
  e.flags.host = ASKED;
}

/** Other vCPUs may write to memory meanwhile: what has been looked at is what is loaded, from the state. */
function loadMxcsr(e: Emitter): void {
  const a = e.a, exit = e.exit();
  e.operand(4, false);
  a.load(U, e.memory, 32);
  a.movRR(T, U, 32);
  a.aluRI(ALU.AND, T, MASKS_AND_ZEROS, 32);
  a.aluRI(ALU.CMP, T, MXCSR_MASKS, 32);
  a.jcc(5, exit);
  a.store(field(S.mxcsr), U, 32);
  a.rm(32, MAP_0F, 0xae, 2, field(S.mxcsr));
  e.flags.host = 0;
}
