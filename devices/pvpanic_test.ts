import { assertEquals } from "@std/assert";
import { PvPanic } from "./pvpanic.ts";

Deno.test("PvPanic offers two events and reports those it knows", () => {
  const seen: string[] = [];
  const dev = new PvPanic({ onPanic: (event) => seen.push(event) });
  assertEquals(dev.region.read(0, 1), 3);
  for (const value of [0xfc, 1, 2, 3]) dev.region.write(0, 1, value);
  assertEquals(seen, ["panicked", "crashloaded", "panicked", "crashloaded"]);
});
