import { assertEquals } from "@std/assert";
import { Arena } from "../src/base/arena.ts";
import { GuestRam } from "../src/base/ram.ts";
import { CountingLock, MemoryDisk } from "./ahci_fixture.ts";
import { Nvme } from "./nvme.ts";
import { ADMIN, CC, CSTS, DOORBELLS_AT, FEATURE, IO_QUEUES, NVM, NVME, SC } from "./nvme_registers.ts";
import { PciHost, PciHostRecord } from "./pci/host.ts";

const SECTORS = 4096;
const BAR = 0xc0000000;
const ENTRIES = 8;
const DATA = 0x20000, LIST = 0x30000;
const ENABLED = CC.EN | (6 << CC.IOSQES_SHIFT) | (4 << CC.IOCQES_SHIFT);

type Words = Readonly<Record<number, number>>;

function fixture(options: { readonly?: boolean } = {}) {
  const arena = Arena.private(), ram = GuestRam.private(), lock = new CountingLock();
  const host = new PciHost(arena.place("host", PciHostRecord));
  const messages: number[] = [], rung: number[] = [];
  const disk = new MemoryDisk(SECTORS, lock);
  const dev = new Nvme(arena, "nvme", {
    ram,
    msi: { send: (_lo, _hi, data) => messages.push(data) },
    locked: (body) => lock.with(body),
    notify: (queue) => rung.push(queue),
  }, { sectors: SECTORS, readonly: options.readonly ?? false, serial: "S-9", discard: true });
  host.add(1, 0, dev);
  arena.powerOn();
  dev.settle();
  host.assignResources({ base: BAR, end: BAR + 0x100000 }, { base: 0x1000, end: 0x2000 });
  host.ecam.write((8 << 12) | 4, 2, 6);
  const window = host.memoryWindow(BAR);
  const reg = (name: keyof typeof NVME, value?: number): number => {
    if (value !== undefined) window.write(NVME[name].at, 4, value);
    return window.read(NVME[name].at, 4);
  };
  const sqOf = (q: number) => 0x1000 + 0x2000 * q, cqOf = (q: number) => 0x2000 + 0x2000 * q;
  const tails: number[] = [], heads: number[] = [], phases: number[] = [];
  const enable = (): void => {
    reg("AQA", ((ENTRIES - 1) << 16) | (ENTRIES - 1));
    reg("ASQ_LO", sqOf(0));
    reg("ACQ_LO", cqOf(0));
    reg("CC", ENABLED);
    tails[0] = heads[0] = 0;
    phases[0] = 1;
  };
  const ring = (q: number, value: number, head = false) =>
    window.write(DOORBELLS_AT + 8 * q + (head ? 4 : 0), 4, value);
  const add = (q: number, cid: number, words: Words): void => {
    const at = sqOf(q) + 64 * tails[q]!;
    for (let n = 0; n < 16; n++) ram.write(at + 4 * n, 4, words[n] ?? 0);
    ram.write(at + 2, 2, cid);
    tails[q] = (tails[q]! + 1) % ENTRIES;
  };
  const serve = (): void => {
    for (const q of rung.splice(0)) while (dev.processQueue(q, disk));
  };
  /** Takes the next completion; null if there is none. */
  const collect = (q: number): { cid: number; status: number; result: number; sqHead: number } | null => {
    const at = cqOf(q) + 16 * heads[q]!;
    const last = ram.read(at + 12, 4);
    if (((last >>> 16) & 1) !== phases[q]) return null;
    const found = { cid: last & 0xffff, status: last >>> 17, result: ram.read(at, 4), sqHead: ram.read(at + 8, 2) };
    heads[q] = (heads[q]! + 1) % ENTRIES;
    if (heads[q] === 0) phases[q]! ^= 1;
    ring(q, heads[q]!, true);
    return found;
  };
  const run = (q: number, words: Words): { status: number; result: number } => {
    add(q, 7, words);
    ring(q, tails[q]!);
    serve();
    const { status, result } = collect(q)!;
    return { status, result };
  };
  /** Makes queue pair `q`. */
  const makeQueues = (q: number): void => {
    run(0, { 0: ADMIN.CREATE_CQ, 6: cqOf(q), 10: ((ENTRIES - 1) << 16) | q, 11: (q << 16) | 3 });
    run(0, { 0: ADMIN.CREATE_SQ, 6: sqOf(q), 10: ((ENTRIES - 1) << 16) | q, 11: (q << 16) | 1 });
    tails[q] = heads[q] = 0;
    phases[q] = 1;
  };
  return {
    ram,
    host,
    dev,
    disk,
    messages,
    rung,
    window,
    reg,
    enable,
    ring,
    add,
    serve,
    collect,
    run,
    makeQueues,
    tails,
    cqOf,
  };
}

