import { assert, assertEquals } from "@std/assert";
import { Arena } from "../src/base/arena.ts";
import { GuestRam } from "../src/base/ram.ts";
import { TestTime, Timers } from "../src/base/timers.ts";
import { E1000Card } from "./e1000.ts";
import { crc32 } from "./e1000_receive.ts";
import { CAUSE, CTRL, E1000, E1000_ARRAY, type E1000Register, EECD, RCTL, STATISTIC } from "./e1000_registers.ts";
import { sum16 } from "./internet_checksum.ts";
import type { FrameOffload } from "./virtio/net_header.ts";

const MAC = Uint8Array.of(0x02, 0x11, 0x22, 0x33, 0x44, 0x55);
const TX = 0x1000, RX = 0x2000, BUFFERS = 0x8000, ENTRIES = 16;
const DD = 1, EOP = 2;

function card(offload = false) {
  const arena = Arena.private(1 << 16), ram = GuestRam.private(1 << 18);
  const timers = new Timers(arena), time = new TestTime(timers);
  const messages: number[] = [], heard: string[] = [];
  const dev: E1000Card = new E1000Card(arena, "net", {
    ram,
    msi: { send: (_lo, _hi, data) => messages.push(data) },
    clock: time,
    timer: timers.timer("net", () => dev.settle()),
    notify: (what) => heard.push(what),
    onReset: () => heard.push("reset"),
  }, { mac: MAC, offload });
  arena.powerOn();
  dev.writeConfig(4, 2, 7);
  const read = (name: E1000Register) => dev.barRead(0, E1000[name].at, 4);
  const write = (name: E1000Register, value: number) => dev.barWrite(0, E1000[name].at, 4, value >>> 0);
  const sent: { frame: Uint8Array; offload: FrameOffload }[] = [];
  const transmit = () => dev.transmit(0, (frame, o) => sent.push({ frame: frame.slice(), offload: { ...o } }));
  const start = (rctl: number = RCTL.EN | RCTL.BAM | RCTL.SECRC) => {
    write("TDBAL", TX);
    write("TDLEN", 16 * ENTRIES);
    write("RDBAL", RX);
    write("RDLEN", 16 * ENTRIES);
    for (let i = 0; i < ENTRIES; i++) ram.write64(RX + 16 * i, BUFFERS + 0x1000 * i);
    write("RDT", ENTRIES - 1);
    write("TCTL", 2);
    write("RCTL", rctl);
    write("CTRL", CTRL.SLU | 0x201);
  };
  /** Writes a descriptor at the tail; `words` are its upper half. */
  const describe = (gpa: number, low: number, high: number) => {
    const tail = read("TDT"), at = TX + 16 * tail;
    ram.write64(at, gpa);
    ram.write(at + 8, 4, low >>> 0);
    ram.write(at + 12, 4, high >>> 0);
    write("TDT", (tail + 1) % ENTRIES);
  };
  return { dev, ram, time, messages, heard, read, write, sent, transmit, start, describe };
}

/** Reads a word of the EEPROM bit by bit, as [at93c46] draws it. */
function microwire(c: ReturnType<typeof card>, address: number, words = 1): number[] {
  const set = (bits: number) => c.write("EECD", EECD.EE_REQ | bits);
  const clock = (di: number) => {
    set(EECD.CS | di);
    set(EECD.CS | di | EECD.SK);
    const level = c.read("EECD") & EECD.DO ? 1 : 0;
    set(EECD.CS | di);
    return level;
  };
  set(EECD.CS);
  const command = 0b110 << 6 | address;
  for (let bit = 8; bit >= 0; bit--) clock((command >> bit) & 1 ? EECD.DI : 0);
  assertEquals(c.read("EECD") & EECD.DO, 0, "a zero goes before the data");
  const out = Array.from({ length: words }, () => {
    let word = 0;
    for (let i = 0; i < 16; i++) word = (word << 1) | clock(0);
    return word;
  });
  set(0);
  return out;
}

