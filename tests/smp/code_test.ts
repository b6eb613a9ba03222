/** Code that one vCPU writes and another runs: [sdm3 §9.1.3]. */
import { assertEquals } from "@std/assert";
import { ARRAY, Guest } from "./guest.ts";

const FUNCTION = ARRAY, FLAGS = ARRAY + 0x10_0000, ERRORS = ARRAY + 0x20_0000;

/** mov edi, ebx; shr edi, 6; inc edi: the number of this round, from 1. */
const ROUND = [0x89, 0xdf, 0xc1, 0xef, 6, 0xff, 0xc7];
/** The instruction pointer's next page holds the last bytes of the immediate if the function starts this far into its page. */
const CROSSING = 0xffd;

for (const [where, at] of [["in a page", 0x100], ["across two pages", CROSSING]] as const) {
  Deno.test(`a vCPU runs what another has written before the flag that it reads: ${where}`, async () => {
    const guest = new Guest(), rounds = 1000;
    // mov eax, imm32; ret
    guest.ram.copyIn(FUNCTION + at, Uint8Array.of(0xb8, 0, 0, 0, 0, 0xc3));
    // mov [r12 + 1], edi; mov [r13], edi; wait: pause; cmp [r13 + 64], edi; jne wait
    const writer = [
      ...ROUND,
      ...[0x41, 0x89, 0x7c, 0x24, 1, 0x41, 0x89, 0x7d, 0],
      ...[0xf3, 0x90, 0x41, 0x39, 0x7d, 64, 0x75, 0xf8],
    ];
    // wait: pause; cmp [r13], edi; jne wait; call r12; cmp eax, edi; je right; inc dword [r14]; right: mov [r13 + 64], edi
    const runner = [
      ...ROUND,
      ...[0xf3, 0x90, 0x41, 0x39, 0x7d, 0, 0x75, 0xf8, 0x41, 0xff, 0xd4],
      ...[0x39, 0xf8, 0x74, 3, 0x41, 0xff, 0x06, 0x41, 0x89, 0x7d, 64],
    ];
    const registers = { r12: FUNCTION + at, r13: FLAGS, r14: ERRORS };
    await guest.run([{ body: writer, ...registers }, { body: runner, ...registers }], rounds);
    assertEquals(guest.read(FLAGS + 64, 4), BigInt(rounds));
    assertEquals(guest.read(ERRORS, 4), 0n);
  });
}

Deno.test("two vCPUs that write code and run it, each its own in one page, do not disturb each other", async () => {
  const guest = new Guest(), rounds = 1000;
  const thread = (n: number) => {
    const at = FUNCTION + 0x400 * n;
    guest.ram.copyIn(at, Uint8Array.of(0xb8, 0, 0, 0, 0, 0xc3));
    // mov [r12 + 1], edi; call r12; cmp eax, edi; je right; inc dword [r14]
    const body = [...ROUND, 0x41, 0x89, 0x7c, 0x24, 1, 0x41, 0xff, 0xd4, 0x39, 0xf8, 0x74, 3, 0x41, 0xff, 0x06];
    return { body, r12: at, r14: ERRORS + 64 * n };
  };
  await guest.run([thread(0), thread(1)], rounds);
  assertEquals([guest.read(ERRORS, 4), guest.read(ERRORS + 64, 4)], [0n, 0n]);
});
