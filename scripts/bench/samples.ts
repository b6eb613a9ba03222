/** What a trace of samples says. Programs at equal addresses cannot be told apart: a name in user space is a guess for all but one. */
import type { Symbols } from "./symbols.ts";

const LINE = /^[\d.]+ \d+ samples rip ([0-9a-f]{16}), cpl (\d)/;
const HALF = 1n << 63n;

export interface Names {
  readonly kernel: Symbols;
  readonly program: Symbols;
}

/** Stacks of a sampled trace: the privilege, the function, and the instruction's place in it. */
export function stacksOf(trace: string, names: Names): Map<string, { frames: string[]; count: number }> {
  const stacks = new Map<string, { frames: string[]; count: number }>();
  for (const line of trace.split("\n")) {
    const match = LINE.exec(line);
    if (!match) continue;
    const rip = BigInt("0x" + match[1]), high = rip >= HALF;
    const page = `${(rip & ~0xfffn).toString(16)}…`;
    const name = (high ? names.kernel : names.program).nameOf(rip) ?? page;
    const frames = [match[2] === "0" ? "kernel" : "user", name, rip.toString(16)];
    const key = frames.join(";");
    const known = stacks.get(key);
    if (known) known.count++;
    else stacks.set(key, { frames, count: 1 });
  }
  return stacks;
}

/** The functions with the most samples: `[name, share of all]`. */
export function hottest(stacks: ReturnType<typeof stacksOf>, count: number): [string, number][] {
  let all = 0;
  const functions = new Map<string, number>();
  for (const { frames, count } of stacks.values()) {
    const name = `${frames[0]} ${frames[1]}`;
    functions.set(name, (functions.get(name) ?? 0) + count);
    all += count;
  }
  return [...functions].sort(([, a], [, b]) => b - a).slice(0, count).map(([name, n]) => [name, n / all]);
}
