/** madvise(2) of Linux (glibc and musl). Names and constants as in C. */
import { LIBC_NAMES } from "./pty.ts";

const SYMBOLS = {
  madvise: { parameters: ["usize", "usize", "i32"], result: "i32" },
} as const;

/** Private anonymous pages are let go of at once, and read as zeroes afterwards. */
export const MADV_DONTNEED = 4;

export type Madvise = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** Throws if there is no libc to be opened. */
export function openMadvise(): Madvise {
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
