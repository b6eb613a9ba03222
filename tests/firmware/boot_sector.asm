; A master boot record that speaks through the BIOS only, and the sector after it.
; nasm -f bin boot_sector.asm; the bytes stand in boot_sector.ts.
        bits 16
        org 0x7c00
start:  xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov sp, 0x7c00
        mov [drive], dl
        mov si, hello
        call print
        ; INT 13h, extended read of sector 1.
        mov si, packet
        mov ah, 0x42
        mov dl, [drive]
        int 0x13
        jc fail
        mov si, 0x8000
        call print
        ; INT 13h, the old read of the same sector, elsewhere.
        mov ax, 0x0201
        mov cx, 2
        mov dh, 0
        mov dl, [drive]
        mov bx, 0x9000
        int 0x13
        jc fail
        mov si, 0x8000
        mov di, 0x9000
        mov cx, 256
        repe cmpsw
        jne fail
        ; INT 15h, E820h: the length of the second entry of type 1, in MiB, as a digit string.
        xor ebx, ebx
next:   mov eax, 0xe820
        mov edx, 0x534d4150
        mov ecx, 24
        mov di, 0x6000
        int 0x15
        jc fail
        cmp dword [0x6000], 0x100000
        je found
        test ebx, ebx
        jnz next
        jmp fail
found:  mov eax, [0x6008]
        add eax, 0x100000
        shr eax, 20
        mov di, digits + 5
number: xor edx, edx
        mov ecx, 10
        div ecx
        add dl, '0'
        dec di
        mov [di], dl
        test eax, eax
        jnz number
        mov si, di
        call print
        ; INT 1Ah: a tick count that moves.
        call tick
        mov si, bye
        call print
        call tick ; for the serial port to send it all
        mov dx, 0x604
        mov ax, 0x3400
        out dx, ax
fail:   mov si, sorry
        call print
        hlt
        jmp fail
tick:   mov ah, 0
        int 0x1a
        mov bx, dx
.again: mov ah, 0
        int 0x1a
        cmp dx, bx
        je .again
        ret
print:  lodsb
        test al, al
        jz .end
        mov ah, 0x0e
        mov bx, 7
        int 0x10
        jmp print
.end:   ret
hello:  db 13, 10, "boot sector: hello", 13, 10, 0
bye:    db " MiB", 13, 10, "boot sector: time moves", 13, 10, 0
sorry:  db 13, 10, "boot sector: failed", 13, 10, 0
digits: times 5 db 0
        db 0
drive:  db 0
        align 4
packet: db 16, 0
        dw 1, 0x8000, 0
        dq 1
        times 510 - ($ - $$) db 0
        dw 0xaa55
        db "sector one, read by INT 13h; RAM up to ", 0
        times 1024 - ($ - $$) db 0x5a
