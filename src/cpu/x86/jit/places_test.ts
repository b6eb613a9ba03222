import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { Decoder } from "../decode.ts";
import { variantsOf } from "../interp.ts";
import { MICRO_WAYS } from "../state.ts";
import { findPlaces } from "./places.ts";
import { RegionFinder } from "./region.ts";
import { Structure } from "./structure.ts";

const variants = variantsOf(false, false);
const decoder = new Decoder(variants.rows, variants);

/** The places of the instructions at the page's start, in the order of their addresses. */
function placesOf(code: string, salt = 7) {
  const page = new Uint8Array(4096);
  page.set(Uint8Array.fromHex(code.replaceAll(/\s/g, "")));
  const region = new RegionFinder(decoder).find(page, 0, 0, { blocks: 64, instructions: 300 })!;
  const successors = region.blocks.map((b) => [b.targetBlock, b.nextBlock].filter((to) => to >= 0));
  const places = findPlaces(region, { decoder, variants }, new Structure({ successors }).sequence, salt);
  return [...places].sort(([a], [b]) => a.at - b.at).map(([, place]) => place);
}

Deno.test("places: accesses through one value share a place, through another one not", () => {
  const [first, second, third, reload, fourth, , fifth] = placesOf(`
    48 8b 07     mov rax, [rdi]
    48 8b 4f 08  mov rcx, [rdi+8]
    48 89 0e     mov [rsi], rcx
    48 8b 7f 10  mov rdi, [rdi+16]
    48 8b 07     mov rax, [rdi]
    48 83 c7 08  add rdi, 8
    48 8b 07     mov rax, [rdi]
    c3           ret`.replaceAll(/ {2,}[a-z].*/g, ""));
  assertEquals(second!.operand, first!.operand);
  assertEquals(reload!.operand, first!.operand, "what it loads is not what it reads through");
  assertNotEquals(third!.operand, first!.operand);
  assertNotEquals(fourth!.operand, first!.operand);
  assertEquals(fifth!.operand, fourth!.operand, "the pointer has moved on");
});

Deno.test("places: the stack's is the same for every region, until RSP is loaded", () => {
  const code = "50 48894c2410 4889fc 58 c3"; // push rax; mov [rsp+16], rcx; mov rsp, rdi; pop rax; ret
  const one = placesOf(code, 1), other = placesOf(code, 2);
  assertEquals(one[0]!.stack, one[1]!.operand);
  assertEquals(one[0]!.stack, other[0]!.stack);
  assertNotEquals(one[3]!.stack, one[0]!.stack);
  assertNotEquals(one[3]!.stack, other[3]!.stack);
});

Deno.test("places: where two ways meet, a register has a value of its own if they differ", () => {
  // test eax, eax; jz +3; mov rdi, [rsi]; mov rax, [rdi]; mov rcx, [rsi]; ret
  const [, , load, through, kept] = placesOf("85c0 7403 488b3e 488b07 488b0e c3");
  assertNotEquals(through!.operand, load!.operand);
  assertEquals(kept!.operand, load!.operand);
});

Deno.test("places: all lie within the table", () => {
  // mov rdi, [rdi + 4096 k], more often than there are places
  const code = Array.from({ length: 200 }, (_, k) => `488bbf00${(k * 16 & 0xff).toString(16).padStart(2, "0")}0000`);
  for (const { operand } of placesOf(`${code.join("")}c3`)) assert(operand >= 0 && operand < MICRO_WAYS);
});
