import { assertEquals, assertMatch, assertThrows } from "@std/assert";
import { ConfigError } from "../base/errors.ts";
import { FileBlock } from "./block.ts";
import { HostEntropy } from "./entropy.ts";

function withImage(sizeBytes: number, body: (path: string) => void): void {
  const path = Deno.makeTempFileSync();
  try {
    Deno.truncateSync(path, sizeBytes);
    body(path);
  } finally {
    Deno.removeSync(path);
  }
}

const shared = (n: number) => new Uint8Array(new SharedArrayBuffer(n));

Deno.test("what is written is read back, through shared memory, and is in the file after a flush", () => {
  withImage(1 << 20, (path) => {
    const disk = FileBlock.open({ path, readonly: false });
    assertEquals([disk.sectors, disk.note], [2048, null]);
    const data = shared(4096);
    for (let i = 0; i < data.length; i++) data[i] = i * 7;
    assertEquals([disk.write(8192, data), disk.flush()], [true, true]);
    const back = shared(4096);
    assertEquals(disk.read(8192, back), true);
    assertEquals(back, data);
    assertEquals(Deno.readFileSync(path).subarray(8192, 12288), data.slice());
    disk.close();
  });
});

Deno.test("a size that is not whole sectors is rounded down, and the note says so", () => {
  withImage(1300, (path) => {
    const disk = FileBlock.open({ path, readonly: true });
    assertEquals(disk.sectors, 2);
    assertMatch(disk.note!, /1300 bytes, not a multiple of 512: its last 276 bytes/);
    disk.close();
  });
});

Deno.test("a file that shrinks gives I/O errors and is not made longer again", () => {
  withImage(8192, (path) => {
    const disk = FileBlock.open({ path, readonly: false });
    Deno.truncateSync(path, 4096);
    const data = shared(4096);
    assertEquals([disk.read(0, data), disk.read(2048, data), disk.read(4096, data)], [true, false, false]);
    assertEquals(disk.write(4096, data), false);
    assertMatch(disk.lastError!, /write at byte 4096: the file has become shorter/);
    assertEquals(Deno.statSync(path).size, 4096);
    disk.close();
  });
});

Deno.test("write zeroes leaves zeros, and with mayUnmap leaves the holes of a sparse file", () => {
  withImage(8 << 20, (path) => {
    const disk = FileBlock.open({ path, readonly: false });
    disk.write(4096, new Uint8Array(4096).fill(1));
    const blocks = Deno.statSync(path).blocks;
    assertEquals(disk.writeZeroes(512, (8 << 20) - 512, true), true);
    const all = new Uint8Array(8 << 20);
    disk.read(0, all);
    assertEquals(all.every((b) => b === 0), true);
    // Only the chunk that held something was written.
    if (blocks !== null) assertEquals(Deno.statSync(path).blocks! <= blocks + 2048, true);
    disk.write(0, new Uint8Array(1024).fill(9));
    assertEquals(disk.writeZeroes(0, 512, false), true);
    disk.read(0, all);
    assertEquals([all[0], all[511], all[512], all[1023]], [0, 0, 9, 9]);
    disk.close();
  });
});

Deno.test("a read-only disk is not written to", () => {
  withImage(1024, (path) => {
    const disk = FileBlock.open({ path, readonly: true });
    assertEquals([disk.write(0, new Uint8Array(512)), disk.flush()], [false, true]);
    disk.close();
  });
});

Deno.test("a character device is no disk", { ignore: Deno.build.os !== "linux" }, () => {
  assertThrows(() => FileBlock.open({ path: "/dev/full", readonly: false }), ConfigError, "has no size");
});

Deno.test("what the user can mend is one sentence that names the flag, the file and what is wrong", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const open = (path: string, readonly = false) => () => FileBlock.open({ path, readonly, flag: "--disk" });
    assertThrows(open(folder), ConfigError, `--disk ${folder}: found a directory`);
    assertThrows(open(folder, true), ConfigError, `--disk ${folder}: found a directory`);
    assertThrows(open(`${folder}/none`), ConfigError, `--disk ${folder}/none: there is no such file`);
    Deno.writeFileSync(`${folder}/tiny`, new Uint8Array(100));
    assertThrows(open(`${folder}/tiny`), ConfigError, "found 100 bytes, expected at least one sector");
    Deno.writeFileSync(`${folder}/ro`, new Uint8Array(512), { mode: 0o444 });
    if (Deno.uid() !== 0) assertThrows(open(`${folder}/ro`), ConfigError, "does not let us write it");
    open(`${folder}/ro`, true)().close();
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("HostEntropy fills shared memory of any length", () => {
  const bytes = shared(200_000);
  new HostEntropy().fill(bytes);
  for (const at of [0, 65_536, 199_000]) assertEquals(new Set(bytes.subarray(at, at + 1000)).size > 100, true);
});
