/**
 * The machine code around the cases: a comparison function for bsearch that runs `COUNT` cases, and a signal handler.
 *
 * For each case it loads every register from a record and jumps in; cases leave by one of two exits, which store every register
 * into another record. A fault becomes the first exit, with its cause in the record.
 */
import { UC_CR2, UC_CSGSFS, UC_EFL, UC_ERR, UC_RIP, UC_TRAPNO } from "../../ffi/native.ts";
import { R, RECORD, STUB, VARS } from "./arena.ts";

/** In VARS. */
export const V = {
  HOST_RSP: 0,
  IN_PTR: 8,
  OUT_PTR: 16,
  COUNT: 24,
  EXIT: 28,
  RAX: 32,
  TARGET: 40,
  HOST_GS: 48,
  LOOP: 56,
  HOST_FX: 64,
} as const;

export interface Stub {
  readonly bytes: Uint8Array;
  /** Addresses. */
  readonly entry: number;
  readonly handler: number;
  readonly entry32: number;
  /** Where cases jump when they are done, and where when a branch was taken. */
  readonly exit: number;
  readonly exitTaken: number;
  /** The same for 32-bit code. */
  readonly exit32: number;
  readonly exitTaken32: number;
}

/** Selectors of Linux. */
const USER_CS = 0x33, USER32_CS = 0x23, USER_DS = 0x2b;
const RAX = 0, RCX = 1, RDX = 2, RSP = 4;

class Emitter {
  readonly bytes: number[] = [];
  constructor(readonly base: number) {}
  get here(): number {
    return this.base + this.bytes.length;
  }
  raw(...bytes: number[]): void {
    this.bytes.push(...bytes);
  }
  d32(v: number): void {
    this.raw(v & 255, (v >> 8) & 255, (v >> 16) & 255, (v >> 24) & 255);
  }
  /** opcode with ModRM [address]; the arena is below 2 GiB. */
  absolute(prefix: number[], opcode: number[], reg: number, address: number, wide = true): void {
    this.raw(...prefix);
    if (wide) this.raw(0x48 | ((reg >> 3) << 2));
    this.raw(...opcode, ((reg & 7) << 3) | 4, 0x25);
    this.d32(address);
  }
  /** opcode with ModRM [base + disp]; base is not RSP. */
  based(opcode: number[], reg: number, base: number, disp: number, wide = true): void {
    if (wide) this.raw(0x48 | ((reg >> 3) << 2));
    this.raw(...opcode, 0x80 | ((reg & 7) << 3) | base);
    this.d32(disp);
  }
  jump(opcode: number[], target: number): void {
    this.raw(...opcode);
    this.d32(target - (this.here + 4));
  }
}

const LOAD = [0x8b], STORE = [0x89], FXSAVE = 0, FXRSTOR = 1, FX_OP = [0x0f, 0xae];

