/** Real executables for macOS, out of packages of npm's that carry them for other hosts too; kept in the user's cache. */
import { cacheRoot } from "../../src/guest/cache.ts";

const VERSION = "0.25.5";

/**
 * esbuild, which Go's linker made: for arm64 the linker has signed it, for x64 it has not. Null, and a line that says why,
 * where it cannot be had.
 */
export async function esbuildFor(arch: "arm64" | "x64"): Promise<Uint8Array<ArrayBuffer> | null> {
  const name = `darwin-${arch}`, folder = `${cacheRoot()}/test-macho/${name}-${VERSION}`;
  const path = `${folder}/package/bin/esbuild`;
  const skip = (why: string) => {
    console.log(`skipped: signing a real ${arch} executable of macOS: ${why}`);
    return null;
  };
  try {
    await Deno.stat(path);
  } catch {
    await Deno.mkdir(folder, { recursive: true });
    try {
      const pack = ["pack", "--silent", "--pack-destination", folder, `@esbuild/${name}@${VERSION}`];
      if (!await succeeds("npm", pack)) return skip("npm does not fetch it");
      if (!await succeeds("tar", ["-xzf", `${folder}/esbuild-${name}-${VERSION}.tgz`, "-C", folder])) {
        return skip("tar does not unpack it");
      }
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return skip("npm or tar is not installed");
      throw error;
    }
  }
  return await Deno.readFile(path);
}

async function succeeds(program: string, args: string[]): Promise<boolean> {
  const child = new Deno.Command(program, { args, stdin: "null", stdout: "null", stderr: "null" }).spawn();
  const timer = setTimeout(() => child.kill(), 60_000);
  const { success } = await child.status;
  clearTimeout(timer);
  return success;
}
