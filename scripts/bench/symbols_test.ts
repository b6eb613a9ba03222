import { assertEquals, assertStringIncludes } from "@std/assert";
import { flameGraph } from "./flame.ts";
import { hottest, stacksOf } from "./samples.ts";
import { elfSymbols, isElf, mapSymbols, Symbols } from "./symbols.ts";

const MAP =
  "ffffffff81000000 T _text\nffffffff81000100 t later\nffffffff81000080 D data\nffffffffc0000000 t work\t[mod]\n";

Deno.test("an address is of the function that begins at or before it, if that is near", () => {
  const symbols = mapSymbols(MAP);
  assertEquals(symbols.size, 3);
  assertEquals(symbols.nameOf(0xffffffff80ffffffn), null);
  assertEquals(symbols.nameOf(0xffffffff81000000n), "_text");
  assertEquals(symbols.nameOf(0xffffffff810000ffn), "_text");
  assertEquals(symbols.nameOf(0xffffffff81000100n), "later");
  assertEquals(symbols.nameOf(0xffffffff91000000n), null);
  assertEquals(symbols.nameOf(0xffffffffc0000004n), "work [mod]");
});

/** An ELF file with one symbol table: a function and an object. */
function elf(): Uint8Array {
  const bytes = new Uint8Array(512), view = new DataView(bytes.buffer);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setBigUint64(0x28, 64n, true); // e_shoff
  view.setUint16(0x3c, 3, true); // e_shnum
  const section = (n: number, type: number, offset: number, size: number, link: number) => {
    const at = 64 + n * 64;
    view.setUint32(at + 4, type, true);
    view.setBigUint64(at + 0x18, BigInt(offset), true);
    view.setBigUint64(at + 0x20, BigInt(size), true);
    view.setUint32(at + 0x28, link, true);
  };
  section(1, 2, 256, 48, 2);
  section(2, 3, 320, 12, 0);
  bytes.set(new TextEncoder().encode("\0main\0data\0"), 320);
  const symbol = (n: number, name: number, type: number, value: bigint) => {
    view.setUint32(256 + n * 24, name, true);
    view.setUint8(256 + n * 24 + 4, type);
    view.setBigUint64(256 + n * 24 + 8, value, true);
  };
  symbol(0, 1, 0x12, 0x401000n);
  symbol(1, 6, 0x11, 0x402000n);
  return bytes;
}

Deno.test("an ELF file's functions have names, its data have none", () => {
  assertEquals(isElf(elf()), true);
  const symbols = elfSymbols(elf());
  assertEquals([symbols.size, symbols.nameOf(0x401010n)], [1, "main"]);
});

Deno.test("samples become stacks of privilege, function and place", () => {
  const names = { kernel: mapSymbols(MAP), program: new Symbols([[0x401000n, "main"]]) };
  const trace = "0.1 0 samples rip ffffffff81000004, cpl 0, last exception 14\n" +
    "0.2 0 samples rip 0000000000401010, cpl 3\n0.3 0 exits slice\n0.4 0 samples rip 0000000000401010, cpl 3\n" +
    "0.5 0 samples rip 00007f0000001234, cpl 3\n";
  const stacks = stacksOf(trace, names);
  assertEquals([...stacks.values()], [
    { frames: ["kernel", "_text", "ffffffff81000004"], count: 1 },
    { frames: ["user", "main", "401010"], count: 2 },
    { frames: ["user", "7f0000001000…", "7f0000001234"], count: 1 },
  ]);
  assertEquals(hottest(stacks, 1), [["user main", 0.5]]);
});

Deno.test("a frame is as wide as its share, and stands on the frame it was called from", () => {
  const svg = flameGraph([[["user", "a<b"], 3], [["kernel"], 1]], "title");
  const frames = [...svg.matchAll(/<rect x="([\d.]+)" y="(\d+)" width="([\d.]+)".*<title>([^:]*):/g)]
    .map(([, x, y, width, name]) => ({ x: Number(x), y: Number(y), width: Number(width), name }));
  assertEquals(frames.map(({ name }) => name), ["all", "user", "a&lt;b", "kernel"]);
  const [all, user, inner, kernel] = frames;
  assertEquals([user!.width / all!.width, kernel!.width / all!.width], [0.75, 0.25]);
  assertEquals([inner!.x, inner!.width], [user!.x, user!.width]);
  assertEquals(inner!.y < user!.y && user!.y < all!.y && kernel!.y === user!.y, true);
  assertStringIncludes(svg, "4 samples");
});
