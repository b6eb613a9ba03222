/**
 * Where native code keeps things.
 *
 * | host | what |
 * |---|---|
 * | RAX RCX RDX RBX RBP RSI RDI R8 R9 R10 | the guest's register of that name |
 * | R12 | the guest's RSP |
 * | R11, R13 | temporaries |
 * | R14 | the MICRO table in force (state.ts) |
 * | R15 | the vCPU's state |
 * | RSP | the host's stack: a frame for each guest call that may return natively |
 *
 * The guest's R11 to R15 stay in the state. All other memory of the machine is addressed from R15 too.
 */
import type { At, Host } from "./assembler.ts";

export const HOST = {
  RAX: 0,
  RCX: 1,
  RDX: 2,
  RBX: 3,
  RSP: 4,
  RBP: 5,
  RSI: 6,
  RDI: 7,
  R8: 8,
  R9: 9,
  R10: 10,
  R11: 11,
  R12: 12,
  R13: 13,
  R14: 14,
  R15: 15,
} as const;

/** Addresses of memory operands; and what lies there. */
export const T: Host = HOST.R13;
/** Everything else. */
export const U: Host = HOST.R11;
export const MICRO_TABLE: Host = HOST.R14;
export const STATE: Host = HOST.R15;

/** Of the guest's sixteen: the host's register, or -1 for those that stay in the state. */
export const HOST_OF: readonly Host[] = [0, 1, 2, 3, HOST.R12, 5, 6, 7, 8, 9, 10, -1, -1, -1, -1, -1];

/** A field of the state. */
export function field(offset: number): At {
  return { base: STATE, index: -1, scale: 0, disp: offset };
}
/** A general register's place in the state. */
export function slot(n: number): At {
  return { base: STATE, index: -1, scale: 0, disp: 8 * n };
}
