import { assertEquals } from "@std/assert";
import { Decoder } from "../decode.ts";
import { variantsOf } from "../interp.ts";
import { findGroups, type Use } from "./groups.ts";
import { rowsInPlace } from "./inline_rows.ts";
import { RegionFinder } from "./region.ts";
import { Structure } from "./structure.ts";

const variants = variantsOf(false, false);
const decoder = new Decoder(variants.rows, variants);

/** What the instructions at the page's start do, in the order of their addresses: number of the group, and distance from its start. */
function groupsOf(code: string, exact = false): string[] {
  const page = new Uint8Array(4096);
  page.set(Uint8Array.fromHex(code.replaceAll(/(?<=\S) {2,}[a-z].*/g, "").replaceAll(/\s/g, "")));
  const region = new RegionFinder(decoder).find(page, 0, 0, { blocks: 64, instructions: 300 })!;
  const successors = region.blocks.map((b) => [b.targetBlock, b.nextBlock].filter((to) => to >= 0));
  const host = { decoder, variants, exact };
  const found = findGroups(region, host, rowsInPlace(host), new Structure({ successors }));
  const numbers = new Map<unknown, number>();
  const tell = (use: Use | undefined) => {
    if (!use) return "-";
    if (!numbers.has(use.group)) numbers.set(use.group, numbers.size);
    return `${use.first ? "first " : ""}${numbers.get(use.group)}+${use.at - use.group.from}`;
  };
  return region.blocks.flatMap((b) => b.instructions).sort((a, b) => a.at - b.at)
    .map((i) => tell(found.get(i)?.stack ?? found.get(i)?.operand));
}

Deno.test("groups: pushes are one, what is popped another; a return belongs to it", () => {
  const code = "53 55 4154 415c 5d 5b c3"; // push rbx, rbp, r12; pop r12, rbp, rbx; ret
  assertEquals(groupsOf(code), ["first 0+16", "0+8", "0+0", "first 1+0", "1+8", "1+16", "1+24"]);
});

Deno.test("groups: accesses by one value, wherever it has been copied to or moved", () => {
  const found = groupsOf(`
    48 8b 47 10  mov rax, [rdi+16]
    48 89 fa     mov rdx, rdi
    48 83 c2 08  add rdx, 8
    48 8b 0a     mov rcx, [rdx]
    48 8d 72 40  lea rsi, [rdx+64]
    48 8b 36     mov rsi, [rsi]
    48 8b 06     mov rax, [rsi]
    c3           ret`);
  assertEquals(found, ["first 0+8", "-", "-", "0+0", "-", "0+64", "-", "-"]);
});

Deno.test("groups: an index counts too, and what is added to it by its scale", () => {
  const found = groupsOf(`
    8b 04 8f       mov eax, [rdi+rcx*4]
    48 ff c1       inc rcx
    8b 14 8f       mov edx, [rdi+rcx*4]
    8b 14 4f       mov edx, [rdi+rcx*2]
    c3             ret`);
  assertEquals(found, ["first 0+0", "-", "0+4", "-", "-"]);
});

Deno.test("groups: none goes on behind a handler, a load of its base, or further than it may be long", () => {
  assertEquals(groupsOf("8b07 0fa2 8b4704 c3"), ["-", "-", "-", "-"], "mov eax, [rdi]; cpuid; mov eax, [rdi+4]; ret");
  assertEquals(
    groupsOf("8b07 488b3e 8b4704 c3"),
    ["-", "-", "-", "-"],
    "mov eax, [rdi]; mov rdi, [rsi]; mov eax, [rdi+4]",
  );
  assertEquals(groupsOf("8b07 8b877d000000 c3"), ["-", "-", "-"], "mov eax, [rdi]; mov eax, [rdi+125]; ret");
  assertEquals(groupsOf("8b07 8b477c c3"), ["first 0+0", "0+124", "-"], "mov eax, [rdi]; mov eax, [rdi+124]; ret");
});

Deno.test("groups: they go on over a jump that is not taken, and end where ways meet", () => {
  // mov eax, [rdi]; test eax, eax; jz +3; mov eax, [rdi+4]; mov eax, [rdi+8]; ret
  assertEquals(groupsOf("8b07 85c0 7403 8b4704 8b4708 c3"), ["first 0+0", "-", "-", "0+4", "-", "-"]);
});

Deno.test("groups: where instructions make the time, they end at a jump that is taken", () => {
  // mov eax, [rdi]; test eax, eax; jz +1; ret; mov eax, [rdi+4]; ret
  const code = "8b07 85c0 7401 c3 8b4704 c3";
  assertEquals(groupsOf(code)[4], "0+4");
  assertEquals(groupsOf(code, true)[4], "-");
});
