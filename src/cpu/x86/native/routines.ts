/**
 * What all native code of a vCPU shares: how it is entered and left, how control finds code elsewhere, and translation when the
 * MICRO table has another page. Laid once, at the start of the arena.
 */
import { STATUS } from "../ops.ts";
import {
  DTLB,
  DTLB_ENTRIES,
  ITLB_ENTRIES,
  MICRO,
  MICRO_HOSTS,
  MICRO_SHIFT,
  reg,
  S,
  TLB_ADDEND,
  TLB_TAG_R,
  TLB_TAG_W,
  VBASE,
} from "../state.ts";
import { UNIT } from "../units.ts";
import { ALU, Assembler, MAP_0F3A, type Vex } from "./assembler.ts";
import { field, HOST, HOST_OF, MICRO_TABLE, slot, STATE, T, U } from "./registers.ts";

const { RAX, RCX, RDX, RBX, RSP, RBP, RDI, R12, R13, R14, R15 } = HOST;
const SAVED = [RBX, RBP, R12, R13, R14, R15];

const UPPER: Vex = { map: MAP_0F3A, pp: 1, w: 0, l: 1 };

/** Bytes of host stack that guest calls may fill: 24 a call. */
const STACK_BYTES = 96 * 1024;

/** Addresses of the routines. */
export interface Routines {
  /** Looks up linear address T and goes on there, or leaves. */
  readonly chain: bigint;
  /** The same for a return that does not go to the caller on the host's stack: forgets the callers there. */
  readonly chainFresh: bigint;
  /** Leaves for linear address T. */
  readonly leaveJump: bigint;
  /** Leaves for the record in S.resumeOp. */
  readonly leaveResume: bigint;
  /**
   * The lower halves of vector registers from the state to the host's, and MXCSR: S.vectorsIn becomes VECTORS.LOW. Where
   * instructions on them trap, or an exception is not masked, it returns AFTER_VECTORS bytes further on.
   */
  readonly loadVectors: bigint;
  /** Both halves, or what is not there yet of them: VECTORS.WHOLE. 0n where the host has no AVX. */
  readonly loadWide: bigint;
  /** By size in bytes and whether it writes: see `emitTranslate`. */
  readonly translate: ReadonlyMap<string, bigint>;
}

/** A call of `translate` is followed by these two instructions, POP RAX and JMP rel32; behind them it comes back if it fails. */
export const AFTER_TRANSLATE = 6;
/** Calls of `loadVectors` and `loadWide` are followed by JMP rel32. */
export const AFTER_VECTORS = 5;
/** S.vectorsIn. */
export const VECTORS = { NONE: 0, LOW: 1, WHOLE: 2 } as const;
/** MXCSR's exception masks: all of them. */
export const MXCSR_MASKS = 0x1f80;
export const ACCESS_SIZES = [1, 2, 4, 8, 16, 32] as const;

/** [R15 + U - cpu + offset]: what lies at offset U of the machine's memory. */
const memoryAt = (cpu: number, index: number, offset = 0) => ({ base: STATE, index, scale: 0, disp: offset - cpu });

