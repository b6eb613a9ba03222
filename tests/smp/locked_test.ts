/** Locked instructions of several vCPUs on one operand, at every alignment: no update is lost, and no store beside it. */
import { assertEquals } from "@std/assert";
import { ARRAY, Guest, onBothTiers, SCATTERED, type Thread } from "./guest.ts";

/** Of each vCPU, and of each for one of several places. */
const ROUNDS = 60_000, PLACE_ROUNDS = 30_000;
/** The operand at R12, something else at R13. */
const OTHER = ARRAY + 0x10_0000;

/** Updates that add 1 to the operand at R12, by bytes: the lock prefix is 0xf0. */
const ADDS: Record<string, { readonly bytes: number; readonly body: readonly number[] }> = {
  "LOCK ADD m8": { bytes: 1, body: [0xf0, 0x41, 0x80, 0x04, 0x24, 1] },
  "LOCK INC m16": { bytes: 2, body: [0xf0, 0x66, 0x41, 0xff, 0x04, 0x24] },
  "LOCK ADD m32": { bytes: 4, body: [0xf0, 0x41, 0x83, 0x04, 0x24, 1] },
  "LOCK SUB m64": { bytes: 8, body: [0xf0, 0x49, 0x83, 0x2c, 0x24, 0xff] },
  // stc; lock adc dword [r12], 0: what a failed attempt leaves of the flags must not be added
  "LOCK ADC m32": { bytes: 4, body: [0xf9, 0xf0, 0x41, 0x83, 0x14, 0x24, 0] },
  // mov eax, 1; lock xadd [r12], eax
  "LOCK XADD m32": { bytes: 4, body: [0xb8, 1, 0, 0, 0, 0xf0, 0x41, 0x0f, 0xc1, 0x04, 0x24] },
  // mov rax, [r12]; again: lea rcx, [rax + 1]; lock cmpxchg [r12], rcx; jne again
  "LOCK CMPXCHG m64": {
    bytes: 8,
    body: [0x49, 0x8b, 0x04, 0x24, 0x48, 0x8d, 0x48, 1, 0xf0, 0x49, 0x0f, 0xb1, 0x0c, 0x24, 0x75, 0xf4],
  },
};
/** In a word, across two, in a cache line and across two, across pages that are neighbours in RAM, and that are not. */
const PLACES: Record<string, number> = {
  "aligned": ARRAY,
  "within 8 bytes": ARRAY + 0x41,
  "across 8 bytes": ARRAY + 0x105,
  "across lines": ARRAY + 0x23d,
  "across pages": ARRAY + 0xfff,
  "across pages that lie apart": SCATTERED + 0xfff,
};

const u32 = (n: number) => [n & 0xff, (n >> 8) & 0xff, (n >> 16) & 0xff, n >>> 24];
/** The body once for each place, with that in R12. */
const atEach = (places: readonly number[], body: readonly number[]) =>
  places.flatMap((at) => [0x41, 0xbc, ...u32(at), ...body]); // mov r12d, imm32

onBothTiers("two vCPUs add to one operand", async (compiled, t) => {
  for (const [name, { bytes, body }] of Object.entries(ADDS)) {
    const places = bytes > 1 ? PLACES : { "aligned": ARRAY };
    await t.step(name, async () => {
      const guest = new Guest(), thread: Thread = { body: atEach(Object.values(places), body) };
      await guest.run([thread, thread], PLACE_ROUNDS, { step: 4096, compiled });
      for (const [where, at] of Object.entries(places)) {
        assertEquals(guest.read(at, bytes), BigInt(2 * PLACE_ROUNDS) % (1n << BigInt(8 * bytes)), where);
      }
    });
  }
});

onBothTiers("a store beside a locked operand is not lost, and the operand loses nothing to it", async (compiled) => {
  // mov [r12 - 1], bl; cmp [r12 - 1], bl; je over; inc dword [r13]; the same behind the operand
  const beside = (disp: number) => [
    ...[0x41, 0x88, 0x5c, 0x24, disp & 0xff, 0x41, 0x38, 0x5c, 0x24, disp & 0xff],
    ...[0x74, 4, 0x41, 0xff, 0x45, 0],
  ];
  const guest = new Guest(), odd = Object.entries(PLACES).filter(([where]) => where !== "aligned");
  const places = odd.map(([, at]) => at);
  const adds: Thread = { body: atEach(places, ADDS["LOCK ADD m32"]!.body) };
  const stores: Thread = { body: atEach(places, [...beside(-1), ...beside(4)]), r13: OTHER };
  await guest.run([adds, stores], PLACE_ROUNDS, { step: 4096, compiled });
  for (const [where, at] of odd) assertEquals(guest.read(at, 4), BigInt(PLACE_ROUNDS), where);
  assertEquals(guest.read(OTHER, 4), 0n, "stores lost");
});

