/*
 * What the programs of the bench share. A program is a function that does a fixed amount of work and returns a checksum of
 * what it worked out; main.c takes the time. `size` comes from main.c, so that no compiler can know the answer.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>

typedef uint64_t program(uint64_t size);

program crc32, sieve, fib, xorshift, memory, quicksort, dispatch;
program nbody, mandelbrot, matmul;
program syscalls, devzero, pipes, forks, execs, pagefaults, signals;
program parallel;

/* Writes text that compresses as prose does. */
int make_text(const char *path, uint64_t bytes);
/* Runs a command; the checksum is that of its standard output. Returns false if it failed. */
int run_command(char **words, uint64_t *checksum);

/* Ends the process with a message: a measurement of something else is worth nothing. */
void fail(const char *what) __attribute__((noreturn));

static inline uint64_t next_random(uint64_t *state) {
  uint64_t x = *state;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return *state = x;
}

/* FNV-1a, by 64-bit words. */
static inline uint64_t mix(uint64_t hash, uint64_t value) {
  return (hash ^ value) * 0x100000001b3ull;
}

#define HASH_START 0xcbf29ce484222325ull

#endif
