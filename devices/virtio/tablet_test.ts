import { assertEquals } from "@std/assert";
import { Arena } from "../../src/base/arena.ts";
import { GuestRam } from "../../src/base/ram.ts";
import { PciHost, PciHostRecord } from "../pci/host.ts";
import { PciDriver } from "./pci_driver.ts";
import { FEATURE, LAYOUT } from "./registers.ts";
import { EV, INPUT_CFG, VirtioTablet } from "./tablet.ts";

function fixture() {
  const arena = Arena.private(), ram = GuestRam.private();
  const host = new PciHost(arena.place("host", PciHostRecord));
  const dev = host.add(4, 0, new VirtioTablet(arena, "tablet", { ram, msi: { send: () => {} } }));
  arena.powerOn();
  host.assignResources({ base: 0xc0000000, end: 0xc1000000 }, { base: 0x1000, end: 0x2000 });
  const memory = host.memoryWindow(0);
  const drv = new PciDriver({ ecam: host.ecam, memory, ram, devfn: 32, ringsAt: 0x10000 });
  const config = (host.ecam.read((32 << 12) | 0x10, 4) & ~0xf) + LAYOUT.DEVICE;
  const start = () => {
    drv.negotiate([FEATURE.VERSION_1]);
    drv.start(64);
  };
  /** What a selection shows: `size` bytes of the union. */
  const select = (what: number, of = 0): number[] => {
    memory.write(config >>> 0, 1, what);
    memory.write((config >>> 0) + 1, 1, of);
    const size = memory.read((config >>> 0) + 2, 1);
    return Array.from({ length: size }, (_, i) => memory.read((config >>> 0) + 8 + i, 1));
  };
  const give = (buffers: number) => {
    for (let i = 0; i < buffers; i++) drv.queues[0]!.add([8]);
    drv.notify(0);
  };
  /** The events that came: type, code, value. */
  const events = (): number[][] => {
    const all: number[][] = [];
    for (let used = drv.queues[0]!.collect(); used; used = drv.queues[0]!.collect()) {
      const v = new DataView(used.bytes.buffer, used.bytes.byteOffset);
      all.push([v.getUint16(0, true), v.getUint16(2, true), v.getInt32(4, true)]);
    }
    return all;
  };
  return { dev, drv, start, select, give, events };
}

const SYN = [0, 0, 0];

Deno.test("the selections of a tablet: its name, its axes from 0 to 32767, three buttons, a wheel [virtio §5.8.4]", () => {
  const { select } = fixture();
  assertEquals(new TextDecoder().decode(Uint8Array.from(select(INPUT_CFG.ID_NAME))), "trike tablet");
  assertEquals(select(INPUT_CFG.ID_DEVIDS), [6, 0, 0xf4, 0x1a, 18, 0, 1, 0]);
  for (const axis of [0, 1]) {
    assertEquals(select(INPUT_CFG.ABS_INFO, axis), [0, 0, 0, 0, 0xff, 0x7f, ...new Array(14).fill(0)]);
  }
  // BTN_LEFT is 110h: bit 0 of byte 34. REL_WHEEL is 8, ABS_X and ABS_Y are 0 and 1.
  assertEquals(select(INPUT_CFG.EV_BITS, EV.KEY), [...new Array(34).fill(0), 7]);
  assertEquals([select(INPUT_CFG.EV_BITS, EV.REL), select(INPUT_CFG.EV_BITS, EV.ABS)], [[0, 1], [3]]);
  for (
    const [what, of] of [[0, 0], [INPUT_CFG.ID_SERIAL, 0], [INPUT_CFG.ABS_INFO, 2], [INPUT_CFG.EV_BITS, 4], [0x55, 0]]
  ) {
    assertEquals(select(what!, of), [], `${what}, ${of}`);
  }
});

Deno.test("a place, then buttons, then the wheel, and a report after them; what has not changed is not told", () => {
  const { dev, start, give, events } = fixture();
  assertEquals(dev.used, false);
  start();
  assertEquals(dev.used, true);
  give(32);
  dev.point(100, 200, 0, 0);
  assertEquals(events(), [[3, 0, 100], [3, 1, 200], SYN]);
  dev.point(100, 201, 1 | 4, -2);
  assertEquals(events(), [[3, 1, 201], [1, 0x110, 1], [1, 0x112, 1], [2, 8, -2], SYN]);
  dev.point(100, 201, 4, 0);
  assertEquals(events(), [[1, 0x110, 0], SYN]);
  dev.point(100, 201, 4, 0);
  assertEquals(events(), []);
  dev.point(-5, 70000, 4, 0);
  assertEquals(events(), [[3, 0, 0], [3, 1, 0x7fff], SYN]);
});

Deno.test("a guest that gives no buffers is told later where the pointer is then, and what the wheel did adds up", () => {
  const { dev, start, give, events } = fixture();
  start();
  for (let i = 0; i < 1000; i++) dev.point(i, 2 * i, i & 1, 1);
  assertEquals(events(), []);
  give(2);
  assertEquals(events(), [[3, 0, 999], [3, 1, 1998]]);
  dev.point(999, 5, 1, 0);
  give(32);
  assertEquals(events(), [[3, 1, 5], [1, 0x110, 1], [2, 8, 1000], SYN]);
});

Deno.test("a reset forgets what was told; buffers on the statusq come back", () => {
  const { dev, drv, start, give, events } = fixture();
  start();
  give(8);
  dev.point(7, 8, 0, 0);
  assertEquals(events().length, 3);
  drv.queues[1]!.add([Uint8Array.of(0x11, 0, 0, 0, 1, 0, 0, 0)]);
  drv.notify(1);
  assertEquals(drv.queues[1]!.collect()!.written, 0);
  start();
  give(8);
  assertEquals(events(), []);
  dev.point(7, 8, 0, 0);
  assertEquals(events(), [[3, 0, 7], [3, 1, 8], SYN]);
});
