/** The images of a machine's vCPUs: found before they are opened, kept when they have been made. */
import type { CompilerThread } from "../engine/soft/compiler_thread.ts";
import { imageName } from "../engine/soft/image_name.ts";
import type { EngineImages } from "./engine_images.ts";
import type { PcOptions } from "./pc.ts";
import type { MachineSpec } from "./spec.ts";
import type { VcpuWorker } from "./workers.ts";

/** Opens all of them. Only the software engine has images. */
export async function openVcpus(
  vcpus: readonly VcpuWorker[],
  parts: PcOptions,
  images: EngineImages | null,
  compiler: CompilerThread | null,
): Promise<void> {
  const { spec } = parts;
  for (const [i, vcpu] of vcpus.entries()) {
    const image = spec.engine === "soft" && images ? await images.find(nameOf(spec, i)) : null;
    vcpu.open(parts, image, compiler?.link() ?? null);
  }
}

/** Once the guest runs: it takes its time. Never rejects. */
export async function keepImages(
  vcpus: readonly VcpuWorker[],
  spec: MachineSpec,
  images: EngineImages | null,
): Promise<void> {
  for (const [i, vcpu] of vcpus.entries()) {
    const { image } = vcpu;
    vcpu.image = null;
    if (image) await images?.keep(nameOf(spec, i), image);
  }
}

function nameOf({ cpus, cpu }: MachineSpec, vcpu: number): string {
  return imageName(vcpu, cpus, cpu);
}
