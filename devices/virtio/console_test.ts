import { assertEquals } from "@std/assert";
import { Arena } from "../../src/base/arena.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { ByteRing } from "../../src/base/ring.ts";
import { TestTime, Timers } from "../../src/base/timers.ts";
import { PciHost, PciHostRecord } from "../pci/host.ts";
import { VirtioConsole } from "./console.ts";
import { PciDriver } from "./pci_driver.ts";
import { CFG_TYPE, FEATURE } from "./registers.ts";

const RECEIVEQ = 0, TRANSMITQ = 1;

function fixture(capacity = 64) {
  const arena = Arena.private();
  const ram = GuestRam.private();
  const host = new PciHost(arena.place("host", PciHostRecord));
  const timers = new Timers(arena);
  const time = new TestTime(timers);
  const input = ByteRing.private(capacity), output = ByteRing.private(capacity);
  const dev: VirtioConsole = host.add(
    6,
    0,
    new VirtioConsole(arena, "con", {
      ram,
      msi: { send: () => {} },
      input,
      output,
      clock: time,
      timer: timers.timer("con", () => dev.process()),
    }),
  );
  arena.powerOn();
  host.assignResources({ base: 0xc0000000, end: 0xc1000000 }, { base: 0x1000, end: 0x2000 });
  const drv = new PciDriver({ ecam: host.ecam, memory: host.memoryWindow(0), ram, devfn: 48, ringsAt: 0x10000 });
  drv.negotiate([FEATURE.VERSION_1, 0]);
  drv.start(8);
  return { dev, drv, input, output, time, arena };
}

const bytes = (n: number) => Uint8Array.from({ length: n }, (_, i) => i);

Deno.test("output goes from the transmitq to its ring, and the chain comes back", () => {
  const { drv, output } = fixture();
  drv.queues[TRANSMITQ]!.add([bytes(3), bytes(5)]);
  drv.notify(TRANSMITQ);
  assertEquals([...output.read()], [0, 1, 2, 0, 1, 2, 3, 4]);
  assertEquals(drv.queues[TRANSMITQ]!.collect()!.written, 0);
});

Deno.test("output that finds no room waits on the queue, in order, and nothing is lost or sent twice", () => {
  const { drv, output, time } = fixture();
  const q = drv.queues[TRANSMITQ]!;
  q.add([bytes(100), bytes(50)]);
  q.add([bytes(7)]);
  drv.notify(TRANSMITQ);
  assertEquals([output.available, q.collect()], [64, null]);
  const seen: number[] = [];
  for (let i = 0; i < 5; i++) {
    seen.push(...output.read(40));
    time.advance(10_000_000);
  }
  assertEquals(seen, [...bytes(100), ...bytes(50), ...bytes(7)]);
  assertEquals([q.collect()!.head, q.collect()!.head], [0, 2]);
});

Deno.test("input waits in its ring until the guest gives buffers, and fills them no further than they go", () => {
  const { drv, dev, input } = fixture();
  const q = drv.queues[RECEIVEQ]!;
  input.write(bytes(10));
  dev.process();
  assertEquals(input.available, 10);
  q.add([4]);
  q.add([8]);
  drv.notify(RECEIVEQ);
  assertEquals([...q.collect()!.bytes], [0, 1, 2, 3]);
  const second = q.collect()!;
  assertEquals([second.written, [...second.bytes.subarray(0, 6)]], [6, [4, 5, 6, 7, 8, 9]]);
  assertEquals(drv.isr(), 1);
});

Deno.test("input that comes later finds the buffers the guest left", () => {
  const { drv, dev, input } = fixture();
  drv.queues[RECEIVEQ]!.add([16]);
  drv.notify(RECEIVEQ);
  assertEquals([drv.queues[RECEIVEQ]!.collect(), drv.isr()], [null, 0]);
  input.write(bytes(2));
  dev.process();
  assertEquals([drv.queues[RECEIVEQ]!.collect()!.written, drv.isr()], [2, 1]);
});

Deno.test("a resize shows in the configuration and interrupts once", () => {
  const { drv, dev } = fixture();
  assertEquals(drv.structure(CFG_TYPE.DEVICE, 0, 4), 80 | 25 << 16);
  dev.resize(132, 43);
  dev.resize(132, 43);
  assertEquals([drv.structure(CFG_TYPE.DEVICE, 0, 2), drv.structure(CFG_TYPE.DEVICE, 2, 2)], [132, 43]);
  assertEquals([drv.isr(), drv.common("config_generation")], [2, 1]);
});

Deno.test("a reset forgets a half-sent chain", () => {
  const { drv, output } = fixture();
  drv.queues[TRANSMITQ]!.add([bytes(100)]);
  drv.notify(TRANSMITQ);
  drv.negotiate([FEATURE.VERSION_1]);
  output.read();
  drv.start(8);
  drv.queues[TRANSMITQ]!.add([bytes(3)]);
  drv.notify(TRANSMITQ);
  assertEquals([...output.read()], [0, 1, 2]);
});

Deno.test("one call moves no more than a burst, whatever the guest has to say", () => {
  const { drv, output, time } = fixture(1 << 20);
  const q = drv.queues[TRANSMITQ]!;
  for (let i = 0; i < 4; i++) q.writeDesc(i, 0x80000, 0x10000, i < 3 ? 1 : 0, i + 1);
  q.publish(0);
  drv.notify(TRANSMITQ);
  assertEquals([output.available, q.collect()], [0x10000, null]);
  time.advance(20_000_000);
  assertEquals([output.available, q.collect()!.head], [0x40000, 0]);
});
