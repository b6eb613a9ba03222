/**
 * A power cut at any moment. The writes and syncs that an image asks for are written down; then, at random places, the cut: all
 * that was synced is there, and of what came after, any part, down to single sectors, in any order. What is left has to be an
 * image without corruption that holds everything flushed, and that works on.
 */
import { assert, assertEquals } from "@std/assert";
import { checkImage } from "../../src/host/disk/qcow2/check.ts";
import { type CreateOptions, createQcow2 } from "../../src/host/disk/qcow2/create.ts";
import { Qcow2 } from "../../src/host/disk/qcow2/qcow2.ts";
import { applySnapshot, createSnapshot, deleteSnapshot, listSnapshots } from "../../src/host/disk/qcow2/snapshots.ts";
import { MemoryStore, RecordingStore, type Step } from "./memory_store.ts";
import { noise, Random, stretch } from "./model.ts";
import { assertSound, noQemuImg } from "./qemu_img.ts";

const DISK_BYTES = 256 * 1024;
const SECTORS = DISK_BYTES / 512;

/** What each sector may hold after a cut at some step: its number of writes, since the flush that made the last one sure. */
interface Promise_ {
  /** The step from which on this holds. */
  readonly step: number;
  /** By sector: contents that it may have. */
  readonly may: readonly (readonly Uint8Array[])[];
}

/** The disk after a cut: which steps before `cut` are there. */
function afterCut(start: Uint8Array, steps: readonly Step[], cut: number, random: Random): MemoryStore {
  const store = new MemoryStore(start);
  let synced = 0;
  for (let i = 0; i < cut; i++) if (steps[i]!.kind === "sync") synced = i;
  const apply = (step: Step, torn: boolean): void => {
    if (step.kind === "resize") store.resize(Math.max(store.sizeBytes, step.sizeBytes));
    if (step.kind !== "write") return;
    for (let at = 0; at < step.bytes.length;) {
      const n = Math.min(512 - (step.at + at) % 512, step.bytes.length - at);
      if (!torn || random.chance(50)) store.write(step.at + at, step.bytes.subarray(at, at + n));
      at += n;
    }
  };
  for (let i = 0; i < synced; i++) apply(steps[i]!, false);
  const loose = steps.slice(synced, cut).filter((step) => step.kind !== "sync");
  for (const step of shuffled(loose, random)) if (random.chance(60)) apply(step, random.chance(50));
  return store;
}

/** Sectors may come in any order, but two writes of one place do not pass each other. */
function shuffled(steps: Step[], random: Random): Step[] {
  const order = [...steps];
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.below(i + 1);
    const between = order.slice(j, i + 1);
    if (
      between.some((a) => touches(a, order[i]!) && a !== order[i]) ||
      between.some((a) => touches(a, order[j]!) && a !== order[j])
    ) {
      continue;
    }
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}

function touches(a: Step, b: Step): boolean {
  if (a.kind !== "write" || b.kind !== "write") return true;
  return a.at < b.at + b.bytes.length && b.at < a.at + a.bytes.length;
}

class Recorded {
  readonly store: RecordingStore;
  readonly start: Uint8Array;
  /** What a cut at or after a step must leave. */
  readonly promises: Promise_[] = [];
  readonly #may: Uint8Array[][];

