import { assertEquals } from "@std/assert";
import { ACCESS_WRITE, defineLinear } from "./linear.ts";
import { EXC } from "./state.ts";
import { fixture } from "./system/fixture.ts";

const CS = 1, DS = 3, CODE = 0x9b, READ_ONLY = 0x91, REAL = 8, PROTECTED = 1;

function machine(mode: number) {
  const f = fixture(16, ["segLinear"], (m, funcs) => defineLinear(m, funcs));
  f.set("mode", mode);
  for (const [n, rights] of [[CS, CODE], [DS, READ_ONLY]] as const) {
    f.set64("segBase", 0x1000, n);
    f.set("segLimit", 0xffff, n);
    f.set("segRights", rights, n);
  }
  /** The linear address, or the exception. */
  return (segment: number, offset: number, access: number) => {
    const [status, linear] = f.call("segLinear", segment, BigInt(offset), 4, access);
    return status === 0 ? Number(linear) : `exception ${f.get("excVector")}`;
  };
}

Deno.test("segments: in real mode there is no type that forbids a write, but a limit", () => {
  const at = machine(REAL);
  assertEquals(at(CS, 0x90fe, ACCESS_WRITE), 0xa0fe);
  assertEquals(at(DS, 0x90fe, ACCESS_WRITE), 0xa0fe);
  assertEquals(at(CS, 0xfffd, ACCESS_WRITE), `exception ${EXC.GP}`);
});

Deno.test("segments: in protected mode neither code nor read-only data can be written [sdm3 §5.5]", () => {
  const at = machine(PROTECTED);
  assertEquals(at(CS, 0x90fe, ACCESS_WRITE), `exception ${EXC.GP}`);
  assertEquals(at(DS, 0x90fe, ACCESS_WRITE), `exception ${EXC.GP}`);
  assertEquals([at(CS, 0x90fe, 0), at(DS, 0x90fe, 0)], [0xa0fe, 0xa0fe]);
});
