import { assertEquals } from "@std/assert";
import { FileBlock } from "../block.ts";
import { lookForFileCalls } from "./open.ts";

const MIB = 1 << 20;

Deno.test("a discard makes a hole, where FFI is allowed and the file system can", async () => {
  await lookForFileCalls();
  if (Deno.build.os !== "linux" || Deno.permissions.querySync({ name: "ffi" }).state !== "granted") {
    console.log("skipped: holes in a raw image: they need Linux and --allow-ffi");
    return;
  }
  const path = Deno.makeTempFileSync();
  try {
    Deno.truncateSync(path, 8 * MIB);
    const disk = FileBlock.open({ path, readonly: false });
    assertEquals([disk.reclaims, disk.write(0, new Uint8Array(8 * MIB).fill(5)), disk.flush()], [true, true, true]);
    const before = Deno.statSync(path).blocks!;
    assertEquals([disk.discard(MIB, 4 * MIB), disk.writeZeroes(6 * MIB, MIB, true), disk.flush()], [true, true, true]);
    const freed = 512 * (before - Deno.statSync(path).blocks!);
    if (freed === 0) console.log("skipped: the file system here has no holes to give");
    else assertEquals(freed, 5 * MIB);
    const all = new Uint8Array(8 * MIB);
    disk.read(0, all);
    for (let n = 0; n < 8; n++) {
      const hole = (n >= 1 && n < 5) || n === 6;
      assertEquals(all.subarray(n * MIB, (n + 1) * MIB).every((byte) => byte === (hole ? 0 : 5)), true, `MiB ${n}`);
    }
    assertEquals(Deno.statSync(path).size, 8 * MIB);
    disk.close();
    const kept = FileBlock.open({ path, readonly: false, discard: false });
    assertEquals(kept.reclaims, false);
    kept.close();
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("an overlay holds what is written, and the file behind it stays as it was", () => {
  const path = Deno.makeTempFileSync();
  try {
    const content = new Uint8Array(MIB).map((_, i) => i >> 12);
    Deno.writeFileSync(path, content);
    const disk = FileBlock.open({ path, readonly: false, overlay: true });
    assertEquals([disk.sizeBytes, disk.write(4096, new Uint8Array(512).fill(0xee)), disk.flush()], [MIB, true, true]);
    const back = new Uint8Array(8192);
    assertEquals(disk.read(0, back), true);
    content.fill(0xee, 4096, 4608);
    assertEquals(back, content.subarray(0, 8192));
    disk.close();
    content.fill(1, 4096, 4608);
    assertEquals(Deno.readFileSync(path), content);
  } finally {
    Deno.removeSync(path);
  }
});

/** Bytes of a file that the host has in memory, by its own account; null if it has nobody to tell. */
function resident(path: string): number | null {
  try {
    const { stdout, success } = new Deno.Command("fincore", { args: ["--bytes", "--noheadings", "-o", "RES", path] })
      .outputSync();
    return success ? Number(new TextDecoder().decode(stdout)) : null;
  } catch {
    return null;
  }
}

Deno.test("what is announced comes into the host's memory, and nothing else does", async () => {
  await lookForFileCalls();
  const path = Deno.makeTempFileSync({ dir: "." });
  try {
    Deno.writeFileSync(path, new Uint8Array(8 * MIB).fill(5));
    // GNU dd asks the host to let go of a file that is on the disk.
    for (const how of ["conv=notrunc,fsync", "iflag=nocache"]) {
      const file = how.startsWith("conv") ? "of" : "if";
      new Deno.Command("dd", { args: [`${file}=${path}`, how, "count=0"], stderr: "null" }).outputSync();
    }
    const disk = FileBlock.open({ path, readonly: true });
    // Opening looks at the file's beginning.
    const before = Deno.build.os === "linux" ? resident(path) : null;
    if (before === null || before >= 4 * MIB) {
      console.log("skipped: announced reads: they need Linux, fincore, and a file system that is not in memory");
      disk.close();
      return;
    }
    disk.announce(6 * MIB, 64 * 1024);
    const more = () => resident(path)! - before;
    for (let n = 0; n < 500 && more() < 64 * 1024; n++) await new Promise((done) => setTimeout(done, 20));
    assertEquals([more() >= 64 * 1024, more() < 2 * MIB], [true, true], `${before} bytes before, ${more()} more`);
    disk.announce(9 * MIB, 4096);
    disk.announce(-1, 0);
    disk.close();
  } finally {
    Deno.removeSync(path);
  }
});

Deno.test("a disk waits once a read was slow, until many were not", async () => {
  await lookForFileCalls();
  const path = Deno.makeTempFileSync();
  try {
    Deno.writeFileSync(path, new Uint8Array(MIB));
    const disk = FileBlock.open({ path, readonly: true });
    const now = performance.now;
    let took = 0, at = 0;
    performance.now = () => at += took;
    try {
      const read = (ms: number) => {
        took = ms;
        assertEquals(disk.read(0, new Uint8Array(4096)), true);
        return disk.waits;
      };
      assertEquals(read(0.01), false);
      const able = Deno.build.os === "linux" && Deno.permissions.querySync({ name: "ffi" }).state === "granted";
      assertEquals(read(5), able);
      for (let n = 0; n < 63; n++) assertEquals(read(0.01), able);
      assertEquals(read(0.01), false);
    } finally {
      performance.now = now;
      disk.close();
    }
  } finally {
    Deno.removeSync(path);
  }
});
