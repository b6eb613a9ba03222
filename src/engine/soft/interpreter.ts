/** The generated module of a vCPU: made once a thread, or by another process before. */
import { packInterpreter, unpackInterpreter } from "../../cpu/x86/image.ts";
import { generate, type Interpreter } from "../../cpu/x86/interp.ts";
import type { CpuLimits } from "../../cpu/x86/system/cpu_model.ts";
import { RAM_BASE, VCPU_BASE, VCPU_STRIDE, WASM_PAGE_BYTES } from "../../machine/memory.ts";
import type { VcpuParts } from "../engine.ts";

/** Constant addresses in the code are below guest RAM, whose size it need not know. */
const PAGES = RAM_BASE / WASM_PAGE_BYTES;

const generated = new Map<string, Interpreter>();

export interface OpenInterpreter {
  readonly interpreter: Interpreter;
  /** Vcpu.takeImage. */
  readonly takeImage: () => Uint8Array<ArrayBuffer> | null;
}

/** The module of the vCPU whose state is at `cpu`, alone in its machine or one of several: from its image, if there is one. */
export function openInterpreter(
  { image, memory, vcpus = 1 }: Pick<VcpuParts, "image" | "memory" | "vcpus">,
  cpu: number,
  limits: CpuLimits,
): OpenInterpreter {
  if (image) return { interpreter: unpackInterpreter(image), takeImage: () => null };
  const several = vcpus > 1, pages = Math.min(PAGES, memory.buffer.byteLength / WASM_PAGE_BYTES);
  const key = `${pages} ${cpu} ${several} ${limits.avx} ${limits.reservedCr4}`;
  const known = generated.get(key);
  const interpreter = known ?? generate(pages, 65536, cpu, several, null, limits);
  generated.set(key, interpreter);
  let taken = known !== undefined;
  const takeImage = () => {
    if (taken) return null;
    taken = true;
    return packInterpreter(interpreter, limits.avx);
  };
  return { interpreter, takeImage };
}

/** An image for vCPU `index` of a machine with `vcpus` of them. */
export function makeImage(index: number, vcpus: number, limits: CpuLimits): Uint8Array<ArrayBuffer> {
  const cpu = VCPU_BASE + index * VCPU_STRIDE;
  return packInterpreter(generate(PAGES, 65536, cpu, vcpus > 1, null, limits), limits.avx);
}