export function emitStub(arena: number, gsBase: boolean, avx: boolean): Stub {
  const e = new Emitter(arena + STUB), v = (name: keyof typeof V) => arena + VARS + V[name];

  // The handler: rdi = signal, rdx = ucontext.
  const handler = e.here;
  e.absolute([], LOAD, RAX, v("OUT_PTR"));
  e.based(STORE, 7, RAX, R.SIGNAL, false);
  for (const [from, to] of [[UC_TRAPNO, R.TRAP], [UC_ERR, R.ERROR], [UC_CR2, R.CR2], [UC_RIP, R.RIP]] as const) {
    e.based(LOAD, RCX, RDX, from);
    e.based(STORE, RCX, RAX, to);
  }
  const patch = e.bytes.length + 3;
  e.raw(0x48, 0xc7, 0xc1, 0, 0, 0, 0); // mov rcx, exit
  e.based(STORE, RCX, RDX, UC_RIP);
  e.raw(0x66, 0xc7, 0x82); // mov word [rdx + UC_CSGSFS], CS
  e.d32(UC_CSGSFS);
  e.raw(USER_CS, 0);
  e.based([0x81], 4, RDX, UC_EFL, false); // and dword [rdx + UC_EFL], ~TF
  e.d32(~0x100);
  e.raw(0xc3);

  // 32-bit code goes in by a far jump, with data segments that it can use.
  const toDone: number[] = [];
  const emitEntry = (legacy: boolean): number => {
    const entry = e.here;
    e.raw(0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57); // push rbx rbp r12..r15
    e.absolute([], STORE, RSP, v("HOST_RSP"));
    e.absolute([], FX_OP, FXSAVE, v("HOST_FX"));
    if (gsBase) {
      e.raw(0xf3, 0x48, 0x0f, 0xae, 0xc8); // rdgsbase rax
      e.absolute([], STORE, RAX, v("HOST_GS"));
    }
    if (legacy) loadDataSegments(e, USER_DS);
    const toLoop = e.bytes.length + 4;
    e.absolute([], [0xc7], 0, v("LOOP")); // mov qword [LOOP], loop
    e.d32(0);
    const loop = e.here;
    put32(e.bytes, toLoop + 4, loop);
    e.absolute([], [0x83], 7, v("COUNT"), false); // cmp dword [COUNT], 0
    e.raw(0);
    e.raw(0x0f, 0x84); // je done
    toDone.push(e.bytes.length);
    e.d32(0);
    e.absolute([], LOAD, RAX, v("IN_PTR"));
    e.based(FX_OP, FXRSTOR, RAX, R.FX);
    if (avx) { for (let n = 0; n < 16; n++) upperHalf(e, n, true); }
    if (gsBase) {
      e.based(LOAD, RCX, RAX, R.GS);
      e.raw(0xf3, 0x48, 0x0f, 0xae, 0xd9); // wrgsbase rcx
    }
    e.based(LOAD, RCX, RAX, R.RIP);
    e.absolute([], STORE, RCX, v("TARGET"));
    if (legacy) {
      e.absolute([0x66], [0xc7], 0, v("TARGET") + 4, false); // mov word [TARGET + 4], CS
      e.raw(USER32_CS, 0);
    }
    e.based([0xff], 6, RAX, R.FLAGS, false); // push
    e.raw(0x9d); // popf
    for (let n = 1; n < 16; n++) e.based(LOAD, n, RAX, 8 * n);
    e.based(LOAD, RAX, RAX, 0);
    e.absolute([], [0xff], legacy ? 5 : 4, v("TARGET"), false); // jmp [TARGET], near or far
    return entry;
  };
  const entry = emitEntry(false), entry32 = emitEntry(true);

  // In 32-bit code [disp32] is the short form.
  const exitTaken32 = e.here;
  e.raw(0xc7, 0x05);
  e.d32(v("EXIT"));
  e.d32(1);
  const exit32 = e.here;
  e.raw(0xea); // jmp far 33h:exit
  const toExit = e.bytes.length;
  e.d32(0);
  e.raw(USER_CS, 0);

  const exitTaken = e.here;
  e.absolute([], [0xc7], 0, v("EXIT"), false);
  e.d32(1);
  const exit = e.here;
  put32(e.bytes, toExit, exit);
  e.absolute([], STORE, RAX, v("RAX"));
  e.absolute([], LOAD, RAX, v("OUT_PTR"));
  for (let n = 1; n < 16; n++) e.based(STORE, n, RAX, 8 * n);
  e.absolute([], LOAD, RSP, v("HOST_RSP"));
  e.raw(0x9c); // pushf
  e.based([0x8f], 0, RAX, R.FLAGS, false); // pop
  e.raw(0x68); // push 202h
  e.d32(0x202);
  e.raw(0x9d);
  e.absolute([], LOAD, RCX, v("RAX"));
  e.based(STORE, RCX, RAX, 0);
  e.absolute([], LOAD, RCX, v("EXIT"), false);
  e.based(STORE, RCX, RAX, R.EXIT, false);
  e.absolute([], [0xc7], 0, v("EXIT"), false);
  e.d32(0);
  if (gsBase) {
    e.raw(0xf3, 0x48, 0x0f, 0xae, 0xc9); // rdgsbase rcx
    e.based(STORE, RCX, RAX, R.GS);
  }
  e.based(FX_OP, FXSAVE, RAX, R.FX);
  if (avx) { for (let n = 0; n < 16; n++) upperHalf(e, n, false); }
  for (const name of ["IN_PTR", "OUT_PTR"] as const) {
    e.absolute([], [0x81], 0, v(name)); // add qword
    e.d32(RECORD);
  }
  e.absolute([], [0xff], 1, v("COUNT"), false); // dec
  e.absolute([], [0xff], 4, v("LOOP"), false); // jmp [LOOP]
  const done = e.here;
  for (const at of toDone) put32(e.bytes, at, done - (e.base + at + 4));
  loadDataSegments(e, 0);
  put32(e.bytes, patch, exit);
  if (avx) e.raw(0xc5, 0xf8, 0x77); // vzeroupper
  e.absolute([], FX_OP, FXRSTOR, v("HOST_FX"));
  if (gsBase) {
    e.absolute([], LOAD, RCX, v("HOST_GS"));
    e.raw(0xf3, 0x48, 0x0f, 0xae, 0xd9);
  }
  e.raw(0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b); // pop r15..r12 rbp rbx
  e.raw(0x31, 0xc0, 0xc3); // xor eax, eax; ret
  return { bytes: Uint8Array.from(e.bytes), entry, entry32, handler, exit, exitTaken, exit32, exitTaken32 };
}

function put32(bytes: number[], at: number, v: number): void {
  for (let i = 0; i < 4; i++) bytes[at + i] = (v >> (8 * i)) & 255;
}

/** VINSERTF128 ymm, ymm, [rax + …], 1, or VEXTRACTF128 the other way. */
function upperHalf(e: Emitter, n: number, load: boolean): void {
  e.raw(0xc4, (n < 8 ? 0x80 : 0) | 0x63, load ? ((~n & 15) << 3) | 5 : 0x7d, load ? 0x18 : 0x19, 0x80 | ((n & 7) << 3));
  e.d32(R.YMM + 16 * n);
  e.raw(1);
}

/** MOV ECX, selector; MOV DS, ECX; MOV ES, ECX. */
function loadDataSegments(e: Emitter, selector: number): void {
  e.raw(0xb9);
  e.d32(selector);
  e.raw(0x8e, 0xd9, 0x8e, 0xc1);
}
