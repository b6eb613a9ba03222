/** What the generated CPU asks of TypeScript. Arguments and results are i32; 64-bit answers go through S.answer. */
import type { Func, Module } from "../../wasm/module.ts";
import type { Type } from "../../wasm/value.ts";

const SIGNATURES = {
  /** (port, bytes) → value */
  ioRead: [2, 1],
  /** (port, bytes, value) */
  ioWrite: [3, 0],
  /** (address low, high, bytes) → value; bytes is 1, 2 or 4 */
  mmioRead: [3, 1],
  mmioWrite: [4, 0],
  /** (page number of RAM): the decoded code of that page is stale. */
  codeWrite: [1, 0],
  /** (page, page): about to write to these pages, whose code other vCPUs have decoded; the two may be the same. */
  codeEvict: [2, 0],
  /** (linear address low, high): stores to the line there end MWAIT. */
  monitor: [2, 0],
  /** The time-stamp counter without TSC offset, into S.answer: guest nanoseconds. */
  readTsc: [0, 0],
  /** CPUID with EAX, ECX from the registers; writes EAX..EDX. */
  cpuid: [0, 0],
  /** (msr) → 1 if it exists; value in S.answer. For MSRs that are not fields of the state. */
  readMsr: [1, 1],
  /** (msr, low, high) → 1 if the write is legal. */
  writeMsr: [3, 1],
  readTpr: [0, 1],
  writeTpr: [1, 0],
  /** 64 random bits into S.answer. */
  random: [0, 0],
} as const satisfies Record<string, readonly [number, 0 | 1]>;

export type ImportName = keyof typeof SIGNATURES;
export type Imports = { readonly [K in ImportName]: Func };
/** The functions an instance is given. */
export type ImportImpls = { [K in ImportName]: (...args: number[]) => number | void };

export function importAll(m: Module): Imports {
  const list = Object.entries(SIGNATURES).map(([name, [params, results]]) => {
    const types = (n: number): Type[] => new Array(n).fill("i32");
    return [name, m.importFunc("env", name, types(params), types(results))];
  });
  return Object.fromEntries(list);
}
