import { assertEquals } from "@std/assert";
import { ATA } from "./ahci_ata.ts";
import { ahciFixture, DATA, SECTORS } from "./ahci_fixture.ts";
import { ASC, CDB, SENSE } from "./atapi.ts";

const GOOD = 0;

/** A drive whose power-on unit attention has been seen. */
function drive() {
  const fixture = ahciFixture();
  fixture.start(1);
  const { ram, run, port, start } = fixture;
  /** Runs a packet; GOOD, or the sense key and the additional sense code as the drive then tells. */
  const packet = (cdb: readonly number[], room = 4096): number => {
    const { status } = run(1, { command: ATA.PACKET, features: 1 }, [[DATA, room]], { packet: [...cdb] });
    if (!(status & 1)) return GOOD;
    port(1, "PxCMD", 0);
    start(1);
    const sense = [CDB.REQUEST_SENSE, 0, 0, 0, 18];
    run(1, { command: ATA.PACKET }, [[DATA + 0x8000, 18]], { packet: sense });
    const bytes = ram.bytes(DATA + 0x8000, 18)!;
    return (bytes[2]! << 16) | (bytes[12]! << 8) | bytes[13]!;
  };
  const first = packet([CDB.TEST_UNIT_READY]);
  const bytes = (n: number, from = 0) => [...ram.bytes(DATA + from, n)!];
  const long = (at: number) => bytes(4, at).reduce((n, byte) => n * 256 + byte, 0);
  return { ...fixture, packet, first, bytes, long };
}

const failure = (key: number, asc: number) => (key << 16) | asc;

Deno.test("the first command after power-on finds a unit attention, INQUIRY does not", () => {
  const { first, packet, bytes } = drive();
  assertEquals(first, failure(SENSE.UNIT_ATTENTION, ASC.RESET));
  assertEquals(packet([CDB.TEST_UNIT_READY]), GOOD);
  assertEquals(packet([CDB.INQUIRY, 0, 0, 0, 36]), GOOD);
  assertEquals(bytes(5), [5, 0x80, 0, 0x21, 31]);
  assertEquals(String.fromCharCode(...bytes(6, 16)), "CD-ROM");
});

Deno.test("IDENTIFY PACKET DEVICE says what IDENTIFY DEVICE only hints at by its signature", () => {
  const { ram, run, port, bytes } = drive();
  assertEquals(run(1, { command: ATA.IDENTIFY_PACKET }, [[DATA, 512]]).status, 0x50);
  assertEquals(bytes(2), [0xc0, 0x85]);
  assertEquals(run(1, { command: ATA.IDENTIFY }, [[DATA, 512]]), { status: 0x51, error: 4 });
  assertEquals([ram.read(0x2100 + 0x45, 2), port(1, "PxCI")], [0xeb14, 1]);
});

Deno.test("sectors of 2048 bytes are read by READ(10) and READ(12), and counted by READ CAPACITY", () => {
  const { packet, bytes, long, disks } = drive();
  assertEquals(packet([CDB.READ_CAPACITY]), GOOD);
  assertEquals([long(0), long(4)], [SECTORS / 4 - 1, 2048]);
  assertEquals(packet([CDB.READ_10, 0, 0, 0, 1, 2, 0, 0, 2]), GOOD);
  assertEquals(bytes(4096), [...disks[1]!.bytes.slice(0x102 * 2048, 0x102 * 2048 + 4096)]);
  assertEquals(packet([CDB.READ_12, 0, 0, 0, 0, 3, 0, 0, 0, 1]), GOOD);
  assertEquals(bytes(2048), [...disks[1]!.bytes.slice(3 * 2048, 4 * 2048)]);
  assertEquals(packet([CDB.READ_10, 0, 0, 0, 4, 0, 0, 0, 1]), failure(SENSE.ILLEGAL_REQUEST, ASC.LBA_OUT_OF_RANGE));
  disks[1]!.failing = true;
  assertEquals(packet([CDB.READ_10, 0, 0, 0, 0, 0, 0, 0, 1]), failure(SENSE.MEDIUM_ERROR, ASC.UNRECOVERED_READ));
});

