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

Deno.test("whoever asks waits for those that run, not for those that rest", async () => {
  const map = codeMap(), buffer = map.pages.buffer as SharedArrayBuffer;
  map.report(1, 0, true);
  // vCPU 1, in another thread, obeys after a while.
  const source = `
    import { CodeMap } from ${JSON.stringify(new URL("./code_map.ts", import.meta.url).href)};
    self.onmessage = ({ data }) => {
      const map = new CodeMap(data, 0, ${RAM_BYTES});
      while (map.count === 0);
      const handler = { stale() {}, evicted() {}, claimed() {}, everything() {} };
      map.report(1, map.drain(0, 1, handler), true);
    };
    self.postMessage("ready");`;
  const worker = new Worker(`data:text/javascript,${encodeURIComponent(source)}`, { type: "module" });
  try {
    await new Promise((resolve) => worker.onmessage = resolve);
    worker.postMessage(buffer);
    map.claim(3, 0, 2, never);
    assertEquals(map.pages[3], 1);
    map.report(1, map.count, false);
    map.evict(3, 3, 0, 2, never, () => true);
    assertEquals(map.pages[3], 1);
  } finally {
    worker.terminate();
  }
});
