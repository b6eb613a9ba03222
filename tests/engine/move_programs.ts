/** Programs that a move from one engine to another interrupts: at port 10h, in 64-bit mode at CODE, or boot sectors. */
import { code } from "./law_rig.ts";

/** Registers of every kind, a move at the first OUT, and all of them told afterwards. */
export const MOVE_LONG = code(
  "48b88877665544332211", // mov rax, 0x1122334455667788
  "49bf1032547698badcfe", // mov r15, 0xfedcba9876543210
  "48bd0807060504030201", // mov rbp, 0x0102030405060708
  "66480f6ed8", // movq xmm3, rax
  "664d0f6ef7", // movq xmm14, r15
  "dbe3", // fninit
  "d9eb", // fldpi
  "d9e8", // fld1
  "d9ea", // fldl2e
  "50", // push rax
  "b9820000c0", // mov ecx, 0xc0000082
  "b878563412", // mov eax, 0x12345678
  "ba0080ffff", // mov edx, 0xffff8000
  "0f30", // wrmsr
  "b9020100c0", // mov ecx, 0xc0000102
  "b800040200", // mov eax, 0x20400
  "31d2", // xor edx, edx
  "0f30", // wrmsr
  "b800050200", // mov rax, 0x20500
  "0f23d0", // mov dr2, rax
  "f9", // stc
  "b001", // mov al, 1
  "e610", // out 0x10, al
  "0f92042500000200", // setc [0x20000]
  "58", // pop rax
  "4889042508000200", // mov [0x20008], rax
  "4c893c2510000200", // mov [0x20010], r15
  "48892c2518000200", // mov [0x20018], rbp
  "660fd61c2520000200", // movq [0x20020], xmm3
  "66440fd6342528000200", // movq [0x20028], xmm14
  "dd1c2530000200", // fstp qword [0x20030]
  "dd1c2538000200", // fstp qword [0x20038]
  "dd1c2540000200", // fstp qword [0x20040]
  "b9820000c0", // mov ecx, 0xc0000082
  "0f32", // rdmsr
  "89042548000200", // mov [0x20048], eax
  "8914254c000200", // mov [0x2004c], edx
  "0f01f8", // swapgs
  "65488b042500000000", // mov rax, [gs:0]
  "4889042550000200", // mov [0x20050], rax
  "0f01f8", // swapgs
  "0f21d0", // mov rax, dr2
  "4889042558000200", // mov [0x20058], rax
  "0f20e0", // mov rax, cr4
  "4889042560000200", // mov [0x20060], rax
  "b002", // mov al, 2
  "e610", // out 0x10, al
  "f4", // hlt
);

/** In real mode, with a segment that is not at 16 times its selector. */
export const MOVE_REAL = code(
  "2e0f0116587c", // lgdt [cs:gdtr]
  "0f20c0", // mov eax, cr0
  "0c01", // or al, 1
  "0f22c0", // mov cr0, eax
  "bb0800", // mov bx, 8
  "8ee3", // mov fs, bx
  "24fe", // and al, 0xfe
  "0f22c0", // mov cr0, eax
  "b80020", // mov ax, 0x2000
  "8ed8", // mov ds, ax
  "6466c70600000df00d60", // mov dword [fs:0x100000], 0x600df00d
  "66b921436587", // mov ecx, 0x87654321
  "b001", // mov al, 1
  "e610", // out 0x10, al
  "6466a10000", // mov eax, [fs:0x100000]
  "66a30000", // mov [0], eax
  "66890e0400", // mov [4], ecx
  "8c1e0800", // mov [8], ds
  "b002", // mov al, 2
  "e610", // out 0x10, al
  "f4", // hlt
  "0000000000000000ffff000000928f00", // dq 0, 0x008f92000000ffff
  "0f00", // dw 15
  "487c0000", // dd gdt
);

