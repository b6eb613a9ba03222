/**
 * Litmus tests: what several vCPUs may see of each other's loads and stores. Each shape runs on 100,000 cells, half of them by
 * compiled code; no outcome that the manual forbids may appear in one of them. `deno task litmus` goes on by the million.
 */
import { assertEquals } from "@std/assert";
import { outcomes, SHAPES, STORE_BUFFERING } from "./shapes.ts";

const CELLS = 50_000;

for (const compiled of [false, true]) {
  const tier = compiled ? ": compiled" : "";
  for (const shape of SHAPES) {
    Deno.test(`${shape.name}${tier}`, async () => {
      const counts = await outcomes(shape, CELLS, compiled);
      for (const forbidden of shape.forbidden) {
        assertEquals(counts.get(forbidden), undefined, JSON.stringify([...counts]));
      }
      assertEquals([...counts.values()].reduce((a, b) => a + b), CELLS);
    });
  }

  Deno.test(`store buffering: both may miss the other's store${tier}`, async () => {
    const counts = await outcomes(STORE_BUFFERING, CELLS, compiled);
    console.log(`store buffering was seen ${counts.get("00") ?? 0} times in ${CELLS}${tier}`);
    assertEquals([...counts.values()].reduce((a, b) => a + b), CELLS);
  });
}
