/** What runs when a program faults, is interrupted or asks: machine code, the same for all programs. */
import { Asm } from "./asm.ts";
import { AT, LOG_ENTRIES, MAX_FAULTS, SYSTEM, VAR, VECTOR } from "./layout.ts";

const HAS_ERROR_CODE = new Set([8, 10, 11, 12, 13, 14, 17]);
/** From the saved registers: R8, RDI, RSI, RBX, RDX, RCX, RAX, then vector, error code, and the frame. */
const FRAME = { VECTOR: 56, ERROR: 64, RIP: 72, CS: 80, FLAGS: 88, RSP: 96, SS: 104 } as const;

export interface Supervisor {
  readonly bytes: Uint8Array;
  /** Offsets in `bytes` by vector, and of SYSCALL's target. */
  readonly vectors: ReadonlyMap<number, number>;
  readonly syscall: number;
  /** Targets of jumps. */
  readonly places: readonly number[];
}

export const VECTORS = [...Array.from({ length: 20 }, (_, n) => n), ...Object.values(VECTOR)];

/**
 * Faults are logged. A page fault where REPAIR has an entry for the page puts that into the page table and returns; other faults
 * go on at the next of the program's places to recover, with `cs` and `ss`, on a new stack, until there have been too many.
 */
export function supervisor(cs: number, ss: number, stackTop: bigint, programBase: bigint): Supervisor {
  const a = new Asm(), vectors = new Map<number, number>();
  const vars = BigInt(SYSTEM + AT.VARS);
  for (const v of VECTORS) {
    vectors.set(v, a.at);
    if (!HAS_ERROR_CODE.has(v)) a.hex("6A 00");
    a.hex("68");
    a.u32(v);
    a.jmp("common");
  }
  a.label("common");
  a.hex("50 51 52 53 56 57 41 50"); // push rax, rcx, rdx, rbx, rsi, rdi, r8
  a.hex("FC"); // cld
  a.mov(3, vars); // rbx
  a.hex(`8B 44 24 ${h(FRAME.VECTOR)}`); // mov eax, [rsp + VECTOR]
  const on = (vector: number, label: string) => {
    a.hex("3D"); // cmp eax, vector
    a.u32(vector);
    a.jcc(4, label);
  };
  on(VECTOR.INTERRUPT, "interrupt");
  on(2, "nmi");
  // The log: vector and error code, RIP, CR2, flags.
  a.hex(`48 8B 4B ${h(VAR.LOGGED)} 48 FF 43 ${h(VAR.LOGGED)}`); // mov rcx, [rbx + LOGGED]; inc [rbx + LOGGED]
  a.hex(`83 E1 ${h(LOG_ENTRIES - 1)} C1 E1 05`); // and ecx; shl ecx, 5
  a.mov(6, BigInt(SYSTEM + AT.LOG));
  a.hex("48 01 CE"); // add rsi, rcx
  a.hex(`48 8B 54 24 ${h(FRAME.ERROR)} 48 C1 E2 20 48 09 C2 48 89 16`); // [rsi] = error << 32 | vector
  a.hex(`48 8B 54 24 ${h(FRAME.RIP)} 48 89 56 08`);
  a.hex("0F 20 D2 48 89 56 10"); // mov rdx, cr2; [rsi + 16]
  a.hex(`48 8B 54 24 ${h(FRAME.FLAGS)} 48 89 56 18`);
  on(14, "page");
  on(1, "debug");
  on(3, "done");
  on(VECTOR.CALL, "toggle");
  on(VECTOR.END, "end");

  a.label("fault");
  a.hex(`48 8B 43 ${h(VAR.FAULTS)} 48 FF C0 48 89 43 ${h(VAR.FAULTS)}`); // rax = ++FAULTS
  a.hex(`48 83 F8 ${h(MAX_FAULTS)}`);
  a.jcc(3, "end"); // jae
  a.hex(`31 D2 48 F7 73 ${h(VAR.RECOVERIES)}`); // xor edx, edx; div qword [RECOVERIES]
  a.hex("48 8B 94 D3"); // mov rdx, [rbx + rdx * 8 + TABLE]
  a.u32(VAR.TABLE);
  a.hex(`48 89 54 24 ${h(FRAME.RIP)}`);
  a.mov(2, stackTop);
  a.hex(`48 89 54 24 ${h(FRAME.RSP)}`);
  const frame = (offset: number, value: number) => {
    a.hex(`48 C7 44 24 ${h(offset)}`);
    a.u32(value);
  };
  frame(FRAME.CS, cs);
  frame(FRAME.SS, ss);
  frame(FRAME.FLAGS, 0x202);
  a.label("done");
  a.hex("41 58 5F 5E 5B 5A 59 58 48 83 C4 10 48 CF"); // pops; add rsp, 16; iretq

  a.label("page");
  // A page of the program's 2 MiB that can be repaired?
  a.hex("0F 20 D6"); // mov rsi, cr2
  a.hex("49 89 F0"); // mov r8, rsi
  a.mov(2, programBase);
  a.hex("48 29 D6 48 C1 EE 0C 48 81 FE"); // sub rsi, rdx; shr rsi, 12; cmp rsi, 512
  a.u32(512);
  a.jcc(3, "fault");
  a.mov(7, BigInt(SYSTEM + AT.REPAIR));
  a.hex("48 8B 04 F7 48 85 C0"); // mov rax, [rdi + rsi * 8]; test rax, rax
  a.jcc(4, "fault");
  a.mov(7, BigInt(SYSTEM + AT.PT));
  a.hex("48 8B 0C F7 48 83 E1 9F"); // mov rcx, [rdi + rsi * 8]; and rcx, ~60h
  a.hex("48 89 C2 48 83 E2 9F 48 39 CA"); // mov rdx, rax; and rdx, ~60h; cmp rdx, rcx
  a.jcc(4, "fault");
  a.hex("48 89 04 F7 41 0F 01 38"); // mov [rdi + rsi * 8], rax; invlpg [r8]
  a.jmp("done");

  a.label("debug");
  a.hex(`48 FF 43 ${h(VAR.STEPS)} F6 43 ${h(VAR.STEPS)} 07`); // inc [STEPS]; test byte [STEPS], 7
  a.jcc(5, "done");
  a.hex(`48 81 64 24 ${h(FRAME.FLAGS)} FF FE FF FF`); // and qword [FLAGS], ~TF
  a.jmp("done");

  a.label("interrupt");
  a.hex(`48 FF 43 ${h(VAR.INTERRUPTS)}`);
  a.jmp("done");
  a.label("nmi");
  a.hex(`48 FF 43 ${h(VAR.NMIS)}`);
  a.jmp("done");

  a.label("toggle");
  // The page of number EAX: the entry's bits in ECX change. Both are where they were pushed.
  a.hex("48 8B 74 24 30 81 E6 FF 01 00 00"); // mov rsi, [rsp + 48]; and esi, 511
  a.mov(7, BigInt(SYSTEM + AT.PT));
  a.hex("48 8B 4C 24 28 83 E1 03 48 31 0C F7"); // mov rcx, [rsp + 40]; and ecx, 3; xor [rdi + rsi * 8], rcx
  a.mov(2, programBase);
  a.hex("48 C1 E6 0C 48 01 F2 0F 01 3A"); // shl rsi, 12; add rdx, rsi; invlpg [rdx]
  a.jmp("done");

  a.label("end");
  a.hex("FA F4"); // cli; hlt
  a.jmp("end");

  const syscall = a.at;
  a.hex("53"); // push rbx: on the program's stack
  a.mov(3, vars);
  a.hex(`48 FF 43 ${h(VAR.CALLS)} 5B 48 0F 07`); // inc [CALLS]; pop rbx; sysretq
  return { bytes: a.finish(), vectors, syscall, places: [...a.labels.values()] };
}

function h(byte: number): string {
  return byte.toString(16).padStart(2, "0");
}
