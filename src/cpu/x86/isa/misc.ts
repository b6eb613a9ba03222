/** CPUID, NOP and the hints that are NOPs here, PAUSE, fences, cache line instructions, UD0, UD1, UD2: [sdm2]. */
import type { Module } from "../../../wasm/module.ts";
import type { Imports } from "../imports.ts";
import type { CpuFuncs, Ops } from "../ops.ts";
import type { Row } from "../row.ts";
import { EXC, RAX, RBX, RCX, RDX } from "../state.ts";

export function defineMisc(m: Module, f: CpuFuncs, imports: Imports): void {
  f.more.set(
    "cpuid",
    m.func("cpuid", ["i32"], [], (c) => {
      c.call(imports.cpuid);
    }),
  );
}

function cpuid(o: Ops): void {
  o.host.beforeSlow();
  o.c.call(o.deep("cpuid"), o.cpu);
  // In 64-bit mode the upper halves are cleared.
  for (const n of [RAX, RBX, RCX, RDX]) o.setGpr(n, o.gprAt(n, 32).zx());
}

function nop(): void {}

/** Who runs the vCPU may want to know that it only waits. */
function pause(o: Ops): void {
  o.st32("pauses", o.ld32("pauses").add(1));
}

/** A store becomes visible before later loads look. */
function mfence(o: Ops): void {
  o.c.fence();
}

/** Caches are always coherent; what is left is that the line must be readable. */
function cacheLine(o: Ops): void {
  o.callF(o.deep("probeRead"), o.cpu, o.ea.get(), 1);
}

function undefinedOpcode(o: Ops): void {
  o.fault(EXC.UD);
}

export const ROWS: readonly Row[] = [
  { op: "0F A2", name: "CPUID", noHost: "another processor", sem: cpuid },
  { op: "F3 90", name: "PAUSE", sem: pause },
  { op: "0F 1F /r", name: "NOP", hot: 1, sem: nop },
  // Prefetches to 0F 18, cache line demotion, the end of branches: hints all. Their address is not used.
  ...["0D", "18", "19", "1A", "1B", "1C", "1D", "1E"].map((b): Row => ({ op: `0F ${b} /r`, name: "NOP", sem: nop })),
  { op: "NP 0F AE E8+", name: "LFENCE", sem: nop },
  { op: "NP 0F AE F0+", name: "MFENCE", sem: mfence },
  { op: "NP 0F AE F8+", name: "SFENCE", sem: nop },
  { op: "NP 0F AE /7", name: "CLFLUSH", args: "Mb", sem: cacheLine },
  { op: "66 0F AE /7", name: "CLFLUSHOPT", args: "Mb", feature: "CLFLUSHOPT", sem: cacheLine },
  { op: "66 0F AE /6", name: "CLWB", args: "Mb", feature: "CLWB", sem: cacheLine },
  { op: "0F 0B", name: "UD2", ends: true, sem: undefinedOpcode },
  { op: "0F B9 /r", name: "UD1", ends: true, sem: undefinedOpcode },
  { op: "0F FF /r", name: "UD0", ends: true, sem: undefinedOpcode },
];