onBothTiers("CMPXCHG16B counts both halves together, on two vCPUs", async (compiled) => {
  // mov r9, rbx; mov rax, [r12]; mov rdx, [r12 + 8]; again: lea rbx, [rax + 1]; lea rcx, [rdx + 2];
  // lock cmpxchg16b [r12]; jne again; mov rbx, r9
  const body = [
    ...[0x49, 0x89, 0xd9, 0x49, 0x8b, 0x04, 0x24, 0x49, 0x8b, 0x54, 0x24, 8],
    ...[0x48, 0x8d, 0x58, 1, 0x48, 0x8d, 0x4a, 2, 0xf0, 0x49, 0x0f, 0xc7, 0x0c, 0x24, 0x75, 0xf0, 0x4c, 0x89, 0xcb],
  ];
  const guest = new Guest();
  await guest.run([{ body, r12: ARRAY }, { body, r12: ARRAY }], ROUNDS, { step: 4096, compiled });
  assertEquals([guest.read(ARRAY, 8), guest.read(ARRAY + 8, 8)], [BigInt(2 * ROUNDS), BigInt(4 * ROUNDS)]);
});

onBothTiers("CMPXCHG8B at an odd address counts both halves together", async (compiled) => {
  // the same with 32-bit halves: mov r9, rbx; mov eax, [r12]; mov edx, [r12 + 4]; again: lea ebx, [rax + 1]; lea ecx, [rdx + 2]
  const body = [
    ...[0x49, 0x89, 0xd9, 0x41, 0x8b, 0x04, 0x24, 0x41, 0x8b, 0x54, 0x24, 4],
    ...[0x8d, 0x58, 1, 0x8d, 0x4a, 2, 0xf0, 0x41, 0x0f, 0xc7, 0x0c, 0x24, 0x75, 0xf2, 0x4c, 0x89, 0xcb],
  ];
  const guest = new Guest(), at = ARRAY + 0x7fd;
  await guest.run([{ body, r12: at }, { body, r12: at }], ROUNDS, { step: 4096, compiled });
  assertEquals([guest.read(at, 4), guest.read(at + 4, 4)], [BigInt(2 * ROUNDS), BigInt(4 * ROUNDS)]);
});

onBothTiers(
  "a spin lock of XCHG, LOCK BTS or LOCK CMPXCHG, released by a plain store, keeps others out",
  async (compiled, t) => {
    const INCREMENT = [0x41, 0x83, 0x45, 0, 1], RELEASE = [0x41, 0xc7, 0x04, 0x24, 0, 0, 0, 0]; // add dword [r13], 1; mov dword [r12], 0
    const takes: Record<string, readonly number[]> = {
      // again: mov eax, 1; xchg [r12], eax; test eax, eax; jz got; pause; jmp again
      "XCHG": [0xb8, 1, 0, 0, 0, 0x41, 0x87, 0x04, 0x24, 0x85, 0xc0, 0x74, 4, 0xf3, 0x90, 0xeb, 0xef],
      // again: lock bts dword [r12], 0; jnc got; pause; jmp again
      "LOCK BTS": [0xf0, 0x41, 0x0f, 0xba, 0x2c, 0x24, 0, 0x73, 4, 0xf3, 0x90, 0xeb, 0xf3],
      // mov ecx, 1; again: xor eax, eax; lock cmpxchg [r12], ecx; jz got; pause; jmp again
      "LOCK CMPXCHG": [
        ...[0xb9, 1, 0, 0, 0, 0x31, 0xc0, 0xf0, 0x41, 0x0f, 0xb1, 0x0c, 0x24, 0x74, 4, 0xf3, 0x90, 0xeb, 0xf2],
      ],
    };
    for (const [name, take] of Object.entries(takes)) {
      await t.step(name, async () => {
        const guest = new Guest();
        const thread: Thread = { body: [...take, ...INCREMENT, ...RELEASE], r12: ARRAY, r13: OTHER };
        await guest.run([thread, thread], ROUNDS, { step: 4096, compiled });
        assertEquals(guest.read(OTHER, 4), BigInt(2 * ROUNDS));
      });
    }
  },
);
