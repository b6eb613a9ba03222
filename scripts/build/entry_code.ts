/**
 * The first instructions of the portable form: they put words of trike's own in front of the user's arguments, then go on at
 * the executable's entry point, which sees the stack as if the system had been asked for that.
 *
 * The stack at the entry point, as both processors' System V ABIs have it: argc, argv, NULL, envp, NULL, the auxiliary vector.
 * The dynamic linker has been at work and leaves a function for atexit in RDX or X0, which are not touched.
 *
 * The code knows nothing: all it needs is in a block of its segment.
 */

/** Offsets in the segment, eight bytes each. What is an address is relative to the segment. */
export const BLOCK = {
  /** How many arguments are put in; at least one. */
  ARGUMENTS: 0x100,
  /** How many variables the environment gets, behind those it has, which win; at least one. */
  VARIABLES: 0x108,
  /** The bytes by which the initial block grows. */
  GROWTH: 0x110,
  /** Where the address of the C library's `environ` is. */
  ENVIRON: 0x118,
  /** The executable's entry point. */
  ENTRY: 0x120,
  /** Where each argument is, then each variable. */
  STRINGS: 0x128,
} as const;

const X86_64 = `
4c8d0df9ffffff  00  lea r9, [rip - 7]                   the segment
488b0424        07  mov rax, [rsp]                      argc
4885c0          0b  test rax, rax
0f84ba000000    0e  je ceh
4889e3          14  mov rbx, rsp
488d7308        17  lea rsi, [rbx + 8]
4c8d44c608      1b  lea r8, [rsi + 8*rax + 8]           envp: behind argv and its NULL
4d89c3          20  mov r11, r8
4983c308        23  add r11, 8                          to the end of the environment
49837bf800      27  cmp qword [r11 - 8], 0
75f5            2c  jne 23h
4d8d63f8        2e  lea r12, [r11 - 8]
4983c310        32  add r11, 16                         to the end of the auxiliary vector
49837bf000      36  cmp qword [r11 - 16], 0
75f5            3b  jne 32h
4c89d9          3d  mov rcx, r11
4829d9          40  sub rcx, rbx
49038910010000  43  add rcx, [r9 + 110h]
4829cc          4a  sub rsp, rcx                        room for both blocks
4883e4f0        4d  and rsp, -16
4889e7          51  mov rdi, rsp
49038100010000  54  add rax, [r9 + 100h]                argc
48ab            5b  stosq
48a5            5d  movsq                               argv[0]
4d8d9128010000  5f  lea r10, [r9 + 128h]
498b8900010000  66  mov rcx, [r9 + 100h]                the words of our own
498b02          6d  mov rax, [r10]
4983c208        70  add r10, 8
4c01c8          74  add rax, r9
48ab            77  stosq
48ffc9          79  dec rcx
75ef            7c  jne 6dh
4c89c1          7e  mov rcx, r8                         the rest of argv, and NULL
4829f1          81  sub rcx, rsi
48c1e903        84  shr rcx, 3
f348a5          88  rep movsq
4989f8          8b  mov r8, rdi                         the new environment: the old one
4c89e1          8e  mov rcx, r12
4829f1          91  sub rcx, rsi
48c1e903        94  shr rcx, 3
f348a5          98  rep movsq
498b8908010000  9b  mov rcx, [r9 + 108h]                the variables of our own
498b02          a2  mov rax, [r10]
4983c208        a5  add r10, 8
4c01c8          a9  add rax, r9
48ab            ac  stosq
48ffc9          ae  dec rcx
75ef            b1  jne a2h
4c89d9          b3  mov rcx, r11                        its NULL, and the auxiliary vector
4829f1          b6  sub rcx, rsi
48c1e903        b9  shr rcx, 3
f348a5          bd  rep movsq
498b8118010000  c0  mov rax, [r9 + 118h]                the C library learns of it
498b0401        c7  mov rax, [r9 + rax]
4c8900          cb  mov [rax], r8
4d038920010000  ce  add r9, [r9 + 120h]                 the entry point of the executable
41ffe1          d5  jmp r9
`;

const AARCH64 = `
09000010  00  adr x9, #0                                the segment
e10340f9  04  ldr x1, [sp]                              argc
610600b4  08  cbz x1, 0xd4
ea030091  0c  mov x10, sp
42210091  10  add x2, x10, #8                           argv
430c018b  14  add x3, x2, x1, lsl #3
63200091  18  add x3, x3, #8                            envp: behind argv and its NULL
e40303aa  1c  mov x4, x3
858440f8  20  ldr x5, [x4], #8
e5ffffb5  24  cbnz x5, 0x20                             to the end of the environment
8b2000d1  28  sub x11, x4, #8
850441f8  2c  ldr x5, [x4], #0x10
e5ffffb5  30  cbnz x5, 0x2c                             to the end of the auxiliary vector
86000acb  34  sub x6, x4, x10
278940f9  38  ldr x7, [x9, #0x110]
c600078b  3c  add x6, x6, x7
460106cb  40  sub x6, x10, x6
c6ec7c92  44  and x6, x6, #-16
df000091  48  mov sp, x6                                room for both blocks
278140f9  4c  ldr x7, [x9, #0x100]
2100078b  50  add x1, x1, x7
c18400f8  54  str x1, [x6], #8                          argc
458440f8  58  ldr x5, [x2], #8                          argv[0]
c58400f8  5c  str x5, [x6], #8
28a10491  60  add x8, x9, #0x128
058540f8  64  ldr x5, [x8], #8                          the words of our own
a500098b  68  add x5, x5, x9
c58400f8  6c  str x5, [x6], #8
e70400f1  70  subs x7, x7, #0x1
81ffff54  74  b.ne 0x64
458440f8  78  ldr x5, [x2], #8                          the rest of argv, and NULL
c58400f8  7c  str x5, [x6], #8
5f0003eb  80  cmp x2, x3
a1ffff54  84  b.ne 0x78
e30306aa  88  mov x3, x6                                the new environment: the old one
5f000beb  8c  cmp x2, x11
80000054  90  b.eq 0xa0
458440f8  94  ldr x5, [x2], #8
c58400f8  98  str x5, [x6], #8
fcffff17  9c  b 0x8c
278540f9  a0  ldr x7, [x9, #0x108]                      the variables of our own
058540f8  a4  ldr x5, [x8], #8
a500098b  a8  add x5, x5, x9
c58400f8  ac  str x5, [x6], #8
e70400f1  b0  subs x7, x7, #0x1
81ffff54  b4  b.ne 0xa4
458440f8  b8  ldr x5, [x2], #8                          its NULL, and the auxiliary vector
c58400f8  bc  str x5, [x6], #8
5f0004eb  c0  cmp x2, x4
a1ffff54  c4  b.ne 0xb8
258d40f9  c8  ldr x5, [x9, #0x118]                      the C library learns of it
256965f8  cc  ldr x5, [x9, x5]
a30000f9  d0  str x3, [x5]
309140f9  d4  ldr x16, [x9, #0x120]                     the entry point of the executable
1002098b  d8  add x16, x16, x9
00021fd6  dc  br x16
`;

/** ELF's machine numbers: EM_X86_64, EM_AARCH64. */
export const ENTRY_CODE: Readonly<Record<number, Uint8Array>> = { 62: bytes(X86_64), 183: bytes(AARCH64) };

/** A line is the bytes, their offset, the instruction, what for. */
function bytes(listing: string): Uint8Array {
  return Uint8Array.fromHex(listing.trim().split("\n").map((line) => line.split(" ")[0]).join(""));
}
