/**
 * Tier 0: the interpreter, one generated function that loops over operation records.
 *
 * `run(cpu, op, budget)` starts at record `op`, or at S.rip if op is 0, and returns a STATUS ≥ SLICE with S.rip right. Handlers
 * that are hot are cases of the loop's table; the others are functions called through the module's table. Budget counts
 * instructions and is looked at where a jump is taken.
 */
import { type Func, Module } from "../../wasm/module.ts";
import { i32, type Type } from "../../wasm/value.ts";
import { exportEntries } from "./exports.ts";
import type { Exits } from "./exits.ts";
import { flagFuncs } from "./flags.ts";
import { defineHot } from "./hot.ts";
import { emitVariant, type Variant, Variants } from "./handlers.ts";
import { importAll, type ImportName } from "./imports.ts";
import { BASE_ROWS, define, ROWS } from "./isa/index.ts";
import { defineLinear } from "./linear.ts";
import { defineLocked, lockedRows } from "./locked.ts";
import { Loop } from "./loop.ts";
import { type CpuFuncs, type Host, STATUS } from "./ops.ts";
import { SPECIALS } from "./specials.ts";
import { type CpuLimits, NO_LIMITS } from "./system/cpu_model.ts";
import { defineMmu } from "./system/mmu.ts";

export interface Interpreter {
  /** Made for a machine with several vCPUs. */
  readonly several: boolean;
  readonly module: Uint8Array<ArrayBuffer>;
  readonly variants: Variants;
  readonly imports: readonly ImportName[];
  /** Entries of the module's table that are handlers: compiled regions follow them. */
  readonly functions: number;
  /** Deep functions that vector rows call: exported under their names, for compiled regions. */
  readonly vectorFuncs: readonly Func[];
  /** Table entries of handlers that stand in the loop and have a function as well. */
  readonly shadows: ReadonlyMap<number, number>;
  /** Handlers (specials included) that stand in the loop. */
  readonly inLoop: number;
}

const HANDLER: readonly Type[] = ["i32", "i32", "i64"];

/** The handlers of a vCPU that is alone in its machine, or one of several; with AVX or without. */
export function variantsOf(several: boolean, avx: boolean): Variants {
  const rows = avx ? ROWS : BASE_ROWS;
  return new Variants(several ? [...rows, ...lockedRows(rows)] : rows, SPECIALS);
}
/** Whether a module with these functions was made for a processor with AVX. */
export function hasAvx(vectorFuncs: readonly Func[]): boolean {
  return vectorFuncs.some((f) => f.name.startsWith("avx."));
}

/**
 * `cpu` is the base of the one vCPU that this module is for: a constant in its code. With `several`, the machine has others:
 * then locked instructions have handlers of their own. With `exits`, a model of a hypervisor looks on (exits.ts).
 */
export function generate(
  minPages: number,
  maxPages: number,
  cpu: number,
  several = false,
  exits: Exits | null = null,
  limits: CpuLimits = NO_LIMITS,
): Interpreter {
  const m = new Module();
  m.importMemory("env", "memory", minPages, maxPages);
  const imports = importAll(m);
  const f = defineMmu(m, imports, flagFuncs(m), exits !== null);
  defineLinear(m, f);
  define(m, f, imports, limits);
  if (several) defineLocked(m, f);

  const variants = variantsOf(several, limits.avx);
  const inLoop = SPECIALS + variants.hotCount;
  const signature = m.signature(HANDLER, ["i32"]);
  for (const v of variants.all.slice(variants.hotCount)) {
    m.tableEntry(handlerFunc(m, f, v, cpu, exits));
  }

  const alsoFunctions = variants.all.slice(0, variants.hotCount).filter((v) => v.row.unit).length;
  const functions = variants.all.length - variants.hotCount + alsoFunctions;
  const hot = defineHot(m);
  m.export(
    m.func(
      "run",
      ["i32", "i32", "i32"],
      ["i32"],
      (c) => new Loop(c, f, i32(cpu), variants, inLoop, inLoop + functions, signature, hot, exits).emit(),
    ),
  );
  // Handlers of the loop that compiled regions call have a function too.
  const shadows = new Map<number, number>();
  variants.all.slice(0, variants.hotCount).forEach((v, i) => {
    if (!v.row.unit) return;
    shadows.set(SPECIALS + i, m.tableEntry(handlerFunc(m, f, v, cpu, exits)));
  });
  m.exportTable("table");
  exportEntries(m, f, cpu);
  const vectorFuncs = [...f.more].filter(([name]) =>
    /^(sse\.|avx\.|unitTrap|shuffleWords|aes|sha|pclmul|clmul)/.test(name)
  )
    .map(([name, func]) => ({ ...func, name }));
  for (const func of vectorFuncs) m.export(func);
  return {
    several,
    vectorFuncs,
    functions,
    shadows,
    module: m.bytes(),
    variants,
    imports: Object.keys(imports) as ImportName[],
    inLoop,
  };
}

/** A handler as a function. */
function handlerFunc(m: Module, f: CpuFuncs, v: Variant, cpu: number, exits: Exits | null): Func {
  return m.func(v.name, HANDLER, ["i32"], (c) => {
    const host: Host = { leave: (s) => c.return(s), beforeSlow: () => {} };
    emitVariant(v, c, f, host, i32(cpu), c.param(1), c.paramVar(2), exits);
    c.return(STATUS.NEXT);
  });
}
