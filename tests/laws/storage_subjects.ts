/** The disk controllers, mounted for the laws, with drivers that keep nothing: each step reads what it needs from memory. */
import { Ahci } from "../../devices/ahci.ts";
import { AHCI_HBA, AHCI_PORT, PORT_AT, PORT_BYTES } from "../../devices/ahci_registers.ts";
import type { BlockBackend } from "../../devices/block_backend.ts";
import { Nvme } from "../../devices/nvme.ts";
import { DOORBELLS_AT, NVME } from "../../devices/nvme_registers.ts";
import type { PciFunction } from "../../devices/pci/function.ts";
import { PciFunctionRecord } from "../../devices/pci/function.ts";
import { PciHost, PciHostRecord } from "../../devices/pci/host.ts";
import { MemoryController } from "../../devices/pci/mch.ts";
import { PirqRouter } from "../../devices/pci/pirq.ts";
import type { Region } from "../../src/base/bus.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { record } from "../../src/base/record.ts";
import type { Bench, Random, Subject } from "./bench.ts";

const RAM_BYTES = 32 * 1024;
const RamRecord = record("law-ram", 1, { bytes: { array: "u8", length: RAM_BYTES } });
const MEMORY = { base: 0xc0000000, end: 0xc1000000 };
const IO = { base: 0x1000, end: 0x2000 };
const DEVICE = 4;
const SECTORS = 64;

function ramOf(bench: Bench): GuestRam {
  const { bytes } = bench.arena.place("ram", RamRecord);
  return new GuestRam(bytes.buffer, bytes.byteOffset, RAM_BYTES);
}

function slice(region: Region, from: number): Region {
  return {
    read: (offset, size) => region.read(from + offset, size),
    write: (offset, size, value) => region.write(from + offset, size, value),
  };
}

function backendOf(bench: Bench): BlockBackend {
  return {
    read: (offset, into) => {
      into.fill(offset >> 9);
      bench.note(`read ${offset} ${into.length}`);
      return offset < 60 * 512;
    },
    write: (offset, from) => (bench.note(`write ${offset} ${from.length} ${from[0]}`), true),
    flush: () => (bench.note("flush"), true),
    discard: (offset, n) => (bench.note(`discard ${offset} ${n}`), true),
    writeZeroes: (offset, n) => (bench.note(`zero ${offset} ${n}`), true),
  };
}

function mount(bench: Bench, fn: PciFunction) {
  const host = new PciHost(bench.arena.place("host", PciHostRecord));
  host.add(0, 0, new MemoryController(bench.arena.place("mch", PciFunctionRecord), { ecamBase: 0xe0000000 }));
  host.add(DEVICE, 0, fn);
  const router = new PirqRouter(host, { gsi: Array.from({ length: 8 }, (_, n) => bench.irq(`pirq${n}`)) });
  const config = slice(host.ecam, (DEVICE * 8) << 12);
  const assign = () => {
    host.assignResources(MEMORY, IO);
    config.write(4, 2, 6);
  };
  return { router, config, assign, window: host.memoryWindow(MEMORY.base) };
}

const msi = (bench: Bench) => ({
  send: (lo: number, hi: number, data: number) => bench.note(`msi ${hi}:${lo}=${data}`),
});

// Where the driver of the SATA controller puts things; a port has a kibibyte of list, then FISes, then tables.
const listOf = (port: number) => 0x1000 * (1 + port);
const fisOf = (port: number) => listOf(port) + 0x400;
const tableOf = (port: number, slot: number) => listOf(port) + 0x500 + 0x100 * (slot % 8);
const DATA_AT = 0x4000;

const COMMANDS = [
  0x25,
  0x35,
  0x60,
  0x61,
  0xc8,
  0xca,
  0x20,
  0x30,
  0xec,
  0xa1,
  0xa0,
  0xea,
  0x06,
  0xb0,
  0x2f,
  0xef,
  0xc6,
  0x90,
  0x08,
];
const PACKETS = [0x00, 0x03, 0x12, 0x1b, 0x1e, 0x25, 0x28, 0x43, 0x46, 0x4a, 0x51, 0x52, 0x5a, 0xa8, 0xbd, 0xbe];

