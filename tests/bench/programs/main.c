/*
 * bench NAME           runs one program
 * bench time NAME CMD  runs a command
 * bench text FILE MIB  makes a file to work on
 *
 * The first two print "BENCH NAME SECONDS CHECKSUM"; the time is CLOCK_MONOTONIC's, without the start of this process.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"

static const struct {
  const char *name;
  program *run;
  uint64_t size;
} PROGRAMS[] = {
    {"crc32", crc32, 60},
    {"sieve", sieve, 24},
    {"fib", fib, 37},
    {"xorshift", xorshift, 120000000},
    {"memory", memory, 400},
    {"qsort", quicksort, 600000},
    {"dispatch", dispatch, 1500000},
    {"nbody", nbody, 150000},
    {"mandelbrot", mandelbrot, 320},
    {"matmul", matmul, 200},
    {"getpid", syscalls, 400000},
    {"devzero", devzero, 200000},
    {"pipe", pipes, 12000},
    {"fork", forks, 600},
    {"exec", execs, 150},
    {"pagefault", pagefaults, 60000},
    {"signal", signals, 60000},
    {"parallel", parallel, 2},
};

void fail(const char *what) {
  perror(what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec * 1e-9;
}

static void report(const char *name, double seconds, uint64_t checksum) {
  printf("BENCH %s %.6f %016llx\n", name, seconds, (unsigned long long)checksum);
}

int main(int argc, char **argv) {
  if (argc == 4 && strcmp(argv[1], "text") == 0) return make_text(argv[2], strtoull(argv[3], NULL, 10) << 20);
  if (argc >= 4 && strcmp(argv[1], "time") == 0) {
    uint64_t checksum;
    double start = now();
    if (!run_command(argv + 3, &checksum)) return 1;
    report(argv[2], now() - start, checksum);
    return 0;
  }
  for (size_t n = 0; argc == 2 && n < sizeof PROGRAMS / sizeof *PROGRAMS; n++) {
    if (strcmp(argv[1], PROGRAMS[n].name) != 0) continue;
    volatile uint64_t size = PROGRAMS[n].size;
    double start = now();
    uint64_t checksum = PROGRAMS[n].run(size);
    report(argv[1], now() - start, checksum);
    return 0;
  }
  fprintf(stderr, "bench: expected the name of a program, \"time NAME CMD\" or \"text FILE MIB\"\n");
  return 2;
}
