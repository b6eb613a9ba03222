/** The generated module of a vCPU, made once a thread. */
import { generate, type Interpreter } from "../../cpu/x86/interp.ts";

const generated = new Map<string, Interpreter>();

/** Generates the module of the vCPU whose state is at `cpu`, alone in its machine or one of several; once a thread. */
export function interpreterFor(memory: WebAssembly.Memory, cpu: number, several = false): Interpreter {
  const pages = memory.buffer.byteLength / 65536;
  const key = `${cpu} ${several}`;
  const known = generated.get(key);
  if (known) return known;
  const made = generate(pages, 65536, cpu, several);
  generated.set(key, made);
  return made;
}
