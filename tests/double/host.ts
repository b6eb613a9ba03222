/** What the double needs of the Linux kernel, through libc: memory that two places of the process can share. */
import { HostError } from "../../src/base/errors.ts";

const SYMBOLS = {
  memfd_create: { parameters: ["buffer", "u32"], result: "i32" },
  ftruncate: { parameters: ["i32", "i64"], result: "i32" },
  mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "usize" },
  munmap: { parameters: ["usize", "usize"], result: "i32" },
  open: { parameters: ["buffer", "i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  pread: { parameters: ["i32", "buffer", "usize", "i64"], result: "isize" },
  pwrite: { parameters: ["i32", "pointer", "usize", "i64"], result: "isize" },
} as const satisfies Deno.ForeignLibraryInterface;

const PROT_NONE = 0, PROT_READ_WRITE = 3;
const MAP_SHARED = 1, MAP_PRIVATE = 2, MAP_FIXED = 0x10, MAP_ANONYMOUS = 0x20, MAP_NORESERVE = 0x4000;
const MFD_CLOEXEC = 1;
/** Pages that are copied at a time. */
const RUN = 4096;
const MAP_FAILED = 0xffff_ffff_ffff_ffffn;
export const PAGE = 4096;

const libc = Deno.dlopen("libc.so.6", SYMBOLS).symbols;
const cString = (text: string) => new TextEncoder().encode(`${text}\0`);

/** Memory without a place, `bytes` long and zero until written: a file descriptor. */
export function createShared(bytes: number): number {
  const fd = libc.memfd_create(cString("double"), MFD_CLOEXEC);
  if (fd < 0 || libc.ftruncate(fd, BigInt(bytes)) !== 0) throw new HostError("memfd_create failed");
  return fd;
}

/** Puts `bytes` of `fd` from `offset` on to `address`, in place of what was there, or anywhere if it is 0. Gives the address. */
export function mapShared(fd: number, offset: number, bytes: number, address = 0n): bigint {
  const flags = MAP_SHARED | (address === 0n ? 0 : MAP_FIXED);
  const at = libc.mmap(address, BigInt(bytes), PROT_READ_WRITE, flags, fd, BigInt(offset));
  if (at === MAP_FAILED) throw new HostError(`mmap of ${bytes} bytes failed`);
  return at;
}

/** Takes away what is at `address`: nothing may be accessed there, and nothing else is put there. */
export function hide(address: bigint, bytes: number): void {
  const flags = MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE;
  libc.mmap(address, BigInt(bytes), PROT_NONE, flags, -1, 0n);
}

export function unmap(address: bigint, bytes: number): void {
  libc.munmap(address, BigInt(bytes));
}

/** Copies what is present of the memory at `address` to `offset` of `fd`. False if it cannot all be read. */
export function copyPresent(address: bigint, bytes: number, fd: number, offset: number): boolean {
  // Two 32-bit words a page; bits 63 and 62 of the pair: present, swapped out.
  const pages = new Uint32Array(bytes / PAGE * 2);
  const pagemap = libc.open(cString("/proc/self/pagemap"), 0, 0);
  const got = libc.pread(pagemap, pages, BigInt(pages.byteLength), address / BigInt(PAGE) * 8n);
  libc.close(pagemap);
  // Where the kernel does not tell, everything is copied.
  const told = Number(got) === pages.byteLength;
  const present = (page: number) => !told || (pages[2 * page + 1]! & 0xc000_0000) !== 0;
  for (let page = 0, end = bytes / PAGE; page < end;) {
    if (!present(page)) {
      page++;
      continue;
    }
    let to = page + 1;
    while (to < end && to - page < RUN && present(to)) to++;
    const from = Deno.UnsafePointer.create(address + BigInt(page * PAGE));
    const size = BigInt((to - page) * PAGE);
    if (libc.pwrite(fd, from, size, BigInt(offset + page * PAGE)) !== size) return false;
    page = to;
  }
  return true;
}

/** Whether the memory at `address` can be read, by a system call that refuses what cannot. */
export function readable(address: bigint, bytes: number, scratchFd: number, scratchOffset: number): boolean {
  for (let at = 0; at < bytes; at += bytes > PAGE ? bytes - PAGE : PAGE) {
    const from = Deno.UnsafePointer.create(address + BigInt(at));
    if (from === null || libc.pwrite(scratchFd, from, 8n, BigInt(scratchOffset)) !== 8n) return false;
  }
  return true;
}

/** A view of memory that belongs to nobody here. */
export function viewOf(address: bigint, bytes: number): ArrayBuffer {
  // SAFETY: the caller's address is mapped for as long as the process uses the view.
  return Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(address)!, bytes);
}
