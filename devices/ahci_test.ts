import { assertEquals } from "@std/assert";
import { ATA } from "./ahci_ata.ts";
import { ahciFixture, DATA, SECTORS } from "./ahci_fixture.ts";
import { CAP, GHC, PxCMD, PxIS, PxSERR, RECEIVED } from "./ahci_registers.ts";

const OK = { status: 0x50, error: 0 };
const ABORTED = { status: 0x51, error: 0x04 };

Deno.test("the controller is an ICH9 in AHCI mode, with six ports of 32 slots [ahci §3.1]", () => {
  const { host, hba } = ahciFixture();
  const config = (at: number, size: number) => host.ecam.read((8 << 12) | at, size);
  assertEquals([config(0, 4), config(8, 4) >>> 8], [0x29228086, 0x010601]);
  assertEquals(hba("CAP"), CAP);
  assertEquals([hba("CAP") & 0x1f, (hba("CAP") >> 8) & 0x1f, hba("PI"), hba("VS")], [5, 31, 0x3f, 0x10300]);
  assertEquals(hba("GHC"), 0x80000000, "AHCI only: AE is always set");
});

Deno.test("a device that is there shows its signature, an empty port shows none [ahci §3.3.9]", () => {
  const { port } = ahciFixture();
  assertEquals([0, 1, 2].map((n) => port(n, "PxSIG")), [0x101, 0xeb140101, 0xffffffff]);
  assertEquals([0, 1, 2].map((n) => port(n, "PxSSTS") & 0xf), [3, 3, 0]);
  assertEquals([0, 1, 2].map((n) => port(n, "PxTFD") & 0xff), [0x50, 0, 0x7f]);
  assertEquals(port(0, "PxSERR"), PxSERR.DIAG_X | PxSERR.DIAG_N);
  assertEquals(port(0, "PxIS"), PxIS.PCS | PxIS.PRCS, "they mirror PxSERR");
  assertEquals([port(0, "PxSERR", 0xffffffff), port(0, "PxIS")], [0, 0]);
});

Deno.test("IDENTIFY DEVICE: size, names, a sum of zero, and a PIO Setup FIS", () => {
  const { ram, port, start, run, fisesOf, listOf } = ahciFixture();
  start(0);
  assertEquals(run(0, { command: ATA.IDENTIFY }, [[DATA, 512]]), OK);
  const bytes = ram.bytes(DATA, 512)!, view = new DataView(bytes.buffer, bytes.byteOffset, 512);
  const word = (n: number) => view.getUint16(2 * n, true);
  assertEquals([view.getUint32(120, true), view.getUint32(200, true), view.getUint32(204, true)], [
    SECTORS,
    SECTORS,
    0,
  ]);
  assertEquals(String.fromCharCode(bytes[21]!, bytes[20]!, bytes[23]!), "S-1");
  assertEquals(bytes.reduce((sum, byte) => sum + byte, 0) & 0xff, 0);
  assertEquals([word(75), word(76) >> 8 & 1, word(83) >> 10 & 1, word(169)], [31, 1, 1, 1]);
  assertEquals([ram.read(fisesOf(0) + RECEIVED.PSFIS, 1), ram.read(fisesOf(0) + RECEIVED.PSFIS + 16, 2)], [0x5f, 512]);
  assertEquals([ram.read(listOf(0) + 4, 4), port(0, "PxCI"), port(0, "PxIS")], [512, 0, PxIS.PSS]);
});

Deno.test("data goes to and from pieces of any even length", () => {
  const { ram, disks, start, run } = ahciFixture();
  start(0);
  assertEquals(
    run(0, { command: ATA.READ_DMA_EXT, lba: 100, count: 4 }, [[DATA, 700], [DATA + 0x1000, 324], [
      DATA + 0x2000,
      1024,
    ]]),
    OK,
  );
  const want = disks[0]!.bytes.slice(51200, 51200 + 2048);
  const got = [[DATA, 700], [DATA + 0x1000, 324], [DATA + 0x2000, 1024]].flatMap(([at, n]) => [...ram.bytes(at!, n!)!]);
  assertEquals(got, [...want]);
  ram.bytes(DATA, 1024)!.fill(0x77);
  assertEquals(
    run(0, { command: ATA.WRITE_DMA_EXT, lba: 7, count: 2 }, [[DATA, 2], [DATA + 2, 1022]], { write: true }),
    OK,
  );
  assertEquals(disks[0]!.bytes.slice(7 * 512, 9 * 512).every((byte) => byte === 0x77), true);
  // 28-bit addresses have their top in Device, and a count of 0 means 256.
  disks[0]!.log.length = 0;
  assertEquals(run(0, { command: ATA.READ_DMA, lba: 1, count: 0 }, [[DATA, 131072]]), OK);
  assertEquals(disks[0]!.log, ["read 1+256"]);
});