Deno.test("READ TOC: one track of data, and where the disc ends, in blocks or in minutes", () => {
  const { packet, bytes } = drive();
  assertEquals(packet([CDB.READ_TOC, 0, 0, 0, 0, 0, 0, 0, 100]), GOOD);
  assertEquals(bytes(20), [0, 18, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0, 0, 0x14, 0xaa, 0, 0, 0, SECTORS / 4 >> 8, 0]);
  assertEquals(packet([CDB.READ_TOC, 2, 0, 0, 0, 0, 0xaa, 0, 100]), GOOD);
  // 1024 sectors after the two seconds before the first.
  assertEquals(bytes(12), [0, 10, 1, 1, 0, 0x14, 0xaa, 0, 0, 0, 15, 49]);
  assertEquals(packet([CDB.READ_TOC, 0, 1, 0, 0, 0, 0, 0, 100]), GOOD);
  assertEquals(bytes(12), [0, 10, 1, 1, 0, 0x14, 1, 0, 0, 0, 0, 0]);
  assertEquals(packet([CDB.READ_TOC, 0, 5, 0, 0, 0, 0, 0, 100]), failure(SENSE.ILLEGAL_REQUEST, ASC.INVALID_FIELD));
});

Deno.test("the tray opens unless it is locked, and a new disc is told of by event and by unit attention", () => {
  const { packet, bytes, dev } = drive();
  const event = [CDB.GET_EVENT_STATUS, 1, 0, 0, 0x10, 0, 0, 0, 8];
  assertEquals([packet(event), bytes(8)], [GOOD, [0, 6, 4, 0x10, 0, 2, 0, 0]]);
  assertEquals(packet([CDB.PREVENT_ALLOW, 0, 0, 0, 1]), GOOD);
  assertEquals(packet([CDB.START_STOP_UNIT, 0, 0, 0, 2]), failure(SENSE.ILLEGAL_REQUEST, ASC.REMOVAL_PREVENTED));
  packet([CDB.PREVENT_ALLOW, 0, 0, 0, 0]);
  assertEquals(packet([CDB.START_STOP_UNIT, 0, 0, 0, 2]), GOOD);
  assertEquals(packet([CDB.TEST_UNIT_READY]), failure(SENSE.NOT_READY, ASC.NO_MEDIUM_TRAY_OPEN));
  assertEquals([packet(event), bytes(8)], [GOOD, [0, 6, 4, 0x10, 3, 1, 0, 0]]);
  assertEquals([packet(event), bytes(8)], [GOOD, [0, 6, 4, 0x10, 0, 1, 0, 0]]);
  dev.ports[1]!.drive!.changeMedium(400);
  assertEquals([packet(event), bytes(8)], [GOOD, [0, 6, 4, 0x10, 2, 2, 0, 0]]);
  assertEquals(packet([CDB.TEST_UNIT_READY]), failure(SENSE.UNIT_ATTENTION, ASC.MEDIUM_CHANGED));
  assertEquals([packet([CDB.READ_CAPACITY]), bytes(4)], [GOOD, [0, 0, 0, 99]]);
  dev.ports[1]!.drive!.changeMedium(0);
  assertEquals(packet([CDB.READ_CAPACITY]), failure(SENSE.NOT_READY, ASC.NO_MEDIUM_TRAY_CLOSED));
});

Deno.test("MODE SENSE and GET CONFIGURATION: the pages and features there are, cut to the room given", () => {
  const { packet, bytes } = drive();
  assertEquals(packet([CDB.MODE_SENSE_10, 0, 0x2a, 0, 0, 0, 0, 0, 100]), GOOD);
  assertEquals(bytes(10), [0, 28, 1, 0, 0, 0, 0, 0, 0x2a, 20]);
  assertEquals(packet([CDB.MODE_SENSE_10, 0, 0x3f, 0, 0, 0, 0, 0, 8]), GOOD);
  assertEquals(
    packet([CDB.MODE_SENSE_10, 0, 0x05, 0, 0, 0, 0, 0, 100]),
    failure(SENSE.ILLEGAL_REQUEST, ASC.INVALID_FIELD),
  );
  assertEquals(
    packet([CDB.MODE_SENSE_10, 0, 0xea, 0, 0, 0, 0, 0, 100]),
    failure(SENSE.ILLEGAL_REQUEST, ASC.SAVING_NOT_SUPPORTED),
  );
  assertEquals(packet([CDB.GET_CONFIGURATION, 2, 0, 0x10, 0, 0, 0, 0, 100]), GOOD);
  assertEquals(bytes(20), [0, 0, 0, 16, 0, 0, 0, 8, 0, 0x10, 1, 8, 0, 0, 8, 0, 0, 1, 1, 0]);
  assertEquals(packet([0x2a, 0, 0, 0, 0, 0, 0, 0, 1]), failure(SENSE.ILLEGAL_REQUEST, ASC.INVALID_OPCODE), "WRITE(10)");
});
