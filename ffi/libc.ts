/**
 * The part of libc that engines call, on Linux (glibc and musl) and macOS. Names, constants and layouts as in C and in the
 * kernel's ABI; system call numbers are those of x86-64 Linux.
 */
import { HostError, messageOf } from "../src/base/errors.ts";
import { LIBC_NAMES } from "./pty.ts";

const darwin = Deno.build.os === "darwin";

const SYMBOLS = {
  /** Without a mode: it creates nothing. */
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  /** Variadic in C, which makes no difference to integers on x86-64 and on arm64 Linux. */
  ioctl: { parameters: ["i32", "usize", "usize"], result: "i32" },
  ioctl_buffer: { name: "ioctl", parameters: ["i32", "usize", "buffer"], result: "i32" },
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "usize" },
  munmap: { parameters: ["usize", "usize"], result: "i32" },
  /** syscall(2) under the shapes that are needed here. */
  syscall0: { name: "syscall", parameters: ["isize"], result: "isize" },
  syscall_ubb: { name: "syscall", parameters: ["isize", "usize", "buffer", "buffer"], result: "isize" },
  syscall_uubb: { name: "syscall", parameters: ["isize", "usize", "usize", "buffer", "buffer"], result: "isize" },
  syscall_ubbu: { name: "syscall", parameters: ["isize", "usize", "buffer", "buffer", "usize"], result: "isize" },
  syscall_bbbu: { name: "syscall", parameters: ["isize", "buffer", "buffer", "buffer", "usize"], result: "isize" },
  syscall_u: { name: "syscall", parameters: ["isize", "usize"], result: "isize" },
  errno_location: { name: darwin ? "__error" : "__errno_location", parameters: [], result: "pointer" },
} as const;

export type Libc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

export const O_RDWR = 2;
export const O_CLOEXEC = darwin ? 0x100_0000 : 0o2_000_000;
export const PROT_READ = 1, PROT_WRITE = 2;
export const MAP_SHARED = 1;
/** (void *)-1, as an unsigned number of 64 bits. */
export const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

export const EPERM = 1, ENOENT = 2, EINTR = 4, EIO = 5, ENXIO = 6, E2BIG = 7, EBADF = 9, EAGAIN = 11, ENOMEM = 12;
export const EACCES = 13, EFAULT = 14, EBUSY = 16, EEXIST = 17, ENODEV = 19, EINVAL = 22, EMFILE = 24, ENOTTY = 25;
export const ENOSPC = 28, ENOSYS = 38;

const ERRNO_NAMES: Readonly<Record<number, string>> = {
  [EPERM]: "EPERM",
  [ENOENT]: "ENOENT",
  [EINTR]: "EINTR",
  [EIO]: "EIO",
  [ENXIO]: "ENXIO",
  [E2BIG]: "E2BIG",
  [EBADF]: "EBADF",
  [EAGAIN]: "EAGAIN",
  [ENOMEM]: "ENOMEM",
  [EACCES]: "EACCES",
  [EFAULT]: "EFAULT",
  [EBUSY]: "EBUSY",
  [EEXIST]: "EEXIST",
  [ENODEV]: "ENODEV",
  [EINVAL]: "EINVAL",
  [EMFILE]: "EMFILE",
  [ENOTTY]: "ENOTTY",
  [ENOSPC]: "ENOSPC",
  [ENOSYS]: "ENOSYS",
};

/** EINVAL and its like; the number itself if it is not one that engines meet. */
export function errnoName(errno: number): string {
  return ERRNO_NAMES[errno] ?? `errno ${errno}`;
}

export const SIGUSR1 = 10;
export const SIG_BLOCK = 0;
export const CLOCK_MONOTONIC = 1;
export const SIGEV_THREAD_ID = 4;

export const SYS_rt_sigprocmask = 14;
export const SYS_rt_sigtimedwait = 128;
export const SYS_gettid = 186;
export const SYS_timer_create = 222;
export const SYS_timer_settime = 223;
export const SYS_timer_delete = 226;

/** struct sigevent of the kernel: value, signal, how, thread. */
export const SIZEOF_SIGEVENT = 64;
export const SIGEV_SIGNO = 8, SIGEV_NOTIFY = 12, SIGEV_NOTIFY_THREAD_ID = 16;
/** struct itimerspec: two of seconds and nanoseconds. */
export const SIZEOF_ITIMERSPEC = 32;
export const IT_INTERVAL = 0, IT_VALUE = 16;
/** The kernel's sigset_t: a bit a signal, signal 1 first. */
export const SIZEOF_SIGSET = 8;

let opened: Libc | undefined;

/** Opens libc under the first of its names that works, once a thread. Throws HostError. */
export function openLibc(): Libc {
  if (opened) return opened;
  let failure: unknown;
  for (const name of LIBC_NAMES) {
    try {
      return opened = Deno.dlopen(name, SYMBOLS).symbols;
    } catch (error) {
      failure = error;
      if (error instanceof Deno.errors.NotCapable) {
        throw new HostError("Cannot call libc: run again with --allow-ffi", { cause: error });
      }
    }
  }
  throw new HostError(`Cannot open libc (${LIBC_NAMES.join(", ")}): ${messageOf(failure)}`, { cause: failure });
}

let errnoWord: Int32Array | undefined;

/** errno of this thread, right after a call that failed. */
export function errnoOf(libc: Libc): number {
  // SAFETY: errno is a word of the calling thread for as long as the thread lives, and each thread has its own copy of this module.
  errnoWord ??= new Int32Array(Deno.UnsafePointerView.getArrayBuffer(libc.errno_location()!, 4));
  return errnoWord[0]!;
}