Deno.test("queued commands are over by a Set Device Bits FIS, in any number at once [ahci §5.6.4]", () => {
  const { ram, port, start, prepare, serve, fisesOf, disks } = ahciFixture();
  start(0);
  for (let slot = 0; slot < 32; slot++) {
    prepare(0, slot, { command: ATA.READ_FPDMA_QUEUED, lba: 10 * (slot % 16), features: 1, count: slot << 3 }, [[
      DATA + 512 * slot,
      512,
    ]]);
  }
  port(0, "PxSACT", 0xffffffff);
  port(0, "PxCI", 0xffffffff);
  serve();
  assertEquals([port(0, "PxSACT"), port(0, "PxCI"), port(0, "PxIS")], [0, 0, PxIS.SDBS]);
  assertEquals(ram.read(fisesOf(0) + RECEIVED.SDBFIS, 1), 0xa1);
  assertEquals(ram.bytes(DATA + 512 * 5, 512)!.slice(), disks[0]!.bytes.slice(50 * 512, 51 * 512));
  assertEquals(disks[0]!.log.length, 32);
});

Deno.test("FLUSH CACHE reaches the disk; FUA and a write cache that is off do so with each write", () => {
  const { disks, start, run } = ahciFixture();
  start(0);
  const write = (command: number) => run(0, { command, lba: 1, count: 1 }, [[DATA, 512]], { write: true });
  assertEquals(run(0, { command: ATA.FLUSH_CACHE_EXT }), OK);
  write(ATA.WRITE_DMA_EXT);
  write(ATA.WRITE_DMA_FUA_EXT);
  run(0, { command: ATA.SET_FEATURES, features: 0x82 });
  write(ATA.WRITE_DMA_EXT);
  assertEquals(disks[0]!.log, ["flush", "write 1+1", "write 1+1", "flush", "write 1+1", "flush"]);
  disks[0]!.failing = true;
  assertEquals(run(0, { command: ATA.FLUSH_CACHE }), ABORTED);
});

Deno.test("an error stops the list until it is stopped and started again [ahci §6.2.2]", () => {
  const { port, start, run, prepare, serve, disks } = ahciFixture();
  start(0);
  assertEquals(run(0, { command: ATA.READ_DMA_EXT, lba: SECTORS, count: 1 }, [[DATA, 512]]), {
    status: 0x51,
    error: 0x10,
  });
  assertEquals([port(0, "PxIS") & PxIS.TFES, port(0, "PxCI")], [PxIS.TFES, 1]);
  prepare(0, 3, { command: ATA.READ_DMA_EXT, count: 1 }, [[DATA, 512]]);
  port(0, "PxCI", 1 << 3);
  serve();
  assertEquals([disks[0]!.log, port(0, "PxCI")], [[], 9]);
  port(0, "PxCMD", PxCMD.FRE);
  assertEquals([port(0, "PxCI"), port(0, "PxCMD") & (PxCMD.CR | PxCMD.ST)], [0, 0]);
  start(0);
  assertEquals(run(0, { command: ATA.READ_DMA_EXT, count: 1 }, [[DATA, 512]]), OK);
});

Deno.test("the queued command that failed stands in log page 10h [acs §9.12]", () => {
  const { ram, port, start, prepare, serve, run, disks } = ahciFixture();
  start(0);
  disks[0]!.failing = true;
  prepare(0, 5, { command: ATA.READ_FPDMA_QUEUED, lba: 77, features: 1, count: 5 << 3 }, [[DATA, 512]]);
  port(0, "PxSACT", 1 << 5);
  port(0, "PxCI", 1 << 5);
  serve();
  assertEquals([port(0, "PxTFD"), port(0, "PxSACT"), port(0, "PxIS") & PxIS.TFES], [0x4051, 1 << 5, PxIS.TFES]);
  disks[0]!.failing = false;
  port(0, "PxCMD", PxCMD.FRE);
  start(0);
  assertEquals(run(0, { command: ATA.READ_LOG_EXT, lba: 0x10, count: 1 }, [[DATA, 512]]), OK);
  const log = ram.bytes(DATA, 512)!;
  assertEquals([log[0], log[2], log[3], log[4]], [5, 0x51, 0x40, 77]);
  assertEquals(log.reduce((sum, byte) => sum + byte, 0) & 0xff, 0);
});