Deno.test("EEPROM: the address, and words that sum to BABAh; by its bus and by EERD alike", () => {
  const c = card();
  c.write("EECD", EECD.EE_REQ);
  assert(c.read("EECD") & EECD.EE_GNT);
  assertEquals(microwire(c, 0, 3), [0x1102, 0x3322, 0x5544]);
  let sum = 0;
  for (let i = 0; i < 64; i++) {
    const [word] = microwire(c, i);
    c.write("EERD", (i << 8) | 1);
    assertEquals(c.read("EERD"), ((word! << 16) | (i << 8) | 0x10) >>> 0);
    sum = (sum + word!) & 0xffff;
  }
  assertEquals(sum, 0xbaba);
  assertEquals(microwire(c, 0x0d), [0x100f]);
});

Deno.test("PHY: identifiers, link and negotiation by MDIC; other addresses are errors; MDAC tells", () => {
  const c = card();
  const mdio = (op: number, phy: number, reg: number, data = 0) => {
    c.write("MDIC", ((op << 26) | (phy << 21) | (reg << 16) | data) >>> 0);
    return c.read("MDIC");
  };
  assertEquals([mdio(2, 1, 2) & 0xffff, mdio(2, 1, 3) & 0xfff0], [0x0141, 0x0c20]);
  assertEquals(mdio(2, 1, 1) & 0x24, 0x24);
  assert(mdio(2, 1, 1) & (1 << 28));
  assert(mdio(2, 2, 1) & (1 << 30));
  mdio(1, 1, 4, 0x01e1);
  assertEquals(mdio(2, 1, 4) & 0xffff, 0x01e1);
  mdio(1, 1, 0, 0x9140);
  assertEquals([mdio(2, 1, 0) & 0xffff, mdio(2, 1, 4) & 0xffff], [0x1140, 0x0de1]);
  c.dev.setLink(false);
  assertEquals(mdio(2, 1, 1) & 0x24, 0);
  c.read("ICR");
  c.write("MDIC", (2 << 26) | (1 << 21) | (1 << 16) | (1 << 29));
  assertEquals(c.read("ICR"), CAUSE.MDAC);
});

Deno.test("STATUS.LU needs CTRL.SLU and a cable; LSC tells of each change", () => {
  const c = card();
  assertEquals(c.read("STATUS") & 2, 0);
  c.write("CTRL", CTRL.SLU);
  assertEquals([c.read("STATUS") & 2, c.read("ICR")], [2, CAUSE.LSC]);
  c.dev.setLink(false);
  assertEquals([c.read("STATUS") & 2, c.read("ICR"), c.read("ICR")], [0, CAUSE.LSC, 0]);
});

Deno.test("a legacy frame in two pieces: sent once EOP is there, reported by DD where RS asks, TXDW and TXQE", () => {
  const c = card();
  c.start();
  c.read("ICR");
  const bytes = Uint8Array.from({ length: 100 }, (_, i) => i);
  c.ram.copyIn(BUFFERS, bytes);
  c.describe(BUFFERS, 40, 0);
  assertEquals([c.transmit(), c.sent.length, c.read("TDH")], [false, 0, 0]);
  c.describe(BUFFERS + 40, 60 | 0x0b00_0000, 0); // RS, IFCS, EOP
  c.transmit();
  assertEquals(c.sent.map(({ frame }) => frame), [bytes]);
  assertEquals([c.read("TDH"), c.ram.read(TX + 12, 1), c.ram.read(TX + 28, 1)], [2, 0, DD]);
  assertEquals(c.read("ICR"), CAUSE.TXDW | CAUSE.TXQE);
  assertEquals(c.dev.readAt(STATISTIC.GPTC), 1);
  assertEquals([c.dev.readAt(STATISTIC.GOTC), c.dev.readAt(STATISTIC.GOTC + 4), c.dev.readAt(STATISTIC.GOTC)], [
    104,
    0,
    0,
  ]);
});

