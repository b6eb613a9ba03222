/** Every target, and its corpus: inputs to start from, and all that ever broke a rule. */
import { commandLine } from "./command_line.ts";
import { decoder } from "./decoder.ts";
import { image } from "./image.ts";
import { kernel } from "./kernel.ts";
import { debianPackage } from "./package.ts";
import { payload } from "./payload.ts";
import type { Target } from "./target.ts";

export const TARGETS: readonly Target[] = [kernel, payload, debianPackage, decoder, commandLine, image];

export function corpusFolder(target: Target): URL {
  return new URL(`./corpus/${target.name}/`, import.meta.url);
}

/** The files of a target's corpus by name. */
export function corpus(target: Target): { name: string; bytes: Uint8Array<ArrayBuffer> }[] {
  const folder = corpusFolder(target);
  try {
    return [...Deno.readDirSync(folder)].map(({ name }) => name).sort()
      .map((name) => ({ name, bytes: Deno.readFileSync(new URL(name, folder)) }));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}
