/** Fused multiply-add where rounding is close: products that nearly cancel, ties, addends far away. */
import { assertEquals } from "@std/assert";
import { FX, R } from "./arena.ts";
import type { Generator } from "./generate.ts";
import { Harness } from "./harness.ts";
import { nativeUnavailable } from "./native.ts";
import type { Random } from "./random.ts";

const reason = nativeUnavailable();

/** A number of few or many bits, of any common size. */
function number(random: Random, round: (x: number) => number): number {
  const bits = random.pick([1, 3, 12, 24, 27, 53]);
  const significand = 1 + (random.next() + random.next() / 2 ** 32) % (2 ** bits) / 2 ** bits;
  return round((random.once(2) ? -1 : 1) * significand * 2 ** (random.below(60) - 30));
}
/** x, y, z such that the rounding of x × y + z is a near thing. */
function operands(random: Random, round: (x: number) => number, precision: number): [number, number, number] {
  const x = number(random, round), y = number(random, round), p = round(x * y);
  switch (random.below(7)) {
    case 0:
      return [x, y, number(random, round)];
    case 1:
      return [x, y, -p];
    case 2: // a little beside the product's opposite
      return [x, y, round(-p * (1 + (random.below(9) - 4) * 2 ** -precision))];
    case 3: // half a unit of the other
      return [x, y, round(p * 2 ** (random.pick([precision, precision + 1, -precision, -precision - 1])))];
    case 4:
      return [x, y, round(number(random, round) * p * 2 ** (random.below(2 * precision) - precision))];
    case 5: { // a tie that something tiny decides
      const odd = round(1 + (2 * random.below(2 ** 20) + 1) * 2 ** (1 - precision));
      const tiny = 2 ** (-2 * precision - random.below(20));
      return [odd, random.pick([1.5, 1.25, 3]), round(random.once(2) ? tiny : -tiny)];
    }
    default: // powers of two, and the numbers beside them
      return [round(1 + 2 ** -random.below(precision)), round(1 - 2 ** -random.below(precision)), round(-1)];
  }
}

Deno.test(
  "fused multiply-add rounds as the host's processor does where it is close",
  { ignore: reason !== null },
  () => {
    const harness = new Harness();
    try {
      const rows = harness.tested.filter((s) => s.row.feature === "FMA");
      if (rows.length === 0) return console.log("skipped: FMA beside the host's processor, which has none");
      let turn = 0;
      const make = (g: Generator, i: number) => {
        const subject = rows[turn++ % rows.length]!, c = g.builder, { random } = g;
        const made = g.single(i, subject), single = /[PS]S$/.test(subject.row.name);
        const view = new DataView(c.u8.buffer, c.u8.byteOffset);
        const put = (at: number, lane: number, x: number) =>
          single ? view.setFloat32(at + 4 * lane, x, true) : view.setFloat64(at + 8 * lane, x, true);
        const round = single ? Math.fround : (x: number) => x;
        for (let lane = 0; lane < (single ? 4 : 2); lane++) {
          for (const base of [c.record + R.FX + FX.XMM, c.record + R.YMM]) {
            // In any order: whichever three the row takes, often enough they are such a triple.
            const list = operands(random, round, single ? 24 : 53);
            for (let n = 0; n < 16; n++) put(base + 16 * n, lane, random.pick(list));
          }
        }
        view.setUint32(c.record + R.FX + FX.MXCSR, random.pick([0x1f80, 0x1fa0, 0x1fa0, 0x5fa0]), true);
        return made;
      };
      for (let seed = 1; seed <= 12; seed++) {
        const bad = harness.batch(seed, make);
        assertEquals(bad.length, 0, bad.slice(0, 3).map((m) => harness.describe(m)).join("\n"));
      }
    } finally {
      harness.close();
    }
  },
);
