/** The APICs and the router between them, mounted for the laws. */
import type { Region } from "../../src/base/bus.ts";
import { InterruptRouter, InterruptRouterRecord } from "../../devices/interrupt_router.ts";
import { IO_APIC, IO_APIC_BYTES, IoApic, IoApicRecord } from "../../devices/io_apic.ts";
import { type ApicBus, LocalApic } from "../../devices/local_apic.ts";
import {
  LOCAL_APIC,
  LOCAL_APIC_BASE,
  LOCAL_APIC_BYTES,
  LocalApicRecord,
  X2APIC_MSR,
} from "../../devices/local_apic_registers.ts";
import type { Bench, Random, Subject } from "./bench.ts";

const NO_PIC = { pending: () => false, acknowledge: () => 7 };

function localApic(bench: Bench, id: number, bus: ApicBus): LocalApic {
  const intr = bench.irq(`intr${id}`);
  const timer = bench.timer(`apic${id}`, () => apic.settle());
  const apic: LocalApic = new LocalApic(bench.arena.place(`apic${id}`, LocalApicRecord), {
    id,
    bsp: id === 0,
    clock: bench.time,
    timer,
    bus,
    pic: NO_PIC,
    physicalAddressBits: 40,
    setIntr: (level) => intr.set(level),
    nmi: () => bench.note(`nmi${id}`),
    init: () => bench.note(`init${id}`),
    sipi: (vector) => bench.note(`sipi${id} ${vector}`),
  });
  return apic;
}

/** The x2APIC MSRs as a region: 16 bytes for each, so that the page's register table fits them. */
function msrs(apic: LocalApic): Region {
  return {
    read: (offset, size) => apic.readMsr(X2APIC_MSR + (offset >> 4)) ? apic.msrLo % 2 ** (8 * size) : 0,
    write: (offset, _size, value) => void apic.writeMsr(X2APIC_MSR + (offset >> 4), value, offset & 1),
  };
}

/** What a CPU does to its APIC, other than by the page. */
function cpu(bench: Bench, apic: LocalApic) {
  return [
    () => bench.note(`inta ${apic.acknowledge()}`),
    () => apic.write(LOCAL_APIC.EOI.at, 4, 0),
    () => apic.write(LOCAL_APIC.SVR.at, 4, 0x1ff),
    (random: Random) => apic.writeTpr(random.below(16)),
    (random: Random) => bench.note(`${apic.writeMsr(0x1b, LOCAL_APIC_BASE + 0x400 * random.below(4), 0)}`),
    (random: Random) => bench.note(`${apic.writeMsr(0x6e0, random.next(), random.below(200))}`),
    () => bench.note(`${apic.readMsr(0x6e0)} ${apic.msrLo} ${apic.msrHi}`),
  ];
}

export const INTERRUPT_SUBJECTS: readonly Subject[] = [
  {
    name: "local-apic",
    mount(bench) {
      const bus: ApicBus = {
        sendIpi: (m, shorthand) => bench.note(`ipi ${shorthand} ${Object.values(m).join()}`),
        eoi: (vector) => bench.note(`eoi ${vector}`),
      };
      const dev = localApic(bench, 0, bus);
      return {
        targets: [
          { name: "page", region: dev, bytes: LOCAL_APIC_BYTES, registers: LOCAL_APIC },
          { name: "msrs", region: msrs(dev), bytes: LOCAL_APIC_BYTES, registers: LOCAL_APIC },
        ],
        inputs: [
          ...cpu(bench, dev),
          (random) => bench.note(`${dev.receive(random.below(8), random.below(256), random.chance(50))}`),
          (random) => dev.lint0.set(random.chance(50)),
          (random) => dev.lint1.set(random.chance(50)),
          (random) => dev.setTscOffset(random.next(), random.next()),
        ],
        settle: () => dev.settle(),
      };
    },
  },
  {
    name: "io-apic",
    mount(bench) {
      const bus = {
        deliver: (m: object) => {
          bench.note(`message ${Object.values(m).join()}`);
          return true;
        },
      };
      const dev = new IoApic(bench.arena.place("ioapic", IoApicRecord), { pins: 24, bus });
      return {
        targets: [{ name: "window", region: dev.mmio, bytes: IO_APIC_BYTES, registers: IO_APIC }],
        inputs: [
          (random) => dev.line(random.below(24))!.set(random.chance(60)),
          (random) => dev.eoi(random.below(256)),
          (random) => {
            dev.writeRegister("IOREGSEL", 0x10 + 2 * random.below(24));
            dev.writeRegister("IOWIN", random.next() & 0x8fff);
          },
        ],
        settle: () => dev.settle(),
      };
    },
  },
  {
    name: "interrupt-router",
    mount(bench) {
      const router = new InterruptRouter(bench.arena.place("router", InterruptRouterRecord));
      const ioApic = new IoApic(bench.arena.place("ioapic", IoApicRecord), { pins: 24, bus: router });
      const apics = [0, 1, 2].map((id) => localApic(bench, id, router));
      for (const apic of apics) router.addLocalApic(apic);
      router.addIoApic(ioApic);
      router.addPic({ line: (n) => bench.irq(`pic${n}`) });
      const lines = [0, 4, 9].map((irq) => router.isaLine(irq)).concat([16, 16, 23].map((gsi) => router.line(gsi)));
      return {
        targets: [
          { name: "ioapic", region: ioApic.mmio, bytes: IO_APIC_BYTES, registers: IO_APIC },
          ...apics.map((a) => ({
            name: `page${a.id}`,
            region: a,
            bytes: LOCAL_APIC_BYTES,
            registers: LOCAL_APIC,
          })),
        ],
        inputs: [
          ...apics.flatMap((a) => cpu(bench, a)),
          ...lines.map((line) => (random: Random) => line.set(random.chance(50))),
          (random) => router.send(0xfee00000 | (random.next() & 0xff00c), 0, random.next() & 0xc7ff),
          (random) => {
            ioApic.writeRegister("IOREGSEL", 0x10 + 2 * random.below(24));
            ioApic.writeRegister("IOWIN", random.next() & 0x8fff);
          },
        ],
        settle: () => {
          router.settle();
          ioApic.settle();
          for (const apic of apics) apic.settle();
        },
      };
    },
  },
];
