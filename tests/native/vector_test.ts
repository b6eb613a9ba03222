/** Vector instructions in native code, row by row: the interpreter ends where they do, and they have not been left to it. */
import { assert, assertEquals } from "@std/assert";
import { type Shape, shapeOf } from "../../src/cpu/x86/assemble.ts";
import { ROWS } from "../../src/cpu/x86/isa/index.ts";
import { CR0, EXC } from "../../src/cpu/x86/state.ts";
import { CodeArena } from "../../src/engine/soft/native/code_arena.ts";
import { hostFeatures } from "../../src/engine/soft/native/host_features.ts";
import { Rig } from "../tiers/rig.ts";
import { ignore } from "./fixture.ts";
import { BASE, compare, LOOKS, program, TOGETHER } from "./row_programs.ts";

/** Results that processors choose, MMX registers, and addresses that are no operand of ModRM are the interpreter's. */
const LEFT = /^V?R(CP|SQRT)[PS]S$|^CVTPI2P|^V?MASKMOVDQU$|^VP?MASKMOV|^VP?GATHER/;
const shapes = ROWS.filter((row) => row.unit === "sse" || row.unit === "avx").map(shapeOf);
const native = shapes.filter(({ row }) => !LEFT.test(row.name) && !row.name.endsWith("MXCSR"));
/** What the host lacks is the interpreter's. */
const whole = !ignore && hasAll();
function hasAll(): boolean {
  const features = hostFeatures(CodeArena.open(1 << 16));
  const lacks = ["sse4_2", "aes", "pclmulqdq", "sha_ni", "avx2", "fma", "f16c"].filter((name) => !features.has(name));
  if (lacks.length > 0) console.log(`not looked at: what runs natively, on a host without ${lacks.join(", ")}`);
  return lacks.length === 0;
}

for (const mxcsr of [0x1f80, 0xffc0, 0x3f80, 0x5fbf]) {
  Deno.test({
    name: `each vector instruction does natively what the interpreter does, with MXCSR ${mxcsr.toString(16)}h`,
    ignore,
    fn() {
      for (let n = 0; n < native.length; n += TOGETHER) {
        const list = native.slice(n, n + TOGETHER), names = list.map((s) => s.row.name).join(" ");
        const { part, exceptions } = compare(program(mxcsr + n, list, { mxcsr }), names);
        assertEquals(exceptions, 0, names);
        if (whole) assert(part > 0.6, `${names}: ${part} of them natively`);
      }
    },
  });
}

Deno.test({
  name: "comparisons leave all six flags as the interpreter has them, whoever looks",
  ignore,
  fn() {
    const list = native.filter(({ row }) => row.flags);
    assert(list.length >= 20);
    for (let seed = 0; seed < 12; seed++) for (const after of LOOKS) compare(program(seed, list, { after }), after);
  },
});

const some = (name: string, args: RegExp) => native.filter((s) => s.row.name === name && args.test(s.row.args!));

Deno.test({
  name: "an operand that is not aligned as it must be is #GP(0), and only then",
  ignore,
  fn() {
    const strict = [...some("ADDPS", /W/), ...some("MOVAPS", /W/), ...some("MOVNTDQ", /M/), ...some("PSHUFB", /W/)];
    const wide = ["VMOVDQA", "VMOVNTPS"].flatMap((name) => some(name, /qq/));
    const free = ["MOVDQU", "LDDQU", "PCMPISTRI", "ADDSD", "VADDPS", "VPSHUFB"].flatMap((name) => some(name, /[WM]/));
    assert(strict.length >= 5 && wide.length >= 3 && free.length >= 9);
    const faults = (shape: Shape, offset: number) =>
      compare(program(offset, [shape], { offset, memory: true }), shape.row.name).exceptions > 0;
    for (const shape of strict) {
      assert(faults(shape, 8), shape.row.name);
      assert(!faults(shape, 16), shape.row.name);
    }
    for (const shape of wide) {
      assert(faults(shape, 16), shape.row.name);
      assert(!faults(shape, 32), shape.row.name);
    }
    for (const shape of free) assert(!faults(shape, 3), shape.row.name);
  },
});

Deno.test({
  name: "where an exception is not masked, the interpreter raises it",
  ignore,
  fn() {
    // #IA is masked in none of these: signalling NaNs are among the numbers.
    const list = native.filter(({ row }) => /^V?(ADD|MUL|SQRT|CMP|CVT)[PS]/.test(row.name));
    const { part, exceptions } = compare(program(5, list.slice(0, TOGETHER), { mxcsr: 0x1f00 }), "#XM");
    assert(exceptions > 0 && part < 0.2, `${part}`);
  },
});

Deno.test({
  name: "after a task switch the first vector instruction is #NM",
  ignore,
  fn() {
    for (const name of ["ADDPS", "VADDPS"]) {
      const p = program(6, some(name, /W/)), rig = new Rig(true), { vcpu } = rig;
      rig.load(p);
      vcpu.put64("cr0", vcpu.get64("cr0") | BigInt(CR0.TS));
      vcpu.exports.updateMode(vcpu.base);
      vcpu.put64("rip", BASE + BigInt(p.start));
      assert(vcpu.compileHere());
      while (vcpu.get("exceptions") === 0) vcpu.run(rig.ns + 1);
      assertEquals(vcpu.get("faultVector"), EXC.NM);
    }
  },
});
