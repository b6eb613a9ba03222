import { assertEquals, assertStrictEquals } from "@std/assert";
import { Decoder } from "../../cpu/x86/decode.ts";
import { variantsOf } from "../../cpu/x86/interp.ts";
import { RegionFinder } from "../../cpu/x86/jit/region.ts";
import { CompiledCode } from "./compiled_code.ts";
import { NEWS_BYTES, NewsReader, NewsWriter } from "./compiler_thread.ts";
import { LIMITS } from "./tier.ts";

const variants = variantsOf(false, false);
const finder = new RegionFinder(new Decoder(variants.rows, variants));
const module = () => new WebAssembly.Module(Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0));
const page = (fill: number) => new Uint8Array(4096).fill(fill);
type Jumps = readonly { offset: number; id: number }[];

/** What asks for the code at `offset`, where jumps have gone to `entered` only. */
function request(bytes: Uint8Array<ArrayBuffer>, offset: number, jumps: Jumps, entered?: readonly number[]) {
  const bits = entered ? new Uint8Array(512) : null;
  for (const at of entered ?? []) bits![at >> 3]! |= 1 << (at & 7);
  return { id: 1, bytes, offset, jumps, entered: bits, at: offset, places: null };
}
type Request = ReturnType<typeof request>;
const region = (r: Request) => finder.find(r.bytes, 0, r.offset, LIMITS, r.jumps, r.entered)!;
const keep = (code: CompiledCode, r: Request, made: WebAssembly.Module) => code.keep(r, region(r), made);
const find = (code: CompiledCode, r: Request) => code.find(r, region(r))?.module;

Deno.test("compiled code is found by the bytes, the entry and the jumps, and by nothing less", () => {
  const code = new CompiledCode(), made = module(), jumps = [{ offset: 8, id: 2 }];
  keep(code, request(page(0x90), 16, jumps), made);
  assertStrictEquals(find(code, request(page(0x90), 16, [{ offset: 8, id: 2 }])), made);
  assertEquals(find(code, request(page(0x98), 16, jumps)), undefined);
  assertEquals(find(code, request(page(0x90), 17, jumps)), undefined);
  assertEquals(find(code, request(page(0x90), 16, [{ offset: 8, id: 3 }])), undefined);
  assertEquals(find(code, request(page(0x90), 16, [])), undefined);
});

Deno.test("compiled code is none for who runs much that is not in it", () => {
  // test edi, edi; jz 16; 4 × inc eax; nop; ret — 16: 40 × dec eax; ret
  const bytes = page(0);
  bytes.set(Uint8Array.fromHex("85ff740c" + "ffc0".repeat(4) + "90c3"));
  bytes.set(Uint8Array.fromHex("ffc8".repeat(40) + "c3"), 16);
  const code = new CompiledCode(), made = module();
  keep(code, request(bytes, 0, [], [0]), made);
  assertStrictEquals(find(code, request(bytes, 0, [], [0])), made);
  assertEquals(find(code, request(bytes, 0, [], [0, 16])), undefined);
  // What holds more than is wanted does.
  keep(code, request(bytes, 0, [], [0, 16]), made);
  assertStrictEquals(find(code, request(bytes, 0, [], [0])), made);
});

Deno.test("compiled code is found by its bytes where two pages have one sum", () => {
  // FNV-1a steps are invertible: after any first byte there are four that lead to the same sum.
  const starting = (first: number) => page(0).fill(first, 0, 1);
  const step = (sum: number, byte: number) => Math.imul(sum ^ byte, 0x01000193) >>> 0;
  const wanted = [1, 2, 3, 4].reduce((sum, byte) => step(sum, byte), step(0x811c9dc5, 7));
  const sums = new Map<number, [number, number]>();
  const start = step(0x811c9dc5, 9);
  for (let a = 0; a < 256; a++) for (let b = 0; b < 256; b++) sums.set(step(step(start, a), b), [a, b]);
  let inverse = 1;
  for (let n = 0; n < 5; n++) inverse = Math.imul(inverse, 2 - Math.imul(0x01000193, inverse));
  const back = (sum: number, byte: number) => (Math.imul(sum, inverse) ^ byte) >>> 0;
  const one = starting(7), other = starting(9);
  one.set([1, 2, 3, 4], 1);
  let met = false;
  for (let d = 0; d < 256 && !met; d++) {
    for (let c = 0; c < 256 && !met; c++) {
      const ab = sums.get(back(back(wanted, d), c));
      if (ab) other.set([...ab, c, d], 1), met = true;
    }
  }
  assertEquals(met, true);
  const sum = (bytes: Uint8Array) => bytes.reduce(step, 0x811c9dc5);
  assertEquals(sum(one), sum(other));
  const code = new CompiledCode();
  const same = region(request(page(0x90), 0, []));
  code.keep(request(one, 0, []), same, module());
  assertEquals(code.find(request(other, 0, []), same), undefined);
});

Deno.test("the first of many modules is forgotten", () => {
  const code = new CompiledCode(), made = module();
  for (let offset = 0; offset <= 512; offset++) keep(code, request(page(0x90), offset, []), made);
  assertEquals(find(code, request(page(0x90), 0, [])), undefined);
  assertStrictEquals(find(code, request(page(0x90), 1, [])), made);
});

Deno.test("news of compiled code are read once, in order, and the last ones of too many", () => {
  const news = new SharedArrayBuffer(NEWS_BYTES), writer = new NewsWriter(news), reader = new NewsReader(news);
  const read = () => {
    const heard: number[] = [];
    reader.read((gpa) => heard.push(gpa));
    return heard;
  };
  assertEquals(read(), []);
  writer.tell(0x1000);
  writer.tell(0xbfff_f010);
  assertEquals(read(), [0x1000, 0xbfff_f010]);
  assertEquals(read(), []);
  for (let n = 0; n < 1000; n++) writer.tell(n);
  assertEquals(read(), Array.from({ length: 255 }, (_, n) => 745 + n));
});
