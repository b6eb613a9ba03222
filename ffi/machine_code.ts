/**
 * Calling emitted machine code: a trampoline of libc, on x86-64 Linux (glibc and musl). Names and types as in C.
 *
 * bsearch(key, base, 1, 0, compare) calls compare(key, base) once, and nothing else. Bound so, with no type that Deno must
 * convert, the runtime compiles the call into the caller: 10 ns, where a call through Deno.UnsafeFnPointer takes 700.
 */
import { LIBC_NAMES } from "./pty.ts";

const SYMBOLS = {
  bsearch: { parameters: ["pointer", "pointer", "u32", "u32", "pointer"], result: "void" },
} as const;

export type Trampoline = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** Throws if there is no libc to be opened. */
export function openTrampoline(): Trampoline {
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
