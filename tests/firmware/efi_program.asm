; A UEFI program that says hello and turns the machine off: PE32+ by hand, one section.
; nasm -f bin efi_program.asm; the bytes stand in efi_program.ts.
        bits 64
        org 0
        ; What DOS would read: only where the PE header is.
        db "MZ"
        times 0x3c - ($ - $$) db 0
        dd pe
pe:     db "PE", 0, 0
        dw 0x8664, 1                    ; machine, sections
        dd 0, 0, 0
        dw sections - optional, 0x0022  ; executable, addresses above 2 GiB
optional:
        dw 0x20b                        ; PE32+
        db 0, 0
        dd end - code, 0, 0
        dd code                         ; entry
        dd code
        dq 0                            ; image base: any
        dd 0x20, 0x20                   ; alignment in memory and in the file
        dw 0, 0, 0, 0, 0, 0
        dd 0
        dd end, code                    ; of the image, of the headers
        dd 0
        dw 10, 0                        ; subsystem: UEFI application
        dq 0, 0, 0, 0
        dd 0, 6
        times 6 dq 0                    ; data directories, the last of them for base relocations: there are none
sections:
        db ".text", 0, 0, 0
        dd end - code, code, end - code, code, 0, 0
        dw 0, 0
        dd 0xe0000020                   ; code, to be run, read and written
        align 32, db 0
code:   sub rsp, 0x28
        mov rbx, rdx                    ; EFI_SYSTEM_TABLE
        mov rcx, [rbx + 0x40]           ; ConOut
        lea rdx, [rel hello]
        call [rcx + 8]                  ; OutputString
        mov rax, [rbx + 0x58]           ; RuntimeServices
        mov ecx, 2                      ; EfiResetShutdown
        xor edx, edx
        xor r8d, r8d
        xor r9d, r9d
        call [rax + 0x68]               ; ResetSystem
hello:  dw __utf16__("loaded by TFTP, run by UEFI"), 13, 10, 0
        align 32, db 0
end:
