/** Guest-physical pages and the memory behind them, beside MemoryMap's own word for each page. */
import { assert, assertEquals } from "@std/assert";
import { DEVICE, type Mapping, MemoryMap } from "../../../src/base/memory_map.ts";
import { layoutOf, type Stretch, without } from "../../../src/engine/hvf/layout.ts";

const RAM = 0x400, PAGE = 4096;

/** What the layout has at a page: the byte behind its start, or DEVICE. */
function at(list: readonly Stretch[], page: number, write: boolean): number {
  const found = list.find(({ first, pages }) => page >= first && page < first + pages);
  if (!found || (write && !found.writable)) return DEVICE;
  return (found.backing + page - found.first) * PAGE;
}

Deno.test("without a map RAM is one stretch", () => {
  assertEquals(layoutOf(null, RAM), [{ first: 0, pages: RAM, backing: 0, writable: true }]);
});

Deno.test("the layout has each page as the map has it, and no page twice, for random maps", () => {
  let seed = 12345;
  const random = (n: number) => (seed = (seed * 1103515245 + 12345) % 0x8000_0000) % n;
  for (let round = 0; round < 200; round++) {
    const mappings: Mapping[] = Array.from({ length: random(7) }, () => {
      const low = random(3) > 0, first = low ? 0x90 + random(0x80) : RAM + random(0x100);
      const backing = random(4) === 0 ? DEVICE : RAM + random(0x80);
      return { first, pages: 1 + random(0x20), backing, writable: random(2) === 0 };
    });
    const map = new MemoryMap(new SharedArrayBuffer(MemoryMap.sizeBytes), 0, RAM);
    map.set(mappings);
    const list = layoutOf(mappings, RAM);
    list.forEach(({ first, pages }, i) => {
      assert(pages > 0 && (i === 0 || list[i - 1]!.first + list[i - 1]!.pages <= first), JSON.stringify(mappings));
    });
    for (let page = 0; page < RAM + 0x140; page++) {
      for (const write of [false, true]) {
        assertEquals(
          at(list, page, write),
          map.backingOf(page * PAGE, write),
          `page ${page}, ${JSON.stringify(mappings)}`,
        );
      }
    }
  }
});

Deno.test("RAM that the map cannot change is the same stretch whatever the map says", () => {
  const plain = layoutOf([], RAM), rom = layoutOf([{ first: 0xf0, pages: 16, backing: RAM, writable: false }], RAM);
  const kept = plain.filter((stretch) => without([stretch], rom).length === 0).map(({ first }) => first);
  assertEquals(kept, [0, 0x100]);
});
