/** Which images a machine's vCPUs are made of. */
import type { CpuSpec } from "../../machine/spec.ts";
import { DEFAULT_CPU, limitsOf } from "../../cpu/x86/system/cpu_model.ts";

/** The name of the image of vCPU `index` of a machine with `vcpus` of them: equal names, equal images. */
export function imageName(index: number, vcpus: number, cpu: CpuSpec = DEFAULT_CPU): string {
  const { avx, reservedCr4 } = limitsOf(cpu);
  return `${vcpus > 1 ? `several-${index}` : "one"}${avx ? "-avx" : ""}${reservedCr4 ? `-${reservedCr4}` : ""}`;
}
