/** The generated module of a vCPU, made once a thread. */
import { generate, type Interpreter } from "../../cpu/x86/interp.ts";
import { type CpuLimits, NO_LIMITS } from "../../cpu/x86/system/cpu_model.ts";

const generated = new Map<string, Interpreter>();

/** Generates the module of the vCPU whose state is at `cpu`, alone in its machine or one of several; once a thread. */
export function interpreterFor(
  memory: WebAssembly.Memory,
  cpu: number,
  several = false,
  limits: CpuLimits = NO_LIMITS,
): Interpreter {
  const pages = memory.buffer.byteLength / 65536;
  const key = `${cpu} ${several} ${limits.avx} ${limits.reservedCr4}`;
  const known = generated.get(key);
  if (known) return known;
  const made = generate(pages, 65536, cpu, several, null, limits);
  generated.set(key, made);
  return made;
}
