/**
 * Random programs of pieces: straight lines, loops, calls, recursion, jumps through tables, returns to elsewhere, other stacks,
 * code that changes, pages that come and go. A piece begins by setting the registers that the random instructions between make
 * addresses of; it ends by falling or jumping into the next one. A fault goes on at one of the pieces' beginnings.
 */
import { CODE, CODE_PAGES, DATA, DATA_PAGES, PAGE, VECTOR } from "./layout.ts";
import { CC_NZ, Pieces } from "./pieces.ts";

export interface Program {
  readonly seed: number;
  readonly user: boolean;
  /** Of its 2 MiB: at a multiple of them. */
  readonly base: bigint;
  readonly code: Uint8Array;
  readonly data: Uint8Array;
  /** Offsets from the base: the first instruction; where to go on after faults; where pieces and other targets of jumps are. */
  readonly start: number;
  readonly recoveries: readonly number[];
  readonly leaders: readonly number[];
  /** Beginnings of the instructions that were meant to be. */
  readonly instructions: readonly number[];
  readonly registers: readonly bigint[];
  /** The pieces, for a person. */
  readonly pieces: readonly string[];
}

export function makeProgram(seed: number): Program {
  return new Maker(seed).program();
}

class Maker extends Pieces {
  constructor(private readonly seed: number) {
    super(seed);
  }

  program(): Program {
    const a = this.a, random = this.random, count = random.between(4, 10);
    // Not at a page's beginning, so that pages end anywhere in what follows.
    a.raw(new Array(random.below(PAGE - 700)).fill(0x90));
    const start = a.at;
    this.setPointers();
    const rounds = this.counter(random.between(1, 6));
    a.label("first");
    for (let n = 0; n < count; n++) {
      a.label(`piece${n}`);
      this.recoveries.push(a.at);
      this.setPointers();
      this.piece();
      if (random.once(4)) this.toNextPage();
    }
    this.decrement(rounds);
    this.op(() => a.jcc(CC_NZ, "first"));
    this.op(() => a.hex(`CD ${VECTOR.END.toString(16)}`));
    const leaders = [...a.labels.values()].filter((at) => at < CODE + CODE_PAGES * PAGE);
    const code = a.finish();
    if (code.length > CODE_PAGES * PAGE - 64) return new Maker(this.seed + 1_000_003).program();
    const data = new Uint8Array(DATA_PAGES * PAGE), view = new DataView(data.buffer);
    for (let at = 0; at < data.length; at += 4) if (random.once(2)) view.setUint32(at, random.value32(), true);
    for (const { at, label } of this.tables) {
      view.setBigUint64(at - DATA, BigInt.asUintN(64, this.base + BigInt(a.labels.get(label)!)), true);
    }
    const words = new Uint32Array(32);
    for (let n = 0; n < 16; n++) random.value64(words, 2 * n);
    return {
      seed: this.seed,
      user: this.user,
      base: this.base,
      code,
      data,
      start,
      recoveries: this.recoveries,
      leaders,
      instructions: this.instructions,
      registers: Array.from({ length: 16 }, (_, n) => (BigInt(words[2 * n + 1]!) << 32n) | BigInt(words[2 * n]!)),
      pieces: this.pieces,
    };
  }

  piece(): void {
    const kinds = [
      "line",
      "line",
      "loop",
      "loop",
      "nest",
      "diamond",
      "call",
      "recurse",
      "table",
      "return",
      "stack",
      "change",
      "change",
      "alias",
      "page",
      "page",
      "trap",
      "string",
      "string",
      "ask",
      "locked",
      "divide",
      "odd",
    ] as const; // deno-fmt-ignore
    const kind = this.random.pick(kinds);
    this.pieces.push(`${kind} at ${this.a.at.toString(16)}`);
    this[`_${kind}`]();
  }
}
