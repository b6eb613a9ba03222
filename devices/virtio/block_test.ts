import { assertEquals } from "@std/assert";
import { Arena } from "../../src/base/arena.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { PciHost, PciHostRecord } from "../pci/host.ts";
import {
  BLOCK_FEATURE,
  BLOCK_REQUEST,
  BLOCK_STATUS,
  type BlockBackend,
  VirtioBlock,
  type VirtioBlockOptions,
} from "./block.ts";
import type { Buffer } from "./driver.ts";
import { PciDriver } from "./pci_driver.ts";
import { CFG_TYPE, DEVICE_STATUS, FEATURE } from "./registers.ts";

const { OK, IOERR, UNSUPP } = BLOCK_STATUS;
const { FLUSH, DISCARD, WRITE_ZEROES, MQ, RO } = BLOCK_FEATURE;
const SECTORS = 64;

class MemoryBlock implements BlockBackend {
  readonly bytes = new Uint8Array(SECTORS * 512).map((_, i) => (i >> 9) + 1);
  readonly calls: string[] = [];
  fails: "no" | "false" | "throw" = "no";
  /** Whether it wants to be told of reads before their turn. */
  waits = false;
  #answer(call: string): boolean {
    this.calls.push(call);
    if (this.fails === "throw") throw new Error("medium");
    return this.fails === "no";
  }
  read(offset: number, into: Uint8Array): boolean {
    into.set(this.bytes.subarray(offset, offset + into.length));
    return this.#answer(`read ${offset} ${into.length}`);
  }
  announce(offset: number, sizeBytes: number): void {
    this.calls.push(`ahead ${offset} ${sizeBytes}`);
  }
  write(offset: number, from: Uint8Array): boolean {
    this.bytes.set(from, offset);
    return this.#answer(`write ${offset} ${from.length}`);
  }
  flush(): boolean {
    return this.#answer("flush");
  }
  discard(offset: number, sizeBytes: number): boolean {
    return this.#answer(`discard ${offset} ${sizeBytes}`);
  }
  writeZeroes(offset: number, sizeBytes: number, mayUnmap: boolean): boolean {
    return this.#answer(`zero ${offset} ${sizeBytes} ${mayUnmap}`);
  }
}

function fixture(options: Partial<VirtioBlockOptions> = {}, features: number[] = [FLUSH, WRITE_ZEROES]) {
  const arena = Arena.private(1 << 22);
  const ram = GuestRam.private();
  const wrote: [number, number][] = [];
  const host = new PciHost(arena.place("host", PciHostRecord));
  const disk = new MemoryBlock();
  const dev: VirtioBlock = host.add(
    2,
    0,
    new VirtioBlock(
      arena,
      "disk0",
      { ram, msi: { send: () => {} }, notify: (i) => dev.processQueue(i, disk) },
      { capacitySectors: SECTORS, ...options },
    ),
  );
  arena.powerOn();
  host.assignResources({ base: 0xc0000000, end: 0xc1000000 }, { base: 0x1000, end: 0x2000 });
  const drv = new PciDriver({ ecam: host.ecam, memory: host.memoryWindow(0), ram, devfn: 16, ringsAt: 0x10000 });
  assertEquals(drv.negotiate([FEATURE.VERSION_1, FEATURE.RING_INDIRECT_DESC, ...features]), true);
  drv.start(16);
  ram.onWrite = (gpa, size) => wrote.push([gpa, size]);
  /** One request with its status byte; what came back. */
  const request = (type: number, sector: number, data: Buffer[], queue = 0) => {
    const q = drv.queues[queue]!;
    q.add([header(type, sector), ...data, 1]);
    drv.notify(queue);
    const used = q.collect();
    return used && { status: used.bytes.at(-1), written: used.written, data: used.bytes.subarray(0, -1) };
  };
  return { ram, disk, dev, drv, request, wrote };
}

function header(type: number, sector: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const v = new DataView(bytes.buffer);
  v.setUint32(0, type, true);
  v.setUint32(8, sector % 2 ** 32, true);
  v.setUint32(12, Math.floor(sector / 2 ** 32), true);
  return bytes;
}

function segment(sector: number, count: number, flags: number): Uint8Array {
  const bytes = header(0, sector);
  const v = new DataView(bytes.buffer);
  v.setUint32(0, sector, true);
  v.setUint32(4, 0, true);
  v.setUint32(8, count, true);
  v.setUint32(12, flags, true);
  return bytes;
}

Deno.test("configuration space tells the geometry of the disk", () => {
  const { drv } = fixture({ capacitySectors: 2 ** 33 + 5, queues: 3 }, [MQ]);
  const read = (at: number, size: number) => drv.structure(CFG_TYPE.DEVICE, at, size);
  assertEquals([read(0, 4), read(4, 4)], [5, 2]);
  assertEquals([read(12, 4), read(20, 4), read(34, 2)], [510, 512, 3]);
  assertEquals(drv.common("num_queues"), 3);
});

