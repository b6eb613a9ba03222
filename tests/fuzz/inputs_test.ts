/** A second of every target with one seed, and all that its corpus holds. `deno task fuzz:inputs` goes on from there. */
import { assertEquals } from "@std/assert";
import { broken, fuzz, type Target } from "./target.ts";
import { corpus, TARGETS } from "./targets.ts";

for (const target of TARGETS) {
  Deno.test(`${target.name}: what the corpus holds keeps the rule`, async () => {
    for (const { name, bytes } of corpus(target)) assertEquals(await broken(target, bytes), null, name);
  });

  Deno.test(`${target.name}: a second of mutations keeps the rule`, async () => {
    const inputs = [...target.seeds(), ...corpus(target).map(({ bytes }) => bytes)];
    for (const input of inputs) assertEquals(await broken(target, input), null);
    const { runs, finding } = await fuzz(target, { seed: 1, seconds: 1, inputs });
    assertEquals(finding, null);
    assertEquals(runs > 10, true, `only ${runs} inputs`);
  });
}

Deno.test("fuzz finds a rule that two bytes break, shrinks what it found, and does so again with the seed", async () => {
  const target: Target = {
    name: "planted",
    seeds: () => [],
    fuzz(bytes) {
      const at = bytes.indexOf(0xff);
      if (at >= 0 && bytes[at + 1] === 0x80) throw new Error("planted");
    },
  };
  const find = (seed: number) =>
    fuzz(target, { seed, seconds: 30, maxRuns: 1_000_000, inputs: [Uint8Array.from({ length: 40 }, (_, i) => i)] });
  const { finding } = await find(3);
  assertEquals(finding!.input, Uint8Array.of(0xff, 0x80));
  const again = await find(3);
  assertEquals([again.finding!.run, again.finding!.input], [finding!.run, finding!.input]);
});
