/** More programs for the laws of engines: modes, and what the processor does to registers of devices in one instruction. */
import { code } from "./law_rig.ts";

/** A virtual-8086 task with IOPL 3 writes to a port, and INT 40h takes it back to protected mode. */
export const VM86 = code(
  "2e0f0116e07c", // lgdt [cs:gdtr]
  "2e0f011ee67c", // lidt [cs:idtr]
  "0f20c0", // mov eax, cr0
  "0c01", // or al, 1
  "0f22c0", // mov cr0, eax
  "66ea1c7c00000800", // jmp dword 8:in32
  "66b81000", // mov ax, 0x10
  "8ed8", // mov ds, ax
  "8ec0", // mov es, ax
  "8ed0", // mov ss, ax
  "bc00900000", // mov esp, 0x9000
  "c70504b0000000900000", // mov dword [0xb004], 0x9000
  "c70508b0000010000000", // mov dword [0xb008], 0x10
  "66c70566b000006800", // mov word [0xb066], 0x68
  "66b81800", // mov ax, 0x18
  "0f00d8", // ltr ax
  "b8a47c0000", // mov eax, back
  "66a300a20000", // mov [0xa200], ax
  "66c70502a200000800", // mov word [0xa202], 8
  "66c70504a2000000ee", // mov word [0xa204], 0xee00
  "c1e810", // shr eax, 16
  "66a306a20000", // mov [0xa206], ax
  "6a00", // push dword 0
  "6a00", // push dword 0
  "6800200000", // push dword 0x2000
  "6a00", // push dword 0
  "6a00", // push dword 0
  "68f06f0000", // push dword 0x6ff0
  "6802300200", // push dword 0x23002
  "6a00", // push dword 0
  "68947c0000", // push dword v86
  "cf", // iretd
  "b086", // mov al, 0x86
  "e610", // out 0x10, al
  "8cdb", // mov bx, ds
  "891e1000", // mov [0x10], bx
  "b087", // mov al, 0x87
  "e610", // out 0x10, al
  "cd40", // int 0x40
  "66b81000", // mov ax, 0x10
  "8ed8", // mov ds, ax
  "58", // pop eax
  "59", // pop ecx
  "5a", // pop edx
  "a300000200", // mov [0x20000], eax
  "891504000200", // mov [0x20004], edx
  "b003", // mov al, 3
  "e610", // out 0x10, al
  "f4", // hlt
  "909090", // 3h>                align 8
  "0000000000000000ffff0000009bcf00ffff00000093cf00900000b000890000", // dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff, 0x00008900b0000090
  "1f00", // dw 31
  "c07c0000", // dd gdt
  "0702", // dw 0x207
  "00a00000", // dd 0xa000
);

/** String instructions between memory and registers of a device. */
export const MMIO_STRINGS = code(
  "be000000c1", // mov esi, 0xc1000000
  "bf00000200", // mov edi, 0x20000
  "b902000000", // mov ecx, 2
  "f3a5", // rep movsd
  "a4", // movsb
  "be00010200", // mov esi, 0x20100
  "bf100000c1", // mov edi, 0xc1000010
  "b902000000", // mov ecx, 2
  "f366a5", // rep movsw
  "b85a5a5a5a", // mov eax, 0x5a5a5a5a
  "b902000000", // mov ecx, 2
  "f3ab", // rep stosd
  "be200000c1", // mov esi, 0xc1000020
  "66ad", // lodsw
  "6689042510000200", // mov [0x20010], ax
  "bf240000c1", // mov edi, 0xc1000024
  "ae", // scasb
  "0f94042514000200", // setz [0x20014]
  "be280000c1", // mov esi, 0xc1000028
  "bf2c0000c1", // mov edi, 0xc100002c
  "a6", // cmpsb
  "0f92042515000200", // setb [0x20015]
  "f4", // hlt
);

/** Instructions that read a register, change it, and write it back. */
export const MMIO_UPDATES = code(
  "bb000000c1", // mov ebx, 0xc1000000
  "800301", // add byte [rbx], 1
  "66836b0202", // sub word [rbx+2], 2
  "837304ff", // xor dword [rbx+4], -1
  "ff4308", // inc dword [rbx+8]
  "b877000000", // mov eax, 0x77
  "87430c", // xchg [rbx+12], eax
  "89042500000200", // mov [0x20000], eax
  "b905000000", // mov ecx, 5
  "f00fc14b10", // lock xadd [rbx+16], ecx
  "890c2504000200", // mov [0x20004], ecx
  "0fba6b1403", // bts dword [rbx+20], 3
  "0f92042508000200", // setc [0x20008]
  "f65318", // not byte [rbx+24]
  "f4", // hlt
);

