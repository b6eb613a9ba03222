/* Integer work in user space: no system call and hardly a page fault between start and end. */
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static void *allocate(size_t bytes) {
  void *at = malloc(bytes);
  if (!at) fail("malloc");
  return at;
}

/* `size` MiB through a table of 256 words, a byte at a time. */
uint64_t crc32(uint64_t size) {
  static uint32_t table[256];
  for (uint32_t n = 0; n < 256; n++) {
    uint32_t c = n;
    for (int bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320u ^ (c >> 1) : c >> 1;
    table[n] = c;
  }
  const size_t bytes = 1 << 20;
  uint8_t *data = allocate(bytes);
  uint64_t random = 1;
  for (size_t at = 0; at < bytes; at++) data[at] = next_random(&random) >> 32;
  uint32_t c = ~0u;
  for (uint64_t round = 0; round < size; round++)
    for (size_t at = 0; at < bytes; at++) c = table[(c ^ data[at]) & 255] ^ (c >> 8);
  free(data);
  return ~c;
}

/* Counts the primes below two million, `size` times. */
uint64_t sieve(uint64_t size) {
  const size_t limit = 2000000;
  uint8_t *composite = allocate(limit);
  uint64_t primes = 0;
  for (uint64_t round = 0; round < size; round++) {
    memset(composite, 0, limit);
    for (size_t n = 2; n * n < limit; n++)
      if (!composite[n])
        for (size_t multiple = n * n; multiple < limit; multiple += n) composite[multiple] = 1;
    for (size_t n = 2; n < limit; n++) primes += !composite[n];
  }
  free(composite);
  return primes;
}

/* Calls and returns. */
uint64_t fib(uint64_t size) {
  return size < 2 ? size : fib(size - 1) + fib(size - 2);
}

/* One chain of shifts and exclusive ors. */
uint64_t xorshift(uint64_t size) {
  uint64_t state = 88172645463325252ull;
  while (size--) next_random(&state);
  return state;
}

/* Blocks and strings, moved and measured by the C library. */
uint64_t memory(uint64_t size) {
  const size_t bytes = 1 << 20;
  char *from = allocate(bytes), *to = allocate(bytes);
  for (size_t at = 0; at < bytes; at++) from[at] = 1 + at % 251;
  uint64_t hash = HASH_START;
  for (uint64_t round = 0; round < size; round++) {
    size_t length = bytes - 1 - round * 37;
    from[length] = 0;
    memcpy(to, from, bytes);
    hash = mix(hash, strlen(to));
    for (size_t at = 0; at + 100 < bytes / 4; at += 100) memcpy(to + at, from + at + 13, 24);
    from[length] = 1 + length % 251;
    hash = mix(hash, (uint8_t)to[round * 101]);
  }
  free(from);
  free(to);
  return hash;
}

static int compare(const void *a, const void *b) {
  uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
  return (x > y) - (x < y);
}

/* The C library's qsort: indirect calls. */
uint64_t quicksort(uint64_t size) {
  uint32_t *items = allocate(size * sizeof *items);
  uint64_t random = 7, hash = HASH_START;
  for (uint64_t n = 0; n < size; n++) items[n] = next_random(&random) >> 16;
  qsort(items, size, sizeof *items, compare);
  for (uint64_t n = 0; n < size; n++) hash = mix(hash, items[n]);
  free(items);
  return hash;
}

enum { PUSH, ADD, MULTIPLY, XOR, DUPLICATE, SWAP, ROTATE, LOAD, STORE, DECREMENT, JUMP_IF, STOP };

/* An interpreter of bytecode: one indirect jump for each of its instructions. */
uint64_t dispatch(uint64_t size) {
  static const uint8_t CODE[] = {
      LOAD,  0, PUSH, 13, MULTIPLY, PUSH, 7,  ADD,      DUPLICATE, ROTATE, XOR,  STORE, 0, LOAD,    1,
      SWAP,  LOAD, 0, XOR, ADD, STORE, 1, DECREMENT, 2, JUMP_IF, 2, 0, STOP,
  };
  uint64_t stack[16] = {0}, variables[3] = {1, 2, size};
  uint64_t *top = stack + 4; /* what SWAP finds below the first value */
  const uint8_t *at = CODE;
  for (;;) {
    switch (*at++) {
      case PUSH: *++top = *at++; break;
      case ADD: top--; *top += top[1]; break;
      case MULTIPLY: top--; *top *= top[1]; break;
      case XOR: top--; *top ^= top[1]; break;
      case DUPLICATE: top++; *top = top[-1]; break;
      case SWAP: { uint64_t t = *top; *top = top[-1]; top[-1] = t; break; }
      case ROTATE: *top = *top << 9 | *top >> 55; break;
      case LOAD: *++top = variables[*at++]; break;
      case STORE: variables[*at++] = *top--; break;
      case DECREMENT: variables[*at++]--; break;
      case JUMP_IF: if (variables[*at]) { top = stack + 4; at = CODE + at[1]; } else at += 2; break;
      case STOP: return mix(variables[0], variables[1]);
    }
  }
}
