/** qcow2 images against a model of a disk, against our checker and against QEMU's tool, both ways. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import type { DiskImage } from "../../src/host/disk/image.ts";
import { openImage } from "../../src/host/disk/open.ts";
import { checkImage } from "../../src/host/disk/qcow2/check.ts";
import { type CreateOptions, createQcow2 } from "../../src/host/disk/qcow2/create.ts";
import { Qcow2 } from "../../src/host/disk/qcow2/qcow2.ts";
import { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from "../../src/host/disk/qcow2/snapshots.ts";
import { FileStore } from "../../src/host/disk/store.ts";
import { which } from "../guest/which.ts";
import { MemoryStore } from "./memory_store.ts";
import { Model, noise, operate, Random } from "./model.ts";
import { assertSound, noQemuImg, qemu } from "./qemu_img.ts";

const MIB = 1 << 20;

const SHAPES: Record<string, Omit<CreateOptions, "sizeBytes">> = {
  "64 KiB": {},
  "512 bytes": { clusterBytes: 512 },
  "4 KiB, 1-bit refcounts": { clusterBytes: 4096, refcountBits: 1 },
  "1 KiB, 4-bit refcounts": { clusterBytes: 1024, refcountBits: 4 },
  "2 KiB, 64-bit refcounts": { clusterBytes: 2048, refcountBits: 64 },
  "version 2": { version: 2, clusterBytes: 4096 },
  "2 MiB": { clusterBytes: 2 * MIB, refcountBits: 8 },
  "extended L2, 16 KiB": { extendedL2: true, clusterBytes: 16384 },
  "extended L2, 128 KiB, zstd": { extendedL2: true, clusterBytes: 131072, compression: "zstd" },
  "zstd, lazy refcounts": { compression: "zstd", lazyRefcounts: true, clusterBytes: 8192, refcountBits: 32 },
};

function assertClean(store: MemoryStore): void {
  const { leaks, corruptions, findings } = checkImage(store, false);
  assertEquals([leaks, corruptions, findings], [0, 0, []]);
}

for (const [name, shape] of Object.entries(SHAPES)) {
  Deno.test(`${name}: what is written is read, now and when opened again, and no refcount is wrong`, () => {
    for (const seed of [1, 2, 3]) {
      const random = new Random(seed), model = new Model(3 * MIB);
      const store = new MemoryStore();
      createQcow2(store, { sizeBytes: model.bytes.length, ...shape });
      for (let round = 0; round < 3; round++) {
        const image = new Qcow2(store, true, null);
        for (let i = 0; i < 40; i++) {
          operate(image, model, random);
          if (i % 20 === 0) model.compare(image, `seed ${seed}, round ${round}`);
        }
        image.close();
        assertClean(store);
        model.compare(new Qcow2(store, false, null), `seed ${seed}, round ${round}, opened again`);
      }
    }
  });

  Deno.test(`${name}: snapshots keep what was there, whatever happens after`, () => {
    if (shape.refcountBits === 1) return; // a cluster cannot be counted twice
    const random = new Random(4), store = new MemoryStore();
    const model = new Model(2 * MIB);
    createQcow2(store, { sizeBytes: model.bytes.length, ...shape });
    const kept = new Map<string, Uint8Array>();
    for (let n = 0; n < 5; n++) {
      const image = new Qcow2(store, true, null);
      for (let i = 0; i < 15; i++) operate(image, model, random);
      model.compare(image, `before snapshot ${n}`);
      image.close();
      createSnapshot(store, `s${n}`, 1_700_000_000_123);
      kept.set(`s${n}`, model.bytes.slice());
      assertClean(store);
    }
    deleteSnapshot(store, "s2");
    assertClean(store);
    assertEquals(listSnapshots(store).map((s) => [s.id, s.name]), [["1", "s0"], ["2", "s1"], ["4", "s3"], ["5", "s4"]]);
    for (const back of ["s1", "s4", "s0", "s3"]) {
      applySnapshot(store, back);
      assertClean(store);
      model.set(0, kept.get(back)!);
      const image = new Qcow2(store, true, null);
      model.compare(image, back);
      for (let i = 0; i < 10; i++) operate(image, model, random);
      image.close();
      assertClean(store);
    }
  });
}

Deno.test("an image over another shows what is behind it, and hides it where it says so", () => {
  for (const seed of [1, 2, 3, 4, 5, 6]) {
    const random = new Random(seed);
    const behind = new MemoryStore();
    createQcow2(behind, { sizeBytes: 2 * MIB, clusterBytes: 4096 });
    const old = noise(random, 2 * MIB);
    const base = new Qcow2(behind, true, null);
    base.write(0, old);
    base.close();
    // Larger than what is behind it.
    const model = new Model(3 * MIB);
    model.set(0, old);
    const store = new MemoryStore();
    createQcow2(store, {
      sizeBytes: 3 * MIB,
      clusterBytes: 16384,
      version: seed === 4 ? 2 : 3,
      extendedL2: seed > 4,
      backingFile: "base.qcow2",
    });
    const image = new Qcow2(store, true, new Qcow2(behind, false, null));
    model.compare(image, "new");
    for (let i = 0; i < 60; i++) operate(image, model, random);
    model.compare(image, `seed ${seed}`);
    image.resize(MIB + 512);
    image.resize(3 * MIB);
    const shorter = new Model(3 * MIB);
    shorter.set(0, model.bytes.subarray(0, MIB + 512));
    shorter.compare(image, "what was cut off does not come back");
    image.close();
    assertClean(store);
  }
});

Deno.test("an image can grow until its L1 table moves", () => {
  const store = new MemoryStore();
  createQcow2(store, { sizeBytes: 512, clusterBytes: 512 });
  const image = new Qcow2(store, true, null);
  image.write(0, new Uint8Array(512).fill(7));
  image.resize(64 * MIB);
  image.write(64 * MIB - 512, new Uint8Array(512).fill(8));
  image.close();
  assertClean(store);
  const again = new Qcow2(store, false, null), bytes = new Uint8Array(1024);
  again.read(64 * MIB - 1024, bytes);
  assertEquals([bytes[0], bytes[511], bytes[512], bytes[1023]], [0, 0, 8, 8]);
  again.read(0, bytes);
  assertEquals([bytes[0], bytes[511], bytes[512]], [7, 7, 0]);
});

Deno.test("compressed clusters are read, and written over", () => {
  for (const compression of ["zlib", "zstd"] as const) {
    const store = new MemoryStore(), random = new Random(5), model = new Model(2 * MIB);
    createQcow2(store, { sizeBytes: 2 * MIB, clusterBytes: 16384, compression });
    const image = new Qcow2(store, true, null);
    for (let at = 0; at < 2 * MIB; at += 16384) {
      const text = new TextEncoder().encode(`line ${at} ${random.next() % 100}\n`.repeat(1200)).slice(0, 16384);
      assertEquals(image.writeCompressed(at, text), true);
      model.set(at, text);
    }
    assertEquals(image.writeCompressed(0, noise(random, 16384)), false, "noise does not become smaller");
    model.compare(image, compression);
    image.flush();
    assertEquals(store.sizeBytes < MIB, true);
    assertClean(store);
    for (let i = 0; i < 30; i++) operate(image, model, random);
    model.compare(image, compression);
    image.close();
    assertClean(store);
  }
});

async function withFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "trike-qcow2-" });
  try {
    await body(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** The whole disk, as a raw file. */
