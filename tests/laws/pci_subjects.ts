/** PCI and virtio devices, mounted for the laws: RAM is a record of the bench too, so that rings are saved with their device. */
import type { PciFunction } from "../../devices/pci/function.ts";
import { PciFunctionRecord } from "../../devices/pci/function.ts";
import { PciHost, PciHostRecord } from "../../devices/pci/host.ts";
import { Ich9Lpc } from "../../devices/pci/lpc.ts";
import { MemoryController } from "../../devices/pci/mch.ts";
import { PirqRouter } from "../../devices/pci/pirq.ts";
import { type BlockBackend, VirtioBlock } from "../../devices/virtio/block.ts";
import { VirtioConsole } from "../../devices/virtio/console.ts";
import { SeededEntropy, SeededEntropyRecord, VirtioEntropy } from "../../devices/virtio/entropy.ts";
import { VirtioNet } from "../../devices/virtio/net.ts";
import type { VirtioPci } from "../../devices/virtio/pci_transport.ts";
import { DEVICE_STATUS, LAYOUT, VIRTIO_COMMON } from "../../devices/virtio/registers.ts";
import type { Region } from "../../src/base/bus.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { record } from "../../src/base/record.ts";
import type { Bench, Mounted, Random, Subject } from "./bench.ts";

const RAM_BYTES = 16 * 1024;
const RamRecord = record("law-ram", 1, { bytes: { array: "u8", length: RAM_BYTES } });
const MEMORY = { base: 0xc0000000, end: 0xc1000000 };
const IO = { base: 0x1000, end: 0x2000 };
const DEVICE = 4;
const QUEUE_SIZE = 8;
const { ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK } = DEVICE_STATUS;
const RUNNING = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;

export function ramOf(bench: Bench): GuestRam {
  const { bytes } = bench.arena.place("ram", RamRecord);
  return new GuestRam(bytes.buffer, bytes.byteOffset, RAM_BYTES);
}

/** Part of a region. */
function slice(region: Region, from: number): Region {
  return {
    read: (offset, size) => region.read(from + offset, size),
    write: (offset, size, value) => region.write(from + offset, size, value),
  };
}

export function msi(bench: Bench) {
  return { send: (lo: number, hi: number, data: number) => bench.note(`msi ${hi}:${lo}=${data}`) };
}

/** Puts `fn` on a bus of its own, with the board's bridges. */
function onBus(bench: Bench, fn: PciFunction | null) {
  const host = new PciHost(bench.arena.place("host", PciHostRecord));
  host.add(0, 0, new MemoryController(bench.arena.place("mch", PciFunctionRecord), { ecamBase: 0xe0000000 }));
  const lpc = host.add(31, 0, new Ich9Lpc(bench.arena.place("lpc", PciFunctionRecord)));
  if (fn) host.add(DEVICE, 0, fn);
  const gsi = Array.from({ length: 8 }, (_, n) => bench.irq(`pirq${n}`));
  const isa = Array.from({ length: 16 }, (_, n) => bench.irq(`isa${n}`));
  return { host, router: new PirqRouter(host, { gsi, isa }, lpc) };
}

/** A driver without a memory of its own: each step reads what it needs from the device or from RAM. */
export function mountVirtio(
  bench: Bench,
  ram: GuestRam,
  dev: VirtioPci,
  more: ((random: Random) => void)[] = [],
): Mounted {
  const { host, router } = onBus(bench, dev);
  const window = host.memoryWindow(MEMORY.base);
  const put = (reg: keyof typeof VIRTIO_COMMON, value: number) =>
    window.write(VIRTIO_COMMON[reg].at, VIRTIO_COMMON[reg].width, value);
  const assign = () => {
    host.assignResources(MEMORY, IO);
    host.ecam.write((DEVICE * 8) << 12 | 4, 2, 6);
  };
  const rings = (q: number) => ({
    desc: 0x1000 * (q + 1),
    avail: 0x1000 * (q + 1) + 0x100,
    used: 0x1000 * (q + 1) + 0x200,
  });
  const handshake = (random: Random) => {
    assign();
    put("device_status", 0);
    put("device_status", ACKNOWLEDGE | DRIVER);
    const { at, width } = VIRTIO_COMMON.device_feature;
    for (const half of [0, 1]) {
      put("device_feature_select", half);
      put("driver_feature_select", half);
      const offered = window.read(at, width);
      put("driver_feature", half === 0 && random.chance(30) ? (offered & random.next()) >>> 0 : offered);
    }
    put("device_status", ACKNOWLEDGE | DRIVER | FEATURES_OK);
    for (let q = 0; q < dev.queues.length; q++) {
      const { desc, avail, used } = rings(q);
      put("queue_select", q);
      put("queue_size", QUEUE_SIZE);
      put("queue_desc_lo", desc);
      put("queue_driver_lo", avail);
      put("queue_device_lo", used);
      put("queue_enable", 1);
      ram.write(avail + 2, 2, 0);
    }
    put("device_status", RUNNING);
  };
  const publish = (random: Random) => {
    // Random register writes seldom leave a working driver behind.
    if (window.read(VIRTIO_COMMON.device_status.at, 1) !== RUNNING && random.chance(80)) handshake(random);
    const q = random.below(dev.queues.length);
    const { desc, avail } = rings(q);
    const head = random.below(QUEUE_SIZE), count = 2 + random.below(4), firstWritable = 1 + random.below(count - 1);
    for (let i = 0; i < count; i++) {
      const at = desc + 16 * ((head + i) % QUEUE_SIZE);
      const writable = random.chance(1) ? random.chance(50) : i >= firstWritable;
      ram.write64(at, 0x3000 + 16 * random.below(0x40));
      ram.write(at + 8, 4, i === 0 ? 16 : i === count - 1 ? 1 : random.pick([16, 20, 512, 1024, random.below(700)]));
      ram.write(at + 12, 2, (writable ? 2 : 0) | (i + 1 < count ? 1 : 0) | (random.chance(1) ? random.below(8) : 0));
      ram.write(at + 14, 2, random.chance(1) ? random.below(20) : (head + i + 1) % QUEUE_SIZE);
    }
    for (let at = 0x3000; at < 0x3c00; at += 16) { // block requests wherever a chain may start
      ram.write(at, 4, random.pick([0, 1, 4, 8, 11, 13, 99]));
      ram.write64(at + 8, random.below(70));
    }
    const idx = ram.read(avail + 2, 2);
    ram.write(avail + 4 + 2 * (idx % QUEUE_SIZE), 2, random.chance(1) ? random.next() & 0xffff : head);
    ram.write(avail + 2, 2, (idx + (random.chance(1) ? 9 : 1)) & 0xffff);
    window.write(LAYOUT.NOTIFY + 4 * q, 2, q);
  };
  const collect = () => {
    for (let q = 0; q < dev.queues.length; q++) {
      const { used } = rings(q);
      const idx = ram.read(used + 2, 2);
      const at = used + 4 + 8 * ((idx - 1) & (QUEUE_SIZE - 1));
      bench.note(`used${q} ${idx} ${ram.read(at, 4)} ${ram.read(at + 4, 4)}`);
    }
  };
  return {
    targets: [
      { name: "common", region: window, bytes: 0x40, registers: VIRTIO_COMMON },
      { name: "isr", region: slice(window, LAYOUT.ISR), bytes: 4 },
      { name: "device", region: slice(window, LAYOUT.DEVICE), bytes: 64 },
      { name: "msix", region: slice(window, 0x4000), bytes: 0x40 },
      { name: "config", region: slice(host.ecam, (DEVICE * 8) << 12), bytes: 256 },
    ],
    inputs: [handshake, publish, publish, publish, collect, assign, ...more],
    powerOn: assign,
    settle: () => {
      router.settle();
      dev.renotify();
    },
  };
}