/** Ethernet, IPv4 and TCP headers as a driver leaves them for segmentation, then data. */
function tcpFrame(dataBytes: number, lengthInSum: boolean) {
  const bytes = new Uint8Array(54 + dataBytes);
  bytes.set([
    0x52,
    0x55,
    10,
    0,
    2,
    2,
    ...MAC,
    8,
    0,
    0x45,
    0,
    0,
    0,
    0x12,
    0xff,
    0x40,
    0,
    64,
    6,
    0,
    0,
    10,
    0,
    2,
    15,
    10,
    0,
    2,
    2,
  ]);
  bytes.set([0x80, 0, 0, 80, 0xff, 0xff, 0xff, 0x00, 0, 0, 0, 1, 0x50, 0x19, 0xff, 0xff], 34); // FIN, PSH and ACK
  if (lengthInSum) bytes[17] = 40 + dataBytes;
  for (let i = 0; i < dataBytes; i++) bytes[54 + i] = i * 7;
  const pseudo = sum16(bytes, 26, 34, 6 + (lengthInSum ? 20 + dataBytes : 0));
  bytes[50] = pseudo >> 8;
  bytes[51] = pseudo;
  return bytes;
}
const CONTEXT = [14 | (24 << 8) | (33 << 16), 34 | (50 << 8)] as const;

function sendTcp(c: ReturnType<typeof card>, bytes: Uint8Array, mss: number): void {
  c.start();
  c.ram.copyIn(BUFFERS, bytes);
  const tse = mss > 0 ? 4 : 0;
  const at = TX + 16 * c.read("TDT");
  c.describe(0, ((bytes.length - 54) | ((0x23 | tse) << 24)) >>> 0, (54 << 8) | (mss << 16));
  c.ram.write(at, 4, CONTEXT[0]);
  c.ram.write(at + 4, 4, CONTEXT[1]);
  c.describe(BUFFERS, (bytes.length | (1 << 20) | ((0x2b | tse) << 24)) >>> 0, 0x300); // IXSM, TXSM
  while (c.transmit());
}

Deno.test("segmentation: lengths, identification, sequence numbers, flags and both checksums of each segment", () => {
  const c = card(), bytes = tcpFrame(2500, false);
  sendTcp(c, bytes, 1000);
  assertEquals(c.sent.map(({ frame }) => frame.length - 54), [1000, 1000, 500]);
  for (const [i, { frame, offload }] of c.sent.entries()) {
    assertEquals(offload.csumStart, -1);
    assertEquals((frame[16]! << 8) | frame[17]!, frame.length - 14);
    assertEquals((frame[18]! << 8) | frame[19]!, (0x12ff + i) & 0xffff);
    assertEquals(new DataView(frame.buffer).getUint32(38), (0xffff_ff00 + 1000 * i) >>> 0);
    assertEquals(frame[47], i === 2 ? 0x19 : 0x10);
    assertEquals(sum16(frame, 14, 34), 0xffff, "IP");
    assertEquals(sum16(frame, 34, frame.length, sum16(frame, 26, 34, 6 + frame.length - 34)), 0xffff, "TCP");
    assertEquals(frame.subarray(54), bytes.subarray(54 + 1000 * i, 54 + Math.min(2500, 1000 * (i + 1))));
  }
  assertEquals(c.dev.readAt(STATISTIC.TSCTC), 1);
});

Deno.test("segmentation left to the back end: one large packet, its lengths and pseudo-header whole", () => {
  const c = card(true);
  sendTcp(c, tcpFrame(2500, false), 1000);
  const { frame, offload } = c.sent[0]!;
  assertEquals(offload, { csumStart: 34, csumOffset: 16, gsoSize: 1000, gsoType: 1, headerBytes: 54 });
  assertEquals([(frame[16]! << 8) | frame[17]!, sum16(frame, 14, 34)], [2540, 0xffff]);
  assertEquals((frame[50]! << 8) | frame[51]!, sum16(frame, 26, 34, 6 + 2520));
});

Deno.test("checksums are inserted without segmentation, too; contexts that make no sense send nothing, or harm nothing", () => {
  const c = card();
  sendTcp(c, tcpFrame(100, true), 0);
  const { frame } = c.sent[0]!;
  assertEquals(sum16(frame, 34, frame.length, sum16(frame, 26, 34, 6 + 120)), 0xffff);
  const odd = card();
  sendTcp(odd, tcpFrame(100, true), 1);
  assertEquals([odd.sent.length, odd.read("TDH")], [0, 2]);
});