Deno.test("DATA SET MANAGEMENT gives up all of its ranges, or none", () => {
  const { ram, disks, start, run } = ahciFixture();
  start(0);
  const range = (n: number, lba: number, sectors: number) => {
    ram.write(DATA + 8 * n, 4, lba);
    ram.write(DATA + 8 * n + 4, 4, sectors << 16);
  };
  ram.bytes(DATA, 512)!.fill(0);
  range(0, 10, 5);
  range(2, 100, 1);
  const trim = () =>
    run(0, { command: ATA.DATA_SET_MANAGEMENT, features: 1, count: 1 }, [[DATA, 512]], { write: true });
  assertEquals(trim(), OK);
  range(63, SECTORS - 1, 2);
  assertEquals(trim(), { status: 0x51, error: 0x10 });
  assertEquals(disks[0]!.log, ["discard 10+5", "discard 100+1"]);
});

Deno.test("SMART: enabled, healthy, and only with its key", () => {
  const { ram, port, fisesOf, start, run } = ahciFixture();
  start(0);
  const smart = (features: number, lba = 0xc24f00) => run(0, { command: ATA.SMART, features, lba }, [[DATA, 512]]);
  assertEquals(smart(0xda), OK);
  assertEquals(ram.read(fisesOf(0) + RECEIVED.RFIS + 5, 2), 0xc24f, "no threshold is exceeded");
  assertEquals(smart(0xd0), OK);
  assertEquals(ram.bytes(DATA, 512)!.reduce((sum, byte) => sum + byte, 0) & 0xff, 0);
  assertEquals(smart(0xd9), OK);
  assertEquals(smart(0xda), ABORTED);
  port(0, "PxCMD", 0);
  start(0);
  assertEquals(smart(0xd8), OK);
  assertEquals(smart(0xda, 0), ABORTED);
});

Deno.test("tables that are not memory, and what is not a command, are fatal and touch nothing [ahci §6.1.1]", () => {
  for (
    const spoil of [
      ({ ram, listOf }: ReturnType<typeof ahciFixture>) => ram.write(listOf(0) + 8, 4, 0xfffff000),
      ({ ram, tableOf }: ReturnType<typeof ahciFixture>) => ram.write64(tableOf(0, 0) + 0x80, 0x1234_0000_0000),
      ({ ram, tableOf }: ReturnType<typeof ahciFixture>) => ram.write(tableOf(0, 0), 1, 0x34),
      ({ ram, listOf }: ReturnType<typeof ahciFixture>) => ram.write(listOf(0) + 2, 2, 0xffff),
    ]
  ) {
    const fixture = ahciFixture();
    fixture.start(0);
    fixture.prepare(0, 0, { command: ATA.WRITE_DMA_EXT, count: 1 }, [[DATA, 512]]);
    spoil(fixture);
    fixture.port(0, "PxCI", 1);
    fixture.serve();
    assertEquals([fixture.port(0, "PxIS") & PxIS.HBFS, fixture.port(0, "PxCI"), fixture.disks[0]!.log], [
      PxIS.HBFS,
      1,
      [],
    ]);
  }
});

Deno.test("room for less than a command needs is an overflow", () => {
  const { port, start, run, disks } = ahciFixture();
  start(0);
  assertEquals(run(0, { command: ATA.READ_DMA_EXT, count: 2 }, [[DATA, 512]]), ABORTED);
  assertEquals([port(0, "PxIS") & PxIS.OFS, disks[0]!.log], [PxIS.OFS, []]);
});

Deno.test("stopping the list while a command is under way: it is not told, and CR stays until it is over", () => {
  const { port, start, prepare, rung, dev, disks } = ahciFixture();
  start(0);
  prepare(0, 0, { command: ATA.READ_DMA_EXT, count: 1 }, [[DATA, 512]]);
  port(0, "PxCI", 1);
  assertEquals(rung, [0]);
  const read = disks[0]!.read.bind(disks[0]);
  let during: number[] = [];
  disks[0]!.read = (offset, into) => {
    port(0, "PxCMD", PxCMD.FRE);
    during = [port(0, "PxCMD") & PxCMD.CR, port(0, "PxCI")];
    return read(offset, into);
  };
  assertEquals(dev.processPort(0, disks[0]!), false);
  assertEquals(during, [PxCMD.CR, 0]);
  assertEquals([port(0, "PxCMD") & PxCMD.CR, port(0, "PxIS") & PxIS.DHRS], [0, 0]);
});

