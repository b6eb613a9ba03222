import { assert, assertEquals, assertThrows } from "@std/assert";
import { Bug } from "../base/errors.ts";
import { LANES, MEMORY, OPCODES } from "./opcodes.ts";
import { Module } from "./module.ts";
import { f32, f64, i32, i64, type Type, v128, type Value } from "./value.ts";

const LETTER: Record<string, Type> = { i: "i32", I: "i64", f: "f32", F: "f64", v: "v128" };
const sample: Record<Type, () => Value> = {
  i32: () => i32(3),
  i64: () => i64(3),
  f32: () => f32(3),
  f64: () => f64(3),
  v128: () => v128(new Uint8Array(16)),
};

Deno.test("every instruction row validates with the signature it declares", () => {
  for (const o of OPCODES.values()) {
    const m = new Module();
    m.func("f", [], [LETTER[o.result]!], (c) => {
      const [a, ...rest] = [...o.params].map((p) => sample[LETTER[p]!]());
      c.return(a!.op(o.name, ...rest));
    });
    assert(WebAssembly.validate(m.bytes()), o.name);
  }
  assert(OPCODES.size > 300, `${OPCODES.size} rows`);
});

Deno.test("every lane and memory row validates", () => {
  for (const [name, [, signature]] of Object.entries(LANES)) {
    const [params, result] = signature.split(":") as [string, string];
    const m = new Module();
    m.func("f", [], [LETTER[result]!], (c) => {
      const value = params[1] ? sample[LETTER[params[1]]!]() : undefined;
      c.return(sample.v128().lane(name as keyof typeof LANES, 1, value));
    });
    assert(WebAssembly.validate(m.bytes()), name);
  }
  for (const name of Object.keys(MEMORY) as (keyof typeof MEMORY)[]) {
    const m = new Module();
    m.importMemory("m", "m", 1, 1);
    m.func("f", [], [], (c) => {
      if (name.includes("load")) c.load(name, 16, 8);
      else c.store(name, 16, sample[name.split(".")[0] as Type](), 8);
    });
    assert(WebAssembly.validate(m.bytes()), name);
  }
});

Deno.test("integer rows compute what their names say", () => {
  // The oracle is bigint arithmetic.
  const cases: [string, (a: bigint, b: bigint) => bigint][] = [
    ["add", (a, b) => a + b],
    ["sub", (a, b) => a - b],
    ["mul", (a, b) => a * b],
    ["and", (a, b) => a & b],
    ["or", (a, b) => a | b],
    ["xor", (a, b) => a ^ b],
    ["gt_s", (a, b) => a > b ? 1n : 0n],
    ["lt_s", (a, b) => a < b ? 1n : 0n],
    ["ge_s", (a, b) => a >= b ? 1n : 0n],
    ["le_s", (a, b) => a <= b ? 1n : 0n],
    ["gt_u", (a, b) => BigInt.asUintN(64, a) > BigInt.asUintN(64, b) ? 1n : 0n],
    ["lt_u", (a, b) => BigInt.asUintN(64, a) < BigInt.asUintN(64, b) ? 1n : 0n],
    ["shr_s", (a, b) => a >> (b & 63n)],
    ["shr_u", (a, b) => BigInt.asUintN(64, a) >> (b & 63n)],
    ["shl", (a, b) => a << (b & 63n)],
  ];
  const m = new Module();
  for (const [name] of cases) {
    const o = OPCODES.get(`i64.${name}`)!;
    m.export(m.func(name, ["i64", "i64"], ["i64"], (c) => {
      const v = c.param(0).op(o.name, c.param(1));
      c.return(o.result === "i" ? v.zx() : v);
    }));
  }
  const e = new WebAssembly.Instance(new WebAssembly.Module(m.bytes())).exports as Record<
    string,
    (a: bigint, b: bigint) => bigint
  >;
  const values = [0n, 1n, -1n, 2n, 63n, 1n << 62n, -(1n << 63n), 0x1234_5678_9abcn];
  for (const [name, f] of cases) {
    for (const a of values) {
      for (const b of values) assertEquals(e[name]!(a, b), BigInt.asIntN(64, f(a, b)), `${name} ${a} ${b}`);
    }
  }
});

Deno.test("Code.switch runs one case, and the last for anything else", () => {
  const m = new Module();
  m.export(m.func("f", ["i32"], ["i32"], (c) => {
    c.switch(c.param(0), [() => c.return(10), () => c.return(11)], () => c.return(99));
  }));
  const f = new WebAssembly.Instance(new WebAssembly.Module(m.bytes())).exports.f as (x: number) => number;
  assertEquals([0, 1, 2, -1].map(f), [10, 11, 99, 99]);
});

Deno.test("a large value used twice is refused while generating", () => {
  const m = new Module();
  assertThrows(
    () =>
      m.func("f", ["i32"], ["i32"], (c) => {
        const v = c.param(0).mul(3).mul(c.param(0)).mul(7);
        c.return(v.add(v));
      }),
    Bug,
    "let()",
  );
});
