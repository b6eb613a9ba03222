import { assertEquals } from "@std/assert";
import { IO_APIC, IoApic, IoApicRecord } from "./io_apic.ts";
import type { InterruptMessage } from "./local_apic_message.ts";

function fixture(pins = 24) {
  const sent: InterruptMessage[] = [];
  const local = { accepts: true };
  const apic = new IoApic(IoApicRecord.create(), {
    pins,
    bus: { deliver: (message) => (sent.push(message), local.accepts) },
  });
  const read = (index: number) => {
    apic.mmio.write(IO_APIC.IOREGSEL.at, 4, index);
    return apic.mmio.read(IO_APIC.IOWIN.at, 4);
  };
  const write = (index: number, value: number) => {
    apic.mmio.write(IO_APIC.IOREGSEL.at, 4, index);
    apic.mmio.write(IO_APIC.IOWIN.at, 4, value);
  };
  /** Fills in the redirection entry of input `n`. */
  const route = (n: number, lo: number, destination = 0) => {
    write(0x11 + 2 * n, destination << 24);
    write(0x10 + 2 * n, lo);
  };
  return { apic, sent, local, read, write, route };
}

const LEVEL = 1 << 15, MASKED = 1 << 16, REMOTE_IRR = 1 << 14, LOGICAL = 1 << 11;

Deno.test("power-on: version 20h, the last entry's number, all masked [ioapic §3.2]", () => {
  const { read, write } = fixture();
  assertEquals(read(1), 0x0017_0020);
  assertEquals(fixture(40).read(1), 0x0027_0020);
  for (let n = 0; n < 24; n++) assertEquals([read(0x10 + 2 * n), read(0x11 + 2 * n)], [MASKED, 0]);
  write(0, 0xff00_0000);
  assertEquals([read(0), read(2)], [0x0f00_0000, 0x0f00_0000]);
  assertEquals(read(0x40), 0); // past the last entry
});

Deno.test("a redirection entry keeps what can be written; status bits are read-only", () => {
  const { read, write } = fixture();
  write(0x10, 0xffffffff);
  write(0x11, 0xffffffff);
  assertEquals([read(0x10), read(0x11)], [0x0001_afff, 0xff00_0000]);
});

Deno.test("an edge is sent once a rise, as the entry says", () => {
  const { apic, sent, route } = fixture();
  route(4, LOGICAL | 0x100 | 0x34, 0x03);
  apic.line(4)!.set(true);
  apic.line(4)!.set(true);
  apic.line(4)!.set(false);
  assertEquals(sent, [{ mode: 1, vector: 0x34, level: false, logical: true, destination: 3 }]);
  apic.line(4)!.set(true);
  assertEquals(sent.length, 2);
});

Deno.test("destination FFh is every processor", () => {
  const { apic, sent, route } = fixture();
  route(4, 0x34, 0xff);
  apic.line(4)!.set(true);
  assertEquals(sent[0]!.destination, 0xffffffff);
});

Deno.test("an edge on a masked input is lost; a level waits [ioapic §3.2.4]", () => {
  const { apic, sent, route } = fixture();
  route(1, MASKED | 0x31);
  route(2, MASKED | LEVEL | 0x32);
  apic.line(1)!.set(true);
  apic.line(2)!.set(true);
  route(1, 0x31);
  assertEquals(sent, []);
  route(2, LEVEL | 0x32);
  assertEquals(sent.map((m) => m.vector), [0x32]);
});

Deno.test("a level sets remote IRR and is not sent again before its EOI", () => {
  const { apic, sent, read, route } = fixture();
  route(10, LEVEL | 0x5a);
  const wire = apic.line(10)!;
  wire.set(true);
  assertEquals(read(0x24), LEVEL | REMOTE_IRR | 0x5a);
  wire.set(false);
  wire.set(true);
  apic.eoi(0x5b);
  assertEquals(sent.length, 1);
  apic.eoi(0x5a); // still asserted
  assertEquals(sent.length, 2);
  assertEquals(sent[1]!.level, true);
  wire.set(false);
  apic.mmio.write(IO_APIC.EOIR.at, 4, 0x5a); // the directed EOI does the same
  assertEquals([sent.length, read(0x24)], [2, LEVEL | 0x5a]);
});

Deno.test("remote IRR is set by acceptance only", () => {
  const { apic, sent, local, read, route } = fixture();
  local.accepts = false;
  route(10, LEVEL | 0x5a);
  apic.line(10)!.set(true);
  assertEquals(read(0x24) & REMOTE_IRR, 0);
  local.accepts = true;
  apic.settle();
  apic.settle();
  assertEquals([sent.length, read(0x24) & REMOTE_IRR], [2, REMOTE_IRR]);
});

Deno.test("making an entry edge-triggered clears its remote IRR", () => {
  const { apic, read, route } = fixture();
  route(10, LEVEL | 0x5a);
  apic.line(10)!.set(true);
  route(10, MASKED | LEVEL | 0x5a);
  assertEquals(read(0x24) & REMOTE_IRR, REMOTE_IRR);
  route(10, MASKED | 0x5a);
  assertEquals(read(0x24) & REMOTE_IRR, 0);
});

Deno.test("NMI and ExtINT are edges whatever the trigger bit says", () => {
  const { apic, sent, read, route } = fixture();
  route(0, LEVEL | 0x700);
  apic.line(0)!.set(true);
  route(0, LEVEL | 0x700);
  assertEquals(sent, [{ mode: 7, vector: 0, level: false, logical: false, destination: 0 }]);
  assertEquals(read(0x10) & REMOTE_IRR, 0);
});

Deno.test("the window: bytes of it work, EOI reads as ones, the rest is empty", () => {
  const { apic } = fixture();
  apic.mmio.write(0, 1, 1);
  assertEquals(apic.mmio.read(0x10, 1), 0x20);
  assertEquals(apic.mmio.read(0x12, 1), 0x17);
  assertEquals(apic.mmio.read(0x40, 4), 0xffffffff);
  assertEquals(apic.mmio.read(0x800, 4), 0xffffffff);
});