function dump(image: DiskImage, path: string): void {
  const bytes = new Uint8Array(image.sizeBytes);
  image.read(0, bytes);
  Deno.writeFileSync(path, bytes);
}

Deno.test(
  { name: "what we write, qemu-img finds sound and equal", ignore: noQemuImg },
  () =>
    withFolder(async (folder) => {
      for (const [name, shape] of Object.entries(SHAPES)) {
        const path = `${folder}/ours.qcow2`, raw = `${folder}/ours.raw`;
        const random = new Random(7), model = new Model(3 * MIB);
        const store = FileStore.create(path);
        createQcow2(store, { sizeBytes: model.bytes.length, ...shape });
        const image = new Qcow2(store, true, null);
        for (let i = 0; i < 60; i++) operate(image, model, random);
        if (name !== "version 2") image.writeCompressed(0, new Uint8Array(image.clusterBytes).fill(9));
        dump(image, raw);
        image.close();
        await assertSound(path);
        assertEquals((await qemu("compare", "-f", "qcow2", "-F", "raw", path, raw)).includes("identical"), true, name);
      }
    }),
);

Deno.test(
  { name: "what qemu-img writes, we read: compressed, over another image, with snapshots", ignore: noQemuImg },
  () =>
    withFolder(async (folder) => {
      const random = new Random(11);
      const disk = new Uint8Array(4 * MIB);
      for (let at = 0; at < disk.length; at += 8192) {
        if (random.chance(60)) {
          disk.set(random.chance(50) ? noise(random, 4096) : new Uint8Array(4096).fill(at >> 12), at);
        }
      }
      await Deno.writeFile(`${folder}/disk.raw`, disk);
      const same = (path: string, what: string) => {
        const image = openImage({ path, writable: false }), all = new Uint8Array(image.sizeBytes);
        image.read(0, all);
        image.close();
        assertEquals(
          all.findIndex((byte, i) => byte !== disk[i]),
          -1,
          what,
        );
      };
      for (
        const options of [
          "cluster_size=512",
          "cluster_size=2M",
          "refcount_bits=1",
          "compat=0.10",
          "compression_type=zstd",
          "lazy_refcounts=on,refcount_bits=64",
          "extended_l2=on,cluster_size=16k",
          "extended_l2=on,cluster_size=128k",
        ]
      ) {
        for (const compress of [[], ["-c"]]) {
          const path = `${folder}/theirs.qcow2`;
          await qemu("convert", "-f", "raw", "-O", "qcow2", ...compress, "-o", options, `${folder}/disk.raw`, path);
          same(path, `${options} ${compress}`);
          const store = FileStore.open(path, false);
          const { leaks, corruptions, findings } = checkImage(store, false);
          store.close();
          assertEquals([leaks, corruptions, findings], [0, 0, []], options);
        }
      }
      // Over a raw and over a compressed image; then snapshots on both sides.
      await qemu("convert", "-f", "raw", "-O", "qcow2", "-c", `${folder}/disk.raw`, `${folder}/base.qcow2`);
      for (const [base, format] of [["disk.raw", "raw"], ["base.qcow2", "qcow2"]]) {
        const path = `${folder}/over.qcow2`;
        await qemu("create", "-q", "-f", "qcow2", "-b", base!, "-F", format!, path);
        same(path, `over ${base}`);
        await qemu("snapshot", "-c", "theirs", path);
        const image = openImage({ path, writable: true }), model = new Model(disk.length);
        model.set(0, disk);
        for (let i = 0; i < 40; i++) operate(image, model, random);
        model.compare(image, `over ${base}`);
        image.close();
        await assertSound(path);
        const store = FileStore.open(path, true);
        createSnapshot(store, "ours", Date.now());
        await assertSound(path);
        assertEquals(/theirs[^]*ours/.test(await qemu("snapshot", "-l", path)), true);
        await qemu("snapshot", "-a", "theirs", path);
        store.close();
        same(path, "qemu-img went back");
        await qemu("snapshot", "-d", "theirs", path);
        const later = FileStore.open(path, true);
        assertEquals(listSnapshots(later).map((s) => s.name), ["ours"]);
        applySnapshot(later, "ours");
        later.close();
        await assertSound(path);
        const back = openImage({ path, writable: false });
        model.compare(back, "we went back");
        back.close();
      }
    }),
);

