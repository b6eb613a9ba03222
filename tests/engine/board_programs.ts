/** Programs for the laws of engines on the machine's own board, as machine code in 64-bit mode: a timer's handlers at vector 30h. */
import { code } from "./law_rig.ts";

/** Five interrupts of the PIT, by the 8259A pair and LINT0 in virtual wire mode. */
export const PIT_BY_PIC = code(
  "b011", // mov al, 0x11
  "e620", // out 0x20, al
  "b030", // mov al, 0x30
  "e621", // out 0x21, al
  "b004", // mov al, 4
  "e621", // out 0x21, al
  "b001", // mov al, 1
  "e621", // out 0x21, al
  "b0fe", // mov al, 0xfe
  "e621", // out 0x21, al
  "b034", // mov al, 0x34
  "e643", // out 0x43, al
  "b0a8", // mov al, 0xa8
  "e640", // out 0x40, al
  "b004", // mov al, 0x04
  "e640", // out 0x40, al
  "fb", // sti
  "f4", // hlt
  "833c250000020005", // cmp dword [0x20000], 5
  "0f82f1ffffff", // jb strict near again
  "fa", // cli
  "b015", // mov al, 21
  "e6f4", // out 0xf4, al
  "f4", // hlt
);

export const PIT_BY_PIC_HANDLER = code(
  "50", // push rax
  "ff042500000200", // inc dword [0x20000]
  "b020", // mov al, 0x20
  "e620", // out 0x20, al
  "58", // pop rax
  "48cf", // iretq
);

/** The same by input 2 of the I/O APIC. */
export const PIT_BY_IO_APIC = code(
  "bb0000c0fe", // mov ebx, 0xfec00000
  "b90000e0fe", // mov ecx, 0xfee00000
  "c781f0000000ff010000", // mov dword [rcx+0xf0], 0x1ff
  "c70315000000", // mov dword [rbx], 0x15
  "c7431000000000", // mov dword [rbx+16], 0
  "c70314000000", // mov dword [rbx], 0x14
  "c7431030000000", // mov dword [rbx+16], 0x30
  "b0ff", // mov al, 0xff
  "e621", // out 0x21, al
  "b034", // mov al, 0x34
  "e643", // out 0x43, al
  "b0a8", // mov al, 0xa8
  "e640", // out 0x40, al
  "b004", // mov al, 0x04
  "e640", // out 0x40, al
  "fb", // sti
  "f4", // hlt
  "833c250000020005", // cmp dword [0x20000], 5
  "0f82f1ffffff", // jb strict near again
  "fa", // cli
  "b015", // mov al, 21
  "e6f4", // out 0xf4, al
  "f4", // hlt
);

/** Counts, and ends the interrupt at the local APIC's page. */
export const APIC_HANDLER = code(
  "50", // push rax
  "ff042500000200", // inc dword [0x20000]
  "b8b000e0fe", // mov eax, 0xfee000b0
  "c70000000000", // mov dword [rax], 0
  "58", // pop rax
  "48cf", // iretq
);

/** COM1's interrupt for an empty transmitter, taken for a level: it comes again until its cause is gone. */
export const LEVEL = code(
  "bb0000c0fe", // mov ebx, 0xfec00000
  "b90000e0fe", // mov ecx, 0xfee00000
  "c781f0000000ff010000", // mov dword [rcx+0xf0], 0x1ff
  "c70319000000", // mov dword [rbx], 0x19
  "c7431000000000", // mov dword [rbx+16], 0
  "c70318000000", // mov dword [rbx], 0x18
  "c7431030800000", // mov dword [rbx+16], 0x8030
  "b0ff", // mov al, 0xff
  "e621", // out 0x21, al
  "bafc030000", // mov edx, 0x3fc
  "b008", // mov al, 8
  "ee", // out dx, al
  "baf9030000", // mov edx, 0x3f9
  "b002", // mov al, 2
  "ee", // out dx, al
  "fb", // sti
  "f390", // pause
  "833c250000020003", // cmp dword [0x20000], 3
  "0f82f0ffffff", // jb strict near again
  "90", // nop
  "90", // nop
  "fa", // cli
  "b015", // mov al, 21
  "e6f4", // out 0xf4, al
  "f4", // hlt
);

export const LEVEL_HANDLER = code(
  "50", // push rax
  "52", // push rdx
  "ff042500000200", // inc dword [0x20000]
  "833c250000020003", // cmp dword [0x20000], 3
  "0f820d000000", // jb strict near leave
  "bafa030000", // mov edx, 0x3fa
  "ec", // in al, dx
  "88042504000200", // mov [0x20004], al
  "b8b000e0fe", // mov eax, 0xfee000b0
  "c70000000000", // mov dword [rax], 0
  "5a", // pop rdx
  "58", // pop rax
  "48cf", // iretq
);

