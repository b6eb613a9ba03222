/** Vector instructions in native code, row by row: the interpreter ends where they do, and they have not been left to it. */
import { assert, assertEquals } from "@std/assert";
import { isMemoryLetter, rowSizes } from "../../src/cpu/x86/arg.ts";
import { assemble, operands, type Shape, shapeOf } from "../../src/cpu/x86/assemble.ts";
import { ROWS } from "../../src/cpu/x86/isa/index.ts";
import { CR0, EXC } from "../../src/cpu/x86/state.ts";
import { CodeArena } from "../../src/engine/soft/native/code_arena.ts";
import { hostFeatures } from "../../src/engine/soft/native/host_features.ts";
import { Random } from "../diff/random.ts";
import { Asm } from "../tiers/asm.ts";
import { Duel, type Manner } from "../tiers/duel.ts";
import { CODE, DATA, DATA_PAGES, PAGE, VECTOR } from "../tiers/layout.ts";
import type { Program } from "../tiers/program.ts";
import { Rig } from "../tiers/rig.ts";
import { ignore } from "./fixture.ts";

const BASE = 0x40_0000n;
const COMPILED: Manner = { compile: "leaders", again: false, slice: 1000, atStops: 0, atLooks: 0 };
/** Results that processors choose, MMX registers, and addresses that are no operand of ModRM are the interpreter's. */
const LEFT = /^V?R(CP|SQRT)[PS]S$|^CVTPI2P|^V?MASKMOVDQU$|^VP?MASKMOV|^VP?GATHER/;
/** In the second page of data. */
/** Rows in a program; and how often it goes through them. Where a page is new to the TLB, the interpreter goes on to the end. */
const TOGETHER = 48, ROUNDS = 6;
const PLAIN = DATA + PAGE + 1024, MXCSR = DATA + 64;
const shapes = ROWS.filter((row) => row.unit === "sse" || row.unit === "avx").map(shapeOf);

/** Numbers that arithmetic has special cases for, of 32 and of 64 bits. */
const SPECIAL: readonly bigint[] = [
  ...[0x0000_0000n, 0x8000_0000n, 0x3f80_0000n, 0x7f80_0000n, 0xff80_0000n, 0x7fc0_0001n, 0x7f80_0001n, 0x0000_0001n],
  ...[0x3ff0_0000_0000_0000n, 0x7ff0_0000_0000_0000n, 0x7ff8_0000_0000_0001n, 0x7ff0_0000_0000_0001n, 0x1n, 1n << 63n],
  ...[0x41df_ffff_ffc0_0000n, 0x4340_0000_0000_0000n, 0x4f00_0000_4f00_0000n, 0xc1e0_0000_0000_0000n],
];

interface Wanted {
  readonly mxcsr?: number;
  /** Added to the pointers, which are to 64 bytes aligned. */
  readonly offset?: number;
  /** Operands that may be in memory are. */
  readonly memory?: boolean;
}

function program(
  seed: number,
  list: readonly Shape[],
  { mxcsr = 0x1f80, offset = 0, memory = false }: Wanted = {},
): Program {
  const random = new Random(seed), a = new Asm(CODE);
  const data = new Uint8Array(DATA_PAGES * PAGE), view = new DataView(data.buffer);
  for (let at = PAGE; at < 3 * PAGE; at += 8) {
    const value = random.once(2) ? random.pick(SPECIAL) : BigInt(random.value32()) << 32n | BigInt(random.value32());
    view.setBigUint64(at, value, true);
  }
  view.setUint32(MXCSR - DATA, mxcsr, true);
  a.raw(new Array(64).fill(0x90));
  const start = a.at, instructions: number[] = [];
  const op = (emit: () => void) => {
    instructions.push(a.at);
    emit();
  };
  const rip = (bytes: number[], to: number) => {
    a.raw(bytes);
    a.place(`at${to}`, to);
    a.rel32(`at${to}`);
  };
  a.label("start");
  op(() => rip([0x0f, 0xae, 0x15], MXCSR)); // ldmxcsr
  // vmovdqu ymm, [data]
  for (let n = 0; n < 16; n++) {
    op(() => rip([0xc5, n < 8 ? 0xfe : 0x7e, 0x6f, 0x05 | ((n & 7) << 3)], DATA + 2 * PAGE + 32 * n));
  }
  op(() => a.mov(14, BigInt(ROUNDS)));
  a.label("again");
  for (const n of [8, 12]) op(() => a.mov(n, BASE + BigInt(PLAIN + 256 * n - 2048 + offset)));
  for (const shape of list) {
    const code = assembled(shape, random, memory);
    op(() => a.raw(code));
  }
  op(() => a.hex("49 FF CE")); // dec r14
  op(() => a.jcc(5, "again"));
  op(() => a.hex(`CD ${VECTOR.END.toString(16)}`));
  const registers = Array.from({ length: 16 }, () => BigInt(random.value32()) << 32n | BigInt(random.value32()));
  return {
    seed,
    user: true,
    base: BASE,
    code: a.finish(),
    data,
    start,
    recoveries: [instructions.at(-1)!],
    leaders: [start, a.labels.get("again")!],
    instructions,
    registers,
    pieces: [],
  };
}

function assembled(shape: Shape, random: Random, memory: boolean): number[] {
  const { row, args } = shape, o = operands(random.pick(rowSizes(row, args, true)));
  const vector = (letter: string) => "VWUHL".includes(letter);
  // R8 and R12 have addresses; R13 is one of those that native code has in the state.
  o.regs = args.map((a) => vector(a.letter) ? random.below(16) : random.pick([0, 3, 6, 10, 13, 15]));
  const place = args.findIndex((a) => isMemoryLetter(a.letter));
  if (place >= 0 && (args[place]!.letter === "M" || memory || random.once(2))) {
    const disp = random.pick([0, 64]);
    o.memory = { base: random.pick([8, 12]), index: -1, scale: 0, disp, dispBytes: 0, ripRelative: false };
  }
  o.imm = random.below(256);
  return assemble(shape, o);
}

const native = shapes.filter(({ row }) => !LEFT.test(row.name) && !row.name.endsWith("MXCSR"));
/** What the host lacks is the interpreter's. */
const whole = !ignore && hasAll();
const duel = ignore ? null : new Duel(true);

function hasAll(): boolean {
  const features = hostFeatures(CodeArena.open(1 << 16));
  const lacks = ["sse4_2", "aes", "pclmulqdq", "sha_ni", "avx2", "fma", "f16c"].filter((name) => !features.has(name));
  if (lacks.length > 0) console.log(`not looked at: what runs natively, on a host without ${lacks.join(", ")}`);
  return lacks.length === 0;
}

/** Both agree. The part of the instructions that has run natively, and how many exceptions there were. */
function compare(p: Program, what: string): { part: number; exceptions: number } {
  const { differences, compiled, instructions, exceptions } = duel!.compare(p, COMPILED);
  assertEquals(differences, [], what);
  return { part: compiled / instructions, exceptions };
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
