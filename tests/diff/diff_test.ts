/**
 * The software CPU against the host's processor: a slice of the fuzzing that `deno task fuzz` goes on with, and what it once
 * found.
 */
import { assert, assertEquals } from "@std/assert";
import { DATA } from "./arena.ts";
import { Fuzz } from "./fuzz.ts";
import { Harness, type Mismatch } from "./harness.ts";
import { nativeUnavailable } from "./native.ts";

const CORPUS = new URL("../fuzz/corpus/x86/", import.meta.url);
const BATCHES = 1500;
const SEED = 20_240_611;

const reason = nativeUnavailable();
if (reason) console.log(`The software CPU is not compared with the host's processor: ${reason}.`);
const options = { ignore: reason !== null };

Deno.test("the software CPU does what the host's processor does", options, () => {
  const harness = new Harness();
  try {
    const fuzz = new Fuzz(harness, SEED);
    const bad: Mismatch[] = [];
    for (let i = 0; i < BATCHES && bad.length < 8; i++) bad.push(...fuzz.batch());
    assertEquals(bad.length, 0, bad.slice(0, 8).map((m) => harness.describe(m)).join("\n"));
  } finally {
    harness.close();
  }
});

Deno.test("what they once disagreed about, they agree about", options, () => {
  const harness = new Harness();
  try {
    let replayed = 0;
    for (const file of Deno.readDirSync(CORPUS)) {
      if (!file.name.endsWith(".json")) continue;
      const m: Mismatch = JSON.parse(Deno.readTextFileSync(new URL(file.name, CORPUS)));
      const differences = harness.replay(m);
      if (!differences) continue;
      assertEquals(differences, [], `${file.name}\n${harness.describe({ ...m, differences })}`);
      replayed++;
    }
    assert(replayed > 0, "the corpus lies at an address that is taken");
  } finally {
    harness.close();
  }
});

Deno.test("a difference is seen: a register, a flag, a byte of memory, a fault", options, () => {
  const harness = new Harness();
  try {
    const add = harness.tested.find((s) => s.row.op === "01 /r")!;
    const make = (spoil: (record: Uint32Array, words: number) => void) => {
      let made = 0;
      harness.soft.spoil = (out, at) => {
        made++;
        spoil(out, at);
      };
      const bad = harness.batch(1, (g, i) => g.single(i, add), 1);
      delete harness.soft.spoil;
      assertEquals(made, 1);
      return bad.length;
    };
    assertEquals(make(() => {}), 0);
    assertEquals(make((out, at) => out[at + 6]! ^= 1), 1);
    assertEquals(make((out, at) => out[at + 32]! ^= 1), 1);
    assertEquals(make((out, at) => out[at + 39]! ^= 1), 1);
    assertEquals(make(() => harness.soft.bytes(DATA + 512, 1)[0]! ^= 1), 1);
  } finally {
    harness.close();
  }
});
