/** Kernels for the tests: those of Debian's packages, fetched once into the user's cache. */
import { HostError } from "../src/base/errors.ts";
import { debianGuest } from "../src/guest/default_guest.ts";
import { stderrProgress } from "../src/guest/progress.ts";

export interface Kernels extends Disposable {
  /** What the tests' processes find them by. */
  readonly env: Record<string, string>;
}

/** A folder of links to the kernels, gone afterwards; none if they are not wanted, cannot be had, or the user names a folder. */
export async function prepareKernels(wanted: boolean): Promise<Kernels> {
  if (!wanted || Deno.env.get("TRIKE_KERNELS")) return { env: {}, [Symbol.dispose]() {} };
  const folder = await Deno.makeTempDir({ prefix: "trike-kernels-" });
  let found = 0;
  for (const kind of ["cloud", "generic"] as const) {
    try {
      const { kernel } = await debianGuest(kind, stderrProgress());
      await Deno.symlink(kernel, `${folder}/vmlinuz-${kind}`);
      found++;
    } catch (error) {
      if (!(error instanceof HostError)) throw error;
      console.log(`no ${kind} kernel for the tests: ${error.message}`);
    }
  }
  return {
    env: found > 0 ? { TRIKE_KERNELS: folder } : {},
    [Symbol.dispose]() {
      Deno.removeSync(folder, { recursive: true });
    },
  };
}