Deno.test("a VLAN tag goes into the frame where VLE and CTRL.VME say so, and out of one that comes", () => {
  const c = card();
  c.start();
  c.write("CTRL", CTRL.SLU | CTRL.VME);
  c.write("VET", 0x8100);
  c.describe(BUFFERS, 60 | 0x4b00_0000, 0x0123_0000);
  c.transmit();
  assertEquals(c.sent[0]!.frame.subarray(12, 16), Uint8Array.of(0x81, 0, 1, 0x23));
  const frame = new Uint8Array(80);
  frame.set([...MAC, 1, 2, 3, 4, 5, 6, 0x81, 0, 0x01, 0x23, 8, 0]);
  assertEquals(c.dev.deliver(0, frame), "delivered");
  assertEquals([c.ram.read(RX + 8, 2), c.ram.read(RX + 12, 1) & 8, c.ram.read(RX + 14, 2)], [76, 8, 0x123]);
});

Deno.test("a frame for the guest over two buffers, with the FCS unless it is stripped; RXT0 at the end of the burst", () => {
  const c = card();
  c.start(RCTL.EN | RCTL.LPE | (3 << RCTL.BSIZE)); // 256 bytes
  c.read("ICR");
  const frame = Uint8Array.from({ length: 300 }, (_, i) => i < 6 ? MAC[i]! : i);
  assertEquals(c.dev.deliver(0, frame), "delivered");
  assertEquals(c.read("ICR"), 0);
  c.dev.flush();
  assertEquals(c.read("ICR") & CAUSE.RXT0, CAUSE.RXT0);
  assertEquals([c.ram.read(RX + 8, 2), c.ram.read(RX + 12, 1)], [256, DD]);
  assertEquals([c.ram.read(RX + 24, 2), c.ram.read(RX + 28, 1) & 3], [48, DD | EOP]);
  // The FCS over frame and FCS leaves the residue of the polynomial [ieee8023 §3.2.9].
  const all = new Uint8Array(304);
  all.set(c.ram.bytes(BUFFERS, 256)!);
  all.set(c.ram.bytes(BUFFERS + 0x1000, 48)!, 256);
  assertEquals(all.subarray(0, 300), frame);
  assertEquals(~crc32(all, 304) >>> 0, 0xdebb20e3);
  assertEquals(crc32(new TextEncoder().encode("123456789"), 9), 0xcbf43926);
});

Deno.test("filters: own addresses, broadcast, hashed groups, promiscuous; what is too long is lost", () => {
  const c = card();
  c.start();
  const to = (address: number[], bytes = 60) => {
    const frame = new Uint8Array(bytes);
    frame.set(address);
    return c.dev.deliver(0, frame);
  };
  assertEquals(to([...MAC]), "delivered");
  assertEquals(to([2, 0, 0, 0, 0, 9]), "dropped");
  assertEquals(to([255, 255, 255, 255, 255, 255]), "delivered");
  const group = [1, 0, 0x5e, 0, 0x12, 0x34]; // with MO 00, bits 47:36 of the address [e1000 §13.5.1]
  assertEquals(to(group), "dropped");
  const hash = ((0x3412 >> 4) & 0xfff) >>> 0;
  c.dev.writeAt(E1000_ARRAY.MTA.at + 4 * (hash >> 5), 2 ** (hash & 31));
  assertEquals(to(group), "delivered");
  assertEquals([to([...MAC], 1518), to([...MAC], 1519)], ["delivered", "dropped"]);
  c.dev.writeAt(E1000_ARRAY.RECEIVE_ADDRESS.at + 8, 0x0000_0002);
  c.dev.writeAt(E1000_ARRAY.RECEIVE_ADDRESS.at + 12, 0x8000_0900);
  assertEquals(to([2, 0, 0, 0, 0, 9]), "delivered");
  c.write("RCTL", RCTL.EN | RCTL.UPE | RCTL.MPE);
  assertEquals([to([2, 9, 9, 9, 9, 9]), to([1, 9, 9, 9, 9, 9])], ["delivered", "delivered"]);
});

