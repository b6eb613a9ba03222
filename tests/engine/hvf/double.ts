/** The double in the place of Hypervisor.framework, for the tests of this folder: written once a run, in a folder of its own. */
import { openDouble } from "../../double/double.ts";
import { writeDouble } from "../../double/double.ts";

/** Why there is no double here, or null. */
export const refusal: string | null = Deno.build.os === "linux" && Deno.build.arch === "x86_64"
  ? null
  : "the double of Hypervisor.framework is a library for x86-64 Linux";

if (refusal === null) openDouble(writeDouble(Deno.makeTempDirSync({ prefix: "trike-double-" })));