/** Sleeps until an interrupt has come. */
export const WAIT_FOR_MESSAGE = code(
  "b90000e0fe", // mov ecx, 0xfee00000
  "c781f0000000ff010000", // mov dword [rcx+0xf0], 0x1ff
  "b001", // mov al, 1
  "e680", // out 0x80, al
  "fb", // sti
  "f4", // hlt
  "833c250000020001", // cmp dword [0x20000], 1
  "0f82f1ffffff", // jb strict near again
  "fa", // cli
  "b015", // mov al, 21
  "e6f4", // out 0xf4, al
  "f4", // hlt
);

/** An interrupt to itself by the interrupt command register, then by x2APIC's SELF IPI. */
export const SELF_IPI = code(
  "b90000e0fe", // mov ecx, 0xfee00000
  "c781f0000000ff010000", // mov dword [rcx+0xf0], 0x1ff
  "c7810003000030000400", // mov dword [rcx+0x300], 0x40030
  "fb", // sti
  "f390", // pause
  "833c250000020001", // cmp dword [0x20000], 1
  "0f82f0ffffff", // jb strict near first
  "fa", // cli
  "8b4130", // mov eax, [rcx+0x30]
  "89042508000200", // mov [0x20008], eax
  "b91b000000", // mov ecx, 0x1b
  "0f32", // rdmsr
  "0d000c0000", // or eax, 0xc00
  "0f30", // wrmsr
  "b902080000", // mov ecx, 0x802
  "0f32", // rdmsr
  "8904250c000200", // mov [0x2000c], eax
  "b93f080000", // mov ecx, 0x83f
  "b831000000", // mov eax, 0x31
  "31d2", // xor edx, edx
  "0f30", // wrmsr
  "fb", // sti
  "f390", // pause
  "833c250400020001", // cmp dword [0x20004], 1
  "0f82f0ffffff", // jb strict near second
  "fa", // cli
  "b015", // mov al, 21
  "e6f4", // out 0xf4, al
  "f4", // hlt
);

/** In x2APIC mode. */
export const SELF_IPI_HANDLER = code(
  "50", // push rax
  "51", // push rcx
  "52", // push rdx
  "ff042504000200", // inc dword [0x20004]
  "b90b080000", // mov ecx, 0x80b
  "31c0", // xor eax, eax
  "31d2", // xor edx, edx
  "0f30", // wrmsr
  "5a", // pop rdx
  "59", // pop rcx
  "58", // pop rax
  "48cf", // iretq
);

/** The local APIC's timer once, read as it counts down. */
export const ONE_SHOT = code(
  "b90000e0fe", // mov ecx, 0xfee00000
  "c781f0000000ff010000", // mov dword [rcx+0xf0], 0x1ff
  "c7812003000030000000", // mov dword [rcx+0x320], 0x30
  "c781e00300000b000000", // mov dword [rcx+0x3e0], 0xb
  "c78180030000002d3101", // mov dword [rcx+0x380], 20000000
  "8b8190030000", // mov eax, [rcx+0x390]
  "89042504000200", // mov [0x20004], eax
  "8b8190030000", // mov eax, [rcx+0x390]
  "89042508000200", // mov [0x20008], eax
  "fb", // sti
  "f4", // hlt
  "833c250000020001", // cmp dword [0x20000], 1
  "0f82f1ffffff", // jb strict near again
  "fa", // cli
  "8b8190030000", // mov eax, [rcx+0x390]
  "8904250c000200", // mov [0x2000c], eax
  "b015", // mov al, 21
  "e6f4", // out 0xf4, al
  "f4", // hlt
);

/** The periodic timer, and a word to COM1's scratch register after each interrupt. */
export const TICKING = code(
  "b90000e0fe", // mov ecx, 0xfee00000
  "c781f0000000ff010000", // mov dword [rcx+0xf0], 0x1ff
  "c781e00300000b000000", // mov dword [rcx+0x3e0], 0xb
  "c7812003000030000200", // mov dword [rcx+0x320], 0x20030
  "c7818003000080841e00", // mov dword [rcx+0x380], 2000000
  "baff030000", // mov edx, 0x3ff
  "fb", // sti
  "f4", // hlt
  "8a042500000200", // mov al, [0x20000]
  "ee", // out dx, al
  "833c250000020006", // cmp dword [0x20000], 6
  "0f82e9ffffff", // jb strict near again
  "fa", // cli
  "b015", // mov al, 21
  "e6f4", // out 0xf4, al
  "f4", // hlt
);
/** Until an NMI has come, with interrupts off. */
export const WAIT_FOR_NMI = code(
  "fa", // cli
  "b001", // mov al, 1
  "e680", // out 0x80, al
  "f390", // pause
  "833c250000020001", // cmp dword [0x20000], 1
  "0f82f0ffffff", // jb strict near again
  "b015", // mov al, 21
  "e6f4", // out 0xf4, al
  "f4", // hlt
);