/** A controller with one pair of I/O queues. */
function started(options: { readonly?: boolean } = {}) {
  const f = fixture(options);
  f.enable();
  f.makeQueues(1);
  const io = (opcode: number, lba: number, sectors: number, more: Words = {}) =>
    f.run(1, { 0: opcode, 1: 1, 6: DATA, 8: DATA + 0x1000, 10: lba, 12: sectors - 1, ...more });
  return { ...f, io };
}

Deno.test("it is an NVMe 1.4 controller: class code, CAP, and ready once enabled [nvme §3.1]", () => {
  const { host, reg, enable } = fixture();
  assertEquals(host.ecam.read((8 << 12) | 8, 4) >>> 8, 0x010802);
  assertEquals([reg("CAP_LO") & 0xffff, reg("CAP_LO") >>> 16 & 1, reg("CAP_HI") & 0xf, reg("CAP_HI") >> 5 & 1], [
    1023,
    1,
    0,
    1,
  ]);
  assertEquals([reg("VS"), reg("CSTS")], [0x10400, 0]);
  enable();
  assertEquals(reg("CSTS"), CSTS.RDY);
  assertEquals(reg("CC", 0), 0);
  assertEquals(reg("CSTS"), 0);
  assertEquals([reg("AQA"), reg("ASQ_LO")], [0x70007, 0x1000], "the admin queues' places stay");
});

Deno.test("reads that wait are told to a slow medium before the first is served, each once, and writes are not", () => {
  const { disk, add, ring, serve, collect } = started();
  disk.waits = true;
  disk.log.length = 0;
  [NVM.READ, NVM.WRITE, NVM.READ, NVM.READ].forEach((opcode, n) =>
    add(1, n, { 0: opcode, 1: 1, 6: DATA, 8: DATA + 0x1000, 10: 10 * n, 12: n })
  );
  ring(1, 4);
  serve();
  // The first is among those that wait: it goes to the host as it is announced.
  assertEquals(disk.log, [
    ...["ahead 0+1", "ahead 20+3", "ahead 30+4"],
    ...["read 0+1", "write 10+2", "read 20+3", "read 30+4"],
  ]);
  assertEquals([0, 1, 2, 3].map(() => collect(1)?.status), [0, 0, 0, 0]);
});

Deno.test("what it cannot be configured to is a fatal status", () => {
  for (const cc of [ENABLED | (1 << 7), ENABLED | (1 << 4), ENABLED | (1 << 11)]) {
    const { reg } = fixture();
    reg("AQA", 0x70007);
    reg("CC", cc);
    assertEquals(reg("CSTS"), CSTS.CFS);
  }
});

Deno.test("Identify: controller, namespace, list and descriptors", () => {
  const { ram, enable, run } = fixture();
  enable();
  const identify = (cns: number, nsid = 0) => run(0, { 0: ADMIN.IDENTIFY, 1: nsid, 6: DATA, 10: cns }).status;
  assertEquals(identify(1), SC.SUCCESS);
  assertEquals(String.fromCharCode(...ram.bytes(DATA + 4, 4)!), "S-9 ");
  assertEquals([ram.read(DATA + 512, 2), ram.read(DATA + 516, 4), ram.read(DATA + 520, 2), ram.read(DATA + 80, 4)], [
    0x4466,
    1,
    12,
    0x10400,
  ]);
  assertEquals(identify(0, 1), SC.SUCCESS);
  assertEquals([ram.read64(DATA), ram.read64(DATA + 8), ram.read(DATA + 130, 1)], [SECTORS, SECTORS, 9]);
  assertEquals(identify(0, 2), SC.INVALID_NAMESPACE);
  assertEquals([identify(2), ram.read64(DATA)], [SC.SUCCESS, 1]);
  assertEquals([identify(3, 1), ram.read(DATA, 2)], [SC.SUCCESS, 0x801]);
  assertEquals(identify(99), SC.INVALID_FIELD);
});

