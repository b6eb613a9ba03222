/** Where decoded code lies: tables and records never see what others have left. */
import { assert, assertEquals } from "@std/assert";
import { Arena } from "../../base/arena.ts";
import { CodeMap } from "../../base/code_map.ts";
import { jumpEntry, JUMPS_BYTES, MODE_64 } from "../../cpu/x86/state.ts";
import { CodeCache } from "./code_cache.ts";

const RAM_PAGES = 64, AT = 1 << 20, BYTES = 1 << 20;

function fixture() {
  const buffer = new SharedArrayBuffer(AT + BYTES + JUMPS_BYTES);
  const arena = new Arena(buffer, 4096, AT - 4096);
  const map = new CodeMap(buffer, arena.raw(CodeMap.sizeBytes(RAM_PAGES * 4096)), RAM_PAGES * 4096);
  return { cache: new CodeCache(buffer, AT, BYTES, RAM_PAGES, map, AT + BYTES), u8: new Uint8Array(buffer) };
}

/** A trace of `records` at an offset of a page. */
function lay(cache: CodeCache, page: number, offset: number, records: number): void {
  cache.begin(page, MODE_64, offset);
  for (let i = 0; i < records; i++) cache.emit(0x7777, offset, 1, 0x77, 0x77, 0x77, 0x77, 0x77777777, 0x77777777);
  cache.finish(offset, offset + 1, -1);
}

Deno.test("a page has the entry points that were laid, and no others, also where other code lay before", () => {
  const { cache } = fixture();
  // Few pages with many records, then many with few, and back: each lies where the other did.
  for (let round = 0; round < 4; round++) {
    const many = round % 2 === 0, pages = many ? 4 : 30;
    for (let page = 0; page < pages; page++) {
      assert(cache.hasRoom(), `round ${round}, page ${page}`);
      lay(cache, page, 8 * page, many ? 8000 : 10);
    }
    for (let page = 0; page < pages; page++) {
      const entries = [];
      for (let offset = 0; offset < 4096; offset++) {
        if (cache.entryOf(page, MODE_64, offset) !== 0) entries.push(offset);
      }
      assertEquals(entries, [8 * page], `round ${round}, page ${page}`);
      assertEquals(cache.indirectTargets(page, MODE_64), []);
    }
    cache.flush();
    assertEquals(cache.entryOf(0, MODE_64, 0), 0);
  }
});

Deno.test("tables and records stay within their region and apart, until there is no room", () => {
  const { cache, u8 } = fixture();
  let page = 0;
  while (cache.hasRoom()) lay(cache, page++ % RAM_PAGES, page & 0xfff, 100);
  assert(cache.usedBytes > BYTES / 2 && cache.usedBytes <= BYTES, `${cache.usedBytes} bytes`);
  assertEquals(u8.subarray(AT + BYTES).findIndex((byte) => byte !== 0), -1, "bytes behind the region");
  for (let n = 0; n < Math.min(page, RAM_PAGES); n++) {
    const table = cache.tableOf(n, MODE_64);
    assertEquals(table % 4096, 0);
    assert(table >= cache.at && table < AT + BYTES);
    for (let offset = 0; offset < 4096; offset++) {
      const at = cache.entryOf(n, MODE_64, offset);
      assert(at === 0 || (at > AT && at < cache.at), `page ${n}, offset ${offset}: ${at}`);
    }
  }
});

Deno.test("what was invalidated has neither entry points nor targets", () => {
  const { cache, u8 } = fixture();
  lay(cache, 3, 100, 5);
  const table = cache.tableOf(3, MODE_64);
  u8[table + 4 * 4096 + 200] = 1; // an indirect jump has gone there
  assertEquals(cache.indirectTargets(3, MODE_64).map((t) => t.offset), [200]);
  cache.invalidate(3);
  assertEquals([cache.entryOf(3, MODE_64, 100), cache.indirectTargets(3, MODE_64)], [0, []]);
});

Deno.test("where jumps have gone is a bit for each entry point", () => {
  const { cache } = fixture();
  for (const offset of [0, 100, 4095]) lay(cache, 3, offset, 5);
  const bits = cache.entered(3, MODE_64), set = [];
  for (let offset = 0; offset < 4096; offset++) if (bits[offset >> 3]! & (1 << (offset & 7))) set.push(offset);
  assertEquals(set, [0, 100, 4095]);
});

Deno.test("what stands for an entry point goes with it: when it is replaced, invalidated, or all is forgotten", () => {
  const { cache, u8 } = fixture();
  const words = new Uint32Array(u8.buffer), known = (slot: number) => (AT + BYTES + jumpEntry(slot)) >> 2;
  const forgets = (how: () => void) => {
    lay(cache, 3, 100, 5);
    const slot = cache.tableOf(3, MODE_64) + 4 * 100;
    words[known(slot)] = slot;
    how();
    assertEquals(words[known(slot)], 0);
  };
  forgets(() => lay(cache, 3, 100, 7));
  forgets(() => cache.invalidate(3));
  forgets(() => cache.flush());
});