/** Of `qemu-img map`: what the image itself has of the disk, whatever is behind it. */
async function mapped(path: string): Promise<{ kind: string; start: number; length: number }[]> {
  const rows = JSON.parse(await qemu("map", "--output=json", "-f", "qcow2", path));
  return rows.filter((row: { depth: number }) => row.depth === 0).map(
    ({ start, length, data }: { start: number; length: number; data: boolean }) => ({
      kind: data ? "data" : "zero",
      start,
      length,
    }),
  );
}

Deno.test(
  {
    name: "subclusters: 4 KiB written takes 4 KiB of a cluster of 128 KiB, and zeros as little, as qemu-img sees it",
    ignore: noQemuImg,
  },
  () =>
    withFolder(async (folder) => {
      const base = noise(new Random(3), MIB), path = `${folder}/over.qcow2`, backing = `${folder}/base.raw`;
      await Deno.writeFile(backing, base);
      const store = FileStore.create(path);
      const over = { backingFile: "base.raw", backingFormat: "raw" };
      createQcow2(store, { sizeBytes: MIB, clusterBytes: 131072, extendedL2: true, ...over });
      store.close();
      const image = openImage({ path, writable: true });
      image.write(12288, new Uint8Array(4096).fill(1));
      image.write(32768 + 512, new Uint8Array(512).fill(2)); // its neighbours come with it
      image.writeZeroes(131072 + 8192, 4096, true);
      image.write(262144, new Uint8Array(131072).fill(3));
      image.writeZeroes(262144 + 4096, 8192, true);
      image.flush();
      assertEquals(await mapped(path), [
        { kind: "data", start: 12288, length: 4096 },
        { kind: "data", start: 32768, length: 4096 },
        { kind: "zero", start: 131072 + 8192, length: 4096 },
        { kind: "data", start: 262144, length: 4096 },
        { kind: "zero", start: 262144 + 4096, length: 8192 },
        { kind: "data", start: 262144 + 12288, length: 131072 - 12288 },
      ]);
      const clusters = () => Math.ceil(Deno.statSync(path).size / 131072);
      const before = clusters();
      image.write(4096, new Uint8Array(4096).fill(4)); // into the cluster that is there
      image.flush();
      assertEquals(clusters(), before);
      dump(image, `${folder}/disk.raw`);
      image.close();
      await assertSound(path);
      assertStringIncludes(await qemu("compare", "-f", "qcow2", "-F", "raw", path, `${folder}/disk.raw`), "identical");
    }),
);