Deno.test("data goes through PRPs: two pages, a list, a list that goes on in another [nvme §4.3]", () => {
  const { ram, disk, io } = started();
  assertEquals(io(NVM.READ, 3, 16).status, SC.SUCCESS);
  assertEquals([...ram.bytes(DATA, 8192)!], [...disk.bytes.slice(1536, 1536 + 8192)]);
  // From the middle of a page, over a list whose last entry leads to its next page.
  const pages = 6, start = DATA + 0x200;
  const at = LIST + 0x1000 - 16;
  ram.write64(at, DATA + 0x1000);
  ram.write64(at + 8, LIST + 0x4000);
  for (let n = 0; n < pages; n++) ram.write64(LIST + 0x4000 + 8 * n, DATA + 0x3000 + 0x2000 * n);
  assertEquals(io(NVM.READ, 0, 32, { 6: start, 8: at }).status, SC.SUCCESS);
  assertEquals([...ram.bytes(start, 0xe00)!], [...disk.bytes.slice(0, 0xe00)]);
  assertEquals([...ram.bytes(DATA + 0x3000, 0x1000)!], [...disk.bytes.slice(0x1e00, 0x2e00)]);
  assertEquals([...ram.bytes(DATA + 0x7000, 0x200)!], [...disk.bytes.slice(0x3e00, 0x4000)]);
  ram.bytes(DATA, 1024)!.fill(9);
  assertEquals(io(NVM.WRITE, 100, 2).status, SC.SUCCESS);
  assertEquals(disk.bytes.slice(51200, 52224).every((byte) => byte === 9), true);
});

Deno.test("what is wrong with a command is said by its status, and touches nothing", () => {
  const { disk, io, run } = started();
  const status = (opcode: number, lba: number, sectors: number, more: Words = {}) =>
    io(opcode, lba, sectors, more).status;
  assertEquals(status(NVM.READ, SECTORS - 1, 2), SC.LBA_OUT_OF_RANGE);
  assertEquals(status(NVM.READ, 0, 1, { 11: 0xffffffff }), SC.LBA_OUT_OF_RANGE);
  assertEquals(status(NVM.READ, 0, 1, { 1: 2 }), SC.INVALID_NAMESPACE);
  assertEquals(status(NVM.READ, 0, 1, { 6: 0xfffff000 }), SC.DATA_TRANSFER_ERROR);
  assertEquals(status(NVM.READ, 0, 16, { 8: DATA + 4 }), SC.PRP_OFFSET_INVALID);
  assertEquals(status(NVM.READ, 0, 1, { 6: DATA + 2 }), SC.PRP_OFFSET_INVALID);
  assertEquals(status(NVM.READ, 0, 32, { 8: 0xfffff000 }), SC.DATA_TRANSFER_ERROR);
  assertEquals(status(NVM.READ, 0, 4096), SC.INVALID_FIELD, "more than MDTS says");
  assertEquals(run(1, { 0: 0x4001, 1: 1, 6: DATA }).status, SC.INVALID_FIELD, "SGLs");
  assertEquals(status(0x7f, 0, 1), SC.INVALID_OPCODE);
  assertEquals(disk.log, []);
  disk.failing = true;
  assertEquals([status(NVM.READ, 0, 1), status(NVM.WRITE, 0, 1), status(NVM.FLUSH, 0, 1)], [
    SC.UNRECOVERED_READ,
    SC.WRITE_FAULT,
    SC.WRITE_FAULT,
  ]);
  const locked = started({ readonly: true });
  assertEquals(locked.io(NVM.WRITE, 0, 1).status, SC.READ_ONLY);
});

Deno.test("Flush, FUA and a write cache that is off reach the disk; Write Zeroes and Deallocate too", () => {
  const { ram, disk, io, run } = started();
  io(NVM.WRITE, 1, 1);
  io(NVM.WRITE, 1, 1, { 12: 1 << 30 });
  run(0, { 0: ADMIN.SET_FEATURES, 10: FEATURE.WRITE_CACHE, 11: 0 });
  io(NVM.WRITE, 1, 1);
  assertEquals(disk.log.splice(0), ["write 1+1", "write 1+1", "flush", "write 1+1", "flush"]);
  run(0, { 0: ADMIN.SET_FEATURES, 10: FEATURE.WRITE_CACHE, 11: 1 });
  io(NVM.FLUSH, 0, 1);
  io(NVM.WRITE_ZEROES, 8, 4);
  ram.write(DATA + 4, 4, 6);
  ram.write64(DATA + 8, 20);
  ram.write(DATA + 20, 4, 1);
  ram.write64(DATA + 24, 40);
  assertEquals(io(NVM.DATASET_MANAGEMENT, 1, 1, { 11: 4 }).status, SC.SUCCESS);
  ram.write64(DATA + 24, SECTORS);
  assertEquals(io(NVM.DATASET_MANAGEMENT, 1, 1, { 11: 4 }).status, SC.LBA_OUT_OF_RANGE);
  assertEquals(disk.log, ["flush", "zero 8+4", "discard 20+6", "discard 40+1"]);
});

