/**
 * Prefixes in places and numbers that no compiler uses: repeated, in any order, without meaning, REX where it does not count.
 *
 * Only instructions on registers get them, and the software CPU's decoder says which row it is then: prefixes may well have
 * turned it into another one.
 */
import { DECODED, Decoder } from "../../src/cpu/x86/decode.ts";
import { Variants } from "../../src/cpu/x86/handlers.ts";
import { ROWS } from "../../src/cpu/x86/isa/index.ts";
import { SPECIALS } from "../../src/cpu/x86/specials.ts";
import { MODE_64 } from "../../src/cpu/x86/state.ts";
import { assemble, immediateBytes } from "../../src/cpu/x86/assemble.ts";
import { R } from "./arena.ts";
import type { Case, Generator } from "./generate.ts";
import { C1, isApproximate, undefinedFlags, undefinedResult } from "./undefined.ts";
import type { Subject } from "./which.ts";

const PREFIXES = [0x66, 0x66, 0x67, 0xf2, 0xf3, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0xf0];
const LEFT_OUT = /^(PUSH|POP|LEAVE|ENTER|XLAT|MASKMOV.*|F(N?STENV|LDENV|N?SAVE|RSTOR))$/;

export class Noise {
  readonly #from: Subject[];
  readonly #known: Set<number>;
  readonly #decoder = new Decoder(ROWS, new Variants(ROWS, SPECIALS));

  constructor(subjects: readonly Subject[]) {
    this.#known = new Set(subjects.map((s) => s.index));
    this.#from = subjects.filter(({ row, shape: { args, pattern } }) =>
      !row.string && !row.ends && !row.modes && !pattern.vex && !LEFT_OUT.test(row.name) &&
      !args.some((a) => "MOJSCD".includes(a.letter))
    );
  }

  make(g: Generator, i: number): Case {
    for (;;) {
      const made = this.#try(g, i);
      if (made) return made;
    }
  }

  #try(g: Generator, i: number): Case | undefined {
    const c = g.builder, { random, native } = g, s = random.pick(this.#from), { args } = s.shape;
    c.begin(i);
    c.floating();
    const o = c.operands(random.pick(s.sizes));
    o.regs = args.map((a) => random.below("PQNF".includes(a.letter) ? 8 : 16));
    const imm = args.findIndex((a) => a.letter === "I");
    if (imm >= 0) {
      o.imm = immediateBytes(args[imm]!, o.size, true) === 1 ? random.below(256) : random.value32();
      o.immHigh = random.value32();
    }
    const code = assemble(s.shape, o);
    for (let n = random.between(1, 4); n > 0; n--) {
      code.unshift(random.once(4) ? random.between(0x40, 0x4f) : random.pick(PREFIXES));
    }
    // The immediate may have grown.
    const bytes = Uint8Array.from([...code, ...[0, 0, 0, 0, 0, 0, 0, 0].map(() => random.below(256))]);
    const d = this.#decoder, result = d.decode(bytes, 0, bytes.length, MODE_64);
    let length = code.length, ignore = 0;
    if (result === DECODED.OK) {
      const row = ROWS[d.row]!;
      if (!this.#known.has(d.row) || d.hasMemory || row.string || row.modes || row.ends) return;
      const last = d.info[d.row]!.args.at(-1);
      const count = last?.letter === "CL" ? c.u32[c.words + 2]! & 0xff : last?.letter === "1" ? 1 : d.imm & 0xff;
      if (undefinedResult(row, d.size, count)) return;
      ignore = undefinedFlags(row, d.size, count);
      length = d.length;
    } else if (result !== DECODED.INVALID) return;
    else if (!code.includes(0xf0)) {
      // Undefined for us, and without LOCK: another processor may know an instruction here.
      return;
    }
    const at = c.slot + 64, exit = at + length;
    native.u8.set(bytes.subarray(0, length), at);
    native.jump(exit, native.stub.exit);
    c.u32[c.words + R.RIP / 4] = native.base + at;
    return {
      name: `prefixes before ${s.row.name} (${s.row.op})`,
      code: [...bytes.subarray(0, length)],
      at,
      exit,
      taken: exit + 5,
      undefinedFlags: ignore,
      manner: random.once(2) ? "step" : "run",
      limit: 64,
      undefinedStatus: isApproximate(s.row) ? C1 : 0,
      approximate: isApproximate(s.row),
      floating: s.row.unit !== undefined,
      pointers: false,
      vague: [0, 0],
      pinned: 0,
    };
  }
}
