import { assertEquals } from "@std/assert";
import { defineHot, HOT_LIMIT } from "./hot.ts";
import { HOT_ENTRIES, HOT_PLACES, OP_BYTES } from "./state.ts";
import { fixture } from "./system/fixture.ts";

function counts() {
  const f = fixture(1, ["hot"], (m, funcs) => void funcs.more.set("hot", defineHot(m)));
  f.set("hotLimit", HOT_LIMIT);
  return {
    visit(record: number, times: number) {
      f.set("lookedPage", record);
      f.set("lookedOffset", record & 0xfff);
      for (let k = 0; k < times; k++) f.call("hot", record);
    },
    /** Empties the list. */
    listed() {
      const pages = Array.from({ length: f.get("hotPlaces") }, (_, k) => f.get("hot", 2 * k));
      f.set("hotPlaces", 0);
      return pages;
    },
  };
}

Deno.test("hot places: what is come to often is listed, once; what is come to seldom is not", () => {
  const { visit, listed } = counts();
  visit(0x1000, 100);
  visit(0x2010, 50_000);
  visit(0x1000, 100);
  assertEquals(listed(), [0x2010]);
  visit(0x2010, 50_000);
  assertEquals(listed(), []);
});

Deno.test("hot places: of two that share an entry the more frequent one is listed", () => {
  const { visit, listed } = counts();
  const often = 0x4000, seldom = often + HOT_ENTRIES * OP_BYTES;
  for (let k = 0; k < 100_000; k++) {
    visit(often, 2);
    visit(seldom, 1);
  }
  assertEquals(listed(), [often]);
});

Deno.test("hot places: where the list is full, a place is listed when there is room", () => {
  const { visit, listed } = counts();
  const records = Array.from({ length: HOT_PLACES + 1 }, (_, k) => 0x8000 + k * OP_BYTES);
  for (const record of records) visit(record, 50_000);
  assertEquals(listed(), records.slice(0, HOT_PLACES));
  visit(records[HOT_PLACES]!, 1);
  assertEquals(listed(), [records[HOT_PLACES]]);
});
