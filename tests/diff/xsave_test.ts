/** XSAVE and XRSTOR of SSE and AVX state against the host's: images both ways, both formats, and headers that must not be. */
import { assertEquals } from "@std/assert";
import { R } from "./arena.ts";
import type { Case, Generator } from "./generate.ts";
import { hasHostFeature } from "./host.ts";
import { Harness } from "./harness.ts";
import { nativeUnavailable } from "./native.ts";

const reason = nativeUnavailable();
const options = { ignore: reason !== null };
const RAX = 0, RDX = 2, RBX = 3;
/** In the area: [sdm1 §13.4]. */
const MXCSR = 24, MXCSR_MASK = 28, XSTATE_BV = 512, XCOMP_BV = 520, REST = 528, YMM = 576;
const SSE = 2n, AVX = 4n, COMPACT = 1n << 63n;

const INSTRUCTIONS = {
  XSAVE: { code: [0x48, 0x0f, 0xae, 0x23], feature: "XSAVE" },
  XSAVEOPT: { code: [0x48, 0x0f, 0xae, 0x33], feature: "XSAVEOPT" },
  XSAVEC: { code: [0x48, 0x0f, 0xc7, 0x23], feature: "XSAVEC" },
  XRSTOR: { code: [0x48, 0x0f, 0xae, 0x2b], feature: "XSAVE" },
} as const;
type Name = keyof typeof INSTRUCTIONS;

/** [RBX] is an area whose bytes are random but for what `prepare` makes of its header. */
function make(
  g: Generator,
  i: number,
  name: Name,
  wanted: bigint,
  prepare: (area: number) => void,
  misaligned = false,
): Case {
  const c = g.builder, { random, native } = g, { code } = INSTRUCTIONS[name];
  c.begin(i);
  c.floating();
  // Only x87 state of its own could differ.
  const fx = c.words + R.FX / 4;
  c.u32[fx] = 0x37f;
  c.u32[fx + 1] = 0;
  const area = c.window;
  c.point(RBX, misaligned ? 16 : 0);
  c.set(RAX, wanted);
  c.set(RDX, 0);
  c.u32[(area + MXCSR) >> 2]! &= 0xffff;
  prepare(area);
  const at = c.slot + 64, exit = at + code.length;
  native.u8.set(code, at);
  native.jump(exit, native.stub.exit);
  c.u32[c.words + R.RIP / 4] = native.base + at;
  return {
    name,
    code,
    at,
    exit,
    taken: exit + 5,
    undefinedFlags: 0,
    manner: random.once(2) ? "step" : "run",
    limit: 4,
    undefinedStatus: 0,
    approximate: false,
    floating: true,
    pointers: false,
    // Processors differ in which bits of MXCSR they know.
    vague: [area + MXCSR_MASK, 4],
    pinned: 0xffff,
  };
}

function compare(name: Name, one: (harness: Harness, g: Generator, i: number) => Case): void {
  const harness = new Harness();
  try {
    const { native } = harness;
    if (!native.avx || !hasHostFeature(native, INSTRUCTIONS[name].feature)) {
      console.log(`skipped: ${name} beside the host's processor, which has none`);
      return;
    }
    for (let seed = 1; seed <= 6; seed++) {
      const bad = harness.batch(seed, (g, i) => one(harness, g, i));
      assertEquals(bad.length, 0, bad.slice(0, 3).map((m) => harness.describe(m)).join("\n"));
    }
  } finally {
    harness.close();
  }
}

for (const name of ["XSAVE", "XSAVEOPT", "XSAVEC"] as const) {
  Deno.test(`${name} writes the image that the host's processor writes`, options, () => {
    compare(name, (_, g, i) => {
      const c = g.builder, wanted = g.random.pick([SSE, AVX, SSE | AVX]);
      return make(g, i, name, wanted, (area) => {
        for (const at of [XSTATE_BV, XCOMP_BV]) c.put64(area + at, 0n);
        for (let at = REST; at < YMM; at += 8) c.put64(area + at, 0n);
      }, g.random.once(16));
    });
  });
}

Deno.test("XRSTOR takes the image as the host's processor does, or refuses it", options, () => {
  compare("XRSTOR", (_, g, i) => {
    const c = g.builder, { random } = g, wanted = random.pick([SSE, AVX, SSE | AVX]);
    return make(g, i, "XRSTOR", wanted, (area) => {
      const named = random.pick([SSE, AVX, SSE | AVX]);
      const compact = random.once(2), present = random.pick([0n, SSE, AVX, SSE | AVX]);
      c.put64(area + XSTATE_BV, compact && !random.once(8) ? present & named : present);
      c.put64(area + XCOMP_BV, compact ? COMPACT | named : 0n);
      for (let at = REST; at < YMM; at += 8) c.put64(area + at, 0n);
      // Reserved: the rest of the header, unknown components, high bits of MXCSR.
      if (random.once(8)) c.put64(area + REST + 8 * random.below(6), 1n << BigInt(random.below(64)));
      if (random.once(12)) c.put64(area + XCOMP_BV, random.pick([SSE, 1n << 62n, COMPACT | (1n << 62n)]));
      if (random.once(12)) c.put64(area + XSTATE_BV, present | (1n << 62n));
      if (random.once(8)) c.u32[(area + MXCSR) >> 2]! |= 1 << 20;
    }, random.once(16));
  });
});
