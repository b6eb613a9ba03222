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
import { assemblePc, type Pc, SLOT } from "../../src/machine/pc.ts";

const MIB = 1 << 20;

Deno.test("a flush of the guest's, and standing still, put what it wrote into a sound qcow2 file; a disc is exchanged", async () => {
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
  const alive = setInterval(() => {}, 1000); // waiting for a word alone keeps no process alive
  let failures = 0;
  const server = new DiskServer(pc, disks, (sentence) => {
    if (failures-- === 0) throw new Error(sentence);
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

    // Another disc, while the machine is there.
    const disc = `${folder}/disc.iso`;
    Deno.writeFileSync(disc, new Uint8Array(MIB).fill(0x43));
    const read = cdReader(pc, () => server.run());
    pc.lock.with(() => pc.driveOf(1)!.changeMedium(0));
    assertEquals(read(5), null, "the drive is empty");
    const exchange = async (path: string) => {
      const asked = pc.control.exchangeMedium(1, path);
      await Promise.resolve(); // such tasks come one after the other
      server.run();
      return await asked;
    };
    assertEquals(await exchange(disc), true);
    pc.lock.with(() => pc.driveOf(1)!.changeMedium(MIB / 512));
    assertEquals([read(5), read(5)], [null, 0x43], "after a unit attention the new disc is read");
    failures = 1;
    assertEquals([await exchange(`${folder}/none.iso`), failures], [false, 0]);
    assertEquals(pc.driveOf(0), null, "a disk is no drive");
  } finally {
    clearInterval(alive);
    server.close();
    for (const lock of locks) lock?.release();
    Deno.removeSync(folder, { recursive: true });
  }
});

/** Reads the first byte of a sector of the disc at port 0 of the SATA controller; null if the drive refuses. */
function cdReader(pc: Pc, serve: () => void): (sector: number) => number | null {
  const LIST = 0x40000, FISES = 0x41000, TABLE = 0x42000, DATA = 0x43000;
  const devfn = SLOT.LPC * 8 + 2;
  pc.pci.ecam.write((devfn << 12) | 4, 2, 6);
  const port = (pc.pci.ecam.read((devfn << 12) | 0x24, 4) & ~0xf) + 0x100;
  const window = pc.pci.memoryWindow(0);
  const write = (at: number, value: number) => window.write((port >>> 0) + at, 4, value);
  return (sector) => {
    write(0x18, 0); // PxCMD
    write(0x00, LIST);
    write(0x08, FISES);
    write(0x18, 0x11);
    pc.ram.write(LIST, 4, (1 << 16) | 0x20 | 5);
    pc.ram.write(LIST + 8, 4, TABLE);
    [0x27, 0x80, 0xa0, 1].forEach((byte, i) => pc.ram.write(TABLE + i, 1, byte));
    [0x28, 0, 0, 0, 0, sector, 0, 0, 1, 0, 0, 0].forEach((byte, i) => pc.ram.write(TABLE + 0x40 + i, 1, byte));
    pc.ram.write64(TABLE + 0x80, DATA);
    pc.ram.write(TABLE + 0x8c, 4, 2047);
    write(0x38, 1); // PxCI
    serve();
    const failed = window.read((port >>> 0) + 0x20, 4) & 1; // PxTFD
    return failed ? null : pc.ram.read(DATA, 1);
  };
}
