/** Native code of an instruction that begins in one page and ends in the next: nothing is left to the interpreter for it. */
import { assert, assertEquals } from "@std/assert";
import { Asm } from "../tiers/asm.ts";
import { Duel, type Manner } from "../tiers/duel.ts";
import { CODE, DATA, DATA_PAGES, PAGE, VECTOR } from "../tiers/layout.ts";
import type { Program } from "../tiers/program.ts";
import { ignore } from "./fixture.ts";

const BASE = 0x40_0000n, TIMES = 300;
const COMPILED: Manner = { compile: "leaders", again: false, slice: 1000, atStops: 0, atLooks: 0 };

/** A loop in which `code` begins so many bytes before the end of the first page; `head` comes before, `tail` behind it. */
function loop(code: string, before: number, head: (a: Asm) => void = () => {}, tail = ""): Program {
  const text = new Asm(0);
  head(text);
  const a = new Asm(CODE), at = PAGE - before, start = at - text.at - 10;
  a.raw(new Array(start).fill(0x90));
  a.mov(14, BigInt(TIMES));
  a.label("again");
  head(a);
  assertEquals(a.at, at);
  a.label("crossing");
  a.hex(code);
  a.label("behind");
  a.hex(tail + "49 83 EE 01"); // sub r14, 1
  a.jcc(5, "again");
  a.hex(`CD ${VECTOR.END.toString(16)}`);
  const leaders = ["again", "crossing", "behind"].map((name) => a.labels.get(name)!);
  const registers = Array.from({ length: 16 }, (_, n) => BigInt(n * 0x1234_5678_9abd));
  registers[8] = BASE + BigInt(DATA + PAGE);
  return {
    seed: 1,
    user: true,
    base: BASE,
    code: a.finish(),
    data: new Uint8Array(DATA_PAGES * PAGE).fill(0x3f),
    start,
    recoveries: [start],
    leaders: [start, ...leaders],
    instructions: leaders,
    registers,
    pieces: [],
  };
}

const duel = ignore ? null : new Duel(true);
function partOf(p: Program): number {
  const { differences, exceptions, compiled, instructions } = duel!.compare(p, COMPILED);
  assertEquals(differences, []);
  assertEquals(exceptions, 0);
  return compiled / instructions;
}

for (
  const [what, code] of [
    ["add rax, 1234h", "48 05 34 12 00 00"],
    ["addpd xmm1, xmm9", "66 41 0F 58 C9"],
    ["or [r8 + 40h], ecx", "41 09 48 40"],
    ["mov rax, a constant", "48 B8 12 34 56 78 9A BC DE F0"],
    ["lea rdx, [rip - 100h]", "48 8D 15 00 FF FF FF"],
  ] as const
) {
  Deno.test({
    name: `an instruction that ends in the next page runs natively: ${what}`,
    ignore,
    fn() {
      const length = code.split(" ").length;
      for (let before = 1; before < length; before++) {
        const part = partOf(loop(code, before));
        assert(part > 0.9, `${before} bytes in the first page: ${part}`);
      }
    },
  });
}

Deno.test({
  name: "what is written to its second half is what runs",
  ignore,
  fn() {
    // The last byte of the constant of `mov eax, 0`, from the instruction's own page; the sum tells each value it has had.
    const p = loop("B8 00 00 00 00", 2, (a) => a.hex("FE 05 04 00 00 00"), "48 01 C2");
    partOf(p);
  },
});

Deno.test({
  name: "branches at the end of a page are the interpreter's, and go where they should",
  ignore,
  fn() {
    for (let before = 1; before < 6; before++) partOf(loop("0F 84 00 00 00 00", before));
    for (let before = 1; before < 5; before++) partOf(loop("E9 00 00 00 00", before));
  },
});
