/**
 * Sockets and packet devices of libc, on Linux (glibc and musl) and macOS. Names, constants and layouts as in C. Everything but
 * `poll` is called with MSG_DONTWAIT, or on descriptors that do not block.
 */
import { LIBC_NAMES } from "./pty.ts";

const darwin = Deno.build.os === "darwin";

const SYMBOLS = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  bind: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  recvfrom: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "buffer"], result: "isize" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  open: { parameters: ["buffer", "i32"], result: "i32" },
  read: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  write: { parameters: ["i32", "buffer", "usize"], result: "isize" },
  close: { parameters: ["i32"], result: "i32" },
  /** Variadic in C; with integers and pointers that makes no difference on x86-64 and on Linux, where it is called. */
  ioctl: { parameters: ["i32", "usize", "buffer"], result: "i32" },
  ioctl_number: { name: "ioctl", parameters: ["i32", "usize", "usize"], result: "i32" },
  poll: { parameters: ["buffer", "usize", "i32"], result: "i32", nonblocking: true },
  errno_location: { name: darwin ? "__error" : "__errno_location", parameters: [], result: "pointer" },
} as const;

export type SocketLibc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

export const AF_UNIX = 1, AF_INET = 2, AF_INET6 = darwin ? 30 : 10;
export const SOCK_DGRAM = 2;
export const SOCK_CLOEXEC = darwin ? 0 : 0o2_000_000;
export const IPPROTO_ICMP = 1, IPPROTO_ICMPV6 = 58;
export const SOL_SOCKET = darwin ? 0xffff : 1;
export const SO_SNDBUF = darwin ? 0x1001 : 7, SO_RCVBUF = darwin ? 0x1002 : 8;
export const MSG_DONTWAIT = darwin ? 0x80 : 0x40;
export const MSG_NOSIGNAL = darwin ? 0x80000 : 0x4000;

export const O_RDWR = 2;
export const O_NONBLOCK = darwin ? 4 : 0o4000;
export const O_CLOEXEC = darwin ? 0x100_0000 : 0o2_000_000;

/** struct pollfd: descriptor, wanted, found. */
export const SIZEOF_POLLFD = 8;
export const POLLFD_EVENTS = 4, POLLFD_REVENTS = 6;
export const POLLIN = 1;

export const EPERM = 1, ENOENT = 2, EINTR = 4, EAGAIN = darwin ? 35 : 11, EACCES = 13, EBUSY = 16, EINVAL = 22;
export const ENOBUFS = darwin ? 55 : 105, ECONNREFUSED = darwin ? 61 : 111, EADDRINUSE = darwin ? 48 : 98;
export const ENODEV = 19, ENOTCONN = darwin ? 57 : 107, EMSGSIZE = darwin ? 40 : 90;

// <linux/if_tun.h>, <linux/if.h>: requests and flags of /dev/net/tun.
export const TUNSETIFF = 0x4004_54ca, TUNSETOFFLOAD = 0x4004_54d0, TUNSETVNETHDRSZ = 0x4004_54d8;
export const IFF_TAP = 0x0002, IFF_NO_PI = 0x1000, IFF_VNET_HDR = 0x4000;
export const TUN_F_CSUM = 0x01, TUN_F_TSO4 = 0x02, TUN_F_TSO6 = 0x04;
/** struct ifreq: a name of at most 15 bytes and its zero, then a union. */
export const SIZEOF_IFREQ = 40;
export const IFREQ_FLAGS = 16, IFNAMSIZ = 16;

const ERRNO_NAMES: Readonly<Record<number, string>> = {
  [EPERM]: "EPERM",
  [ENOENT]: "ENOENT",
  [EINTR]: "EINTR",
  [EAGAIN]: "EAGAIN",
  [EACCES]: "EACCES",
  [EBUSY]: "EBUSY",
  [EINVAL]: "EINVAL",
  [ENOBUFS]: "ENOBUFS",
  [ECONNREFUSED]: "ECONNREFUSED",
  [EADDRINUSE]: "EADDRINUSE",
  [ENODEV]: "ENODEV",
  [ENOTCONN]: "ENOTCONN",
  [EMSGSIZE]: "EMSGSIZE",
};

export function errnoName(errno: number): string {
  return ERRNO_NAMES[errno] ?? `errno ${errno}`;
}

let opened: SocketLibc | undefined;

/** Opens libc under the first of its names that works, once a thread. Throws what the last of them said. */
export function openSocketLibc(): SocketLibc {
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

/** errno of this thread, right after a call that failed. */
export function errnoOf(libc: SocketLibc): number {
  // SAFETY: errno is a word of the calling thread, read at once.
  return new Deno.UnsafePointerView(libc.errno_location()!).getInt32(0);
}

const SUN_PATH = 2;
/** The most bytes of sun_path, with the zero that ends it. */
export const MAX_SUN_PATH = darwin ? 104 : 108;

/** struct sockaddr_un. */
export function sockaddrUn(path: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(SUN_PATH + MAX_SUN_PATH);
  bytes.set(new TextEncoder().encode(path).subarray(0, MAX_SUN_PATH - 1), SUN_PATH);
  family(bytes, AF_UNIX);
  return bytes;
}

/** struct sockaddr_in or sockaddr_in6 without a port, from the 4 or 16 bytes of an address. */
export function sockaddrIn(address: Uint8Array): Uint8Array<ArrayBuffer> {
  const six = address.length === 16;
  const bytes = new Uint8Array(six ? 28 : 16);
  bytes.set(address, six ? 8 : 4);
  family(bytes, six ? AF_INET6 : AF_INET);
  return bytes;
}

/** The address in a sockaddr_in or sockaddr_in6. */
export function addressIn(sockaddr: Uint8Array): Uint8Array {
  const six = (darwin ? sockaddr[1] : sockaddr[0]) === AF_INET6;
  return six ? sockaddr.subarray(8, 24) : sockaddr.subarray(4, 8);
}

function family(bytes: Uint8Array, af: number): void {
  bytes[0] = darwin ? bytes.length : af;
  bytes[1] = darwin ? af : 0;
}
