/** What is measured, and what the project wants of it. Ratios are trike's figure to QEMU's: smaller is better. */

/** A program of tests/bench/programs, or a script that is timed as a whole. */
export interface Program {
  readonly name: string;
  /** What it does, in a few words. */
  readonly about: string;
  /** For BusyBox's shell; its output is what the checksum is of. Without it: the bench's own program of that name. */
  readonly script?: string;
}

export interface Group {
  readonly name: string;
  readonly title: string;
  /** The geometric mean of the ratios, or each ratio, is to be at most this. */
  readonly goal: number;
  readonly goalOf: "mean" | "each";
  readonly programs: readonly Program[];
  /** Debian's packages whose files the scripts use. */
  readonly packages?: true;
}

/** What gzip and sha256sum work on, made in the guest before either is timed. */
export const TEXT_FILE = "/tmp/text";
export const TEXT_MIB = 64;

export const GROUPS: readonly Group[] = [
  {
    name: "integer",
    title: "Integer",
    goal: 0.7,
    goalOf: "mean",
    programs: [
      { name: "crc32", about: "CRC-32 of 60 MiB by a table" },
      { name: "sieve", about: "primes below 2,000,000, 24 times" },
      { name: "fib", about: "fib(37), calls and returns" },
      { name: "xorshift", about: "120 million steps of one chain" },
      { name: "memory", about: "memcpy and strlen of 1 MiB, small copies" },
      { name: "qsort", about: "600,000 words by the C library's qsort" },
      { name: "dispatch", about: "a bytecode interpreter's loop" },
    ],
  },
  {
    name: "float",
    title: "Floating point",
    goal: 0.7,
    goalOf: "mean",
    programs: [
      { name: "nbody", about: "SSE2 scalar doubles" },
      { name: "mandelbrot", about: "SSE2 packed doubles" },
      { name: "matmul", about: "SSE packed floats" },
    ],
  },
  {
    name: "kernel",
    title: "The guest's kernel",
    goal: 1,
    goalOf: "mean",
    programs: [
      { name: "getpid", about: "the system call" },
      { name: "devzero", about: "read of one byte of /dev/zero" },
      { name: "pipe", about: "a byte to another process and back" },
      { name: "fork", about: "fork, exit, wait" },
      { name: "exec", about: "fork, exec of BusyBox, wait" },
      { name: "pagefault", about: "first touch of anonymous pages" },
      { name: "signal", about: "raise, handler, return" },
    ],
  },
  {
    name: "tools",
    title: "Whole programs",
    goal: 1,
    goalOf: "each",
    packages: true,
    programs: [
      { name: "gzip", about: `gzip of ${TEXT_MIB} MiB`, script: `exec gzip -1 <${TEXT_FILE}` },
      { name: "sha256sum", about: `sha256sum of ${TEXT_MIB} MiB`, script: `exec sha256sum <${TEXT_FILE}` },
      {
        name: "tcc",
        about: "tcc compiles and links a program, which runs; twice",
        script: "for n in 1 2; do tcc -o /tmp/compiled /bench/src/integer.c /bench/src/compiled.c && " +
          "/tmp/compiled || exit 1; done",
      },
      {
        name: "perl",
        about: "Perl starts with strict, POSIX and List::Util; twice",
        script: "for n in 1 2; do perl -e 'use strict; use warnings; use POSIX (); " +
          'use List::Util qw(sum); print sum(map { POSIX::floor($_ / 3) } 1 .. 1000), "\\n"\' || exit 1; done',
      },
    ],
  },
];

/** The job that is run on one and on two vCPUs, and by how much two are to be faster. */
export const PARALLEL: Program = { name: "parallel", about: "threads, shared work, memory of their own" };
export const PARALLEL_GOAL = 1.8;

export const BOOT_GOAL = 1;
export const MEMORY_GOAL = 1.3;
/** Seconds. */
export const RESUME_GOAL = 0.3;
/** Percent of a core. */
export const IDLE_GOAL = 2;
