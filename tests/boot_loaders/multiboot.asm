; A kernel of both Multiboot conventions that says on COM1 what it was told.
; nasm -f bin multiboot.asm; the bytes stand in multiboot_kernel.ts.
        bits 32
        org 0x100000
        MB1 equ 0x1badb002
        F1 equ 0x00010002                       ; memory information; the addresses below
header1: dd MB1, F1, -(MB1 + F1)
        dd header1, 0x100000, 0, bss_end, start
        align 8
header2: dd 0xe85250d6, 0, header2_end - header2, -(0xe85250d6 + header2_end - header2)
        dw 2, 0
        dd 24, header2, 0x100000, 0, bss_end    ; the addresses
        dw 3, 0
        dd 12, start                            ; the entry
        align 8
        dw 0, 0
        dd 8
header2_end:
start:  mov esp, stack
        mov ebp, ebx
        call hex
        cmp eax, 0x36d76289
        je two
        mov esi, lower
        call text
        mov eax, [ebp + 4]
        call hex
        mov esi, upper
        call text
        mov eax, [ebp + 8]
        call hex
        mov esi, command
        call text
        mov esi, [ebp + 16]
        call text
        mov esi, module
        call text
        mov eax, [ebp + 20]
        call hex
        mov ebx, [ebp + 24]
        mov eax, [ebx + 4]
        sub eax, [ebx]
        call hex
        mov esi, [ebx]
        mov eax, [esi]
        call hex
        mov ebx, [ebp + 48]
        mov edi, [ebp + 44]
        add edi, ebx
.next:  cmp dword [ebx + 20], 1
        jne .skip
        mov esi, region
        call text
        mov eax, [ebx + 4]
        call hex
        mov eax, [ebx + 12]
        call hex
.skip:  add ebx, [ebx]
        add ebx, 4
        cmp ebx, edi
        jb .next
        jmp done
; Every tag: its type, its size, and its first two words.
two:    lea ebx, [ebp + 8]
.next:  mov esi, tag
        call text
        mov eax, [ebx]
        call hex
        mov eax, [ebx + 4]
        call hex
        mov eax, [ebx + 8]
        call hex
        mov eax, [ebx + 12]
        call hex
        cmp dword [ebx], 1
        jne .plain
        mov esi, command
        call text
        lea esi, [ebx + 8]
        call text
.plain: cmp dword [ebx], 0
        je done
        mov eax, [ebx + 4]
        add eax, 7
        and eax, -8
        add ebx, eax
        jmp .next
done:   mov esi, end
        call text
        mov dx, 0x3fd
.drain: in al, dx
        test al, 0x40
        jz .drain
        mov dx, 0xf4
        mov eax, 5
        out dx, eax
        hlt
hex:    push eax
        push ecx
        push edx
        push eax
        mov al, ' '
        call put
        pop eax
        mov ecx, 8
.digit: rol eax, 4
        push eax
        and al, 15
        cmp al, 10
        sbb al, 0x69
        das
        call put
        pop eax
        loop .digit
        pop edx
        pop ecx
        pop eax
        ret
text:   push eax
.next:  lodsb
        test al, al
        jz .end
        call put
        jmp .next
.end:   pop eax
        ret
put:    push edx
        push eax
        mov dx, 0x3fd
.wait:  in al, dx
        test al, 0x20
        jz .wait
        pop eax
        mov dx, 0x3f8
        out dx, al
        pop edx
        ret
lower:  db 10, "lower", 0
upper:  db 10, "upper", 0
command: db 10, "command ", 0
module: db 10, "modules", 0
region: db 10, "ram", 0
tag:    db 10, "tag", 0
end:    db 10, "end", 10, 0
        align 16
bss_end equ $ + 4096
stack   equ bss_end
