/** What stands around native code: the interpreter is left and gone on with in the middle of blocks, and nothing is lost. */
import { assert, assertEquals } from "@std/assert";
import { Duel } from "../tiers/duel.ts";
import { Bouncer } from "./bounce.ts";
import { ignore } from "./fixture.ts";

const SEED = 20_261_122, PROGRAMS = 10;

/** Random programs beside the interpreter: a slice of `deno task fuzz:tiers --native`. */
function agree(duel: Duel): number {
  let regions = 0, interrupts = 0, exceptions = 0, compiled = 0;
  for (let n = 0; n < PROGRAMS; n++) {
    const outcome = duel.run(SEED + n);
    assertEquals(outcome.differences, [], `seed ${SEED + n}`);
    regions += outcome.regions;
    interrupts += outcome.interrupts;
    exceptions += outcome.exceptions;
    compiled += outcome.compiled;
  }
  // Else it shows nothing.
  assert(regions > 20 * PROGRAMS && interrupts > 5 * PROGRAMS && exceptions > 5 * PROGRAMS);
  return compiled;
}

Deno.test({
  name: "random programs end as they should where code is entered and left all the time",
  ignore,
  fn() {
    agree(new Duel(true, () => new Bouncer()));
  },
});

Deno.test({
  name: "random programs end in native code as they do in the interpreter",
  ignore,
  fn() {
    assert(agree(new Duel(true)) > 500 * PROGRAMS);
  },
});
