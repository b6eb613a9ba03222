/** The images that a build carries: of the processor that machines have unless told otherwise, for one vCPU and up to four. */
import { DEFAULT_CPU, limitsOf } from "../../src/cpu/x86/system/cpu_model.ts";
import { imageName } from "../../src/engine/soft/image_name.ts";
import { makeImage } from "../../src/engine/soft/interpreter.ts";
import { FINGERPRINT, hashOf, IMAGE_FOLDER } from "../../src/machine/engine_images.ts";
import { HostError } from "../../src/base/errors.ts";
import { ROOT } from "../tree.ts";

const MOST_VCPUS = 4;

export interface CarriedFile {
  /** What EngineImages finds it by. */
  readonly name: string;
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/** The images, and the fingerprint under which this build keeps the others. */
export async function carriedImages(): Promise<CarriedFile[]> {
  const fingerprint = await hashOf(new URL(`file://${ROOT}src/`));
  if (fingerprint === null) throw new HostError(`Cannot read the sources in ${ROOT}src`);
  const limits = limitsOf(DEFAULT_CPU);
  const files = [
    { name: FINGERPRINT, bytes: new TextEncoder().encode(fingerprint) },
    { name: imageName(0, 1), bytes: makeImage(0, 1, limits) },
  ];
  for (let vcpu = 0; vcpu < MOST_VCPUS; vcpu++) {
    files.push({ name: imageName(vcpu, MOST_VCPUS), bytes: makeImage(vcpu, MOST_VCPUS, limits) });
  }
  return files;
}

/** Puts them where `deno compile` takes them from, for as long as `body` runs. */
export async function withImageFolder<T>(body: (folder: string) => Promise<T>): Promise<T> {
  const folder = `${ROOT}${IMAGE_FOLDER}`;
  await Deno.mkdir(folder, { recursive: true });
  try {
    for (const { name, bytes } of await carriedImages()) await Deno.writeFile(`${folder}/${name}`, bytes);
    return await body(IMAGE_FOLDER);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
