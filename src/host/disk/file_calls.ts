/**
 * What a host does with a file beside moving bytes, by FFI: holes, and reading ahead. Only where FFI is allowed already, as nobody is
 * to grant that for a disk's sake.
 */
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  openFileLibc,
  POSIX_FADV_WILLNEED,
} from "../../../ffi/file_calls.ts";
import { O_CLOEXEC, O_RDONLY, O_RDWR } from "../../../ffi/libc.ts";
import type { FileCalls } from "./store.ts";

/** For a file that is open; null where there is nothing to be had. */
export function fileCalls(path: string, { writable, holes }: { writable: boolean; holes: boolean }): FileCalls | null {
  const libc = openFileLibc();
  if (!libc) return null;
  // SAFETY: the name is read during the call only.
  const fd = libc.open(new TextEncoder().encode(`${path}\0`), (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (fd < 0) return null;
  let able = writable && holes;
  return {
    punches: able,
    punch(at, sizeBytes) {
      // A file system that cannot is not asked again.
      const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
      able = able && libc.fallocate(fd, mode, BigInt(at), BigInt(sizeBytes)) === 0;
      return able;
    },
    announce: (at, sizeBytes) => void libc.posix_fadvise(fd, BigInt(at), BigInt(sizeBytes), POSIX_FADV_WILLNEED),
    close: () => void libc.close(fd),
  };
}
