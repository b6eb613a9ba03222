/** Which rows a compiled region expands in place. */
import type { RegionHost } from "./region_host.ts";

/** Rows whose semantics touch general registers only through operands and Ops: they can be expanded. */
export const INLINE = new Set([
  ..."MOV MOVZX MOVSX MOVSXD LEA ADD OR ADC SBB AND SUB XOR CMP TEST INC DEC NOT NEG SHL SAL SHR SAR ROL ROR IMUL MUL CBW CWD"
    .split(" "),
  ..."XCHG XADD CMPXCHG BSWAP MOVBE BT BTS BTR BTC BSF BSR TZCNT LZCNT POPCNT ANDN BLSR BLSMSK BLSI BEXTR BZHI".split(
    " ",
  ),
  ..."SHLD SHRD SHLX SHRX SARX RORX MULX PUSH POP PUSHF LEAVE NOP".split(" "),
  // What kernels do at every entry: the state, and no register.
  ..."CLI STI CLD STD STAC CLAC SWAPGS LFENCE SFENCE MFENCE".split(" "),
]);
/** Of the privileged ones, those that are expanded. */
const PRIVILEGED = new Set(["SWAPGS"]);
/** Rows that choose another data TLB. */
export const CHANGES_TLB = new Set(["STAC", "CLAC"]);
/** Rows that move a pointer on by a little, or that leave registers as they were. */
export const STEPS = /^(INC|DEC|PUSH|POP|LEAVE|CMP|TEST)$/;

/** Operands that need no more than general registers, memory and constants. */
const INLINE_OPERANDS = new Set(["E", "M", "R", "G", "Z", "B", "A", "I", "O", "1", "CL"]);

export const VECTOR_OPERANDS = new Set(["V", "W", "U", "H"]);
/** Vector rows that move whole states, or look at more than their operands. */
const NEVER =
  /^(FX|XSAVE|XRSTOR|MASKMOV|V?LDMXCSR|V?STMXCSR|PCMP.STR|MOVDQ2Q|MOVQ2DQ|PINSR|PEXTR|EXTRACTPS|INSERTPS|BLENDV|PBLENDVB|SHA)/;

/** Registers that rows use without naming them in their operands. */
export const IMPLICIT: Record<string, readonly number[]> = {
  MUL: [0, 2],
  IMUL: [0, 2],
  MULX: [2],
  CBW: [0],
  CWD: [0, 2],
  CMPXCHG: [0],
  PUSH: [4],
  POP: [4],
  PUSHF: [4],
  LEAVE: [4, 5],
};

/** For each row of the decoder's. */
export function rowsInPlace({ decoder, variants }: Pick<RegionHost, "decoder" | "variants">): boolean[] {
  return decoder.rows.map((r, i) => {
    if ((r.cpl0 && !PRIVILEGED.has(r.name)) || r.string || r.inState || NEVER.test(r.name)) return false;
    if (r.unit && r.unit !== "sse" && r.unit !== "avx") return false;
    // Without an operand it is a segment register's.
    if ((r.name === "PUSH" || r.name === "POP") && !r.args) return false;
    if (!r.unit && !INLINE.has(r.name) && !/^(CMOV|SET)[A-Z]+$/.test(r.name)) return false;
    return variants.args[i]!.every((a) => INLINE_OPERANDS.has(a.letter) || (r.unit && VECTOR_OPERANDS.has(a.letter)));
  });
}
