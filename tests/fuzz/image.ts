/** qcow2 images: whatever their bytes say, they are refused in words, or read, written, checked and repaired in bounded space. */
import { ConfigError } from "../../src/base/errors.ts";
import { checkImage } from "../../src/host/disk/qcow2/check.ts";
import { createQcow2 } from "../../src/host/disk/qcow2/create.ts";
import { Qcow2 } from "../../src/host/disk/qcow2/qcow2.ts";
import { createSnapshot, listSnapshots } from "../../src/host/disk/qcow2/snapshots.ts";
import { MemoryStore } from "../storage/memory_store.ts";
import type { Target } from "./target.ts";

const DISK_BYTES = 32 * 1024;

function seed(version: 2 | 3, compressed: boolean): Uint8Array<ArrayBuffer> {
  const store = new MemoryStore();
  createQcow2(store, { sizeBytes: DISK_BYTES, clusterBytes: 512, version });
  const write = (at: number) => {
    const image = new Qcow2(store, true, null);
    image.write(at, new Uint8Array(1536).fill(at));
    if (compressed) image.writeCompressed(0, new Uint8Array(512).fill(3));
    image.close();
  };
  write(4096);
  createSnapshot(store, "one", 0);
  write(20480);
  return store.bytes.slice();
}

/** An error in words is an answer; a RangeError or a TypeError is a mistake of ours. */
function attempt(body: () => void): void {
  try {
    body();
  } catch (error) {
    if (!(error instanceof ConfigError) && !(error instanceof Error && error.name === "Error")) throw error;
  }
}

export const image: Target = {
  name: "image",
  seeds: () => [seed(2, false), seed(3, false), seed(3, true)],
  fuzz(bytes) {
    const store = () => new MemoryStore(bytes);
    attempt(() => void checkImage(store(), true));
    attempt(() => void listSnapshots(store()));
    attempt(() => {
      const mine = store(), disk = new Qcow2(mine, true, null);
      const size = Math.min(disk.sizeBytes, DISK_BYTES) & ~511;
      const sector = new Uint8Array(512);
      for (let at = 0; at < size; at += 2048) {
        attempt(() => disk.read(at, sector));
        attempt(() => disk.write(at, sector));
      }
      attempt(() => disk.discard(0, size));
      attempt(() => disk.close());
      if (mine.sizeBytes > bytes.length + (1 << 20)) throw new RangeError(`the file grew to ${mine.sizeBytes} bytes`);
    });
  },
};
