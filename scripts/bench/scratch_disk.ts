/** A disk for guests that measure it. */

/** A raw image in which no two blocks are equal, for as long as `body` runs. */
export async function withScratchDisk<T>(mebibytes: number, body: (path: string) => Promise<T>): Promise<T> {
  const path = await Deno.makeTempFile({ prefix: "trike-bench-", suffix: ".img" });
  try {
    using file = await Deno.open(path, { write: true });
    const words = new Uint32Array(1 << 18);
    for (let n = 0, x = 1; n < mebibytes; n++) {
      for (let i = 0; i < words.length; i++) words[i] = x = (Math.imul(x, 1664525) + 1013904223) | 0;
      const bytes = new Uint8Array(words.buffer);
      for (let at = 0; at < bytes.length;) at += await file.write(bytes.subarray(at));
    }
    await file.sync();
    return await body(path);
  } finally {
    await Deno.remove(path);
  }
}
