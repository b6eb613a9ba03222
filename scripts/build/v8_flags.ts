/** V8's options for trike, the same in every form: the binary, the portable form, and the tasks of deno.json. */
export const V8_FLAGS: readonly string[] = [
  // Generated code reaches nothing but the machine's memory: docs/decisions/0008-no-bounds-checks.md.
  "--no-wasm-bounds-checks",
  // The better code for a compiled region is made a tenth as late as V8 would.
  "--wasm-tiering-budget=1500000",
  // MiB for a thread's young objects, of 16, and by how much a heap grows until it is collected: by four times otherwise, which
  // keeps what compiled regions were made with. A boot takes as much processor time, and 40 MiB less memory.
  "--max-semi-space-size=2",
  "--heap-growing-percent=20",
];
