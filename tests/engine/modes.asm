; From real mode through protected mode and VM86 mode to 64-bit user code and back: nasm -f bin -o modes.bin modes.asm
; Each step stores its number at the place that the word NEXTP points to. The test puts page tables at 1000h and the 64-bit
; IDT, whose handlers the last four words name, at 3000h.
LOG equ 0x6000
NEXTP equ 0x5ff0
org 0x7c00
bits 16
%macro note 1
 push edi
 movzx edi, word [NEXTP]
 mov byte [edi], %1
 inc word [NEXTP]
 pop edi
%endmacro
start:
 xor ax, ax
 mov ss, ax
 mov sp, 0x7c00
 mov ds, ax
 mov word [NEXTP], LOG
 mov word [0x21*4], h21
 mov word [0x21*4+2], 0
 note 1
 int 0x21
 note 3
 mov ax, 0x10
 mov ds, ax
 call far [farptr - 0x100]
 xor ax, ax
 mov ds, ax
 note 5
 mov ax, 0x10
 mov ds, ax
 lgdt [gdtr - 0x100]
 lidt [cs:idtr32]
 mov eax, cr0
 or al, 1
 mov cr0, eax
 jmp far dword [cs:pmptr]
h21:
 note 2
 iret
farproc:
 xor ax, ax
 mov ds, ax
 note 4
 retf
bits 32
pm:
 mov ax, 0x10
 mov ds, ax
 mov es, ax
 mov ss, ax
 mov esp, 0x7000
 note 6
 mov ax, 0x28
 ltr ax
 int3
 note 8
 ; VM86: GS FS DS ES SS ESP EFLAGS CS EIP
 push 0
 push 0
 push 0
 push 0
 push 0
 push 0x5000
 push 0x23002
 push 0x700
 push vm - 0x7000
 iretd
h3_32:
 note 7
 iretd
gp_32:
 ; HLT in VM86 ends it
 test dword [esp+12], 0x20000
 jz bad
 mov ax, 0x10
 mov ds, ax
 mov es, ax
 note 10
 mov esp, 0x7000
 mov eax, cr4
 or eax, 0x20
 mov cr4, eax
 mov eax, 0x1000
 mov cr3, eax
 mov ecx, 0xc0000080
 rdmsr
 or eax, 0x901
 wrmsr
 mov eax, cr0
 or eax, 0x80010000
 mov cr0, eax
 note 11
 push 0x18
 push lm
 retf
bad:
 note 0xff
 hlt
bits 16
vm:
 note 9
 hlt
bits 64
%macro note64 1
 push rdi
 movzx edi, word [NEXTP]
 mov byte [rdi], %1
 inc word [NEXTP]
 pop rdi
%endmacro
lm:
 mov dword [tss + 8], 0       ; RSP0 is 64 bits wide
 mov ax, 0x20
 mov ss, ax
 mov rsp, 0x7000
 note64 12
 lidt [idtr64]
 lgdt [gdtr]
 and byte [gdt + 0x2d], 0xfd  ; the task is not busy
 mov ax, 0x28
 ltr ax
 mov ecx, 0xc0000081
 xor eax, eax
 mov edx, 0x00330018
 wrmsr
 inc ecx
 mov eax, sysentry
 xor edx, edx
 wrmsr
 mov ecx, 0xc0000084
 mov eax, 0x200
 wrmsr
 push 0x3b
 push 0x5000
 push 0x202
 push 0x43
 push user
 iretq
user:
 note64 13
 mov eax, 0x99
 syscall
 note64 15
 int 0x80
 note64 17
 ud2
after_ud:
 note64 19
 mov rax, [0x40000000]
after_pf:
 note64 21
 mov ax, ss
 cmp ax, 0x3b
 jne ubad
 pushf
 or dword [rsp], 0x100
 popf
 nop
 note64 0xee
ubad:
 note64 0xfe
 int 0x80
 jmp ubad
sysentry:
 cmp eax, 0x99
 jne bad64
 mov rbp, rsp
 mov rsp, 0x7000
 note64 14
 mov rsp, rbp
 db 0x48
 sysret
h80:
 note64 16
 iretq
hud:
 note64 18
 add qword [rsp], 2
 iretq
hpf:
 note64 20
 cmp qword [rsp], 4
 jne bad64
 mov rax, cr2
 cmp rax, 0x40000000
 jne bad64
 mov qword [rsp+8], after_pf
 add rsp, 8
 iretq
hdb:
 note64 22
 mov rax, dr6
 test eax, 0x4000
 jz bad64
 cmp qword [rsp+8], 0x43
 jne bad64
 note64 23
 cli
 hlt
bad64:
 note64 0xfd
 cli
 hlt
farptr: dw farproc, 0
pmptr: dd pm
 dw 8
align 8
gdt:
 dq 0
 dq 0x00cf9a000000ffff ; 08 code32
 dq 0x00cf92000000ffff ; 10 data
 dq 0x00af9a000000ffff ; 18 code64
 dq 0x00cf92000000ffff ; 20 data
 dw 0x67, tss, 0x8900, 0 ; 28 tss
 dq 0                    ; upper half
 dq 0x00cff2000000ffff ; 38 user data
 dq 0x00affa000000ffff ; 40 user code64
gdtr: dw $-gdt-1
 dd gdt
 dd 0
idtr32: dw 14*8-1
 dd idt32
idtr64: dw 0x81*16-1
 dq 0x3000
align 8
idt32:
 times 3 dq 0
 dw h3_32, 8, 0x8e00, 0
 times 9 dq 0
 dw gp_32, 8, 0x8e00, 0
align 8
tss:
 dd 0
 dd 0x7000, 0x10
 times 0x68-12 db 0
tss_end:
table: dw h80, hud, hpf, hdb
