/** A vCPU from an image: the module was generated for another memory, and does what the manual says all the same. */
import { assert, assertEquals } from "@std/assert";
import { DEFAULT_CPU, limitsOf, MAX_CPU } from "../../src/cpu/x86/system/cpu_model.ts";
import { makeImage } from "../../src/engine/soft/interpreter.ts";
import { imageName } from "../../src/engine/soft/image_name.ts";
import { longMode, softFixture } from "./fixture.ts";

const CODE = 0x10000, STACK = 0x20000;
const RAX = 0, RCX = 1, RDX = 2;

Deno.test("a vCPU from an image runs: hot handlers, others, calls of imports; nothing is left to keep", () => {
  const f = softFixture(makeImage(0, 1, limitsOf(DEFAULT_CPU)));
  longMode(f, CODE, STACK);
  // mov eax, 7; mov ecx, 6; mul ecx; movd xmm0, eax; paddd xmm0, xmm0; movd ecx, xmm0; out 80h, al; hlt
  const code = "b807000000 b906000000 f7e1 660f6ec0 660ffec0 660f7ec1 e680 f4".replaceAll(" ", "");
  Uint8Array.fromHex(code).forEach((byte, i) => f.ram.write(CODE + i, 1, byte));
  assertEquals(f.vcpu.run(Infinity), "halt");
  // [sdm2 MUL, PADDD]
  assertEquals([RAX, RCX, RDX].map((n) => f.vcpu.get64("gpr", n)), [42n, 84n, 0n]);
  assertEquals(f.board.log, ["out 80.1 2a"]);
  assertEquals(f.vcpu.takeImage(), null);
});

Deno.test("a vCPU without an image gives one, once", () => {
  const f = softFixture();
  const image = f.vcpu.takeImage();
  if (image !== null) assert(image.length > 100_000); // else an earlier test of this process has had it
  assertEquals(f.vcpu.takeImage(), null);
});

Deno.test("vCPUs whose modules differ have images of different names", () => {
  const names = [
    imageName(0, 1),
    imageName(0, 2),
    imageName(1, 2),
    imageName(0, 1, MAX_CPU),
    imageName(0, 1, { ...DEFAULT_CPU, features: DEFAULT_CPU.features.filter((f) => f !== "SMAP") }),
  ];
  assertEquals(new Set(names).size, names.length);
  assertEquals(imageName(1, 2), imageName(1, 4), "how many others there are is nothing to a module");
});
