/** What the scripted guests do. Each tells what it saw on COM1. */
import { BLOCK_FEATURE, BLOCK_REQUEST } from "../../devices/virtio/block.ts";
import { PciDriver } from "../../devices/virtio/pci_driver.ts";
import { FEATURE } from "../../devices/virtio/registers.ts";
import { type ExitReason, VcpuEvent } from "../../src/engine/engine.ts";
import type { Guest, Script } from "./scripted_guest.ts";

const ECAM = 0xe0000000;
const IO_APIC = 0xfec00000;
const LOCAL_APIC = 0xfee00000;
/** Where in RAM guests that reset themselves count; no loader writes there. */
const COUNT = 0x800000;

/** Programs an I/O APIC input: fixed, physical destination 0; level-triggered if asked. */
function routeIoApic(g: Guest, input: number, vector: number, level: boolean): void {
  g.board.mmioWrite(IO_APIC, 4, 0x11 + 2 * input);
  g.board.mmioWrite(IO_APIC + 0x10, 4, 0);
  g.board.mmioWrite(IO_APIC, 4, 0x10 + 2 * input);
  g.board.mmioWrite(IO_APIC + 0x10, 4, vector | (level ? 1 << 15 : 0));
}

function driver(g: Guest, device: number): PciDriver {
  const { board } = g;
  return new PciDriver({
    ecam: {
      read: (at, size) => board.mmioRead(ECAM + at, size),
      write: (at, size, value) => board.mmioWrite(ECAM + at, size, value),
    },
    memory: {
      read: (gpa, size) => board.mmioRead(gpa, size),
      write: (gpa, size, value) => board.mmioWrite(gpa, size, value),
    },
    ram: g.parts.ram,
    devfn: device * 8,
    ringsAt: 0x100000,
  });
}

function header(type: number, sector: number): Uint8Array {
  const bytes = new Uint8Array(16);
  const v = new DataView(bytes.buffer);
  v.setUint32(0, type, true);
  v.setUint32(8, sector, true);
  return bytes;
}

const hex = (n: number, digits = 2) => n.toString(16).padStart(digits, "0");

/** MSI-X from the entropy device. */
function* entropy(g: Guest): Generator<ExitReason, void> {
  const drv = driver(g, 1);
  g.board.mmioWrite(LOCAL_APIC + 0xf0, 4, 0x1ff);
  drv.enableMsix(0x60);
  drv.negotiate([FEATURE.VERSION_1]);
  drv.start(8, () => 1);
  drv.queues[0]!.add([32]);
  drv.notify(0);
  const vector = yield* g.hlt();
  const bytes = drv.queues[0]!.collect()!.bytes;
  g.print(`${hex(vector)} ${bytes.length} ${[...bytes].map((b) => hex(b)).join("")}`);
  g.powerOff();
  yield "kick";
}

