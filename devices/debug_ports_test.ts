import { assertEquals } from "@std/assert";
import { ByteRing } from "../src/base/ring.ts";
import { DebugConsole, DebugConsoleRecord, DebugExit, PostCode, PostCodeRecord } from "./debug_ports.ts";

Deno.test("The POST port reads back what was written", () => {
  const dev = new PostCode(PostCodeRecord.create());
  dev.region.write(0, 1, 0xa7);
  assertEquals(dev.region.read(0, 1), 0xa7);
});

Deno.test("The debug console reads as E9h, passes characters on and counts those without room", () => {
  const s = DebugConsoleRecord.create();
  const tx = ByteRing.private(4);
  const dev = new DebugConsole(s, { tx });
  assertEquals(dev.region.read(0, 1), 0xe9);
  for (const c of "hello") dev.region.write(0, 1, c.charCodeAt(0));
  assertEquals([new TextDecoder().decode(tx.read()), s.lost], ["hell", 1]);
});

Deno.test("The debug exit hands its value on, whole", () => {
  const seen: number[] = [];
  const dev = new DebugExit({ onExit: (value) => seen.push(value) });
  dev.region.write(0, 4, 0xdeadbeef);
  dev.region.write(0, 1, 3);
  dev.region.write(1, 1, 9);
  assertEquals(seen, [0xdeadbeef, 3]);
});
