/** The slots of a VM against the memory map's own word on each page. */
import { assertEquals } from "@std/assert";
import { DEVICE, LEGACY_PAGES, type Mapping, MemoryMap } from "../../../src/base/memory_map.ts";
import { slotsOf } from "../../../src/engine/kvm/memory_slots.ts";

const RAM_PAGES = 0x200;

function map(mappings: readonly Mapping[]): MemoryMap {
  const map = new MemoryMap(new SharedArrayBuffer(MemoryMap.sizeBytes), 0, RAM_PAGES);
  map.set(mappings);
  return map;
}

Deno.test("without a map, RAM is one slot", () => {
  assertEquals(slotsOf(RAM_PAGES, []), [{ first: 0, pages: RAM_PAGES, backing: 0, readonly: false }]);
});

Deno.test("every page is in the slot that the map says, or in none, and no two slots overlap", () => {
  let seed = 1;
  const random = (n: number) => (seed = (seed * 48271) % 0x7fff_ffff) % n;
  for (let round = 0; round < 200; round++) {
    const mappings = Array.from({ length: 1 + random(6) }, (): Mapping => {
      const high = random(3) === 0, first = high ? 0x1f0 + random(0x40) : LEGACY_PAGES.first + random(0x60);
      const backing = random(3) === 0 ? DEVICE : RAM_PAGES + random(0x80);
      return { first, pages: 1 + random(0x20), backing, writable: random(2) === 0 };
    });
    const slots = slotsOf(RAM_PAGES, mappings), told = map(mappings);
    for (let page = 0; page < 0x280; page++) {
      const of = slots.filter(({ first, pages }) => page >= first && page < first + pages);
      const read = of[0] ? (of[0].backing + page - of[0].first) * 4096 : DEVICE;
      const write = of[0] && !of[0].readonly ? read : DEVICE;
      assertEquals(
        [of.length <= 1, read, write],
        [true, told.backingOf(page * 4096, false), told.backingOf(page * 4096, true)],
        `page ${page.toString(16)} of ${JSON.stringify(mappings)}`,
      );
    }
  }
});
