/** For tests: a module with the functions under test over a small memory, and the state of one vCPU in it. */
import { Module } from "../../../wasm/module.ts";
import { flagFuncs } from "../flags.ts";
import { importAll, type ImportImpls, type Imports } from "../imports.ts";
import type { CpuFuncs } from "../ops.ts";
import { S, VCPU_BYTES } from "../state.ts";
import { defineMmu } from "./mmu.ts";

export const CPU = 0x10000;
/** One byte a page, one i32 a page, line bitmaps: for up to 4096 pages of RAM. */
export const CODE_PAGES = 0x8_0000, CODE_DIR = 0x9_0000, BITMAPS = 0xa_0000;
export const RAM = 0x10_0000;

type Call = (...args: (number | bigint)[]) => number;

export interface Fixture {
  readonly view: DataView<SharedArrayBuffer>;
  /** Calls an exported deep function or plain function. */
  // deno-lint-ignore no-explicit-any
  call(name: string, ...args: (number | bigint)[]): any;
  get(field: keyof typeof S, index?: number): number;
  set(field: keyof typeof S, value: number, index?: number): void;
  get64(field: keyof typeof S, index?: number): bigint;
  set64(field: keyof typeof S, value: bigint | number, index?: number): void;
  /** Imports called, as text. */
  readonly log: string[];
}

/** `define` adds functions; those of `names` (in CpuFuncs.more) can be called. */
export function fixture(
  ramPages: number,
  names: readonly string[],
  define: (m: Module, f: CpuFuncs, imports: Imports) => void = () => {},
  impls: Partial<ImportImpls> = {},
): Fixture {
  if (VCPU_BYTES > CODE_PAGES - CPU) throw new Error("The fixture's memory is too tight");
  const m = new Module();
  const pages = (RAM + ramPages * 4096) / 65536;
  m.importMemory("env", "memory", pages, pages);
  const imports = importAll(m);
  const f = defineMmu(m, imports, flagFuncs(m));
  define(m, f, imports);
  m.export(f.readAddr);
  m.export(f.writeAddr);
  m.export(f.commit);
  for (const name of names) m.export(f.more.get(name)!, name);

  const memory = new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  const view = new DataView(memory.buffer as unknown as SharedArrayBuffer);
  const log: string[] = [];
  const env: Record<string, unknown> = { memory };
  const all = [
    ["ioRead", "ioWrite", "mmioRead", "mmioWrite", "codeWrite", "readTsc", "cpuid", "readMsr", "writeMsr", "readTpr"],
    ["writeTpr", "random", "codeEvict", "monitor"],
  ].flat() as (keyof ImportImpls)[];
  for (const name of all) {
    env[name] = (...args: number[]) => {
      log.push(`${name} ${args.map((a) => (a >>> 0).toString(16)).join(" ")}`);
      return impls[name]?.(...args) ?? 0;
    };
  }
  const instance = new WebAssembly.Instance(new WebAssembly.Module(m.bytes()), { env } as WebAssembly.Imports);
  const fix: Fixture = {
    view,
    log,
    call: (name, ...args) => (instance.exports[name] as Call)(CPU, ...args),
    get: (field, i = 0) => view.getUint32(CPU + S[field] + 4 * i, true),
    set: (field, v, i = 0) => view.setUint32(CPU + S[field] + 4 * i, v, true),
    get64: (field, i = 0) => view.getBigUint64(CPU + S[field] + 8 * i, true),
    set64: (field, v, i = 0) => view.setBigUint64(CPU + S[field] + 8 * i, BigInt.asUintN(64, BigInt(v)), true),
  };
  fix.set("ramBase", RAM);
  fix.set("ramPages", ramPages);
  fix.set("codePages", CODE_PAGES);
  fix.set("codeDir", CODE_DIR);
  return fix;
}