Deno.test("queues: their limits, and that they go in order [nvme §5.3 to §5.6]", () => {
  const { enable, run } = fixture();
  enable();
  const create = (opcode: number, id: number, entries: number, dw11: number, at = 0x9000) =>
    run(0, { 0: opcode, 6: at, 10: ((entries - 1) << 16) | id, 11: dw11 }).status;
  assertEquals(run(0, { 0: ADMIN.SET_FEATURES, 10: FEATURE.QUEUES, 11: 0x00ff00ff }).result, (IO_QUEUES - 1) * 0x10001);
  assertEquals(create(ADMIN.CREATE_SQ, 1, 8, 0x10001), SC.CQ_INVALID);
  assertEquals(create(ADMIN.CREATE_CQ, 0, 8, 3), SC.INVALID_QUEUE_ID);
  assertEquals(create(ADMIN.CREATE_CQ, IO_QUEUES + 1, 8, 3), SC.INVALID_QUEUE_ID);
  assertEquals(create(ADMIN.CREATE_CQ, 1, 2048, 3), SC.INVALID_QUEUE_SIZE);
  assertEquals(create(ADMIN.CREATE_CQ, 1, 8, 2), SC.INVALID_FIELD, "not contiguous");
  assertEquals(create(ADMIN.CREATE_CQ, 1, 8, 3, 0x9100), SC.PRP_OFFSET_INVALID);
  assertEquals(create(ADMIN.CREATE_CQ, 1, 8, 99 << 16 | 3), SC.INVALID_VECTOR);
  assertEquals(create(ADMIN.CREATE_CQ, 1, 8, 3), SC.SUCCESS);
  assertEquals(create(ADMIN.CREATE_CQ, 1, 8, 3), SC.INVALID_QUEUE_ID);
  assertEquals(create(ADMIN.CREATE_SQ, 1, 8, 0x10001, 0xa000), SC.SUCCESS);
  assertEquals(run(0, { 0: ADMIN.DELETE_CQ, 10: 1 }).status, SC.INVALID_QUEUE_DELETION);
  assertEquals(run(0, { 0: ADMIN.DELETE_SQ, 10: 1 }).status, SC.SUCCESS);
  assertEquals(run(0, { 0: ADMIN.DELETE_CQ, 10: 1 }).status, SC.SUCCESS);
  assertEquals(run(0, { 0: ADMIN.DELETE_SQ, 10: 1 }).status, SC.INVALID_QUEUE_ID);
});

Deno.test("a full completion queue holds commands back until the driver has taken some", () => {
  const { disk, add, ring, serve, collect, tails, run, cqOf } = started();
  // A second submission queue for the same completion queue of 8.
  run(0, { 0: ADMIN.CREATE_SQ, 6: 0x9000, 10: (7 << 16) | 2, 11: 0x10001 });
  assertEquals(cqOf(1), 0x4000);
  for (let cid = 0; cid < 7; cid++) add(1, cid, { 0: NVM.READ, 1: 1, 6: DATA, 10: cid });
  ring(1, tails[1]!);
  serve();
  assertEquals(disk.log.length, 7);
  add(1, 7, { 0: NVM.READ, 1: 1, 6: DATA, 10: 7 });
  ring(1, tails[1]!);
  serve();
  assertEquals(disk.log.length, 7);
  assertEquals(collect(1)!.cid, 0);
  serve();
  assertEquals(disk.log.length, 8);
  assertEquals(Array.from({ length: 8 }, () => collect(1)?.cid), [1, 2, 3, 4, 5, 6, 7, undefined]);
});