export const PCI_SUBJECTS: readonly Subject[] = [
  {
    name: "pci-host",
    mount(bench) {
      const { host, router } = onBus(bench, null);
      return {
        targets: [
          { name: "ports", region: host.configPorts, bytes: 8 },
          { name: "mch", region: host.ecam, bytes: 256 },
          { name: "lpc", region: slice(host.ecam, 0xf8 << 12), bytes: 256 },
          { name: "ecam", region: host.ecam, bytes: 1 << 20 },
          { name: "memory", region: host.memoryWindow(0), bytes: 1 << 16 },
        ],
        settle: () => router.settle(),
      };
    },
  },
  {
    name: "virtio-block",
    mount(bench) {
      const ram = ramOf(bench);
      const backend: BlockBackend = {
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
      const dev: VirtioBlock = new VirtioBlock(
        bench.arena,
        "disk",
        { ram, msi: msi(bench), notify: (i) => void dev.processQueue(i, backend) },
        { capacitySectors: 64, queues: 2, discard: true },
      );
      return mountVirtio(bench, ram, dev);
    },
  },
  {
    name: "virtio-net",
    mount(bench) {
      const ram = ramOf(bench);
      const serve = () => {
        dev.serveControl();
        dev.transmit(0, (frame, { gsoSize }) => bench.note(`sent ${frame.length} ${frame[0]} ${gsoSize}`));
      };
      const dev: VirtioNet = new VirtioNet(
        bench.arena,
        "net",
        { ram, msi: msi(bench), notify: serve },
        { mac: Uint8Array.of(2, 0, 0, 0, 0, 1), offload: true },
      );
      const frame = new Uint8Array(1514).map((_, i) => i);
      return mountVirtio(bench, ram, dev, [
        (random) => {
          bench.note(dev.deliver(0, frame.subarray(0, 14 + random.below(1500))));
          dev.flush();
        },
        (random) => dev.setLink(random.chance(90)),
      ]);
    },
  },
  {
    name: "virtio-entropy",
    mount(bench) {
      const ram = ramOf(bench);
      const dev: VirtioEntropy = new VirtioEntropy(bench.arena, "rng", {
        ram,
        msi: msi(bench),
        source: new SeededEntropy(bench.arena.place("seed", SeededEntropyRecord)),
        clock: bench.time,
        timer: bench.timer("rng", () => dev.process()),
      });
      return mountVirtio(bench, ram, dev);
    },
  },
  {
    name: "virtio-console",
    mount(bench) {
      const ram = ramOf(bench);
      const sink = bench.sink("out"), source = bench.source("in");
      const dev: VirtioConsole = new VirtioConsole(bench.arena, "con", {
        ram,
        msi: msi(bench),
        input: {
          get available() {
            return source.available;
          },
          read: (max) => Uint8Array.from({ length: Math.min(max, source.available) }, () => source.get()),
        },
        output: {
          get space() {
            return sink.space;
          },
          write(bytes) {
            let n = 0;
            while (n < bytes.length && sink.put(bytes[n]!)) n++;
            return n;
          },
        },
        clock: bench.time,
        timer: bench.timer("con", () => dev.process()),
      });
      return mountVirtio(bench, ram, dev, [
        (random) => sink.makeRoom(random.below(40)),
        (random) => {
          source.come(random.below(40));
          dev.process();
        },
        (random) => dev.resize(random.below(300), random.below(100)),
      ]);
    },
  },
];
