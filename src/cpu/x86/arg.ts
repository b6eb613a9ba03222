/** The parsed form of a row's `op` and `args`: what the decoder, the handlers and the assembler agree on. */
import { Bug } from "../../base/errors.ts";
import type { Row } from "./row.ts";

export type Letter =
  | "E"
  | "M"
  | "R"
  | "G"
  | "Z"
  | "B"
  | "A"
  | "I"
  | "J"
  | "O"
  | "S"
  | "C"
  | "D"
  | "V"
  | "W"
  | "U"
  | "H"
  | "P"
  | "Q"
  | "N"
  | "L"
  | "F"
  | "1"
  | "CL";

export interface Arg {
  readonly letter: Letter;
  /** b w d q v z y dq u t ub, or "" for an address or a number. */
  readonly size: string;
  readonly access: "r" | "w" | "rw";
  /** Which record field names its register: 0 d, 1 s, 2 x; -1: none. A memory operand keeps its place. */
  readonly slot: number;
}

export interface Pattern {
  /** 0: one byte; 1: 0F; 2: 0F 38; 3: 0F 3A. */
  readonly map: number;
  readonly opcode: number;
  /** -1 any, 0 none, 1 66, 2 F3, 3 F2. */
  readonly prefix: number;
  /** -1 any, else REX.W or VEX.W. */
  readonly w: number;
  readonly vex: boolean;
  /** -1 any, else VEX.L. */
  readonly l: number;
  readonly modrm: boolean;
  /** /digit, or -1. */
  readonly digit: number;
  /** A whole ModRM byte, or -1; `fixedMask` 0xF8 if its low three bits are free. */
  readonly fixed: number;
  readonly fixedMask: number;
  /** Register in the opcode's low three bits. */
  readonly plusR: boolean;
}

const SLOTTED = "EMRGZBASCDVWUHPQNLF";

/** Operands by their text: 1,600 rows have 280 of them. */
const parsed = new Map<string, readonly Arg[]>();

/** Equal texts give the same array. */
export function parseArgs(row: Row): readonly Arg[] {
  const known = parsed.get(row.args ?? "");
  if (known) return known;
  const args = readArgs(row);
  parsed.set(row.args ?? "", args);
  return args;
}

function readArgs(row: Row): Arg[] {
  if (!row.args) return [];
  let slot = 0;
  return row.args.split(",").map((text) => {
    const m = /^(CL|1|[A-Z])([a-z]*)([=+]?)$/.exec(text.trim());
    if (!m) throw new Bug(`${row.name}: bad operand ${text}`);
    const letter = m[1] as Letter;
    const slotted = letter !== "CL" && SLOTTED.includes(letter);
    return { letter, size: m[2]!, access: m[3] === "=" ? "w" : m[3] === "+" ? "rw" : "r", slot: slotted ? slot++ : -1 };
  });
}

export function parseOp(row: Row): Pattern {
  const tokens = row.op.split(" ");
  let prefix = -1, w = -1, l = -1, vex = false, digit = -1, fixed = -1, fixedMask = 0xff, plusR = false, modrm = false;
  const bytes: number[] = [];
  for (const t of tokens) {
    if (t === "VEX") vex = true;
    else if (t === "NP") prefix = 0;
    else if (t === "LIG" || t === "WIG") continue;
    else if (t === "L0" || t === "L1") l = Number(t[1]);
    else if (t === "W0" || t === "W1") w = Number(t[1]);
    else if (t === "/r") modrm = true;
    else if (/^\/[0-7]$/.test(t)) (modrm = true), (digit = Number(t[1]));
    else if (t === "+r") plusR = true;
    else if (
      bytes.length === 0 && (t === "66" || t === "F3" || t === "F2") && tokens.length > 1 && prefix < 0 &&
      nextIsOpcode(tokens, t)
    ) {
      prefix = t === "66" ? 1 : t === "F3" ? 2 : 3;
    } else if (/^[0-9A-F]{2}\+?$/.test(t)) {
      if (t.endsWith("+")) fixedMask = 0xf8;
      bytes.push(parseInt(t, 16));
    } else throw new Bug(`${row.name}: bad token ${t} in ${row.op}`);
  }
  let map = 0, i = 0;
  if (bytes[0] === 0x0f) {
    map = 1, i = 1;
    if (bytes[1] === 0x38) map = 2, i = 2;
    else if (bytes[1] === 0x3a) map = 3, i = 2;
  }
  const opcode = bytes[i];
  if (opcode === undefined) throw new Bug(`${row.name}: no opcode in ${row.op}`);
  if (bytes.length > i + 1) {
    fixed = bytes[i + 1]!;
    modrm = true;
  }
  return { map, opcode, prefix, w, vex, l, modrm, digit, fixed, fixedMask, plusR };
}

function nextIsOpcode(tokens: readonly string[], t: string): boolean {
  const next = tokens[tokens.indexOf(t) + 1];
  return next !== undefined &&
    (/^[0-9A-F]{2}\+?$/.test(next) || next === "W0" || next === "W1" || next === "LIG" || next === "WIG");
}

/** Operand sizes a row is instantiated for, in bits. */
export function rowSizes(row: Row, args: readonly Arg[], is64: boolean): number[] {
  const has = (letters: string) => args.some((a) => a.size !== "" && letters.includes(a.size) && a.letter !== "J");
  const v = row.sizes === "v" || row.d64 || args.some((a) => a.size === "v" || a.size === "z");
  if (v) {
    if (row.d64) return is64 ? [16, 64] : [16, 32];
    return is64 ? [16, 32, 64] : [16, 32];
  }
  if (row.sizes === "y" || has("y")) return is64 ? [32, 64] : [32];
  const first = args.find((a) => ["b", "w", "d", "q"].includes(a.size));
  return [first ? argBits(first, 32) : 32];
}

/** Width of an argument in bits when the operand size is `size`. 0: a number or an address. */
export function argBits(arg: Arg, size: number): number {
  switch (arg.size) {
    case "b":
      return arg.letter === "I" ? size : 8;
    case "ub":
      return 8;
    case "w":
      return 16;
    case "d":
      return 32;
    case "q":
      return 64;
    case "v":
    case "y":
      return size;
    case "z":
      return size;
    case "dq":
    case "u":
      return 128;
    case "qq":
      return 256;
    case "t":
      return 80;
    default:
      return arg.letter === "CL" ? 8 : arg.letter === "1" ? 8 : 0;
  }
}

/** Whether the operand is (or may be) in memory when ModRM.mod is not 3. */
export function isMemoryLetter(letter: Letter): boolean {
  return letter === "E" || letter === "M" || letter === "W" || letter === "Q" || letter === "O";
}