/** In protected mode without paging, then with 32-bit paging that moves 4 MiB. */
export const MOVE_PROTECTED = code(
  "2e0f0116b07c", // lgdt [cs:gdtr]
  "0f20c0", // mov eax, cr0
  "0c01", // or al, 1
  "0f22c0", // mov cr0, eax
  "66ea167c00000800", // jmp dword 8:in32
  "66b81000", // mov ax, 0x10
  "8ed8", // mov ds, ax
  "8ec0", // mov es, ax
  "8ed0", // mov ss, ax
  "bc00900000", // mov esp, 0x9000
  "bfa5a5a5a5", // mov edi, 0xa5a5a5a5
  "b001", // mov al, 1
  "e610", // out 0x10, al
  "893d00000200", // mov [0x20000], edi
  "0f000d04000200", // str [0x20004]
  "c7050060000083000000", // mov dword [0x6000], 0x83
  "c7050460000083004000", // mov dword [0x6004], 0x400083
  "c7050860000083000000", // mov dword [0x6008], 0x83
  "b800600000", // mov eax, 0x6000
  "0f22d8", // mov cr3, eax
  "0f20e0", // mov eax, cr4
  "0c10", // or al, 0x10
  "0f22e0", // mov cr4, eax
  "0f20c0", // mov eax, cr0
  "0d00000080", // or eax, 0x80000000
  "0f22c0", // mov cr0, eax
  "c70508008200b5006bb1", // mov dword [0x820008], 0xb16b00b5
  "b002", // mov al, 2
  "e610", // out 0x10, al
  "a108000200", // mov eax, [0x20008]
  "a30c000200", // mov [0x2000c], eax
  "b003", // mov al, 3
  "e610", // out 0x10, al
  "f4", // hlt
  "90909090909090", // 7h>                align 8
  "0000000000000000ffff0000009bcf00ffff00000093cf00", // dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
  "1700", // dw 23
  "987c0000", // dd gdt
);

/** Paging with PAE, 2-MiB pages, the second one no-execute. */
export const MOVE_PAE = code(
  "2e0f0116c87c", // lgdt [cs:gdtr]
  "0f20c0", // mov eax, cr0
  "0c01", // or al, 1
  "0f22c0", // mov cr0, eax
  "66ea167c00000800", // jmp dword 8:in32
  "66b81000", // mov ax, 0x10
  "8ed8", // mov ds, ax
  "8ec0", // mov es, ax
  "8ed0", // mov ss, ax
  "bc00900000", // mov esp, 0x9000
  "c7050060000001700000", // mov dword [0x6000], 0x7001
  "c7050460000000000000", // mov dword [0x6004], 0
  "c7050070000083000000", // mov dword [0x7000], 0x83
  "c7050470000000000000", // mov dword [0x7004], 0
  "c7050870000083006000", // mov dword [0x7008], 0x600083
  "c7050c70000000000080", // mov dword [0x700c], 0x80000000
  "b9800000c0", // mov ecx, 0xc0000080
  "0f32", // rdmsr
  "0d00080000", // or eax, 0x800
  "0f30", // wrmsr
  "b800600000", // mov eax, 0x6000
  "0f22d8", // mov cr3, eax
  "0f20e0", // mov eax, cr4
  "0c20", // or al, 0x20
  "0f22e0", // mov cr4, eax
  "0f20c0", // mov eax, cr0
  "0d00000080", // or eax, 0x80000000
  "0f22c0", // mov cr0, eax
  "c70510002000ed5eed5e", // mov dword [0x200010], 0x5eed5eed
  "b001", // mov al, 1
  "e610", // out 0x10, al
  "a110002000", // mov eax, [0x200010]
  "a300000200", // mov [0x20000], eax
  "0f20e0", // mov eax, cr4
  "a304000200", // mov [0x20004], eax
  "b002", // mov al, 2
  "e610", // out 0x10, al
  "f4", // hlt
  "90", // align 8
  "0000000000000000ffff0000009bcf00ffff00000093cf00", // dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
  "1700", // dw 23
  "b07c0000", // dd gdt
);

/** Sleeps; what wakes it comes after the move. */
export const MOVE_HALTED = code(
  "49bc9a78563412000000", // mov r12, 0x123456789a
  "fb", // sti
  "f4", // hlt
  "4c89242500000200", // mov [0x20000], r12
  "fa", // cli
  "f4", // hlt
);

/** An interrupt that is asked for waits through the move for STI. */
export const MOVE_MASKED = code(
  "fa", // cli
  "b001", // mov al, 1
  "e610", // out 0x10, al
  "b002", // mov al, 2
  "e611", // out 0x11, al
  "fb", // sti
  "90", // nop
  "90", // nop
  "f390", // pause
  "833c250000020001", // cmp dword [0x20000], 1
  "0f82f0ffffff", // jb strict near again
  "fa", // cli
  "f4", // hlt
);

export const COUNT_HANDLER = code(
  "ff042500000200", // inc dword [0x20000]
  "48cf", // iretq
);