Deno.test("a soft reset gives the signature by a D2H FIS, a COMRESET a new link [ahci §10.4]", () => {
  const { ram, port, start, run, fisesOf } = ahciFixture();
  start(1);
  ram.bytes(fisesOf(1), 256)!.fill(0);
  run(1, { command: 0, control: 4 });
  assertEquals(ram.read(fisesOf(1) + RECEIVED.RFIS, 1), 0);
  run(1, { command: 0, control: 0 });
  assertEquals(ram.read(fisesOf(1) + RECEIVED.RFIS, 1), 0x34);
  assertEquals([ram.read(fisesOf(1) + RECEIVED.RFIS + 5, 2), port(1, "PxSIG"), port(1, "PxCI")], [
    0xeb14,
    0xeb140101,
    0,
  ]);
  port(1, "PxCMD", 0);
  port(1, "PxSCTL", 0x301);
  assertEquals([port(1, "PxSSTS"), port(1, "PxSIG")], [0, 0xffffffff]);
  port(1, "PxSCTL", 0x300);
  assertEquals([port(1, "PxSSTS") & 0xf, port(1, "PxSIG"), port(1, "PxSERR") >>> 0], [
    3,
    0xeb140101,
    PxSERR.DIAG_X | PxSERR.DIAG_N,
  ]);
});

Deno.test("interrupts: the pin follows IS, a message comes for each port that newly has one [ahci §10.7]", () => {
  const { dev, hba, port, start, run, config, messages } = ahciFixture();
  start(0);
  run(0, { command: ATA.FLUSH_CACHE });
  assertEquals([hba("IS"), dev.intxLevel], [1, false]);
  hba("GHC", GHC.IE);
  assertEquals(dev.intxLevel, true);
  port(0, "PxIS", 0xffffffff);
  assertEquals([hba("IS"), dev.intxLevel], [1, true]);
  assertEquals([hba("IS", 1), dev.intxLevel], [0, false]);
  const at = 0x40; // the first capability
  config(at + 4, 4, 0xfee00000);
  config(at + 12, 2, 0x41);
  config(at + 2, 2, 1);
  run(0, { command: ATA.FLUSH_CACHE });
  assertEquals([messages, dev.intxLevel], [[0x41], false]);
  run(0, { command: ATA.FLUSH_CACHE });
  assertEquals(messages, [0x41], "the bit in IS has not been cleared");
  hba("IS", 1);
  assertEquals(messages, [0x41, 0x41], "PxIS is still set");
  port(0, "PxIS", 0xffffffff);
  hba("IS", 1);
  run(0, { command: ATA.FLUSH_CACHE });
  assertEquals(messages.length, 3);
});

Deno.test("an HBA reset leaves the driver's addresses and clears the rest", () => {
  const { hba, port, start, run } = ahciFixture();
  start(0);
  hba("GHC", GHC.IE);
  run(0, { command: ATA.FLUSH_CACHE });
  hba("GHC", GHC.HR);
  assertEquals([hba("GHC"), hba("IS"), port(0, "PxIE"), port(0, "PxCMD") & 0x11], [0x80000000, 0, 0, 0]);
  assertEquals([port(0, "PxCLB"), port(0, "PxSIG")], [0x1000, 0x101]);
});

Deno.test("without bus mastering nothing is read from memory", () => {
  const { config, start, run, disks, port, serve } = ahciFixture();
  start(0);
  config(4, 2, 2);
  run(0, { command: ATA.READ_DMA_EXT, count: 1 }, [[DATA, 512]]);
  assertEquals([disks[0]!.log, port(0, "PxCI")], [[], 1]);
  config(4, 2, 6);
  serve();
  assertEquals([disks[0]!.log.length, port(0, "PxCI")], [1, 0]);
});

Deno.test("queued reads that wait are told to a slow medium before the first is served, each once", () => {
  const { disks, port, start, prepare, serve } = ahciFixture();
  start(0);
  const disk = disks[0]!;
  disk.waits = true;
  const commands = [ATA.READ_FPDMA_QUEUED, ATA.WRITE_FPDMA_QUEUED, ATA.READ_FPDMA_QUEUED, ATA.READ_FPDMA_QUEUED];
  commands.forEach((command, slot) => {
    const write = command === ATA.WRITE_FPDMA_QUEUED;
    prepare(0, slot, { command, lba: 10 * slot, features: 2, count: slot << 3 }, [[DATA + 0x1000 * slot, 1024]], {
      write,
    });
  });
  port(0, "PxSACT", 0xf);
  port(0, "PxCI", 0xf);
  serve();
  const served = disk.log.filter((line) => !line.startsWith("ahead"));
  assertEquals(served.toSorted(), ["read 0+2", "read 20+2", "read 30+2", "write 10+2"]);
  assertEquals(disk.log.slice(0, 3).toSorted(), ["ahead 0+2", "ahead 20+2", "ahead 30+2"]);
  assertEquals(disk.log.length, 7);
  assertEquals([port(0, "PxCI"), port(0, "PxSACT")], [0, 0]);
});