export const STORAGE_SUBJECTS: readonly Subject[] = [
  {
    name: "ahci",
    mount(bench) {
      const ram = ramOf(bench), backend = backendOf(bench);
      const dev: Ahci = new Ahci(bench.arena, "ahci", {
        ram,
        msi: msi(bench),
        notify: (port) => void dev.processPort(port, backend),
      }, [
        { kind: "disk", sectors: SECTORS, readonly: false, serial: "one", discard: true },
        { kind: "cdrom", sectors: SECTORS, readonly: true, serial: "two", discard: false },
      ]);
      const { router, config, assign, window } = mount(bench, dev);
      const at = (port: number, reg: keyof typeof AHCI_PORT) => PORT_AT + PORT_BYTES * port + AHCI_PORT[reg].at;
      const start = () => {
        assign();
        for (const port of [0, 1]) {
          window.write(at(port, "PxCMD"), 4, 0);
          window.write(at(port, "PxCLB"), 4, listOf(port));
          window.write(at(port, "PxFB"), 4, fisOf(port));
          window.write(at(port, "PxIE"), 4, 0x7dc0007f);
          window.write(at(port, "PxCMD"), 4, 0x11);
        }
        window.write(AHCI_HBA.GHC.at, 4, 0x80000002);
      };
      const issue = (random: Random) => {
        const port = random.below(2), slot = random.below(32);
        const stopped = !(window.read(at(port, "PxCMD"), 4) & 1) || window.read(at(port, "PxIS"), 4) & (3 << 29);
        if (stopped && random.chance(80)) {
          for (const p of [0, 1]) window.write(at(p, "PxIS"), 4, 0xffffffff);
          start();
        }
        const command = random.pick(COMMANDS), smart = command === 0xb0;
        const header = listOf(port) + 32 * slot, table = tableOf(port, slot);
        const entries = random.below(3), packet = random.chance(port === 1 ? 70 : 5);
        ram.write(header, 4, (entries << 16) | (random.chance(2) ? random.below(32) : 5) | (packet ? 0x20 : 0));
        ram.write(header + 8, 4, random.chance(1) ? random.next() : table);
        ram.write(header + 12, 4, random.chance(1) ? random.next() : 0);
        const fis = [
          0x27,
          random.chance(95) ? 0x80 : 0,
          packet ? 0xa0 : command,
          smart ? random.pick([0xd0, 0xd5, 0xd8, 0xda]) : random.pick([1, 1, 1, 3, 2]),
          random.below(70),
          smart ? 0x4f : 0,
          smart ? 0xc2 : 0,
          0x40,
          ...[0, 0, 0, 0],
          random.pick([1, 1, 2, 8 * slot, random.below(256)]),
          ...[0, 0, random.below(8)],
        ];
        for (let i = 0; i < fis.length; i++) ram.write(table + i, 1, fis[i]!);
        const cdb = [
          random.pick(PACKETS),
          random.below(4),
          0,
          0,
          random.below(20),
          random.below(20),
          0,
          0,
          random.below(3),
          40,
          0,
          0,
        ];
        for (let i = 0; i < cdb.length; i++) {
          ram.write(table + 0x40 + i, 1, random.chance(2) ? random.next() & 0xff : cdb[i]!);
        }
        for (let n = 0; n < entries; n++) {
          ram.write64(table + 0x80 + 16 * n, DATA_AT + 2 * random.below(0x800));
          ram.write(table + 0x8c + 16 * n, 4, random.chance(50) ? random.pick([511, 1023, 4095]) : random.below(2000));
        }
        if (random.chance(20)) window.write(at(port, "PxSACT"), 4, (1 << slot) >>> 0);
        window.write(at(port, "PxCI"), 4, random.chance(2) ? random.next() : (1 << slot) >>> 0);
      };
      const collect = () => {
        for (const port of [0, 1]) {
          const tfd = window.read(at(port, "PxTFD"), 4), ci = window.read(at(port, "PxCI"), 4);
          bench.note(`port${port} ${tfd} ${ci} ${ram.read(fisOf(port) + 0x40, 4)} ${ram.read(fisOf(port) + 0x58, 4)}`);
          for (const reg of ["PxSERR", "PxIS"] as const) window.write(at(port, reg), 4, 0xffffffff);
        }
        window.write(AHCI_HBA.IS.at, 4, 0xffffffff);
      };
      return {
        targets: [
          { name: "hba", region: window, bytes: 0x100, registers: AHCI_HBA },
          { name: "port0", region: slice(window, PORT_AT), bytes: PORT_BYTES, registers: AHCI_PORT },
          { name: "port1", region: slice(window, PORT_AT + PORT_BYTES), bytes: PORT_BYTES, registers: AHCI_PORT },
          { name: "port5", region: slice(window, PORT_AT + 5 * PORT_BYTES), bytes: PORT_BYTES, registers: AHCI_PORT },
          { name: "config", region: config, bytes: 256 },
        ],
        inputs: [
          start,
          issue,
          issue,
          issue,
          issue,
          collect,
          (random) => dev.ports[1]!.drive!.changeMedium(random.pick([0, 64, 400])),
        ],
        powerOn: assign,
        settle: () => {
          router.settle();
          dev.settle();
          dev.renotify();
        },
      };
    },
  },
  {
    name: "nvme",
    mount(bench) {
      const ram = ramOf(bench), backend = backendOf(bench);
      const dev: Nvme = new Nvme(bench.arena, "nvme", {
        ram,
        msi: msi(bench),
        notify: (queue) => void dev.processQueue(queue, backend),
      }, { sectors: SECTORS, readonly: false, serial: "one", discard: true });
      const { router, config, assign, window } = mount(bench, dev);
      // The MSI-X table's BAR and the registers' are given addresses by size.
      const put = (reg: keyof typeof NVME, value: number) => window.write(NVME[reg].at, 4, value);
      const SQ = [0x1000, 0x3000], CQ = [0x2000, 0x5000], ENTRIES = 8;
      const submit = (q: number, words: Record<number, number>, cid: number) => {
        const tail = ram.read(0x7f00 + 4 * q, 4) % ENTRIES;
        for (let n = 0; n < 16; n++) ram.write(SQ[q]! + 64 * tail + 4 * n, 4, words[n] ?? 0);
        ram.write(SQ[q]! + 64 * tail + 2, 2, cid);
        ram.write(0x7f00 + 4 * q, 4, (tail + 1) % ENTRIES);
        window.write(DOORBELLS_AT + 8 * q, 4, (tail + 1) % ENTRIES);
      };
      const start = () => {
        assign();
        put("CC", 0);
        put("AQA", ((ENTRIES - 1) << 16) | (ENTRIES - 1));
        put("ASQ_LO", SQ[0]!);
        put("ASQ_HI", 0);
        put("ACQ_LO", CQ[0]!);
        put("ACQ_HI", 0);
        put("CC", 0x460001);
        ram.write64(0x7f00, 0);
        submit(0, { 0: 5, 6: CQ[1]!, 10: ((ENTRIES - 1) << 16) | 1, 11: 3 }, 1);
        submit(0, { 0: 1, 6: SQ[1]!, 10: ((ENTRIES - 1) << 16) | 1, 11: 0x10001 }, 2);
      };
      const issue = (random: Random) => {
        if (!(window.read(NVME.CSTS.at, 4) & 1) && random.chance(80)) start();
        const q = random.below(2);
        const prp1 = random.chance(90) ? 0x6000 + 4 * random.below(0x100) : random.next();
        const opcode = q === 0
          ? random.pick([0, 1, 2, 2, 4, 5, 6, 6, 8, 9, 10, 12, 99])
          : random.pick([0, 1, 2, 8, 9, 5]);
        submit(q, {
          0: opcode,
          1: random.chance(95) ? 1 : random.below(3),
          6: prp1,
          8: random.chance(90) ? 0x7000 : random.next(),
          10: random.chance(50) ? random.below(70) : random.pick([1, 2, 3, 7, 0x1f0002, 0x80000006]),
          11: random.pick([0, 0, 0, 4, 1, 3]),
          12: random.chance(95) ? random.below(4) : random.next(),
        }, random.below(50));
      };
      const collect = () => {
        for (let q = 0; q < 2; q++) {
          const entries = Array.from({ length: ENTRIES }, (_, i) => ram.read(CQ[q]! + 16 * i + 12, 4));
          bench.note(`cq${q} ${entries}`);
        }
      };
      const taken = (random: Random) => window.write(DOORBELLS_AT + 8 * random.below(2) + 4, 4, random.below(ENTRIES));
      return {
        targets: [
          { name: "registers", region: window, bytes: 0x40, registers: NVME },
          { name: "doorbells", region: slice(window, DOORBELLS_AT), bytes: 0x100 },
          { name: "msix", region: slice(window, 0x2000), bytes: 0x200 },
          { name: "config", region: config, bytes: 256 },
        ],
        inputs: [start, issue, issue, issue, issue, taken, collect],
        powerOn: assign,
        settle: () => {
          router.settle();
          dev.settle();
          dev.renotify();
        },
      };
    },
  },
];
