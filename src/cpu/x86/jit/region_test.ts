import { assertEquals } from "@std/assert";
import { Decoder } from "../decode.ts";
import { variantsOf } from "../interp.ts";
import { End, RegionFinder } from "./region.ts";

const variants = variantsOf(false, false);
const finder = new RegionFinder(new Decoder(variants.rows, variants));
const LIMITS = { blocks: 64, instructions: 300 };

Deno.test("a region has the targets of jumps that have been taken, and leaves for the others", () => {
  const page = new Uint8Array(4096);
  // 0: test edi, edi; jz 16; js 32; ret — 16: inc eax; ret — 32: dec eax; ret
  page.set(Uint8Array.fromHex("85ff740c781ac3"));
  page.set(Uint8Array.fromHex("ffc0c3"), 16);
  page.set(Uint8Array.fromHex("ffc8c3"), 32);
  const starts = (entered: Uint8Array | null) =>
    finder.find(page, 0, 0, LIMITS, [], entered)!.blocks.map((b) => b.at).sort((a, b) => a - b);
  const taken = (...offsets: number[]) => {
    const bits = new Uint8Array(512);
    for (const at of offsets) bits[at >> 3]! |= 1 << (at & 7);
    return bits;
  };
  assertEquals(starts(null), [0, 4, 6, 16, 32]);
  assertEquals(starts(taken(0)), [0, 4, 6]);
  assertEquals(starts(taken(0, 16)), [0, 4, 6, 16]);
  const [first] = finder.find(page, 0, 0, LIMITS, [], taken(0))!.blocks;
  assertEquals([first!.end, first!.target, first!.targetBlock], [End.Jcc, 16, -1]);
});
