import { assertEquals } from "@std/assert";
import { Arena } from "../../src/base/arena.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { PciHost, PciHostRecord } from "../pci/host.ts";
import { BALLOON_FEATURE, VirtioBalloon } from "./balloon.ts";
import { PciDriver } from "./pci_driver.ts";
import { CFG_TYPE, FEATURE } from "./registers.ts";

const INFLATE = 0, STATS = 2, REPORTING = 3;

function fixture() {
  const arena = Arena.private();
  const ram = GuestRam.private(1 << 20);
  const host = new PciHost(arena.place("host", PciHostRecord));
  const back: [number, number][] = [];
  const dev: VirtioBalloon = host.add(
    4,
    0,
    new VirtioBalloon(arena, "balloon", {
      ram,
      msi: { send: () => {} },
      notify: () => void dev.process((gpa, size) => back.push([gpa, size])),
    }, 3),
  );
  arena.powerOn();
  host.assignResources({ base: 0xc0000000, end: 0xc1000000 }, { base: 0x1000, end: 0x2000 });
  const drv = new PciDriver({ ecam: host.ecam, memory: host.memoryWindow(0), ram, devfn: 32, ringsAt: 0x20000 });
  drv.negotiate([FEATURE.VERSION_1, ...Object.values(BALLOON_FEATURE)]);
  drv.start(8);
  const config = (at: number, value?: number) => drv.structure(CFG_TYPE.DEVICE, at, 4, value);
  return { ram, drv, dev, back, config };
}

function pages(...numbers: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(numbers).buffer);
}

Deno.test("num_pages is what is wanted, changes with an interrupt, and outlives a reset", () => {
  const { dev, drv, config } = fixture();
  assertEquals(config(0), 3);
  drv.isr();
  dev.want(0);
  assertEquals([config(0), drv.isr()], [0, 2]);
  config(4, 77);
  assertEquals(dev.actualPages, 77);
  drv.common("device_status", 0);
  assertEquals([config(0), dev.actualPages], [0, 0]);
});

Deno.test("pages that run up or down go back together, before the driver hears of it; what is no RAM does not", () => {
  const { drv, back } = fixture();
  drv.queues[INFLATE]!.add([pages(5, 6, 7, 20, 19, 18, 0xffff_ffff, 256, 9)]);
  drv.notify(INFLATE);
  assertEquals(back, [[5 * 4096, 3 * 4096], [18 * 4096, 3 * 4096], [9 * 4096, 4096]]);
  assertEquals(drv.queues[INFLATE]!.collect()?.written, 0);
});

Deno.test("of what is reported only whole pages go back, and no more than there is memory", () => {
  const { drv, back } = fixture();
  const q = drv.queues[REPORTING]!;
  q.writeDesc(0, 0x1800, 0x3000, 3, 1);
  q.writeDesc(1, 0x8000, 0x800, 3, 2);
  q.writeDesc(2, 0, 1 << 20, 3, 3);
  q.writeDesc(3, 0, 1 << 20, 2, 0);
  q.publish(0);
  drv.notify(REPORTING);
  assertEquals(back, [[0x2000, 0x2000], [0, 1 << 20]]);
});

Deno.test("statistics are read when they are told, and their buffer comes back when others are asked for", () => {
  const { drv, dev } = fixture();
  const stats = new Uint8Array(30), dv = new DataView(stats.buffer);
  [[4, 1000], [5, 5_000_000_000], [99, 1]].forEach(([tag, value], i) => {
    dv.setUint16(10 * i, tag!, true);
    dv.setBigUint64(10 * i + 2, BigInt(value!), true);
  });
  drv.queues[STATS]!.add([stats]);
  drv.notify(STATS);
  assertEquals(dev.stats, { freeBytes: 1000, totalBytes: 5_000_000_000 });
  assertEquals(drv.queues[STATS]!.collect(), null);
  dev.askStats();
  assertEquals(drv.queues[STATS]!.collect()?.written, 0);
});
