/** The instruction decoder: any bytes in any mode give an answer that is within its bounds. The first byte is the mode. */
import { DECODED, Decoder } from "../../src/cpu/x86/decode.ts";
import { Variants } from "../../src/cpu/x86/handlers.ts";
import { ROWS } from "../../src/cpu/x86/isa/index.ts";
import { SPECIALS } from "../../src/cpu/x86/specials.ts";
import type { Target } from "./target.ts";

const DECODER = new Decoder(ROWS, new Variants(ROWS, SPECIALS));
const MAX_LENGTH = 15; // [sdm2 §2.3.11]
/** 16-bit and 32-bit code on either stack, 16-bit code of real and VM86 mode, 64-bit code. */
const MODES = [0, 1, 4, 5, 8, 2];

export const decoder: Target = {
  name: "decoder",
  seeds: () => [
    Uint8Array.of(5, 0x48, 0x8b, 0x44, 0x8d, 0x10), // mov rax, [rbp + rcx * 4 + 16]
    Uint8Array.of(5, 0xf0, 0x48, 0x0f, 0xb1, 0x0d, 1, 2, 3, 4), // lock cmpxchg [rip + …], rcx
    Uint8Array.of(5, 0x66, 0x0f, 0x3a, 0x0f, 0xc1, 5), // palignr xmm0, xmm1, 5
    Uint8Array.of(5, 0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8), // mov rax, imm64
    Uint8Array.of(5, 0xc4, 0xe2, 0xf1, 0xf7, 0xc2), // a VEX prefix
    Uint8Array.of(0, 0x67, 0x66, 0x8b, 0x04, 0x85, 1, 2, 3, 4),
    Uint8Array.of(1, 0x9a, 1, 2, 3, 4, 5, 6), // call far
    Uint8Array.of(1, 0xd9, 0xf0, 0xdf, 0xe0, 0xf3, 0xa5),
  ],
  fuzz(bytes) {
    if (bytes.length === 0) return;
    const mode = MODES[bytes[0]! % MODES.length]!;
    for (let at = 1; at < bytes.length;) {
      const d = DECODER;
      const answer = d.decode(bytes, at, bytes.length, mode);
      if (!Object.values<number>(DECODED).includes(answer)) throw new Error(`answer ${answer}`);
      const length = bytes.length - at;
      if (answer === DECODED.MORE && length >= MAX_LENGTH) throw new Error(`wants more than ${length} bytes`);
      if (answer !== DECODED.OK) {
        at++;
        continue;
      }
      if (!(d.length >= 1 && d.length <= Math.min(MAX_LENGTH, length))) {
        throw new Error(`length ${d.length} of ${length}`);
      }
      const row = ROWS[d.row];
      if (row === undefined) throw new Error(`row ${d.row}`);
      if (row.only === (mode === 2 ? "legacy" : "64")) throw new Error(`${row.name} ${row.op} in mode ${mode}`);
      // LOCK on a MOV of CR0 names CR8, as on processors that have no REX.
      if (d.lock && !(row.lock && d.hasMemory) && !row.args!.includes("C")) {
        throw new Error(`LOCK on ${row.name} ${row.op}`);
      }
      at += d.length;
    }
  },
};
