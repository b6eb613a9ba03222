/** For tests: programs that go through given rows a few times, with any registers and operands, and what they come to. */
import { assertEquals } from "@std/assert";
import { isMemoryLetter, rowSizes } from "../../src/cpu/x86/arg.ts";
import { assemble, operands, type Shape } from "../../src/cpu/x86/assemble.ts";
import { Random } from "../diff/random.ts";
import { Asm } from "../tiers/asm.ts";
import { Duel, type Manner } from "../tiers/duel.ts";
import { CODE, DATA, DATA_PAGES, PAGE, VECTOR } from "../tiers/layout.ts";
import type { Program } from "../tiers/program.ts";
import { ignore } from "./fixture.ts";

export const BASE = 0x40_0000n;
const COMPILED: Manner = { compile: "leaders", again: false, slice: 1000, atStops: 0, atLooks: 0 };
/** In the second page of data. */
/** Rows in a program; and how often it goes through them. Where a page is new to the TLB, the interpreter goes on to the end. */
export const TOGETHER = 48;
const ROUNDS = 6;
const PLAIN = DATA + PAGE + 1024, MXCSR = DATA + 64;

/** Numbers that arithmetic has special cases for, of 32 and of 64 bits. */
const SPECIAL: readonly bigint[] = [
  ...[0x0000_0000n, 0x8000_0000n, 0x3f80_0000n, 0x7f80_0000n, 0xff80_0000n, 0x7fc0_0001n, 0x7f80_0001n, 0x0000_0001n],
  ...[0x3ff0_0000_0000_0000n, 0x7ff0_0000_0000_0000n, 0x7ff8_0000_0000_0001n, 0x7ff0_0000_0000_0001n, 0x1n, 1n << 63n],
  ...[0x41df_ffff_ffc0_0000n, 0x4340_0000_0000_0000n, 0x4f00_0000_4f00_0000n, 0xc1e0_0000_0000_0000n],
];

/** Who may look at flags behind an instruction: nobody, a program that has them in a register, in memory, or needs memory first. */
export const LOOKS = [
  "",
  "0F 92 C3", // setc bl
  "0F 47 F2", // cmova esi, edx
  "0F 9A C3", // setp bl
  "41 8B 08 0F 97 C3", // mov ecx, [r8]; seta bl
  "41 8B 08 0F 9B C3", // mov ecx, [r8]; setnp bl
  "9C 41 8F 84 24 00 03 00 00", // pushfq; pop [r12 + 300h]
] as const;

export interface Wanted {
  readonly mxcsr?: number;
  /** Added to the pointers, which are to 64 bytes aligned. */
  readonly offset?: number;
  /** Operands that may be in memory are. */
  readonly memory?: boolean;
  /** Behind each. */
  readonly after?: string;
}

export function program(
  seed: number,
  list: readonly Shape[],
  { mxcsr = 0x1f80, offset = 0, memory = false, after = "" }: Wanted = {},
): Program {
  const random = new Random(seed), a = new Asm(CODE);
  const data = new Uint8Array(DATA_PAGES * PAGE), view = new DataView(data.buffer);
  for (let at = PAGE; at < 3 * PAGE; at += 8) {
    const value = random.once(2) ? random.pick(SPECIAL) : BigInt(random.value32()) << 32n | BigInt(random.value32());
    view.setBigUint64(at, value, true);
  }
  view.setUint32(MXCSR - DATA, mxcsr, true);
  a.raw(new Array(64).fill(0x90));
  const start = a.at, instructions: number[] = [];
  const op = (emit: () => void) => {
    instructions.push(a.at);
    emit();
  };
  const rip = (bytes: number[], to: number) => {
    a.raw(bytes);
    a.place(`at${to}`, to);
    a.rel32(`at${to}`);
  };
  a.label("start");
  op(() => rip([0x0f, 0xae, 0x15], MXCSR)); // ldmxcsr
  // vmovdqu ymm, [data]
  for (let n = 0; n < 16; n++) {
    op(() => rip([0xc5, n < 8 ? 0xfe : 0x7e, 0x6f, 0x05 | ((n & 7) << 3)], DATA + 2 * PAGE + 32 * n));
  }
  op(() => a.mov(14, BigInt(ROUNDS)));
  a.label("again");
  for (const n of [8, 12]) op(() => a.mov(n, BASE + BigInt(PLAIN + 256 * n - 2048 + offset)));
  for (const shape of list) {
    const code = assembled(shape, random, memory);
    op(() => a.raw(code));
    if (after) op(() => a.hex(after));
  }
  op(() => a.hex("49 FF CE")); // dec r14
  op(() => a.jcc(5, "again"));
  op(() => a.hex(`CD ${VECTOR.END.toString(16)}`));
  const registers = Array.from({ length: 16 }, () => BigInt(random.value32()) << 32n | BigInt(random.value32()));
  return {
    seed,
    user: true,
    base: BASE,
    code: a.finish(),
    data,
    start,
    recoveries: [instructions.at(-1)!],
    leaders: [start, a.labels.get("again")!],
    instructions,
    registers,
    pieces: [],
  };
}

function assembled(shape: Shape, random: Random, memory: boolean): number[] {
  const { row, args } = shape, o = operands(random.pick(rowSizes(row, args, true)));
  const vector = (letter: string) => "VWUHL".includes(letter);
  // R8 and R12 have addresses; R13 is one of those that native code has in the state.
  o.regs = args.map((a) => vector(a.letter) ? random.below(16) : random.pick([0, 3, 6, 10, 13, 15]));
  const place = args.findIndex((a) => isMemoryLetter(a.letter));
  if (place >= 0 && (args[place]!.letter === "M" || memory || random.once(2))) {
    const disp = random.pick([0, 64]);
    o.memory = { base: random.pick([8, 12]), index: -1, scale: 0, disp, dispBytes: 0, ripRelative: false };
  }
  o.imm = random.below(256);
  return assemble(shape, o);
}

const duel = ignore ? null : new Duel(true);

/** Both agree. The part of the instructions that has run natively, and how many exceptions there were. */
export function compare(p: Program, what: string): { part: number; exceptions: number } {
  const { differences, compiled, instructions, exceptions } = duel!.compare(p, COMPILED);
  assertEquals(differences, [], what);
  return { part: compiled / instructions, exceptions };
}
