import { assertEquals } from "@std/assert";
import { BLOCK_FEATURE, BLOCK_REQUEST } from "../../devices/virtio/block.ts";
import { PciDriver } from "../../devices/virtio/pci_driver.ts";
import { DEVICE_STATUS, FEATURE } from "../../devices/virtio/registers.ts";
import { diskBoard, QUEUES, SECTORS, type SharedMemory, WORD } from "./disk_board.ts";

const BATCH = 40;
const TIMEOUT_MS = 10_000;

Deno.test("a disk served by another thread answers every request once, with EVENT_IDX and through resets", async () => {
  const memory: SharedMemory = {
    arena: new SharedArrayBuffer(1 << 22),
    ram: new SharedArrayBuffer(1 << 20),
    words: new Int32Array(new SharedArrayBuffer(4 * WORD.COUNT)),
  };
  const { arena, ram, lock, host } = diskBoard(memory);
  arena.powerOn();
  host.assignResources({ base: 0xc0000000, end: 0xc1000000 }, { base: 0x1000, end: 0x2000 });
  // What a vCPU's exits do: each access under the lock.
  const window = host.memoryWindow(0);
  const locked = {
    read: (at: number, size: number) => lock.with(() => window.read(at, size)),
    write: (at: number, size: number, value: number) => lock.with(() => window.write(at, size, value)),
  };
  const drv = new PciDriver({ ecam: host.ecam, memory: locked, ram, devfn: 8, ringsAt: 0x10000 });
  const worker = new Worker(new URL("./disk_worker.ts", import.meta.url), { type: "module" });
  const { promise, resolve } = Promise.withResolvers<void>();
  worker.onmessage = () => resolve();
  worker.postMessage(memory);
  await promise;
  try {
    const header = new Uint8Array(16);
    const view = new DataView(header.buffer);
    for (let round = 0; round < 30; round++) {
      await reset(drv);
      assertEquals(
        drv.negotiate([FEATURE.VERSION_1, FEATURE.RING_INDIRECT_DESC, FEATURE.RING_EVENT_IDX, BLOCK_FEATURE.MQ]),
        true,
      );
      drv.enableMsix(0x40);
      drv.start(64, () => 1);
      const wanted = Array.from({ length: QUEUES }, () => new Map<number, number>());
      for (let n = 0; n < BATCH; n++) {
        const q = n % QUEUES;
        const sector = (round * 7 + n) % SECTORS;
        view.setUint32(0, BLOCK_REQUEST.IN, true);
        view.setUint32(8, sector, true);
        wanted[q]!.set(drv.queues[q]!.add([header, 512, 1], true), sector);
        // As a driver does: notify only where avail_event asks for it.
        if (drv.queues[q]!.availEvent === ((drv.queues[q]!.availIdx - 1) & 0xffff)) drv.notify(q);
      }
      // Every third round the driver loses patience and resets with requests in flight.
      if (round % 3 === 2) continue;
      const until = performance.now() + TIMEOUT_MS;
      while (wanted.some((m) => m.size > 0)) {
        if (performance.now() > until) throw new Error(`round ${round}: requests are lost`);
        for (let q = 0; q < QUEUES; q++) {
          for (let used = drv.queues[q]!.collect(); used; used = drv.queues[q]!.collect()) {
            const sector = wanted[q]!.get(used.head)!;
            wanted[q]!.delete(used.head);
            assertEquals([used.written, used.bytes[0], used.bytes[511], used.bytes[512]], [
              513,
              (sector + 1) & 0xff,
              (sector + 1) & 0xff,
              0,
            ]);
          }
        }
      }
    }
    assertEquals(Atomics.load(memory.words, WORD.MESSAGES) > 0, true);
  } finally {
    Atomics.store(memory.words, WORD.STOP, 1);
    Atomics.add(memory.words, WORD.DOORBELL, 1);
    Atomics.notify(memory.words, WORD.DOORBELL);
    await new Promise((resolve) => setTimeout(resolve, 50));
    worker.terminate();
  }
});

/** Writes 0 and waits until the device has let go of everything [virtio §4.1.4.3.2]. */
async function reset(drv: PciDriver): Promise<void> {
  drv.common("device_status", 0);
  const until = performance.now() + TIMEOUT_MS;
  while (drv.common("device_status") !== 0) {
    if (performance.now() > until) throw new Error("the reset does not end");
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
  assertEquals(drv.common("device_status") & DEVICE_STATUS.DRIVER_OK, 0);
}
