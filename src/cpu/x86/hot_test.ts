import { assertEquals } from "@std/assert";
import { defineHot, halveHot, HOT_LIMIT } from "./hot.ts";
import { HOT_ENTRIES, HOT_PLACES, OP_BYTES } from "./state.ts";
import { CPU, fixture } from "./system/fixture.ts";

function counts() {
  const f = fixture(1, ["hot"], (m, funcs) => void funcs.more.set("hot", defineHot(m)));
  f.set("hotLimit", HOT_LIMIT);
  return {
    visit(record: number, times: number) {
      f.set("lookedPage", record);
      f.set("lookedOffset", record & 0xfff);
      for (let k = 0; k < times; k++) f.call("hot", record);
    },
    halve: () => halveHot(new Int32Array(f.view.buffer), CPU),
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

Deno.test("hot places: two that are near in the table are both listed, of more the most frequent one", () => {
  const { visit, listed } = counts();
  const away = HOT_ENTRIES * OP_BYTES, [one, other] = [0x4000, 0x4000 + away];
  for (let k = 0; k < 30_000; k++) {
    visit(one, 1);
    visit(other, 1);
  }
  assertEquals(listed(), [one, other]);
  const often = 0x9000, seldom = [1, 2, 3].map((k) => often + k * away);
  for (let k = 0; k < 50_000; k++) {
    visit(often, 4);
    visit(seldom[k % 3]!, 1);
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

Deno.test("hot places: with counts halved now and then, what is come to often enough is listed, however long the others last", () => {
  const { visit, listed, halve } = counts();
  for (let k = 0; k < 100; k++) {
    visit(0x1000, HOT_LIMIT * 0.4);
    visit(0x2010, HOT_LIMIT * 0.6);
    halve();
  }
  assertEquals(listed(), [0x2010]);
});
