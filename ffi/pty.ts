/**
 * Pseudo-terminals and terminal modes of libc, on Linux (glibc and musl) and macOS. Names, constants and layouts as in C.
 * None of these functions is variadic in the way it is called here: open(2) gets no mode, because it creates nothing.
 */

const SYMBOLS = {
  posix_openpt: { parameters: ["i32"], result: "i32" },
  grantpt: { parameters: ["i32"], result: "i32" },
  unlockpt: { parameters: ["i32"], result: "i32" },
  ptsname: { parameters: ["i32"], result: "pointer" },
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  tcgetattr: { parameters: ["i32", "buffer"], result: "i32" },
  tcsetattr: { parameters: ["i32", "i32", "buffer"], result: "i32" },
  cfmakeraw: { parameters: ["buffer"], result: "void" },
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32", nonblocking: true },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize", nonblocking: true },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize", nonblocking: true },
} as const;

export type Libc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

const darwin = Deno.build.os === "darwin";
const musl = { x86_64: "libc.musl-x86_64.so.1", aarch64: "libc.musl-aarch64.so.1" }[Deno.build.arch as string];

/** Where libc may be, likeliest first. */
export const LIBC_NAMES: readonly string[] = darwin ? ["libSystem.B.dylib"] : ["libc.so.6", musl ?? "libc.so"];

export const O_RDWR = 2;
export const O_NOCTTY = darwin ? 0x20000 : 0o400;
export const O_NONBLOCK = darwin ? 0x4 : 0o4000;
export const TCSANOW = 0;

export const POLLIN = 0x01;
export const POLLOUT = 0x04;
export const POLLERR = 0x08;
export const POLLHUP = 0x10;
export const POLLNVAL = 0x20;

/** struct termios: 60 bytes on Linux, 72 on macOS. */
export const SIZEOF_TERMIOS = darwin ? 72 : 60;
/** struct pollfd: int fd, short events, short revents. */
export const SIZEOF_POLLFD = 8;
export const POLLFD_EVENTS = 4;
export const POLLFD_REVENTS = 6;

/** Opens libc under the first of its names that works. */
export function openLibc(): Libc {
  let failure: unknown;
  for (const name of LIBC_NAMES) {
    try {
      return Deno.dlopen(name, SYMBOLS).symbols;
    } catch (error) {
      failure = error;
      if (error instanceof Deno.errors.NotCapable) break;
    }
  }
  throw failure;
}