export const SCRIPTS = {
  *hello(g) {
    g.print("hello");
    g.powerOff();
    yield "kick";
  },

  *pit(g) {
    g.out8(0x43, 0x34); // channel 0, mode 2: OUT goes high, which is an edge
    g.openPic(0); // ICW1 forgets edges
    const t0 = g.parts.clock.nowNs();
    g.out8(0x40, 0xa9); // 1193 ticks: a millisecond
    g.out8(0x40, 0x04);
    for (let i = 0; i < 3; i++) {
      const vector = yield* g.hlt();
      g.print(`${hex(vector)} `);
      g.endOfInterrupt(vector);
    }
    const ms = (g.parts.clock.nowNs() - t0) / 1e6;
    g.print(ms >= 2.9 && ms < 1000 ? "in time" : `after ${ms} ms`);
    g.powerOff();
    yield "kick";
  },

  *rtc(g) {
    const cmos = (index: number) => {
      g.out8(0x70, index);
      return g.in8(0x71);
    };
    while (cmos(0x0a) & 0x80);
    g.print([0x32, 0x09, 0x08, 0x07, 0x04, 0x02, 0x00].map((i) => hex(cmos(i))).join(" "));
    g.print(` extended ${cmos(0x30) | (cmos(0x31) << 8)} KiB`);
    g.powerOff();
    yield "kick";
  },

  *pci(g) {
    for (let device = 0; device < 32; device++) {
      const id = g.readPci(device, 0);
      if (id !== g.board.mmioRead(ECAM + (device << 15), 4)) g.print("mechanisms differ ");
      if (id === 0xffffffff) continue;
      g.print(`${device}:${hex(id & 0xffff, 4)}:${hex(id >>> 16, 4)} `);
    }
    g.powerOff();
    yield "kick";
  },

  /** Reads sector 1, writes it to sector 2 with a byte changed, flushes; interrupts come by the I/O APIC. */
  *disk(g) {
    const drv = driver(g, 3);
    g.board.mmioWrite(LOCAL_APIC + 0xf0, 4, 0x1ff); // enabled, spurious vector FFh
    // _PRT: INTA# of device 3 is global system interrupt 16 + 3.
    routeIoApic(g, 19, 0x51, true);
    drv.negotiate([FEATURE.VERSION_1, BLOCK_FEATURE.FLUSH]);
    drv.start(16);
    const request = function* (type: number, sector: number, data: (Uint8Array | number)[]) {
      drv.queues[0]!.add([header(type, sector), ...data, 1]);
      drv.notify(0);
      for (;;) {
        const used = drv.queues[0]!.collect();
        if (used) return used.bytes;
        const vector = yield* g.hlt();
        g.print(`${hex(vector)}/${drv.isr()} `);
        g.board.mmioWrite(LOCAL_APIC + 0xb0, 4, 0);
      }
    };
    const read = yield* request(BLOCK_REQUEST.IN, 1, [512]);
    g.print(`read ${read[512]} ${new TextDecoder().decode(read.slice(0, 6))} `);
    const data = read.slice(0, 512);
    data[0] = 0x4d; // M
    const write = yield* request(BLOCK_REQUEST.OUT, 2, [data]);
    const flush = yield* request(BLOCK_REQUEST.FLUSH, 0, []);
    const beyond = yield* request(BLOCK_REQUEST.IN, 1 << 20, [512]);
    g.print(`write ${write[0]} flush ${flush[0]} beyond ${beyond[512]}`);
    g.powerOff();
    yield "kick";
  },

  entropy,

  /** Resets itself while disk requests are under way; the second time it reads one sector. */
  *resetAmidIo(g) {
    const times = g.parts.ram.read(COUNT, 4) + 1;
    g.parts.ram.write(COUNT, 4, times);
    const drv = driver(g, 3);
    drv.negotiate([FEATURE.VERSION_1]);
    drv.start(256);
    const q = drv.queues[0]!;
    if (times === 1) {
      for (let i = 0; i < 60; i++) q.add([header(BLOCK_REQUEST.IN, 1), 512, 1]);
      drv.notify(0);
      g.out8(0xcf9, 0x06);
      yield "kick";
    }
    q.add([header(BLOCK_REQUEST.IN, 1), 512, 1]);
    drv.notify(0);
    let used = q.collect();
    while (!used) {
      yield "slice";
      used = q.collect();
    }
    g.print(`${times} ${new TextDecoder().decode(used.bytes.slice(0, 6))} ${used.bytes[512]}`);
    g.powerOff();
    yield "kick";
  },

  /** The first processor starts the second, which answers with an interrupt. */
  *twoProcessors(g) {
    const { index, events, eventsIndex } = g.parts;
    const icr = (destination: number, lo: number) => {
      g.board.mmioWrite(LOCAL_APIC + 0x310, 4, (destination << 24) >>> 0);
      g.board.mmioWrite(LOCAL_APIC + 0x300, 4, lo);
    };
    g.board.mmioWrite(LOCAL_APIC + 0xf0, 4, 0x1ff);
    if (index === 0) {
      icr(1, 0x4500); // INIT
      icr(1, 0x4609); // SIPI, vector 09h
      const vector = yield* g.hlt();
      g.print(`${hex(vector)} from ${g.parts.ram.read(0x6000, 1)}`);
      g.powerOff();
      yield "kick";
    }
    const word = () => Atomics.load(events, eventsIndex);
    while (!(word() & VcpuEvent.SIPI)) yield "halt";
    g.parts.ram.write(0x6000, 1, word() & VcpuEvent.INIT && (word() >> 8) & 0xff);
    icr(0, 0x44);
    for (;;) yield "halt";
  },

  /** Resets itself by CF9h until it has come up three times; counts in RAM, which a reset keeps. */
  *reset(g) {
    const times = g.parts.ram.read(COUNT, 4) + 1;
    g.parts.ram.write(COUNT, 4, times);
    g.print(`${times} scratch ${g.in8(0x3ff)};`);
    g.out8(0x3ff, 0x77); // the UART's scratch register, which a reset clears
    if (times === 3) g.powerOff();
    else g.out8(0xcf9, 0x06);
    yield "kick";
    g.print("ran on after the reset");
  },

  *keyboardReset(g) {
    g.out8(0x64, 0xfe);
    yield "kick";
  },

  *tripleFault() {
    yield "shutdown";
  },

  *panic(g) {
    g.print("Kernel panic");
    g.out8(0x505, 1);
    yield "kick";
  },

  *debugExit(g) {
    g.board.ioWrite(0xf4, 4, 0x2a);
    yield "kick";
  },

  *engineError() {
    yield "error";
  },

  *engineThrows() {
    yield "slice";
    throw new Error("unforeseen");
  },

  /** Sleeps for ever, interrupts off. */
  *idle() {
    for (;;) yield "halt";
  },

  *spin() {
    for (;;) yield "slice";
  },

  /** Gives back what comes in on COM1, in capitals, until a full stop; "!" resets. */
  *echo(g) {
    g.openPic(4);
    g.out8(0x3fa, 0x01);
    g.out8(0x3f9, 0x01); // ERBFI
    g.out8(0x3fc, 0x0b);
    g.print("ready ");
    for (;;) {
      const vector = yield* g.hlt();
      while (g.in8(0x3fd) & 1) {
        const byte = g.in8(0x3f8);
        g.print(String.fromCharCode(byte).toUpperCase());
        if (byte === 0x2e) g.powerOff();
        if (byte === 0x21) g.out8(0xcf9, 0x06);
      }
      g.endOfInterrupt(vector);
    }
  },

  /** Goes off when the power button is pressed, as an ACPI guest does. */
  *powerButton(g) {
    g.openPic(9);
    g.out8(0xb2, 0xf1); // ACPI_ENABLE
    g.board.ioWrite(0x602, 2, 1 << 8); // PM1_EN: PWRBTN_EN
    g.print("ready ");
    const vector = yield* g.hlt();
    g.print(`${hex(vector)} PM1_STS ${hex(g.board.ioRead(0x600, 2) & 0x100, 4)}`);
    g.powerOff();
    yield "kick";
  },

  /** Prints a dot every millisecond. */
  *ticks(g) {
    g.out8(0x43, 0x34);
    g.openPic(0);
    g.out8(0x40, 0xa9);
    g.out8(0x40, 0x04);
    for (;;) {
      g.endOfInterrupt(yield* g.hlt());
      g.print(".");
    }
  },

  /** Tells guest time at four ticks of the PIT and a few random bytes. */
  *deterministic(g) {
    g.out8(0x43, 0x34);
    g.openPic(0);
    g.out8(0x40, 0xa9);
    g.out8(0x40, 0x04);
    for (let i = 0; i < 4; i++) {
      g.endOfInterrupt(yield* g.hlt());
      g.print(`${g.parts.clock.nowNs()} `);
    }
    yield* entropy(g);
  },
} satisfies Record<string, Script>;