const qemuIo = which("qemu-io");
Deno.test(
  {
    name: "subclusters that QEMU wrote, emptied and compressed are read, and what we write next to them it reads",
    ignore: qemuIo === null || noQemuImg,
  },
  () =>
    withFolder(async (folder) => {
      await Deno.writeFile(`${folder}/base.raw`, noise(new Random(9), 2 * MIB));
      const path = `${folder}/over.qcow2`, random = new Random(13);
      const options = ["-o", "extended_l2=on,cluster_size=32k"];
      await qemu("create", "-q", "-f", "qcow2", ...options, "-b", "base.raw", "-F", "raw", path);
      const io = async (commands: readonly string[]) => {
        const args = ["-f", "qcow2", ...commands.flatMap((one) => ["-c", one]), path];
        const { code, stderr } = await new Deno.Command(qemuIo!, { args, stdout: "null" }).output();
        assertEquals(code, 0, new TextDecoder().decode(stderr));
      };
      await io(["write -c -P 7 65536 32768", "write -c -P 8 163840 32768"]);
      for (let round = 0; round < 6; round++) {
        const commands: string[] = [];
        for (let n = 0; n < 30; n++) {
          const at = 512 * random.below(4000), size = 512 * (1 + random.below(n % 3 === 0 ? 90 : 5));
          commands.push(
            random.pick([
              `write -P ${round * 30 + n} ${at} ${size}`,
              `write -z ${at} ${size}`,
              `write -z -u ${at} ${size}`,
            ]),
          );
        }
        await io(commands);
        const image = openImage({ path, writable: true }), raw = `${folder}/disk.raw`;
        dump(image, raw);
        assertStringIncludes(
          await qemu("compare", "-f", "qcow2", "-F", "raw", path, raw),
          "identical",
          `round ${round}`,
        );
        const model = new Model(2 * MIB);
        model.set(0, await Deno.readFile(raw));
        for (let n = 0; n < 40; n++) operate(image, model, random);
        model.compare(image, `round ${round}`);
        dump(image, raw);
        image.close();
        await assertSound(path);
        assertStringIncludes(
          await qemu("compare", "-f", "qcow2", "-F", "raw", path, raw),
          "identical",
          `round ${round}`,
        );
      }
    }),
);

Deno.test("what is announced is where the data lies, or the table that says so", () => {
  const clusterBytes = 4096, store = new MemoryStore(), behind = new MemoryStore();
  createQcow2(store, { sizeBytes: 2 * MIB, clusterBytes });
  createQcow2(behind, { sizeBytes: MIB, clusterBytes });
  const backing = new Qcow2(behind, true, null);
  for (const cluster of [7, 255]) backing.write(cluster * clusterBytes, new Uint8Array(clusterBytes).fill(cluster));
  const image = new Qcow2(store, true, backing);
  for (const cluster of [5, 4, 9]) image.write(cluster * clusterBytes, new Uint8Array(clusterBytes).fill(cluster));
  image.flush();
  const at = (cluster: number) => image.extentAt(cluster * clusterBytes, clusterBytes).at!;
  for (const cluster of [4, 5, 9]) assertEquals(store.bytes[at(cluster)], cluster);
  image.announce(4 * clusterBytes + 512, 512);
  assertEquals(store.announced.splice(0), [[at(4) + 512, 512]]);
  image.announce(4 * clusterBytes, 6 * clusterBytes);
  assertEquals(store.announced.splice(0), [[at(4), 4096], [at(5), 4096], [at(9), 4096]]);
  assertEquals(behind.announced.splice(0), [[backing.extentAt(7 * clusterBytes, clusterBytes).at, clusterBytes]]);
  image.announce(MIB - 512, 1024);
  assertEquals(
    behind.announced.splice(0),
    [[backing.extentAt(MIB - 512, 512).at, 512]],
    "nothing behind the end of what is behind",
  );

  const again = new Qcow2(store, false, null);
  again.announce(4 * clusterBytes, clusterBytes);
  const [[table, size]] = store.announced.splice(0) as [[number, number]];
  const view = new DataView(store.bytes.buffer, store.bytes.byteOffset + table, size);
  assertEquals([size, Number(view.getBigUint64(8 * 4) & 0x00ff_ffff_ffff_fe00n)], [clusterBytes, at(4)]);
});
