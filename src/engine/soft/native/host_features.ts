/** What the host's processor has for code that is emitted: CPUID and XGETBV, run as they are. [sdm2 CPUID], [sdm2 XGETBV] */
import { openTrampoline } from "../../../../ffi/machine_code.ts";
import type { CodeArena } from "./code_arena.ts";

/** Leaves that are asked, sub-leaf 0; each fills four words: EAX, EBX, ECX, EDX. */
const LEAVES = [1, 7, 0x8000_0001] as const;
const EBX = 1, ECX = 2;
/** Leaf's place in LEAVES, register, bit. Names as Linux has them. */
const FEATURES: Readonly<Record<string, readonly [leaf: number, register: number, bit: number]>> = {
  sse3: [0, ECX, 0],
  pclmulqdq: [0, ECX, 1],
  ssse3: [0, ECX, 9],
  fma: [0, ECX, 12],
  sse4_1: [0, ECX, 19],
  sse4_2: [0, ECX, 20],
  movbe: [0, ECX, 22],
  popcnt: [0, ECX, 23],
  aes: [0, ECX, 25],
  avx: [0, ECX, 28],
  f16c: [0, ECX, 29],
  bmi1: [1, EBX, 3],
  avx2: [1, EBX, 5],
  bmi2: [1, EBX, 8],
  erms: [1, EBX, 9],
  adx: [1, EBX, 19],
  sha_ni: [1, EBX, 29],
  abm: [2, ECX, 5],
};
/** They need the operating system's help: XCR0.SSE and XCR0.AVX. */
const OF_AVX = ["fma", "avx", "f16c", "avx2"];
const OSXSAVE = 1 << 27, XCR0_AVX = 6;

/** Their names. What the arena holds beyond what it keeps is forgotten. */
export function hostFeatures(arena: CodeArena): ReadonlySet<string> {
  const words = new Uint32Array(4 * LEAVES.length + 1), xcr0At = 4 * LEAVES.length;
  const ask = (code: number[]) => {
    arena.forget();
    const at = Deno.UnsafePointer.create(arena.at), answer = Deno.UnsafePointer.of(words);
    // push rbx; mov r8, rdi; …; pop rbx; xor eax, eax; ret
    arena.add(Uint8Array.from([0x53, 0x49, 0x89, 0xf8, ...code, 0x5b, 0x31, 0xc0, 0xc3]));
    // SAFETY: `words` is alive until this function returns, and the code fills no more than it.
    openTrampoline().bsearch(answer, answer, 1, 0, at);
    arena.forget();
  };
  ask(LEAVES.flatMap((leaf, n) => {
    // mov eax, leaf; xor ecx, ecx; cpuid; then mov [r8 + at], r for each register
    const at = (register: number) => 16 * n + 4 * register;
    const call = [0xb8, ...bytesOf(leaf), 0x31, 0xc9, 0x0f, 0xa2];
    const stores = [0, 3, 1, 2].flatMap((register, k) => [0x41, 0x89, 0x40 | (register << 3), at(k)]);
    return [...call, ...stores];
  }));
  const has = ([leaf, register, bit]: readonly [number, number, number]) => (words[4 * leaf + register]! >>> bit) & 1;
  let avx = (words[ECX]! & OSXSAVE) !== 0;
  if (avx) {
    // xor ecx, ecx; xgetbv; mov [r8 + at], eax
    ask([0x31, 0xc9, 0x0f, 0x01, 0xd0, 0x41, 0x89, 0x40, 4 * xcr0At]);
    avx = (words[xcr0At]! & XCR0_AVX) === XCR0_AVX;
  }
  const names = Object.keys(FEATURES).filter((name) => has(FEATURES[name]!) && (avx || !OF_AVX.includes(name)));
  return new Set(names);
}

function bytesOf(value: number): number[] {
  return [0, 8, 16, 24].map((n) => (value >>> n) & 0xff);
}
