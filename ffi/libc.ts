/**
 * The part of libc that engines call, on Linux (glibc and musl) and macOS. Names, constants and layouts as in C and in the
 * kernel's ABI; system call numbers are those of x86-64 Linux.
 */
import { LIBC_NAMES } from "./pty.ts";

const darwin = Deno.build.os === "darwin";

const SYMBOLS = {
  /** Without a mode: it creates nothing. */
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  /** Variadic in C, which makes no difference to integers on x86-64 and on arm64 Linux. Requests have 32 bits on Linux. */
  ioctl: { parameters: ["i32", "u32", "usize"], result: "i32" },
  ioctl_buffer: { name: "ioctl", parameters: ["i32", "u32", "buffer"], result: "i32" },
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "usize" },
  munmap: { parameters: ["usize", "usize"], result: "i32" },
  /** syscall(2) under the shapes that are needed here: i for a small number, b for a buffer. Answers fit 32 bits as well. */
  syscall_i: { name: "syscall", parameters: ["i32", "i32"], result: "i32" },
  syscall_iii: { name: "syscall", parameters: ["i32", "i32", "i32", "i32"], result: "i32" },
  syscall_ibi: { name: "syscall", parameters: ["i32", "i32", "buffer", "i32"], result: "i32" },
  syscall_bii: { name: "syscall", parameters: ["i32", "buffer", "i32", "i32"], result: "i32" },
  syscall_ibb: { name: "syscall", parameters: ["i32", "i32", "buffer", "buffer"], result: "i32" },
  syscall_iibb: { name: "syscall", parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  syscall_ibbi: { name: "syscall", parameters: ["i32", "i32", "buffer", "buffer", "i32"], result: "i32" },
  syscall_bbbi: { name: "syscall", parameters: ["i32", "buffer", "buffer", "buffer", "i32"], result: "i32" },
  errno_location: { name: darwin ? "__error" : "__errno_location", parameters: [], result: "pointer" },
} as const;

export type Libc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

export const O_RDONLY = 0, O_RDWR = 2;
export const O_CLOEXEC = darwin ? 0x100_0000 : 0o2_000_000;
export const PROT_READ = 1, PROT_WRITE = 2, PROT_EXEC = 4;
export const MAP_SHARED = 1, MAP_PRIVATE = 2;
/** Of Linux. */
export const MAP_ANONYMOUS = 0x20;
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
export const SIG_BLOCK = 0, SIG_UNBLOCK = 1;
export const CLOCK_MONOTONIC = 1;
export const SIGEV_THREAD_ID = 4;

export const SYS_read = 0;
export const SYS_write = 1;
export const SYS_poll = 7;
export const SYS_rt_sigprocmask = 14;
export const SYS_rt_sigtimedwait = 128;
export const SYS_ftruncate = 77;
export const SYS_gettid = 186;
export const SYS_timer_create = 222;
export const SYS_timer_settime = 223;
export const SYS_timer_delete = 226;
export const SYS_clock_gettime = 228;
export const SYS_tgkill = 234;
export const SYS_eventfd2 = 290;
export const SYS_memfd_create = 319;
export const MFD_CLOEXEC = 1;

/** struct sigevent of the kernel: value, signal, how, thread. */
export const SIZEOF_SIGEVENT = 64;
export const SIGEV_SIGNO = 8, SIGEV_NOTIFY = 12, SIGEV_NOTIFY_THREAD_ID = 16;
/** struct pollfd: the file descriptor, what is asked (2 bytes), what there is. */
export const SIZEOF_POLLFD = 8;
export const POLLFD_FD = 0, POLLFD_EVENTS = 4;
export const POLLIN = 1;
/** struct itimerspec: two of seconds and nanoseconds. */
export const SIZEOF_ITIMERSPEC = 32;
export const IT_INTERVAL = 0, IT_VALUE = 16;
/** The kernel's sigset_t: a bit a signal, signal 1 first. */
export const SIZEOF_SIGSET = 8;

let opened: Libc | undefined;

/** Opens libc under the first of its names that works, once a thread. */
export function openLibc(): Libc {
  if (opened) return opened;
  let failure: unknown;
  for (const name of LIBC_NAMES) {
    try {
      return opened = Deno.dlopen(name, SYMBOLS).symbols;
    } catch (error) {
      failure = error;
      if (error instanceof Deno.errors.NotCapable) break;
    }
  }
  throw failure;
}

let errnoWord: Int32Array | undefined;

/** errno of this thread, right after a call that failed. */
export function errnoOf(libc: Libc): number {
  // SAFETY: errno is a word of the calling thread for as long as the thread lives, and each thread has its own copy of this module.
  errnoWord ??= new Int32Array(Deno.UnsafePointerView.getArrayBuffer(libc.errno_location()!, 4));
  return errnoWord[0]!;
}
