/** What compiled regions rest on: the interpreter they belong to, and the functions of it that they import. */
import type { Func, Module } from "../../../wasm/module.ts";
import type { Type } from "../../../wasm/value.ts";
import type { Decoder } from "../decode.ts";
import type { Variants } from "../handlers.ts";
import type { CpuFuncs } from "../ops.ts";

/** What the module imports besides memory and table, by name. */
export const REGION_IMPORTS = [
  "readAddr",
  "writeAddr",
  "commit",
  "flagAll",
  "flagCf",
  "flagOf",
  "flagSf",
  "flagPf",
  "flagAf",
  "mulHighU",
  "mulHighS",
  "putFlags",
  "tlbRead",
  "tlbWrite",
  "store",
  "storeVector",
  "extend",
] as const;
/** The same of a machine with several vCPUs: locked.ts. */
export const LOCKED_IMPORTS = ["locked.read", "locked.write"] as const;

export interface RegionHost {
  readonly decoder: Decoder;
  readonly variants: Variants;
  /** Base of the vCPU's state; null: the code is for any vCPU of the machine. */
  readonly cpu: number | null;
  /** Size of the memory in pages of 64 KiB: what lies at a constant address below it needs no check of its bounds. */
  readonly pages: number;
  /** Instructions make the time: the budget is looked at where the interpreter does, and nowhere else. */
  readonly exact: boolean;
  /** Handlers below this number stand in the interpreter's loop; from `firstRegion` on they are regions. */
  readonly inLoop: number;
  readonly firstRegion: number;
  /** Deep functions that vector rows call, by the names the module exports them under. */
  readonly vectorFuncs: readonly Func[];
  /** The table entry of a handler, or -1 if it has none. */
  tableEntry(handler: number): number;
}

/** Addresses that differ where the same code is compiled for several vCPUs or pages. */
export interface RegionPlaces {
  /** The page's table of decoded entry points. */
  readonly entryTable: number;
  /** The first instruction's record; the others follow in their order. */
  readonly records: number;
}

/** Imports them; with `vectors` also what vector rows call. */
export function importFunctions(m: Module, host: RegionHost, vectors: boolean): CpuFuncs {
  const i = (name: string, params: Type[], results: Type[]) => m.importFunc("env", name, params, results);
  const readAddr = i("readAddr", ["i32", "i64", "i32"], ["i32"]);
  const writeAddr = i("writeAddr", ["i32", "i64", "i32"], ["i32"]);
  const commit = i("commit", ["i32"], []);
  const flag = (name: string) => i(name, ["i32"], ["i32"]);
  const flags = {
    all: flag("flagAll"),
    cf: flag("flagCf"),
    of: flag("flagOf"),
    sf: flag("flagSf"),
    pf: flag("flagPf"),
    af: flag("flagAf"),
  };
  const more = new Map<string, Func>();
  more.set("mulHighU", i("mulHighU", ["i64", "i64"], ["i64"]));
  more.set("mulHighS", i("mulHighS", ["i64", "i64"], ["i64"]));
  more.set("putFlags", i("putFlags", ["i32", "i64", "i64", "i32"], []));
  more.set("tlbRead", i("tlbRead", ["i64", "i32"], ["i32"]));
  more.set("tlbWrite", i("tlbWrite", ["i64", "i32"], ["i32"]));
  more.set("extend", i("extend", ["i32"], ["i32"]));
  more.set("store", i("store", ["i64", "i64", "i32"], ["i32"]));
  more.set("storeVector", i("storeVector", ["i64", "v128", "i32"], ["i32"]));
  if (host.cpu === null) {
    more.set("locked.read", i("locked.read", ["i32", "i32", "i32"], ["i64"]));
    more.set("locked.write", i("locked.write", ["i32", "i32", "i32", "i64"], ["i32"]));
  }
  if (vectors) { for (const d of host.vectorFuncs) more.set(d.name, i(d.name, [...d.params], [...d.results])); }
  return { flags, readAddr, writeAddr, commit, more };
}
