/**
 * What trike calls of macOS's libSystem: time, and what the kernel tells of the host. Names and layouts as in C.
 *
 * Every library of the system depends on libSystem, and a look-up in a library also finds what those it depends on export: so
 * these symbols can be had through the handle of a framework as well. Where that is not macOS's, they are null.
 */
export const SYSTEM_PATH = "/usr/lib/libSystem.B.dylib";

export const DARWIN_SYMBOLS = {
  /** In units of mach_timebase_info: nanoseconds on Intel processors. */
  mach_absolute_time: { parameters: [], result: "u64", optional: true },
  /** Into two 32-bit words: numerator and denominator of nanoseconds per unit. */
  mach_timebase_info: { parameters: ["buffer"], result: "i32", optional: true },
  /** (name, old value, its length in and out, new value, its length) */
  sysctlbyname: { parameters: ["buffer", "buffer", "buffer", "pointer", "usize"], result: "i32", optional: true },
} as const satisfies Deno.ForeignLibraryInterface;
