import { assertEquals } from "@std/assert";
import { DEVICE, MemoryMap } from "../../../base/memory_map.ts";
import { DTLB, ITLB } from "../state.ts";
import { CPU, fixture, RAM } from "./fixture.ts";

/** 256 pages of RAM that the guest knows of, 16 of backing after them. */
const RAM_PAGES = 256, EXTRA = 16, MAP_AT = 0x1000;
const ROM_AT = 0xffff_0000;

function machine() {
  const f = fixture(RAM_PAGES + EXTRA, ["flushTlb", "fetch"]);
  const map = new MemoryMap(f.view.buffer, MAP_AT, RAM_PAGES);
  f.set("memoryMap", MAP_AT);
  f.set64("cr0", 0x10);
  f.set("dtlb", CPU + DTLB);
  f.set("itlb", CPU + ITLB);
  f.call("flushTlb");
  /** The bytes an access is given: an offset from RAM's start, or "device". */
  const where = (name: "readAddr" | "writeAddr", gpa: number) => {
    f.log.length = 0;
    const at = f.call(name, BigInt(gpa), 4) as number;
    return at >= RAM ? at - RAM : f.log.length > 0 ? "device" : "bounce";
  };
  return { f, map, where };
}

Deno.test("memory map: without mappings the low MiB is RAM and what lies beyond RAM is a device's", () => {
  const { where } = machine();
  assertEquals(where("readAddr", 0xa0000), 0xa0000);
  assertEquals(where("writeAddr", 0xf0000), 0xf0000);
  assertEquals(where("readAddr", RAM_PAGES * 4096), "device");
});

Deno.test("memory map: ROM is read where its backing is, and writes to it go to a device", () => {
  const { f, map, where } = machine();
  map.set([{ first: ROM_AT / 4096, pages: EXTRA, backing: RAM_PAGES, writable: false }]);
  assertEquals(where("readAddr", ROM_AT + 0x1234), RAM_PAGES * 4096 + 0x1234);
  f.log.length = 0;
  // The translation is known by now, and yet must not let the write through.
  const at = f.call("writeAddr", BigInt(ROM_AT + 0x1234), 4) as number;
  f.view.setUint32(at, 0x55, true);
  f.call("commit");
  assertEquals(f.log.at(-1), "mmioWrite ffff1234 100 4 55");
});

Deno.test("memory map: RAM below 1 MiB may be shadowed, hidden or write-protected", () => {
  const { f, map, where } = machine();
  map.set([
    { first: 0xa0, pages: 0x20, backing: DEVICE, writable: false },
    { first: 0xc0, pages: 0x10, backing: RAM_PAGES, writable: false },
    { first: 0xf0, pages: 0x10, backing: 0xf0, writable: false },
  ]);
  assertEquals(where("readAddr", 0xa8000), "device");
  assertEquals(where("readAddr", 0xc0010), RAM_PAGES * 4096 + 0x10);
  assertEquals(where("readAddr", 0xf0010), 0xf0010);
  assertEquals(where("writeAddr", 0xd0000), 0xd0000);
  // A write that asks for the old bytes reads them from the device first.
  f.log.length = 0;
  f.call("writeAddr", 0xf0010n, 4);
  assertEquals(f.log.length, 1);
  assertEquals(where("readAddr", 0x9f000), 0x9f000);
});

Deno.test("memory map: the processor fetches from ROM, and not from a device", () => {
  const { f, map } = machine();
  map.set([{ first: ROM_AT / 4096, pages: EXTRA, backing: RAM_PAGES, writable: false }]);
  assertEquals(f.call("fetch", BigInt(ROM_AT + 0xfff0)), 0);
  assertEquals(f.get("physLo"), (RAM_PAGES + 15) * 4096 + 0xff0);
  assertEquals(f.call("fetch", 0xe000_0000n) === 0, false);
});

Deno.test("memory map: backingOf tells what the processor finds", () => {
  const { map, where } = machine();
  map.set([
    { first: 0xa0, pages: 0x20, backing: DEVICE, writable: false },
    { first: 0xc0, pages: 0x10, backing: RAM_PAGES, writable: false },
    { first: 0xd0, pages: 0x01, backing: RAM_PAGES + 1, writable: true },
  ]);
  for (const gpa of [0, 0x9ffff - 3, 0xa0000, 0xbfff0, 0xc0000, 0xd0000, 0xd1000, 0xff000, RAM_PAGES * 4096, ROM_AT]) {
    for (const write of [false, true]) {
      const want = map.backingOf(gpa, write);
      assertEquals(where(write ? "writeAddr" : "readAddr", gpa), want === DEVICE ? "device" : want, gpa.toString(16));
    }
  }
});

Deno.test("memory map: only a change changes its generation", () => {
  const { map } = machine();
  const before = map.generation;
  map.set([{ first: 0xa0, pages: 1, backing: DEVICE, writable: false }]);
  const after = map.generation;
  map.set([{ first: 0xa0, pages: 1, backing: DEVICE, writable: false }]);
  assertEquals([after !== before, map.generation], [true, after]);
});
