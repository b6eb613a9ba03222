import { assertThrows } from "@std/assert";
import { ConfigError } from "../base/errors.ts";
import { FileBlock } from "./block.ts";
import { ImageLock } from "./block_lock.ts";

Deno.test("an image has one writer or several readers, and is free again after release", () => {
  const path = Deno.makeTempFileSync();
  try {
    Deno.truncateSync(path, 1024);
    const take = (readonly: boolean) => ImageLock.take({ path, readonly })!;
    const writer = take(false);
    assertThrows(() => take(false), ConfigError, "another machine uses it");
    assertThrows(() => take(true), ConfigError, "nobody else writes");
    FileBlock.open({ path, readonly: false }).close(); // the machine's own threads
    writer.release();
    const readers = [take(true), take(true)];
    assertThrows(() => take(false), ConfigError, "nobody else has open");
    for (const r of readers) r.release();
    take(false).release();
  } finally {
    Deno.removeSync(path);
  }
});
