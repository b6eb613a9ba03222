/**
 * What an exit's qualification and the interruption information say: [sdm3 §28.2.1], [sdm3 §25.8.3]. Numbers are the low words
 * of the fields.
 */
import { EventType } from "../vcpu_state.ts";

/** Why the processor came back; bit 31: the guest was not entered at all. */
export const ENTRY_FAILED = 0x8000_0000;
export const basicReason = (reason: number): number => reason & 0xffff;

/** I/O instructions: [sdm3 table 28-5]. */
export const Io = {
  /** In bytes: 1, 2 or 4. */
  size: (q: number): number => (q & 7) + 1,
  isIn: (q: number): boolean => (q & 8) !== 0,
  isString: (q: number): boolean => (q & 16) !== 0,
  port: (q: number): number => q >>> 16,
} as const;

/** Accesses to control registers: [sdm3 table 28-3]. */
export const Cr = {
  number: (q: number): number => q & 15,
  kind: (q: number): number => (q >>> 4) & 3,
  TO: 0,
  FROM: 1,
  CLTS: 2,
  LMSW: 3,
  /** In the order of instructions' encodings. */
  gpr: (q: number): number => (q >>> 8) & 15,
} as const;

/** EPT violations: [sdm3 table 28-7]. */
export const EptViolation = {
  isWrite: (q: number): boolean => (q & 2) !== 0,
  /** Of data, by an address that the instruction made, and not one of the walk of the page tables. */
  isDataAccess: (q: number): boolean => (q & 0x184) === 0x180,
  /** The access was not one of event delivery, and an IRET had unblocked NMIs before it. */
  nmiUnblocked: (q: number): boolean => (q & (1 << 12)) !== 0,
} as const;

/** Accesses to the local APIC's page: [sdm3 table 28-6]. */
export const ApicAccess = {
  offset: (q: number): number => q & 0xfff,
  kind: (q: number): number => (q >>> 12) & 15,
  READ: 0,
  WRITE: 1,
} as const;

/** Task switches: [sdm3 table 28-2]. */
export const Task = {
  source: (q: number): number => q >>> 30,
  CALL: 0,
  IRET: 1,
  JMP: 2,
  GATE: 3,
} as const;

/** Interruption information: of the exit, of the delivery it came upon, and of the next entry. */
export const Info = {
  VALID: 0x8000_0000,
  HAS_ERROR: 1 << 11,
  vector: (info: number): number => info & 0xff,
  type: (info: number): number => (info >>> 8) & 7,
  isValid: (info: number): boolean => (info & 0x8000_0000) !== 0,
  hasError: (info: number): boolean => (info & (1 << 11)) !== 0,
  of: (type: number, vector: number, error: boolean): number =>
    (0x8000_0000 | (error ? 1 << 11 : 0) | (type << 8) | vector) >>> 0,
} as const;

/** Events that an instruction raises: it is at RIP, and an entry has to be told its length. */
export function isSoftware(info: number): boolean {
  return Info.type(info) >= EventType.SOFTWARE_INTERRUPT;
}

/** What to put into the next entry so that the delivery which this exit came upon is done again; 0 if it came upon none. */
export function eventToRepeat(vectoring: number): number {
  if (!Info.isValid(vectoring)) return 0;
  // Bit 12 says nothing here, and what is beyond is reserved.
  return (vectoring & (Info.VALID | Info.HAS_ERROR | 0x7ff)) >>> 0;
}
