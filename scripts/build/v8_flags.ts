/** V8's options for trike, the same in every form: the binary, the portable form, and the tasks of deno.json. */
export const V8_FLAGS: readonly string[] = [
  // Generated code reaches nothing but the machine's memory: docs/decisions/0008-no-bounds-checks.md.
  "--no-wasm-bounds-checks",
  // The better code for a compiled region is made a tenth as late as V8 would.
  "--wasm-tiering-budget=1500000",
  // MiB for a thread's young objects, of 16: a boot takes as much processor time, and 25 MiB less memory.
  "--max-semi-space-size=2",
];
