/** Holes in files, by fallocate(2): only where FFI is allowed already, as nobody is to grant that for a disk's sake. */
import { FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE, openFallocate } from "../../../ffi/fallocate.ts";
import { O_CLOEXEC, O_RDWR } from "../../../ffi/libc.ts";
import type { HolePuncher } from "./store.ts";

/** For a file that may be written; null where holes are not to be had. */
export function holePuncher(path: string): HolePuncher | null {
  const libc = openFallocate();
  if (!libc) return null;
  // SAFETY: the name is read during the call only.
  const fd = libc.open(new TextEncoder().encode(`${path}\0`), O_RDWR | O_CLOEXEC);
  if (fd < 0) return null;
  let able = true;
  return {
    punch(at, sizeBytes) {
      // A file system that cannot is not asked again.
      const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
      able = able && libc.fallocate(fd, mode, BigInt(at), BigInt(sizeBytes)) === 0;
      return able;
    },
    close: () => void libc.close(fd),
  };
}
