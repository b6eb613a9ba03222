/**
 * C programs for the guest's compiler: each prints numbers that follow from the program alone. They call through tables, recurse
 * deeply, copy strings, switch, shift, divide, and write code that they then run.
 */

export const VARIANTS = 16;

/** No undefined behaviour but wrapping signed sums, which every compiler used is told to allow. */
export function variantSource(variant: number): string {
  const random = numbers(variant + 1);
  const functions: string[] = [];
  for (let n = 0; n < 24; n++) functions.push(oneFunction(n, random));
  return `#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
typedef unsigned long long u64;
typedef unsigned u32;
static u32 words[256];
static u64 deep(u32 n, u64 x) { return n == 0 ? x : deep(n - 1, x * ${random() | 1}u + n) ^ (x >> 7); }
${functions.join("")}
static u64 (*table[])(u64, u64) = {${Array.from({ length: 24 }, (_, n) => `f${n}`).join(", ")}};
static u64 written(void) {
  unsigned char *code = mmap(0, 8192, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  u64 sum = 0;
  if (code == MAP_FAILED) exit(9);
  for (u32 n = 0; n < 400; n++) {
    unsigned char *at = code + n * 37 % 8000;
    u32 value = n * ${random() | 1}u;
    at[0] = 0xb8, memcpy(at + 1, &value, 4), at[5] = 0x05, memcpy(at + 6, &n, 4), at[10] = 0xc3; /* mov, add, ret */
    for (u32 turn = 0; turn < ${3 + variant}; turn++) sum = sum * 31 + ((u32 (*)(void))at)();
  }
  munmap(code, 8192);
  return sum;
}
int main(void) {
  u64 a = ${random()}u, b = ${random()}u;
  for (u32 n = 0; n < 256; n++) words[n] = n * ${random() | 1}u;
  for (u32 n = 0; n < 20000; n++) {
    u64 c = table[(a ^ b) % 24](a, b);
    a = b, b = c + n;
    words[n & 255] ^= (u32)c;
  }
  printf("%llx %llx\\n", a, b);
  printf("%llx\\n", deep(${500 + variant * 300}, a));
  printf("%llx\\n", written());
  char text[400] = "";
  for (u32 n = 0; n < 40; n++) sprintf(text + strlen(text), "%u,", words[n * 5] % 977);
  printf("%s %d\\n", text, (int)strlen(text));
  u64 sum = 0;
  for (char *at = strtok(text, ","); at; at = strtok(0, ",")) sum = sum * 131 + atoi(at);
  printf("%llx %.6f\\n", sum, (double)(sum % 100003) / ${variant + 3}.0);
  return 0;
}
`;
}

function oneFunction(n: number, random: () => number): string {
  const shift = 1 + random() % 31, k = random();
  const bodies = [
    `x = (x << ${shift} | x >> ${64 - shift}) + y;`,
    `x ^= y * ${k | 1}u; x += (x >> ${shift});`,
    `x = x / ((y & 1023) + 1) + ${k}u;`,
    `x = (x % ((y >> 5 & 65535) + 3)) * ${k | 1}u;`,
    `x = (u64)((int)x >> ${shift}) - (short)y;`,
    `switch (y % 7) { case 0: x += 1; break; case 1: x ^= 99; break; case 2: x -= y; break; case 4: x *= 3; break; default: x = ~x; }`,
    `for (u32 i = 0; i < (y & 15); i++) x = x * 33 + words[(x + i) & 255];`,
    `if ((int)x < (int)y) x += words[y & 255]; else x -= words[x & 255];`,
    `words[x & 255] += (u32)y; x += words[(x ^ y) & 255];`,
  ];
  const pick = () => bodies[random() % bodies.length]!;
  const call = n > 0 && random() % 3 === 0 ? `x ^= f${random() % n}(y, x + ${n});` : "";
  return `static u64 f${n}(u64 x, u64 y) { ${pick()} ${pick()} ${call} ${pick()} return x + ${k}u; }\n`;
}

/** Numbers of 31 bits: xorshift32. */
function numbers(seed: number): () => number {
  let x = Math.imul(seed, 0x9e3779b1) >>> 0 || 1;
  return () => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    x >>>= 0;
    return x >>> 1;
  };
}
