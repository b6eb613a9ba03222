/**
 * Executable memory for one vCPU's native code: laid one piece behind the other, and forgotten all at once.
 *
 * Mapped readable, writable and executable; where the host refuses that (SELinux's execmem, some containers), the same pages
 * twice: once to write, once to run.
 */
import * as C from "../../../../ffi/libc.ts";
import { HostError } from "../../../base/errors.ts";

const ALIGNMENT = 16;

/** The parts of libc that an arena asks, so that a test can refuse. */
export type MapCalls = Pick<C.Libc, "mmap" | "munmap" | "close" | "syscall_bii" | "syscall_iii" | "errno_location">;

export class CodeArena {
  /** Host address of the first byte, to run. */
  readonly base: bigint;
  /** Bytes before `keep` survive `forget`. */
  #keep = 0;
  #next = 0;

  private constructor(private readonly bytes: Uint8Array, base: bigint) {
    this.base = base;
  }

  /** Throws HostError if the host gives no memory that can be executed. */
  static open(sizeBytes: number, libc: MapCalls = C.openLibc()): CodeArena {
    const one = map(libc, sizeBytes, C.PROT_READ | C.PROT_WRITE | C.PROT_EXEC, C.MAP_PRIVATE | C.MAP_ANONYMOUS, -1);
    if (one.at !== null) return new CodeArena(bytesAt(one.at, sizeBytes), one.at);
    return CodeArena.#twice(sizeBytes, libc, one.errno);
  }

  static #twice(sizeBytes: number, libc: MapCalls, refused: string): CodeArena {
    const name = new TextEncoder().encode("native code\0");
    const fd = libc.syscall_bii(C.SYS_memfd_create, name, C.MFD_CLOEXEC, 0);
    if (fd < 0) throw refusal(`mmap says ${refused}, memfd_create ${errno(libc)}`);
    try {
      if (libc.syscall_iii(C.SYS_ftruncate, fd, sizeBytes, 0) < 0) {
        throw refusal(`mmap says ${refused}, ftruncate of a memfd ${errno(libc)}`);
      }
      const run = map(libc, sizeBytes, C.PROT_READ | C.PROT_EXEC, C.MAP_SHARED, fd);
      if (run.at === null) throw refusal(`mmap says ${refused}, and ${run.errno} to a memfd that is not writable`);
      const write = map(libc, sizeBytes, C.PROT_READ | C.PROT_WRITE, C.MAP_SHARED, fd);
      if (write.at !== null) return new CodeArena(bytesAt(write.at, sizeBytes), run.at);
      libc.munmap(run.at, BigInt(sizeBytes));
      throw refusal(`mmap says ${refused}, and ${write.errno} to a memfd that is not executable`);
    } finally {
      libc.close(fd);
    }
  }

  /** Host address of the next piece. */
  get at(): bigint {
    return this.base + BigInt(this.#next);
  }
  get usedBytes(): number {
    return this.#next;
  }
  fits(bytes: number): boolean {
    return this.#next + bytes <= this.bytes.length;
  }

  /** Lays a piece, which fits, at `at`. */
  add(code: Uint8Array): void {
    this.bytes.set(code, this.#next);
    this.#next = Math.ceil((this.#next + code.length) / ALIGNMENT) * ALIGNMENT;
  }

  /** What has been laid stays for ever. */
  keep(): void {
    this.#keep = this.#next;
  }
  /** All other pieces go. None of them may be running, or be jumped to again. */
  forget(): void {
    this.#next = this.#keep;
  }
}

function map(
  libc: MapCalls,
  sizeBytes: number,
  rights: number,
  flags: number,
  fd: number,
): { readonly at: bigint; readonly errno?: never } | { readonly at: null; readonly errno: string } {
  const at = libc.mmap(0n, BigInt(sizeBytes), rights, flags, fd, 0n);
  return at === C.MAP_FAILED ? { at: null, errno: errno(libc) } : { at };
}

function errno(libc: MapCalls): string {
  return C.errnoName(C.errnoOf(libc as C.Libc));
}

function refusal(what: string): HostError {
  return new HostError(`Cannot have memory for native code: ${what}; leave ",native" out of --engine`);
}

function bytesAt(at: bigint, sizeBytes: number): Uint8Array {
  // SAFETY: the mapping is never unmapped: it lasts as long as the process.
  return new Uint8Array(Deno.UnsafePointerView.getArrayBuffer(Deno.UnsafePointer.create(at)!, sizeBytes));
}
