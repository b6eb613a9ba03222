/**
 * Rows: one instruction, one line, in the letters of the manual: [sdm2 appendix A].
 *
 * `op`: prefixes that select (NP, 66, F3, F2; none means any; W0 or W1 if REX.W matters), opcode bytes ("0F 38 F0" is map 2,
 * "0F 3A .." map 3), then "/digit" or "/r" if a ModRM byte follows, "+r" if the low three bits name a register. A second byte
 * "C0".."FF" after D8..DF, 0F 01, 0F AE, 0F 1E is a whole ModRM byte; with "+" (as "C0+") its low three bits name ST(i) or do
 * not matter. "VEX" first: a VEX-encoded row, then
 * L (L0, L1, LIG) and W (W0, W1, WIG) as in the manual: "VEX.L0.NP.W0 0F38 F2 /r" is written "VEX L0 W0 NP 0F 38 F2 /r".
 *
 * `args`, separated by commas. A letter, a size, and a mark: "=" only written, "+" read and written, neither only read.
 *
 * | letter | operand |
 * |---|---|
 * | E | ModRM r/m: register or memory |
 * | M | ModRM r/m, memory only; without a size: the address itself |
 * | R | ModRM r/m, register only |
 * | G | ModRM reg |
 * | Z | register in the opcode's low three bits |
 * | B | VEX.vvvv, general register |
 * | A | AL/AX/EAX/RAX by size |
 * | I | immediate; Ib sign-extended to the operand size; Iub zero-extended; Iq 64 bits wide |
 * | J | branch displacement |
 * | O | memory offset in the instruction |
 * | S, C, D | segment, control, debug register of ModRM reg (as a number) |
 * | V, W, U | vector: ModRM reg; r/m register or memory; r/m register only |
 * | H | VEX.vvvv, vector |
 * | P, Q, N | MMX: ModRM reg; r/m register or memory; r/m register only |
 * | L | immediate bits 7..4, vector register |
 * | F | x87 register by the opcode's low three bits, ST(i) |
 * | 1, CL | that constant; that register |
 *
 * Sizes: b 8, w 16, d 32, q 64, v 16/32/64 by operand size, z 16/32 (sign-extended to 64), y 32/64, dq 128 aligned,
 * u 128 unaligned, qq 256 (semantics look at alignment where it matters), t 80 bits. In memory also: p a far pointer (an offset of the operand size and a selector), s a descriptor
 * table register, a two operands; semantics take their parts from the effective address.
 */
import type { Ops } from "./ops.ts";
import type { Operand } from "./operand.ts";

export interface Row {
  readonly op: string;
  readonly name: string;
  readonly args?: string;
  /** Status flags it changes (O S Z A P C), defined or not. */
  readonly flags?: string;
  /** Of those, the ones left undefined (compared with nothing), always or for some operands. */
  readonly undef?: string;
  /** Status flags it reads. */
  readonly reads?: string;
  /** LOCK is allowed. */
  readonly lock?: boolean;
  /** The form of a row with `lock` that is atomic among several vCPUs: memory only, found through that row (locked.ts). */
  readonly locked?: boolean;
  /** Only in 64-bit mode; only outside of it. */
  readonly only?: "64" | "legacy";
  /** Operand size is 64 in 64-bit mode without REX.W (and 16 with 66h): pushes, pops, near branches. */
  readonly d64?: boolean;
  /** In 64-bit mode 66h does not select a 16-bit operand size: near branches ignore it. */
  readonly no16?: boolean;
  /** #GP(0) unless CPL is 0. */
  readonly cpl0?: boolean;
  /** Availability of the unit is checked first. */
  readonly unit?: "sse" | "x87" | "mmx" | "avx";
  /** A string instruction: record field b is the source segment, x the address size in bytes, imm 0 none, 1 REP/REPE, 2 REPNE. */
  readonly string?: boolean;
  /** Semantics differ between 64-bit mode and the others (stack, branches): instantiated for each; see Ops.is64. */
  readonly modes?: boolean;
  /** Ends the straight line: the instruction never just continues with the next one. */
  readonly ends?: boolean;
  /** Implicit operands come in these sizes: v 16/32/64, y 32/64. Rows whose args say so need not. */
  readonly sizes?: "v" | "y";
  /** The register form can fault by itself (a division). */
  readonly faults?: boolean;
  /** For some operand values the flags stay as they were (a shift by zero). */
  readonly maybe?: boolean;
  /** Does not wait for pending x87 exceptions. */
  readonly nowait?: boolean;
  /**
   * Memory is reached one element at a time, each by an address of its own: those that a mask asks for, or ("index") those that
   * a vector register in place of the index tells (VSIB). The record's immediate says how: decode.ts ELEMENT.
   */
  readonly elements?: "mask" | "index";
  /** The immediate's bits 7..4 name a vector register, of which outside 64-bit mode there are eight. */
  readonly is4?: boolean;
  /** Worth a place in the interpreter's loop: 1, also as [base + displacement]; 2, also as [base + index × scale + displacement]. */
  readonly hot?: 1 | 2;
  /** Finds vector registers in the state by itself, not only by its operands: a compiled region calls its handler. */
  readonly inState?: boolean;
  /** Feature flag in CPUID (cpuid.ts) without which this row is #UD. */
  readonly feature?: string;
  /** User-mode rows are compared with the host's processor; a reason here says why this one is not. */
  readonly noHost?: string;
  /** Extra constant for rows that share semantics: a condition code, an ALU operation. */
  readonly k?: number;
  // deno-lint-ignore no-explicit-any
  readonly sem: (o: Ops, ...operands: any[]) => void;
}

export type Sem = (o: Ops, ...operands: Operand[]) => void;
