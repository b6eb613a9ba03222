/**
 * What a fuzz target is, and how inputs are made: seeded mutations of inputs that are right.
 *
 * Equal seeds make equal inputs in equal order; only how many of them a second holds depends on the host.
 */
import { messageOf } from "../../src/base/errors.ts";

export interface Target {
  readonly name: string;
  /** Inputs to start from, besides those of the corpus: right ones, so that mutations get past the first check. */
  readonly seeds: () => Uint8Array[];
  /** Throws if the rule is broken; what the code under test may throw, the target catches. */
  readonly fuzz: (bytes: Uint8Array<ArrayBuffer>) => void | Promise<void>;
}

export interface Finding {
  readonly input: Uint8Array;
  /** Which input it was, counted from 0. */
  readonly run: number;
  readonly why: string;
}

export interface FuzzOptions {
  readonly seed: number;
  readonly seconds: number;
  readonly maxRuns?: number;
  /** Right inputs, from the target and the corpus. */
  readonly inputs: readonly Uint8Array[];
}

/** No input may take longer: whoever made it could hold up a user for as long. */
const SLOW_MS = 2000;
const MAX_BYTES = 1 << 16;
const SHRINK_RUNS = 400;

/** Tries inputs until one breaks the rule or time is up. */
export async function fuzz(target: Target, options: FuzzOptions): Promise<{ runs: number; finding: Finding | null }> {
  const random = new Random(options.seed);
  const end = performance.now() + options.seconds * 1000;
  let runs = 0;
  for (; performance.now() < end && runs < (options.maxRuns ?? Infinity); runs++) {
    const input = mutated(options.inputs, random);
    const why = await broken(target, input);
    if (why !== null) return { runs, finding: { ...await shrunk(target, input, why), run: runs } };
  }
  return { runs, finding: null };
}

/** Why the input breaks the target's rule, or null. Slow is what is slow three times: a busy host may be it once. */
export async function broken(target: Target, input: Uint8Array): Promise<string | null> {
  let ms = 0;
  for (let again = 0; again < 3; again++) {
    const started = performance.now();
    try {
      await target.fuzz(input.slice());
    } catch (error) {
      return error instanceof Error ? `${error.name}: ${messageOf(error)}\n${error.stack ?? ""}` : String(error);
    }
    ms = performance.now() - started;
    if (ms <= SLOW_MS) return null;
  }
  return `took ${ms.toFixed(0)} ms, expected at most ${SLOW_MS}`;
}

/** A smaller input that breaks the rule in the same way: pieces are cut out, then bytes made zero. */
async function shrunk(target: Target, input: Uint8Array, why: string): Promise<{ input: Uint8Array; why: string }> {
  const kind = why.split("\n")[0]!.replace(/\d+/g, "#");
  let best = { input, why }, left = SHRINK_RUNS;
  const attempt = async (candidate: Uint8Array): Promise<boolean> => {
    left--;
    const reason = await broken(target, candidate);
    if (reason === null || reason.split("\n")[0]!.replace(/\d+/g, "#") !== kind) return false;
    best = { input: candidate, why: reason };
    return true;
  };
  for (let piece = input.length >> 1; piece >= 1 && left > 0; piece >>= 1) {
    for (let at = 0; at + piece <= best.input.length && left > 0;) {
      const without = new Uint8Array(best.input.length - piece);
      without.set(best.input.subarray(0, at));
      without.set(best.input.subarray(at + piece), at);
      if (!await attempt(without)) at += piece;
    }
  }
  for (let at = 0; at < best.input.length && left > 0; at++) {
    if (best.input[at] === 0) continue;
    const zeroed = best.input.slice();
    zeroed[at] = 0;
    await attempt(zeroed);
  }
  return best;
}

const INTERESTING = [0, 1, 2, 4, 0x7f, 0x80, 0xfe, 0xff];

/** One of the inputs with one to eight changes, or noise. */
function mutated(inputs: readonly Uint8Array[], random: Random): Uint8Array {
  if (inputs.length === 0 || random.below(20) === 0) return noise(random, random.below(256));
  let bytes = inputs[random.below(inputs.length)]!.slice();
  for (let n = 1 + random.below(8); n > 0; n--) bytes = changed(bytes, inputs, random);
  return bytes.subarray(0, MAX_BYTES);
}

function changed(
  bytes: Uint8Array<ArrayBuffer>,
  inputs: readonly Uint8Array[],
  random: Random,
): Uint8Array<ArrayBuffer> {
  const at = random.below(bytes.length + 1);
  switch (random.below(8)) {
    case 0:
    case 1: // one byte becomes an extreme
      if (at < bytes.length) bytes[at] = INTERESTING[random.below(INTERESTING.length)]!;
      return bytes;
    case 2:
    case 3: // one bit flips
      if (at < bytes.length) bytes[at]! ^= 1 << random.below(8);
      return bytes;
    case 4: // a field of four bytes becomes an extreme
      for (let i = at, value = random.below(2) ? 0xff : 0; i < at + 4 && i < bytes.length; i++) bytes[i] = value;
      return bytes;
    case 5: // cut short
      return bytes.slice(0, at);
    case 6: { // something goes
      const end = at + 1 + random.below(16);
      return joined(bytes.subarray(0, at), bytes.subarray(end));
    }
    default: { // something comes in between: noise, or a piece of another input
      const other = inputs[random.below(inputs.length)]!, from = random.below(other.length + 1);
      const piece = random.below(2) ? noise(random, random.below(16)) : other.subarray(from, from + random.below(64));
      return joined(bytes.subarray(0, at), piece, bytes.subarray(at));
    }
  }
}

function noise(random: Random, length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, () => random.below(256));
}

function joined(...pieces: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    out.set(piece, at);
    at += piece.length;
  }
  return out;
}

/** xorshift32. */
class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = (Math.imul(seed, 0x9e3779b1) ^ 0x5bd1e995) | 1;
  }
  below(n: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x;
    return (x >>> 0) % n;
  }
}
