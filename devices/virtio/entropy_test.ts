import { assertEquals, assertNotEquals } from "@std/assert";
import { Arena } from "../../src/base/arena.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { TestTime, Timers } from "../../src/base/timers.ts";
import { PciHost, PciHostRecord } from "../pci/host.ts";
import { SeededEntropy, SeededEntropyRecord, VirtioEntropy } from "./entropy.ts";
import { PciDriver } from "./pci_driver.ts";
import { FEATURE } from "./registers.ts";

function fixture() {
  const arena = Arena.private();
  const ram = GuestRam.private();
  const host = new PciHost(arena.place("host", PciHostRecord));
  const timers = new Timers(arena);
  const time = new TestTime(timers);
  let next = 1;
  const source = {
    onFill: () => {},
    fill(into: Uint8Array) {
      into.fill(next++);
      this.onFill();
    },
  };
  const dev: VirtioEntropy = host.add(
    4,
    0,
    new VirtioEntropy(arena, "rng", {
      ram,
      msi: { send: () => {} },
      source,
      clock: time,
      timer: timers.timer("rng", () => dev.process()),
    }),
  );
  arena.powerOn();
  host.assignResources({ base: 0xc0000000, end: 0xc1000000 }, { base: 0x1000, end: 0x2000 });
  const drv = new PciDriver({ ecam: host.ecam, memory: host.memoryWindow(0), ram, devfn: 32, ringsAt: 0x10000 });
  drv.negotiate([FEATURE.VERSION_1]);
  drv.start(8);
  return { ram, drv, source, time };
}

Deno.test("every writable byte of a chain is filled and counted", () => {
  const { drv } = fixture();
  drv.queues[0]!.add([7, 9]);
  drv.notify(0);
  const used = drv.queues[0]!.collect()!;
  assertEquals([used.written, [...used.bytes]], [16, new Array(16).fill(1)]);
});

Deno.test("a buffer of megabytes gets some bytes, and one of none gets none", () => {
  const { drv } = fixture();
  const q = drv.queues[0]!;
  q.writeDesc(0, 0x40000, 0x80000, 2, 0);
  q.publish(0);
  q.writeDesc(1, 0x40000, 16, 0, 0); // device-readable: nothing to write to
  q.publish(1);
  drv.notify(0);
  assertEquals([q.collect()!.written, q.collect()!.written], [65536, 0]);
});

Deno.test("a driver that adds while the device works is served in turns", () => {
  const { drv, source, time } = fixture();
  const q = drv.queues[0]!;
  let added = 1;
  source.onFill = () => {
    if (added++ < 20) q.add([4]);
  };
  q.add([4]);
  drv.notify(0);
  let collected = 0;
  while (q.collect()) collected++;
  assertEquals(collected, 8, "one queue's worth at a time");
  time.advance(1000);
  while (q.collect()) collected++;
  assertEquals(collected, 20);
});

Deno.test("SeededEntropy gives equal bytes for equal seeds, goes on after a restore, and survives the zero state", () => {
  const a = SeededEntropyRecord.create(), b = SeededEntropyRecord.create();
  const take = (s: typeof a, n: number) => {
    const bytes = new Uint8Array(n);
    new SeededEntropy(s).fill(bytes);
    return bytes;
  };
  assertEquals(take(a, 32), take(b, 32));
  b.state[2] = 5;
  assertNotEquals(take(a, 32), take(b, 32));
  b.state.set(a.state);
  assertEquals(take(a, 13), take(b, 13));
  a.state.fill(0);
  assertEquals(new Set(take(a, 256)).size > 64, true);
});

Deno.test("SeededEntropy is xoshiro128**: the first outputs from state 1, 2, 3, 4", () => {
  // rotl(2 × 5, 7) × 9 = 11520; the next state's second word is 2 ^ 3 ^ 1 = 0.
  const s = SeededEntropyRecord.create();
  s.state.set([1, 2, 3, 4]);
  const bytes = new Uint8Array(12);
  new SeededEntropy(s).fill(bytes);
  const v = new DataView(bytes.buffer);
  assertEquals([v.getUint32(0, true), v.getUint32(4, true), v.getUint32(8, true)], [11520, 0, 5927040]);
});
