/** Instructions at the end of what can be executed: which fault, at which address, with which error code. */
import { assertEquals } from "@std/assert";
import { CODE, EDGE, OUT, PAGE, R } from "./arena.ts";
import type { Case } from "./generate.ts";
import { Generator } from "./generate.ts";
import { Harness } from "./harness.ts";
import { nativeUnavailable } from "./native.ts";
import { Random } from "./random.ts";
import type { Manner } from "./soft.ts";

const reason = nativeUnavailable();
const options = { ignore: reason !== null };

const INSTRUCTIONS: Record<string, number[]> = {
  "mov rax, imm64": [0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8],
  "add dword [rsp + disp32], imm32": [0x81, 0x84, 0x24, 0, 0, 0, 0, 1, 2, 3, 4],
  "nop [rax + rax]": [0x0f, 0x1f, 0x84, 0x00, 0, 0, 0, 0],
  "fifteen bytes": [...new Array(14).fill(0x66), 0x90],
  "andn ecx, edx, eax": [0xc4, 0xe2, 0x68, 0xf2, 0xc8],
  "pshufd xmm0, xmm1, 27": [0x66, 0x0f, 0x70, 0xc1, 0x1b],
  "ret": [0xc3],
};

function edgeCase(name: string, code: number[], at: number, manner: Manner): Case {
  return {
    name,
    code,
    at,
    exit: CODE + 256,
    taken: CODE + 264,
    undefinedFlags: 0,
    manner,
    limit: 4,
    undefinedStatus: 0,
    approximate: false,
    floating: false,
    pointers: false,
    vague: [0, 0],
    pinned: 0xffff,
  };
}

/** Starts from a random state whose stack leads to the exit. */
function begin(h: Harness, g: Generator, at: number): void {
  const c = g.builder;
  c.begin(0);
  c.point(4, 512);
  c.put64(c.window + 512, BigInt(h.native.base + CODE + 256));
  c.u32[c.words + R.RIP / 4] = h.native.base + at;
  h.native.jump(CODE + 256, h.native.stub.exit);
}

Deno.test("an instruction that reaches into a page it may not execute faults there", options, () => {
  const h = new Harness();
  try {
    const g = new Generator(h.native, new Random(7));
    for (const [page, rights] of [[EDGE.CODE, 0x14], [EDGE.CODE_BEFORE_NX, 0x15]] as const) {
      for (const [name, code] of Object.entries(INSTRUCTIONS)) {
        for (let k = 1; k <= code.length; k++) {
          const at = page + PAGE - k;
          h.patch(at, Uint8Array.from(code.slice(0, k)));
          for (const manner of ["step", "run"] as const) {
            begin(h, g, at);
            const c = edgeCase(name, code, at, manner);
            assertEquals(h.direct(c), [], `${name}, ${k} of ${code.length} bytes, ${manner}`);
            if (name === "ret" && k === code.length) continue;
            assertEquals(h.native.u32[(OUT + R.TRAP) >> 2], 14);
            assertEquals(h.native.u32[(OUT + R.ERROR) >> 2], rights);
          }
        }
      }
    }
  } finally {
    h.close();
  }
});

Deno.test(
  "sixteen bytes are too many: #GP(0), though the sixteenth cannot be fetched",
  options,
  () => {
    const h = new Harness();
    try {
      const g = new Generator(h.native, new Random(8));
      const code = [...new Array(15).fill(0x66), 0x90];
      for (const manner of ["step", "run"] as const) {
        for (let back = 12; back <= 20; back++) {
          const at = EDGE.CODE + PAGE - back;
          h.patch(at, Uint8Array.from(code.slice(0, back)));
          begin(h, g, at);
          assertEquals(h.direct(edgeCase("too long", code, at, manner)), [], `${back} bytes before the end, ${manner}`);
        }
      }
    } finally {
      h.close();
    }
  },
);

Deno.test("a jump to where nothing may be executed faults at its target", options, () => {
  const h = new Harness();
  try {
    const g = new Generator(h.native, new Random(9));
    const ret = [0xc3];
    for (const to of [EDGE.NX, EDGE.NX + 4095, EDGE.RO + 8, EDGE.RW - 1, EDGE.CODE + PAGE]) {
      for (const manner of ["step", "run"] as const) {
        h.native.u8.set(ret, CODE);
        begin(h, g, CODE);
        g.builder.put64(g.builder.window + 512, BigInt(h.native.base + to));
        assertEquals(h.direct(edgeCase("ret", ret, CODE, manner)), [], `to ${to.toString(16)}, ${manner}`);
        assertEquals(h.native.u32[(OUT + R.TRAP) >> 2], 14);
      }
    }
  } finally {
    h.close();
  }
});
