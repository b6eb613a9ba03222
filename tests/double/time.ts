/** One clock for all threads of the process: nanoseconds, which is mach absolute time on Intel Macs. */
const libc = Deno.dlopen("libc.so.6", { clock_gettime: { parameters: ["i32", "buffer"], result: "i32" } }).symbols;
const CLOCK_MONOTONIC = 1;
const spec = new BigInt64Array(2);

export function machNs(): bigint {
  libc.clock_gettime(CLOCK_MONOTONIC, spec);
  return spec[0]! * 1_000_000_000n + spec[1]!;
}