/** 32-bit paging with 4-KiB pages, one of them read-only, one not present. */
export const PAGING_32 = code(
  "2e0f0116f87c", // lgdt [cs:gdtr]
  "2e0f011efe7c", // lidt [cs:idtr]
  "0f20c0", // mov eax, cr0
  "0c01", // or al, 1
  "0f22c0", // mov cr0, eax
  "66ea1c7c00000800", // jmp dword 8:in32
  "66b81000", // mov ax, 0x10
  "8ed8", // mov ds, ax
  "8ec0", // mov es, ax
  "8ed0", // mov ss, ax
  "bc00900000", // mov esp, 0x9000
  "c7050040000003500000", // mov dword [0x4000], 0x5003
  "bf00500000", // mov edi, 0x5000
  "b803000000", // mov eax, 3
  "8907", // mov [edi], eax
  "0500100000", // add eax, 0x1000
  "83c704", // add edi, 4
  "81ff00600000", // cmp edi, 0x6000
  "0f82eaffffff", // jb strict near fill
  "c7050054000003000200", // mov dword [0x5400], 0x20003
  "c7050454000001100200", // mov dword [0x5404], 0x21001
  "c7050854000000000000", // mov dword [0x5408], 0
  "b8cd7c0000", // mov eax, fault
  "66a370a00000", // mov [0xa070], ax
  "66c70572a000000800", // mov word [0xa072], 8
  "66c70574a00000008e", // mov word [0xa074], 0x8e00
  "66c70576a000000000", // mov word [0xa076], 0
  "b800400000", // mov eax, 0x4000
  "0f22d8", // mov cr3, eax
  "0f20c0", // mov eax, cr0
  "0d00000180", // or eax, 0x80010000
  "0f22c0", // mov cr0, eax
  "c7050000100044332211", // mov dword [0x100000], 0x11223344
  "c7050010100088776655", // mov dword [0x101000], 0x55667788
  "90", // nop
  "90", // nop
  "a100201000", // mov eax, [0x102000]
  "90", // nop
  "90", // nop
  "90", // nop
  "90", // nop
  "90", // nop
  "f4", // hlt
  "58", // pop eax
  "e60e", // out 0x0e, al
  "0f20d0", // mov eax, cr2
  "e70f", // out 0x0f, eax
  "8304240a", // add dword [esp], 10
  "cf", // iretd
  "909090909090", // 6h>                align 8
  "0000000000000000ffff0000009bcf00ffff00000093cf00", // dq 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
  "1700", // dw 23
  "e07c0000", // dd gdt
  "7700", // dw 0x77
  "00a00000", // dd 0xa000
);

/** Two NMIs, the second while the first is served. */
export const NMI_NEST = code(
  "b001", // mov al, 1
  "e610", // out 0x10, al
  "f390", // pause
  "b004", // mov al, 4
  "e610", // out 0x10, al
  "f4", // hlt
);

/** The second comes at port 11h. */
export const NMI_NEST_HANDLER = code(
  "b002", // mov al, 2
  "e611", // out 0x11, al
  "90", // nop
  "b003", // mov al, 3
  "e612", // out 0x12, al
  "48cf", // iretq
);

/** SYSENTER's and SYSCALL's registers keep what is written to them, and an unknown one faults. */
export const SYSCALLS = code(
  "b974010000", // mov ecx, 0x174
  "b810000000", // mov eax, 0x10
  "31d2", // xor edx, edx
  "0f30", // wrmsr
  "b976010000", // mov ecx, 0x176
  "b8efcdab89", // mov eax, 0x89abcdef
  "ba0080ffff", // mov edx, 0xffff8000
  "0f30", // wrmsr
  "b9840000c0", // mov ecx, 0xc0000084
  "b800770400", // mov eax, 0x47700
  "31d2", // xor edx, edx
  "0f30", // wrmsr
  "b974010000", // mov ecx, 0x174
  "0f32", // rdmsr
  "89042500000200", // mov [0x20000], eax
  "b976010000", // mov ecx, 0x176
  "0f32", // rdmsr
  "89042504000200", // mov [0x20004], eax
  "89142508000200", // mov [0x20008], edx
  "b9840000c0", // mov ecx, 0xc0000084
  "0f32", // rdmsr
  "8904250c000200", // mov [0x2000c], eax
  "b978563412", // mov ecx, 0x12345678
  "0f30", // wrmsr
  "f4", // hlt
);
/** Reads and writes what is ROM at 640 KiB + 64 KiB, a hole at 704 KiB, and RAM at 768 KiB. */
export const ROM = code(
  "8b042500000b00", // mov eax, [0xb0000]
  "89042500000200", // mov [0x20000], eax
  "c7042504000b0099000000", // mov dword [0xb0004], 0x99
  "8b042504000b00", // mov eax, [0xb0004]
  "89042504000200", // mov [0x20004], eax
  "8b042500100b00", // mov eax, [0xb1000]
  "89042508000200", // mov [0x20008], eax
  "c7042500000c0034120000", // mov dword [0xc0000], 0x1234
  "8b042500000c00", // mov eax, [0xc0000]
  "8904250c000200", // mov [0x2000c], eax
  "b800010b00", // mov eax, 0xb0100
  "ffd0", // call rax
  "b001", // mov al, 1
  "e610", // out 0x10, al
  "8b042500000b00", // mov eax, [0xb0000]
  "89042510000200", // mov [0x20010], eax
  "f4", // hlt
);

/** Writes to three pages, then to one of them again. */
export const DIRTY = code(
  "c604250000040001", // mov byte [0x40000], 1
  "c60425ff0f080001", // mov byte [0x80fff], 1
  "48c704250000300001000000", // mov qword [0x300000], 1
  "b001", // mov al, 1
  "e610", // out 0x10, al
  "c60425fe0f080001", // mov byte [0x80ffe], 1
  "b002", // mov al, 2
  "e610", // out 0x10, al
  "f4", // hlt
);