Deno.test("IN reads sectors into buffers of any shape, and says that RAM was written", () => {
  const { request, wrote } = fixture();
  const r = request(BLOCK_REQUEST.IN, 3, [100, 412, 512])!;
  assertEquals([r.status, r.written], [OK, 1025]);
  assertEquals([r.data[0], r.data[511], r.data[512], r.data[1023]], [4, 4, 5, 5]);
  assertEquals(wrote.some(([, size]) => size === 100), true);
});

Deno.test("OUT writes sectors from buffers of any shape, and FLUSH reaches the back end", () => {
  const { request, disk } = fixture();
  const data = new Uint8Array(1024).fill(0xaa);
  assertEquals(request(BLOCK_REQUEST.OUT, 10, [data.subarray(0, 700), data.subarray(700)])!.status, OK);
  assertEquals(disk.bytes.subarray(5120, 6144), data);
  assertEquals([disk.bytes[5119], disk.bytes[6144]], [10, 13]);
  assertEquals(disk.calls.includes("flush"), false);
  const r = request(BLOCK_REQUEST.FLUSH, 0, [])!;
  assertEquals([r.status, r.written, disk.calls.at(-1)], [OK, 1, "flush"]);
});

Deno.test("header, data and status need not have descriptors of their own", () => {
  const { drv, disk } = fixture();
  const q = drv.queues[0]!;
  const both = new Uint8Array(16 + 512).fill(0x77);
  both.set(header(BLOCK_REQUEST.OUT, 1));
  q.add([both.subarray(0, 5), both.subarray(5), 1]);
  q.add([header(BLOCK_REQUEST.IN, 1).subarray(0, 9), header(BLOCK_REQUEST.IN, 1).subarray(9), 513]);
  drv.notify(0);
  assertEquals(q.collect()!.bytes[0], OK);
  const read = q.collect()!;
  assertEquals([read.bytes[0], read.bytes[511], read.bytes[512], read.written], [0x77, 0x77, OK, 513]);
  assertEquals(disk.bytes[512], 0x77);
});

Deno.test("buffers that touch in guest RAM reach the back end in one piece", () => {
  const { request, disk } = fixture();
  request(BLOCK_REQUEST.IN, 0, [512, 1024, 512]);
  assertEquals(disk.calls, ["read 0 2048"]);
});

Deno.test("reads that wait are told to a slow medium before the first is served, each once, and writes are not", () => {
  const { drv, disk } = fixture();
  const q = drv.queues[0]!;
  const add = () => {
    q.add([header(BLOCK_REQUEST.IN, 0), 512, 1]);
    q.add([header(BLOCK_REQUEST.OUT, 1), new Uint8Array(512), 1]);
    q.add([header(BLOCK_REQUEST.IN, 2), 512, 512, 1]);
    q.add([header(BLOCK_REQUEST.IN, 4), 512, 1]);
    drv.notify(0);
    while (q.collect()) { /* all of them */ }
    return disk.calls.splice(0);
  };
  assertEquals(add(), ["read 0 512", "write 512 512", "read 1024 1024", "read 2048 512"]);
  disk.waits = true;
  const ahead = ["ahead 1024 1024", "ahead 2048 512"];
  assertEquals(add(), [...ahead, "read 0 512", "write 512 512", "read 1024 1024", "read 2048 512"]);
});

Deno.test("a chain that is broken when it is looked at early breaks the queue in its turn, not before", () => {
  const { drv, disk, ram } = fixture();
  disk.waits = true;
  const q = drv.queues[0]!;
  q.add([header(BLOCK_REQUEST.IN, 0), 512, 1]);
  const bad = q.add([header(BLOCK_REQUEST.IN, 1), 512, 1]);
  ram.write64(q.desc + 16 * bad, 0xffff_ffff_f000); // no RAM is there
  drv.notify(0);
  assertEquals([disk.calls, q.collect()!.bytes[512], q.collect()], [["read 0 512"], OK, null]);
});

Deno.test("a driver that did not take FLUSH has each write on disk before it completes", () => {
  const { request, disk } = fixture({}, []);
  request(BLOCK_REQUEST.OUT, 0, [new Uint8Array(512)]);
  assertEquals(disk.calls, ["write 0 512", "flush"]);
});

Deno.test("GET_ID gives the serial, padded with zeros to 20 bytes", () => {
  const { request } = fixture({ serial: "ABC" });
  const r = request(BLOCK_REQUEST.GET_ID, 0, [20])!;
  assertEquals([r.status, r.written], [OK, 21]);
  assertEquals(new TextDecoder().decode(r.data), "ABC" + "\0".repeat(17));
});

Deno.test("requests past the end, not of whole sectors, or too large are I/O errors and touch nothing", () => {
  const { request, disk } = fixture();
  for (
    const [sector, size] of [[SECTORS, 512], [SECTORS - 1, 1024], [2 ** 63, 512], [2 ** 64 - 2048, 512], [0, 100], [
      0,
      513,
    ]]
  ) {
    assertEquals(request(BLOCK_REQUEST.IN, sector!, [size!])!.status, IOERR);
    assertEquals(request(BLOCK_REQUEST.OUT, sector!, [new Uint8Array(size!)])!.status, IOERR);
  }
  assertEquals(disk.calls, []);
});

