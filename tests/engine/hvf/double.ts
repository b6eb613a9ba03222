/** The double in the place of Hypervisor.framework, for the tests of this folder: written once a run, in a folder of its own. */
import type { Engine } from "../../../src/engine/engine.ts";
import { hvfEngine } from "../../../src/engine/hvf/hvf.ts";
import { followWrites } from "../../double/cpu.ts";
import { openDouble, writeDouble } from "../../double/double.ts";

/** Why there is no double here, or null. */
export const refusal: string | null = Deno.build.os === "linux" && Deno.build.arch === "x86_64"
  ? null
  : "the double of Hypervisor.framework is a library for x86-64 Linux";

/** The library's path. */
export const library = refusal === null ? open() : "";

function open(): string {
  const folder = Deno.makeTempDirSync({ prefix: "trike-double-" });
  addEventListener("unload", () => Deno.removeSync(folder, { recursive: true }));
  const path = writeDouble(folder);
  openDouble(path);
  return path;
}

/** The engine; what tests write into a guest's memory, the double's processor sees as a real one would. */
export const doubledEngine: Engine = {
  ...hvfEngine,
  openVcpu(parts) {
    followWrites(parts.codeMap);
    return hvfEngine.openVcpu(parts);
  },
};