/** `wide`: the host has AVX. */
export function emitRoutines(
  origin: bigint,
  cpu: number,
  native: number,
  wide: boolean,
): { code: Uint8Array; routines: Routines } {
  const a = new Assembler(origin), here = () => origin + BigInt(a.at);
  const leaveJump = a.label(), leave = a.label(), chain = a.label();

  // The thunk, a function of (state).
  for (const r of SAVED) a.push(r);
  a.push(RAX);
  a.movRR(STATE, RDI);
  // The lowest frame: a return to 0 finds nothing of ours there.
  a.push(RAX);
  a.storeI({ base: RSP, index: -1, scale: 0, disp: 0 }, 0, 64);
  const frame = a.label();
  a.call(frame);
  const chainFresh = here(), fresh = a.label();
  a.bind(fresh);
  a.load(RSP, field(S.nativeRsp), 64);
  a.jmp(chain);
  a.bind(frame);
  a.store(field(S.nativeRsp), RSP, 64);
  a.lea(U, { base: RSP, index: -1, scale: 0, disp: -STACK_BYTES });
  a.store(field(S.nativeLimit), U, 64);
  a.load(MICRO_TABLE, field(S.dtlb), 32);
  a.aluRI(ALU.SUB, MICRO_TABLE, cpu + DTLB, 32);
  a.shiftRI(5, MICRO_TABLE, MICRO_SHIFT, 32);
  a.lea(MICRO_TABLE, { base: STATE, index: MICRO_TABLE, scale: 0, disp: MICRO });
  HOST_OF.forEach((h, n) => h >= 0 && a.load(h, slot(n), 64));
  a.jmpM(field(S.nativeTarget));

  a.bind(chain);
  const chainAt = here();
  a.store(field(S.rip), T, 64);
  a.movRR(U, T, 32);
  a.shiftRI(5, U, 12, 32);
  a.aluRI(ALU.AND, U, ITLB_ENTRIES - 1, 32);
  a.shiftRI(4, U, 4, 32);
  a.aluRM(ALU.ADD, U, field(S.itlb), 32);
  a.aluRI(ALU.AND, T, -4096, 64);
  a.aluRM(ALU.CMP, T, memoryAt(cpu, U), 64);
  a.jcc(5, leaveJump);
  a.load(U, memoryAt(cpu, U, 8), 32);
  a.testRR(U, U, 32);
  a.jcc(4, leaveJump);
  a.store(field(reg(VBASE)), T, 64);
  a.load(T, field(S.rip), 32);
  a.aluRI(ALU.AND, T, 0xfff, 32);
  a.lea(U, { base: U, index: T, scale: 2, disp: 0 }, 32);
  a.load(U, memoryAt(cpu, U), 32);
  a.aluMI(ALU.CMP, memoryAt(cpu, U), native, 16);
  a.jcc(5, leaveJump);
  a.jmpM(memoryAt(cpu, U, 8));

  const leaveTarget = here();
  a.store(field(S.rip), T, 64);
  a.bind(leaveJump);
  a.storeI(field(S.exitStatus), STATUS.JUMP, 32);
  a.jmp(leave);
  const leaveResume = here();
  a.storeI(field(S.exitStatus), STATUS.RESUME, 32);
  a.bind(leave);
  HOST_OF.forEach((h, n) => h >= 0 && a.store(slot(n), h, 64));
  const noVectors = a.label(), noUpper = a.label();
  a.aluMI(ALU.CMP, field(S.vectorsIn), VECTORS.LOW, 32);
  a.jcc(2, noVectors);
  if (wide) {
    a.jcc(4, noUpper);
    for (let n = 0; n < 16; n++) {
      a.vexRM(UPPER, 0x19, n, 0, field(S.ymmHigh + 16 * n)); // VEXTRACTF128
      a.byte(1);
    }
    a.raw(0xc5, 0xf8, 0x77); // VZEROUPPER
  }
  a.bind(noUpper);
  for (let n = 0; n < 16; n++) a.rm(32, 1, 0x29, n, field(S.xmm + 16 * n)); // MOVAPS
  a.rm(32, 1, 0xae, 3, field(S.mxcsr)); // STMXCSR
  a.storeI(field(S.vectorsIn), 0, 32);
  a.rm(32, 1, 0xae, 2, field(S.nativeMxcsr)); // LDMXCSR
  a.bind(noVectors);
  a.load(RSP, field(S.nativeRsp), 64);
  // The lowest frame, and what aligned the stack.
  a.lea(RSP, { base: RSP, index: -1, scale: 0, disp: 24 });
  for (const r of [...SAVED].reverse()) a.pop(r);
  a.aluRR(ALU.XOR, RAX, RAX, 32);
  a.ret();

  const refused = a.label(), low = a.label();
  /** Whether they may run at all, by bits of S.unitTraps. */
  const check = (traps: number) => {
    a.rm(32, 0, 0xf7, 0, field(S.unitTraps)); // TEST
    a.u32(traps);
    a.jcc(5, refused);
  };
  const loadVectors = here();
  check(UNIT.SSE);
  a.bind(low);
  a.load(U, field(S.mxcsr), 32);
  a.aluRI(ALU.AND, U, MXCSR_MASKS, 32);
  a.aluRI(ALU.CMP, U, MXCSR_MASKS, 32);
  a.jcc(5, refused);
  a.storeI(field(S.vectorsIn), VECTORS.LOW, 32);
  a.rm(32, 1, 0xae, 3, field(S.nativeMxcsr)); // STMXCSR
  a.rm(32, 1, 0xae, 2, field(S.mxcsr)); // LDMXCSR
  for (let n = 0; n < 16; n++) a.rm(32, 1, 0x28, n, field(S.xmm + 16 * n)); // MOVAPS
  a.ret();
  a.bind(refused);
  a.aluMI(ALU.ADD, { base: RSP, index: -1, scale: 0, disp: 0 }, AFTER_VECTORS, 64);
  a.ret();
  const loadWide = wide ? here() : 0n;
  if (wide) {
    const upper = a.label();
    check(UNIT.SSE | UNIT.AVX);
    a.aluMI(ALU.CMP, field(S.vectorsIn), VECTORS.NONE, 32);
    a.jcc(5, upper);
    a.call(low);
    a.jmp(upper);
    a.jmp(refused);
    a.bind(upper);
    for (let n = 0; n < 16; n++) {
      a.vexRM(UPPER, 0x18, n, n, field(S.ymmHigh + 16 * n)); // VINSERTF128
      a.byte(1);
    }
    a.storeI(field(S.vectorsIn), VECTORS.WHOLE, 32);
    a.ret();
  }

  const translate = new Map<string, bigint>();
  for (const bytes of ACCESS_SIZES) {
    for (const write of [false, true]) {
      translate.set(`${bytes}${write}`, here());
      emitTranslate(a, cpu, bytes, write);
    }
  }
  const routines = {
    chain: chainAt,
    chainFresh,
    leaveJump: leaveTarget,
    leaveResume,
    loadVectors,
    loadWide,
    translate,
  };
  return { code: a.finish(), routines };
}

