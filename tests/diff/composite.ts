/**
 * Pieces of a sequence that only make sense together: string instructions with their pointers, calls, jumps through registers,
 * code that changes itself.
 */
import { RCX, RDI, RSI } from "../../src/cpu/x86/state.ts";
import type { Generator } from "./generate.ts";

/** Opcode bytes with a random one of the string instructions: MOVS STOS LODS CMPS SCAS. */
const STRINGS = [0xa4, 0xaa, 0xac, 0xa6, 0xae];
const d32 = (v: number): number[] => [v & 0xff, (v >> 8) & 0xff, (v >> 16) & 0xff, (v >> 24) & 0xff];

/** LEA reg, [base + disp32], 64 bits. */
function lea(reg: number, base: number, disp: number): number[] {
  const rex = 0x48 | ((reg >> 3) << 2) | (base >> 3), modrm = 0x80 | ((reg & 7) << 3) | (base & 7);
  return (base & 7) === 4 ? [rex, 0x8d, modrm, 0x24, ...d32(disp)] : [rex, 0x8d, modrm, ...d32(disp)];
}

/** LEA RSI, LEA RDI, MOV ECX, a string instruction with or without a repeat prefix. `base` is the middle of the window. */
export function stringPiece(g: Generator, base: number): number[] {
  const { random } = g, op = random.pick(STRINGS), wide = random.below(4);
  const at = () => random.between(-96, 96);
  return [
    ...lea(RSI, base, at()),
    ...lea(RDI, base, at()),
    0xb8 | RCX,
    ...d32(random.below(20)),
    ...(random.once(8) ? [0x67] : []),
    ...(wide === 1 ? [0x66] : []),
    ...(random.once(3) ? [] : [random.once(2) ? 0xf3 : 0xf2]),
    ...(wide === 3 ? [0x48] : []),
    op | (wide === 0 ? 0 : 1),
  ];
}

/** CALL f; JMP over; f: `body`; RET; over. */
export function callPiece(body: readonly number[]): number[] {
  return [0xe8, ...d32(5), 0xe9, ...d32(body.length + 1), ...body, 0xc3];
}
/** Bytes in front of the body of a call. */
export const CALL_HEAD = 10;

/** LEA RAX, [RIP + past the gap]; JMP RAX, over UD2. */
export function jumpPiece(g: Generator): number[] {
  const gap = g.random.between(2, 12);
  return [0x48, 0x8d, 0x05, ...d32(2 + gap), 0xff, 0xe0, ...new Array(gap).fill(0x0b).fill(0x0f, 0, 1)];
}

/** MOV byte [RIP + into the next immediate], CL; MOV EDX, imm32. */
export function selfChangingPiece(g: Generator): number[] {
  const byte = g.random.below(4);
  return [0x88, 0x0d, ...d32(1 + byte), 0xba, ...d32(g.random.next())];
}
