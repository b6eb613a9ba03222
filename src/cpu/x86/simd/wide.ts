/**
 * Vectors of VEX-encoded instructions: one half (128 bits) or two. A write of one half clears the other: [sdm2 §2.3.10.1].
 *
 * The destination is the row's first operand, so its register is the record's field d; the others are s and x.
 */
import { Bug } from "../../../base/errors.ts";
import type { Value } from "../../../wasm/value.ts";
import type { Operand } from "../operand.ts";
import type { Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { type VectorOp, zeros } from "./vector.ts";

/** One or two vectors, the lower first. */
export type Halves = readonly Value[];
/** How many halves. */
export type Length = 1 | 2;
export const LENGTHS = [1, 2] as const;

/** The place of an operand in its row. */
export type Slot = 0 | 1 | 2;

/** The register in field `slot`. */
export function register(o: Ops, slot: Slot, length: Length): Halves {
  return o.vector(slot, length === 2);
}
/** 128 or 256 bits at the memory operand, of any alignment. */
export function memory(o: Ops, length: Length): Halves {
  const at = o.readAt(o.ea.get(), 16 * length);
  return length === 1 ? [o.c.ldV(at)] : [o.c.ldV(at), o.c.ldV(at, 16)];
}
/** Operand number `slot`, a register or memory. */
export function source(o: Ops, operand: Operand, slot: Slot, length: Length): Halves {
  return operand.isMemory ? memory(o, length) : register(o, slot, length);
}

/** Writes the destination register. */
export function setRegister(o: Ops, halves: Halves, slot: Slot = 0): void {
  const [low, high] = halves.map((v) => o.let(v));
  o.setVector(slot, low!, high ?? zeros());
}
/** Writes the memory operand. */
export function setMemory(o: Ops, halves: Halves): void {
  const at = o.writeAt(o.ea.get(), 16 * halves.length, false);
  halves.forEach((v, i) => o.c.stV(at, v, 16 * i));
  o.commit(at);
}

/** Semantics of "V=,H,W": f on each half. */
export function three(f: VectorOp, length: Length): Row["sem"] {
  return (o: Ops, _a: Operand, _b: Operand, w: Operand) => {
    const y = source(o, w, 2, length), x = register(o, 1, length);
    setRegister(o, x.map((v, i) => f(o, v, y[i]!)));
  };
}
/** Semantics of "V=,H,W,Iub". */
export function threeImm(
  f: (o: Ops, a: Value, b: Value, imm: Value, half: number) => Value,
  length: Length,
): Row["sem"] {
  return (o: Ops, _a: Operand, _b: Operand, w: Operand, imm: Operand) => {
    const y = source(o, w, 2, length), x = register(o, 1, length), n = imm.get();
    setRegister(o, x.map((v, i) => f(o, v, y[i]!, n, i)));
  };
}
/** Semantics of "V=,W", and of "V=,W,Iub". */
export function two(f: (o: Ops, v: Value, imm: Value | undefined) => Value, length: Length): Row["sem"] {
  return (o: Ops, _a: Operand, w: Operand, imm?: Operand) => {
    const x = source(o, w, 1, length), n = imm?.get();
    setRegister(o, x.map((v) => f(o, v, n)));
  };
}

/** Letters of operands with the size of their length: "V=,H,W" → "Vu=,Hu,Wu" or "Vqq=,Hqq,Wqq". */
export function sized(args: string, length: Length): string {
  return args.replace(/\b([VHWUM])(?=[=+,]|$)/g, length === 1 ? "$1u" : "$1qq");
}

/** What rows of one family share. */
export type Common = Pick<Row, "flags" | "noHost" | "feature" | "sizes">;

/**
 * A row for each vector length. `code` is the encoding behind "VEX L0"; the features are those of 128 and of 256 bits, null if
 * there is no such form.
 */
export function lengths(
  code: string,
  name: string,
  args: string,
  features: readonly [string | null, string | null],
  sem: (length: Length) => Row["sem"],
  common: Common = {},
): Row[] {
  return LENGTHS.filter((n) => features[n - 1] !== null).map((n) => ({
    op: `VEX L${n - 1} ${code}`,
    name,
    args: sized(args, n),
    unit: "avx",
    feature: features[n - 1]!,
    ...common,
    sem: sem(n),
  }));
}
export const AVX = ["AVX", "AVX"] as const;
/** Integers came to 256 bits later. */
export const AVX2_WIDE = ["AVX", "AVX2"] as const;
export const AVX2 = ["AVX2", "AVX2"] as const;
/** 128 bits only; 256 bits only. */
export const ONLY_128 = ["AVX", null] as const;
export const ONLY_256 = [null, "AVX"] as const;
export const ONLY_256_AVX2 = [null, "AVX2"] as const;

/** One row of 128 bits or less, whatever VEX.L (if `ignored`) or with VEX.L = 0. */
export function single(
  code: string,
  name: string,
  args: string,
  sem: Row["sem"],
  more: Partial<Row> & { ignored?: boolean } = {},
): Row {
  const { ignored, ...rest } = more;
  return { op: `VEX ${ignored ? "LIG" : "L0"} ${code}`, name, args, unit: "avx", feature: "AVX", ...rest, sem };
}

/** The whole of a 128-bit operand that a row reads by lanes. */
export function whole(o: Ops, slot: Slot): Value {
  const [v] = register(o, slot, 1);
  if (!v) throw new Bug("A vector has a lower half");
  return v;
}
