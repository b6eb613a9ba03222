/** Images that somebody made to do harm: they are refused in words, or do none; never a crash, a hang, or a file that grows. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { ConfigError } from "../../src/base/errors.ts";
import { ImageError } from "../../src/host/disk/image.ts";
import { openImage } from "../../src/host/disk/open.ts";
import { checkImage } from "../../src/host/disk/qcow2/check.ts";
import { createQcow2 } from "../../src/host/disk/qcow2/create.ts";
import { HEADER, put64 } from "../../src/host/disk/qcow2/format.ts";
import { Qcow2 } from "../../src/host/disk/qcow2/qcow2.ts";
import { createSnapshot, listSnapshots } from "../../src/host/disk/qcow2/snapshots.ts";
import { FileStore } from "../../src/host/disk/store.ts";
import { MemoryStore } from "./memory_store.ts";
import { noise, Random, stretch } from "./model.ts";

const DISK_BYTES = 128 * 1024;

function sample(clusterBytes: number): Uint8Array<ArrayBuffer> {
  const store = new MemoryStore(), random = new Random(clusterBytes);
  createQcow2(store, { sizeBytes: DISK_BYTES, clusterBytes, extendedL2: clusterBytes >= 16384 });
  const write = () => {
    const image = new Qcow2(store, true, null);
    for (let i = 0; i < 10; i++) {
      const [offset, size] = stretch(random, DISK_BYTES / 512);
      image.write(offset, noise(random, size));
    }
    image.writeCompressed(0, new Uint8Array(clusterBytes).fill(3));
    image.close();
  };
  write();
  createSnapshot(store, "one", 0);
  write();
  return store.bytes.slice();
}

/** Everything that can be done with an image; throws only Errors that say what is wrong. */
function useAll(bytes: Uint8Array, random: Random): void {
  const attempt = (body: () => void): void => {
    try {
      body();
    } catch (error) {
      // RangeError, TypeError and their like are mistakes of ours.
      assert(
        error instanceof Error && (error.name === "Error" || error instanceof ConfigError),
        `${error}\n${(error as Error).stack}`,
      );
    }
  };
  const store = () => new MemoryStore(bytes);
  attempt(() => void checkImage(store(), false));
  attempt(() => void checkImage(store(), true));
  attempt(() => void listSnapshots(store()));
  attempt(() => createSnapshot(store(), "another", 0));
  attempt(() => {
    const image = new Qcow2(store(), false, null);
    const size = Math.min(image.sizeBytes, DISK_BYTES);
    for (let at = 0; at + 512 <= size; at += 4096) attempt(() => image.read(at, new Uint8Array(512)));
    for (let at = 0, n = 0; at < size && n < 100; n++) at += image.extentAt(at, size - at).sizeBytes;
  });
  attempt(() => {
    const mine = store(), image = new Qcow2(mine, true, null);
    const sectors = Math.floor(Math.min(image.sizeBytes, DISK_BYTES) / 512);
    for (let i = 0; i < 6 && sectors > 0; i++) {
      const [offset, size] = stretch(random, sectors);
      attempt(() => image.write(offset, noise(random, size)));
      attempt(() => image.discard(offset, size));
      attempt(() => image.writeZeroes(offset, size, true));
    }
    attempt(() => image.close());
    assert(mine.sizeBytes < bytes.length + (16 << 20), "the file grew without bound");
  });
}

Deno.test("images with damaged bytes", () => {
  for (const clusterBytes of [512, 4096, 16384]) {
    const good = sample(clusterBytes);
    assertEquals(checkImage(new MemoryStore(good), false).corruptions, 0);
    for (let seed = 1; seed <= 150; seed++) {
      const random = new Random(seed), bytes = good.slice();
      const view = new DataView(bytes.buffer);
      for (let n = random.below(4); n >= 0; n--) {
        const header = random.chance(50);
        const at = header ? random.below(112) : random.below(bytes.length - 8) & ~7;
        switch (random.below(5)) {
          case 0:
            bytes[at] = random.next();
            break;
          case 1:
            bytes[at] = 0xff;
            break;
          case 2: // something of the image's own again: loops and overlaps
            put64(view, at & ~7, clusterBytes * random.below(bytes.length / clusterBytes));
            break;
          case 3:
            view.setUint32(at & ~7, (0x80000000 | random.next()) >>> 0);
            break;
          default:
            bytes.copyWithin(at & ~511, random.below(bytes.length) & ~511, (random.below(bytes.length) & ~511) + 512);
        }
      }
      useAll(random.chance(10) ? bytes.subarray(0, random.below(bytes.length)) : bytes, random);
    }
  }
});

function withHeader(change: (view: DataView) => void): MemoryStore {
  const store = new MemoryStore(sample(4096));
  change(new DataView(store.bytes.buffer));
  return store;
}