Deno.test("a doorbell that is none is told by an asynchronous event, once until its log is read [nvme §5.2]", () => {
  const { add, ring, serve, collect, tails, run } = started();
  add(0, 50, { 0: ADMIN.ASYNC_EVENT });
  add(0, 51, { 0: ADMIN.ASYNC_EVENT });
  ring(0, tails[0]!);
  serve();
  assertEquals(collect(0), null);
  ring(9, 1);
  serve();
  assertEquals(collect(0)!.result, 0x10000);
  ring(9, 1);
  serve();
  assertEquals(collect(0), null);
  ring(1, 500);
  serve();
  assertEquals(collect(0)!.result, 0x10100);
  assertEquals(run(0, { 0: ADMIN.GET_LOG_PAGE, 6: DATA, 10: (15 << 16) | 1 }).status, SC.SUCCESS);
  for (let cid = 60; cid < 65; cid++) add(0, cid, { 0: ADMIN.ASYNC_EVENT });
  ring(0, tails[0]!);
  serve();
  const { cid, status } = collect(0)!;
  assertEquals([cid, status], [64, SC.EVENT_LIMIT_EXCEEDED]);
});

Deno.test("features are set and got; logs are read in part", () => {
  const { ram, enable, run } = fixture();
  enable();
  const get = (id: number, select = 0) => run(0, { 0: ADMIN.GET_FEATURES, 10: (select << 8) | id });
  assertEquals([get(FEATURE.WRITE_CACHE).result, get(FEATURE.TEMPERATURE).result], [1, 353]);
  run(0, { 0: ADMIN.SET_FEATURES, 10: FEATURE.TEMPERATURE, 11: 340 });
  assertEquals([get(FEATURE.TEMPERATURE).result, get(FEATURE.TEMPERATURE, 1).result], [340, 353]);
  assertEquals(run(0, { 0: ADMIN.SET_FEATURES, 10: 0x8000_0006, 11: 0 }).status, SC.FEATURE_NOT_SAVEABLE);
  assertEquals(get(0x7f).status, SC.INVALID_FIELD);
  const log = (id: number, bytes: number, from = 0) =>
    run(0, { 0: ADMIN.GET_LOG_PAGE, 6: DATA, 10: ((bytes / 4 - 1) << 16) | id, 12: from }).status;
  assertEquals([log(2, 512), ram.read(DATA + 1, 2), ram.read(DATA + 3, 1)], [SC.SUCCESS, 310, 100]);
  assertEquals([log(3, 4, 8), ram.read(DATA, 1)], [SC.SUCCESS, "1".charCodeAt(0)]);
  assertEquals([log(5, 4096), ram.read(DATA + 4 * ADMIN.IDENTIFY, 4)], [SC.SUCCESS, 1]);
  assertEquals(log(0x70, 4), SC.INVALID_LOG_PAGE);
});

Deno.test("a reset while a command is under way: not ready any more once it is over, and it is not answered", () => {
  const { disk, dev, reg, add, ring, tails, collect, rung } = started();
  const read = disk.read.bind(disk);
  let during = -1;
  disk.read = (offset, into) => {
    reg("CC", 0);
    during = reg("CSTS");
    return read(offset, into);
  };
  add(1, 1, { 0: NVM.READ, 1: 1, 6: DATA });
  ring(1, tails[1]!);
  rung.length = 0;
  assertEquals(dev.processQueue(1, disk), false);
  assertEquals([during, reg("CSTS"), collect(1)], [CSTS.RDY, 0, null]);
});

Deno.test("a shutdown is complete when the disk has been flushed [nvme §7.6.2]", () => {
  const { disk, reg, serve } = started();
  reg("CC", ENABLED | (1 << 14));
  assertEquals(reg("CSTS"), CSTS.RDY | CSTS.SHST_OCCURRING);
  serve();
  assertEquals([reg("CSTS"), disk.log], [CSTS.RDY | CSTS.SHST_COMPLETE, ["flush"]]);
});

Deno.test("interrupts: a message for the queue's vector, or the pin until all entries are taken [nvme §7.5]", () => {
  const { dev, host, window, messages, io, add, ring, serve, tails, collect, reg } = started();
  add(1, 1, { 0: NVM.READ, 1: 1, 6: DATA });
  ring(1, tails[1]!);
  serve();
  assertEquals(dev.intxLevel, true);
  reg("INTMS", 1 << 1);
  assertEquals(dev.intxLevel, false);
  reg("INTMC", 1 << 1);
  assertEquals([dev.intxLevel, reg("INTMS")], [true, 0]);
  collect(1);
  assertEquals(dev.intxLevel, false);
  // MSI-X: the table lies in the second BAR.
  for (const [at, value] of [[0, 0xfee00000], [8, 0x51], [12, 0]] as const) window.write(0x2000 + 16 + at, 4, value);
  host.ecam.write((8 << 12) | 0x42, 2, 0x8000);
  io(NVM.READ, 0, 1);
  assertEquals([messages, dev.intxLevel], [[0x51], false]);
});
