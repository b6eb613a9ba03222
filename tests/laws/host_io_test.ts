/** The law that no host I/O happens under the machine lock, on the whole board: every request a disk knows, seen from the file. */
import { assertEquals } from "@std/assert";
import { BLOCK_FEATURE, BLOCK_REQUEST, BLOCK_STATUS, type BlockBackend } from "../../devices/virtio/block.ts";
import { PciDriver } from "../../devices/virtio/pci_driver.ts";
import { FEATURE } from "../../devices/virtio/registers.ts";
import type { Region } from "../../src/base/bus.ts";
import { PcBoard } from "../../src/machine/board.ts";
import { allocateMachineMemory } from "../../src/machine/memory.ts";
import { ADDRESS, assemblePc, SLOT } from "../../src/machine/pc.ts";

Deno.test("a disk's file is never touched while the machine lock is held", () => {
  const memoryBytes = 16 << 20;
  const pc = assemblePc({
    memory: allocateMachineMemory(memoryBytes),
    spec: {
      engine: "soft",
      memoryBytes,
      cpus: 1,
      kernel: "none",
      initrd: null,
      append: "",
      disks: [{ path: "none", readonly: false, format: "raw" }],
      serial: [],
      noReboot: false,
      icount: true,
      trace: null,
    },
    disks: [{ sectors: 64, readonly: false, note: null }],
  });
  pc.powerOn();

  // The lock's own methods, counted.
  let holders = 0, taken = 0;
  const acquire = pc.lock.acquire.bind(pc.lock), release = pc.lock.release.bind(pc.lock);
  pc.lock.acquire = () => {
    acquire();
    holders++;
    taken++;
  };
  pc.lock.release = () => {
    holders--;
    release();
  };

  const seen: string[] = [];
  const operation = (name: string) => (): boolean => {
    seen.push(holders === 0 ? name : `${name} under the lock`);
    return true;
  };
  const backend: BlockBackend = {
    read: operation("read"),
    write: operation("write"),
    flush: operation("flush"),
    discard: operation("discard"),
    writeZeroes: operation("writeZeroes"),
  };
  const inline = { run: () => void pc.disks[0]!.processQueue(0, backend) };
  const board = new PcBoard(pc.lock, pc.ports, pc.mmio, pc.apics, 0, pc.counters.of(0), inline);

  const driver = new PciDriver({
    ecam: windowOf(board, ADDRESS.ECAM),
    memory: windowOf(board, 0),
    ram: pc.ram,
    devfn: SLOT.FIRST_DISK * 8,
    ringsAt: 0x10000,
  });
  const features = [FEATURE.VERSION_1, BLOCK_FEATURE.FLUSH, BLOCK_FEATURE.WRITE_ZEROES];
  assertEquals(driver.negotiate(features), true);
  driver.start();

  const request = (type: number, ...data: (Uint8Array | number)[]): void => {
    const header = new Uint8Array(16);
    new DataView(header.buffer).setUint32(0, type, true);
    driver.queues[0]!.add([header, ...data, 1]);
    driver.notify(0);
    assertEquals(driver.queues[0]!.collect()!.bytes.at(-1), BLOCK_STATUS.OK);
  };
  const oneSector = new Uint8Array(16);
  new DataView(oneSector.buffer).setUint32(8, 1, true);
  taken = 0;
  request(BLOCK_REQUEST.IN, 512);
  request(BLOCK_REQUEST.OUT, new Uint8Array(512));
  request(BLOCK_REQUEST.FLUSH);
  request(BLOCK_REQUEST.WRITE_ZEROES, oneSector);

  assertEquals(seen, ["read", "write", "flush", "writeZeroes"]);
  assertEquals([taken > 4, holders], [true, 0]);
});

/** The vCPU's view of memory from `base` on. */
function windowOf(board: PcBoard, base: number): Region {
  return {
    read: (offset, size) => board.mmioRead(base + offset, size),
    write: (offset, size, value) => board.mmioWrite(base + offset, size, value),
  };
}