Deno.test("what is refused is named", () => {
  const refused = (change: (view: DataView) => void, words: string) =>
    assertThrows(() => new Qcow2(withHeader(change), true, null), ImageError, words);
  refused((v) => v.setUint32(0, 0), "no qcow2 image");
  refused((v) => v.setUint32(HEADER.VERSION, 4), "found version 4 in the qcow2 header, expected 2 or 3");
  refused((v) => v.setUint32(HEADER.CLUSTER_BITS, 31), "found cluster_bits 31");
  refused((v) => v.setUint32(HEADER.CRYPT_METHOD, 2), "the image is encrypted");
  refused((v) => v.setUint32(HEADER.INCOMPATIBLE_FEATURES + 4, 4), "external data file");
  refused((v) => v.setUint32(HEADER.INCOMPATIBLE_FEATURES + 4, 16), "14 to 21 with extended L2 entries");
  refused((v) => v.setUint32(HEADER.INCOMPATIBLE_FEATURES, 1), "incompatible features");
  refused((v) => v.setUint32(HEADER.INCOMPATIBLE_FEATURES + 4, 2), "marked corrupt");
  refused((v) => put64(v, HEADER.SIZE, 2 ** 51), "found l1_size");
  refused((v) => v.setUint32(HEADER.SIZE, 0xffff_ffff), "found size Infinity");
  refused((v) => v.setUint32(HEADER.L1_SIZE, 0xffff_ffff), "found l1_size 4294967295");
  refused((v) => put64(v, HEADER.L1_TABLE_OFFSET, 4096 + 512), "l1_table_offset");
  const onTable = (v: DataView) => v.setBigUint64(HEADER.L1_TABLE_OFFSET, v.getBigUint64(HEADER.REFCOUNT_TABLE_OFFSET));
  refused(onTable, "where something else is");
  refused((v) => put64(v, HEADER.REFCOUNT_TABLE_OFFSET, 2 ** 40), "refcount_table_offset");
  refused((v) => v.setUint32(HEADER.NB_SNAPSHOTS, 0xffff_ffff), "nb_snapshots");
});

Deno.test("data that an L2 entry puts onto the image's own tables is never written", () => {
  const store = new MemoryStore();
  createQcow2(store, { sizeBytes: DISK_BYTES, clusterBytes: 4096 });
  const image = new Qcow2(store, true, null);
  image.write(0, new Uint8Array(4096).fill(1));
  image.close();
  const view = new DataView(store.bytes.buffer);
  const l1At = Number(view.getBigUint64(HEADER.L1_TABLE_OFFSET));
  const l2At = Number(view.getBigUint64(l1At) & 0x00ff_ffff_ffff_fe00n);
  for (const target of [l1At, l2At, Number(view.getBigUint64(HEADER.REFCOUNT_TABLE_OFFSET))]) {
    const bad = new MemoryStore(store.bytes);
    put64(new DataView(bad.bytes.buffer), l2At, target);
    bad.bytes[l2At]! |= 0x80; // COPIED
    const evil = new Qcow2(bad, true, null);
    assertThrows(() => evil.write(0, new Uint8Array(4096)), ImageError, "its own structures");
    assert(checkImage(bad, false).corruptions > 0);
  }
});

Deno.test("a guest cannot make a raw disk into an image of another file", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const secret = `${folder}/secret`, disk = `${folder}/disk.img`;
    Deno.writeFileSync(secret, new Uint8Array(4096).fill(0x53));
    const header = FileStore.create(disk);
    createQcow2(header, { sizeBytes: DISK_BYTES, backingFile: secret, backingFormat: "raw" });
    header.close();
    // The file begins as a qcow2 image now; its name does not say so, and nobody asked for it.
    const image = openImage({ path: disk, writable: true }), start = new Uint8Array(512);
    assertEquals(image.format, "raw");
    image.read(0, start);
    assertEquals([...start.subarray(0, 3)], [0x51, 0x46, 0x49]);
    image.close();
    const asked = openImage({ path: disk, writable: false, format: "qcow2" });
    asked.read(0, start);
    assertEquals(start[0], 0x53);
    asked.close();
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test("chains of backing files end: circles, long ones, and files that are not there", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const make = (name: string, backingFile: string | null) => {
      const store = FileStore.create(`${folder}/${name}`);
      createQcow2(store, { sizeBytes: DISK_BYTES, backingFile, backingFormat: "qcow2" });
      store.close();
      return `${folder}/${name}`;
    };
    const a = make("a.qcow2", "b.qcow2");
    make("b.qcow2", "c.qcow2");
    make("c.qcow2", "a.qcow2");
    assertThrows(() => openImage({ path: a, writable: true }), ConfigError, "comes back to");
    const lonely = make("lonely.qcow2", "none.qcow2");
    assertThrows(() => openImage({ path: lonely, writable: false }), ConfigError, "its backing file");
    assertThrows(() => openImage({ path: lonely, writable: false }), ConfigError, "there is no such file");
    for (let n = 0; n < 40; n++) make(`long${n}.qcow2`, n === 39 ? null : `long${n + 1}.qcow2`);
    assertThrows(() => openImage({ path: `${folder}/long0.qcow2`, writable: false }), ConfigError, "more than 32");
    const url = make("url.qcow2", "nbd:localhost:10809");
    assertThrows(() => openImage({ path: url, writable: false }), ConfigError, "expected the name of a file");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
