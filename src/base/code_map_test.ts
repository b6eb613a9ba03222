import { assertEquals } from "@std/assert";
import { CodeMap, type NoticeHandler } from "./code_map.ts";

const RAM_BYTES = 1 << 24, RING = 4096;

function codeMap(): CodeMap {
  return new CodeMap(new SharedArrayBuffer(CodeMap.sizeBytes(RAM_BYTES)), 0, RAM_BYTES);
}

/** What vCPU `vcpu` hears of notices since `seen`. */
function hears(map: CodeMap, vcpu: number, seen = 0): { heard: string[]; seen: number } {
  const heard: string[] = [];
  const handler: NoticeHandler = {
    stale: (page) => heard.push(`stale ${page}`),
    evicted: (page) => heard.push(`evicted ${page}`),
    claimed: (page) => heard.push(`claimed ${page}`),
    everything: () => heard.push("everything"),
  };
  return { seen: map.drain(seen, vcpu, handler), heard };
}

const never = () => {
  throw new Error("nobody was to be waited for");
};

Deno.test("writes of devices are told to all, and only where somebody holds the page", () => {
  const map = codeMap();
  map.claim(5, 0, 1, never);
  map.wrote(4 * 4096, 3 * 4096);
  map.wrote(0, 0);
  assertEquals(hears(map, 0).heard, ["stale 5"]);
  assertEquals(hears(map, 1).heard, ["stale 5"]);
  map.release(5);
  map.wrote(5 * 4096, 1);
  assertEquals(map.count, 1);
});

Deno.test("claims and evictions are told to the others", () => {
  const map = codeMap();
  map.claim(7, 0, 3, never);
  map.claim(7, 1, 3, never);
  assertEquals(map.pages[7], 2);
  map.evict(7, 9, 2, 3, never, (page) => page === 9);
  assertEquals([map.pages[7], map.pages[9]], [0, 1]);
  assertEquals(hears(map, 0).heard, ["claimed 7", "evicted 7", "evicted 9"]);
  assertEquals(hears(map, 1).heard, ["claimed 7", "evicted 7", "evicted 9"]);
  assertEquals(hears(map, 2).heard, ["claimed 7", "claimed 7"]);
  const { seen } = hears(map, 0);
  assertEquals(hears(map, 0, seen), { heard: [], seen });
});

Deno.test("a ring that has lapped says so once", () => {
  const map = codeMap();
  map.claim(1, 0, 1, never);
  for (let i = 0; i < RING; i++) map.wrote(4096, 1);
  const late = hears(map, 0);
  assertEquals(late.heard, ["everything"]);
  map.wrote(4096, 1);
  assertEquals(hears(map, 0, late.seen).heard, ["stale 1"]);
});

Deno.test("nobody waits for a vCPU that rests, or that runs and has seen all", () => {
  const map = codeMap();
  map.report(1, 0, true);
  map.report(2, 0, false);
  // vCPU 1 has, as far as anybody can tell, seen what is about to be posted.
  map.report(1, 1, true);
  map.claim(3, 0, 3, never);
  map.report(1, 0, false);
  map.evict(3, 3, 0, 3, never, () => true);
  assertEquals(map.pages[3], 1);
});
