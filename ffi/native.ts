/**
 * Running emitted machine code in this process: memory, signals and a trampoline of libc, on x86-64 Linux (glibc and musl).
 * Names, constants and layouts as in C and in the kernel's ABI.
 */

const SYMBOLS = {
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "usize" },
  mprotect: { parameters: ["usize", "usize", "i32"], result: "i32" },
  munmap: { parameters: ["usize", "usize"], result: "i32" },
  sigaction: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  sigaltstack: { parameters: ["buffer", "buffer"], result: "i32" },
  /** bsearch(key, base, 1, 1, compare) calls compare(key, base) and nothing else. */
  bsearch: { parameters: ["pointer", "pointer", "usize", "usize", "pointer"], result: "pointer" },
} as const;

export type NativeLibc = Deno.DynamicLibrary<typeof SYMBOLS>;

/** Where libc may be, likeliest first. */
const LIBC_NAMES = ["libc.so.6", "libc.musl-x86_64.so.1"];

export const PROT_NONE = 0, PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4;
export const MAP_PRIVATE = 0x02, MAP_ANONYMOUS = 0x20, MAP_FIXED_NOREPLACE = 0x10_0000;

export const SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGSEGV = 11;
export const SA_SIGINFO = 0x4, SA_ONSTACK = 0x0800_0000, SA_NODEFER = 0x4000_0000;

/** struct sigaction: handler, mask of 128 bytes, flags, restorer (which libc fills in by itself). */
export const SIZEOF_SIGACTION = 152;
export const SIGACTION_HANDLER = 0, SIGACTION_FLAGS = 136;

/** stack_t: pointer, flags, size. */
export const SIZEOF_STACK_T = 24;
export const STACK_SP = 0, STACK_FLAGS = 8, STACK_SIZE = 16;

/** Offsets in ucontext_t of the registers of the interrupted code. */
export const UC_RIP = 168, UC_EFL = 176, UC_CSGSFS = 184, UC_ERR = 192, UC_TRAPNO = 200, UC_CR2 = 216;

/** Opens libc under the first of its names that works. */
export function openNativeLibc(): NativeLibc {
  let failure: unknown;
  for (const name of LIBC_NAMES) {
    try {
      return Deno.dlopen(name, SYMBOLS);
    } catch (error) {
      failure = error;
      if (error instanceof Deno.errors.NotCapable) break;
    }
  }
  throw failure;
}
