/** Native code of what kernels do at every entry: of privileged instructions, those that change fields of the state and no more. */
import type { Instruction } from "../jit/region.ts";
import {
  AC,
  CR4,
  DF,
  DTLB,
  DTLB_BYTES,
  GS,
  IF,
  MICRO,
  MICRO_BYTES,
  MMU_SUPERVISOR,
  MMU_SUPERVISOR_AC,
  S,
} from "../state.ts";
import { ALU, MAP_1 } from "./assembler.ts";
import type { Emitter } from "./emitter.ts";
import { FLAG, OVERRIDE } from "./kept.ts";
import { field, MICRO_TABLE, STATE, T, U } from "./registers.ts";

type Emit = (e: Emitter, i: Instruction, remaining: number) => boolean;

/** Whoever is not the supervisor is the interpreter's business. */
function supervisor(e: Emitter): void {
  e.a.aluMI(ALU.CMP, field(S.cpl), 0, 32);
  e.a.jcc(5, e.exit());
  e.flags.host = 0;
}

const cli: Emit = (e) => {
  supervisor(e);
  e.a.aluMI(ALU.AND, field(S.eflags), ~IF, 32);
  return true;
};

/** Interrupts are looked at where blocks begin: not before the next instruction, if that is in this one. */
const sti: Emit = (e, _i, remaining) => {
  if (remaining === 0) return false;
  const a = e.a, exit = e.exit();
  supervisor(e);
  a.load(T, field(S.events), 32);
  a.aluMI(ALU.CMP, { base: STATE, index: T, scale: 0, disp: -e.cpu }, 0, 32);
  a.jcc(5, exit);
  a.aluMI(ALU.OR, field(S.eflags), IF, 32);
  return true;
};

/** STAC, CLAC: which data TLB is in force, and with it which MICRO table. */
function setAc(on: boolean): Emit {
  return (e) => {
    const a = e.a, exit = e.exit(), tlb = on ? MMU_SUPERVISOR_AC : MMU_SUPERVISOR;
    supervisor(e);
    if (on) {
      a.rm(32, MAP_1, 0xf7, 0, field(S.cr4)); // TEST
      a.u32(CR4.SMAP);
      a.jcc(4, exit);
      a.aluMI(ALU.OR, field(S.eflags), AC, 32);
    } else a.aluMI(ALU.AND, field(S.eflags), ~AC, 32);
    a.storeI(field(S.dtlb), e.cpu + DTLB + tlb * DTLB_BYTES, 32);
    a.storeI(field(S.micro), e.cpu + MICRO + tlb * MICRO_BYTES, 32);
    a.lea(MICRO_TABLE, field(MICRO + tlb * MICRO_BYTES));
    return true;
  };
}

function direction(on: boolean): Emit {
  return (e) => {
    e.flags.host = 0;
    if (on) e.a.aluMI(ALU.OR, field(S.eflags), DF, 32);
    else e.a.aluMI(ALU.AND, field(S.eflags), ~DF, 32);
    return true;
  };
}

const swapgs: Emit = (e) => {
  const a = e.a, base = field(S.segBase + 8 * GS), other = field(S.kernelGsBase);
  supervisor(e);
  a.load(T, base, 64);
  a.load(U, other, 64);
  a.store(base, U, 64);
  a.store(other, T, 64);
  return true;
};

function setCarry(on: boolean): Emit {
  return (e) => {
    e.flags.settle();
    e.a.aluMI(ALU.OR, field(OVERRIDE.AT), OVERRIDE.CF, 8);
    e.a.storeI(field(OVERRIDE.CF_AT), on ? 1 : 0, 8);
    e.a.byte(on ? 0xf9 : 0xf8);
    e.flags.host = FLAG.C;
    return true;
  };
}

/** By the names of their rows. */
export const SYSTEM: Readonly<Record<string, Emit>> = {
  CLI: cli,
  STI: sti,
  STAC: setAc(true),
  CLAC: setAc(false),
  CLD: direction(false),
  STD: direction(true),
  SWAPGS: swapgs,
  CLC: setCarry(false),
  STC: setCarry(true),
};
