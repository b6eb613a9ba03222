/** Programs that only KVM's own tests run, as machine code: 64-bit ones at CODE, the others where their names say. */
import { code } from "../law_rig.ts";

export const MIXED = code(
  "48b8f0debc9a78563412", // mov rax, 0x123456789abcdef0
  "4989c7", // mov r15, rax
  "66480f6ef8", // movq xmm7, rax
  "dbe3", // fninit
  "d9e8", // fld1
  "d9eb", // fldpi
  "db042500030200", // fild dword [0x20300]
  "d9ca", // fxch st2
  "660f6ec0", // movd xmm0, eax
  "66440f70ff1b", // pshufd xmm15, xmm7, 0x1b
  "66440ffeff", // paddd xmm15, xmm7
  "f9", // stc
  "49c1d705", // rcl r15, 5
  "b918000000", // mov ecx, 0x18
  "8ee1", // mov fs, ecx
  "b9810000c0", // mov ecx, 0xc0000081
  "b811111111", // mov eax, 0x11111111
  "ba10002300", // mov edx, 0x230010
  "0f30", // wrmsr
  "b9020100c0", // mov ecx, 0xc0000102
  "b800500000", // mov eax, 0x5000
  "31d2", // xor edx, edx
  "0f30", // wrmsr
  "0f01f8", // swapgs
  "0f21fb", // mov rbx, dr7
  "48be0004020000000000", // mov rsi, 0x20400
  "0f23ce", // mov dr1, rsi
  "4157", // push r15
  "9c", // pushfq
  "5f", // pop rdi
  "0f01142510030200", // lgdt [0x20310]
  "0f20e5", // mov rbp, cr4
  "83cd04", // or ebp, 4
  "0f22e5", // mov cr4, rbp
  "0fae142520030200", // ldmxcsr [0x20320]
  "dec1", // faddp st1
  "d92c2528030200", // fldcw [0x20328]
  "4d29f8", // sub r8, r15
  "9c", // pushfq
  "4159", // pop r9
  "0fae042500100200", // fxsave [0x21000]
  "4889042500000200", // mov [0x20000], rax
  "48891c2508000200", // mov [0x20008], rbx
  "48893c2510000200", // mov [0x20010], rdi
  "48892c2518000200", // mov [0x20018], rbp
  "4c890c2520000200", // mov [0x20020], r9
  "4c893c2528000200", // mov [0x20028], r15
  "4889242530000200", // mov [0x20030], rsp
  "8c242538000200", // mov [0x20038], fs
  "0f01042540000200", // sgdt [0x20040]
  "b9810000c0", // mov ecx, 0xc0000081
  "0f32", // rdmsr
  "89142550000200", // mov [0x20050], edx
  "89042554000200", // mov [0x20054], eax
  "0f21c8", // mov rax, dr1
  "4889042558000200", // mov [0x20058], rax
  "0f20e0", // mov rax, cr4
  "4889042560000200", // mov [0x20060], rax
  "65488b042508000000", // mov rax, [gs:8]
  "4889042568000200", // mov [0x20068], rax
  "f4", // hlt
);

export const EXCHANGE = code(
  "48b80100000000000000", // mov rax, 1
  "48ba0200000000000000", // mov rdx, 2
  "48bb0300000000000000", // mov rbx, 3
  "48b90400000000000000", // mov rcx, 4
  "f0480fc70c2500010200", // lock cmpxchg16b [0x20100]
  "0f94042500000200", // setz [0x20000]
  "f0480fc70c2500010200", // lock cmpxchg16b [0x20100]
  "0f94042501000200", // setz [0x20001]
  "cc", // int3
  "c604250200020001", // mov byte [0x20002], 1
  "f4", // hlt
);

export const BREAKPOINT = code(
  "488b0424", // mov rax, [rsp]
  "4889042508000200", // mov [0x20008], rax
  "48cf", // iretq
);

/** Two processors: the first starts the second, sends it INIT while it runs, and starts it again elsewhere. */
export const SEND_STARTUP = code(
  "bb0000e0fe", // mov ebx, 0xfee00000
  "c783f0000000ff010000", // mov dword [rbx+0xf0], 0x1ff
  "c7831003000000000001", // mov dword [rbx+0x310], 0x1000000
  "c7830003000000450000", // mov dword [rbx+0x300], 0x4500
  "c7830003000008460000", // mov dword [rbx+0x300], 0x4608
  "f390", // pause
  "833c250000020001", // cmp dword [0x20000], 1
  "0f85f0ffffff", // jne $-10
  "c7830003000000450000", // mov dword [rbx+0x300], 0x4500
  "c7830003000009460000", // mov dword [rbx+0x300], 0x4609
  "f390", // pause
  "833c250400020001", // cmp dword [0x20004], 1
  "0f85f0ffffff", // jne $-10
  "b015", // mov al, 21
  "e6f4", // out 0xf4, al
  "f4", // hlt
);

export const FIRST_START = code(
  "b80020", // mov ax, 0x2000
  "8ed8", // mov ds, ax
  "c606000001", // mov byte [0], 1
  "e9fdff", // jmp $
);

export const SECOND_START = code(
  "b80020", // mov ax, 0x2000
  "8ed8", // mov ds, ax
  "c606040001", // mov byte [4], 1
  "fa", // cli
  "f4", // hlt
);

export const RESET_ONCE = code(
  "833c250000020000", // cmp dword [0x20000], 0
  "0f8513000000", // jne $+25
  "ff042500000200", // inc dword [0x20000]
  "66baf90c", // mov dx, 0xcf9
  "b006", // mov al, 6
  "ee", // out dx, al
  "e9fbffffff", // jmp $
  "b015", // mov al, 21
  "e6f4", // out 0xf4, al
  "f4", // hlt
);
/** Has KVM's clock put at 26000H, a move at port 10h, and tells the clock's version before and after it. */
export const KVM_CLOCK = code(
  "b9014d564b", // mov ecx, 0x4b564d01
  "b801600200", // mov eax, 0x26001
  "31d2", // xor edx, edx
  "0f30", // wrmsr
  "b001", // mov al, 1
  "e610", // out 0x10, al
  "8b042500600200", // mov eax, [0x26000]
  "89042500000200", // mov [0x20000], eax
  "8b042510600200", // mov eax, [0x26010]
  "89042508000200", // mov [0x20008], eax
  "8b042514600200", // mov eax, [0x26014]
  "8904250c000200", // mov [0x2000c], eax
  "f4", // hlt
);
