/** A kernel that is FreeBSD's as far as a loader can see, and reads what it is told as FreeBSD's own does. */
import { elfFile } from "./images.ts";

export const KERNBASE = 0xffff_ffff_8000_0000n;
/** Linked where FreeBSD's is, and entered where no double-precision number is. */
export const START = 0x200000, ENTRY = START + 0x1003;
const EI_OSABI = 7, FREEBSD = 9;

/** Loops over the records to the environment's and writes it to port 402h, a line a variable; then 21h to the port `exit`. */
function program(exit: number): Uint8Array {
  const base = new Uint8Array(8);
  new DataView(base.buffer).setBigUint64(0, KERNBASE, true);
  // deno-fmt-ignore
  return Uint8Array.of(
    0x8b, 0x74, 0x24, 0x04,             //  0 mov esi, [rsp + 4]: the records
    0x48, 0xbb, ...base,                //  4 mov rbx, KERNBASE
    0x48, 0x01, 0xde,                   // 14 add rsi, rbx
    0x8b, 0x4e, 0x04,                   // 17 mov ecx, [rsi + 4]
    0x81, 0x3e, 0x06, 0x80, 0x00, 0x00, // 20 cmp dword [rsi], MODINFO_METADATA | MODINFOMD_ENVP
    0x74, 0x0b,                         // 26 je 39
    0x83, 0xc1, 0x0f,                   // 28 add ecx, 15
    0x83, 0xe1, 0xf8,                   // 31 and ecx, -8
    0x48, 0x01, 0xce,                   // 34 add rsi, rcx
    0xeb, 0xea,                         // 37 jmp 17
    0x48, 0x8b, 0x76, 0x08,             // 39 mov rsi, [rsi + 8]
    0x48, 0x01, 0xde,                   // 43 add rsi, rbx
    0xba, 0x02, 0x04, 0x00, 0x00,       // 46 mov edx, 402h
    0xac,                               // 51 lodsb
    0x84, 0xc0,                         // 52 test al, al
    0x75, 0x12,                         // 54 jnz 74
    0xb0, 0x0a,                         // 56 mov al, 10
    0xee,                               // 58 out dx, al
    0x80, 0x3e, 0x00,                   // 59 cmp byte [rsi], 0
    0x75, 0xf3,                         // 62 jne 51
    0x66, 0xba, exit & 255, exit >> 8,  // 64 mov dx, exit
    0xb0, 0x21,                         // 68 mov al, 21h
    0xee, 0xf4, 0x90, 0x90,             // 70 out dx, al; hlt
    0xee,                               // 74 out dx, al
    0xeb, 0xe6,                         // 75 jmp 51
  );
}

export function freeBsdKernel({ exit = 0, osabi = FREEBSD } = {}): Uint8Array<ArrayBuffer> {
  const text = new Uint8Array(0x1100);
  text.set(program(exit), ENTRY - START);
  const data = Uint8Array.of(1, 2, 3, 4);
  const file = elfFile({
    entry: KERNBASE + BigInt(ENTRY),
    segments: [
      // Physical addresses that a loader is not to believe: FreeBSD's are as it likes.
      { paddr: 0x7000_0000, vaddr: KERNBASE + BigInt(START), bytes: text },
      { paddr: 0x7000_0000, vaddr: KERNBASE + BigInt(START + 0x3000), bytes: data, memoryBytes: 0x1800 },
    ],
    // As GENERIC has, for Xen.
    pvh: 0x7000_0000,
  });
  file[EI_OSABI] = osabi;
  return file;
}
