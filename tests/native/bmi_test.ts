/** BMI1, BMI2, MOVBE and CRC32 in native code: the interpreter ends where they do, flags and all. */
import { assert, assertEquals } from "@std/assert";
import { shapeOf } from "../../src/cpu/x86/assemble.ts";
import { ROWS } from "../../src/cpu/x86/isa/index.ts";
import { ignore } from "./fixture.ts";
import { compare, LOOKS, program } from "./row_programs.ts";

const NAMES = /^(ANDN|BEXTR|BLS(I|MSK|R)|BZHI|MULX|PDEP|PEXT|RORX|SARX|SHLX|SHRX|MOVBE|CRC32)$/;
const shapes = ROWS.filter((row) => NAMES.test(row.name)).map(shapeOf);

Deno.test({
  name: "bit instructions do natively what the interpreter does, flags included",
  ignore,
  fn() {
    assertEquals(shapes.length, 19);
    for (let seed = 0; seed < 8; seed++) {
      for (const after of LOOKS) {
        const { exceptions } = compare(
          program(seed, shapes, { after, memory: seed % 3 === 0 }),
          `seed ${seed}, ${after}`,
        );
        assertEquals(exceptions, 0);
      }
    }
    assert(compare(program(1, shapes), "natively").part > 0.6);
  },
});
