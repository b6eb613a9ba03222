/** fallocate(2) and posix_fadvise(2) of Linux: where a file has storage, and what of it is in memory. Names and constants as in C. */
import { LIBC_NAMES } from "./pty.ts";

const SYMBOLS = {
  open: { parameters: ["buffer", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  fallocate: { parameters: ["i32", "i32", "i64", "i64"], result: "i32" },
  posix_fadvise: { parameters: ["i32", "i64", "i64", "i32"], result: "i32" },
} as const;

export type FileLibc = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

export const FALLOC_FL_KEEP_SIZE = 1, FALLOC_FL_PUNCH_HOLE = 2;
export const POSIX_FADV_WILLNEED = 3, POSIX_FADV_DONTNEED = 4;

let opened: FileLibc | null | undefined;

/** Opens libc once a thread; null where it has not both, or FFI is not allowed. */
export function openFileLibc(): FileLibc | null {
  if (opened !== undefined) return opened;
  opened = null;
  if (Deno.build.os !== "linux") return null;
  for (const name of LIBC_NAMES) {
    try {
      return opened = Deno.dlopen(name, SYMBOLS).symbols;
    } catch (error) {
      if (error instanceof Deno.errors.NotCapable) break;
    }
  }
  return null;
}
