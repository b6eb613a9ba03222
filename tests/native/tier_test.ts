/** What stands around native code: the interpreter is left and gone on with in the middle of blocks, and nothing is lost. */
import { assert, assertEquals } from "@std/assert";
import type { Region } from "../../src/cpu/x86/jit/region.ts";
import { ARENA_BYTES } from "../../src/engine/soft/native/tier.ts";
import { Duel } from "../tiers/duel.ts";
import { makeProgram } from "../tiers/program.ts";
import { Rig } from "../tiers/rig.ts";
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

Deno.test({
  name: "when the memory for code is full all is forgotten, and programs go on",
  ignore,
  fn() {
    /** Two regions of its fit. */
    class Glutton extends Bouncer {
      override compile(region: Region) {
        const made = super.compile(region), code = new Uint8Array(ARENA_BYTES * 0.4);
        code.set(made.code);
        return { ...made, code };
      }
    }
    const rig = new Rig(true, () => new Glutton()), program = makeProgram(SEED);
    let made = 0, forgotten = 0;
    rig.onTrace = (what) => {
      if (what.includes(" native,")) made++;
      else if (what === "all code forgotten") {
        forgotten++;
        assert(made <= 2, `${made} at a time`);
        made = 0;
      }
    };
    rig.load(program);
    for (const at of program.leaders.slice(0, 12)) {
      rig.vcpu.put64("rip", program.base + BigInt(at));
      rig.vcpu.compileHere();
    }
    assert(forgotten > 2);
    assertEquals(new Duel(true, () => new Glutton()).run(SEED + 1).differences, []);
  },
});
