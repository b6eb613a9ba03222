/** Programs for the laws of engines, as machine code: 64-bit ones at CODE or HANDLERS, MODES a boot sector. */
import { code } from "./law_rig.ts";

export const PIO = code(
  "b012", // mov al, 0x12
  "e680", // out 0x80, al
  "66ba3412", // mov dx, 0x1234
  "b8efcdab89", // mov eax, 0x89abcdef
  "ee", // out dx, al
  "66ef", // out dx, ax
  "ef", // out dx, eax
  "31c0", // xor eax, eax
  "e481", // in al, 0x81
  "4889042500000200", // mov [0x20000], rax
  "48b8ffffffffffffffff", // mov rax, -1
  "66ed", // in ax, dx
  "4889042508000200", // mov [0x20008], rax
  "48b8ffffffffffffffff", // mov rax, -1
  "ed", // in eax, dx
  "4889042510000200", // mov [0x20010], rax
  "f4", // hlt
);

export const STRINGS = code(
  "baf0010000", // mov edx, 0x1f0
  "be00010200", // mov esi, 0x20100
  "b903000000", // mov ecx, 3
  "f36e", // rep outsb
  "bf00000200", // mov edi, 0x20000
  "b902000000", // mov ecx, 2
  "f3666d", // rep insw
  "6f", // outsd
  "fd", // std
  "bf0c000200", // mov edi, 0x2000c
  "6d", // insd
  "fc", // cld
  "4889342510000200", // mov [0x20010], rsi
  "48893c2518000200", // mov [0x20018], rdi
  "48890c2520000200", // mov [0x20020], rcx
  "f4", // hlt
);

export const MMIO = code(
  "bb000000c1", // mov ebx, 0xc1000000
  "48b88877665544332211", // mov rax, 0x1122334455667788
  "8803", // mov [rbx], al
  "66894302", // mov [rbx+2], ax
  "894304", // mov [rbx+4], eax
  "48894308", // mov [rbx+8], rax
  "c643015a", // mov byte [rbx+1], 0x5a
  "c74304efbeadde", // mov dword [rbx+4], 0xdeadbeef
  "0fb60b", // movzx ecx, byte [rbx]
  "48890c2500000200", // mov [0x20000], rcx
  "480fbf4b02", // movsx rcx, word [rbx+2]
  "48890c2508000200", // mov [0x20008], rcx
  "48b9ffffffffffffffff", // mov rcx, -1
  "8b4b04", // mov ecx, [rbx+4]
  "48890c2510000200", // mov [0x20010], rcx
  "488b4b08", // mov rcx, [rbx+8]
  "48890c2518000200", // mov [0x20018], rcx
  "834b1001", // or dword [rbx+16], 1
  "31c0", // xor eax, eax
  "f6431480", // test byte [rbx+20], 0x80
  "0f95c0", // setnz al
  "4889042520000200", // mov [0x20020], rax
  "f4", // hlt
);

export const HALT = code(
  "f4", // hlt
  "e610", // out 0x10, al
  "f4", // hlt
);

export const ENDLESS = code(
  "e9fbffffff", // jmp $
);

export const WAKE = code(
  "b001", // mov al, 1
  "fb", // sti
  "f4", // hlt
  "e610", // out 0x10, al
  "fa", // cli
  "f4", // hlt
);

export const HANDLER = code(
  "50", // push rax
  "b077", // mov al, 0x77
  "e620", // out 0x20, al
  "58", // pop rax
  "48cf", // iretq
);

export const MASKED = code(
  "fa", // cli
  "e610", // out 0x10, al
  "e611", // out 0x11, al
  "fb", // sti
  "e612", // out 0x12, al
  "e613", // out 0x13, al
  "fa", // cli
  "f4", // hlt
);

export const NMI = code(
  "fa", // cli
  "b001", // mov al, 1
  "e610", // out 0x10, al
  "b002", // mov al, 2
  "e611", // out 0x11, al
  "f4", // hlt
  "b003", // mov al, 3
  "e612", // out 0x12, al
  "f4", // hlt
);

export const TRIPLE = code(
  "0f0b", // ud2
);

export const FAULTS = code(
  "0f0b", // ud2
  "31c9", // xor ecx, ecx
  "f7f1", // div ecx
  "488b042500000040", // mov rax, [0x40000000]
  "b978563412", // mov ecx, 0x12345678
  "0f32", // rdmsr
  "f4", // hlt
);

export const FAULT_UD = code(
  "e606", // out 0x06, al
  "4883042402", // add qword [rsp], 2
  "48cf", // iretq
);