/**
 * T is an address less the page in the MICRO table at offset RAX, whose place it is: looks at the TLB. On success T is the offset
 * in memory, and the MICRO table has the page; on failure it returns AFTER_TRANSLATE bytes further on. Keeps all but T and flags.
 */
function emitTranslate(a: Assembler, cpu: number, bytes: number, write: boolean): void {
  const miss = a.label();
  const micro = (disp: number) => ({ base: MICRO_TABLE, index: RAX, scale: 0, disp });
  a.push(RCX);
  a.push(RDX);
  a.aluRM(ALU.ADD, T, micro(0), 64);
  a.movRR(RCX, T, 32);
  a.shiftRI(5, RCX, 7, 32);
  a.aluRI(ALU.AND, RCX, (DTLB_ENTRIES - 1) << 5, 32);
  a.aluRM(ALU.ADD, RCX, field(S.dtlb), 32);
  a.lea(RDX, { base: T, index: -1, scale: 0, disp: bytes - 1 });
  a.aluRI(ALU.AND, RDX, -4096, 64);
  a.aluRM(ALU.CMP, RDX, memoryAt(cpu, RCX, write ? TLB_TAG_W : TLB_TAG_R), 64);
  a.jcc(5, miss);
  a.store(micro(0), RDX, 64);
  a.load(RCX, memoryAt(cpu, RCX, TLB_ADDEND), 32);
  a.aluRR(ALU.ADD, RCX, RDX, 32);
  a.store(micro(MICRO_HOSTS), RCX, 32);
  a.aluRR(ALU.SUB, T, RDX, 64);
  a.aluRR(ALU.ADD, T, RCX, 64);
  a.pop(RDX);
  a.pop(RCX);
  a.ret();
  a.bind(miss);
  a.pop(RDX);
  a.pop(RCX);
  a.aluMI(ALU.ADD, { base: RSP, index: -1, scale: 0, disp: 0 }, AFTER_TRANSLATE, 64);
  a.ret();
}
