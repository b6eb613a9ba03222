import { assertEquals } from "@std/assert";
import { WallWatch } from "../../src/machine/wall_watch.ts";

function rig() {
  const clock = { wall: 1_800_000_000_000, monotonic: 5000 };
  const skips: number[] = [];
  const watch = new WallWatch({
    wallMs: () => clock.wall,
    monotonicMs: () => clock.monotonic,
    skip: (ms) => skips.push(ms),
  });
  const pass = (wall: number, monotonic: number) => {
    clock.wall += wall;
    clock.monotonic += monotonic;
    watch.look();
  };
  return { pass, skips, watch };
}

Deno.test("a night's sleep of the host is made up for once; time that passes for both is not", () => {
  const { pass, skips, watch } = rig();
  pass(10_000, 10_000);
  pass(8 * 3600_000 + 5000, 5000);
  pass(5000, 5000);
  watch.close();
  assertEquals(skips, [8 * 3600_000]);
});

Deno.test("small corrections add up until they are worth a step; a clock that is set back moves nothing", () => {
  const { pass, skips, watch } = rig();
  for (let i = 0; i < 5; i++) pass(5500, 5000);
  pass(-3600_000, 0);
  pass(5000, 5000);
  pass(4000, 0);
  watch.close();
  assertEquals(skips, [2000, 4000]);
});