  constructor(shape: Omit<CreateOptions, "sizeBytes">, private readonly behind: Uint8Array | null, seed: number) {
    const first = new MemoryStore();
    createQcow2(first, { sizeBytes: DISK_BYTES, ...shape, ...behind ? { backingFile: "behind.raw" } : {} });
    this.start = first.bytes.slice();
    this.store = new RecordingStore(this.start);
    this.#may = Array.from(
      { length: SECTORS },
      (_, s) => [behind ? behind.slice(512 * s, 512 * s + 512) : new Uint8Array(512)],
    );
    this.#promise();
    this.#work(new Random(seed));
  }

  get backing() {
    const { behind } = this;
    if (!behind) return null;
    const store = new MemoryStore();
    createQcow2(store, { sizeBytes: behind.length });
    const image = new Qcow2(store, true, null);
    image.write(0, behind);
    image.flush();
    return image;
  }

  #promise(): void {
    this.promises.push({ step: this.store.steps.length, may: this.#may.map((one) => [...one]) });
  }

  #maybe(offset: number, bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; at += 512) this.#may[(offset + at) / 512]!.push(bytes.slice(at, at + 512));
  }

  #work(random: Random): void {
    const image = new Qcow2(this.store, true, this.backing);
    for (let i = 0; i < 60; i++) {
      const [offset, size] = stretch(random, SECTORS);
      const kind = random.below(10);
      // Before the call: a cut may come while it runs.
      if (kind < 2) this.#maybe(offset, new Uint8Array(size));
      const bytes = noise(random, size);
      if (kind >= 2 && kind < 7) this.#maybe(offset, bytes);
      this.#promise();
      if (kind === 0) image.writeZeroes(offset, size, random.chance(50));
      else if (kind === 1) image.discard(offset, size);
      else if (kind < 7) image.write(offset, bytes);
      else {
        image.flush();
        // Now the disk holds what it reads as, and nothing else.
        const now = new Uint8Array(DISK_BYTES);
        image.read(0, now);
        for (let s = 0; s < SECTORS; s++) this.#may[s] = [now.slice(512 * s, 512 * s + 512)];
        this.#promise();
      }
    }
    image.close();
  }

  /** Cuts the power at a random moment, and looks at what is left. */
  async cut(random: Random, outside: boolean): Promise<void> {
    const cut = random.below(this.store.steps.length + 1);
    const left = afterCut(this.start, this.store.steps, cut, random);
    const promise = this.promises.findLast(({ step }) => step <= cut)!;
    const { corruptions, findings } = checkImage(left, false);
    assertEquals([corruptions, findings], [0, []], `a cut after step ${cut}`);
    if (outside) await soundOutside(left);
    const image = new Qcow2(left, true, this.backing);
    const all = new Uint8Array(DISK_BYTES);
    image.read(0, all);
    for (let s = 0; s < SECTORS; s++) {
      const found = all.subarray(512 * s, 512 * s + 512);
      const fine = promise.may[s]!.some((may) => may.every((byte, i) => byte === found[i]));
      assert(fine, `a cut after step ${cut} of ${this.store.steps.length}: sector ${s} holds what nobody put there`);
    }
    for (let i = 0; i < 5; i++) {
      image.write(...((at) => [at[0], noise(random, at[1])] as const)(stretch(random, SECTORS)));
    }
    image.close();
    assertEquals(checkImage(left, true).corruptions, 0, `working on after a cut after step ${cut}`);
    assertEquals(checkImage(left, false).leaks, 0, "a repair leaves no leaks");
  }
}

async function soundOutside(store: MemoryStore): Promise<void> {
  const path = await Deno.makeTempFile({ suffix: ".qcow2" });
  try {
    await Deno.writeFile(path, store.bytes);
    await assertSound(path, true);
  } finally {
    await Deno.remove(path);
  }
}

const SHAPES: Record<string, Omit<CreateOptions, "sizeBytes">> = {
  "512-byte clusters": { clusterBytes: 512 },
  "4 KiB clusters": { clusterBytes: 4096, refcountBits: 8 },
  "64 KiB clusters": {},
  "subclusters of 512 bytes": { clusterBytes: 16384, extendedL2: true },
};

for (const [name, shape] of Object.entries(SHAPES)) {
  for (const over of [false, true]) {
    Deno.test(`a power cut leaves a sound image with all that was flushed: ${name}${over ? " over another" : ""}`, async () => {
      const random = new Random(21);
      for (let seed = 1; seed <= 4; seed++) {
        const recorded = new Recorded(shape, over ? noise(random, DISK_BYTES) : null, seed);
        for (let n = 0; n < 40; n++) await recorded.cut(random, n === 0 && !over && !noQemuImg);
      }
    });
  }
}

Deno.test("a power cut while a snapshot is taken, applied or deleted leaves the disk one of the two", () => {
  const random = new Random(31);
  const base = new MemoryStore();
  createQcow2(base, { sizeBytes: DISK_BYTES, clusterBytes: 1024 });
  const before = noise(random, DISK_BYTES), after = noise(random, DISK_BYTES);
  const write = (store: MemoryStore, bytes: Uint8Array) => {
    const image = new Qcow2(store, true, null);
    image.write(0, bytes);
    image.close();
  };
  write(base, before);
  createSnapshot(base, "one", 0);
  write(base, after);
  const works: [string, (store: MemoryStore) => void, Uint8Array[]][] = [
    ["create", (store) => createSnapshot(store, "two", 0), [after]],
    ["apply", (store) => applySnapshot(store, "one"), [before, after]],
    ["delete", (store) => deleteSnapshot(store, "one"), [after]],
  ];
  for (const [name, work, may] of works) {
    const start = base.bytes.slice();
    const store = new RecordingStore(start);
    work(store);
    for (let n = 0; n < 40; n++) {
      const left = afterCut(start, store.steps, random.below(store.steps.length + 1), random);
      // Opening it for writing is what mends it.
      const image = new Qcow2(left, true, null), all = new Uint8Array(DISK_BYTES);
      image.read(0, all);
      assert(may.some((bytes) => bytes.every((byte, i) => byte === all[i])), `${name}: the disk is neither`);
      image.write(0, new Uint8Array(512));
      image.close();
      assertEquals(checkImage(left, false).corruptions, 0, name);
      if (name === "delete") continue;
      assert(listSnapshots(left).some((s) => s.name === "one"), `${name}: the other snapshot is lost`);
      applySnapshot(left, "one");
      const back = new Qcow2(left, false, null);
      back.read(0, all);
      assertEquals(all, before, `${name}: the other snapshot is damaged`);
    }
  }
});
