/** The disks' server on a board with a disk of each kind: what a driver writes, and what is in the files when the guest stands still. */
import { assertEquals } from "@std/assert";
import { BLOCK_FEATURE, BLOCK_REQUEST, BLOCK_STATUS } from "../../devices/virtio/block.ts";
import { PciDriver } from "../../devices/virtio/pci_driver.ts";
import { FEATURE } from "../../devices/virtio/registers.ts";
import { openImage } from "../../src/host/disk/open.ts";
import { checkImage } from "../../src/host/disk/qcow2/check.ts";
import { FileStore } from "../../src/host/disk/store.ts";
import { createImage } from "../../src/host/disk/work.ts";
import { RunState } from "../../src/machine/control.ts";
import { checkDisks, DiskServer, lockDisks } from "../../src/machine/disks.ts";
import { allocateMachineMemory } from "../../src/machine/memory.ts";
import { assemblePc, SLOT } from "../../src/machine/pc.ts";

const MIB = 1 << 20;

Deno.test("a flush of the guest's, and standing still, put what it wrote into a sound qcow2 file", () => {
  const folder = Deno.makeTempDirSync();
  const path = `${folder}/disk.qcow2`;
  createImage(path, { format: "qcow2", sizeBytes: 8 * MIB, backing: null, backingFormat: null });
  const disks = [
    { path, readonly: false, format: "qcow2" } as const,
    { path: `${folder}/other.qcow2`, readonly: true, format: "qcow2", controller: "cdrom" } as const,
  ];
  createImage(disks[1]!.path, { format: "qcow2", sizeBytes: 8 * MIB, backing: null, backingFormat: null });
  const memoryBytes = 16 * MIB;
  const spec = {
    engine: "soft",
    memoryBytes,
    cpus: 1,
    kernel: "none",
    initrd: null,
    append: "",
    disks,
    serial: [],
    noReboot: false,
    icount: true,
    trace: null,
  } as const;
  const locks = lockDisks(disks);
  const pc = assemblePc({ memory: allocateMachineMemory(memoryBytes), spec, disks: checkDisks(disks) });
  pc.powerOn();
  const server = new DiskServer(pc, disks, (sentence) => {
    throw new Error(sentence);
  });
  try {
    const driver = new PciDriver({
      ecam: pc.pci.ecam,
      memory: pc.pci.memoryWindow(0),
      ram: pc.ram,
      devfn: SLOT.FIRST_DISK * 8,
      ringsAt: 0x10000,
    });
    assertEquals(driver.negotiate([FEATURE.VERSION_1, BLOCK_FEATURE.FLUSH]), true);
    driver.start();
    const request = (type: number, sector: number, ...data: (Uint8Array | number)[]): void => {
      const header = new Uint8Array(16), view = new DataView(header.buffer);
      view.setUint32(0, type, true);
      view.setUint32(8, sector, true);
      driver.queues[0]!.add([header, ...data, 1]);
      driver.notify(0);
      server.run();
      assertEquals(driver.queues[0]!.collect()!.bytes.at(-1), BLOCK_STATUS.OK);
    };
    const inFile = (sector: number): number => {
      const image = openImage({ path, writable: false }), bytes = new Uint8Array(512);
      image.read(512 * sector, bytes);
      image.close();
      const store = FileStore.open(path, false);
      assertEquals(checkImage(store, false).corruptions, 0);
      store.close();
      return bytes[0]!;
    };
    pc.control.change(RunState.LEAVE, RunState.RUN);
    request(BLOCK_REQUEST.OUT, 100, new Uint8Array(512).fill(0x41));
    assertEquals(inFile(100), 0, "the tables are still in memory");
    request(BLOCK_REQUEST.FLUSH, 0);
    assertEquals(inFile(100), 0x41);
    request(BLOCK_REQUEST.OUT, 4000, new Uint8Array(512).fill(0x42));
    pc.control.change(RunState.RUN, RunState.PAUSE);
    void pc.control.whenDisksIdle(); // as a pause does
    server.run();
    assertEquals(inFile(4000), 0x42);
    assertEquals(pc.control.diskServed, pc.control.diskDoorbell);
  } finally {
    server.close();
    for (const lock of locks) lock.release();
    Deno.removeSync(folder, { recursive: true });
  }
});