export const FAULT_DE = code(
  "e600", // out 0x00, al
  "4883042402", // add qword [rsp], 2
  "48cf", // iretq
);

export const FAULT_PF = code(
  "0f20d0", // mov rax, cr2
  "4889042500000200", // mov [0x20000], rax
  "488b0424", // mov rax, [rsp]
  "4889042508000200", // mov [0x20008], rax
  "4883c408", // add rsp, 8
  "e60e", // out 0x0e, al
  "4883042408", // add qword [rsp], 8
  "48cf", // iretq
);

export const FAULT_GP = code(
  "488b0424", // mov rax, [rsp]
  "4889042510000200", // mov [0x20010], rax
  "890c2518000200", // mov [0x20018], ecx
  "4883c408", // add rsp, 8
  "e60d", // out 0x0d, al
  "4883042402", // add qword [rsp], 2
  "48cf", // iretq
);

export const TPR = code(
  "b805000000", // mov eax, 5
  "440f22c0", // mov cr8, rax
  "e610", // out 0x10, al
  "440f20c3", // mov rbx, cr8
  "48891c2500000200", // mov [0x20000], rbx
  "31c0", // xor eax, eax
  "440f22c0", // mov cr8, rax
  "e611", // out 0x11, al
  "e612", // out 0x12, al
  "440f20c3", // mov rbx, cr8
  "48891c2508000200", // mov [0x20008], rbx
  "f4", // hlt
);

export const APIC_MSRS = code(
  "b91b000000", // mov ecx, 0x1b
  "0f32", // rdmsr
  "89042500000200", // mov [0x20000], eax
  "89142504000200", // mov [0x20004], edx
  "0d00040000", // or eax, 0x400
  "0f30", // wrmsr
  "b90b080000", // mov ecx, 0x80b
  "31c0", // xor eax, eax
  "31d2", // xor edx, edx
  "0f30", // wrmsr
  "b902080000", // mov ecx, 0x802
  "0f32", // rdmsr
  "89042508000200", // mov [0x20008], eax
  "f4", // hlt
);

export const IDENTITY = code(
  "b801000000", // mov eax, 1
  "0fa2", // cpuid
  "891c2500000200", // mov [0x20000], ebx
  "890c2504000200", // mov [0x20004], ecx
  "89142508000200", // mov [0x20008], edx
  "b815000000", // mov eax, 0x15
  "0fa2", // cpuid
  "8904250c000200", // mov [0x2000c], eax
  "891c2510000200", // mov [0x20010], ebx
  "890c2514000200", // mov [0x20014], ecx
  "f4", // hlt
);

export const DEADLINE = code(
  "b91b000000", // mov ecx, 0x1b
  "0f32", // rdmsr
  "0d000c0000", // or eax, 0xc00
  "0f30", // wrmsr
  "b90f080000", // mov ecx, 0x80f
  "b8ff010000", // mov eax, 0x1ff
  "31d2", // xor edx, edx
  "0f30", // wrmsr
  "b932080000", // mov ecx, 0x832
  "b830000400", // mov eax, 0x40030
  "0f30", // wrmsr
  "0faef0", // mfence
  "0f31", // rdtsc
  "48c1e220", // shl rdx, 32
  "4809d0", // or rax, rdx
  "4889042500000200", // mov [0x20000], rax
  "4803042508000200", // add rax, [0x20008]
  "4889c2", // mov rdx, rax
  "48c1ea20", // shr rdx, 32
  "b9e0060000", // mov ecx, 0x6e0
  "0f30", // wrmsr
  "fb", // sti
  "f4", // hlt
  "fa", // cli
  "f4", // hlt
);

export const DEADLINE_HANDLER = code(
  "0f31", // rdtsc
  "48c1e220", // shl rdx, 32
  "4809d0", // or rax, rdx
  "482b042500000200", // sub rax, [0x20000]
  "4889042510000200", // mov [0x20010], rax
  "b9e0060000", // mov ecx, 0x6e0
  "0f32", // rdmsr
  "89042518000200", // mov [0x20018], eax
  "b015", // mov al, 21
  "e6f4", // out 0xf4, al
  "f4", // hlt
);