Deno.test("without descriptors a frame waits; RXO tells, and RDT announces the next", () => {
  const c = card();
  c.start();
  const frame = new Uint8Array(60).fill(255);
  for (let i = 0; i < ENTRIES - 1; i++) assertEquals(c.dev.deliver(0, frame), "delivered");
  c.dev.flush();
  assertEquals(c.read("ICR") & CAUSE.RXDMT0, CAUSE.RXDMT0);
  assertEquals([c.dev.deliver(0, frame), c.read("ICR")], ["full", CAUSE.RXO]);
  c.heard.length = 0;
  c.write("RDT", 3);
  assertEquals([c.heard, c.dev.deliver(0, frame)], [["receive"], "delivered"]);
});

Deno.test("received checksums are looked at where RXCSUM asks", () => {
  const c = card();
  c.start(RCTL.EN | RCTL.UPE | RCTL.SECRC);
  c.write("RXCSUM", 0x300);
  const good = card();
  sendTcp(good, tcpFrame(100, true), 0);
  const frame = good.sent[0]!.frame;
  const status = () => {
    const at = RX + 16 * ((c.read("RDH") + ENTRIES - 1) % ENTRIES);
    return [c.ram.read(at + 12, 1), c.ram.read(at + 13, 1)];
  };
  c.dev.deliver(0, frame);
  assertEquals(status(), [DD | EOP | 0x60, 0]);
  frame[60]! ^= 1;
  c.dev.deliver(0, frame);
  assertEquals(status(), [DD | EOP | 0x60, 0x20]);
  frame[20]! ^= 1;
  c.dev.deliver(0, frame);
  assertEquals(status()[1]! & 0x40, 0x40);
  c.dev.deliver(0, new Uint8Array(60));
  assertEquals(status(), [DD | EOP | 4, 0]);
});

Deno.test("interrupts: masked causes are silent, ITR spaces them, reading ICR lowers the pin; MSI in its place", () => {
  const c = card();
  c.time.advance(1_000_000);
  c.write("ICS", CAUSE.LSC);
  assertEquals(c.dev.intxLevel, false);
  c.write("ITR", 1000); // 256 µs
  c.write("IMS", CAUSE.LSC);
  assertEquals(c.dev.intxLevel, true);
  assertEquals([c.read("ICR"), c.dev.intxLevel], [CAUSE.LSC, false]);
  c.write("ICS", CAUSE.LSC);
  assertEquals(c.dev.intxLevel, false);
  c.time.advance(255_999);
  assertEquals(c.dev.intxLevel, false);
  c.time.advance(1);
  assertEquals(c.dev.intxLevel, true);
  c.write("IMC", CAUSE.LSC);
  assertEquals(c.dev.intxLevel, false);
  const at = c.dev.readConfig(0x34, 1);
  c.dev.writeConfig(at + 12, 2, 0x41);
  c.dev.writeConfig(at + 2, 2, 1);
  c.write("ITR", 0);
  c.write("IMS", CAUSE.LSC);
  assertEquals([c.messages, c.dev.intxLevel], [[0x41], false]);
});

Deno.test("a reset by the I/O window: power-on values, the address from the EEPROM, the back end hears of it", () => {
  const c = card();
  c.start();
  c.dev.writeAt(E1000_ARRAY.RECEIVE_ADDRESS.at, 0);
  c.dev.barWrite(2, 0, 4, E1000.CTRL.at);
  c.dev.barWrite(2, 4, 4, CTRL.RST);
  assertEquals([c.read("CTRL"), c.read("RCTL"), c.read("TDBAL")], [0x201, 0, 0]);
  assertEquals(c.dev.readAt(E1000_ARRAY.RECEIVE_ADDRESS.at), 0x33221102);
  assertEquals(c.dev.readAt(E1000_ARRAY.RECEIVE_ADDRESS.at + 4), 0x80005544);
  assertEquals(c.heard.at(-1), "reset");
});
