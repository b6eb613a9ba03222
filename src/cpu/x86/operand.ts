/** Operands as semantics see them. */
import type { Value } from "../../wasm/value.ts";

export interface Operand {
  /** Width in bits. */
  readonly bits: number;
  readonly isMemory: boolean;
  /**
   * The value: an i32 for 8, 16 and 32 bits (zero-extended), an i64 for 64, a v128 for 128. Vector registers read by a
   * narrower operand give their low part (W of 32 or 64 bits: i32 or i64).
   */
  get(): Value;
  /**
   * Writes. Only the low `bits` of the value count; a 32-bit general register is zero-extended to 64. A vector register
   * written through a narrower operand keeps its other bits.
   */
  set(value: Value): void;
  /** Reads, computes, writes: for memory, the write is known to succeed before anything is computed. */
  update(change: (old: Value) => Value): void;
}
