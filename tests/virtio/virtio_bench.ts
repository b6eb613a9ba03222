/** What a virtio disk costs beside the disk itself: `deno bench --allow-read tests/virtio`. */
import type { BlockBackend } from "../../devices/virtio/block.ts";
import { PciDriver } from "../../devices/virtio/pci_driver.ts";
import { CFG_TYPE, FEATURE } from "../../devices/virtio/registers.ts";
import { diskBoard, WORD } from "./disk_board.ts";

const { ram, arena, host, disk } = diskBoard({
  arena: new SharedArrayBuffer(1 << 22),
  ram: new SharedArrayBuffer(1 << 20),
  words: new Int32Array(new SharedArrayBuffer(4 * WORD.COUNT)),
});
arena.powerOn();
host.assignResources({ base: 0xc0000000, end: 0xc1000000 }, { base: 0x1000, end: 0x2000 });
const memory = host.memoryWindow(0);
const drv = new PciDriver({ ecam: host.ecam, memory, ram, devfn: 8, ringsAt: 0x10000 });
drv.negotiate([FEATURE.VERSION_1, FEATURE.RING_INDIRECT_DESC, FEATURE.RING_EVENT_IDX]);
drv.start(64);
const isr = drv.structures.get(CFG_TYPE.ISR)!;
const backend: BlockBackend = {
  read: () => true,
  write: () => true,
  flush: () => true,
  discard: () => true,
  writeZeroes: () => true,
};
const q = drv.queues[0]!;
const head = q.add([new Uint8Array(16), 4096, 1]);
disk.processQueue(0, backend);

Deno.bench("MMIO read through the PCI window: ISR status", () => void memory.read(isr, 1));

Deno.bench("one disk request, from the available ring to the used ring", () => {
  q.publish(head);
  disk.processQueue(0, backend);
});

Deno.bench("32 disk requests in one go", () => {
  for (let i = 0; i < 32; i++) q.publish(head);
  disk.processQueue(0, backend);
});