Deno.test("one buffer named a thousand times is not read into for ever", () => {
  const { drv, disk, ram } = fixture();
  const table = 0x80000;
  const q = drv.queues[0]!;
  ram.copyIn(0x90000, header(BLOCK_REQUEST.IN, 0));
  q.writeDesc(0, 0x90000, 16, 1, 1, table);
  for (let i = 1; i < 1023; i++) q.writeDesc(i, 0, 0x80000, 3, i + 1, table);
  q.writeDesc(1023, 0x91000, 1, 2, 0, table);
  q.writeDesc(0, table, 16 * 1024, 4, 0);
  q.publish(0);
  drv.notify(0);
  assertEquals(ram.read(0x91000, 1), IOERR);
  assertEquals(disk.calls, []);
});

Deno.test("a failing back end, by false or by throwing, becomes an I/O error", () => {
  const { request, disk } = fixture();
  for (const how of ["false", "throw"] as const) {
    disk.fails = how;
    const r = request(BLOCK_REQUEST.IN, 0, [512])!;
    assertEquals([r.status, r.written], [IOERR, 0]);
    assertEquals(request(BLOCK_REQUEST.OUT, 0, [new Uint8Array(512)])!.status, IOERR);
    assertEquals(request(BLOCK_REQUEST.FLUSH, 0, [])!.status, IOERR);
    assertEquals(request(BLOCK_REQUEST.WRITE_ZEROES, 0, [segment(0, 1, 0)])!.status, IOERR);
  }
});

Deno.test("an unknown request, and one whose feature was not taken, is unsupported", () => {
  const { request } = fixture({ discard: true }, []);
  for (const type of [2, 5, 99, 0xffffffff]) assertEquals(request(type, 0, [512])!.status, UNSUPP);
  assertEquals(request(BLOCK_REQUEST.DISCARD, 0, [segment(0, 1, 0)])!.status, UNSUPP);
  assertEquals(request(BLOCK_REQUEST.WRITE_ZEROES, 0, [segment(0, 1, 0)])!.status, UNSUPP);
});

Deno.test("discard and write zeroes carry out each segment, or none if one is wrong", () => {
  const { request, disk } = fixture({ discard: true }, [DISCARD, WRITE_ZEROES]);
  const two = [segment(1, 2, 0), segment(10, 1, 0)];
  assertEquals(request(BLOCK_REQUEST.DISCARD, 0, two)!.status, OK);
  assertEquals(request(BLOCK_REQUEST.WRITE_ZEROES, 0, [segment(4, 4, 1)])!.status, OK);
  assertEquals(disk.calls, ["discard 512 1024", "discard 5120 512", "zero 2048 2048 true"]);
  disk.calls.length = 0;
  assertEquals(request(BLOCK_REQUEST.DISCARD, 0, [segment(0, 1, 0), segment(SECTORS, 1, 0)])!.status, IOERR);
  assertEquals(request(BLOCK_REQUEST.DISCARD, 0, [segment(0, 1, 1)])!.status, UNSUPP);
  assertEquals(request(BLOCK_REQUEST.WRITE_ZEROES, 0, [segment(0, 1, 2)])!.status, UNSUPP);
  assertEquals(request(BLOCK_REQUEST.WRITE_ZEROES, 0, [segment(0, 0xffffffff, 0)])!.status, IOERR);
  assertEquals(request(BLOCK_REQUEST.WRITE_ZEROES, 0, [new Uint8Array(17)])!.status, IOERR);
  assertEquals(request(BLOCK_REQUEST.WRITE_ZEROES, 0, [])!.status, IOERR);
  assertEquals(disk.calls, []);
});

Deno.test("a read-only disk says so and refuses to be changed", () => {
  const { request, disk, drv } = fixture({ readonly: true }, [RO]);
  assertEquals(drv.offered()[0] & (1 << RO | 1 << WRITE_ZEROES), 1 << RO);
  assertEquals(request(BLOCK_REQUEST.OUT, 0, [new Uint8Array(512)])!.status, IOERR);
  assertEquals(request(BLOCK_REQUEST.IN, 0, [512])!.status, OK);
  assertEquals(disk.calls, ["read 0 512"]);
});

Deno.test("a request with no room for header or status breaks the device until reset", () => {
  for (const buffers of [[header(0, 0)], [512, 1], [new Uint8Array(15), 1]] as Buffer[][]) {
    const { drv } = fixture();
    drv.queues[0]!.add(buffers);
    drv.notify(0);
    assertEquals(drv.queues[0]!.collect(), null);
    assertEquals(drv.common("device_status") & DEVICE_STATUS.DEVICE_NEEDS_RESET, DEVICE_STATUS.DEVICE_NEEDS_RESET);
  }
});

Deno.test("each queue of several is served on its own", () => {
  const { request } = fixture({ queues: 2 }, [MQ]);
  assertEquals(request(BLOCK_REQUEST.IN, 7, [512], 1)!.data[0], 8);
  assertEquals(request(BLOCK_REQUEST.IN, 8, [512], 0)!.data[0], 9);
});