export const MODES = code(
  "b001", // mov al, 1
  "e610", // out 0x10, al
  "0f0116a97c", // lgdt [gdt_at]
  "0f20c0", // mov eax, cr0
  "0c01", // or al, 1
  "0f22c0", // mov cr0, eax
  "66ea197c00000800", // jmp dword 0x08:protected
  "66b81000", // mov ax, 0x10
  "668ed8", // mov ds, ax
  "668ed0", // mov ss, ax
  "bc00900000", // mov esp, 0x9000
  "b002", // mov al, 2
  "e610", // out 0x10, al
  "0f20e0", // mov eax, cr4
  "83c820", // or eax, 0x20
  "0f22e0", // mov cr4, eax
  "b800100000", // mov eax, 0x1000
  "0f22d8", // mov cr3, eax
  "b9800000c0", // mov ecx, 0xc0000080
  "0f32", // rdmsr
  "0d00010000", // or eax, 0x100
  "0f30", // wrmsr
  "0f20c0", // mov eax, cr0
  "0d00000080", // or eax, 0x80000000
  "0f22c0", // mov cr0, eax
  "ea5d7c00001800", // jmp 0x18:in64
  "b003", // mov al, 3
  "e610", // out 0x10, al
  "48bbf0debc9a78563412", // mov rbx, 0x123456789abcdef0
  "48891c2500000200", // mov [0x20000], rbx
  "6a20", // push 0x20
  "687c7c0000", // push back
  "48cb", // retfq
  "b004", // mov al, 4
  "e610", // out 0x10, al
  "f4", // hlt
  "0000000000000000", // dq 0
  "ffff0000009bcf00", // dq 0x00cf9b000000ffff
  "ffff00000093cf00", // dq 0x00cf93000000ffff
  "ffff0000009baf00", // dq 0x00af9b000000ffff
  "ffff0000009bcf00", // dq 0x00cf9b000000ffff
  "2700", // dw 39
  "817c0000", // dd gdt
);

/** In real mode, wherever it lies. */
export const START = code(
  "2ea00600", // mov al, [cs:6]
  "e610", // out 10h, al
  "f4", // hlt, which is the byte at 6
);

/** What a guest should not do. */
export const MONITOR_WAIT = code(
  "0f01c8", // monitor
  "0f01c9", // mwait
  "f4", // hlt
);

export const JUMP_TO_MMIO = code(
  "b8000000c1", // mov eax, 0xc1000000
  "ffe0", // jmp rax
);

export const JUMP_NON_CANONICAL = code(
  "48b80000000000800000", // mov rax, 0x0000800000000000
  "ffe0", // jmp rax
);

export const WIDE_MMIO = code(
  "bb000000c1", // mov ebx, 0xc1000000
  "0f2803", // movaps xmm0, [rbx]
  "0f294310", // movaps [rbx+16], xmm0
  "b877000000", // mov eax, 0x77
  "b955000000", // mov ecx, 0x55
  "f0480fb14b20", // lock cmpxchg [rbx+32], rcx
  "f4", // hlt
);

export const CR3_TO_MMIO = code(
  "b8000000c1", // mov eax, 0xc1000000
  "0f22d8", // mov cr3, rax
  "90", // nop
  "f4", // hlt
);

export const STOP_UD = code(
  "e606", // out 0x06, al
  "f4", // hlt
);

export const STOP_GP = code(
  "e60d", // out 0x0d, al
  "f4", // hlt
);

export const PERIODIC = code(
  "b91b000000", // mov ecx, 0x1b
  "0f32", // rdmsr
  "0d000c0000", // or eax, 0xc00
  "0f30", // wrmsr
  "31d2", // xor edx, edx
  "b90f080000", // mov ecx, 0x80f
  "b8ff010000", // mov eax, 0x1ff
  "0f30", // wrmsr
  "b932080000", // mov ecx, 0x832
  "b830000200", // mov eax, 0x20030
  "0f30", // wrmsr
  "b93e080000", // mov ecx, 0x83e
  "b80b000000", // mov eax, 0xb
  "0f30", // wrmsr
  "b938080000", // mov ecx, 0x838
  "b880841e00", // mov eax, 2000000
  "0f30", // wrmsr
  "fb", // sti
  "833c250000020005", // cmp dword [0x20000], 5
  "0f82f2ffffff", // jb $-8
  "fa", // cli
  "b015", // mov al, 21
  "e6f4", // out 0xf4, al
  "f4", // hlt
);

export const PERIODIC_HANDLER = code(
  "50", // push rax
  "51", // push rcx
  "52", // push rdx
  "ff042500000200", // inc dword [0x20000]
  "b90b080000", // mov ecx, 0x80b
  "31c0", // xor eax, eax
  "31d2", // xor edx, edx
  "0f30", // wrmsr
  "5a", // pop rdx
  "59", // pop rcx
  "58", // pop rax
  "48cf", // iretq
);
