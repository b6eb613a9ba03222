/** Whether this host's KVM can be used, and how fast it is: a small guest tells. */
import { messageOf } from "../../base/errors.ts";
import { GuestRam } from "../../base/ram.ts";
import { CodeMap } from "../../base/code_map.ts";
import { allocateMachineMemory, RAM_BASE } from "../../machine/memory.ts";
import type { Board, InitialState } from "../engine.ts";
import { KvmVcpu } from "./kvm.ts";

export interface KvmReport {
  /** Why no guest can run, or null. */
  readonly refusal: string | null;
  /** Millions of instructions a second, of a loop in a guest's kernel; 0 if no guest can run. */
  readonly mips: number;
}

const RAM_BYTES = 64 * 1024;
const PML4 = 0x1000, PDPT = 0x2000, PD = 0x3000, CODE = 0x4000;
/** mov ecx, PASSES; again: dec ecx; jnz again; hlt */
const PASSES = 500_000;
const PROGRAM = [0xb9, PASSES & 0xff, (PASSES >> 8) & 0xff, PASSES >> 16, 0, 0xff, 0xc9, 0x75, 0xfc, 0xf4];
const FIRST_BYTES = 5, PASS_INSTRUCTIONS = 2;
/** A processor is done long before; what is slower than 100 MIPS is cut off. */
const LIMIT_NS = 10e6, WARM_UP_NS = 1e6;

const FLAT_DATA = { selector: 0x18, base: 0, limit: 0xffff_ffff, rights: 0xc093 };
/** 64-bit mode, the first 2 MiB to themselves. */
const STATE: InitialState = {
  rip: CODE,
  rflags: 2,
  cr0: 0x8000_0033,
  cr3: PML4,
  cr4: 0x20,
  efer: 0x500,
  gpr: {},
  segments: {
    cs: { selector: 0x10, base: 0, limit: 0xffff_ffff, rights: 0xa09b },
    ds: FLAT_DATA,
    es: FLAT_DATA,
    ss: FLAT_DATA,
    fs: FLAT_DATA,
    gs: FLAT_DATA,
  },
  gdtr: { base: 0, limit: 0 },
  idtr: { base: 0, limit: 0 },
};

export function probeKvm(): KvmReport {
  try {
    return { refusal: null, mips: measure() };
  } catch (error) {
    return { refusal: messageOf(error), mips: 0 };
  }
}

function measure(): number {
  const memory = allocateMachineMemory(RAM_BYTES);
  const ram = new GuestRam(memory.buffer, RAM_BASE, RAM_BYTES);
  ram.write64(PML4, PDPT | 3);
  ram.write64(PDPT, PD | 3);
  ram.write64(PD, 0x83);
  ram.copyIn(CODE, Uint8Array.from(PROGRAM));
  const now = () => Math.floor(performance.now() * 1e6);
  const words = new SharedArrayBuffer(CodeMap.sizeBytes(RAM_BYTES));
  const vcpu = new KvmVcpu({
    index: 0,
    memory,
    ram,
    board: DEAF,
    clock: { nowNs: now },
    codeMap: new CodeMap(words, 0, RAM_BYTES),
    events: new Int32Array(new SharedArrayBuffer(4)),
    eventsIndex: 0,
    icount: null,
  });
  try {
    // The first entry makes page tables and much else, which is not the guest's speed.
    vcpu.setState(STATE);
    vcpu.run(now() + WARM_UP_NS);
    vcpu.setState(STATE);
    const startNs = now();
    const reason = vcpu.run(startNs + LIMIT_NS);
    const ns = now() - startNs;
    if (reason !== "halt" && reason !== "slice") throw vcpu.lastError ?? new Error(`A test guest ended with ${reason}`);
    return (PASSES - passesLeft(vcpu)) * PASS_INSTRUCTIONS * 1000 / ns;
  } finally {
    vcpu.close();
  }
}

function passesLeft(vcpu: KvmVcpu): number {
  return vcpu.registers.get("rip") < BigInt(CODE + FIRST_BYTES) ? PASSES : Number(vcpu.registers.get("rcx"));
}

/** There is nothing on the test guest's buses. */
const DEAF: Board = {
  ioRead: () => 0xff,
  ioWrite() {},
  mmioRead: () => 0xff,
  mmioWrite() {},
  acknowledge: () => -1,
  readTpr: () => 0,
  writeTpr() {},
  readMsr: () => false,
  writeMsr: () => false,
  msrLo: 0,
  msrHi: 0,
};
